"""Attention, rollout and transformer attribution on transformers worked out by hand, and the token that stands for
each unit."""

import copy
import gc
import math
import weakref
from dataclasses import replace

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import harness
from axes import meant, told
from explainer_worlds import explain_in, model, near, small_cnn
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.facts import Facts
from harness.registry import EXPLAINERS

NAMES = ("attention", "attention_rollout", "transformer_attribution")
ALL = pytest.mark.parametrize("name", NAMES)

# The same attention of queries, keys and values (N, heads, T, d), written in different ways.
WRITTEN = {
    "fused": F.scaled_dot_product_attention,
    "matmul": lambda q, k, v: F.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v,
    "tensor method": lambda q, k, v: (q @ k.mT / math.sqrt(q.shape[-1])).softmax(dim=-1).contiguous().matmul(v),
    "module and dropout": lambda q, k, v: F.dropout(nn.Softmax(-1)(q @ k.mT * q.shape[-1] ** -0.5), 0.3, False) @ v,
    "einsum": lambda q, k, v: torch.einsum(
        "bhts,bhsd->bhtd", torch.softmax(torch.einsum("bhtd,bhsd->bhts", q, k) / math.sqrt(q.shape[-1]), -1), v
    ),
    "einsum, keys first": lambda q, k, v: torch.einsum(
        "...sd, ...st -> ...td", v, torch.softmax(k @ q.mT / math.sqrt(q.shape[-1]), -2)
    ),
    "values to the left": lambda q, k, v: (v.mT @ F.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1).mT).mT,
    "moved about": lambda q, k, v: _moved(F.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)) @ v,
    "maps folded": lambda q, k, v: torch.bmm(
        F.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1).flatten(0, 1), v.flatten(0, 1)
    ).view_as(v),
    "heads in the batch": lambda q, k, v: torch.bmm(
        F.softmax(torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT) / math.sqrt(q.shape[-1]), -1), v.flatten(0, 1)
    ).view_as(v),
    "batch in the heads": lambda q, k, v: (
        torch.bmm(F.softmax(_heads_first(q) @ _heads_first(k).mT / math.sqrt(q.shape[-1]), -1), _heads_first(v))
        .unflatten(0, (q.shape[1], q.shape[0]))
        .transpose(0, 1)
    ),
}

READS = {
    "class": lambda z: z[:, 0],
    "mean": lambda z: z.mean(1),
    "class and distillation": lambda z: z[:, :2].mean(1),
    "all but the first": lambda z: z[:, 1:].mean(1),
    "last": lambda z: z[:, -1],
}


def _heads_first(tensor):
    return tensor.transpose(0, 1).flatten(0, 1)


def _moved(maps):
    """The same numbers, moved by every operation that moves numbers."""
    moved = maps.unsqueeze(0).squeeze(0).expand(len(maps), -1, -1, -1).double().float()
    moved = moved.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0).transpose(2, 3)
    return moved.contiguous().mT.reshape(maps.shape).view(maps.shape)


