"""Integrated Hessians: Integrated Gradients of Integrated Gradients, which are interactions of pairs."""

import math
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.completeness import promised
from harness.errors import NotApplicable, one_line
from harness.explainers._coalitions import spread
from harness.explainers._gradients import Differentiate, gradient_of, tell_completeness, visit, zeros_to_sum
from harness.explainers._operations import OperationRule, Operations, operations_visible
from harness.explainers._relus import relu_rules
from harness.explainers.paths import FROM_ZERO, PathOptions
from harness.option_types import TRIED_STARTS, Range
from harness.registry import explainer
from harness.removal.segments import Segmentation, Segments
from harness.samples import Samples
from harness.units import segment_sums

LEAKY = ("leaky_relu", "rrelu", "prelu")


@explainer(
    complete_to="baseline", pairs=True, cost="(steps + 1) F, steps x (K + 1) B", tunable={"baseline": TRIED_STARTS}
)
def integrated_hessians(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    path: PathOptions = FROM_ZERO,
    segments: Segmentation | Tensor = "few",
    beta: Annotated[float, Range(1e-3, 1e6)] | None = None,
) -> Tensor:
    """Integrated Hessians of pairs of segments, of which the map is the sum: Integrated Gradients (Janizek et al. 2020,
    2002.04138).

    ``harness.interactions`` gives the matrices (N, K, K). The entry of two numbers is the product of their distances
    from the baseline times the mean of a b d2f / dx_i dx_j at the places a b of the straight line, for a and b in 0..1;
    on the diagonal the distance times the mean of df / dx_i is added, the main effect. Numbers are added up by segment.
    Each row sums to the Integrated Gradients of its segment, and all to f(x) - f(baseline), as ``steps`` grow; the
    fact ``completeness_error`` measures how near it is. The map has one channel; logit. A segment's value is shared
    equally by its units.

    The place z = a b has the density -ln z, so that one integral replaces the two of the paper and of the released
    code, which takes the square root of its number of steps for each. ReLUs have no second derivative. As in the paper
    ``beta`` puts softplus(``beta`` z) / ``beta`` in their place: then another function is explained, which is nearer
    to the model the larger ``beta``, and needs the more ``steps``. Without it not applicable to models with ReLUs;
    never to models with leaky ReLUs, nor where torch has no second derivative. Of other functions with straight pieces,
    such as max pooling, what bends is missed: then the sum is flagged.

    Example: of f(x) = x1 x2 the second derivative is 1 and the mean of a b is 1/4: the interaction is 1 x 3 / 4. The
    other half of f(x) = 3 is in the main effects, since a column's gradient from (0, 0) on depends on the other.

    >>> harness.interactions(product, x, target, explainer="integrated_hessians").values
    tensor([[[0.7500, 0.7500],
             [0.7500, 0.7500]]])
    >>> harness.explain("integrated_hessians", product, x, target)
    tensor([[1.5000, 1.5000]])
    """
    start, own = context.baseline(path.baseline), context.segments(segments)
    wide = zeros_to_sum(inputs)
    places, weights = (torch.from_numpy(each).to(wide) for each in quadrature_of_products(path.steps))
    matrices = wide.new_zeros(len(inputs), own.most, own.most)

    def build(sample: Tensor, draw: Tensor) -> Tensor:
        place = places.to(inputs)[draw].view(-1, *[1] * (inputs.dim() - 1))
        return torch.lerp(start[sample], inputs[sample], place)

    def use(sample: Tensor, draw: Tensor, derivatives: Tensor, logits: Tensor) -> None:
        first, second = derivatives[:, :, 0], derivatives[:, :, 1:]
        weight = weights[draw]
        matrices[sample] += torch.einsum("d,sdij->sij", weight * places[draw], second)
        matrices[sample] += torch.diag_embed(torch.einsum("d,sdi->si", weight, first))

    by_segment = _derivatives_by_segment(context, own, (inputs - start).to(wide))
    visit(_Smooth(model, beta), context, targets, path.steps, build, use, by_segment)
    matrices = (matrices + matrices.mT) / 2  # equal but for rounding
    context.tell_pairs(matrices, own)
    tell_completeness(context, matrices.sum(2), promised(context, "baseline", {"baseline": path.baseline}))
    return context.units.as_map(spread(matrices.sum(2), own))


def quadrature_of_products(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Places z and weights in (0, 1) for the mean of a function of the product of two uniform numbers.

    It is the integral of -ln(z) g(z). With z = u^3 the integrand is smooth enough at 0 for Gauss and Legendre's nodes:
    the mean of 1 is off by 2e-6 with 10 nodes, and by 2e-10 with 50.
    """
    u, weights = np.polynomial.legendre.leggauss(nodes)
    u, weights = (1 + u) / 2, weights / 2
    return u**3, weights * 3 * u**2 * -3 * np.log(u)


def _derivatives_by_segment(context: Samples, segments: Segments, change: Tensor) -> Differentiate:
    """A function that gives derivatives times the changes, (rows, 1 + K, K): the first ones, and the second below."""

    def summed(gradient: Tensor, sample: Tensor) -> Tensor:
        per_unit = context.units.reduce(gradient.to(change) * change[sample])
        return segment_sums(per_unit, segments.labels[sample], segments.most)

    def differentiate(logits: Tensor, points: Tensor, sample: Tensor) -> Tensor:
        first = summed(gradient_of(logits, points, create_graph=True), sample)
        second = [summed(_second_gradient(each, points), sample) for each in first.unbind(1)]
        return torch.stack([first, *second], 1).detach()

    return differentiate


def _second_gradient(first: Tensor, points: Tensor) -> Tensor:
    """The gradient of first derivatives (rows,); 0 where they are constant. NotApplicable where torch has none."""
    if not first.requires_grad:
        return torch.zeros_like(points)
    try:
        second = torch.autograd.grad(first.sum(), points, retain_graph=True, allow_unused=True)[0]
    except RuntimeError as error:
        if "is not implemented" not in str(error):  # torch's words, in a plain RuntimeError
            raise
        raise NotApplicable(f"the model has no second derivatives: {one_line(error)[:150]}") from error
    return torch.zeros_like(points) if second is None else second


class _Smooth(nn.Module):
    """The model with softplus functions of sharpness ``beta`` in the place of its ReLUs."""

    def __init__(self, model: nn.Module, beta: float | None) -> None:
        super().__init__()
        self.model = model
        self.rules = {**dict.fromkeys(LEAKY, _refuse), **_smoothed_relus(beta)}

    def forward(self, inputs: Tensor) -> Any:
        """The outputs; NotApplicable where the model has activations without second derivatives."""
        with operations_visible(self.model), Operations(self.rules):
            return self.model(inputs)


def _smoothed_relus(beta: float | None) -> dict[str, OperationRule]:
    def instead(x: Tensor, y: Tensor, cap: float) -> Tensor:
        if beta is None:
            raise NotApplicable("the ReLUs of the model have no second derivatives; softplus has (give beta=10)")
        smooth = F.softplus(x, beta)
        return smooth if math.isinf(cap) else smooth - F.softplus(x - cap, beta)

    return relu_rules(instead)


def _refuse(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> NoReturn:
    name = getattr(function, "__name__", "an activation")
    raise NotApplicable(f"the model's {name} has no second derivatives, and only ReLUs are replaced by softplus")
