"""Activation maps: what a layer gives at each place, with or without weights that say how much it matters there.

Maps are computed on the layer's own grid and enlarged to the input's linearly along each axis, with half-pixel centres.
``contrast`` tells for each sample (largest - smallest) / largest absolute value of the map on the layer's grid: 0 is a
map that says nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.explainers._at_layer import MapLayer, activations, mapped
from harness.explainers._layers import choose_layer
from harness.predictor import pick
from harness.registry import explainer
from harness.samples import Samples

Combine = Callable[[Tensor, Tensor], Tensor]  # activations and gradients (n, C, *grid) to maps (n, 1, *grid)

LEAST_MEAN = 1e-4  # of the activations' norm: below it their mean over the channels is rounding

_GRADIENTS = {
    "access": "activations",
    "modalities": ("image", "series"),
    "cost": "1 F 1 B",
    "prepare": choose_layer,
}


@explainer(signed=False, **_GRADIENTS)
def grad_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    relu: bool = True,
) -> Tensor:
    """A layer's activations, summed over its channels with the channels' mean gradients as weights, and rectified
    (Selvaraju et al. 2017, 1610.02391).

    (N, 1, H, W), of a series (N, 1, T); at least 0 unless ``relu`` is off; logit. ``layer`` is a dotted module name; by
    default the last layer that has a place (``choose_layer``). Not applicable to models without a layer that has more
    than one place, to layers called more than once, and where no gradient reaches the layer.
    """

    def weighted(values: Tensor, gradients: Tensor) -> Tensor:
        return _sum_over_channels((gradients.flatten(2).mean(2)), values)

    return _from_gradients(model, inputs, targets, context, prepared, weighted, relu)


@explainer(signed=False, **_GRADIENTS)
def grad_cam_pp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    relu: bool = True,
) -> Tensor:
    """Grad-CAM++: a layer's activations, with weights that sum the positive gradients of each channel, each with a
    share that makes up for the channel's extent (Chattopadhyay et al. 2018, 1710.11063).

    As ``grad_cam``. The paper explains Y = exp(S) of the logit S, and takes S as piecewise linear in the activations
    A: then Y's second and third derivatives are Y g^2 and Y g^3 with g = dS/dA, and its share (equation 19) is
    alpha = g^2 / (2 g^2 + g^3 sum A), the sum over the channel's places. A channel weighs sum alpha max(g, 0) over its
    places; 0 where g is. The factor Y, common to a sample's weights, is left out: it changes no order, and exp(S)
    overflows. The released code further divides each channel's alpha by their sum, which the paper does not. For
    activations of at least 0, as the paper has them, alpha is at most 1/2; after other activations its denominator can
    come near 0: ``least_denominator`` tells for each sample the smallest 2 + g sum A where g > 0.
    """

    def weighted(values: Tensor, gradients: Tensor) -> Tensor:
        values_flat, positive = values.flatten(2), gradients.flatten(2).relu()
        denominator = 2 + positive * values_flat.sum(2, keepdim=True)
        maps = _sum_over_channels((positive / denominator.where(positive > 0, 1)).sum(2), values)
        context.tell(least_denominator=denominator.where(positive > 0, torch.inf).flatten(1).amin(1))
        return maps

    return _from_gradients(model, inputs, targets, context, prepared, weighted, relu)


@explainer(signed=False, **_GRADIENTS)
def xgrad_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    relu: bool = True,
) -> Tensor:
    """XGrad-CAM: a layer's activations, with the mean of each channel's gradients, weighted by its activations, as its
    weight (Fu et al. 2020, 2008.02312).

    As ``grad_cam``, rectified as in the released code. A channel's weight is sum g A / sum A over its places; 0 for a
    channel of zeros. Without ``relu`` the map on the layer's grid has the sum of gradient x activation.
    """

    def weighted(values: Tensor, gradients: Tensor) -> Tensor:
        values_flat = values.flatten(2)
        whole = values_flat.sum(2).where((values_flat != 0).any(2), 1)
        return _sum_over_channels((gradients.flatten(2) * values_flat).sum(2) / whole, values)

    return _from_gradients(model, inputs, targets, context, prepared, weighted, relu)


@explainer(**_GRADIENTS)
def hires_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    relu: bool = False,
) -> Tensor:
    """HiResCAM: gradient x activation at each place of a layer, summed over its channels (Draelos and Carin 2020,
    2011.08891).

    As ``grad_cam``, but signed: it is rectified with ``relu`` only. Where a single linear layer follows the layer,
    directly or after pooling, the map on the layer's grid sums to the logit less the bias.
    """
    return _from_gradients(
        model, inputs, targets, context, prepared, lambda values, gradients: (gradients * values).sum(1, True), relu
    )


@explainer(signed=False, **_GRADIENTS)
def layer_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    relu: bool = True,
) -> Tensor:
    """LayerCAM: positive gradient x activation at each place of a layer, summed over its channels and rectified (Jiang
    et al. 2021, doi 10.1109/TIP.2021.3089943).

    As ``grad_cam``. The paper's fusion of several layers and its scaling of early ones are left out.
    """
    return _from_gradients(
        model,
        inputs,
        targets,
        context,
        prepared,
        lambda values, gradients: (gradients.relu() * values).sum(1, True),
        relu,
    )


@explainer(
    access="activations", modalities=("image", "series"), signed=False, cost="C + 1 F", prepare=choose_layer
)  # C: channels of the layer
def score_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    relu: bool = True,
    score: str = "logit",
    softmax: bool = True,
    baseline: str | Tensor = "zero",
) -> Tensor:
    """Score-CAM: a layer's activations, each channel with a weight from the score of the input seen through it (Wang
    et al. 2020, 1910.01279).

    (N, 1, H, W), of a series (N, 1, T), in units of the activations; at least 0 unless ``relu`` is off. Each channel,
    enlarged to the input and then brought to 0..1, is a mask H; the model sees input H + baseline (1 - H), in the
    paper input H. The increase of the ``score`` over that of the baseline alone is the channel's weight (the paper's
    definition 5); with ``softmax`` these are softmaxed over the channels (its algorithm 1, of logits), where the
    baseline alone cancels. A channel with one value everywhere masks nothing and has no part. Not applicable as
    ``grad_cam``, but no gradient is needed.
    """
    values = activations(model, prepared, context)
    flat = values.flatten(2).amax(2) == values.flatten(2).amin(2)
    seen = context.masked(values.shape[1], _masks(values, context), baseline)
    scores = pick(seen, score).double()
    if softmax:
        shares = scores.masked_fill(flat, -torch.inf).softmax(1)
        weights = shares.where(~flat.all(1, keepdim=True), 0)
    else:
        weights = (scores - pick(context.emptied(baseline), score)[:, None]).where(~flat, 0)
    return _full_size_map(_sum_over_channels(weights.to(values), values), context, prepared, relu)


@explainer(access="activations", modalities=("image", "series"), signed=False, cost="1 F", prepare=choose_layer)
def eigen_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    layer: str | None = None,
    centred: bool = False,
) -> Tensor:
    """Eigen-CAM: a layer's activations projected on their first right singular vector, whatever the class (Muhammad and
    Yeasin 2020, 2008.00299).

    (N, 1, H, W), of a series (N, 1, T), in units of the activations. The matrix is (places, channels); ``centred``
    subtracts each channel's mean first, which the paper does not. A singular vector has no sign: it is the one with
    which the map's product with the mean activation is positive, so that of activations of at least 0 the map is too;
    where that mean is 0, as behind a layer norm, the one with which the map's sum is.
    Not applicable as ``grad_cam``, but no gradient is needed.
    """
    values = activations(model, prepared, context)
    points = values.flatten(2).transpose(1, 2)
    mean = points.mean(2)
    points = points - points.mean(1, keepdim=True) if centred else points
    first = torch.linalg.svd(points, full_matrices=False).Vh[:, 0]
    found = (points @ first[:, :, None])[..., 0]
    along = (found * mean).sum(1, keepdim=True)
    # Behind a layer norm the mean is 0 but for rounding, which must not decide.
    nothing = mean.norm(dim=1, keepdim=True) < LEAST_MEAN * points.norm(dim=(1, 2))[:, None]
    upright = torch.where(torch.where(nothing, found.sum(1, keepdim=True), along) < 0, -found, found)
    return _full_size_map(upright.view(-1, 1, *prepared.layout.grid), context, prepared, relu=False)


@explainer(access="activations", modalities=("image", "series"), signed=False, cost="1 F", prepare=choose_layer)
def activation_map(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, prepared: MapLayer, layer: str | None = None
) -> Tensor:
    """The mean absolute activation over a layer's channels, whatever the class: where the layer is active at all
    (Zagoruyko and Komodakis 2017, 1612.03928).

    (N, 1, H, W), of a series (N, 1, T), at least 0, in units of the activations. The paper sums over the channels. Not
    applicable as ``grad_cam``, but no gradient is needed.
    """
    coarse = activations(model, prepared, context).abs().mean(1, keepdim=True)
    return _full_size_map(coarse, context, prepared, relu=False)


def _from_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, context: Samples, layer: MapLayer, combine: Combine, relu: bool
) -> Tensor:
    return _full_size_map(mapped(model, layer, context, combine, targets), context, layer, relu)


def _full_size_map(coarse: Tensor, context: Samples, layer: MapLayer, relu: bool) -> Tensor:
    """Maps (N, 1, *grid), rectified or not, at the input's size; told are the layer and how much they say."""
    coarse = coarse.relu() if relu else coarse
    flat = coarse.flatten(1)
    largest = flat.abs().amax(1)
    context.tell(layer=layer.name, contrast=(flat.amax(1) - flat.amin(1)) / largest.where(largest > 0, 1))
    return _enlarged(coarse, context.units.shape)


def _enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    mode = "bilinear" if len(size) == 2 else "linear"
    return F.interpolate(maps, size, mode=mode, align_corners=False)


def _sum_over_channels(weights: Tensor, values: Tensor) -> Tensor:
    """Activations (n, C, *grid) summed over their channels with weights (n, C): (n, 1, *grid)."""
    return torch.einsum("nc,nc...->n...", weights, values)[:, None]


def _masks(values: Tensor, context: Samples) -> Callable[[Tensor, Tensor], Tensor]:
    """Channels enlarged to the input and brought to 0..1, by number of sample and channel; 0 where all is one value."""

    def masks(sample: Tensor, channel: Tensor) -> Tensor:
        large = _enlarged(values[sample, channel][:, None], context.units.shape)[:, 0]
        flat = large.flatten(1)
        low, span = flat.amin(1), flat.amax(1) - flat.amin(1)
        scaled = (flat - low[:, None]) / span.where(span > 0, 1)[:, None]
        return scaled.view_as(large)

    return masks
