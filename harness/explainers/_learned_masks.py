"""Masks that are found by gradient descent: the descent through the model, and the loss that fixes a mask's area."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from harness.explainers._gradients import gradient_of, zeros_to_sum
from harness.guards import frozen
from harness.predictor import check_outputs, pick
from harness.samples import Samples
from harness.task import LOG_PROBABILITY

EQUAL = 1e-4  # the difference of two numbers of a mask that counts as none

# Masks (n, masks, *units) in 0..1 -> inputs (n, masks, ...); 1 leaves a number as it is.
Perturb = Callable[[Tensor], Tensor]


def descend(
    model: nn.Module,
    context: Samples,
    sample: Tensor,
    *,
    propose: Callable[[int], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    steps: int,
    masks: Tensor,
) -> None:
    """Minimise the sum of loss and penalty of every row by ``steps`` steps of the optimiser.

    Raises NotApplicable where no gradient reaches the input.

    sample    (rows,) the sample of each row
    propose   the perturbed inputs (rows, ...) that follow from the parameters, and the penalty (rows,) on these, for
              the number of the step
    loss      a number for each row (rows,) from its tracked outputs (rows, 3)
    masks     the parameter (rows, ...) that is cut off at 0 and 1 after every step; at the end it is NaN for the rows
              that met a loss or a gradient that is not a number

    The loss of a row depends on its own parameters alone, so that a result does not depend on the batch.
    """
    lost = torch.zeros(len(sample), dtype=torch.bool, device=sample.device)
    with frozen(model):
        for step in range(steps):
            points, penalty = propose(step)
            slopes, sound = _row_gradients(model, context, sample, points, loss)
            lost |= ~sound
            # A lost row goes on by its penalty alone: parameters of NaN would be given to the model.
            slopes = slopes.masked_fill(lost.view(-1, *[1] * (slopes.dim() - 1)), 0)
            optimiser.zero_grad()
            ((points * slopes).sum() + penalty.sum()).backward()
            optimiser.step()
            masks.data.clamp_(0, 1)
    masks.data[lost] = float("nan")


def _row_gradients(
    model: nn.Module, context: Samples, sample: Tensor, points: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradients (rows, ...) of the rows' losses at these points, and whether these and the loss are numbers
    (rows,); the graph of the model ends here."""
    leaf = points.detach().to(context.inputs.dtype).requires_grad_()
    outputs = check_outputs(model(leaf.clone()), len(leaf))  # a model may change its input in place
    losses = loss(context.task.track(outputs, context.targets[sample]))
    gradients = gradient_of(losses, leaf).to(points)
    return gradients, ~losses.detach().isnan() & gradients.isfinite().flatten(1).all(1)


def parameter(like: Tensor, value: float, *shape: int) -> Tensor:
    """A parameter of this shape to be learned, the same number everywhere; of at least float32."""
    return torch.full_like(zeros_to_sum(like[:0]), value).new_full(shape, value).requires_grad_()


def score_loss(context: Samples, sample: Tensor, score: str) -> Callable[[Tensor], Tensor]:
    """The loss of the score, a function of tracked outputs (rows, 3) -> (rows,): cross-entropy for ``probability``,
    else the squared difference from the sample's own score.
    """
    own = context.clean(score)[sample]
    if score == "probability":
        return lambda tracked: -tracked[:, LOG_PROBABILITY]
    return lambda tracked: (pick(tracked, score) - own).square()


def area_loss(masks: Tensor, shown: Tensor) -> Tensor:
    """The mean squared distance (rows,) of masks (rows, units) from masks that are 1 at ``shown`` (rows,) units.

    Equal to |sort(mask) - (0, ..., 0, 1, ..., 1)|^2 / units (Fong et al. 2019, 1910.08485) up to a constant. Numbers
    within ``EQUAL`` of each other have no order: each is compared with the mean target over all orders. The released
    codes leave that order to rounding and to torch's sort, on which the mask would then depend: all numbers are equal
    at first.
    """
    values = masks.detach()
    ordered = values.sort(1).values
    below = torch.searchsorted(ordered, values - EQUAL)
    up_to = torch.searchsorted(ordered, values + EQUAL, right=True)
    hidden = (masks.shape[1] - shown)[:, None]
    drawn_to = ((up_to - hidden) / (up_to - below)).clamp(0, 1)
    return (masks - drawn_to.to(masks)).square().mean(1)


def units_shown(areas: Sequence[float], units: int) -> Tensor:
    """How many of ``units`` each area is (areas,), rounded up; UserError unless areas are shares between 0 and 1."""
    return torch.tensor([math.ceil(area * units - 1e-9) for area in areas])
