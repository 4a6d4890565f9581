"""Class activation maps without gradients: activations weighted by scores, projected, or averaged.

Maps are computed on the layer's own grid and enlarged to the input's size, as in ``harness.explainers.cam``, with the
same facts ``layer`` and ``contrast``.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.explainers._at_layer import MapLayer, ablated, activations, enlarged, low_and_span
from harness.explainers._cam import CAM, RECTIFIED, CamOptions, full_size_map, sum_over_channels
from harness.explainers._layers import ANY_LAYER, LayerOption
from harness.predictor import pick
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.samples import Samples
from harness.task import Score

LEAST_MEAN = 1e-4  # of the activations' norm: below it their mean over the channels is rounding


@explainer(
    signed=False,
    cost="C + 1 F",  # C: channels of the layer
    **CAM,
    tunable={"softmax": (False,), "baseline": ("typical_or_zero", "blur")},
)
def score_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
    score: Score = "logit",
    softmax: bool = True,
    baseline: BaselineName | Tensor = "zero",
) -> Tensor:
    """Score-CAM: a layer's activations summed over its channels, each weighted by the score of the input that is masked
    by this channel (Wang et al. 2020, 1910.01279).

    Shape (N, 1, H, W), of a series (N, 1, T), of a volume (N, 1, D, H, W); at least 0 unless ``relu`` is off; in units
    of the activations. Each channel, enlarged to the input's size and then scaled to 0..1, is a mask H. The model gets
    input H + baseline (1 - H); in the paper, input H. With ``softmax`` off, a channel's weight is the increase of the
    ``score`` over that of the baseline alone (the paper's definition 5). With ``softmax``, it is the softmax of the
    scores over the channels (its algorithm 1, of logits), in which the baseline's score cancels. A channel with the
    same value everywhere masks nothing and gets weight 0. Limits as of ``grad_cam``, except that no gradient is needed.

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
    scores = scores.masked_fill(scores.isinf(), torch.nan)  # a softmax would give an infinite score the weight 0 or 1
    if softmax:
        shares = scores.masked_fill(flat, -torch.inf).softmax(1)
        weights = shares.where(~flat.all(1, keepdim=True), 0)
    else:
        weights = (scores - pick(context.emptied(baseline), score)[:, None]).where(~flat, 0)
    return full_size_map(sum_over_channels(weights.to(values), values), context, prepared, cam.relu)


@explainer(signed=False, cost="C + 1 F", **CAM, tunable={"relu": (False,)})  # C: channels of the layer
def ablation_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
    score: Score = "logit",
) -> Tensor:
    """Ablation-CAM: a layer's activations summed over its channels, each weighted by the drop of the score when this
    channel is set to 0 (Desai and Ramaswamy 2020, doi 10.1109/WACV45572.2020.9093360).

    Shape (N, 1, H, W), of a series (N, 1, T), of a volume (N, 1, D, H, W); at least 0 unless ``relu`` is off; in units
    of the score times the activation. The paper divides the drops by the score itself. That is left out: it is the same
    for all channels of a sample, and would turn the map over where the score is negative. Limits as of ``grad_cam``,
    except that no gradient is needed.

    Example: the channels pixel and relu(pixel - 2) add 10 and -3 to pooled(image). The map is 10 pixel - 3 relu(pixel -
    2).

    >>> harness.explain("ablation_cam", pooled, image, target)
    tensor([[[[10., 20.],
              [27., 34.]]]])
    """
    values = activations(model, prepared, context)
    drops = context.clean(score).double()[:, None] - pick(ablated(prepared, context, values.shape[1]), score).double()
    return full_size_map(sum_over_channels(drops.to(values), values), context, prepared, cam.relu)


@explainer(signed=False, per_class=False, cost="1 F", **CAM, tunable={"centred": (True,)})
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

    Shape (N, 1, H, W), of a series (N, 1, T), of a volume (N, 1, D, H, W); in units of the activations. The matrix that
    is decomposed is (places, channels); ``centred`` subtracts each channel's mean first, which the paper does not. The
    sign of a singular vector is arbitrary: here it is chosen so that the map's product with the mean activation is
    positive, and so that activations of at least 0 give a map of at least 0. Where that mean is 0, as after a layer
    norm, it is chosen so that the map's sum is positive. Limits as of ``grad_cam``, except that no gradient is needed.

    Example: the channels pixel and relu(pixel - 2) give the rows (1, 0), (2, 0), (3, 1), (4, 2). The first singular
    vector is about (0.94, 0.35), and the map is the product of each row with it.

    >>> harness.explain("eigen_cam", pooled, image, target)
    tensor([[[[0.9356, 1.8712],
              [3.1599, 4.4485]]]])
    """
    values = activations(model, prepared, context)
    values = values.to(torch.promote_types(values.dtype, torch.float32))  # there is no decomposition in half precision
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
    return full_size_map(upright.view(-1, 1, *prepared.layout.grid), context, prepared, relu=False)


@explainer(signed=False, per_class=False, cost="1 F", **CAM)
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

    Shape (N, 1, H, W), of a series (N, 1, T), of a volume (N, 1, D, H, W); at least 0; in units of the activations. The
    paper sums over the channels. Limits as of ``grad_cam``, except that no gradient is needed.

    Example: the mean of the two channels pixel and relu(pixel - 2).

    >>> harness.explain("activation_map", pooled, image, target)
    tensor([[[[0.5000, 1.0000],
              [2.0000, 3.0000]]]])
    """
    coarse = activations(model, prepared, context).abs().mean(1, keepdim=True)
    return full_size_map(coarse, context, prepared, relu=False)


def _masks(values: Tensor, context: Samples) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that makes masks (rows, *units) from index vectors (rows,) of samples and channels.

    A mask is the channel enlarged to the input's size and scaled to 0..1; it is 0 if all values are the same.
    """

    def masks(sample: Tensor, channel: Tensor) -> Tensor:
        large = enlarged(values[sample, channel][:, None], context.units.shape)[:, 0]
        flat = large.flatten(1)
        low, span = low_and_span(flat)
        return ((flat - low) / span).view_as(large)

    return masks
