"""Monotonicity: two scores of one name, on the order and on the ranks of the attributions' sizes. Both ignore signs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError
from harness.metrics._curve import Path, curve, rank
from harness.metrics._removal import over_groups
from harness.metrics._similarity import spearman, with_reason
from harness.metrics.single_removal import root_mean_square_changes
from harness.registry import metric


def _unit(options: Mapping[str, Any]) -> str:
    return "verdict" if options["verdict"] else "share"


@metric(better="higher", unit=_unit, kind="faithfulness")
def monotonicity(
    batch: Batch,
    *,
    verdict: bool = False,
    tolerance: float = 1e-6,
    steps: int = 32,
    baseline: str | Tensor = "mean",
    score: str = "probability",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
) -> Scores:
    """Share of steps at which the score does not fall while units enter, least important first (Arya et al. 2019,
    1909.03012).

    From the baseline (draw 0 of a random one) units are restored in increasing order of |a|, in ``steps`` steps of
    at least one unit; a segment or patch ranks by the mean of |a|, ties by lot. The paper's answer is yes or no:
    ``verdict`` gives 1 where no step falls, else 0. A step falls if it does by more than ``tolerance`` times the
    largest size of the score on the way, which leaves out rounding. In [0, 1], higher is better; a score that never
    moves does not fall. Curves (N, K + 1) are the scores from the baseline to the input. NaN where the score is not a
    number. NotApplicable as for ``deletion``.
    """
    if tolerance < 0:
        raise UserError(f"tolerance is {tolerance}, expected at least 0")
    path = Path(steps, baseline, granularity, patch, segments, imputations=1, tie_draws=1)
    sizes = replace(batch, attributions=batch.attributions.abs(), own={})
    ranking = rank(sizes, path)
    # Removing the greatest first, backwards.
    heights = batch.remember(("restored", path, score), lambda: curve(sizes, path, "morf", score).flip(1))
    falls = heights.diff(dim=1) < -tolerance * heights.abs().amax(1, keepdim=True)
    moves = ranking.counts.diff(dim=1).flip(1) > 0  # not where there are fewer groups than steps
    values = 1 - (falls & moves).sum(1) / moves.sum(1).double()
    values = (values == 1).double() if verdict else values
    undefined = ~heights.isfinite().all(1) | (ranking.totals < 2)
    reason = "there is a single segment, or the score is not a number"
    return with_reason(values.masked_fill(undefined, float("nan")), reason, curves=heights, tied=ranking.tied)


@metric(better="higher", unit="correlation", kind="faithfulness", needs=("train",))
def monotonicity_correlation(
    batch: Batch,
    *,
    samples: int = 100,
    baseline: str | Tensor = "train_sample",
    granularity: str = "auto",
    groups: int = 50,
    patch: int = 16,
    segments: str | Tensor = "slic:100",
    score: str = "logit",
) -> Scores:
    """Rank correlation of |a| and the squared change of the score when units are resampled (Nguyen and
    Martinez 2020, 2007.07584).

    Spearman per sample over units between |a_i| and e_i = E[(f(x with x_i' for x_i) - f(x))^2], the mean over
    ``samples`` draws of x' from the training inputs; ``baseline`` names another distribution, one that is not random
    having a single draw. A group is resampled together and has |sum of a|; ``granularity`` and ``groups`` as in
    ``faithfulness_estimate``, fewer by default as each costs ``samples`` model evaluations, which all explainers share.
    Ties at average ranks. In [-1, 1], higher is better, and blind to the attributions' signs. NaN where e, or |a|, does
    not vary. NotApplicable without training inputs, and with a single unit.
    """
    found, reaction = root_mean_square_changes(
        batch.samples, granularity, patch, segments, groups, baseline, samples, score
    )
    sizes = found.sums(batch.attributions).abs()
    # The root of e has the ranks of e, and the size of the score, which says what is rounding.
    values = over_groups(spearman, sizes, reaction, found, batch.samples.clean(score))
    return with_reason(values, "over the units the output's reaction or the attribution's size does not vary")
