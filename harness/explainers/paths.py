"""Explainers that add up gradients along a path from a baseline to the input."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.explainers._gradients import gradients_at, summed_gradients, tell_completeness, visit, zeros_to_sum
from harness.explainers._guided import approach
from harness.explainers._scales import scales_of_paths
from harness.explainers.noise import NoisyCopies, noisy
from harness.option_types import TRIED_STARTS, ChangeOrNone, Count, NotNegative, Range, Share
from harness.randomness import uniform
from harness.registry import explainer
from harness.removal.baselines import BaselineName, RandomBaseline, make_baseline
from harness.samples import Samples

# Where each rule has its nodes: at the left end, in the middle or at the right end of equal parts of the path.
# A trapezoid rule as captum has it is left out: its n weights sum to 1 - 1/n.
RIEMANN = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}
# The nodes of Gauss and Legendre take the time of an eigenvalue problem of this size.
PathSteps = Annotated[int, Range(1, 10_000)]


@dataclass(frozen=True)
class PathOptions:
    """Options of a path from a baseline to the input.

    steps      the number of parts or nodes of the path, one forward and one backward pass each
    baseline   where the path begins: a name (``harness.removal.baselines``) or a tensor of one input's shape; of a
               random baseline it is the draw 0
    """

    steps: PathSteps = 50
    baseline: BaselineName | Tensor = "zero"


FROM_ZERO = PathOptions()


@explainer(complete_to="baseline", cost="steps F steps B", tunable={"steps": (20, 200), "baseline": TRIED_STARTS})
def integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    path: PathOptions = FROM_ZERO,
    method: Literal["gausslegendre", "riemann_left", "riemann_middle", "riemann_right"] = "gausslegendre",
) -> Tensor:
    """Integrated Gradients: the gradient averaged along the straight line from a baseline to the input, times their
    difference (Sundararajan et al. 2017, 1703.01365).

    Inputs' shape; logit. The sum tends to f(x) - f(baseline) as ``steps`` grow; the audit measures how near it is.
    ``method`` places the ``steps`` nodes: ``gausslegendre``, ``riemann_left``, ``riemann_middle`` or
    ``riemann_right``. Not applicable as ``gradient``.

    Example: of f(x) = x1 x2 the mean gradient between (0, 0) and (1, 3) is (1.5, 0.5). Times (1, 3) it is 1.5 for both,
    and f(x) = 3 in all.

    >>> harness.explain("integrated_gradients", product, x, target)
    tensor([[1.5000, 1.5000]])
    """
    nodes, shares = _quadrature(method, path.steps)
    places, weights = _as_tensor(nodes, inputs), _as_tensor(shares, zeros_to_sum(inputs))
    start = context.baseline(path.baseline)

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        return torch.lerp(start[sample], inputs[sample], _broadcastable(places[draw], inputs))

    def weigh(sample: Tensor, draw: Tensor, gradients: Tensor) -> Tensor:
        return gradients * _broadcastable(weights[draw], inputs)

    return (inputs - start) * summed_gradients(model, context, targets, path.steps, build, weigh)


@explainer(
    stochastic=True,
    cost="samples F samples B",
    tunable={"samples": (200,), "baseline": ("gaussian_noise", "uniform_noise"), "noise": (0.1,)},
)
def expected_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Count = 50,
    baseline: RandomBaseline = "train_sample",
    noise: ChangeOrNone = 0.0,
) -> Tensor:
    """Expected Gradients: the gradient at random points between the input and random baselines, times their difference,
    averaged (Erion et al. 2019, 1906.10670).

    Inputs' shape; logit; the expected sum is f(x) - E f(baseline). Each of the ``samples`` is a draw of the random
    ``baseline`` and a place on the line to it; the k-th place is drawn from the k-th of equal parts of the line. The
    draws are independent, so that the mean is unbiased, and varies less than with places anywhere. GradientSHAP
    (Lundberg and Lee 2017, 1705.07874) is the same estimate at noisy inputs: ``noise`` is its standard deviation, as a
    share of each number's scale as in ``smoothgrad``. ValueError for a baseline that is not random. Not applicable as
    ``gradient``, and to ``train_sample`` without training inputs.

    Example: of f(x) = 2 x1 - x2 at (1, 3) with (0, 1) as the only training input: 2 (1 - 0) and -(3 - 1).

    >>> harness.explain("expected_gradients", linear, x, target, train=torch.tensor([[0.0, 1.0]])).round(decimals=4)
    tensor([[ 2., -2.]])
    """
    pairs = _Pairs(context, NoisyCopies(samples, noise), baseline)

    def weigh(sample: Tensor, draw: Tensor, gradients: Tensor) -> Tensor:
        return gradients * pairs.differences.view(gradients.shape)

    return summed_gradients(model, context, targets, samples, pairs.points, weigh) / samples


@explainer(
    complete_to="baseline",
    cost="steps F steps B",
    tunable={"baseline": TRIED_STARTS, "fraction": (0.1, 0.5), "max_dist": (0.1, 1.0)},
)
def guided_ig(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    path: PathOptions = FROM_ZERO,
    fraction: Share = 0.25,
    max_dist: NotNegative = 0.02,
) -> Tensor:
    """Guided Integrated Gradients: the gradient added up along a path that first moves the numbers with small gradients
    (Kapishnikov et al. 2021, 2106.09788).

    Inputs' shape; logit. The sum tends to f(x) - f(baseline) as ``steps`` grow; the audit measures how near it is. Each
    step shortens the distance to the input (sum of absolute differences) by the same length: it moves the ``fraction``
    of numbers with the smallest gradients first. Distances and gradients are in units of each number's scale, which
    pixels have in common and a table's columns do not (``harness.explainers._scales``). No number is further than
    ``max_dist`` of its way from the place that it has on the straight line; 0 is that line. Numbers with equal
    gradients move together. Not applicable as ``gradient``.

    Example: f(x) = x1 x2 from (0, 0) to (1, 3) along the straight line, where it gives what ``integrated_gradients``
    does. The gradient is taken where each step begins, so that 1000 steps are off by 1.5 / 1000.

    >>> harness.explain("guided_ig", product, x, target, steps=1000, max_dist=0.0)
    tensor([[1.4985, 1.4985]])
    """
    start = context.baseline(path.baseline)
    unit = scales_of_paths(context, start).double().flatten(1)
    start, end = (each.double().flatten(1) / unit for each in (start, inputs))
    at, answer = start, torch.zeros_like(start)
    for step in range(path.steps):
        point = (at * unit).view(inputs.shape).to(inputs.dtype)
        slope = gradients_at(model, context, targets, point).double().flatten(1) * unit
        moved = approach(at, start, end, slope, (step + 1) / path.steps, fraction, max_dist)
        at, answer = moved, answer + (moved - at) * slope
    return answer.view(inputs.shape).to(inputs.dtype)


@explainer(
    complete_to="baseline", cost="steps + 1 F steps + 1 B", tunable={"steps": (20, 200), "baseline": TRIED_STARTS}
)
def idgi(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, path: PathOptions = FROM_ZERO
) -> Tensor:
    """IDGI: the change of the logit in each step along the line from a baseline to the input, shared out in proportion
    to the squared gradient where the step begins (Yang et al. 2023, 2303.14242).

    Inputs' shape; logit. The sum is f(x) - f(baseline) less the changes in steps that begin where the gradient is
    exactly 0, which are given to no number; the fact ``completeness_error`` is the share that is missing. Within a step
    all attributions have the sign of its change. Gradients are in units of each number's scale, which pixels have in
    common and a table's columns do not (``harness.explainers._scales``). Not applicable as ``gradient``.

    Example: f(x) = x1 x2 from (0, 0) to (1, 3) has a gradient in the direction (3, 1) along the whole line. Its squares
    share f(x) = 3 as 9 : 1, less the first step, which begins where the gradient is 0.

    >>> harness.explain("idgi", product, x, target, steps=1000)
    tensor([[2.7000, 0.3000]])
    """
    steps, start, answer = path.steps, context.baseline(path.baseline), zeros_to_sum(inputs)
    shares = torch.zeros_like(answer)  # of the last step that has begun
    logits = torch.zeros(len(inputs), steps + 1, dtype=torch.float64, device=inputs.device)
    unit = scales_of_paths(context, start).to(answer)

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        return torch.lerp(start[sample], inputs[sample], _broadcastable(draw.to(inputs.dtype) / steps, inputs))

    def use(sample: Tensor, draw: Tensor, gradients: Tensor, new: Tensor) -> None:
        logits[sample[:, None], draw] = new.double()
        own = torch.cat([shares[sample, None], _squared_shares(gradients.to(answer) * unit[sample, None])], 1)
        change = logits[sample[:, None], draw] - logits[sample[:, None], (draw - 1).clamp(min=0)]
        answer[sample] += (own[:, :-1] * _broadcastable(change.to(answer), own, 2)).sum(1)
        shares[sample] = own[:, -1]

    visit(model, context, targets, steps + 1, build, use)
    tell_completeness(context, answer, logits[:, -1] - logits[:, 0])
    return answer


class _Pairs:
    """Points between random baselines and noisy copies of the inputs.

    differences   (rows, ...) of copies and baselines, of the points that were last asked for
    """

    def __init__(self, context: Samples, copies: NoisyCopies, baseline: str) -> None:
        self.ends = noisy(context, copies, "expected_gradients noise")
        train = None if context.train is None else context.train.to(context.inputs)  # once, not at every draw
        self.context, self.baseline = replace(context, train=train), baseline
        parts = torch.arange(copies.samples, device=context.inputs.device)
        drawn = uniform(context.stream("expected_gradients places"), copies.samples)
        self.places = (parts + drawn) / copies.samples
        self.differences = context.inputs[:0]

    def points(self, sample: Tensor, draw: Tensor) -> Tensor:
        """The points (rows, ...) of pairs of a sample and a draw."""
        start, end = self._starts(sample, draw), self.ends(sample, draw)
        self.differences = end - start
        return torch.lerp(start, end, _broadcastable(self.places[sample, draw].to(end), end))

    def _starts(self, sample: Tensor, draw: Tensor) -> Tensor:
        start = torch.empty_like(self.context.inputs[sample])
        for number in draw.unique().tolist():
            rows = draw == number
            start[rows] = make_baseline(self.context.take(sample[rows]), self.baseline, number)
        return start


def _quadrature(method: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes in [0, 1] and weights that sum to 1."""
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + nodes) / 2, weights / 2
    return (np.arange(steps) + RIEMANN[method]) / steps, np.full(steps, 1 / steps)


def _as_tensor(array: np.ndarray, like: Tensor) -> Tensor:
    """The array as a tensor of the dtype and on the device of ``like``."""
    return torch.from_numpy(array).to(like)


def _broadcastable(values: Tensor, like: Tensor, axes: int = 1) -> Tensor:
    """Values with ``axes`` axes, with axes of length 1 added so that they broadcast against ``like``."""
    return values.reshape(*values.shape, *[1] * (like.dim() - axes))


def _squared_shares(gradients: Tensor) -> Tensor:
    """Squared gradients (s, d, ...) as shares of their sum over a point's numbers; 0 where all are 0."""
    flat = gradients.flatten(2)
    squares = (flat / flat.abs().amax(2, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)) ** 2
    return (squares / squares.sum(2, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)).view(gradients.shape)
