"""Names of torch's operations: one name for each operation, and the operations that rules may treat specially."""

from collections.abc import Callable
from typing import Any

# Other names under which torch reports an operation, by the name that is used here.
_ONE_NAME_FOR = {
    "relu6": "hardtanh",
    "relu": "threshold _threshold",
    "clamp": "clamp_min clip",
    "sigmoid": "special_expit",
    "logsigmoid": "log_sigmoid",
    "abs": "absolute",
    "matmul": "__matmul__ __rmatmul__ bmm mm mv dot",
    "mul": "__mul__ __rmul__ multiply",
    "div": "true_divide divide __truediv__ __rdiv__ __rtruediv__",
    "softmax": "special_softmax",
    "pow": "rsqrt sqrt square",
    "silu": "swish",
}
SYNONYMS = {other: name for name, others in _ONE_NAME_FOR.items() for other in others.split()}

# Operations for which rules of relevance, contributions or attention differ from plain differentiation. All others
# move, add up or scale values, and plain differentiation is right for them.
WITH_CONSEQUENCE = frozenset(
    """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear addmm bilinear embedding
    matmul einsum baddbmm addbmm addmv tensordot kron outer inner mul div addcmul addcdiv lerp prod cumprod
    pow exp log abs reciprocal __rpow__ log1p log2 log10 expm1 exp2 erf sin cos tan atan sinh cosh asinh relu
    relu6 leaky_relu rrelu prelu elu selu celu gelu silu mish hardswish hardsigmoid sigmoid logsigmoid tanh
    softplus softsign softshrink hardshrink tanhshrink clamp
    lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell
    batch_norm layer_norm group_norm instance_norm rms_norm normalize local_response_norm std var std_mean
    var_mean norm linalg_vector_norm cosine_similarity pairwise_distance cdist
    softmax log_softmax softmin logsumexp glu
    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices
    adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices lp_pool1d lp_pool2d lp_pool3d amax amin max min
    maximum minimum fmax fmin where sort topk median grid_sample
    """.split()
)


def canonical_name(function: Callable[..., Any]) -> tuple[str, bool]:
    """The operation's one name, and whether this function works in place."""
    name = getattr(function, "__name__", "").partition(".")[0]  # operators are called conv2d.default
    if name.startswith("__i") and name.endswith("__") and name != "__invert__":
        return SYNONYMS.get(f"__{name[3:]}", name[3:-2]), True
    bare = name[:-1] if name.endswith("_") and not name.endswith("__") else name
    return SYNONYMS.get(bare, bare), bare != name
