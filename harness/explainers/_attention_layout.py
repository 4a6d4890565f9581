"""How tokens correspond to units of the input, and whether a model's attention is among all of its tokens."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._attention_maps import AttentionMap, tokens_read, watched
from harness.predictor import target_logits
from harness.samples import Samples

MOST_PREFIX_TOKENS = 8  # a class token, a distillation token and registers; no published model has more


@dataclass(frozen=True)
class AttentionLayout:
    """The attention of a model on inputs of one shape.

    maps      the number of attention maps, one after the other
    tokens    T, the side of each map
    prefix    the number of tokens before those of the units
    grid      the grid (h, w) of the units' tokens on an image, or None
    folded    whether heads and samples share an axis
    first     whether the samples are on the first axis of residual sums, as they are not in (T, N, E)
    turned    for each map whether they are on the second axis of the tokens that enter it; None where there are no
              tokens, or samples and tokens share an axis
    """

    maps: int
    tokens: int
    prefix: int
    grid: tuple[int, int] | None
    folded: bool
    first: bool = True
    turned: tuple[bool | None, ...] = ()


@torch.inference_mode(mode=False)
@torch.enable_grad()
def layout_of(
    model: nn.Module, context: Samples, /, prefix_tokens: int | None = None, **options: object
) -> AttentionLayout:
    """The layout of a model's attention on these inputs, from a pass over the first sample.

    NotApplicable unless the maps are those of self-attention among all tokens, layer upon layer, and it is certain
    which tokens are the units'. ``prefix_tokens`` is the number of tokens before these, where it is known.
    """
    outputs, maps, watch, _ = watched(model, context.inputs[:1])
    tokens = _tokens_of(maps)
    logit = target_logits(outputs, context.targets[:1].clone())
    _check_sequence([*(each.weights for each in maps), logit])
    stated = prefix_tokens if prefix_tokens is not None else _stated_prefix(model)
    allowed = range(MOST_PREFIX_TOKENS + 1) if stated is None else range(stated, stated + 1)
    if context.units.modality == "image":
        grid = _grid_of(tokens, allowed, context.units.shape, watch.grids, _in_windows(maps[0].places, tokens))
        prefix = tokens - math.prod(grid)
    else:
        grid, prefix = None, _prefix_of(tokens, allowed, context.units.count)
    _check_class_token(maps[-1], logit, prefix)
    first = all(length == 1 for length in watch.sums)
    turned = tuple(_is_turned(each.entering, tokens) for each in maps)
    return AttentionLayout(len(maps), tokens, prefix, grid, any(map(_is_folded, maps)), first, turned)


def _tokens_of(maps: list[AttentionMap]) -> int:
    """T, the number of tokens in all maps (..., T, T); NotApplicable where it changes."""
    for each in maps:
        _check_self_attention(each)
    lengths = dict.fromkeys(each.weights.shape[each.key] for each in maps)
    if len(lengths) > 1:
        raise NotApplicable(f"the number of tokens changes from layer to layer: {', '.join(map(str, lengths))}")
    return next(iter(lengths))


def _check_self_attention(each: AttentionMap) -> None:
    """NotApplicable unless one sample's map is among all its tokens, with weights that sum to 1 for each query."""
    weights = each.arranged(each.weights)
    *leading, queries, keys = weights.shape
    if queries != keys:
        raise NotApplicable(f"an attention has {queries} queries and {keys} keys: cross-attention, or pooled tokens")
    if len(leading) not in (1, 2) or (len(leading) == 2 and leading[0] != 1):
        raise NotApplicable(
            f"one sample has attention maps {tuple(weights.shape)}: within windows or groups, not among all tokens"
        )
    if not float((weights.sum(-1) - 1).abs().max()) <= 1e-3:
        raise NotApplicable("the attention weights of a query do not sum to 1 over the values that they weigh")