class Attention(nn.Module):
    """Self-attention with the weights of ``nn.MultiheadAttention``, written out in one way or another."""

    def __init__(self, width, heads, written="matmul"):
        super().__init__()
        self.own, self.heads, self.written = nn.MultiheadAttention(width, heads, batch_first=True), heads, written
        nn.init.normal_(self.own.in_proj_weight, std=0.6)
        nn.init.normal_(self.own.in_proj_bias, std=0.2)

    def forward(self, z):
        if self.written == "module":
            return self.own(z, z, z)[0]
        if self.written == "module without weights":
            return self.own(z, z, z, need_weights=False)[0]
        q, k, v = F.linear(z, self.own.in_proj_weight, self.own.in_proj_bias).chunk(3, -1)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))
        return self.own.out_proj(WRITTEN[self.written](q, k, v).transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """Tokens (N, T, width) to logits; ``by_hand`` gives its attention maps too, on the graph."""

    def __init__(self, written="matmul", layers=2, width=8, heads=2, reads="class", classes=3):
        super().__init__()
        self.blocks = nn.ModuleList(Attention(width, heads, written) for _ in range(layers))
        self.mlps = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()) for _ in range(layers)
        )
        self.reads, self.head = READS[reads], nn.Linear(width, classes)

    def forward(self, z):
        return self.head(self.reads(self.body(z)))

    def body(self, z):
        for block, mlp in zip(self.blocks, self.mlps, strict=True):
            z = z + block(F.layer_norm(z, z.shape[-1:]))
            z = z + mlp(z)
        return z

    def by_hand(self, z):
        maps = []
        for block, mlp in zip(self.blocks, self.mlps, strict=True):
            normed = (z - z.mean(2, keepdim=True)) / (z.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
            wq, wk, wv = block.own.in_proj_weight.chunk(3)
            bq, bk, bv = block.own.in_proj_bias.chunk(3)
            q, k, v = (
                (normed @ w.T + b).view(*z.shape[:2], block.heads, -1).transpose(1, 2)
                for w, b in ((wq, bq), (wk, bk), (wv, bv))
            )
            scores = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).exp()
            maps.append(scores / scores.sum(-1, keepdim=True))
            z = z + block.own.out_proj((maps[-1] @ v).transpose(1, 2).flatten(2))
            z = z + mlp(z)
        return self.head(self.reads(z)), maps


def tokens(count=4, length=6, width=8):
    return torch.randn(count, length, width), torch.arange(count) % 3


def twins(*written, **options):
    """Nets of the same weights, their attention written in different ways."""
    first = Transformer(written[0], **options).eval()
    nets = [first]
    for way in written[1:]:
        nets.append(Transformer(way, **options).eval())
        nets[-1].load_state_dict(first.state_dict())
    return nets


def chefer(net, x, targets):
    """R (N, T, T) by the paper's update, layer by layer."""
    logits, maps = net.by_hand(x)
    gradients = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), maps)
    relevance = torch.eye(x.shape[1]).repeat(len(x), 1, 1)
    for weights, gradient in zip(maps, gradients, strict=True):
        relevance = relevance + (weights * gradient).clamp(min=0).mean(1) @ relevance
    return relevance.detach()


def rollout(net, x, fuse=lambda each: each.mean(1)):
    """The product (N, T, T) of the layers' halved attention and halved identity, rows normalised."""
    product = torch.eye(x.shape[1])
    for weights in net.by_hand(x)[1]:
        layer = 0.5 * fuse(weights) + 0.5 * torch.eye(x.shape[1])
        product = (layer / layer.sum(-1, keepdim=True)) @ product
    return product.detach()


def facts_of(name, net, x, targets, modality=None, **options):
    """What the explainer tells of its work."""
    entry = EXPLAINERS[name]
    modality = modality or (None if isinstance(x, harness.Data) else meant(x))
    samples = replace(samples_of(net, x, targets, modality=modality), facts=Facts())
    explaining = Explaining(entry, entry.complete(options), net)
    explaining.prepare(samples)
    explaining(samples)
    return samples.facts


# What is computed


def test_attention_is_the_softmax_of_the_scores_in_the_row_that_is_read(seed):
    x, targets = tokens()
    weights = torch.randn(8, 3)
    net = model(lambda z: (F.softmax(z @ z.mT, -1) @ z)[:, 0] @ weights)
    scores = (x[:, :1] * x).sum(2).exp()
    expected = scores / scores.sum(1, keepdim=True)
    assert near(harness.explain("attention", net, told(x, targets))[..., 0], expected)


