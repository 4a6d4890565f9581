"""What holds exactly on a linear net for tables: the registered one of breast cancer."""

import pandas as pd
import torch
from torch import Tensor

from harness.api import explain
from harness.models._training_tables import TRAINING_TABLES
from harness.models.table_linear import cancer_linear
from harness.models.training import TrainingOptions
from harness.reproducing.studies.beexai.released import infidelity_of_table, pearson_of_all
from harness.reproducing.studies.beexai.scores import OWN_ITEMS, target_output
from harness.reproducing.studies.beexai.tables import CLASSES_TASK, NetOfTable

ADDITIVE, SALIENCY_ITEM = ("IG", "DeepLIFT", "ShapleyValueSampling"), "Saliency"


def exact_checks(rows: int) -> pd.DataFrame:
    """Largest differences on a linear net, a row for each identity; the net is the registered one of breast cancer."""
    net = cancer_linear(training=TrainingOptions(seed=0, epochs=40)).module
    inputs = TRAINING_TABLES["breast_cancer", True].load_split()["test"][0][:rows]
    with torch.no_grad():
        targets = net(inputs).argmax(1)
    subject = NetOfTable(net, inputs, targets, CLASSES_TASK, float("nan"), inputs)
    items = {label: OWN_ITEMS[label] for label in (*ADDITIVE, SALIENCY_ITEM)} | {"gradient": ("gradient", {})}
    maps = {
        label: explain(name, subject.loaded(probabilities=False), inputs, targets, seed=0, **options).double()
        for label, (name, options) in items.items()
    }
    exact = maps["gradient"] * inputs
    value = target_output(net, targets)
    apart = {label: (maps[label] - exact).abs().max().item() / exact.abs().max().item() for label in ADDITIVE}
    infidelity, plain = infidelity_of_table(value, inputs, maps["gradient"], 0, absolute=False)
    signs = maps[SALIENCY_ITEM] - maps["gradient"].abs()
    drops = torch.stack([value(inputs) - value(_without_column(inputs, column)) for column in range(inputs.shape[1])])
    return pd.DataFrame(
        [
            {"check": "same map", "largest": max(apart.values()), "rows": rows},
            {"check": "infidelity of gradient", "largest": infidelity / plain, "rows": rows},
            {"check": "drops", "largest": 1 - pearson_of_all(drops.T, exact), "rows": rows},
            {"check": "saliency", "largest": signs.abs().max().item(), "rows": rows},
        ]
    )


def _without_column(inputs: Tensor, column: int) -> Tensor:
    changed = inputs.clone()
    changed[:, column] = 0
    return changed
