"""Remove and debias: predictions while pixels are replaced by values imputed from their neighbours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._curve import Order, RemovalOrder, each_with, order_units
from harness.metrics._groups import Grouping
from harness.metrics._outputs import NO_CLASS, is_predicted, predicted_class
from harness.metrics._similarity import with_reason
from harness.metrics.curves import score_unit
from harness.option_types import InnerPercent, NotNegative, Repeats
from harness.predictor import pick
from harness.registry import metric
from harness.removal.noisy_linear import noisy_linear
from harness.samples import Samples
from harness.task import ACCURACY, Score

NOT_FINITE = "the model's outputs for perturbed inputs are not finite"


@metric(
    better=lambda options: "lower" if options["order"] == "morf" else "higher",
    unit=score_unit,
    span={"accuracy": (0, 1), "probability": (0, 1)},
    renamed={"noise": "absolute_noise"},
    curve_across="% of the pixels replaced",
    curve_places="percents",
    curve_height="{score}{line}",
)
def road(
    batch: Batch,
    *,
    percents: tuple[InnerPercent, ...] = (10, 20, 30, 40, 50, 70, 90),
    order: RemovalOrder = "morf",
    score: Score | Literal["accuracy"] = "accuracy",
    absolute_noise: NotNegative = 0.01,
    imputations: Repeats = 1,
    tie_draws: Repeats = 1,
) -> Scores:
    """Accuracy after the most important pixels are replaced by noisy linear imputation, without retraining (ROAD: Rong
    et al. 2022, 2202.00449).

    A sample's score is the mean over ``percents`` of whether the prediction is the label (where the data has none: the
    explained class), so that the mean over samples is the data set's accuracy; curves (N, P) are the values at each
    percentage, rounded down to whole pixels. With ``score`` probability, logit or log_odds it is the explained class's
    score instead; a task in which not exactly one class is right has no accuracy, and its own score is the default. For
    regression values are heights above the straight line from f(x) to f of the image without any pixel (Hama et al.
    2022, 2205.12423). ``order="morf"`` replaces the most important pixels first, and lower is better; ``order="lerf"``
    the least important, and higher is better. In [0, 1] for accuracy and probability.

    A replaced pixel is the mean of its eight neighbours, replaced ones included (``harness.removal.noisy_linear``),
    plus Gaussian noise of standard deviation ``absolute_noise`` in the model's input space (the paper's text says 0.1,
    its code 0.01), drawn ``imputations`` times; ``tie_draws`` is the number of random orders of pixels of equal
    attribution; values are means over both. Percents are below 100: without any pixel to impute from, the image would
    become its own mean per channel, whatever the map. NotApplicable for inputs that are no images, and for accuracy or
    probability of a model that has none.

    An image of ones is imputed by ones, so that f, the sum of four pixels, stays as it is:

    >>> options = {"percents": [25, 50], "score": "logit", "absolute_noise": 0.0}
    >>> harness.score("road", image_model, images, targets[:1], corner.float(), **options).round(decimals=4).tolist()
    [4.0]
    """
    samples, shares = batch.samples.joint(), tuple(map(float, percents))
    samples.need("image")
    options = (shares, order, absolute_noise, imputations, tie_draws)
    tracked, predicted = batch.remember(("road", *options), lambda: _track_imputed(batch, *options))
    scores = _correct(samples, predicted) if score == ACCURACY else pick(tracked, score).double()
    curves = scores.unflatten(1, (-1, len(shares))).mean(1)
    if not samples.task.classed:
        curves = curves - _straight_line(batch.samples, shares, absolute_noise, imputations, score)
    return with_reason(curves.mean(1), NOT_FINITE, curves=curves, tied=_pixel_order(batch, tie_draws).tied)


def _pixel_order(batch: Batch, tie_draws: int) -> Order:
    return order_units(batch, Grouping(), tie_draws)


def _correct(samples: Samples, predicted: Tensor) -> Tensor:
    """Whether each prediction (N, draws) is the label, 1 or 0, NaN where there is none."""
    return is_predicted(predicted, (samples.targets if samples.labels is None else samples.labels)[:, None])


def _track_imputed(
    batch: Batch, shares: tuple[float, ...], order: str, noise: float, imputations: int, tie_draws: int
) -> tuple[Tensor, Tensor]:
    """Tracked outputs (N, imputations * T * P, 3) and predicted classes (N, imputations * T * P)."""
    samples = batch.samples
    images = _ImputedImages(
        samples,
        _pixel_order(batch, tie_draws).places,
        torch.tensor([int(samples.units.count * share // 100) for share in shares], device=samples.inputs.device),
        order == "lerf",
        [_imputation(samples, draw, noise) for draw in range(imputations)],
    )
    draws = imputations * tie_draws * len(shares)
    rows = torch.arange(len(samples) * draws, device=samples.inputs.device)
    parts = [images.run(some // draws, some % draws) for some in rows.split(samples.predictor.chunk)]
    tracked, predicted = (torch.cat(column) for column in zip(*parts, strict=True))
    return tracked.view(len(samples), draws, -1), predicted.view(len(samples), draws)


def _straight_line(samples: Samples, shares: tuple[float, ...], noise: float, imputations: int, score: str) -> Tensor:
    """The line (N, P) float64 from the score of the image to the mean score of its imputations without any pixel."""

    def emptied() -> Tensor:
        gone = lambda sample, draw: samples.inputs.new_zeros(len(sample), *samples.units.shape, dtype=torch.bool)
        removers = [_imputation(samples, draw, noise) for draw in range(imputations)]
        return samples.track(imputations, lambda sample, draw: each_with(removers, draw, sample, gone(sample, draw)))

    end = pick(samples.outputs(("road, emptied", noise, imputations), emptied), score).double().mean(1, keepdim=True)
    start = samples.clean(score).double()[:, None]
    return torch.lerp(start, end, torch.tensor(shares, dtype=torch.float64, device=end.device) / 100)


def _imputation(samples: Samples, draw: int, noise: float) -> Callable[[Tensor, Tensor], Tensor]:
    def remove(sample: Tensor, kept: Tensor) -> Tensor:
        kept = samples.units.expand(kept)
        return torch.where(kept, samples.inputs[sample], noisy_linear(samples.joint(), sample, kept, draw, noise))

    return remove


@dataclass(frozen=True)
class _ImputedImages:
    """Builds images without ``counts`` (P,) of their pixels and asks the model for their classes."""

    samples: Samples
    places: Tensor
    counts: Tensor
    least_first: bool
    removers: list[Callable[[Tensor, Tensor], Tensor]]

    def run(self, sample: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Tracked outputs (rows, 3) and predicted classes (rows,) for pairs of sample and draw numbers."""
        outputs = self.samples.model_outputs(self._build(sample, draw), sample)
        tracked = self.samples.task.track(outputs, self.samples.targets[sample])
        if outputs.dim() == 1 or outputs.shape[1] == 1:
            return tracked, torch.full_like(sample, NO_CLASS)
        return tracked, predicted_class(outputs)

    def _build(self, sample: Tensor, draw: Tensor) -> Tensor:
        points, ties = len(self.counts), self.places.shape[1]
        place = self.places[sample, draw // points % ties]
        gone = self.counts[draw % points].view(-1, *[1] * (place.dim() - 1))
        kept = place < self.samples.units.count - gone if self.least_first else place >= gone
        return each_with(self.removers, draw // (points * ties), sample, kept)
