"""Class activation maps: a layer's activations at each place, with or without weights for its channels.

Maps are computed on the layer's own grid and enlarged to the input's size, linearly along each axis with half-pixel
centres. The fact ``contrast`` is, for each sample, (largest - smallest) / largest absolute value of the map on the
layer's grid: a map of contrast 0 is the same everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.explainers._at_layer import MapLayer, activations, enlarged, mapped
from harness.explainers._layers import ANY_LAYER, LayerOption, layer_of_options
from harness.predictor import pick
from harness.registry import explainer
from harness.samples import Samples

Combine = Callable[[Tensor, Tensor], Tensor]  # activations and gradients (n, C, *grid) to maps (n, 1, *grid)

LEAST_MEAN = 1e-4  # of the activations' norm: below it their mean over the channels is rounding


@dataclass(frozen=True)
class CamOptions(LayerOption):
    """Options of the class activation maps.

    layer   a dotted module name; by default the last layer whose output has several places
            (``harness.explainers._layers.choose_layer``)
    relu    whether negative numbers of the map become 0
    """

    relu: bool = True


RECTIFIED = CamOptions()
SIGNED = CamOptions(relu=False)

_FORWARD = {"access": "activations", "modalities": ("image", "series"), "prepare": layer_of_options}
_GRADIENTS = {**_FORWARD, "cost": "1 F 1 B"}


@explainer(signed=False, **_GRADIENTS)
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

    Shape (N, 1, H, W), of a series (N, 1, T); at least 0 unless ``relu`` is off; in units of the logit. Not applicable
    to models without a layer of more than one place, to layers called more than once, and where no gradient reaches
    the layer.

    Example: pooled(image) = sum of the pixels less the sum of relu(pixel - 2). Its layer has the two channels pixel and
    relu(pixel - 2), with the gradients 1 and -1 at each place, so that the map is their difference.

    >>> harness.explain("grad_cam", pooled, image, target)
    tensor([[[[1., 2.],
              [2., 2.]]]])
    """

    def weighted(values: Tensor, gradients: Tensor) -> Tensor:
        return _sum_over_channels(gradients.flatten(2).mean(2), values)

    return _from_gradients(model, targets, context, prepared, weighted, cam)


@explainer(signed=False, **_GRADIENTS)
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
        maps = _sum_over_channels((positive / denominator.where(positive > 0, 1)).sum(2), values)
        context.tell(least_denominator=denominator.where(positive > 0, torch.inf).flatten(1).amin(1))
        return maps

    return _from_gradients(model, targets, context, prepared, weighted, cam)


@explainer(signed=False, **_GRADIENTS)
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
        return _sum_over_channels((gradients.flatten(2) * values_flat).sum(2) / whole, values)

    return _from_gradients(model, targets, context, prepared, weighted, cam)


@explainer(**_GRADIENTS)
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


@explainer(signed=False, **_GRADIENTS)
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


@explainer(signed=False, cost="C + 1 F", **_FORWARD)  # C: channels of the layer
def score_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
    score: str = "logit",
    softmax: bool = True,
    baseline: str | Tensor = "zero",
) -> Tensor:
    """Score-CAM: a layer's activations summed over its channels, each weighted by the score of the input that is masked
    by this channel (Wang et al. 2020, 1910.01279).

    Shape (N, 1, H, W), of a series (N, 1, T); at least 0 unless ``relu`` is off; in units of the activations. Each
    channel, enlarged to the input's size and then scaled to 0..1, is a mask H. The model gets input H + baseline
    (1 - H); in the paper, input H. With ``softmax`` off, a channel's weight is the increase of the ``score`` over that
    of the baseline alone (the paper's definition 5). With ``softmax``, it is the softmax of the scores over the
    channels (its algorithm 1, of logits), in which the baseline's score cancels. A channel with the same value
    everywhere masks nothing and gets weight 0. Limits as of ``grad_cam``, except that no gradient is needed.

    Example: the channels pixel and relu(pixel - 2) mask the image to (0, 2/3, 2, 4) and (0, 0, 1.5, 4), whose scores
    are 4.667 and 3.5. The map is 4.667 pixel + 3.5 relu(pixel - 2).

    >>> harness.explain("score_cam", pooled, image, target, softmax=False)
    tensor([[[[ 4.6667,  9.3333],
              [17.5000, 25.6667]]]])
    """
    values = activations(model, prepared, context)
    flat = values.flatten(2).amax(2) == values.flatten(2).amin(2)
    masked = context.masked(values.shape[1], _masks(values, context), baseline)
    scores = pick(masked, score).double()
    if softmax:
        shares = scores.masked_fill(flat, -torch.inf).softmax(1)
        weights = shares.where(~flat.all(1, keepdim=True), 0)
    else:
        weights = (scores - pick(context.emptied(baseline), score)[:, None]).where(~flat, 0)
    return _full_size_map(_sum_over_channels(weights.to(values), values), context, prepared, cam.relu)


