"""Explainers from the attention of transformers: raw, followed through the layers, and weighted by gradients.

Attention may be a fused function, a module or written out in the model. The result is the row of the token from which
the target's logit is computed, the class token. Where the logit is computed from several tokens it is the mean over
their rows: over all patches where a head pools them, over class and distillation token where it uses both.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.explainers._at_layer import enlarged
from harness.explainers._attention_layout import AttentionLayout, layout_of
from harness.explainers._attention_maps import attentive_classes, tokens_read, weights_and_gradients
from harness.explainers._attention_relevance import relevance_of_weights
from harness.explainers._gradients import rows_at_once
from harness.explainers._operations import Operations
from harness.option_types import Range, SizeOrZero
from harness.registry import explainer
from harness.samples import Samples

Heads = Literal["mean", "max", "min"]
HEADS = {"mean": lambda maps: maps.mean(1), "max": lambda maps: maps.amax(1), "min": lambda maps: maps.amin(1)}

# Matrices (n, T, T), first layer first, from the maps and their gradients, both (n, heads, T, T).
Factors = Callable[[list[Tensor], list[Tensor]], list[Tensor]]

_OF_ATTENTION = {
    "access": "activations",
    "modalities": ("image", "tokens", "series"),
    "signed": False,
    "cost": "1 F 1 B",
    "prepare": layout_of,
}


@explainer(per_class=False, **_OF_ATTENTION, tunable={"heads": ("max", "min")})
def attention(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: AttentionLayout,
    layer: Annotated[int, Range(-1000, -1)] = -1,
    heads: Heads = "mean",
    prefix_tokens: SizeOrZero | None = None,
) -> Tensor:
    """Raw attention: the attention weights of one layer, in the row of the token from which the output is computed
    (Vaswani et al. 2017, 1706.03762; as an explanation Caron et al. 2021, 2104.14294).

    For images (N, 1, H, W), enlarged bilinearly (half-pixel centres), else one number per token or time step; shares of
    attention, 0 to 1. Classes differ only if their logits are computed from different tokens. ``layer`` counts from
    the end: -1 is the last. ``heads`` are combined by ``mean``, ``max`` or ``min``. ``prefix_tokens`` is the number of
    tokens before those of the units; by default the number that the model states or that follows from the sizes. Not
    applicable without self-attention among all tokens, layer upon layer: not to windows, cross-attention or pooled
    tokens.

    Example: attending(x) = sum_j a_j x_j with the attention a = softmax(x_1 x), (1/4, 3/4) at x = (1, 1 + ln 3).

    >>> harness.explain("attention", attending, text).flatten()
    tensor([0.2500, 0.7500])
    """
    fuse = _fusion(heads)
    if not -prepared.maps <= layer <= -1:
        raise UserError(f"layer is {layer}, expected -{prepared.maps} to -1: the model has {prepared.maps} attentions")
    return _attention_per_unit(model, inputs, targets, context, prepared, lambda maps, _: [fuse(maps[layer])])


@explainer(per_class=False, **_OF_ATTENTION, tunable={"heads": ("max", "min")})
def attention_rollout(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: AttentionLayout,
    heads: Heads = "mean",
    prefix_tokens: SizeOrZero | None = None,
) -> Tensor:
    """Attention rollout: the product over all layers of 0.5 A + 0.5 I, where A is the attention combined over heads, in
    the row of the token from which the output is computed (Abnar and Zuidema 2020, 2005.00928).

    Shapes, options, limits and the role of the class as in ``attention``; shares, 0 to 1. The rows of each factor are
    normalised to sum to 1, which matters where ``heads`` is not the paper's ``mean``. A class token that is a unit of
    the input keeps its own share, which the identity makes large.

    Example: attending(x) has one layer, with the attention (1/4, 3/4) of the first token. Half of it and half of the
    identity's row (1, 0) is (0.625, 0.375).

    >>> harness.explain("attention_rollout", attending, text).flatten()
    tensor([0.6250, 0.3750])
    """
    fuse = _fusion(heads)
    return _attention_per_unit(
        model, inputs, targets, context, prepared, lambda maps, _: [_with_residual(fuse(each)) for each in maps]
    )


@explainer(**_OF_ATTENTION, tunable={"weighting": ("relevance",)})
def transformer_attribution(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: AttentionLayout,
    weighting: Literal["attention", "relevance"] = "attention",
    prefix_tokens: SizeOrZero | None = None,
) -> Tensor:
    """Transformer attribution: the product over all layers of I + the mean over heads of max(W * dA, 0), where dA is
    the gradient of the target's logit at the attention A, in the row of the token from which the output is computed
    (Chefer et al. 2021, 2103.15679 and 2012.09838).

    Shapes, ``prefix_tokens`` and limits as in ``attention``; at least 0. ``weighting`` says what W is:

    - ``attention``: the attention A itself, the later paper's rule for self-attention (2103.15679);
    - ``relevance``: the relevance of A by layer-wise relevance propagation, the earlier paper's (2012.09838), whose
      released code calls its method by this name. It takes a second pass forward and backward
      (``harness.explainers._attention_relevance``).

    Both papers update R <- R + W' R from R = I. Where the head pools the tokens, the identity adds the same number to
    all of them; a class token that is a unit of the input keeps its 1.

    Example: attending(x) = sum_j a_j x_j has the gradient x_j at a_j. With a = (1/4, 3/4) at x = (1, 2.099), A * dA is
    (0.25, 1.574), and the identity adds 1 to the first token.

    >>> harness.explain("transformer_attribution", attending, text).flatten()
    tensor([1.2500, 1.5740])
    """
    return _attention_per_unit(
        model, inputs, targets, context, prepared, _relevances, every=True, by_relevance=weighting == "relevance"
    )


@explainer(**_OF_ATTENTION | {"signed": True})
def att_cat(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: AttentionLayout,
    prefix_tokens: SizeOrZero | None = None,
) -> Tensor:
    """AttCAT: for each layer the gradient of the target's logit times the tokens that enter its attention, summed over
    their numbers and weighted by the attention that they receive; summed over the layers (Qiang et al. 2022, AttCAT:
    Explaining Transformers via Attentive Class Activation Tokens, NeurIPS).

    Shapes, ``prefix_tokens`` and limits as in ``attention``, but signed; in units of the logit. The attention that a
    token receives is the mean over heads and over all queries, as in the released code, except that padding, to which
    no token attends in any layer, is no query: a text has one map, however long its padding is. Where a layer norm
    stands before the attention (ViT) the tokens are those behind the norm; where it stands after it (BERT), as in the
    paper, they are the hidden states. Not applicable where no linear layer comes before an attention.

    Example: projected(x) = sum_j a_j x_j with a = softmax(x_1 x), (1/4, 3/4) at x = (1, 2.099), has the gradient
    (0.2703, 0.9560). The two queries give the tokens on average the attention (0.1703, 0.8297).

    >>> harness.explain("att_cat", projected, text).flatten()
    tensor([0.0460, 1.6645])
    """
    one_by_one = prepared.folded or None in prepared.turned
    at_once, rows = 1 if one_by_one else rows_at_once(context), []
    for each in torch.arange(len(inputs), device=inputs.device).split(at_once):
        maps, classes, operations = attentive_classes(model, inputs[each], targets[each], prepared.turned)
        rows.append(sum(share * own for share, own in zip(_received(maps), classes, strict=True)))
    _tell_layout(context, prepared, operations)
    return _token_map(torch.cat(rows).to(inputs)[:, prepared.prefix :], prepared, context)


def _received(maps: list[Tensor]) -> list[Tensor]:
    """The attention (n, T) that each token receives in each map (n, heads, T, T), as a mean over heads and queries."""
    queries = torch.stack([weights.amax((1, 2)) for weights in maps]).amax(0) > 0
    number = queries.sum(1, keepdim=True)
    return [(weights.mean(1) * queries[:, :, None]).sum(1) / number for weights in maps]


def _attention_per_unit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    context: Samples,
    layout: AttentionLayout,
    factors: Factors,
    every: bool = False,
    by_relevance: bool = False,
) -> Tensor:
    """The row of the tokens read in the product of factors, per unit.

    ``every``: the factors need the gradients of all maps, otherwise only that of the last one is computed.
    ``by_relevance``: the factors get the relevance of the attention weights in place of the weights.
    """
    one_by_one = layout.folded or (by_relevance and not layout.first)  # more would mix heads and samples on one axis
    at_once = 1 if one_by_one else rows_at_once(context)
    rows, read = [], []
    for each in torch.arange(len(inputs), device=inputs.device).split(at_once):
        maps, gradients, operations = weights_and_gradients(model, inputs[each], targets[each], every)
        read.append(tokens_read(gradients[-1]))
        if by_relevance:
            maps, operations = relevance_of_weights(model, inputs[each], targets[each])
        rows.append(_row_of_product(read[-1].to(inputs), factors(maps, gradients)))
    _tell_layout(context, layout, operations)
    context.tell(tokens_read=torch.cat(read).sum(1))
    return _token_map(torch.cat(rows)[:, layout.prefix :], layout, context)


def _tell_layout(context: Samples, layout: AttentionLayout, operations: Operations) -> None:
    context.tell(
        operations=operations.report(),
        attention_maps=layout.maps,
        tokens=layout.tokens,
        prefix_tokens=layout.prefix,
    )


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
    """I + the mean over heads of the positive part of map times gradient."""
    identity = torch.eye(maps[0].shape[-1], device=maps[0].device, dtype=maps[0].dtype)
    return [
        identity + (weights * gradient).clamp(min=0).mean(1) for weights, gradient in zip(maps, gradients, strict=True)
    ]


def _token_map(tokens: Tensor, layout: AttentionLayout, context: Samples) -> Tensor:
    """Numbers per token (N, T without prefix) as one channel of the inputs."""
    if layout.grid is None:
        return context.units.as_map(tokens)
    return enlarged(tokens.unflatten(1, layout.grid)[:, None], context.units.shape)


def _fusion(heads: str) -> Callable[[Tensor], Tensor]:
    """How maps (n, heads, T, T) become one (n, T, T)."""
    return HEADS[heads]
