"""Methods that draw samples as captum computes them where that differs from the publication: flagged, not ranked.

They are shown beside the methods as published, so that a reader sees what a paper that used captum has measured.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._captum import (
    captum_answer,
    captum_target,
    number_of_differentiable_outputs,
    number_of_outputs,
)
from harness.option_types import Count, NotNegative
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.removal.segments import Segmentation
from harness.samples import Samples


@dataclass(frozen=True)
class CaptumSegments:
    """Options of captum's explainers that remove segments.

    samples    model evaluations of each sample
    segments   which units go together: a name (``harness.removal.segments``) or a tensor (N, *units)
    baseline   what a removed segment becomes: a name (``harness.removal.baselines``) or a tensor of one input's shape
    """

    samples: Count
    segments: Segmentation | Tensor = "auto"
    baseline: BaselineName | Tensor = "zero"


# As many samples as are captum's own defaults.
LIME_SEGMENTS, SHAP_SEGMENTS = CaptumSegments(samples=50), CaptumSegments(samples=25)


@explainer(
    access="forward",
    stochastic=True,
    prepare=number_of_outputs,
    cost="samples + 1 F",
    source="captum",
    breaks=("company", "nonzero"),
    caveat="all zeros if outputs are small compared with its Lasso penalty of 0.01; its draws depend on the batch",
)
def captum_lime(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: int,
    removal: CaptumSegments = LIME_SEGMENTS,
) -> Tensor:
    """LIME as captum gives it with its default model, a Lasso of penalty 0.01 (Ribeiro et al. 2016, 1602.04938).

    Inputs' shape; logit; each unit gets its segment's whole coefficient.

    Example: f(x) = 2 x1 - x2 at (0.001, 0.003), whose contributions (0.002, -0.003) are small beside the penalty 0.01:
    captum's Lasso makes all coefficients 0. ``lime`` does not.

    >>> harness.explain("captum_lime", linear, x / 1000, target).abs()
    tensor([[0., 0.]])
    """
    from captum.attr import Lime

    return _on_segments(Lime(model), inputs, captum_target(targets, prepared), context, removal)


@explainer(
    access="forward",
    complete_to="baseline",
    stochastic=True,
    prepare=number_of_outputs,
    cost="samples + 1 F",
    source="captum",
    breaks=("company",),
    caveat="every unit gets the whole value of its segment, so large segments count for more; its draws depend on the "
    "batch",
)
def captum_kernel_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: int,
    removal: CaptumSegments = SHAP_SEGMENTS,
) -> Tensor:
    """KernelSHAP as captum gives it (Lundberg and Lee 2017, 1705.07874).

    Inputs' shape; logit; each unit gets its segment's whole value.

    Example: pooled(image) = sum of the pixels less the sum of relu(pixel - 2). The first three pixels, one segment, add
    5 to it, the last one 2. Each of the three gets the whole 5, where ``kernel_shap`` gives it 5/3.

    >>> segments = torch.tensor([[[0, 0], [0, 1]]])
    >>> harness.explain("captum_kernel_shap", pooled, image, target, segments=segments).round(decimals=4)
    tensor([[[[5., 5.],
              [5., 2.]]]])
    """
    if context.segments(removal.segments).most < 2:
        raise NotApplicable("the inputs have a single segment, from which captum's KernelSHAP cannot draw a coalition")
    from captum.attr import KernelShap

    return _on_segments(KernelShap(model), inputs, captum_target(targets, prepared), context, removal)


@explainer(
    complete_to="baseline",
    stochastic=True,
    prepare=number_of_differentiable_outputs,
    cost="samples F samples B",
    source="captum",
    breaks=("company",),
    renamed={"noise": "absolute_noise"},
    caveat="its draws depend on the batch, and on the seeds of both torch and numpy",
)
def captum_gradient_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: int,
    samples: Count = 5,
    absolute_noise: NotNegative = 0.0,
    baseline: BaselineName | Tensor = "zero",
) -> Tensor:
    """GradientSHAP as captum gives it: gradients at random places between baseline and input (Lundberg and Lee 2017,
    1705.07874).

    Inputs' shape; logit; the expected sum is f(x) - f(baseline). It takes ``samples`` places, with Gaussian noise of
    the standard deviation ``absolute_noise`` on the input, and draws the baselines from those of the whole batch.

    Example: the gradient of f(x) = 2 x1 - x2 is the same at all places, so that no draw matters: 2 * 1 and -1 * 3.

    >>> harness.explain("captum_gradient_shap", linear, x, target)
    tensor([[ 2., -3.]])
    """
    from captum.attr import GradientShap

    removed, classes = context.baseline(baseline), captum_target(targets, prepared)
    # It draws places in float32, which a model of half precision does not take.
    cast = lambda points: model(points.to(inputs.dtype))
    wide = torch.promote_types(inputs.dtype, torch.float32)
    inputs_wide, removed_wide = inputs.to(wide), removed.to(wide)
    return captum_answer(
        lambda: GradientShap(cast).attribute(inputs_wide, removed_wide, samples, absolute_noise, classes)
    )


class _FittedToNumbers:
    """A linear model of captum's that has only NaN as coefficients where an output that it is fitted to is not finite.

    Scikit-learn refuses to fit it to these, which would end the explanation of the other samples too.
    """

    def __init__(self, model: Any) -> None:
        self.model, self.coefficients = model, None

    def fit(self, loader: Any, **options: Any) -> Any:
        """Fit the model to the batches of a loader, as captum asks it to."""
        chosen, outputs, _ = loader.dataset.tensors
        self.coefficients = None if outputs.isfinite().all() else chosen.new_full((1, chosen.shape[1]), float("nan"))
        return self.model.fit(loader, **options) if self.coefficients is None else None

    def representation(self) -> Tensor:
        """The coefficients (1, segments)."""
        return self.model.representation() if self.coefficients is None else self.coefficients


def _on_segments(
    method: Any, inputs: Tensor, classes: Tensor | None, context: Samples, removal: CaptumSegments
) -> Tensor:
    """The result of one of captum's methods that remove segments, which evaluates one input at a time."""
    units, removed = context.units, context.baseline(removal.baseline)
    method.interpretable_model = _FittedToNumbers(method.interpretable_model)
    mask = units.expand(context.segments(removal.segments).labels)
    answer = captum_answer(
        lambda: method.attribute(inputs, removed, classes, feature_mask=mask, n_samples=removal.samples)
    )
    # Captum gives a column's value at each of the numbers that encode it; the column itself has it once.
    return answer[:, [units.columns.index(unit) for unit in range(units.count)]] if units.grouped else answer