@explainer(signed=False, cost="1 F", **_FORWARD)
def eigen_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: LayerOption = ANY_LAYER,
    centred: bool = False,
) -> Tensor:
    """Eigen-CAM: a layer's activations projected on their first right singular vector, for every class the same
    (Muhammad and Yeasin 2020, 2008.00299).

    Shape (N, 1, H, W), of a series (N, 1, T); in units of the activations. The matrix that is decomposed is (places,
    channels); ``centred`` subtracts each channel's mean first, which the paper does not. The sign of a singular vector
    is arbitrary: here it is chosen so that the map's product with the mean activation is positive, and so that
    activations of at least 0 give a map of at least 0. Where that mean is 0, as after a layer norm, it is chosen so
    that the map's sum is positive. Limits as of ``grad_cam``, except that no gradient is needed.

    Example: the channels pixel and relu(pixel - 2) give the rows (1, 0), (2, 0), (3, 1), (4, 2). The first singular
    vector is about (0.94, 0.35), and the map is the product of each row with it.

    >>> harness.explain("eigen_cam", pooled, image, target)
    tensor([[[[0.9356, 1.8712],
              [3.1599, 4.4485]]]])
    """
    values = activations(model, prepared, context)
    points = values.flatten(2).transpose(1, 2)
    mean = points.mean(2)
    points = points - points.mean(1, keepdim=True) if centred else points
    first = torch.linalg.svd(points, full_matrices=False).Vh[:, 0]
    projection = (points @ first[:, :, None])[..., 0]
    along = (projection * mean).sum(1, keepdim=True)
    # After a layer norm the mean is 0 up to rounding, and rounding must not decide the sign.
    no_mean = mean.norm(dim=1, keepdim=True) < LEAST_MEAN * points.norm(dim=(1, 2))[:, None]
    negative = torch.where(no_mean, projection.sum(1, keepdim=True), along) < 0
    upright = torch.where(negative, -projection, projection)
    return _full_size_map(upright.view(-1, 1, *prepared.layout.grid), context, prepared, relu=False)


@explainer(signed=False, cost="1 F", **_FORWARD)
def activation_map(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: LayerOption = ANY_LAYER,
) -> Tensor:
    """The mean absolute activation over a layer's channels, for every class the same: where the layer is active at all
    (Zagoruyko and Komodakis 2017, 1612.03928).

    Shape (N, 1, H, W), of a series (N, 1, T); at least 0; in units of the activations. The paper sums over the
    channels. Limits as of ``grad_cam``, except that no gradient is needed.

    Example: the mean of the two channels pixel and relu(pixel - 2).

    >>> harness.explain("activation_map", pooled, image, target)
    tensor([[[[0.5000, 1.0000],
              [2.0000, 3.0000]]]])
    """
    coarse = activations(model, prepared, context).abs().mean(1, keepdim=True)
    return _full_size_map(coarse, context, prepared, relu=False)


def _from_gradients(
    model: nn.Module, targets: Tensor, context: Samples, layer: MapLayer, combine: Combine, cam: CamOptions
) -> Tensor:
    return _full_size_map(mapped(model, layer, context, combine, targets), context, layer, cam.relu)


def _full_size_map(coarse: Tensor, context: Samples, layer: MapLayer, relu: bool) -> Tensor:
    """Maps (N, 1, *grid), rectified or not, at the input's size; tells the facts ``layer`` and ``contrast``."""
    coarse = coarse.relu() if relu else coarse
    flat = coarse.flatten(1)
    largest = flat.abs().amax(1)
    context.tell(layer=layer.name, contrast=(flat.amax(1) - flat.amin(1)) / largest.where(largest > 0, 1))
    return enlarged(coarse, context.units.shape)


def _sum_over_channels(weights: Tensor, values: Tensor) -> Tensor:
    """Activations (n, C, *grid) summed over their channels with weights (n, C): (n, 1, *grid)."""
    return torch.einsum("nc,nc...->n...", weights, values)[:, None]


def _masks(values: Tensor, context: Samples) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that makes masks (rows, *units) from index vectors (rows,) of samples and channels.

    A mask is the channel enlarged to the input's size and scaled to 0..1; it is 0 if all values are the same.
    """

    def masks(sample: Tensor, channel: Tensor) -> Tensor:
        large = enlarged(values[sample, channel][:, None], context.units.shape)[:, 0]
        flat = large.flatten(1)
        low, span = flat.amin(1), flat.amax(1) - flat.amin(1)
        scaled = (flat - low[:, None]) / span.where(span > 0, 1)[:, None]
        return scaled.view_as(large)

    return masks
