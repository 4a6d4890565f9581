"""Methods as captum computes them where that differs from the publication: captum's own numbers, flagged, not ranked.

They are shown beside the methods as published, so that a reader sees what a paper that used captum has measured.
"""

import copy
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.checks import class_count, first_line
from harness.errors import NotApplicable
from harness.explainers._coalitions import check_number
from harness.explainers._layers import ANY_LAYER, LayerOption, layer_of_options
from harness.registry import explainer
from harness.samples import Samples


@dataclass(frozen=True)
class CaptumSegments:
    """Options of captum's explainers that remove segments.

    samples    model evaluations of each sample
    segments   which units go together: a name (``harness.removal.segments``) or a tensor (N, *units)
    baseline   what a removed segment becomes: a name (``harness.removal.baselines``) or a tensor of one input's shape
    """

    samples: int
    segments: str | Tensor = "auto"
    baseline: str | Tensor = "zero"


# As many samples as are captum's own defaults.
LIME_SEGMENTS, SHAP_SEGMENTS = CaptumSegments(samples=50), CaptumSegments(samples=25)

ONLY_RELU_MODULES = "it sees nn.ReLU modules alone: of ReLU functions, ReLU6, GELU and others it gives the gradient"


def number_of_outputs(model: nn.Module, context: Samples, /, **options: object) -> int:
    """The number of the model's outputs."""
    return class_count(context.predictor.logits(context.inputs[:1]))


def number_of_differentiable_outputs(model: nn.Module, context: Samples, /, **options: object) -> int:
    """The number of the model's outputs; NotApplicable where no gradient of them reaches the input."""
    one = context.inputs[:1].clone().requires_grad_()
    with torch.enable_grad():
        outputs = model(one.clone())
        reached = outputs.requires_grad and torch.autograd.grad(outputs.sum(), one, allow_unused=True)[0] is not None
    if not reached:
        raise NotApplicable("no gradient of the model's output reaches its input")
    return class_count(outputs)


def layer_and_number_of_outputs(model: nn.Module, context: Samples, /, **options: object) -> tuple[str, int]:
    """The name of the layer that ``grad_cam`` uses, and the number of the model's outputs."""
    layer = layer_of_options(model, context, **options)
    return layer.name, number_of_differentiable_outputs(model, context)


@explainer(
    complete_to="output",
    prepare=number_of_differentiable_outputs,
    cost="2 F 1 B",
    source="captum",
    caveat="under its default rules it is input x gradient",
)
def captum_lrp(model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: int) -> Tensor:
    """Layer-wise relevance propagation as captum gives it under its default rules, all epsilon (Bach et al. 2015,
    doi 10.1371/journal.pone.0130140).

    Inputs' shape; logit. Not applicable where captum has no rule for a module, like ``Flatten`` or ``GELU``. It does
    not see functions that are not modules, and gives no warning of them.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3), where the gradient is (1, 0). The result is
    input x gradient, which ``lrp`` with its default rule is not.

    >>> harness.explain("captum_lrp", relu_net, x, target)
    tensor([[1., 0.]])
    """
    from captum.attr import LRP

    # It leaves activations on the modules, and deletes a module's own rule after its first call: hence a copy.
    return _captum_answer(lambda: LRP(copy.deepcopy(model)).attribute(inputs, target=_captum_target(targets, prepared)))


@explainer(
    complete_to="baseline",
    prepare=number_of_differentiable_outputs,
    cost="2 F 2 B",
    source="captum",
    caveat="its contributions do not add up where a ReLU meets a max-pool; of ReLU functions, ReLU6, GELU and "
    "LayerNorm it gives input x gradient",
)
def captum_deep_lift(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: int,
    baseline: str | Tensor = "zero",
) -> Tensor:
    """DeepLift with the rescale rule as captum gives it (Shrikumar et al. 2017, 1704.02685).

    Inputs' shape; logit. Not applicable where a module is used more than once, as in torchvision's ResNets.

    Example: f(x) = x1 x2 at (1, 3) from (0, 0). The product is no module that captum knows, so it gives input x
    gradient, (3, 3), which does not sum to f(x) = 3.

    >>> harness.explain("captum_deep_lift", product, x, target)
    tensor([[3., 3.]])
    """
    from captum.attr import DeepLift

    removed = context.baseline(baseline)
    return _captum_answer(lambda: DeepLift(model).attribute(inputs, removed, _captum_target(targets, prepared)))


@explainer(
    convention="local",
    prepare=number_of_differentiable_outputs,
    cost="1 F 1 B",
    source="captum",
    caveat=ONLY_RELU_MODULES,
)
def captum_guided_backprop(model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: int) -> Tensor:
    """Guided backpropagation as captum gives it (Springenberg et al. 2014, 1412.6806).

    Inputs' shape; logit per unit of input.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3). On ``nn.ReLU`` modules, as here, captum's result
    is that of ``guided_backprop``.

    >>> harness.explain("captum_guided_backprop", relu_net, x, target)
    tensor([[1., 1.]])
    """
    from captum.attr import GuidedBackprop

    return _captum_answer(lambda: GuidedBackprop(model).attribute(inputs, _captum_target(targets, prepared)))


