"""One function in several spellings has one map, by every method with rules for operations."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from axes import told
from explainer_worlds import near

TARGETS = torch.tensor([1, 0, 2])
ROWS = torch.linspace(-2, 2, 12, dtype=torch.float64)


# Methods with rules for operations, and the options that choose other rules.
METHODS = {
    "deep_lift": ("deep_lift", {}),
    "deep_lift from noise": ("deep_lift", {"baseline": torch.linspace(-1, 1, 6, dtype=torch.float64)}),
    "deep_lift_shap": ("deep_lift_shap", {"samples": 2}),
    "lrp": ("lrp", {"epsilon": 1e-10}),
    **{f"lrp {rule}": ("lrp", {"rule": rule, "bias": "redistributed"}) for rule in ("zplus", "gamma", "alpha_beta")},
    "lrp epsilon": ("lrp", {"rule": "epsilon", "epsilon": 1e-10}),
    "lrp absorbed": ("lrp", {"rule": "epsilon", "bias": "absorbed", "epsilon": 1e-10}),
    "guided_backprop": ("guided_backprop", {}),
    "deconvnet": ("deconvnet", {}),
    "gradient_x_weight": ("gradient_x_weight", {}),
}
ATTENTIVE = {name: (name, {}) for name in ("attn_lrp", "cp_lrp", "attention", "attention_rollout")}
ATTENTIVE["att_cat"] = ("att_cat", {})
ATTENTIVE["transformer_attribution"] = ("transformer_attribution", {})

# Functions of (n, 12), each in several spellings; the first is the one that the others are compared with.
MEAN = {"dim": -1, "keepdim": True}
SPELLINGS = {
    "relu": [
        F.relu,
        nn.ReLU(),
        lambda z: z.relu(),
        lambda z: z.clone().relu_(),
        lambda z: z.clamp(min=0),
        lambda z: torch.clamp_min(z, 0),
        lambda z: torch.maximum(z, torch.zeros(())),
        lambda z: torch.maximum(torch.zeros(1), z),
        lambda z: torch.max(z, torch.zeros(())),
        lambda z: F.threshold(z, 0.0, 0.0),
    ],
    "relu6": [F.relu6, nn.ReLU6(), lambda z: z.clamp(0, 6), lambda z: F.hardtanh(z, 0, 6)],
    "hardtanh": [F.hardtanh, nn.Hardtanh(), lambda z: z.clip(-1, 1), lambda z: z.clone().clamp_(-1, 1)],
    "leaky relu": [lambda z: F.leaky_relu(z, 0.2), nn.PReLU(init=0.2), lambda z: F.rrelu(z, 0.2, 0.2)],
    "silu": [F.silu, nn.SiLU(), lambda z: z * torch.sigmoid(z), lambda z: z / (1 + torch.exp(-z))],
    "gelu": [F.gelu, nn.GELU(), lambda z: z * 0.5 * (1 + torch.erf(z / math.sqrt(2)))],
    "gelu of tanh": [
        nn.GELU("tanh"),
        lambda z: 0.5 * z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * torch.pow(z, 3.0)))),
    ],
    "mish": [F.mish, nn.Mish(), lambda z: z * torch.tanh(F.softplus(z))],
    "hardswish": [F.hardswish, nn.Hardswish(), lambda z: z * F.relu6(z + 3) / 6],
    "softsign": [F.softsign, nn.Softsign(), lambda z: z / (1 + z.abs())],
    "tanhshrink": [F.tanhshrink, nn.Tanhshrink(), lambda z: z - torch.tanh(z)],
    "softshrink": [F.softshrink, nn.Softshrink(), lambda z: z - z.clamp(-0.5, 0.5)],
    "hardshrink": [F.hardshrink, nn.Hardshrink(), lambda z: z.hardshrink()],
    "softplus": [F.softplus, nn.Softplus()],
    "sigmoid": [torch.sigmoid, nn.Sigmoid(), F.sigmoid, torch.special.expit, lambda z: z.clone().sigmoid_()],
    "square": [torch.square, lambda z: z**2, lambda z: z * z, lambda z: z.pow(2), lambda z: z.clone().mul_(z)],
    "cube": [lambda z: z**3, lambda z: z * z * z, lambda z: z.square() * z],
    "root": [
        lambda z: (z.abs() + 1).sqrt(),
        lambda z: (z.abs() + 1) ** 0.5,
        lambda z: torch.sqrt_(z.abs() + 1),
        lambda z: (z.abs() + 1).pow_(0.5),
    ],
    "gate": [
        lambda z: F.glu(z, 1),
        nn.GLU(1),
        lambda z: z[:, :6] * torch.sigmoid(z[:, 6:]),
        lambda z: torch.mul(input=z[:, :6], other=z[:, 6:].sigmoid()),
        lambda z: z[:, :6].clone().mul_(z[:, 6:].sigmoid()),
        lambda z: torch.einsum("ni,ni->ni", z[:, :6], z[:, 6:].sigmoid()),
    ],
    "sum and product": [
        lambda z: z[:, :4] + 0.5 * (z[:, 4:8] * z[:, 8:]),
        lambda z: torch.addcmul(z[:, :4], z[:, 4:8], z[:, 8:], value=0.5),
        lambda z: z[:, :4].clone().addcmul_(z[:, 4:8], z[:, 8:], value=0.5),
    ],
    "sum and quotient": [
        lambda z: z[:, :4] + z[:, 4:8] / z[:, 8:].exp(),
        lambda z: torch.addcdiv(z[:, :4], z[:, 4:8], z[:, 8:].exp()),
        lambda z: z[:, :4].clone().addcdiv_(z[:, 4:8], z[:, 8:].exp()),
        lambda z: z[:, :4] + z[:, 4:8] * z[:, 8:].exp().reciprocal(),
    ],
    "mix": [
        lambda z: z[:, :4] + z[:, 8:].sigmoid() * (z[:, 4:8] - z[:, :4]),
        lambda z: torch.lerp(z[:, :4], z[:, 4:8], z[:, 8:].sigmoid()),
        lambda z: z[:, :4].clone().lerp_(z[:, 4:8], z[:, 8:].sigmoid()),
    ],
    "constant mix": [
        lambda z: z[:, :6] + 0.3 * (z[:, 6:] - z[:, :6]),
        lambda z: torch.lerp(z[:, :6], z[:, 6:], 0.3),
        lambda z: z[:, :6].lerp(z[:, 6:], torch.tensor(0.3)),
    ],
    "larger of two": [
        lambda z: torch.maximum(z[:, :6], z[:, 6:]),
        lambda z: torch.max(z[:, :6], z[:, 6:]),
        lambda z: torch.fmax(z[:, :6], z[:, 6:]),
        lambda z: z.unflatten(1, (2, 6)).amax(1),
        lambda z: z.unflatten(1, (2, 6)).max(1).values,
    ],
    "smaller of two": [
        lambda z: torch.minimum(z[:, :6], z[:, 6:]),
        lambda z: torch.min(z[:, :6], z[:, 6:]),
        lambda z: -torch.maximum(-z[:, :6], -z[:, 6:]),
    ],
    "quotient by a norm": [
        lambda z: F.normalize(z, dim=1),
        lambda z: z / z.norm(dim=1, keepdim=True).clamp_min(1e-12),
        lambda z: z / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=1e-12),
        lambda z: z / (z * z).sum(1, keepdim=True).sqrt().clamp_min(1e-12),
        lambda z: z * z.norm(dim=1, keepdim=True).clamp_min(1e-12).reciprocal(),
        lambda z: z * (1 / z.norm(dim=1, keepdim=True).clamp_min(1e-12)),
    ],
    "root mean square": [
        lambda z: F.rms_norm(z, (12,), ROWS, 1e-6),
        lambda z: ROWS * (z / torch.sqrt(z.pow(2).mean(**MEAN) + 1e-6)),
        lambda z: ROWS * (z * torch.rsqrt(z.pow(2).mean(**MEAN) + 1e-6)),
        lambda z: (z * torch.rsqrt((z * z).mean(**MEAN) + 1e-6)) * ROWS,
        lambda z: z * (ROWS * torch.rsqrt(z.square().mean(**MEAN) + 1e-6)),
        lambda z: ROWS * (z * (z.square().mean(-1) + 1e-6).rsqrt()[:, None].to(z.dtype).expand_as(z)),
        lambda z: ROWS * (z * (z.square().mean(**MEAN) + 1e-6) ** -0.5),
        lambda z: ROWS * (z * (1 / (z.square().mean(**MEAN) + 1e-6).sqrt())),
        lambda z: ROWS * z.clone().mul_((z.square().mean(**MEAN) + 1e-6).rsqrt_()),
        lambda z: ROWS * torch.div(input=z, other=(z.square().mean(**MEAN) + 1e-6).sqrt()),
    ],
    "layer norm": [
        lambda z: F.layer_norm(z, (12,), ROWS, ROWS.flip(0), 1e-5),
        lambda z: (z - z.mean(**MEAN)) / (z.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * ROWS + ROWS.flip(0),
        lambda z: by_moments(z) * ROWS + ROWS.flip(0),
        lambda z: torch.addcmul(ROWS.flip(0), by_moments(z), ROWS),
        lambda z: F.group_norm(z, 1, ROWS, ROWS.flip(0), 1e-5),
        lambda z: F.instance_norm(z[:, None], eps=1e-5)[:, 0] * ROWS + ROWS.flip(0),
    ],
    "variance": [
        lambda z: z.view(-1, 4, 3).var(2),
        lambda z: torch.var(z.view(-1, 4, 3), 2, True),
        lambda z: torch.var_mean(z.view(-1, 4, 3), dim=2)[0],
        lambda z: (z.view(-1, 4, 3) - z.view(-1, 4, 3).mean(2, keepdim=True)).square().sum(2) / 2,
    ],
    "deviation": [
        lambda z: z.view(-1, 4, 3).std(2),
        lambda z: torch.std_mean(z.view(-1, 4, 3), 2)[0],
        lambda z: z.view(-1, 4, 3).var(2).sqrt(),
    ],
    "length": [
        lambda z: z.view(-1, 4, 3).norm(dim=2),
        lambda z: torch.linalg.vector_norm(z.view(-1, 4, 3), dim=2),
        lambda z: z.view(-1, 4, 3).square().sum(2).sqrt(),
    ],
    "cosine": [
        lambda z: F.cosine_similarity(z.view(-1, 2, 2, 3)[:, 0], z.view(-1, 2, 2, 3)[:, 1], dim=2),
        lambda z: (lambda a, b: (a * b).sum(2) / (a.norm(dim=2) * b.norm(dim=2)))(*z.view(-1, 2, 2, 3).unbind(1)),
    ],
    "products of matrices": [
        lambda z: (z.view(-1, 3, 4) @ z.tanh().view(-1, 4, 3)).flatten(1),
        lambda z: torch.bmm(z.view(-1, 3, 4), z.tanh().view(-1, 4, 3)).flatten(1),
        lambda z: torch.einsum("nij,njk->nik", z.view(-1, 3, 4), z.tanh().view(-1, 4, 3)).flatten(1),
        lambda z: torch.baddbmm(0 * ROWS[:1], z.view(-1, 3, 4), z.tanh().view(-1, 4, 3)).flatten(1),
        lambda z: (z.view(-1, 3, 4, 1) * z.tanh().view(-1, 1, 4, 3)).sum(2).flatten(1),
    ],
    "linear": [
        lambda z: F.linear(z, weights(z), ROWS[:5]),
        lambda z: z @ weights(z).T + ROWS[:5],
        lambda z: torch.addmm(ROWS[:5], z, weights(z).T),
        lambda z: torch.addmm(2 * ROWS[:5], z, weights(z).T / 4, beta=0.5, alpha=4),
        lambda z: torch.einsum("ni,oi->no", z, weights(z)) + ROWS[:5],
        lambda z: torch.baddbmm(ROWS[:5], z[None], weights(z).T[None])[0],
        lambda z: torch.tensordot(z, weights(z), dims=([1], [1])) + ROWS[:5],
        lambda z: torch.inner(z, weights(z)) + ROWS[:5],
        lambda z: torch.stack([torch.addmv(ROWS[:5], weights(z), each) for each in z]),
    ],
    "bilinear": [
        lambda z: F.bilinear(z[:, :6], z[:, 6:], weights(z, 30).view(5, 6, 12)[:, :, :6], ROWS[:5]),
        lambda z: torch.einsum("nok,nk->no", F.linear(z[:, :6], by_rows(z)).view(-1, 5, 6), z[:, 6:]) + ROWS[:5],
    ],
    "places": [
        lambda z: F.grid_sample(z.view(-1, 1, 3, 4), GRID.expand(len(z), -1, -1, -1), align_corners=True).flatten(1),
        lambda z: (z[:, None] * sampling()).sum(2),
    ],
}
# The same of images (n, 3, 4, 4).
KERNEL, SHIFT = torch.linspace(-3, 3, 54, dtype=torch.float64).sin().view(2, 3, 3, 3), ROWS[:2]
MEANS, VARIANCES, SCALES, SHIFTS = ROWS[:3], ROWS[-3:], ROWS[3:6], ROWS[5:8]
FACTORS = SCALES / (VARIANCES + 1e-5).sqrt()
STATISTICS = (SCALES, SHIFTS, MEANS, VARIANCES, False, 0.1, 1e-5, False)


def of_channels(vector):
    return vector.view(-1, 1, 1)


def normed(z):
    scaled = (z - of_channels(MEANS)) / (of_channels(VARIANCES) + 1e-5).sqrt()
    return scaled * of_channels(SCALES) + of_channels(SHIFTS)


def convolved(z):
    patches = F.unfold(z, 3, padding=1)
    return (KERNEL.flatten(1) @ patches + SHIFT[:, None]).unflatten(2, (4, 4))


ON_IMAGES = {
    "convolution": [
        lambda z: F.conv2d(z, KERNEL, SHIFT, padding=1),
        lambda z: torch.conv2d(z, KERNEL, SHIFT, padding=1),
        lambda z: F.conv2d(z, KERNEL, padding="same") + SHIFT.view(-1, 1, 1),
        lambda z: F.conv2d(F.pad(z, (1, 1, 1, 1)), KERNEL, SHIFT),
    ],
    "convolution of patches": [lambda z: F.conv2d(z, KERNEL, SHIFT, padding=1), convolved],
    "maximum of places": [
        lambda z: F.max_pool2d(z, 2),
        nn.MaxPool2d(2),
        nn.AdaptiveMaxPool2d(2),
        lambda z: F.max_pool2d(z, 2, return_indices=True)[0],
        lambda z: z.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5)),
        lambda z: z.view(-1, 3, 2, 2, 2, 2).amax(5).max(3).values,
    ],
    "mean of places": [
        lambda z: F.avg_pool2d(z, 2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(2),
        lambda z: z.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)),
        lambda z: F.interpolate(z, scale_factor=0.5, mode="area"),
    ],
    "enlarged": [
        lambda z: F.interpolate(z, scale_factor=2),
        nn.Upsample(scale_factor=2),
        lambda z: z.repeat_interleave(2, 2).repeat_interleave(2, 3),
    ],
    "batch norm": [
        lambda z: F.batch_norm(z.sin(), MEANS, VARIANCES, SCALES, SHIFTS),
        lambda z: torch.batch_norm(z.sin(), *STATISTICS),
        lambda z: normed(z.sin()),
        lambda z: z.sin() * of_channels(FACTORS) + of_channels(SHIFTS - MEANS * FACTORS),
    ],
    "batch norm of a convolution": [
        lambda z: F.batch_norm(F.conv2d(z, KERNEL[[0, 1, 1]]), MEANS, VARIANCES, SCALES, SHIFTS),
        lambda z: torch.batch_norm(F.conv2d(z, KERNEL[[0, 1, 1]]), *STATISTICS),
        lambda z: normed(F.conv2d(z, KERNEL[[0, 1, 1]])),
        lambda z: F.conv2d(z, KERNEL[[0, 1, 1]] * FACTORS.view(-1, 1, 1, 1), SHIFTS - MEANS * FACTORS),
    ],
    "sum of branches": [
        lambda z: z + z.sin(),
        lambda z: torch.add(z, z.sin()),
        lambda z: z.clone().add_(z.sin()),
        lambda z: z.sin().add(2 * z, alpha=0.5),
        lambda z: z - (-z.sin()),
        lambda z: torch.stack([z, z.sin()]).sum(0),
    ],
    "excitation": [
        lambda z: z * F.conv2d(z.mean((2, 3), keepdim=True), KERNEL[[0, 1, 1], :, :1, :1]).sigmoid(),
        lambda z: F.conv2d(F.adaptive_avg_pool2d(z, 1), KERNEL[[0, 1, 1], :, :1, :1]).sigmoid_() * z,
        lambda z: torch.einsum(
            "nchw,nc->nchw", z, F.conv2d(z.mean((2, 3), True), KERNEL[[0, 1, 1], :, :1, :1]).sigmoid()[..., 0, 0]
        ),
    ],
}
# Of guided_backprop and deconvnet, any ReLU has the rule, also one in a gate; lrp has another rule for the dense layer
# that a product with patches is than for a convolution.
OTHER_RULES = {
    ("hardswish", "guided_backprop"),
    ("hardswish", "deconvnet"),
    ("convolution of patches", "lrp"),
}
GRID = torch.tensor([[[[-0.5, 0.3], [0.2, -0.7]], [[0.9, 0.1], [-0.4, 0.6]]]], dtype=torch.float64)


def sampling():
    """The matrix (4, 12) of bilinear sampling at GRID."""
    unit = torch.eye(12, dtype=torch.float64).view(12, 1, 3, 4)
    return F.grid_sample(unit, GRID.expand(12, -1, -1, -1), align_corners=True).flatten(1).T.contiguous()


def by_moments(z):
    variance, mean = torch.var_mean(z, dim=-1, keepdim=True, correction=0)
    return (z - mean) * torch.rsqrt(variance + 1e-5)


def weights(z, rows=5):
    return torch.linspace(-1, 1, rows * 12).sin().mul(3).view(rows, 12).to(z)


def by_rows(z):
    return weights(z, 30).view(5, 6, 12)[:, :, :6].transpose(1, 2).flatten(0, 1)


class Between(nn.Module):
    """A spelling between two layers with a ReLU, so that every method has something to rule."""

    def __init__(self, spelling, first=None):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first, self.last = first or nn.Linear(6, 12), torch.randn(3, 200, generator=generator)
        self.spelling = spelling
        for parameter in self.first.parameters():
            nn.init.normal_(parameter, generator=generator)
        self.double()

    def forward(self, x):
        y = F.relu(self.spelling(F.softplus(self.first(x)) - 0.7).flatten(1) + 0.1)
        return y @ self.last[:, : y.shape[1]].to(y).T


def map_or_reason(method, net, x):
    name, options = method
    try:
        return harness.explain(name, net.eval(), told(x, TARGETS, train=x.flip(0) + 0.3), **options)
    except harness.NotApplicable as reason:
        return str(reason)


def alike(found, expected):
    if isinstance(found, str) or isinstance(expected, str):
        return found == expected
    return near(found, expected)


def methods_of(function, methods, baseline=True):
    """Those with the same rules for all spellings; a baseline of a method is for six columns."""
    fit = {name: chosen for name, chosen in methods.items() if baseline or "baseline" not in chosen[1]}
    return {name: chosen for name, chosen in fit.items() if (function, name) not in OTHER_RULES}


def differing(nets, x, methods):
    """The methods whose maps of a net differ from those of the first one, and the number of that net."""
    first, *others = nets
    assert all(near(net(x), first(x)) for net in others), "one function"
    for method, chosen in methods.items():
        expected = map_or_reason(chosen, first, x)
        yield from (
            (method, i + 1) for i, net in enumerate(others) if not alike(map_or_reason(chosen, net, x), expected)
        )


class StartingWith(nn.Module):
    """A layer on the inputs in a spelling, a ReLU, and a layer; the spelling gets weights (12, 6) and biases (12,)."""

    def __init__(self, spelling):
        super().__init__()
        self.spelling, self.last = spelling, weights(ROWS, 3)

    def forward(self, x):
        return F.relu(self.spelling(x, weights(x, 12)[:, :6], ROWS)) @ self.last.T


FIRST_LAYERS = [
    F.linear,
    lambda x, w, b: x @ w.T + b,
    lambda x, w, b: b + torch.mm(x, w.T),
    lambda x, w, b: b + torch.matmul(input=x, other=w.T),
    lambda x, w, b: torch.addmm(b, x, w.T),
    lambda x, w, b: torch.addmm(4 * b, mat1=x, mat2=w.T / 2, beta=0.25, alpha=2),
    lambda x, w, b: torch.baddbmm(b, x[:, None], w.T.expand(len(x), -1, -1))[:, 0],
    lambda x, w, b: torch.einsum("ni,oi->no", x, w) + b,
    lambda x, w, b: torch.tensordot(x, w, ([1], [1])) + b,
    lambda x, w, b: torch.inner(x, w) + b,
    lambda x, w, b: F.linear(x, w).add_(b),
    lambda x, w, b: F.linear(x, 2 * w).mul_(0.5).add_(b),
]


def test_spellings_of_the_first_layer_have_one_map(seed):
    x = torch.randn(3, 6, dtype=torch.float64)
    assert not [*differing([StartingWith(each) for each in FIRST_LAYERS], x, METHODS)]


@pytest.mark.parametrize("function", SPELLINGS)
def test_spellings_of_one_function_have_one_map(function, seed):
    x = 1.5 * torch.randn(3, 6, dtype=torch.float64)  # where contributions cancel, float32 rounds another way
    assert not [*differing([Between(each) for each in SPELLINGS[function]], x, methods_of(function, METHODS))]


@pytest.mark.parametrize("function", ON_IMAGES)
def test_spellings_of_one_function_of_images_have_one_map(function, seed):
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64)
    nets = [Between(each, nn.Conv2d(2, 3, 3, padding=1)) for each in ON_IMAGES[function]]
    assert not [*differing(nets, x, methods_of(function, METHODS, baseline=False))]


class Attending(nn.Module):
    """Two attentions over five tokens, the sum of heads' values in a spelling; (n, heads, T, d) in, (n, T, d) out."""

    def __init__(self, attention):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.layers = nn.ModuleList(nn.Linear(6, 36, bias=False) for _ in range(2))
        self.last, self.attention = nn.Linear(6, 3), attention
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)
        self.double()

    def forward(self, x):
        for layer in self.layers:
            heads = layer(x).unflatten(2, (3, 2, 6)).permute(2, 0, 3, 1, 4)
            x = x + self.attention(*heads).sum(1)
        return self.last(F.relu(x).mean(1))


