"""Scores of one metric as a matrix for paired statistics: samples down and explainers across."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
    # Names become numbers once for all matrices; each by itself, and by DataFrame.pivot, takes many times as long.
    numbered = lambda name: pd.factorize(scores[name], sort=True, use_na_sentinel=False)
    samples, explainers = numbered("sample"), numbered("explainer")
    values = scores["value"].to_numpy(dtype=np.float64)
    groups = scores.groupby(names, observed=True, sort=False).indices.items()
    for key, places in sorted((each for each in groups if len(each[1])), key=lambda each: each[1][0]):
        key = key if isinstance(key, tuple) else (key,)
        better = scores["better"].iloc[places[0]]
        yield Matrix(
            dict(zip(names, map(str, key), strict=True)),
            _table_of_values(
                *((codes[places], each) for codes, each in (samples, explainers)), values[places], str(key[-1])
            ),
            better if isinstance(better, str) else None,
        )


def _table_of_values(
    samples: tuple[np.ndarray, Any], explainers: tuple[np.ndarray, Any], values: np.ndarray, metric: str
) -> pd.DataFrame:
    """Samples x explainers from the number of the name of each value, with all names; NaN where there is no value."""
    (rows, row), (columns, column) = (np.unique(codes, return_inverse=True) for codes, _ in (samples, explainers))
    if len(np.unique(row * len(columns) + column)) < len(values):
        raise UserError(f"{metric} has several cells for an explainer; read one protocol at a time")
    found = np.full((len(rows), len(columns)), np.nan)
    found[row, column] = np.where(np.isfinite(values), values, np.nan)
    there = np.isfinite(found).any(0)
    labels = pd.Index(map(str, explainers[1][columns[there]]), name="explainer")
    return pd.DataFrame(found[:, there], pd.Index(samples[1][rows], name="sample"), labels)
