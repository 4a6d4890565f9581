"""Class activation maps from gradients: a layer's activations at each place, weighted by the gradients there.

Maps are computed on the layer's own grid and enlarged to the input's size, linearly along each axis with half-pixel
centres. The fact ``contrast`` is, for each sample, (largest - smallest) / largest absolute value of the map on the
layer's grid: a map of contrast 0 is the same everywhere.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.explainers._at_layer import MapLayer, mapped
from harness.explainers._cam import CAM, RECTIFIED, SIGNED, CamOptions, full_size_map, sum_over_channels
from harness.registry import explainer
from harness.samples import Samples

Combine = Callable[[Tensor, Tensor], Tensor]  # activations and gradients (n, C, *grid) to maps (n, 1, *grid)

_GRADIENTS = {**CAM, "cost": "1 F 1 B"}


@explainer(signed=False, **_GRADIENTS, tunable={"relu": (False,)})
def grad_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
) -> Tensor:
    """Grad-CAM: a layer's activations summed over its channels, each channel weighted by its mean gradient, and
    rectified (Selvaraju et al. 2017, 1610.02391).

    Shape (N, 1, H, W), of a series (N, 1, T), of a volume (N, 1, D, H, W); at least 0 unless ``relu`` is off; in units
    of the logit. Not applicable to models without a layer of more than one place, to layers called more than once, and
    where no gradient reaches the layer.

    Example: pooled(image) = sum of the pixels less the sum of relu(pixel - 2). Its layer has the two channels pixel and
    relu(pixel - 2), with the gradients 1 and -1 at each place, so that the map is their difference.

    >>> harness.explain("grad_cam", pooled, image, target)
    tensor([[[[1., 2.],
              [2., 2.]]]])
    """

    def weighted(values: Tensor, gradients: Tensor) -> Tensor:
        return sum_over_channels(gradients.flatten(2).mean(2), values)

    return _from_gradients(model, targets, context, prepared, weighted, cam)


@explainer(signed=False, **_GRADIENTS, tunable={"relu": (False,)})
def grad_cam_pp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
) -> Tensor:
    """Grad-CAM++: Grad-CAM with channel weights that sum the positive gradients, each divided so that large and small
    regions count alike (Chattopadhyay et al. 2018, 1710.11063).

    Shape, unit and limits as of ``grad_cam``. The paper explains Y = exp(S) of the logit S and takes S as piecewise
    linear in the activations A. With g = dS/dA, the second and third derivatives of Y are then Y g^2 and Y g^3, and
    equation 19 becomes alpha = g^2 / (2 g^2 + g^3 sum A), the sum over the channel's places. A channel's weight is the
    sum of alpha max(g, 0) over its places; alpha is 0 where g is. The factor Y is left out: it is the same for all
    weights of a sample, so it changes no order, and exp(S) overflows. The released code also divides the alphas of
    each channel by their sum, which the paper does not. If activations are at least 0, as in the paper, alpha is at
    most 1/2; otherwise its denominator can come near 0. The fact ``least_denominator`` is, for each sample, the
    smallest 2 + g sum A where g > 0.

    Example: of the two channels in ``grad_cam``'s example only the first has positive gradients, 1 at each of 4 places.
    Its activations sum to 10, so its weight is 4 / (2 + 10) = 1/3.

    >>> harness.explain("grad_cam_pp", pooled, image, target)
    tensor([[[[0.3333, 0.6667],
              [1.0000, 1.3333]]]])
    """

    def weighted(values: Tensor, gradients: Tensor) -> Tensor:
        values_flat, positive = values.flatten(2), gradients.flatten(2).relu()
        denominator = 2 + positive * values_flat.sum(2, keepdim=True)
        maps = sum_over_channels((positive / denominator.where(positive > 0, 1)).sum(2), values)
        context.tell(least_denominator=denominator.where(positive > 0, torch.inf).flatten(1).amin(1))
        return maps

    return _from_gradients(model, targets, context, prepared, weighted, cam)


@explainer(signed=False, **_GRADIENTS, tunable={"relu": (False,)})
def xgrad_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
) -> Tensor:
    """XGrad-CAM: Grad-CAM with each channel's gradients averaged with the channel's activations as weights (Fu et al.
    2020, 2008.02312).

    Shape, unit and limits as of ``grad_cam``; rectified as in the released code. A channel's weight is sum g A / sum A
    over its places, and 0 for a channel of zeros. Without ``relu`` the map on the layer's grid sums to gradient x
    activation.

    Example: the two channels have gradients that are the same at all places, 1 and -1, so their weighted means are
    those of ``grad_cam``.

    >>> harness.explain("xgrad_cam", pooled, image, target)
    tensor([[[[1., 2.],
              [2., 2.]]]])
    """

    def weighted(values: Tensor, gradients: Tensor) -> Tensor:
        values_flat = values.flatten(2)
        whole = values_flat.sum(2).where((values_flat != 0).any(2), 1)
        return sum_over_channels((gradients.flatten(2) * values_flat).sum(2) / whole, values)

    return _from_gradients(model, targets, context, prepared, weighted, cam)


@explainer(**_GRADIENTS, tunable={"relu": (True,)})
def hires_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = SIGNED,
) -> Tensor:
    """HiResCAM: gradient x activation at each place of a layer, summed over its channels (Draelos and Carin 2020,
    2011.08891).

    Shape, unit and limits as of ``grad_cam``, but signed: ``relu`` is off by default. Where a single linear layer
    follows the layer, directly or after pooling, the map on the layer's grid sums to the logit less the bias.

    Example: the two channels pixel and relu(pixel - 2) have the gradients 1 and -1. The map sums to pooled(image) = 7.

    >>> harness.explain("hires_cam", pooled, image, target)
    tensor([[[[1., 2.],
              [2., 2.]]]])
    """
    return _from_gradients(
        model, targets, context, prepared, lambda values, gradients: (gradients * values).sum(1, True), cam
    )


@explainer(signed=False, **_GRADIENTS, tunable={"relu": (False,)})
def layer_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
) -> Tensor:
    """LayerCAM: positive gradient x activation at each place of a layer, summed over its channels and rectified (Jiang
    et al. 2021, doi 10.1109/TIP.2021.3089943).

    Shape, unit and limits as of ``grad_cam``. The paper's fusion of several layers and its scaling of early ones are
    left out.

    Example: of the two channels pixel and relu(pixel - 2) only the first has positive gradients, all of them 1.

    >>> harness.explain("layer_cam", pooled, image, target)
    tensor([[[[1., 2.],
              [3., 4.]]]])
    """
    return _from_gradients(
        model, targets, context, prepared, lambda values, gradients: (gradients.relu() * values).sum(1, True), cam
    )


def _from_gradients(
    model: nn.Module, targets: Tensor, context: Samples, layer: MapLayer, combine: Combine, cam: CamOptions
) -> Tensor:
    return full_size_map(mapped(model, layer, context, combine, targets), context, layer, cam.relu)
