"""Explainers that add up gradients on a path from the input across the boundary of its class."""

from typing import Literal

import torch
from torch import Tensor, nn

from harness.explainers._descent import check_classes, class_gradients
from harness.explainers._gradients import rows_at_once, zeros_to_sum
from harness.option_types import ChangeOfInput, Count, NotNegative
from harness.predictor import NO_CLASS
from harness.registry import explainer
from harness.samples import Samples


@explainer(cost="up to other_classes x steps (F 2 B)", tunable={"step_size": (0.02, 0.1), "restart": (False,)})
def agi(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    other_classes: Count = 15,
    steps: Count = 15,
    step_size: ChangeOfInput = 0.05,
    restart: bool = True,
) -> Tensor:
    """Adversarial Gradient Integration: what the target's probability loses on the way to each of other classes, added
    up (Pan et al. 2021, AGI, doi 10.24963/ijcai.2021/396).

    Inputs' shape; probability. For each of up to ``other_classes`` other classes, evenly spaced among all of them (the
    released code takes every 66th of 1,000, 16 in all), at most ``steps`` steps are taken along the sign of the
    gradient of that class's probability, each of ``step_size`` times the range of the inputs and cut off at that range,
    until that class is predicted. Each step contributes minus
    the gradient of the target's probability times the change of the input. With ``restart`` every step begins at the
    input itself, in the direction found at the last point, as in the released code; without, it begins where the last
    one ended, on the paper's curve of steepest ascent, and the map of each class then tends to what the target's
    probability has lost at its end. A class that the input is predicted to be contributes nothing. Not applicable as
    ``gradient``, and where outputs are no classes.

    Example: of two classes with the logits 0 and x1, a step to class 1 moves x1 alone.

    >>> found = harness.explain("agi", classes, torch.tensor([[-0.5, 0.0]]), target, train=train, steps=1)
    >>> found.round(decimals=3)
    tensor([[0.0240, 0.0000]])
    """
    check_classes(context)
    answer = zeros_to_sum(inputs)
    low, high = (each.expand_as(inputs).to(answer) for each in context.input_range())
    columns = class_gradients(model, context, inputs[:1], targets[:1])[1].shape[1]
    others = evenly_spaced_others(targets, columns, other_classes)
    rows = torch.stack([torch.arange(len(inputs), device=targets.device)[:, None].expand_as(others), others], -1)
    for sample, other in (each.unbind(1) for each in rows.flatten(0, 1).split(rows_at_once(context))):
        start = point = inputs[sample].to(answer)
        going, total = torch.ones_like(sample, dtype=torch.bool), zeros_to_sum(start)
        for _ in range(steps):
            predicted, _, (climb, own) = class_gradients(model, context, point, other, targets[sample])
            going &= predicted != other
            if not going.any():
                break
            origin = start if restart else point
            step = step_size * (high - low)[sample] * climb.sign().to(answer)
            moved = (origin + step).clamp(low[sample], high[sample])
            total -= torch.where(_over_axes(going, point), own.to(answer) * (moved - origin), 0)
            point = torch.where(_over_axes(going, point), moved, point)
        for each in sample.unique():  # not index_add_, whose order differs from call to call on a GPU
            answer[each] += total[sample == each].sum(0)
    return answer


@explainer(
    cost="up to steps + 1 F steps B",
    tunable={"step_rule": ("gradient",), "step_size": (0.0003, 0.003)},
)
def mfaba(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    steps: Count = 50,
    step_rule: Literal["sign", "gradient"] = "sign",
    step_size: ChangeOfInput = 0.001,
    reach: NotNegative = 0.3,
) -> Tensor:
    """MFABA: minus the gradient of the target's probability times the change of the input, added up on a path that goes
    down that probability until another class is predicted (Zhu et al. 2024, 2312.13630).

    Inputs' shape; probability. The sum tends to f(x) - f(end of the path) for short steps. ``step_rule`` says what a
    step is, in units of the inputs' range: ``sign`` moves every number by ``step_size`` against the sign of its
    gradient, and by at most ``reach`` in all (the released "smooth" form); ``gradient`` moves by the gradient scaled to
    a length of 100 ``step_size`` (its "sharp" form). All points stay in the range of the inputs. There are at most
    ``steps`` steps. A sample that is not predicted as its target has one step. The fact ``crossed`` is 1 where another
    class was reached. Not applicable as ``gradient``, and where outputs are no classes.

    Example: of two classes with the logits 0 and x1 only x1 moves: what class 0 loses in 50 steps, all of it due to x1.

    >>> harness.explain("mfaba", classes, torch.tensor([[-0.5, 0.0]]), target, train=train).round(decimals=4)
    tensor([[0.0238, 0.0000]])
    """
    check_classes(context)
    answer = zeros_to_sum(inputs)
    low, high = (each.expand_as(inputs).to(answer) for each in context.input_range())
    crossed = torch.zeros(len(inputs), device=inputs.device)
    for rows in torch.arange(len(inputs), device=inputs.device).split(rows_at_once(context)):
        start, bounds = inputs[rows].to(answer), (low[rows], high[rows])
        point, total, going = start, zeros_to_sum(start), torch.ones_like(rows, dtype=torch.bool)
        for number in range(steps + 1):
            predicted, _, (slope,) = class_gradients(model, context, point, targets[rows])
            if number:
                going &= predicted == targets[rows]
            if number == steps or not going.any():
                break
            moved = _descended(point, start, slope.to(total), bounds, step_rule, step_size, reach)
            moved = torch.where(_over_axes(going, point), moved, point)
            total -= slope.to(total) * (moved - point)
            point = moved
        lost = predicted == NO_CLASS  # the path ends where nobody knows
        answer[rows] = total.masked_fill(_over_axes(lost, total), torch.nan)
        crossed[rows] = (predicted != targets[rows]).to(crossed)
    context.tell(crossed=crossed)
    return answer


def evenly_spaced_others(targets: Tensor, columns: int, most: int) -> Tensor:
    """Up to ``most`` different classes (n, others) of ``columns``, without a sample's target.

    They are evenly spaced among all classes but the target, from the first to the last of them.
    """
    count = columns - 1
    places = torch.linspace(0, count - 1, min(most, count), dtype=torch.float64).round().long().to(targets.device)
    return places + (places >= targets[:, None])  # classes behind the target are one further


def _descended(
    point: Tensor,
    start: Tensor,
    slope: Tensor,
    bounds: tuple[Tensor, Tensor],
    step_rule: str,
    step_size: float,
    reach: float,
) -> Tensor:
    """The points one step further down, for gradients (n, ...) at them."""
    span = bounds[1] - bounds[0]
    if step_rule == "sign":
        moved = start + (point - step_size * span * slope.sign() - start).clamp(-reach * span, reach * span)
    else:
        length = slope.double().flatten(1).norm(dim=1)  # the squares of a sure model's slopes leave single precision
        unit = (slope / _over_axes(length.where(length > 0, 1), slope)).to(slope)
        moved = point - 100 * step_size * span * unit
    return moved.clamp(*bounds)


def _over_axes(values: Tensor, like: Tensor) -> Tensor:
    """Values (n,) with axes of length 1 added, so that they broadcast against (n, ...)."""
    return values.view(-1, *[1] * (like.dim() - 1))
