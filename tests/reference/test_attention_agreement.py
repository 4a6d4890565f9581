"""Attention maps are those that the libraries' own models give out, and what is made of them follows from those."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import harness

NAMES = ("attention", "attention_rollout", "transformer_attribution")
ALL = pytest.mark.parametrize("name", NAMES)
SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
pytestmark = pytest.mark.usefixtures("seed")


def enlivened(net):
    """Weights large enough for attention to be uneven, heads that start at zero included."""
    for parameter in net.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.3)
    return net.eval()


def matrices(maps, logits, targets):
    """What each explainer makes (N, T, T) of maps (N, heads, T, T) on the graph of the logits."""
    gradients = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), maps)
    identity = torch.eye(maps[0].shape[-1])
    rollout, relevance = identity, identity
    for weights, gradient in zip(maps, gradients, strict=True):
        rollout = (0.5 * weights.mean(1) + 0.5 * identity) @ rollout
        relevance = relevance + (weights * gradient).clamp(min=0).mean(1) @ relevance
    return {"attention": maps[-1].mean(1), "attention_rollout": rollout, "transformer_attribution": relevance}


def enlarged(row, grid, size):
    return F.interpolate(row.unflatten(1, grid)[:, None], size, mode="bilinear", align_corners=False)


def same(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    assert float(((found - expected).abs().max() / expected.abs().max()).detach()) <= tolerance


def uneven(found):
    """Whether a map is one that could be told from another."""
    spread = found.flatten(1).amax(1) - found.flatten(1).amin(1)
    return bool((spread > 1e-3 * found.flatten(1).amax(1)).all())


class Logits(nn.Module):
    """A Hugging Face classifier as a module from one float tensor to logits."""

    def __init__(self, net, argument):
        super().__init__()
        self.net, self.argument = net, argument

    def forward(self, inputs):
        return self.net(**{self.argument: inputs}).logits


def timm_vit(**options):
    sizes = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2, "num_classes": 5} | options
    return enlivened(timm.models.VisionTransformer(**sizes))


def set_fused(net, fused):
    for block in net.blocks:
        block.attn.fused_attn = fused
    return net


TIMM = {
    "class token": ({}, lambda m: m[:, 0]),
    "pooled": ({"global_pool": "avg"}, lambda m: m[:, 1:].mean(1)),
    "no class token": ({"class_token": False, "global_pool": "avg"}, lambda m: m.mean(1)),
    "registers": ({"reg_tokens": 4}, lambda m: m[:, 0]),
}


@ALL
@pytest.mark.parametrize("kind", TIMM)
def test_timms_vit_fused_and_not(name, kind):
    options, row = TIMM[kind]
    net = timm_vit(img_size=(32, 48), **options)
    x, targets, kept = torch.randn(3, 3, 32, 48), torch.tensor([0, 4, 2]), []
    set_fused(net, False)
    hooks = [block.attn.attn_drop.register_forward_hook(lambda *call: kept.append(call[2])) for block in net.blocks]
    logits = net(x)
    for hook in hooks:
        hook.remove()
    expected = row(matrices(kept, logits, targets)[name])[:, net.num_prefix_tokens :].detach()
    found = harness.explain(name, net, x, targets)
    same(found, enlarged(expected, (4, 6), (32, 48)))
    same(harness.explain(name, set_fused(net, True), x, targets), found)
    assert uneven(found)


@ALL
def test_timms_distilled_vit_reads_two_tokens(name):
    net = timm.models.deit.VisionTransformerDistilled(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=5
    )
    net, x, targets, kept = enlivened(net), torch.randn(2, 3, 32, 32), torch.tensor([1, 3]), []
    set_fused(net, False)
    hooks = [block.attn.attn_drop.register_forward_hook(lambda *call: kept.append(call[2])) for block in net.blocks]
    logits = net(x)
    for hook in hooks:
        hook.remove()
    expected = matrices(kept, logits, targets)[name][:, :2].mean(1)[:, 2:].detach()
    same(harness.explain(name, net, x, targets), enlarged(expected, (4, 4), (32, 32)))


@ALL
def test_torchvisions_vit(name):
    net = enlivened(torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=5))
    x, targets, kept = torch.randn(3, 3, 32, 32), torch.tensor([0, 4, 2]), []

    def through_the_weights_given(module, arguments, keywords, answer):
        """The module's answer made of the weights that it gives out, so that they are on the graph."""
        kept.append(answer[1])
        value = F.linear(arguments[0], *(each.chunk(3)[2] for each in (module.in_proj_weight, module.in_proj_bias)))
        mixed = kept[-1] @ value.unflatten(2, (2, 16)).transpose(1, 2)
        again = module.out_proj(mixed.transpose(1, 2).flatten(2))
        same(again, answer[0])
        return again, None

    hooks = []
    for layer in net.encoder.layers:
        hooks.append(layer.self_attention.register_forward_pre_hook(_as_asked, with_kwargs=True))
        hooks.append(layer.self_attention.register_forward_hook(through_the_weights_given, with_kwargs=True))
    logits = net(x)
    for hook in hooks:
        hook.remove()
    expected = matrices(kept, logits, targets)[name][:, 0, 1:].detach()
    found = harness.explain(name, net, x, targets)
    same(found, enlarged(expected, (4, 4), (32, 32)))
    assert uneven(found)


