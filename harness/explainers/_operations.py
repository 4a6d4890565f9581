"""Rules for a model's operations, whatever modules or functions they came from.

A torch function mode sees every call of a torch function that the model makes, and a rule may answer in its place: with
the true value, and a derivative of its own. Nothing is registered on the model, so operations in functions, in reused
modules and in place are seen like any other, and nothing remains afterwards.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from harness.errors import NotApplicable
from harness.guards import frozen

# A rule answers ``rule(function, *args, **kwargs)``: ``function`` computes the operation itself, never in place. It may
# return NotImplemented where it has nothing to say of these arguments; the operation is then unruled.
OperationRule = Callable[..., Any]

# Names under which torch reports the same operation.
SYNONYMS = {
    "hardtanh": "relu6",
    "threshold": "relu",
    "_threshold": "relu",
    "clamp_min": "clamp",
    "clip": "clamp",
    "special_expit": "sigmoid",
    "log_sigmoid": "logsigmoid",
    "absolute": "abs",
    "__matmul__": "matmul",
    "__rmatmul__": "matmul",
    "bmm": "matmul",
    "mm": "matmul",
    "mv": "matmul",
    "dot": "matmul",
    "__mul__": "mul",
    "__rmul__": "mul",
    "multiply": "mul",
    "true_divide": "div",
    "divide": "div",
    "__truediv__": "div",
    "__rdiv__": "div",
    "__rtruediv__": "div",
    "special_softmax": "softmax",
    "rsqrt": "pow",
    "sqrt": "pow",
    "square": "pow",
    "swish": "silu",
}

# Operations of which relevance, contributions or attention have something to say. What is neither here nor answered
# by a rule moves, adds up or scales values, and plain differentiation is right for it.
WITH_CONSEQUENCE = frozenset(
    {
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "linear",
        "addmm",
        "bilinear",
        "embedding",
        "matmul",
        "einsum",
        "baddbmm",
        "mul",
        "div",
        "addcmul",
        "pow",
        "exp",
        "log",
        "abs",
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "batch_norm",
        "layer_norm",
        "group_norm",
        "instance_norm",
        "rms_norm",
        "normalize",
        "local_response_norm",
        "relu",
        "relu6",
        "leaky_relu",
        "prelu",
        "elu",
        "selu",
        "celu",
        "gelu",
        "silu",
        "mish",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "logsigmoid",
        "tanh",
        "softplus",
        "softsign",
        "clamp",
        "softmax",
        "log_softmax",
        "glu",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "adaptive_max_pool1d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "lp_pool1d",
        "lp_pool2d",
        "lp_pool3d",
        "amax",
        "amin",
        "max",
        "min",
        "maximum",
        "minimum",
        "where",
        "sort",
        "topk",
        "median",
        "max_pool1d_with_indices",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "std",
        "var",
        "std_mean",
        "var_mean",
        "norm",
        "linalg_vector_norm",
        "prod",
        "cumprod",
        "logsumexp",
        "softmin",
        "reciprocal",
        "__rpow__",
        "log1p",
        "log2",
        "log10",
        "expm1",
        "exp2",
        "erf",
        "sin",
        "cos",
        "tan",
        "atan",
        "sinh",
        "cosh",
        "asinh",
        "softshrink",
        "hardshrink",
        "tanhshrink",
        "rrelu",
        "outer",
        "inner",
        "lerp",
        "cosine_similarity",
        "pairwise_distance",
        "cdist",
        "lstm_cell",
        "gru_cell",
        "rnn_tanh_cell",
        "rnn_relu_cell",
        "addbmm",
        "addmv",
        "tensordot",
        "kron",
        "addcdiv",
    }
)

DRIFT = 1e-4  # of the largest output: rules keep every value, up to the rounding of another order of sums


class Operations(TorchFunctionMode):
    """Sees the operations of a model, and lets rules answer for some of them.

    Attention is taken apart first: ``F.multi_head_attention_forward`` into linear layers and
    ``F.scaled_dot_product_attention``, and that into two products and a softmax, which rules then see.

    Rules are asked about operations on the input's graph only; products with constants scale, and are not asked about.

    ruled, unruled   how often each operation on the graph was answered by a rule, and how often one of
                     WITH_CONSEQUENCE was not
    """

    def __init__(self, rules: Mapping[str, OperationRule]) -> None:
        super().__init__()
        self.rules = rules
        self.ruled: Counter[str] = Counter()
        self.unruled: Counter[str] = Counter()

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = _held_constant(args), _held_constant(kwargs or {})
        name, in_place = canonical_name(function)
        if name in _TAKEN_APART:
            with self:  # a mode is off while it answers: on again, or the parts would not be seen
                return _TAKEN_APART[name](*args, **kwargs)
        constant = not torch.is_grad_enabled() or not on_graph(*args, *kwargs.values())
        if constant or _scales(function, name, args, kwargs):
            return function(*args, **kwargs)
        rule = self.rules.get(name)
        if rule is None:
            self.unruled[name] += name in WITH_CONSEQUENCE
            return function(*args, **kwargs)
        if in_place or kwargs.get("inplace"):
            plain = {**kwargs, **({"inplace": False} if "inplace" in kwargs else {})}
            answer = _in_place(rule, function, args, plain)
        else:
            answer = rule(function, *args, **kwargs)
        if answer is NotImplemented:
            self.unruled[name] += name in WITH_CONSEQUENCE
            return function(*args, **kwargs)
        self.ruled[name] += 1
        return answer

    def report(self) -> dict[str, dict[str, int]]:
        """The operations counted, for ``Samples.tell(operations=...)``."""
        return {"ruled": dict(self.ruled), "unruled": {name: count for name, count in self.unruled.items() if count}}


def _held_constant(value: Any) -> Any:
    """The value with every leaf detached: a weight that the model holds but has not registered is not frozen."""
    if isinstance(value, Tensor):
        return value.detach() if value.requires_grad and value.is_leaf else value
    if type(value) in (list, tuple):
        return type(value)(map(_held_constant, value))
    return {name: _held_constant(each) for name, each in value.items()} if type(value) is dict else value


def _scales(function: Callable[..., Any], name: str, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether a product or quotient is by a constant."""
    if name == "div":  # of 1 / x the first argument is x
        return "__r" not in function.__name__ and not on_graph(kwargs.get("other", args[-1] if args else None))
    return name == "mul" and not all(map(on_graph, (*args, *kwargs.values())))