def written_out(softmax=lambda s: torch.softmax(s, -1)):
    return lambda q, k, v: softmax(q @ k.transpose(-2, -1) / math.sqrt(6)) @ v


def by_batches(q, k, v):
    q, k, v = (each.flatten(0, 1) for each in (q, k, v))
    scores = torch.baddbmm(torch.empty(5, 5, dtype=q.dtype), q, k.transpose(1, 2), beta=0, alpha=1 / math.sqrt(6))
    return torch.bmm(nn.Softmax(-1)(scores), v).unflatten(0, (-1, 2))


def by_sums(q, k, v):
    shares = torch.einsum("bhqd,bhkd->bhqk", q, k).mul_(6**-0.5).softmax(-1)
    return torch.einsum("bhqk,bhkd->bhqd", shares, v)


def masked(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def masked_by_hand(q, k, v):
    seen = torch.ones(5, 5, dtype=torch.bool).tril()
    scores = (q @ k.transpose(-2, -1) * 6**-0.5).masked_fill_(~seen, -torch.inf)
    return F.softmax(scores, -1) @ v


def masked_by_sum(q, k, v):
    seen = torch.zeros(5, 5, dtype=q.dtype).masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf)
    return torch.special.softmax(q @ k.transpose(-2, -1) / 6**0.5 + seen, -1) @ v