def test_attention_is_of_the_layer_asked_for_and_its_heads_are_fused_as_asked_for(seed):
    net, (x, targets) = Transformer(layers=3).eval(), tokens()
    maps = [each.detach() for each in net.by_hand(x)[1]]
    for layer in (-1, -2, -3):
        assert near(harness.explain("attention", net, told(x, targets), layer=layer)[..., 0], maps[layer].mean(1)[:, 0])
    assert near(harness.explain("attention", net, told(x, targets), heads="max")[..., 0], maps[-1].amax(1)[:, 0])
    assert near(harness.explain("attention", net, told(x, targets), heads="min")[..., 0], maps[-1].amin(1)[:, 0])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_rollout_is_the_product_of_halved_attention_and_halved_identity(layers, seed):
    net, (x, targets) = Transformer(layers=layers).eval(), tokens()
    found = harness.explain("attention_rollout", net, told(x, targets))[..., 0]
    assert near(found, rollout(net, x)[:, 0])
    assert torch.allclose(found.sum(1), torch.ones(4), atol=1e-5), "the token that is read shares out 1"
    greedy = harness.explain("attention_rollout", net, told(x, targets), heads="max")[..., 0]
    assert near(greedy, rollout(net, x, lambda each: each.amax(1))[:, 0])


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_transformer_attribution_is_the_papers_update_layer_by_layer(layers, seed):
    net, (x, targets) = Transformer(layers=layers).eval(), tokens()
    found = harness.explain("transformer_attribution", net, told(x, targets))[..., 0]
    assert near(found, chefer(net, x, targets)[:, 0]) and found.min() >= 0
    assert found[:, 1:].max() > 1e-4, "else nothing but the identity was compared"


def test_transformer_attribution_depends_on_the_class_and_attention_does_not(seed):
    net, (x, targets) = Transformer().eval(), tokens()
    of = {name: [harness.explain(name, net, told(x, t)) for t in (targets, (targets + 1) % 3)] for name in NAMES}
    assert near(*of["attention"]) and near(*of["attention_rollout"])
    assert not near(*of["transformer_attribution"], tolerance=1e-2)


@pytest.mark.parametrize("single", [lambda z: z, lambda z: z[:, 0]])
def test_a_single_output_has_a_map(single, seed):
    net, (x, _) = Transformer(classes=1).eval(), tokens()
    targets = torch.zeros(4, dtype=torch.long)
    found = harness.explain("transformer_attribution", nn.Sequential(net, model(single)).eval(), told(x, targets))[
        ..., 0
    ]
    assert near(found, chefer(net, x, targets)[:, 0])


# Which row


@ALL
@pytest.mark.parametrize("reads", READS)
def test_the_row_is_the_mean_over_the_tokens_that_the_head_reads(name, reads, seed):
    net, (x, targets) = Transformer(reads=reads).eval(), tokens()
    matrix = {
        "attention": net.by_hand(x)[1][-1].mean(1).detach(),
        "attention_rollout": rollout(net, x),
        "transformer_attribution": chefer(net, x, targets),
    }[name]
    assert near(harness.explain(name, net, told(x, targets))[..., 0], READS[reads](matrix))
    counts = {"class": 1, "mean": 6, "class and distillation": 2, "all but the first": 5, "last": 1}
    assert torch.cat(facts_of(name, net, x, targets).per_sample["tokens_read"]).tolist() == [counts[reads]] * 4


def test_each_sample_has_the_row_that_its_own_output_reads(seed):
    net, (x, targets) = Transformer().eval(), tokens(count=8)
    end = lambda z: z[..., 0].argmax(1)  # as CLIP finds the end of a text
    net.reads = lambda z: z[torch.arange(len(z)), end(z)]
    with torch.no_grad():
        expected = net.by_hand(x)[1][-1].mean(1)[torch.arange(8), end(net.body(x))]
    assert near(harness.explain("attention", net, told(x, targets))[..., 0], expected)


# How attention is written


@ALL
def test_every_way_to_write_attention_has_the_same_map(name, seed):
    x, targets = tokens()
    first, *others = twins(*WRITTEN, "module", "module without weights")
    expected = harness.explain(name, first, told(x, targets))
    for net in others:
        assert near(harness.explain(name, net, told(x, targets)), expected), net.blocks[0].written


