"""Prediction gaps (OpenXAI: Agarwal et al. 2022, 2206.11104): how much the score moves when noise is added to the units
that a map calls important, or to all others. The options are those of ``Perturbed``.

Units are ranked by |a|, so that the sign of a map does not matter. The noise is the same for every explainer.

In the examples f = 2 x_0 - x_1, and the noise is a share of the training data's range, which is 1 in both columns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._percents import rounded_up
from harness.metrics._similarity import with_reason
from harness.metrics.curves import score_unit
from harness.option_types import ChangeOfInput, Count, InnerPercent
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.randomness import normal, skip
from harness.registry import metric
from harness.task import Score

ALL = "noise on all units leaves none"


@dataclass(frozen=True)
class Perturbed:
    """Options of the prediction gaps.

    percents   sizes of the important part in percent of the units, each rounded up; a score is the mean over them
               (OpenXAI integrates over all sizes up to 25 percent)
    noise      standard deviation of the Gaussian noise, as a share of the range of the data's values
               (``Samples.input_range``), above 0; what is added is not clipped
    draws      number of draws of the noise for each size, at least 1
    score      of the explained class: ``logit``, ``probability`` or ``log_odds``
    """

    percents: tuple[InnerPercent, ...] = (5, 10, 15, 20, 25)
    noise: ChangeOfInput = 0.1
    draws: Count = 50
    score: Score = "probability"


@metric(
    better="higher",
    unit=score_unit,
    span={"probability": (0, 1), "": (0, None)},
    curve_across="% of the units, the most important, with noise",
    curve_places="percents",
    curve_height="change of the {score}",
)
def prediction_gap_important(batch: Batch, *, perturbed: Perturbed = Perturbed()) -> Scores:
    """Mean change of the score when noise is added to the important units (PGI of OpenXAI: Agarwal et al. 2022,
    2206.11104).

    Mean over draws and ``percents`` of |f(x) - f(x + noise on the top k units)|. In the unit of the score, at least 0;
    higher is better. Ties at random. Curves (N, number of percents) are the gaps at each size. OpenXAI flips columns of
    two values instead of adding noise to them; here all numbers get noise. NotApplicable for a table without training
    inputs or a declared range.

    f changes by 2 times the noise on x_0 and by 1 times that on x_1, and E |noise| is sqrt(2 / pi) times its deviation:

    >>> data = harness.Data(inputs, targets, train=torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    >>> options = {"percents": 50, "score": "output", "noise": 0.1, "draws": 2000}
    >>> harness.score("prediction_gap_important", linear, data, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), **options)
    tensor([0.1..., 0.0...], dtype=torch.float64)
    """
    return _gap(batch, perturbed, important=True)


@metric(
    better="lower",
    unit=score_unit,
    span={"probability": (0, 1), "": (0, None)},
    curve_across="% of the units, the most important, without noise",
    curve_places="percents",
    curve_height="change of the {score}",
)
def prediction_gap_unimportant(batch: Batch, *, perturbed: Perturbed = Perturbed()) -> Scores:
    """Mean change of the score when noise is added to all but the important units (PGU of OpenXAI: Agarwal et al. 2022,
    2206.11104).

    Mean over draws and ``percents`` of |f(x) - f(x + noise on all but the top k units)|. Lower is better; all else as
    for ``prediction_gap_important``. NaN where a size is all units, so that nothing is left to perturb.

    >>> data = harness.Data(inputs, targets, train=torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    >>> options = {"percents": 50, "score": "output", "noise": 0.1, "draws": 2000}
    >>> harness.score("prediction_gap_unimportant", linear, data, torch.tensor([[1.0, 0.0], [0.0, 1.0]]), **options)
    tensor([0.0..., 0.1...], dtype=torch.float64)
    """
    return _gap(batch, perturbed, important=False)


def _gap(batch: Batch, perturbed: Perturbed, important: bool) -> Scores:
    samples, draws = batch.samples, perturbed.draws
    sizes = batch.attributions.flatten(1).abs()
    place, count = ranks(sizes, samples.stream("ties 0")), sizes.shape[1]
    shares = [percent / 100 for percent in perturbed.percents]
    tops = torch.tensor([rounded_up(share, count) for share in shares], device=place.device)
    low, high = (bound.expand_as(samples.inputs) for bound in samples.input_range())
    keys, shape = samples.stream("prediction gap"), samples.inputs.shape[1:]

    def build(sample: Tensor, number: Tensor) -> Tensor:
        top = place[sample] < tops[number // draws][:, None]
        moved = samples.units.expand((top == important).view(-1, *batch.units.shape))
        # A normal number takes two elements of the stream; the sizes share their draws.
        drawn = normal(skip(keys[sample], 2 * shape.numel() * (number % draws)), *shape)
        noise = perturbed.noise * (high - low)[sample] * drawn
        return samples.inputs[sample] + (noise * moved).to(samples.inputs)

    after = pick(samples.track(len(shares) * draws, build), perturbed.score).double()
    gaps = (samples.clean(perturbed.score).double()[:, None] - after).abs().view(len(batch), len(shares), draws).mean(2)
    if not important:
        gaps = gaps.masked_fill(tops == count, float("nan"))
    return with_reason(gaps.mean(1), ALL, curves=gaps, tied=tied_share(sizes))
