"""Explainers that add up gradients along paths from a baseline to the input."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import UserError, unknown
from harness.explainers._coalitions import check_number
from harness.explainers._gradients import gradients_at, summed_gradients, tell_completeness, visit
from harness.explainers._guided import approach
from harness.explainers.noise import noisy
from harness.randomness import uniform
from harness.registry import explainer
from harness.removal.baselines import is_random, make_baseline
from harness.samples import Samples

# Where each rule has its nodes: at the left end, in the middle or at the right end of equal parts of the path.
# A trapezoid rule in captum's manner is left out: its n weights sum to 1 - 1/n.
RIEMANN = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}
QUADRATURES = ("gausslegendre", *RIEMANN)


@explainer(complete_to="baseline", cost="steps F steps B")
def integrated_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    steps: int = 50,
    baseline: str | Tensor = "zero",
    method: str = "gausslegendre",
) -> Tensor:
    """The gradient averaged along the straight line from a baseline to the input, times their difference (Sundararajan
    et al. 2017, 1703.01365).

    Inputs' shape; logit; the sum tends to f(x) - f(baseline) as ``steps`` grow, and the audit tells how near it is.
    ``steps`` forward and backward passes at the nodes of ``method``: ``gausslegendre``, ``riemann_left``,
    ``riemann_middle`` or ``riemann_right``. A random baseline is its draw 0. Not applicable as ``gradient``.
    """
    check_number("steps", steps, 1)
    removed, (places, weights) = context.baseline(baseline), _tensors_like(inputs, *_quadrature(method, steps))

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        return torch.lerp(removed[sample], inputs[sample], _broadcastable(places[draw], inputs))

    def weigh(sample: Tensor, draw: Tensor, gradients: Tensor) -> Tensor:
        return gradients * _broadcastable(weights[draw], inputs)

    return (inputs - removed) * summed_gradients(model, context, targets, steps, build, weigh)


@explainer(stochastic=True, cost="samples F samples B")
def expected_gradients(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: int = 50,
    baseline: str = "train_sample",
    noise: float = 0.0,
) -> Tensor:
    """The gradient at random points between the input and random baselines, times their difference, averaged (Erion et
    al. 2019, 1906.10670).

    Inputs' shape; logit; the expected sum is f(x) - E f(baseline). ``samples`` pairs of a draw of the random
    ``baseline`` and a place on the line, the k-th in the k-th of equal parts of it: draws are independent, so the mean
    stays unbiased, and varies less. GradientSHAP (Lundberg and Lee 2017, 1705.07874) is the same estimate at noisy
    inputs: ``noise`` is its standard deviation over (largest - smallest value of the sample). ValueError for a
    baseline that is not random. Not applicable as ``gradient``, and to ``train_sample`` without training inputs.
    """
    if not is_random(baseline):
        raise UserError(f"baseline is {baseline!r}, expected a random one, or integrated_gradients for a fixed one")
    pairs = _Pairs(context, samples, baseline, noise)

    def weigh(sample: Tensor, draw: Tensor, gradients: Tensor) -> Tensor:
        return gradients * pairs.differences.view(gradients.shape)

    return summed_gradients(model, context, targets, samples, pairs.points, weigh) / samples


@explainer(complete_to="baseline", cost="steps F steps B")
def guided_ig(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    steps: int = 50,
    baseline: str | Tensor = "zero",
    fraction: float = 0.25,
    max_dist: float = 0.02,
) -> Tensor:
    """The gradient added up along a path that moves numbers of small gradient first (Guided Integrated Gradients:
    Kapishnikov et al. 2021, 2106.09788).

    Inputs' shape; logit; the sum tends to f(x) - f(baseline) as ``steps`` grow; the audit tells how near it is. Each
    step shortens the distance to the input (sum of absolute differences) by the same length, moving the ``fraction``
    of numbers with the smallest gradients first; none is further than ``max_dist`` of the way from where the straight
    line is, and 0 is that line. Equal gradients move together. A random baseline is its draw 0. Not applicable as
    ``gradient``.
    """
    check_number("steps", steps, 1)
    check_number("max_dist", max_dist, 0, whole=False)
    check_number("fraction", fraction, 0, whole=False)
    if fraction > 1:
        raise UserError(f"fraction is {fraction}, expected a number from 0 to 1")
    removed = context.baseline(baseline)
    start, end = (each.double().flatten(1) for each in (removed, inputs))
    at, answer = start, torch.zeros_like(start)
    for step in range(steps):
        slope = gradients_at(model, context, targets, at.view(inputs.shape).to(inputs.dtype)).double().flatten(1)
        moved = approach(at, start, end, slope, (step + 1) / steps, fraction, max_dist)
        at, answer = moved, answer + (moved - at) * slope
    return answer.view(inputs.shape).to(inputs.dtype)


@explainer(complete_to="baseline", cost="steps + 1 F steps + 1 B")
def idgi(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    steps: int = 50,
    baseline: str | Tensor = "zero",
) -> Tensor:
    """The change of the logit in each step along the line from a baseline to the input, shared out by the squared
    gradient where the step begins (Yang et al. 2023, 2303.14242).

    Inputs' shape; logit; the sum is f(x) - f(baseline) but for steps that begin where the gradient is exactly 0, whose
    change nothing is given: ``completeness_error`` is told. Within a step all attributions have the sign of its
    change. A random baseline is its draw 0. Not applicable as ``gradient``.
    """
    check_number("steps", steps, 1)
    removed, answer = context.baseline(baseline), torch.zeros_like(inputs)
    shares = torch.zeros_like(inputs)  # of the last step that has begun
    logits = torch.zeros(len(inputs), steps + 1, dtype=torch.float64, device=inputs.device)

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        return torch.lerp(removed[sample], inputs[sample], _broadcastable(draw.to(inputs.dtype) / steps, inputs))

    def use(sample: Tensor, draw: Tensor, gradients: Tensor, found: Tensor) -> None:
        logits[sample[:, None], draw] = found.double()
        own = torch.cat([shares[sample, None], _squared_shares(gradients)], 1)
        change = logits[sample[:, None], draw] - logits[sample[:, None], (draw - 1).clamp(min=0)]
        answer[sample] += (own[:, :-1] * _broadcastable(change.to(inputs.dtype), own, 2)).sum(1)
        shares[sample] = own[:, -1]

    visit(model, context, targets, steps + 1, build, use)
    tell_completeness(context, answer, logits[:, -1] - logits[:, 0])
    return answer


class _Pairs:
    """Points between random baselines and the inputs, and ``differences`` (rows, ...) of the ends last asked for."""

    def __init__(self, context: Samples, samples: int, baseline: str, noise: float) -> None:
        self.ends = noisy(context, samples, noise, "expected_gradients noise")
        train = None if context.train is None else context.train.to(context.inputs)  # once, not at every draw
        self.context, self.baseline = replace(context, train=train), baseline
        parts = torch.arange(samples, device=context.inputs.device)
        self.places = (parts + uniform(context.stream("expected_gradients places"), samples)) / samples
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
    if method not in QUADRATURES:
        raise unknown("method", method, QUADRATURES)
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + nodes) / 2, weights / 2
    return (np.arange(steps) + RIEMANN[method]) / steps, np.full(steps, 1 / steps)


def _tensors_like(like: Tensor, *arrays: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(each).to(like) for each in arrays)


def _broadcastable(values: Tensor, like: Tensor, axes: int = 1) -> Tensor:
    """Values (...) of the first ``axes`` axes, so that they broadcast against ``like``."""
    return values.reshape(*values.shape, *[1] * (like.dim() - axes))


def _squared_shares(gradients: Tensor) -> Tensor:
    """Squared gradients (s, d, ...) as shares of their sum over a point's numbers; 0 where all are 0."""
    flat = gradients.flatten(2)
    squares = (flat / flat.abs().amax(2, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)) ** 2
    return (squares / squares.sum(2, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)).view(gradients.shape)
