"""ViT-CX: masks made of a vision transformer's own features, weighted by what they cause."""

from typing import Annotated

import torch
from torch import Tensor, nn

from harness.explainers._at_layer import MapLayer, activations, enlarged, low_and_span
from harness.explainers._cam import CAM
from harness.explainers._layers import ANY_LAYER, LayerOption
from harness.option_types import ChangeOrNone, Range
from harness.predictor import pick
from harness.randomness import element, normal
from harness.registry import explainer
from harness.samples import Samples
from harness.task import Score


@explainer(
    **CAM,
    stochastic=True,
    cost="up to 2 C + 1 F",  # C: channels of the layer
    tunable={"distance": (0.05, 0.2), "noise": (0.0, 0.1)},
)
def vit_cx(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: LayerOption = ANY_LAYER,
    distance: Annotated[float, Range(0, 2)] = 0.1,
    noise: ChangeOrNone = 0.02,
    score: Score = "probability",
) -> Tensor:
    """ViT-CX: groups of similar feature maps as masks, averaged with the score of what they show as weights (Xie et al.
    2023, 2211.03064).

    Shape (N, 1, H, W), of a series (N, 1, T), of a volume (N, 1, D, H, W); in units of ``score``. Each channel of the
    layer (of a vision transformer the norm before its last attention) is enlarged to the input's size and scaled to
    0..1. Channels whose cosine distances are all below ``distance`` are one group (complete linkage), whose sum,
    scaled to 0..1 again, is a mask M. Its weight is score(M x + n (1 - M)) - score(x + n (1 - M)) + score(x), with
    Gaussian noise n of the standard deviation ``noise``, a share of the input's range (the released code has 0.1 on
    inputs normalised as those of ImageNet, whose range is about 4.7). The map is the mean of weight times M over the
    sum of all masks. Limits as of ``grad_cam``, except that no gradient is needed.

    Example: the channels pixel and relu(pixel - 2) are two masks; without noise the third term cancels the second, so
    that the weights are the scores 4.667 and 3.5 of what they show.

    >>> harness.explain("vit_cx", pooled, image, target, score="output", noise=0.0, distance=0.01)
    tensor([[[[0.0000, 2.3333],
              [2.0833, 2.0417]]]])
    """
    values = activations(model, prepared, context)
    size = context.units.shape
    groups = [summed_groups(each, distance, size) for each in values.float()]
    counts = torch.tensor([len(each) for each in groups])
    weights = _weights(context, groups, counts, noise, score)
    maps = []
    for sums, weight, count in zip(groups, weights, counts.tolist(), strict=True):  # one by one: masks are large
        masks = _as_masks(sums, size)
        total = masks.sum(0)
        share = masks / total.where(total > 0, 1)
        maps.append(torch.tensordot(weight[:count].to(share), share, 1) / count)
    context.tell(layer=prepared.name, masks=counts.double())
    return context.units.as_map(torch.stack(maps))


def summed_groups(channels: Tensor, distance: float, size: tuple[int, ...]) -> Tensor:
    """The sums (groups, *grid) of similar channels (C, *grid), each of which is 0..1 when it is enlarged to ``size``.

    They are kept on the layer's grid, and only become masks where they are used: at 224 x 224 pixels the masks of a
    batch take gigabytes.
    """
    from sklearn.cluster import AgglomerativeClustering  # imported here, as scikit-learn takes a second to import

    flat = enlarged(channels[:, None], size).flatten(1)
    low, span = low_and_span(flat)
    coarse = (channels.flatten(1) - low) / span
    flat = (flat - low) / span
    lengths = flat.norm(dim=1, keepdim=True)
    unit = flat / lengths.where(lengths > 0, 1)
    if len(unit) == 1:
        return coarse.view(channels.shape)
    apart = (1 - unit @ unit.T).clamp(min=0).double().cpu().numpy()
    clusters = AgglomerativeClustering(None, metric="precomputed", linkage="complete", distance_threshold=distance)
    labels = torch.from_numpy(clusters.fit(apart).labels_).long().to(flat.device)
    sums = torch.nn.functional.one_hot(labels).T.to(coarse) @ coarse
    return sums.view(-1, *channels.shape[1:])


def _as_masks(sums: Tensor, size: tuple[int, ...]) -> Tensor:
    """Sums of channels (n, *grid) as masks (n, *units) from 0 to 1; 0 where a sum is the same everywhere."""
    flat = enlarged(sums[:, None], size).flatten(1)
    low, span = low_and_span(flat)
    return ((flat - low) / span).view(-1, *size)


def _weights(context: Samples, groups: list[Tensor], counts: Tensor, noise: float, score: str) -> Tensor:
    """The weights (N, most) of all masks; of no meaning beyond a sample's own number of masks."""
    inputs, keys = context.inputs, context.stream("vit_cx noise")
    low, high = context.input_range()
    spread = noise * (high - low).expand_as(inputs)
    sample = torch.repeat_interleave(torch.arange(len(groups)), counts)
    number = torch.cat([torch.arange(count) for count in counts.tolist()]).to(inputs.device)
    sample, stacked = sample.to(inputs.device), torch.cat(groups)

    def build(shown: bool, rows: Tensor) -> Tensor:
        of, masks = sample[rows], context.units.expand(_as_masks(stacked[rows], context.units.shape)).to(inputs)
        drawn = normal(element(keys[of], number[rows]), *inputs.shape[1:]).to(inputs) * spread[of]
        return (inputs[of] * masks if shown else inputs[of]) + drawn * (1 - masks)

    found = [pick(context.track_rows(sample, lambda rows, s=s: build(s, rows)), score).double() for s in (True, False)]
    weights = found[0] - found[1] + context.clean(score).double()[sample]
    answer = weights.new_zeros(len(groups), int(counts.max()))
    answer[sample, number] = weights
    return answer