@explainer(
    convention="local",
    prepare=number_of_differentiable_outputs,
    cost="1 F 1 B",
    source="captum",
    caveat=ONLY_RELU_MODULES,
)
def captum_deconvnet(model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: int) -> Tensor:
    """The deconvnet as captum gives it (Zeiler and Fergus 2013, 1311.2901).

    Inputs' shape; logit per unit of input.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3). On ``nn.ReLU`` modules, as here, captum's result
    is that of ``deconvnet``.

    >>> harness.explain("captum_deconvnet", relu_net, x, target)
    tensor([[2., 0.]])
    """
    from captum.attr import Deconvolution

    return _captum_answer(lambda: Deconvolution(model).attribute(inputs, _captum_target(targets, prepared)))


@explainer(
    access="activations",
    modalities=("image",),
    convention="local",
    prepare=layer_and_number_of_outputs,
    cost="2 F 2 B",
    source="captum",
    caveat=f"{ONLY_RELU_MODULES}; the map is enlarged by nearest neighbours",
)
def captum_guided_grad_cam(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: tuple[str, int], cam: LayerOption = ANY_LAYER
) -> Tensor:
    """Guided backpropagation times the enlarged Grad-CAM as captum gives it (Selvaraju et al. 2017, 1610.02391).

    Inputs' shape; squared logit per unit of input. ``layer`` is a dotted module name, by default the layer of
    ``grad_cam``.

    Example: pooled(image) = sum of the pixels less the sum of relu(pixel - 2). The layer's grid is that of the image
    and its ReLU is a module, so that captum's result is that of ``guided_grad_cam``.

    >>> harness.explain("captum_guided_grad_cam", pooled, image, target)
    tensor([[[[1., 2.],
              [2., 2.]]]])
    """
    from captum.attr import GuidedGradCam

    module, classes = model.get_submodule(prepared[0]), _captum_target(targets, prepared[1])
    return _captum_answer(lambda: GuidedGradCam(model, module).attribute(inputs, classes))


@explainer(
    access="forward",
    stochastic=True,
    prepare=number_of_outputs,
    cost="samples + 1 F",
    source="captum",
    breaks=("company", "nonzero"),
    caveat="all zeros where outputs are small beside its Lasso penalty of 0.01; its draws depend on the batch",
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

    return _on_segments(Lime(model), inputs, _captum_target(targets, prepared), context, removal)


@explainer(
    access="forward",
    complete_to="baseline",
    stochastic=True,
    prepare=number_of_outputs,
    cost="samples + 1 F",
    source="captum",
    breaks=("company",),
    caveat="a segment's value stands at each of its units, so that large segments count for more; its draws depend on "
    "the batch",
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
    from captum.attr import KernelShap

    return _on_segments(KernelShap(model), inputs, _captum_target(targets, prepared), context, removal)


@explainer(
    complete_to="baseline",
    stochastic=True,
    prepare=number_of_differentiable_outputs,
    cost="samples F samples B",
    source="captum",
    breaks=("company",),
    caveat="its draws depend on the batch, and on the seeds of both torch and numpy",
)
def captum_gradient_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: int,
    samples: int = 5,
    noise: float = 0.0,
    baseline: str | Tensor = "zero",
) -> Tensor:
    """GradientSHAP as captum gives it: gradients at random places between baseline and input (Lundberg and Lee 2017,
    1705.07874).

    Inputs' shape; logit; the expected sum is f(x) - f(baseline). It takes ``samples`` places, with Gaussian noise of
    the standard deviation ``noise`` on the input, and draws the baselines from those of the whole batch.

    Example: the gradient of f(x) = 2 x1 - x2 is the same at all places, so that no draw matters: 2 * 1 and -1 * 3.

    >>> harness.explain("captum_gradient_shap", linear, x, target)
    tensor([[ 2., -3.]])
    """
    check_number("samples", samples, 1)
    check_number("noise", noise, 0, whole=False)
    from captum.attr import GradientShap

    removed, classes = context.baseline(baseline), _captum_target(targets, prepared)
    return _captum_answer(lambda: GradientShap(model).attribute(inputs, removed, samples, noise, classes))


def _on_segments(
    method: Any, inputs: Tensor, classes: Tensor | None, context: Samples, removal: CaptumSegments
) -> Tensor:
    """The result of one of captum's methods that remove segments, which evaluates one input at a time."""
    check_number("samples", removal.samples, 1)
    units, removed = context.units, context.baseline(removal.baseline)
    mask = units.expand(context.segments(removal.segments).labels)
    answer = _captum_answer(
        lambda: method.attribute(inputs, removed, classes, feature_mask=mask, n_samples=removal.samples)
    )
    # Captum gives a column's value at each of the numbers that encode it; the column itself has it once.
    return answer[:, [units.columns.index(unit) for unit in range(units.count)]] if units.grouped else answer


def _captum_target(targets: Tensor, outputs: int) -> Tensor | None:
    """The target as captum expects it: the class of each sample, or None where the model has a single output."""
    return None if outputs == 1 else targets


def _captum_answer(attribute: Callable[[], Tensor]) -> Tensor:
    """Captum's result; NotApplicable with captum's message where it cannot serve the model."""
    with _captum_refusals(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its warning that it sets hooks
        return attribute()


@contextmanager
def _captum_refusals() -> Iterator[None]:
    """Turn errors that captum itself raises into NotApplicable; errors of torch or of the model pass unchanged."""
    try:
        yield
    except (TypeError, RuntimeError, AssertionError) as error:
        innermost = list(traceback.walk_tb(error.__traceback__))[-1][0]
        if not innermost.f_globals.get("__name__", "").startswith("captum."):
            raise
        raise NotApplicable(f"captum: {first_line(error)}") from error
