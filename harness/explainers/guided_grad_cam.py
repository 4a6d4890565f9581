"""Guided Grad-CAM: fine detail where a coarse map says that it matters."""

from torch import Tensor, nn

from harness.explainers._at_layer import MapLayer
from harness.explainers._layers import choose_layer
from harness.explainers.cam import grad_cam
from harness.explainers.guided import guided_gradient
from harness.registry import explainer
from harness.samples import Samples


@explainer(
    access="activations", modalities=("image", "series"), convention="local", cost="2 F 2 B", prepare=choose_layer
)
def guided_grad_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    relu: bool = True,
) -> Tensor:
    """Guided backpropagation times Grad-CAM enlarged to the input (Selvaraju et al. 2017, 1610.02391).

    Inputs' shape; logit squared per unit of input. ``layer`` and ``relu`` are Grad-CAM's; the map is enlarged
    bilinearly, as in the paper. Not applicable where one of the two is not.
    """
    coarse = grad_cam(model, inputs, targets, context=context, prepared=prepared, layer=layer, relu=relu)
    return guided_gradient(model, inputs, targets, context) * coarse
