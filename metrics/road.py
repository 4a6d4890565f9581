"""Remove and debias: predictions while pixels are replaced by what their neighbours say of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError, unknown
from harness.metrics._curve import ORDERS, check_draws, each_with, order_units
from harness.metrics._percents import percentages
from harness.metrics._similarity import with_reason
from harness.predictor import SCORES, pick, track
from harness.registry import metric
from harness.removal.noisy_linear import noisy_linear
from harness.samples import Samples

REASON = "the model's outputs for perturbed inputs are not finite"


@metric(
    better=lambda options: "lower" if options["order"] == "morf" else "higher",
    unit=lambda options: options["score"],
    kind="faithfulness",
)
def road(
    batch: Batch,
    *,
    percents: str = "10 20 30 40 50 70 90",
    order: str = "morf",
    score: str = "accuracy",
    noise: float = 0.01,
    imputations: int = 1,
    tie_draws: int = 1,
) -> Scores:
    """Accuracy after the most important pixels are replaced by noisy linear imputation, without retraining (ROAD: Rong
    et al. 2022, 2202.00449).

    Per sample the mean over ``percents`` of whether the prediction is the label (where the data has none: the explained
    class), so that the mean over samples is the data set's accuracy; curves (N, P) are the values at each of the
    percents, rounded down to whole pixels. With ``score`` probability, logit or log_odds it is the explained class's
    score instead. ``order="morf"`` replaces the most important first, lower is better; ``order="lerf"`` the least
    important, higher is better. In [0, 1] for accuracy and probability. A replaced pixel is the mean of its eight
    neighbours, replaced ones included (``harness.removal.noisy_linear``), plus Gaussian noise of standard deviation
    ``noise`` in the model's input space (the paper's text says 0.1, its code 0.01), drawn ``imputations`` times;
    ``tie_draws`` is the number of random breakings of ties; values are means over both. At 100 percent nothing is
    left to go by, and the image becomes its own mean per channel. NotApplicable to what is no image, and to accuracy
    or probability of a model with one output.
    """
    samples, shares = batch.samples.joint(), percentages(percents)
    samples.need("image")
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    if score not in ("accuracy", *SCORES):
        raise unknown("score", score, ("accuracy", *SCORES))
    check_draws(imputations=imputations, tie_draws=tie_draws)
    if not noise >= 0:
        raise UserError(f"noise is {noise}, expected a standard deviation, at least 0")
    options = (shares, order, noise, imputations, tie_draws)
    tracked, predicted = batch.remember(("road", *options), lambda: _evaluate(batch, *options))
    if score == "accuracy" and (predicted < 0).all() and tracked[..., 0].isfinite().any():
        raise NotApplicable("a model with a single output has no accuracy; use score=logit")
    heights = _correct(samples, predicted) if score == "accuracy" else pick(tracked, score).double()
    curves = heights.unflatten(1, (-1, len(shares))).mean(1)
    return with_reason(curves.mean(1), REASON, curves=curves, tied=order_units(batch, tie_draws=tie_draws).tied)


def _correct(samples: Samples, predicted: Tensor) -> Tensor:
    """Whether each prediction (N, draws) is the label, 1 or 0, NaN where there is none."""
    truth = samples.targets if samples.labels is None else samples.labels
    return (predicted == truth[:, None]).double().masked_fill(predicted < 0, float("nan"))


def _evaluate(
    batch: Batch, shares: tuple[float, ...], order: str, noise: float, imputations: int, tie_draws: int
) -> tuple[Tensor, Tensor]:
    """Tracked outputs (N, imputations * T * P, 3) and predicted classes (N, imputations * T * P), -1 for none."""
    samples = batch.samples
    work = _Work(
        samples,
        order_units(batch, tie_draws=tie_draws).places,
        torch.tensor([int(samples.units.count * share // 100) for share in shares], device=samples.inputs.device),
        order == "lerf",
        [_remover(samples, draw, noise) for draw in range(imputations)],
    )
    draws = imputations * tie_draws * len(shares)
    rows = torch.arange(len(samples) * draws, device=samples.inputs.device)
    parts = [work.run(some // draws, some % draws) for some in rows.split(samples.predictor.chunk)]
    tracked, predicted = (torch.cat(column) for column in zip(*parts, strict=True))
    return tracked.view(len(samples), draws, -1), predicted.view(len(samples), draws)


def _remover(samples: Samples, draw: int, noise: float) -> Callable[[Tensor, Tensor], Tensor]:
    def remove(sample: Tensor, kept: Tensor) -> Tensor:
        kept = samples.units.expand(kept)
        return torch.where(kept, samples.inputs[sample], noisy_linear(samples.joint(), sample, kept, draw, noise))

    return remove


@dataclass(frozen=True)
class _Work:
    """Builds images without ``counts`` (P,) of their pixels and asks the model for their classes."""

    samples: Samples
    places: Tensor
    counts: Tensor
    least_first: bool
    removers: list[Callable[[Tensor, Tensor], Tensor]]

    def run(self, sample: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Tracked outputs (rows, 3) and predicted classes (rows,) for pairs of sample and draw numbers."""
        outputs = self.samples.predictor.logits(self._build(sample, draw))
        tracked = track(outputs, self.samples.targets[sample])
        if outputs.dim() == 1 or outputs.shape[1] == 1:
            return tracked, torch.full_like(sample, -1)
        return tracked, outputs.argmax(1).masked_fill(outputs.isnan().any(1), -1)

    def _build(self, sample: Tensor, draw: Tensor) -> Tensor:
        points, ties = len(self.counts), self.places.shape[1]
        place = self.places[sample, draw // points % ties]
        gone = self.counts[draw % points].view(-1, *[1] * (place.dim() - 1))
        kept = place < self.samples.units.count - gone if self.least_first else place >= gone
        return each_with(self.removers, draw // (points * ties), sample, kept)
