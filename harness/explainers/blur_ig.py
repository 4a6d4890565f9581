"""Blur Integrated Gradients: gradients added up while an input is blurred more and more."""

import torch
from torch import Tensor, nn

from harness.explainers._gradients import tell_completeness, visit, zeros_to_sum
from harness.option_types import Count, Sigma
from harness.registry import explainer
from harness.samples import Samples

STEP = 0.01  # of sigma, in which the change of the blurred input is measured
TRUNCATED = 4.0  # standard deviations at which the kernel ends


@explainer(
    modalities=("image", "series", "volume"),
    cost="steps + 1 F steps + 1 B",
    tunable={"steps": (400,), "max_sigma": (5.0, 20.0)},
)
def blur_ig(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    steps: Count = 100,
    max_sigma: Sigma = 50.0,
) -> Tensor:
    """Blur Integrated Gradients: the gradient times the change of the input, added up on the path from the input to its
    blurred version (Xu et al. 2020, 2004.03383).

    Inputs' shape; logit. The path consists of Gaussian blurs whose standard deviation grows in ``steps`` equal parts
    from 0 to ``max_sigma`` (in pixels or time steps); beyond the border the input counts as 0. The left-hand sum and
    the finite difference are those of the released code, and so is the border. The sum tends to f(x) - f(blurred x) as
    ``steps`` grow; the fact ``completeness_error`` measures how near it is. Not applicable as ``gradient``.

    Example: of a sum of pixels the gradient is 1 everywhere, so that each pixel gets what it loses by the blur; a blur
    as wide as this one leaves nothing.

    >>> harness.explain("blur_ig", redness, torch.full((1, 3, 2, 2), 0.4), target, steps=1000).sum(1).round(decimals=2)
    tensor([[[0.1000, 0.1000],
             [0.1000, 0.1000]]])
    """
    blurs, answer = _Blurs(context, steps, max_sigma), zeros_to_sum(inputs)
    logits = torch.zeros(len(inputs), steps + 1, dtype=torch.float64, device=inputs.device)

    def use(sample: Tensor, draw: Tensor, gradients: Tensor, new: Tensor) -> None:
        logits[sample[:, None], draw] = new.double()
        inner = draw < steps  # the last point only tells the sum
        if not inner.any():
            return
        changes = blurs.changes(sample, draw[inner]).to(answer)
        answer[sample] -= (gradients.to(answer)[:, inner] * changes).sum(1) * (max_sigma / steps)

    visit(model, context, targets, steps + 1, blurs.points, use)
    tell_completeness(context, answer, logits[:, 0] - logits[:, -1])
    return answer


class _Blurs:
    """The blurred inputs of a path, numbered by sample and step."""

    def __init__(self, context: Samples, steps: int, max_sigma: float) -> None:
        self.inputs, self.sizes = context.inputs, context.units.shape
        self.sigmas = torch.arange(steps + 1, dtype=torch.float64, device=context.inputs.device) * max_sigma / steps

    def points(self, sample: Tensor, draw: Tensor) -> Tensor:
        """The blurred inputs (rows, ...) of pairs of sample and step numbers."""
        return self._blurred(sample, self.sigmas[draw]).to(self.inputs)

    def changes(self, sample: Tensor, draw: Tensor) -> Tensor:
        """The changes (s, d, ...) of the blurred inputs per unit of sigma."""
        rows, sigmas = sample.repeat_interleave(len(draw)), self.sigmas[draw].repeat(len(sample))
        change = (self._blurred(rows, sigmas + STEP) - self._blurred(rows, sigmas)) / STEP
        return change.unflatten(0, (len(sample), len(draw)))

    def _blurred(self, sample: Tensor, sigmas: Tensor) -> Tensor:
        """Inputs (rows, ...) in float64: the changes of one step are small beside float32's rounding."""
        values, (own, which) = self.inputs[sample].double(), sigmas.unique(return_inverse=True)
        for axis, size in enumerate(self.sizes, start=2):
            moved = values.movedim(axis, 1)
            blurred = blur_matrices(size, own)[which] @ moved.flatten(2)
            values = blurred.view(moved.shape).movedim(1, axis)
        return values


def blur_matrices(size: int, sigmas: Tensor) -> Tensor:
    """Matrices (k, size, size), float64, that blur an axis by Gaussian kernels of these standard deviations (k,).

    Kernels end at 4 standard deviations; beyond the border values count as 0.
    """
    radius = (TRUNCATED * sigmas + 0.5).long()
    distance = torch.arange(int(radius.max()) + 2, dtype=torch.float64, device=sigmas.device)
    weights = torch.exp(-0.5 * (distance / sigmas.clamp(min=1e-9)[:, None]) ** 2)
    weights = weights * (distance <= radius[:, None])  # the last one is 0 for all
    weights = weights / (2 * weights.sum(1) - weights[:, 0])[:, None]
    places = torch.arange(size, device=sigmas.device)
    return weights[:, (places[:, None] - places).abs().clamp(max=len(distance) - 1)]