@ALL
def test_torchs_encoder_has_a_map_that_its_fast_path_would_hide(name, seed):
    class Encoder(nn.Module):
        def __init__(self, batch_first):
            super().__init__()
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
            self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3)
            self.batch_first = batch_first

        def forward(self, z):
            z = self.encoder(z if self.batch_first else z.transpose(0, 1))
            return self.head(z[:, 0] if self.batch_first else z[0])

    net, other, (x, targets) = Encoder(True).eval(), Encoder(False).eval(), tokens()
    other.load_state_dict(net.state_dict())
    found = harness.explain(name, net, told(x, targets))
    for off in (torch.no_grad, torch.inference_mode):
        with off():
            assert near(harness.explain(name, net, told(x, targets)), found)
            assert near(harness.explain(name, other, told(x, targets)), found)
    if name == "attention":
        first, last = net.encoder.layers
        with torch.no_grad():
            z = first(x)
            expected = last.self_attn(z, z, z, need_weights=True)[1][:, 0]
        assert near(found[..., 0], expected)


def test_masked_attention_and_shared_keys_are_seen(seed):
    x, targets = tokens()
    weights = torch.randn(8, 3)

    def net(z):
        q, k = z.unflatten(2, (4, 2)).transpose(1, 2), z[..., :4].unflatten(2, (2, 2)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)
        return mixed.transpose(1, 2).flatten(2)[:, 2] @ weights

    found = harness.explain("attention", model(net), told(x, targets))[..., 0]
    q, k = x.view(4, 6, 4, 2)[:, 2], x[..., :4].reshape(4, 6, 2, 2)[:, :3].repeat_interleave(2, 2)
    expected = ((q[:, None] * k).sum(3) / math.sqrt(2)).softmax(1).mean(2)
    assert near(found[:, :3], expected) and found[:, 3:].abs().max() == 0


def test_values_shared_by_heads_are_seen(seed):
    x, targets = tokens()
    weights = torch.randn(8, 3)

    def net(z):
        heads = z.unflatten(2, (2, 4))
        shares = torch.einsum("bihd,bjhd->bhij", heads, heads).softmax(-1)
        return torch.einsum("bhij,bjd->bhid", shares, z).mean(1)[:, 0] @ weights

    heads = x.view(4, 6, 2, 4)
    expected = (heads[:, :1] * heads).sum(3).softmax(1).mean(2)
    assert near(harness.explain("attention", model(net), told(x, targets))[..., 0], expected)


def test_a_softmax_over_classes_or_gates_is_no_attention(seed):
    net, (x, targets) = Transformer().eval(), tokens()
    gated = model(lambda z: F.softmax(net(z * F.softmax(z.mean(1, keepdim=True), -1)), -1))
    assert (
        facts_of("attention", gated, harness.Data(x, targets, modality="tokens", task="probabilities"), None).single[
            "attention_maps"
        ]
        == 2
    )
    with pytest.raises(harness.NotApplicable, match="no softmax was seen that weighs values"):
        harness.explain(
            "attention",
            nn.Sequential(small_cnn(), nn.Softmax(-1)).eval(),
            torch.randn(2, 3, 8, 8),
            torch.tensor([0, 1]),
            task="probabilities",
        )


# Which token stands for which unit


class Patches(nn.Module):
    """Patches of an image become tokens after ``prefix`` others, which attend to the brightest patch."""

    def __init__(self, prefix, side, by="convolution", reads="class", sharpness=40.0):
        super().__init__()
        self.side, self.by, self.sharpness = side, by, sharpness
        self.convolution = nn.Conv2d(1, 4, side, stride=side)
        with torch.no_grad():
            self.convolution.weight[0], self.convolution.bias[0] = 1 / side**2, 0
        self.first = nn.Parameter(torch.cat([torch.zeros(1, prefix, 1), torch.randn(1, prefix, 3)], 2))
        self.reads, self.head = READS[reads], nn.Linear(4, 2)
        self.head.weight = nn.Parameter(torch.randn(1, 4) * torch.tensor([[1.0], [-1.0]]))  # one gains, one loses

    def forward(self, x):
        if self.by == "convolution":
            patches = self.convolution(x).flatten(2).mT
        else:
            patches = F.linear(
                F.unfold(x, self.side, stride=self.side).mT, self.convolution.weight.flatten(1), self.convolution.bias
            )
        z = torch.cat([self.first.expand(len(x), -1, -1), patches], 1)
        scores = self.sharpness * z[:, None, :, 0] + 0 * z[..., :1]  # for every query the brightness of the key
        return self.head(self.reads(z + F.softmax(scores, -1) @ z))


