"""Which explainers of a table of cells do not look at the model."""

import pandas as pd

from harness.registry import EXPLAINERS
from harness.results.frames import configured


def controls_of(cells: pd.DataFrame, called: str = "explainer") -> frozenset[str]:
    """The controls among the cells' explainers, as the column ``called`` has them.

    A cell's configuration says which explainer a label stands for; without one the label itself is the name.
    """
    rows = zip(cells[called], cells["explainer"], cells["config"], strict=True)
    names = {label: configured(config, "explainer").get("name", name) for label, name, config in rows}
    return frozenset(label for label, name in names.items() if name in EXPLAINERS and EXPLAINERS[name].control)
