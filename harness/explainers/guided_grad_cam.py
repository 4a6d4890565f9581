"""Guided Grad-CAM: the fine detail of guided backpropagation where the coarse map of Grad-CAM is positive."""

from torch import Tensor, nn

from harness.explainers._at_layer import MapLayer
from harness.explainers._cam import CAM, RECTIFIED, CamOptions
from harness.explainers.cam import grad_cam
from harness.explainers.guided import guided_gradient
from harness.registry import explainer
from harness.samples import Samples


@explainer(**CAM, convention="local", cost="2 F 2 B", tunable={"relu": (False,)})
def guided_grad_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
) -> Tensor:
    """Guided backpropagation times Grad-CAM enlarged to the input (Selvaraju et al. 2017, 1610.02391).

    Inputs' shape; squared logit per unit of input. ``layer`` and ``relu`` are those of ``grad_cam``; its map is
    enlarged bilinearly, as in the paper. Not applicable where one of the two methods is not.

    Example: pooled(image) = sum of the pixels less the sum of relu(pixel - 2). Guided backpropagation drops the
    negative gradient of the second sum and gives 1 for each pixel; Grad-CAM gives pixel - relu(pixel - 2).

    >>> harness.explain("guided_grad_cam", pooled, image, target)
    tensor([[[[1., 2.],
              [2., 2.]]]])
    """
    coarse = grad_cam(model, inputs, targets, context=context, prepared=prepared, cam=cam)
    return guided_gradient(model, inputs, targets, context) * coarse
