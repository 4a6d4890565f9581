"""The flags ``--metric`` and ``--explainer``: which rows of a table are shown."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.cli.parser import NO_VALUE, listed_names
from harness.errors import UserError, unknown
from harness.other_names import meant_by

if TYPE_CHECKING:
    import pandas as pd  # takes a second to import, and parsers do without it


def add_filters(parser: argparse.ArgumentParser) -> None:
    """``--metric`` and ``--explainer``, read into the lists ``metrics`` and ``explainers``; [] stands for all."""
    for kind in ("metric", "explainer"):
        parser.add_argument(
            f"--{kind}",
            dest=f"{kind}s",
            metavar="NAME,NAME",
            action="extend",
            type=_names_of_a_flag,
            default=[],
            help=f"show only these {kind}s",
        )


def filtered(frame: "pd.DataFrame", metrics: Sequence[str], explainers: Sequence[str]) -> "pd.DataFrame":
    """The rows of a frame that have one of the metrics and one of the explainers; without names, all rows.

    Raises UserError for a name that the columns ``metric`` and ``explainer`` do not hold, and for two names that no row
    has together. A name is looked for in the whole frame, so that the order of the two flags does not matter.
    """
    chosen = {"metric": metrics, "explainer": explainers}
    rows = frame
    for kind, names in chosen.items():
        if names:
            _refuse_unknown_names(kind, names, set(frame[kind]))
            rows = rows[rows[kind].isin(names)]
    if rows.empty and not frame.empty:
        raise UserError(f"no results came from {filter_words(metrics, explainers)}, only from each of them alone")
    return rows


def filter_words(metrics: Sequence[str], explainers: Sequence[str]) -> str:
    """The two flags as they would be typed; "" without names."""
    chosen = {"metric": metrics, "explainer": explainers}
    return " ".join(f"--{kind} {','.join(names)}" for kind, names in chosen.items() if names)


def _refuse_unknown_names(kind: str, names: Sequence[str], there: set[str]) -> None:
    for name in names:
        if name not in there:
            raise unknown(f"--{kind}", name, there, meant=[each for each in meant_by(kind, name) if each in there])


def _names_of_a_flag(text: str) -> list[str]:
    """The names with commas between them; at least one."""
    names = listed_names(text)
    if not names:
        raise argparse.ArgumentTypeError(NO_VALUE)
    return names