@ALL
@pytest.mark.parametrize(
    ("prefix", "grid", "by"),
    [
        (1, (3, 5), "convolution"),
        (0, (5, 2), "convolution"),
        (5, (2, 7), "convolution"),
        (1, (4, 3), "unfolding"),
        (2, (3, 7), "unfolding"),
    ],
)
def test_the_patch_that_all_look_at_is_the_largest_in_the_map(name, prefix, grid, by, seed):
    side, (h, w) = 6, grid
    net = Patches(prefix, side, by, "class" if prefix else "mean").eval()
    bright = torch.randperm(h * w)[:4]
    x = 0.05 * torch.randn(4, 1, h * side, w * side)
    for image, patch in zip(x, bright.tolist(), strict=True):
        image[0, patch // w * side :, patch % w * side :][:side, :side] += 1
    with torch.no_grad():  # a target that gains by what is attended to
        values = torch.cat([net.first.expand(4, -1, -1), net.convolution(x).flatten(2).mT], 1)
        looked_at = values[torch.arange(4), prefix + bright]
        targets = (looked_at @ net.head.weight.T).argmax(1)
    found = harness.explain(name, net, x, targets)
    assert found.shape == (4, 1, h * side, w * side)
    peak = found.flatten(1).argmax(1)
    row, column = peak // (w * side) // side, peak % (w * side) // side
    assert (row * w + column).tolist() == bright.tolist()
    told = facts_of(name, net, x, targets).single
    assert (told["prefix_tokens"], told["tokens"], told["attention_maps"]) == (prefix, prefix + h * w, 1)


def test_a_map_of_patches_is_enlarged_bilinearly(seed):
    net = Patches(1, 2, sharpness=1.0).eval()
    x, targets = torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 0])
    values = F.pad(F.avg_pool2d(x, 2).flatten(1), (1, 0))
    coarse = values.softmax(1)[:, 1:].view(3, 1, 2, 2)
    half_pixels = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    assert near(harness.explain("attention", net, x, targets), half_pixels @ coarse @ half_pixels.T)


def test_what_sizes_leave_open_is_asked_for(seed):
    net, x, targets = Patches(1, 8, "unfolding").eval(), torch.randn(2, 1, 24, 24), torch.tensor([0, 1])
    with pytest.raises(harness.NotApplicable, match="10 tokens may be 3 x 3 or 2 x 2 patches: give prefix_tokens"):
        harness.explain("attention", net, x, targets)
    convolved = Patches(1, 8).eval()
    convolved.load_state_dict(net.state_dict())
    expected = harness.explain("attention", convolved, x, targets)
    assert near(harness.explain("attention", net, x, targets, prefix_tokens=1), expected)
    with pytest.raises(harness.NotApplicable, match="10 tokens are no grid of patches on 24 x 24 pixels after 2"):
        harness.explain("attention", net, x, targets, prefix_tokens=2)
    net.num_prefix_tokens = 1
    assert near(harness.explain("attention", net, x, targets), expected), "what the model says of itself is believed"
    net.num_prefix_tokens = 3
    with pytest.raises(harness.NotApplicable, match="after 3 others"):
        harness.explain("attention", net, x, targets)


def test_a_class_token_behind_the_patches_is_not_taken_for_a_patch(seed):
    net = Patches(1, 6).eval()
    behind = model(
        lambda x: net.head(
            (lambda z: z + F.softmax(z @ z.mT, -1) @ z)(
                torch.cat([net.convolution(x).flatten(2).mT, net.first.expand(len(x), -1, -1)], 1)
            )[:, -1]
        )
    )
    behind.net = net
    with pytest.raises(harness.NotApplicable, match="reads token 6 alone"):
        harness.explain("attention", behind, torch.randn(2, 1, 12, 18), torch.tensor([0, 1]))


