"""Scores of one metric as a matrix for paired statistics: samples down and explainers across."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from harness.errors import UserError

BLOCK = ("model", "dataset", "protocol")
MOST_LACKING = 0.1  # of the samples of the explainer with the most scores, above which another one is not compared


@dataclass(frozen=True)
class Matrix:
    """One metric on one model and data set under one protocol.

    names    model, dataset, protocol (those that the scores have) and metric
    values   samples x explainers, NaN where a score is missing or not finite; explainers without any are left out
    better   ``higher``, ``lower`` or None
    """

    names: dict[str, str]
    values: pd.DataFrame
    better: str | None

    @property
    def block(self) -> dict[str, str]:
        """The names of its model, data set and protocol."""
        return {name: text for name, text in self.names.items() if name != "metric"}

    def without(self, explainers: Collection[str]) -> "Matrix":
        """The scores of the other explainers."""
        return replace(self, values=self.values[[name for name in self.values if name not in explainers]])

    @cached_property
    def signed(self) -> pd.DataFrame:
        """The values, negated if lower is better, so that higher is always better."""
        return -self.values if self.better == "lower" else self.values

    @cached_property
    def lacking(self) -> dict[str, int]:
        """Explainers with a score on fewer than 90 % of the samples of the fullest one -> their number of samples."""
        counts = self.values.notna().sum()
        return {name: int(n) for name, n in counts.items() if n < (1 - MOST_LACKING) * counts.max()}

    @cached_property
    def compared(self) -> "Matrix":
        """The scores of the others, on the samples that all of them have."""
        return replace(self, values=self.values.drop(columns=list(self.lacking)).dropna())

    @cached_property
    def complete(self) -> pd.DataFrame:
        """The signed values of the samples that every explainer has a score for."""
        return self.signed.dropna()


def matrices(scores: pd.DataFrame) -> Iterator[Matrix]:
    """The matrices of a table of scores: a row per sample and cell with explainer, metric, sample, value and better.

    Raises UserError where an explainer has several cells for one metric, as with options that differ under one label.
    """
    if "better" not in scores:
        raise UserError("the scores do not have a column better; take it from the cells")
    names = [name for name in (*BLOCK, "metric") if name in scores]
    for key, rows in scores.groupby(names, observed=True, sort=False):
        yield _matrix(dict(zip(names, map(str, key), strict=True)), rows)


def _matrix(names: dict[str, str], rows: pd.DataFrame) -> Matrix:
    samples, sample_names = pd.factorize(rows["sample"], sort=True, use_na_sentinel=False)
    explainers, labels = pd.factorize(rows["explainer"], sort=True, use_na_sentinel=False)
    if len(np.unique(samples * len(labels) + explainers)) < len(rows):
        raise UserError(f"{names['metric']} has several cells for an explainer; read one protocol at a time")
    found = np.full((len(sample_names), len(labels)), np.nan)  # much faster than DataFrame.pivot
    found[samples, explainers] = rows["value"].where(np.isfinite(rows["value"]))
    values = pd.DataFrame(found, pd.Index(sample_names, name="sample"), pd.Index(map(str, labels), name="explainer"))
    better = rows["better"].iloc[0]
    return Matrix(names, values[values.columns[values.notna().any()]], better if isinstance(better, str) else None)