def canonical_name(function: Callable[..., Any]) -> tuple[str, bool]:
    """The operation's one name, and whether this function works in place."""
    name = getattr(function, "__name__", "").partition(".")[0]  # operators are called conv2d.default
    if name.startswith("__i") and name.endswith("__") and name != "__invert__":
        return SYNONYMS.get(f"__{name[3:]}", name[3:-2]), True
    bare = name[:-1] if name.endswith("_") and not name.endswith("__") else name
    return SYNONYMS.get(bare, bare), bare != name


def on_graph(*values: Any) -> bool:
    """Whether any of the values is a tensor that depends on the input: all else is frozen or held constant."""
    return any(
        on_graph(*value) if isinstance(value, list | tuple) else isinstance(value, Tensor) and value.requires_grad
        for value in values
    )


@contextmanager
def operations_visible(model: nn.Module) -> Iterator[None]:
    """Freeze parameters, and let a compiled model run its operations one by one; scripted parts are NotApplicable."""
    for name, part in model.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise NotApplicable(f"the model's {name or 'own code'} is scripted, which hides its operations")
    with frozen(model), torch.compiler.set_stance("force_eager"):
        yield


def traced(model: nn.Module, inputs: Tensor, rules: Mapping[str, OperationRule]) -> tuple[Tensor, Tensor, Operations]:
    """The model's outputs under rules, the inputs (a leaf) on whose graph they are, and the operations seen.

    Raises RuntimeError where the first sample's outputs are not those of the model itself: then the rules would
    explain another function.
    """
    leaf, operations = inputs.detach().clone().requires_grad_(), Operations(rules)
    with operations_visible(model), torch.enable_grad():
        passed = leaf.clone()  # a model may change its input in place, which a leaf forbids
        with operations:
            outputs = model(passed)
        with torch.no_grad():
            expected = model(inputs[:1].clone())
    off = float((outputs[:1].detach() - expected).abs().max())
    if not off <= DRIFT * float(expected.abs().max()) + 1e-6:
        raise RuntimeError(f"under the rules the model's output is off by {off:.1e}: they would explain another model")
    return outputs, leaf, operations


def exact(approximate: Tensor, value: Tensor) -> Tensor:
    """A tensor of this value to the last bit, with the derivative of another."""
    return value.detach() + (approximate - approximate.detach())


def _in_place(rule: OperationRule, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    """The rule's answer written into the first argument, as the model's own operation would have done."""
    target = args[0]
    answer = rule(
        lambda first, *rest, **named: function(first.clone(), *rest, **named), target.clone(), *args[1:], **kwargs
    )
    if answer is NotImplemented:
        return answer
    target.copy_(answer)
    vars(target).update(vars(answer))  # what a rule noted on its answer
    return target


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """``F.scaled_dot_product_attention`` in its parts (1706.03762); dropout is off in eval mode and refused else."""
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


def _multi_head_attention(
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
        raise NotApplicable("the attention adds keys of its own (bias_k, add_zero_attn or static_k), which is not seen")
    batched = query.dim() == 3
    query, key, value = (each if batched else each.unsqueeze(1) for each in (query, key, value))
    weights = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    heads = [_heads(F.linear(x, w, b), num_heads) for x, w, b in zip((query, key, value), weights, biases, strict=True)]
    mask = _merged_mask(attn_mask, key_padding_mask, heads[0], num_heads)
    scores = (heads[0] / math.sqrt(heads[0].shape[-1])) @ heads[1].transpose(-2, -1)
    shares = torch.softmax(scores if mask is None else scores + mask, dim=-1)
    mixed = (shares @ heads[2]).permute(2, 0, 1, 3).flatten(2)  # (L, N, E)
    out = F.linear(mixed, out_proj_weight, out_proj_bias)
    told = (shares.mean(1) if average_attn_weights else shares) if need_weights else None
    return (out, told) if batched else (out.squeeze(1), None if told is None else told.squeeze(0))


def _heads(projected: Tensor, heads: int) -> Tensor:
    """(L, N, E) as (N, heads, L, E / heads)."""
    return projected.unflatten(-1, (heads, -1)).permute(1, 2, 0, 3)


def _merged_mask(mask: Tensor | None, padding: Tensor | None, query: Tensor, heads: int) -> Tensor | None:
    """What is added to the scores (N, heads, L, S): True means masked out in both masks of a multi-head attention."""
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


_TAKEN_APART = {
    "scaled_dot_product_attention": _attention,
    "multi_head_attention_forward": _multi_head_attention,
}
