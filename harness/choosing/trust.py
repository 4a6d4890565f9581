"""Whether a metric can be trusted on this model and data, tested before it ranks anything.

A metric *separates* here if it sees the *degradation ladder*: maps of explainers mixed with more and more noise must
score worse step by step. The source of a ladder is the explainer that scores best on the other half of the samples, so
that it did not come first by chance on these. Noise against noise must show no difference. How large a
difference must be to be found later is said of each metric (``harness.choosing.power``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special, stats

from harness.choosing.measuring import Measuring, Part
from harness.choosing.noise_ladder import LEVELS, half_of_each, noise_ladder
from harness.choosing.power import Planned, Step
from harness.engine.selection import Chosen
from harness.results.statistics import interval, side_of
from harness.results.ties import differences_on_samples

CONTRAST = ((0, 4, 2.0), (1, 3, 1.0))  # of a straight line down the ladder: steps, and the weight of their difference
MISTAKES = 0.05  # probability of trusting one of the metrics although its ladder does not fall
# Where both halves have the same source, its scores were high on both: the error of the mean of all samples is larger
# than their spread says. The largest factor for 2 to 60 independent candidates, 6 to 32 samples and levels from 1 to
# 5 % was 1.37, by simulation of scores that do not depend on the map.
LARGER_ERROR = 1.4
RISES = 0.01  # level at which a step that goes up is shown to do so
LEAST_AGREEMENT = 0.0  # tau-b of two baselines' rankings below which they are said to contradict each other


@dataclass(frozen=True)
class Trusted:
    """What was found of one metric.

    falls       probability of a ladder that falls as much if the metric did not see noise (one-sided)
    ladder      mean score on each step, signed so that higher is better
    drop        mean difference between the first and the last step, with its 95 % interval
    itself      the interval (99 %) of the difference between two random maps; NaN where there is only one, or where
                all samples have the same difference
    step        the differences between the first and the last step, and their spread
    reason      why the metric is not used; "" if it is
    """

    metric: str
    falls: float
    ladder: tuple[float, ...]
    drop: tuple[float, float, float]
    itself: tuple[float, float]
    step: Step
    reason: str = ""


@dataclass(frozen=True)
class MetricTrust:
    """Which metrics are used, and what speaks for and against each.

    found     a metric each
    tau       pair of metrics -> Kendall's tau-b between their rankings of the candidates
    planned   the confirmation, as large as it may become: with all controls
    step      from the best maps to noise by the mean of the metrics that are used; None if none is
    """

    found: list[Trusted]
    planned: Planned
    tau: dict[tuple[str, str], float] = field(default_factory=dict)
    step: Step | None = None

    @property
    def used(self) -> list[str]:
        """The metrics that separate, by which candidates are judged."""
        return [each.metric for each in self.found if not each.reason]

    @property
    def contradictions(self) -> list[tuple[str, str]]:
        """Pairs of used metrics that rank the candidates in opposite ways."""
        return [pair for pair, tau in self.tau.items() if tau < LEAST_AGREEMENT and set(pair) <= set(self.used)]

    def table(self) -> pd.DataFrame:
        """A row for each metric and step of its ladder."""
        rows = [
            {
                "metric": each.metric,
                "noise": level,
                "mean": mean,
                "p_falls": each.falls,
                "drop": each.drop[0],
                "drop_low": each.drop[1],
                "drop_high": each.drop[2],
                "random_low": each.itself[0],
                "random_high": each.itself[1],
                "spread": each.step.spread,
                "samples_to_confirm": self.planned.samples,
                "detectable": each.step.detectable(self.planned),
                "used": not each.reason,
                "reason": each.reason,
            }
            for each in self.found
            for level, mean in zip(LEVELS, each.ladder, strict=True)
        ]
        return pd.DataFrame(rows)

    def agreement(self) -> pd.DataFrame:
        """A row for each pair of metrics."""
        rows = [{"metric": a, "other": b, "tau_b": tau} for (a, b), tau in self.tau.items()]
        return pd.DataFrame(rows, columns=["metric", "other", "tau_b"])


def trust_metrics(
    measuring: Measuring,
    part: Part,
    scores: Mapping[str, pd.DataFrame],
    explainers: Mapping[str, Chosen],
    metrics: Sequence[Chosen],
    *,
    random: str,
    planned: Planned,
    smallest: float = 0.0,
) -> MetricTrust:
    """Test the metrics on a part of the samples that takes no part in the race.

    ``scores`` are, for each metric, its scores on the part (samples x candidates, higher is better); ``explainers`` are
    the candidates that may be the source of a ladder, ``random`` is the control that draws random maps, and ``planned``
    is the confirmation. A mean difference of at most ``smallest`` is rounding.
    """
    found, ladders = [], []
    for metric in metrics:
        table = scores.get(metric.label)
        sources = [name for name in explainers if table is not None and name in table]
        if not sources:
            found.append(_unmeasured(metric.label, "no candidate has a score"))
            continue
        ladder = noise_ladder(measuring, part, table[sources], explainers, metric)
        noise = table[random].to_numpy() if random in table else None
        found.append(_judged_metric(metric.label, ladder, noise, level=MISTAKES / len(metrics), smallest=smallest))
        if not found[-1].reason:
            ladders.append(ladder)
    tau = _agreements(scores, [each.metric for each in found], list(explainers))
    return MetricTrust(found, planned, tau, _first_to_last(np.mean(ladders, axis=0)) if ladders else None)


def _first_to_last(ladder: np.ndarray) -> Step:
    """From the first to the last step of a ladder (n, levels)."""
    whole = np.isfinite(ladder).all(1)
    return Step.of(_fall(ladder, 0, -1)[whole], half_of_each(len(ladder))[whole])


def _fall(ladder: np.ndarray, upper: int, lower: int) -> np.ndarray:
    """By how much a step of a ladder (n, levels) is above another one (n,); 0 where they are equal but for rounding."""
    return differences_on_samples(ladder[:, upper], ladder[:, lower])


def _judged_metric(
    metric: str, ladder: np.ndarray, noise: np.ndarray | None, *, level: float, smallest: float = 0.0
) -> Trusted:
    """The tests of one metric from its ladder (n, levels) and the scores (n,) of random maps.

    A mean drop of at most ``smallest`` is rounding.
    """
    whole = np.isfinite(ladder).all(1)
    if whole.sum() < 4:
        return _unmeasured(metric, f"the ladder has scores on {int(whole.sum())} samples, 4 are needed")
    slope = sum(_fall(ladder, upper, lower) * weight for upper, lower, weight in CONTRAST)[whole]
    falls = _one_sided(slope, larger=LARGER_ERROR)
    steps = range(len(LEVELS) - 1)
    rising = [place for place in steps if _one_sided(_fall(ladder, place + 1, place)[whole]) < RISES]
    apart = np.empty(0) if noise is None else differences_on_samples(ladder[:, -1], noise)[whole]
    itself = interval(apart, level=1 - RISES)
    drops, means = _fall(ladder, 0, -1)[whole], tuple(map(float, ladder[whole].mean(0)))
    drop, reason = (float(drops.mean()), *map(float, interval(drops))), ""
    if not falls < level:
        reason = "a map mixed with noise does not score worse, step by step, than the map itself"
    elif not drop[0] > smallest:
        reason = "maps and noise have the same score but for rounding"
    elif rising:
        reason = f"more noise scores better on step {rising[0] + 1} of the ladder"
    elif side_of(apart, 0.0, level=1 - RISES):
        reason = "two random maps score differently"
    return Trusted(metric, falls, means, drop, itself, _first_to_last(ladder), reason)


def _one_sided(values: np.ndarray, *, larger: float = 1.0) -> float:
    """The p-value of a mean above 0, where its error is ``larger`` than the spread says; 1 where all values are 0.

    Values that are all one number have no spread: it is that of their signs.
    """
    if not np.ptp(values) > 0:
        return 2.0 ** -len(values) if values.mean() > 0 else 1.0
    error = larger * values.std(ddof=1) / np.sqrt(len(values))
    return float(special.stdtr(len(values) - 1, -values.mean() / error))


def _unmeasured(metric: str, reason: str) -> Trusted:
    nan = float("nan")
    return Trusted(metric, nan, (nan,) * len(LEVELS), (nan, nan, nan), (nan, nan), Step(nan, nan, 0), reason)


def _agreements(
    scores: Mapping[str, pd.DataFrame], metrics: Sequence[str], candidates: Sequence[str]
) -> dict[tuple[str, str], float]:
    found = {}
    for first, second in combinations([name for name in metrics if name in scores], 2):
        means = [scores[name][[each for each in candidates if each in scores[name]]].mean() for name in (first, second)]
        both = pd.concat(means, axis=1, join="inner").dropna()
        if len(both) > 2:
            found[first, second] = float(stats.kendalltau(both[0], both[1]).statistic)
    return found