def test_tokens_of_the_models_own_are_left_out_and_steps_of_a_series_are_tokens(seed):
    net, (x, targets) = Transformer().eval(), tokens()
    first = torch.randn(1, 1, 8)
    longer = model(lambda z: net(torch.cat([first.expand(len(z), -1, -1), z], 1)))
    longer.net = net
    expected = rollout(net, torch.cat([first.expand(4, -1, -1), x], 1))[:, 0, 1:]
    assert near(harness.explain("attention_rollout", longer, told(x, targets))[..., 0], expected)
    series = model(lambda z: longer(z.mT))
    found = harness.explain("attention_rollout", series, harness.Data(x.mT.contiguous(), targets, modality="series"))
    assert found.shape == (4, 1, 6) and near(found[:, 0], expected)
    with pytest.raises(harness.NotApplicable, match="7 tokens are not the 6 units of an input after 0 others"):
        harness.explain("attention_rollout", longer, told(x, targets), prefix_tokens=0)
    halved = model(lambda z: net(z[:, ::2]))
    with pytest.raises(harness.NotApplicable, match="3 tokens are not the 6 units"):
        harness.explain("attention_rollout", halved, told(x, targets))


# Behaviour


@ALL
@pytest.mark.parametrize("written", ["fused", "module", "heads in the batch", "batch in the heads"])
def test_a_sample_alone_is_explained_as_in_company(name, written, seed):
    net, (x, targets) = Transformer(written).eval(), tokens(count=5)
    together = explain_in(5, 32, name, net, x, targets)
    alone = torch.cat([harness.explain(name, net, told(x[i : i + 1], targets[i : i + 1])) for i in range(5)])
    assert near(alone, together) and near(explain_in(4, 2, name, net, x, targets), together)


@ALL
def test_model_and_inputs_come_back_as_they_were(name, seed):
    net, (x, targets) = Transformer("module", reads="mean").eval(), tokens()
    net.blocks[0].own.in_proj_bias.requires_grad_(False)
    state, before, attend = copy.deepcopy(net.state_dict()), x.clone(), F.scaled_dot_product_attention

    def failing(z):
        raise RuntimeError("on its way")

    for reads in (net.reads, failing):
        net.reads = reads
        if reads is failing:
            with pytest.raises(RuntimeError, match="on its way"):
                EXPLAINERS[name].prepare(net, samples_of(model(lambda z: z[:, 0]), told(x, targets)))
        else:
            harness.explain(name, net, told(x, targets))
        assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())
        wanted = {key: parameter.requires_grad for key, parameter in net.named_parameters()}
        assert wanted == {key: key != "blocks.0.own.in_proj_bias" for key in wanted}
        assert all(parameter.grad is None for parameter in net.parameters())
        assert torch.equal(x, before) and F.scaled_dot_product_attention is attend


@ALL
def test_what_was_seen_is_told(name, seed):
    net, (x, targets) = Transformer("fused", layers=3).eval(), tokens()
    told = facts_of(name, net, x, targets).single
    assert (told["attention_maps"], told["tokens"], told["prefix_tokens"]) == (3, 6, 0)
    assert told["operations"]["ruled"]["softmax"] == 3 and told["operations"]["ruled"]["matmul"] == 6


def test_mistakes_are_told_in_one_line(seed):
    net, (x, targets) = Transformer().eval(), tokens()
    for layer in (-3, 0, 1):
        with pytest.raises(ValueError, match=f"layer (of .* )?is {layer}, expected .* to -1"):
            harness.explain("attention", net, told(x, targets), layer=layer)
    with pytest.raises(ValueError, match="heads (of .* )?is 'meen'"):
        harness.explain("attention_rollout", net, told(x, targets), heads="meen")
    with pytest.raises(ValueError, match="prefix_tokens (of .* )?is -1"):
        harness.explain("attention", net, told(x, targets), prefix_tokens=-1)


# What is not served, and why


def refuses(net, x, reason, **options):
    for name in NAMES:
        with pytest.raises(harness.NotApplicable, match=reason):
            harness.explain(name, net, told(x, torch.zeros(len(x), dtype=torch.long)), **options)