def _is_folded(each: AttentionMap) -> bool:
    """Whether one sample's maps are (heads, T, T)."""
    return each.weights.dim() == 3 and each.arranged(each.weights).shape[0] > 1


def _is_turned(entering: Tensor | None, tokens: int) -> bool | None:
    """Whether one sample's tokens (T, 1, E) or (1, T, E) have the sample on the second axis."""
    if entering is None or entering.dim() != 3 or tokens == 1:
        return None
    return {(tokens, 1): True, (1, tokens): False}.get(tuple(entering.shape[:2]))


def _check_sequence(stations: list[Tensor]) -> None:
    """NotApplicable unless each map depends on the one before, and the target's logit on the last."""
    for number, (before, after) in enumerate(pairwise(stations), start=1):
        if not _depends(after, before):
            what = "the output" if number == len(stations) - 1 else f"attention map {number + 1}"
            raise NotApplicable(f"{what} does not depend on attention map {number}: the layers are not in sequence")


def _depends(after: Tensor, before: Tensor) -> bool:
    total = after.sum()
    if not total.requires_grad:
        return False
    return torch.autograd.grad(total, before, retain_graph=True, allow_unused=True)[0] is not None


def _check_class_token(last: AttentionMap, logit: Tensor, prefix: int) -> None:
    """NotApplicable where there are prefix tokens, but the output reads a single token that is none of them."""
    gradient = torch.autograd.grad(logit.sum(), last.weights)[0]
    read = tokens_read(last.heads(gradient, 1))[0].nonzero()[:, 0].tolist()
    if len(read) == 1 and 0 < prefix <= read[0]:
        raise NotApplicable(
            f"the output reads token {read[0]} alone, the units' tokens come after the first {prefix}: their order is "
            "not known"
        )


def _stated_prefix(model: nn.Module) -> int | None:
    """The number of prefix tokens that timm's models state, or None."""
    stated = (getattr(part, "num_prefix_tokens", None) for part in model.modules())
    return next((number for number in stated if isinstance(number, int)), None)


def _prefix_of(tokens: int, allowed: range, units: int) -> int:
    """The number of tokens before those of the units of a sequence."""
    if tokens - units not in allowed:
        raise NotApplicable(f"{tokens} tokens are not the {units} units of an input after {_words(allowed)} others")
    return tokens - units


def _grid_of(
    tokens: int, allowed: range, size: tuple[int, ...], convolutions: list[tuple[int, int]], windows: bool
) -> tuple[int, int]:
    """The grid of patches (h, w): that of the last convolution that fits, else the only one of square patches."""
    fits = lambda grid: math.prod(grid) > 1 and tokens - math.prod(grid) in allowed
    convolved = [grid for grid in convolutions if fits(grid)]
    if convolved:
        return convolved[-1]
    if windows:
        raise NotApplicable(
            f"attention among {tokens} tokens, within windows: the layer before it has several times as many"
        )
    fitting = [grid for grid in _square_patches(*size) if fits(grid)]
    if not fitting:
        raise NotApplicable(
            f"{tokens} tokens are no grid of patches on {size[0]} x {size[1]} pixels after {_words(allowed)} others"
        )
    if len(fitting) > 1:
        several = " or ".join(f"{h} x {w}" for h, w in fitting)
        raise NotApplicable(f"{tokens} tokens may be {several} patches: give prefix_tokens")
    return fitting[0]


def _words(allowed: range) -> str:
    return str(allowed[0]) if len(allowed) == 1 else f"{allowed[0]} to {allowed[-1]}"


def _square_patches(height: int, width: int) -> Iterable[tuple[int, int]]:
    sides = (side for side in range(1, min(height, width) + 1) if height % side == 0 == width % side)
    return ((height // side, width // side) for side in sides)


def _in_windows(places: int, tokens: int) -> bool:
    """Whether one sample's queries are computed at several times as many places as a map has tokens."""
    return places > tokens and places % tokens == 0
