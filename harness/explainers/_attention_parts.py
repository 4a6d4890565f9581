"""Fused attention taken apart: torch's functions for attention as linear layers, products and softmaxes.

Rules for operations can then treat a fused attention like one that is written out in the model.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import NotApplicable


def _attention_in_parts(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``F.scaled_dot_product_attention`` in its parts (1706.03762); NotApplicable with dropout at work."""
    if dropout_p:
        raise NotApplicable("attention with dropout at work depends on chance; call model.eval()")
    if enable_gqa:
        key, value = (each.repeat_interleave(query.shape[-3] // each.shape[-3], -3) for each in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
    return torch.softmax(scores, dim=-1) @ value


def _multi_head_attention_in_parts(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """``F.multi_head_attention_forward`` in its parts; (L, N, E) or (L, E) in and out, as there."""
    if training and dropout_p:
        raise NotApplicable("attention with dropout at work depends on chance; call model.eval()")
    if bias_k is not None or add_zero_attn or static_k is not None or static_v is not None:
        raise NotApplicable(
            "the attention adds keys of its own (bias_k, add_zero_attn or static_k), which no rule covers"
        )
    batched = query.dim() == 3
    query, key, value = (each if batched else each.unsqueeze(1) for each in (query, key, value))
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    heads = [
        _split_heads(F.linear(x, w, b), num_heads) for x, w, b in zip((query, key, value), weights, biases, strict=True)
    ]
    mask = _merged_mask(attn_mask, key_padding_mask, heads[0], num_heads)
    scores = (heads[0] / math.sqrt(heads[0].shape[-1])) @ heads[1].transpose(-2, -1)
    shares = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    mixed = (shares @ heads[2]).permute(2, 0, 1, 3).flatten(2)  # (L, N, E)
    out = F.linear(mixed, out_proj_weight, out_proj_bias)
    told = (shares.mean(1) if average_attn_weights else shares) if need_weights else None
    return (out, told) if batched else (out.squeeze(1), None if told is None else told.squeeze(0))


def _split_heads(projected: Tensor, heads: int) -> Tensor:
    """(L, N, E) as (N, heads, L, E / heads)."""
    return projected.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)


def _merged_mask(mask: Tensor | None, padding: Tensor | None, query: Tensor, heads: int) -> Tensor | None:
    """The numbers to add to the scores (N, heads, L, S). In both masks, True means masked out."""
    added = None
    if mask is not None:
        added = _additive(mask, query)
        added = added.unflatten(0, (-1, heads)) if added.dim() == 3 else added
    if padding is not None:
        hidden = _additive(padding, query)[..., None, None, :]
        added = hidden if added is None else added + hidden
    return added


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


ATTENTION = {
    "scaled_dot_product_attention": _attention_in_parts,
    "multi_head_attention_forward": _multi_head_attention_in_parts,
}