def test_models_without_attention_are_refused(seed):
    refuses(small_cnn(), torch.randn(2, 3, 8, 8), "no attention")
    refuses(nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval(), torch.randn(2, 6, 8), "no attention")
    refuses(nn.Sequential(nn.Linear(4, 3)).eval(), torch.randn(2, 4), "needs image or tokens or series")


def test_attention_within_windows_is_refused(seed):
    swin = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=3).eval()
    refuses(swin, torch.randn(2, 3, 32, 32), r"within windows or groups")
    net = Transformer(reads="mean").eval()

    def windows(x, join):  # 4 x 4 patches of 1 pixel in windows of 2 x 2, which would fit patches of 2 pixels
        z = x.view(len(x), 8, 2, 2, 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(len(x), 4, 4, 8)
        z = F.linear(z, torch.eye(8))
        return net.head(join(z).flatten(1, -2).mean(1))

    attend = lambda z: F.softmax(z @ z.mT, -1) @ z
    in_batch = model(lambda x: windows(x, lambda z: attend(z.flatten(0, 1)).view_as(z)))
    in_heads = model(lambda x: windows(x, attend))
    for each in (in_batch, in_heads):
        refuses(each, torch.randn(2, 8, 4, 4), "within windows")


def test_cross_attention_and_pooled_tokens_are_refused(seed):
    x, head, latents = torch.randn(2, 6, 8), torch.randn(8, 3), torch.randn(1, 4, 8)
    attend = F.scaled_dot_product_attention
    latent = model(lambda z: attend(latents.expand(len(z), -1, -1), z, z)[:, 0] @ head)
    refuses(latent, x, "4 queries and 6 keys: cross-attention, or pooled")
    refuses(model(lambda z: attend(z, z[:, ::2], z[:, ::2])[:, 0] @ head), x, "6 queries and 3 keys")
    pooled = model(lambda z: (lambda y: attend(y, y, y))(attend(z, z, z)[:, ::2])[:, 0] @ head)
    refuses(pooled, x, "changes from layer to layer: 6, 3")


def test_layers_side_by_side_are_refused(seed):
    x, head, attend = torch.randn(2, 6, 8), torch.randn(8, 3), F.scaled_dot_product_attention
    refuses(model(lambda z: (attend(z, z, z) + attend(-z, z, z))[:, 0] @ head), x, "map 2 does not depend on .* map 1")
    refuses(model(lambda z: (z + 0 * attend(z, z, z).detach())[:, 0] @ head), x, "output does not depend on attention")


def test_maps_that_are_changed_before_they_weigh_values_are_refused(seed):
    x, head, mix = torch.randn(2, 6, 8), torch.randn(8, 3), nn.Linear(2, 2)

    def talking(z):
        q = z.unflatten(2, (2, 4)).transpose(1, 2)
        shares = mix(F.softmax(q @ q.mT, -1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # across the heads
        return (shares @ q).transpose(1, 2).flatten(2)[:, 0] @ head

    refuses(model(talking), x, r"maps \(1, 2, 6, 6\) that are changed before they weigh values")
    refuses(model(lambda z: (F.softmax(z @ z.mT, -1).mT @ z)[:, 0] @ head), x, "do not sum to 1")

    def relative(z):
        shares = F.softmax(z @ z.mT, -1)
        return (shares @ z + shares @ torch.ones(6, 8))[:, 0] @ head

    refuses(model(relative), x, "weighs two sets of values")


def test_no_graph_outlives_a_call(seed):
    """A cycle of references would keep all maps in memory until the collector happens to run."""
    alive = []

    class Remembered(nn.Module):
        def forward(self, z):
            shares = F.softmax(z @ z.mT, -1)
            alive.append(weakref.ref(shares))
            return (shares @ z)[:, 0, :3]

    gc.disable()
    try:
        explain_in(2, 2, "attention", Remembered().eval(), torch.randn(2, 6, 8), torch.tensor([0, 1]))
        assert alive and all(each() is None for each in alive)
    finally:
        gc.enable()