def over_their_sum(scores):
    raised = torch.exp(scores - scores.amax(-1, keepdim=True))
    return raised / raised.sum(-1, keepdim=True)


def turning(turn):
    return lambda q, k, v: (q @ turn(k) / math.sqrt(6)).softmax(-1) @ v


ATTENTIONS = {
    "attention": [F.scaled_dot_product_attention, written_out(), by_batches, by_sums],
    "keys turned": [
        turning(lambda k: k.transpose(-2, -1)),
        turning(lambda k: k.mT),
        turning(lambda k: torch.transpose(input=k, dim0=-2, dim1=-1)),
        turning(lambda k: torch.permute(input=k, dims=(0, 1, 3, 2))),
        turning(lambda k: torch.movedim(input=k, source=2, destination=3)),
        turning(lambda k: k.swapaxes(axis0=-2, axis1=-1)),
        turning(lambda k: k.clone().transpose_(-2, -1)),
        turning(lambda k: k.clone().swapaxes_(2, 3)),
    ],
    "masked attention": [masked, masked_by_hand, masked_by_sum],
    "softmax written out": [
        written_out(),
        written_out(over_their_sum),
        written_out(lambda s: s.exp() / s.exp().sum(-1, keepdim=True)),
        written_out(lambda s: F.log_softmax(s, -1).exp()),
    ],
}


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_spellings_of_attention_have_one_map(kind, seed):
    x = torch.randn(3, 5, 6, dtype=torch.float64)
    methods = methods_of(kind, METHODS | ATTENTIVE, baseline=False)
    assert not [*differing([Attending(each) for each in ATTENTIONS[kind]], x, methods)]
