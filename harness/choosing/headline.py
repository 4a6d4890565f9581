"""The score by which explainers are chosen: one metric, under several baselines, of which the mean counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.choosing.measuring import Measured
from harness.engine.selection import Chosen, choose_one
from harness.engine.stage import Stage
from harness.errors import NotApplicable, UserError
from harness.registry import METRICS
from harness.results.board import CHOOSING

METRIC, STEPS = "srg", 16
ROUNDING = 1e-6
# What a removed unit becomes, for each kind of input: at least three, since a ranking by one may not hold for another.
BASELINES = {
    "image": ("mean", "blur", "uniform_noise"),
    "table": ("train_mean", "train_sample", "zero"),
    "table without training rows": ("zero", "uniform_noise", "gaussian_noise"),
    "tokens": ("pad", "mask", "zero", "mean"),
    "series": ("mean", "zero", "uniform_noise"),
    "volume": ("mean", "zero", "uniform_noise"),
    "other": ("zero", "mean", "uniform_noise"),
}


@dataclass(frozen=True)
class Headline:
    """The metrics whose mean is the score, each under one baseline, or the one metric that the user names.

    bounds  the least and the largest score that is possible; None where there is no limit
    unit    of the score
    """

    metrics: tuple[Chosen, ...]
    bounds: tuple[float, float] | None
    unit: str

    @property
    def name(self) -> str:
        """What the score is called."""
        return self.metrics[0].entry.name

    @property
    def labels(self) -> list[str]:
        """The labels of its metrics."""
        return [each.label for each in self.metrics]

    def rounding(self, stage: Stage) -> float:
        """The mean difference up to which scores are equal but for rounding: a millionth of half their range, or, where
        they have no limits, of the largest output."""
        size = float(stage.outputs.abs().max()) if self.bounds is None else (self.bounds[1] - self.bounds[0]) / 2
        return ROUNDING * size

    def of(self, used: Sequence[str]) -> "Headline":
        """The same score by those of its metrics that are used."""
        return Headline(tuple(each for each in self.metrics if each.label in used), self.bounds, self.unit)

    def scores(self, measured: Measured, explainer: str) -> np.ndarray | None:
        """The scores (n,) of an explainer, higher is better; None where a metric has none, NaN at a sample without."""
        parts = [measured.values.get((explainer, each.label)) for each in self.metrics]
        if any(each is None for each in parts):
            return None
        return np.mean([sign_of(chosen) * part for chosen, part in zip(self.metrics, parts, strict=True)], axis=0)

    def defined(self, measured: Measured) -> np.ndarray:
        """The samples (n,) bool that have a score by each metric, of at least one explainer; others tell nothing: their
        score is undefined whatever the map is."""
        found = [measured.defined(each.label) for each in self.metrics]
        return np.all([each for each in found if each is not None], axis=0)

    def whole_scores(self, measured: Measured, explainer: str, defined: np.ndarray | None = None) -> np.ndarray | None:
        """The scores of an explainer on the samples that are ``defined`` (m,); None if it lacks one of them."""
        scores = self.scores(measured, explainer)
        if scores is None:
            return None
        scores = scores[self.defined(measured) if defined is None else defined]
        return scores if np.isfinite(scores).all() else None

    def by_metric(self, measured: Measured, explainers: Sequence[str]) -> dict[str, pd.DataFrame]:
        """Metric -> scores (samples x explainers, higher is better) of the explainers that lack no defined one."""
        found = {}
        for chosen in self.metrics:
            columns = {name: measured.values.get((name, chosen.label)) for name in explainers}
            whole = {name: sign_of(chosen) * each for name, each in columns.items() if each is not None}
            defined = measured.defined(chosen.label)
            there = {n: each for n, each in whole.items() if defined.any() and np.isfinite(each[defined]).all()}
            found[chosen.label] = pd.DataFrame(there)
        return found


def headline_of(stage: Stage, given: Chosen | None = None) -> Headline:
    """The score for a model and data: SRG under the baselines of this kind of input, or the metric that is given.

    SRG is the headline because it ranks explainers most alike under different choices of the removal (Blücher et al.
    2024, 2401.06654). UserError for a metric that has no direction, or that does not tell which explainer is better.
    """
    if given is not None:
        metrics: tuple[Chosen, ...] = (given,)
    else:
        kind = stage.units.modality
        if kind == "table" and stage.data.train is None:
            kind = "table without training rows"
        baselines = BASELINES.get(kind, BASELINES["other"])
        setting = lambda baseline: {
            "name": METRIC,
            "label": f"{METRIC} {baseline}",
            "baseline": baseline,
            "steps": STEPS,
        }
        metrics = tuple(choose_one(METRICS, setting(baseline)) for baseline in baselines)
    entry, options = metrics[0].entry, _measured_options(stage, metrics[0])
    if entry.direction(options) is None or entry.kind not in CHOOSING:
        raise UserError(
            f"metric {metrics[0].label} does not tell which explainer is better; expected one of faithfulness, known "
            f"truth or localisation, such as metric={METRIC}"
        )
    bounds = entry.limits_of(options)
    if bounds and entry.direction(options) == "lower":
        bounds = -bounds[1], -bounds[0]
    return Headline(metrics, bounds, entry.unit_of(options))


def _measured_options(stage: Stage, chosen: Chosen) -> dict:
    try:
        return dict(stage.task.with_score(chosen.entry.options, chosen.options))
    except NotApplicable:
        return dict(chosen.options)


def sign_of(chosen: Chosen) -> float:
    """1 where a higher score is better, -1 where a lower one is."""
    return -1.0 if chosen.entry.direction(chosen.options) == "lower" else 1.0
