"""Methods from gradients as captum computes them where that differs from the publication: flagged, not ranked.

They are shown beside the methods as published, so that a reader sees what a paper that used captum has measured.
"""

import torch
from torch import Tensor, nn

from harness.explainers._captum import captum_answer, captum_target, copy_for_captum, number_of_differentiable_outputs
from harness.explainers._layers import ANY_LAYER, LayerOption, layer_of_options
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.samples import Samples

ONLY_RELU_MODULES = "it sees nn.ReLU modules alone: of ReLU functions, ReLU6, GELU and others it gives the gradient"


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

    Inputs' shape; logit. Not applicable where captum has no rule for a module, like ``Flatten``, ``GELU`` or the
    parametrizations of weights. It does not see functions that are not modules, and gives no warning of them. A copy of
    a model in float16 computes in float32, as captum's epsilon, 1e-9, is 0 in float16.

    Example: f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2) at (1, 3), where the gradient is (1, 0). The result is
    input x gradient, as is that of ``lrp`` on ReLU nets without convolutions and biases.

    >>> harness.explain("captum_lrp", relu_net, x, target)
    tensor([[1., 0.]])
    """
    from captum.attr import LRP

    # It leaves activations on the modules, and deletes a module's own rule after its first call: hence a copy.
    twin = copy_for_captum(model)
    if inputs.dtype == torch.float16:
        twin, inputs = twin.float(), inputs.float()
    return captum_answer(lambda: LRP(twin).attribute(inputs, target=captum_target(targets, prepared)))


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
    baseline: BaselineName | Tensor = "zero",
) -> Tensor:
    """DeepLift with the rescale rule as captum gives it (Shrikumar et al. 2017, 1704.02685).

    Inputs' shape; logit. A copy of a model in float16 computes in float32, as captum's least difference, 1e-10, is 0 in
    float16. Not applicable where a module is used more than once, as in torchvision's ResNets.

    Example: f(x) = x1 x2 at (1, 3) from (0, 0). The product is no module that captum knows, so it gives input x
    gradient, (3, 3), which does not sum to f(x) = 3.

    >>> harness.explain("captum_deep_lift", product, x, target)
    tensor([[3., 3.]])
    """
    from captum.attr import DeepLift

    removed = context.baseline(baseline)
    if inputs.dtype == torch.float16:
        model, inputs, removed = copy_for_captum(model).float(), inputs.float(), removed.float()
    return captum_answer(lambda: DeepLift(model).attribute(inputs, removed, captum_target(targets, prepared)))


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

    return captum_answer(lambda: GuidedBackprop(model).attribute(inputs, captum_target(targets, prepared)))


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

    return captum_answer(lambda: Deconvolution(model).attribute(inputs, captum_target(targets, prepared)))


@explainer(
    access="activations",
    modalities=("image", "series", "volume"),
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

    module, classes = model.get_submodule(prepared[0]), captum_target(targets, prepared[1])
    return captum_answer(lambda: GuidedGradCam(model, module).attribute(inputs, classes))
