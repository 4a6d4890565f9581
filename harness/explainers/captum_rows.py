"""What captum gives for methods that it computes otherwise than published: its own numbers, flagged and not ranked.

They stand beside the methods as published, so that a reader sees what a paper that used the library has measured.
"""

import copy
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from harness.checks import class_count, first_line
from harness.errors import NotApplicable
from harness.explainers._coalitions import check_number
from harness.explainers._layers import choose_layer
from harness.registry import explainer
from harness.samples import Samples

ONLY_RELU_MODULES = "it sees nn.ReLU modules alone: of ReLU functions, ReLU6, GELU and others it gives the gradient"


def number_of_outputs(model: nn.Module, context: Samples, /, **options: object) -> int:
    """How many outputs the model has."""
    return class_count(context.predictor.logits(context.inputs[:1]))


def number_of_differentiable_outputs(model: nn.Module, context: Samples, /, **options: object) -> int:
    """How many outputs the model has; NotApplicable where no gradient of them reaches the input."""
    one = context.inputs[:1].clone().requires_grad_()
    with torch.enable_grad():
        outputs = model(one.clone())
        reached = outputs.requires_grad and torch.autograd.grad(outputs.sum(), one, allow_unused=True)[0] is not None
    if not reached:
        raise NotApplicable("no gradient of the model's output reaches its input")
    return class_count(outputs)


def layer_and_number_of_outputs(model: nn.Module, context: Samples, /, **options: object) -> tuple[str, int]:
    """The layer that ``grad_cam`` takes, and how many outputs the model has."""
    return choose_layer(model, context, **options).name, number_of_differentiable_outputs(model, context)


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

    Inputs' shape; logit. Not applicable where captum has no rule for a module, like ``Flatten`` or ``GELU``. Functions
    that are not modules it does not see: it says nothing of them.
    """
    from captum.attr import LRP

    # It leaves activations on the modules, and a rule it was given goes with its first call: a copy takes both.
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
    model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: tuple[str, int], layer: str | None = None
) -> Tensor:
    """Guided backpropagation times the enlarged Grad-CAM as captum gives it (Selvaraju et al. 2017, 1610.02391).

    Inputs' shape; no unit of its own. ``layer`` is a dotted module name, by default the one ``grad_cam`` takes.
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
    samples: int = 50,
    segments: str | Tensor = "auto",
    baseline: str | Tensor = "zero",
) -> Tensor:
    """LIME as captum gives it with its default model, a Lasso of penalty 0.01 (Ribeiro et al. 2016, 1602.04938).

    Inputs' shape; logit; a segment's coefficient stands at each of its units. ``samples`` evaluations of each sample.
    """
    from captum.attr import Lime

    return _on_segments(Lime(model), inputs, _captum_target(targets, prepared), context, samples, segments, baseline)


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
    samples: int = 25,
    segments: str | Tensor = "auto",
    baseline: str | Tensor = "zero",
) -> Tensor:
    """KernelSHAP as captum gives it (Lundberg and Lee 2017, 1705.07874).

    Inputs' shape; logit; a segment's value stands at each of its units. ``samples`` evaluations of each sample.
    """
    from captum.attr import KernelShap

    return _on_segments(
        KernelShap(model), inputs, _captum_target(targets, prepared), context, samples, segments, baseline
    )


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

    Inputs' shape; logit; the sum is f(x) - f(baseline) in expectation. ``samples`` places, with Gaussian noise of
    standard deviation ``noise`` on the input; the baselines of the batch are the set it draws from.
    """
    check_number("samples", samples, 1)
    check_number("noise", noise, 0, whole=False)
    from captum.attr import GradientShap

    removed, classes = context.baseline(baseline), _captum_target(targets, prepared)
    return _captum_answer(lambda: GradientShap(model).attribute(inputs, removed, samples, noise, classes))


def _on_segments(
    method: Any,
    inputs: Tensor,
    classes: Tensor | None,
    context: Samples,
    samples: int,
    segments: str | Tensor,
    baseline: str | Tensor,
) -> Tensor:
    """What a method of captum's that removes segments gives, at its own pace of one evaluation at a time."""
    check_number("samples", samples, 1)
    units, removed = context.units, context.baseline(baseline)
    labels = units.expand(context.segments(segments).labels)
    found = _captum_answer(lambda: method.attribute(inputs, removed, classes, feature_mask=labels, n_samples=samples))
    # A column's value stands at each of the numbers that encode it; it is the column's once.
    return found[:, [units.columns.index(unit) for unit in range(units.count)]] if units.grouped else found


def _captum_target(targets: Tensor, outputs: int) -> Tensor | None:
    """What captum calls the target: the class of each sample, or None where the model has a single output."""
    return None if outputs == 1 else targets


def _captum_answer(attribute: Callable[[], Tensor]) -> Tensor:
    """What captum answers; NotApplicable in its own words where it does not serve the model."""
    with _captum_refusals(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it sets hooks
        return attribute()


@contextmanager
def _captum_refusals() -> Iterator[None]:
    """Turn what captum itself raises into NotApplicable; what torch or the model raise, out of memory say, is a
    failure."""
    try:
        yield
    except (TypeError, RuntimeError, AssertionError) as error:
        innermost = list(traceback.walk_tb(error.__traceback__))[-1][0]
        if not innermost.f_globals.get("__name__", "").startswith("captum."):
            raise
        raise NotApplicable(f"captum: {first_line(error)}") from error
