"""What a degradation ladder measured: the scores of all grounds, and the numbers that they give."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from harness.reproducing.studies.degradation_ladder.grounds import NAMES
from harness.reproducing.studies.degradation_ladder.order import recoveries, recovery
from harness.reproducing.studies.degradation_ladder.scores import RUNGS
from harness.results.statistics import interval


@dataclass(frozen=True)
class LadderTables:
    """Scores and facts, ground -> table (``wide_scores`` and ``facts_of``).

    group   how many samples a small group has
    """

    scores: Mapping[str, pd.DataFrame]
    facts: Mapping[str, pd.Series]
    group: int

    @cached_property
    def _about(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Ground and metric -> better, and why the metric does not apply to the first rung."""
        first = {ground: table[table["map"] == RUNGS[0]] for ground, table in self.scores.items()}
        return {
            (ground, metric): (better, why)
            for ground, table in first.items()
            for metric, better, why in zip(table["metric"], table["better"], table["why"], strict=True)
        }

    @cached_property
    def _scores(self) -> dict[tuple[str, str, str], np.ndarray]:
        """Ground, metric and map -> scores (n,)."""
        found = {}
        for ground, table in self.scores.items():
            values = table[[name for name in table if name.isdigit()]].to_numpy(dtype=np.float64)
            found |= {(ground, *key): row for *key, row in zip(table["metric"], table["map"], values, strict=True)}
        return found

    def why_not(self, ground: str, metric: str) -> str:
        """Why a metric has no scores on a ground; "" if it has some."""
        return self._about[ground, metric][1]

    def applies(self, ground: str, metric: str) -> bool:
        """Whether a metric has scores on a ground."""
        return (ground, metric) in self._about and not self.why_not(ground, metric)

    def among(self, grounds: tuple[str, ...]) -> list[str]:
        """Those of these grounds that were measured."""
        return [ground for ground in grounds if ground in self.scores]

    def grounds(self, metric: str, among: tuple[str, ...]) -> list[str]:
        """The grounds of these on which a metric has scores."""
        return [ground for ground in self.among(among) if self.applies(ground, metric)]

    def has(self, ground: str, metric: str, shown: str) -> bool:
        """Whether a metric has a score of a map on a ground."""
        known = self._scores.get((ground, metric, shown))
        return known is not None and np.isfinite(known).any()

    def maps(self, ground: str) -> list[str]:
        """The names of all maps of a ground."""
        return list(self.scores[ground]["map"].unique())

    def raw(self, ground: str, metric: str, shown: str) -> np.ndarray:
        """The scores (n,) of a map by a metric, NaN where there is none."""
        return self._scores[ground, metric, shown]

    def signed(self, ground: str, metric: str, shown: str) -> np.ndarray:
        """The same, negated if lower is better."""
        scores = self.raw(ground, metric, shown)
        return -scores if self._about[ground, metric][0] == "lower" else scores

    def all_rungs(self, ground: str, metric: str) -> np.ndarray:
        """The signed scores (n, rungs) of the ladder; NaN where there is none."""
        return np.stack([self.signed(ground, metric, rung) for rung in RUNGS], 1)

    def ladder(self, ground: str, metric: str) -> np.ndarray:
        """The same of the samples that have a score on every rung."""
        scores = self.all_rungs(ground, metric)
        return scores[np.isfinite(scores).all(1)]

    def ladders(self, metric: str, among: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The ladders of a metric on the grounds of these where it applies."""
        return {ground: self.ladder(ground, metric) for ground in self.grounds(metric, among)}

    def in_groups(self, ground: str, metric: str) -> np.ndarray:
        """The recovery of each small group of samples (groups,)."""
        return recoveries(self.all_rungs(ground, metric), self.group)

    def numbers(self) -> Iterator[dict[str, Any]]:
        """A row for each mean and each recovery."""
        for ground, table in self.scores.items():
            model, data = NAMES[ground]
            about = {"model": model, "dataset": data}
            for metric in table["metric"].unique():
                if self.applies(ground, metric):
                    yield from ({**about, "metric": metric, **row} for row in self._of_metric(ground, metric))

    def _of_metric(self, ground: str, metric: str) -> Iterator[dict[str, Any]]:
        for shown in self.maps(ground):
            if self.has(ground, metric, shown):
                yield {"setting": "mean", "explainer": shown, **_mean_row(self.raw(ground, metric, shown))}
        ladder = self.ladder(ground, metric)
        if len(ladder):
            yield {"setting": "recovery", "value": recovery(ladder.mean(0)), "n": len(ladder)}
            groups = self.in_groups(ground, metric)
            yield {"setting": f"recovery of {self.group} samples", **_mean_row(groups)}


def _mean_row(values: np.ndarray) -> dict[str, Any]:
    """Mean, standard error and number of the finite values."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return {"value": float(known.mean()), "n": len(known)}
    error = float(known.std(ddof=1) / np.sqrt(len(known)))
    return {"value": float(known.mean()), "spread": error, "spread_kind": "standard error", "n": len(known)}


def scaled_ladder(scores: np.ndarray) -> np.ndarray:
    """Means and ends of their 95 % intervals (3, rungs) of signed scores (n, rungs), on a scale where the lowest mean
    is 0 and the highest 1; all means 1/2 where they are equal."""
    means = scores.mean(0)
    low, high = np.array([interval(column) for column in scores.T]).T
    spread = np.ptp(means)
    if spread == 0:
        return np.full((3, len(means)), 0.5)
    return (np.stack([means, low, high]) - means.min()) / spread
