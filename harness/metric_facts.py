"""What a reader of a score needs to know of its metric: what it asks, its range, its source, its agreement with a
known truth. ``harness list metrics`` and the report show it; nothing here imports a metric."""

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from harness.registry import Metric, Span

SOURCE = re.compile(r"\s*\(([^()]*\b(?:19|20)\d\d\b[^()]*)\)\.$")
ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")
# What the summary of docs/agreement.md says of a metric; docs/agreement.py measures and writes it.
MEASURED = "agreement_with_truth.csv"


@dataclass(frozen=True)
class TruthAgreement:
    """How a metric ranks explainers compared with the known right attribution, on synthetic data.

    families      the kinds of data on which its ranking is defined; their ground truth is exact for the model
    mean, lowest  Kendall's tau-b of both rankings over these: 1 the same order, 0 unrelated, -1 reversed
    first         on how many of them the right attribution itself has the best score
    """

    families: int
    mean: float
    lowest: float
    first: int

    @property
    def text(self) -> str:
        """In words."""
        return (
            f"tau-b {self.mean:.2f} with the ranking by known truth (mean of {self.families} kinds of synthetic data; "
            f"lowest {self.lowest:.2f}); the right attribution comes first on {self.first} of {self.families}"
        )


def what_it_asks(entry: Metric) -> str:
    """The first sentence of a metric's documentation without its source."""
    return SOURCE.sub(".", entry.summary).replace("``", "")


def source_paper(entry: Metric) -> str:
    """The paper that a metric's first sentence names: ``RISE: Petsiuk et al. 2018, arXiv 1806.07421``; "" if none."""
    found = SOURCE.search(entry.summary)
    return ARXIV.sub(r"arXiv \1", found[1].removeprefix("as in ")) if found else ""


def range_in_words(span: Span | None) -> str:
    """``0 to 1``, ``at least 0``, ``no limits``; "" if it was not declared."""
    if span is None:
        return ""
    low, high = span
    if low is None or high is None:
        return "no limits" if low is high else f"at most {high:g}" if low is None else f"at least {low:g}"
    return f"{low:g} to {high:g}"


def agreement_with_truth(name: str) -> TruthAgreement | None:
    """What docs/agreement.md measured of a metric; None if it did not measure it."""
    return _measured_agreements().get(name)


@cache
def _measured_agreements() -> dict[str, TruthAgreement]:
    text = resources.files("harness").joinpath(MEASURED).read_text(encoding="utf-8")
    rows: Any = csv.DictReader(text.splitlines())
    return {
        row["metric"]: TruthAgreement(
            int(row["families"]), float(row["mean_tau_b"]), float(row["lowest_tau_b"]), int(row["oracle_first"])
        )
        for row in rows
    }