def _as_asked(module, arguments, keywords):
    """Asks an attention for its weights, head by head."""
    return arguments, keywords | {"need_weights": True, "average_attn_weights": False}


def two_implementations(kind, argument, **config):
    """The same Hugging Face classifier with fused attention, and written out so that it gives out its maps."""
    transformers = pytest.importorskip("transformers")
    made = []
    for written in ("sdpa", "eager"):
        settings = getattr(transformers, f"{kind}Config")(num_labels=5, **config)
        settings._attn_implementation = written
        made.append(
            getattr(
                transformers, f"{kind}ForSequenceClassification" if kind == "Bert" else f"{kind}ForImageClassification"
            )(settings).eval()
        )
    enlivened(made[0])
    made[1].load_state_dict(made[0].state_dict())
    return [Logits(net, argument) for net in made]


@ALL
def test_hugging_faces_vit(name):
    fused, eager = two_implementations("ViT", "pixel_values", image_size=32, patch_size=8, **SMALL)
    x, targets = torch.randn(3, 3, 32, 32), torch.tensor([0, 4, 2])
    given = eager.net(pixel_values=x, output_attentions=True)
    expected = matrices(given.attentions, given.logits, targets)[name][:, 0, 1:].detach()
    for net in (fused, eager):
        found = harness.explain(name, net.eval(), x, targets)
        same(found, enlarged(expected, (4, 4), (32, 32)))
        assert uneven(found)


@ALL
def test_hugging_faces_bert_on_embeddings(name):
    fused, eager = two_implementations("Bert", "inputs_embeds", vocab_size=20, **SMALL)
    x, targets = torch.randn(3, 9, 32), torch.tensor([0, 4, 2])
    given = eager.net(inputs_embeds=x, output_attentions=True)
    expected = matrices(given.attentions, given.logits, targets)[name][:, 0].detach()
    for net in (fused, eager):
        same(harness.explain(name, net.eval(), harness.Data(x, targets, modality="tokens"))[..., 0], expected)


@ALL
@pytest.mark.parametrize("kind", ["swin_tiny_patch4_window7_224", "cait_xxs24_224", "pvt_v2_b0", "mobilevit_xxs"])
def test_windows_pooled_tokens_and_mixed_heads_are_refused(name, kind):
    sizes = {"img_size": 32} if kind.startswith(("swin", "cait")) else {}
    options = {"depth": 2} if kind.startswith("cait") else {}
    net = timm.create_model(kind, num_classes=5, **sizes, **options).eval()
    reasons = {
        "swin": "within windows",
        "cait": "changed before they weigh",
        "pvt": "queries and .* keys",
        "mobilevit": "within windows",
    }
    reason = next(words for start, words in reasons.items() if kind.startswith(start))
    with pytest.raises(harness.NotApplicable, match=reason):
        harness.explain(name, net, torch.randn(1, 3, 32, 32), torch.tensor([0]))
