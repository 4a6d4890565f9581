"""Explainers from the attention maps of transformers: raw, followed through the layers, and weighted by gradients.

Attention is seen in all its forms, as fused function, as module and written out. Each answer is the row of the token
that the target's logit is computed from, the class token, or the mean over the rows of all that are: of the patches
where a head pools them, of class and distillation token where it reads both.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import UserError, unknown
from harness.explainers._attention_layout import AttentionLayout, layout_of
from harness.explainers._attention_maps import tokens_read, weights_and_gradients
from harness.explainers._gradients import rows_at_once
from harness.registry import explainer
from harness.samples import Samples

HEADS = {"mean": lambda maps: maps.mean(1), "max": lambda maps: maps.amax(1), "min": lambda maps: maps.amin(1)}
MODALITIES = ("image", "tokens", "series")

# Matrices (n, T, T), first layer first, from the maps and their gradients, both (n, heads, T, T).
Factors = Callable[[list[Tensor], list[Tensor]], list[Tensor]]


@explainer(access="activations", modalities=MODALITIES, signed=False, cost="1 F 1 B", prepare=layout_of)
def attention(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: AttentionLayout,
    layer: int = -1,
    heads: str = "mean",
    prefix_tokens: int | None = None,
) -> Tensor:
    """The attention weights of one layer, in the row of the token that the output is read from (Vaswani et al. 2017,
    1706.03762; as an explanation Caron et al. 2021, 2104.14294).

    (N, 1, H, W) for images, enlarged bilinearly (half-pixel centres), one number per token or time step else; shares
    of attention, 0 to 1. The same for every class, up to which token its logit is read from. ``layer`` counts from the
    end, -1 is the last; ``heads`` are fused by ``mean``, ``max`` or ``min``. ``prefix_tokens`` is how many tokens come
    before those of the units, by default what the model says or what the other sizes leave. Not applicable without
    self-attention among all tokens, layer upon layer: to windows, cross-attention, pooled tokens.
    """
    fuse = _fusion(heads)
    if not -prepared.maps <= layer <= -1:
        raise UserError(f"layer is {layer}, expected -{prepared.maps} to -1: the model has {prepared.maps} attentions")
    return _attention_per_unit(model, inputs, targets, context, prepared, lambda maps, _: [fuse(maps[layer])])


@explainer(access="activations", modalities=MODALITIES, signed=False, cost="1 F 1 B", prepare=layout_of)
def attention_rollout(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: AttentionLayout,
    heads: str = "mean",
    prefix_tokens: int | None = None,
) -> Tensor:
    """The product over all layers of 0.5 A + 0.5 I, A the attention fused over heads, in the row of the token that the
    output is read from (Abnar and Zuidema 2020, 2005.00928).

    Shapes, options, what is not applicable and dependence on the class as in ``attention``; shares, 0 to 1. Each
    factor's rows are normalised to sum to 1, which matters where ``heads`` is not the paper's ``mean``. A class token
    that is a unit of the input keeps its share, which the identity makes large.
    """
    fuse = _fusion(heads)
    return _attention_per_unit(
        model, inputs, targets, context, prepared, lambda maps, _: [_with_residual(fuse(each)) for each in maps]
    )


@explainer(access="activations", modalities=MODALITIES, signed=False, cost="1 F 1 B", prepare=layout_of)
def transformer_attribution(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: AttentionLayout,
    prefix_tokens: int | None = None,
) -> Tensor:
    """The product over all layers of I + mean over heads of max(A * dA, 0), A the attention, dA the gradient of the
    target's logit there, in the row of the token that the output is read from (Chefer et al. 2021, 2103.15679).

    Shapes, ``prefix_tokens`` and what is not applicable as in ``attention``; at least 0. This is the paper's rule for
    self-attention, R <- R + A' R from R = I. Where the head pools, the identity adds the same to all tokens; a class
    token that is a unit of the input keeps its 1.
    """
    return _attention_per_unit(model, inputs, targets, context, prepared, _relevances, every=True)


def _attention_per_unit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    context: Samples,
    layout: AttentionLayout,
    factors: Factors,
    every: bool = False,
) -> Tensor:
    """The explained row of the product of factors, per unit; ``every`` map's gradient is wanted, or the last one's."""
    at_once = 1 if layout.folded else rows_at_once(context)  # or heads and samples could not be told apart
    rows, read = [], []
    for each in torch.arange(len(inputs), device=inputs.device).split(at_once):
        maps, gradients, operations = weights_and_gradients(model, inputs[each], targets[each], every)
        read.append(tokens_read(gradients[-1]))
        rows.append(_row_of_product(read[-1].to(inputs), factors(maps, gradients)))
    context.tell(
        operations=operations.report(),
        attention_maps=layout.maps,
        tokens=layout.tokens,
        prefix_tokens=layout.prefix,
        tokens_read=torch.cat(read).sum(1),
    )
    return _token_map(torch.cat(rows)[:, layout.prefix :], layout, context)


def _row_of_product(read: Tensor, factors: list[Tensor]) -> Tensor:
    """The mean of the rows (n, T) of the tokens read, 0 where none is, in the product of factors, last layer first."""
    row = (read / read.sum(1, keepdim=True).clamp(min=1))[:, None]
    for factor in reversed(factors):
        row = row @ factor
    return row[:, 0]


def _with_residual(fused: Tensor) -> Tensor:
    """Half the attention and half the identity, each row normalised to sum to 1."""
    mixed = 0.5 * fused + 0.5 * torch.eye(fused.shape[-1], device=fused.device, dtype=fused.dtype)
    return mixed / mixed.sum(-1, keepdim=True)


def _relevances(maps: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """I + the mean over heads of what a map and its gradient have in common."""
    identity = torch.eye(maps[0].shape[-1], device=maps[0].device, dtype=maps[0].dtype)
    return [
        identity + (weights * gradient).clamp(min=0).mean(1) for weights, gradient in zip(maps, gradients, strict=True)
    ]


def _token_map(tokens: Tensor, layout: AttentionLayout, context: Samples) -> Tensor:
    """Numbers per token (N, T without prefix) as one channel of the inputs."""
    if layout.grid is None:
        return context.units.as_map(tokens)
    coarse = tokens.unflatten(1, layout.grid)[:, None]
    return F.interpolate(coarse, context.units.shape, mode="bilinear", align_corners=False)


def _fusion(heads: str) -> Callable[[Tensor], Tensor]:
    if heads not in HEADS:
        raise unknown("heads", heads, HEADS)
    return HEADS[heads]
