"""Relevance propagation against a slow reading of its formulas, against captum, and on networks of two libraries."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import harness
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.facts import Facts
from harness.registry import EXPLAINERS


def told(name, net, x, targets, **options):
    """Attributions and the facts told of them."""
    samples = samples_of(net, x, targets)
    samples.facts = Facts()
    explaining = Explaining(EXPLAINERS[name], EXPLAINERS[name].complete(options), net)
    explaining.prepare(samples)
    return explaining(samples), samples.facts


def affine(layers, shape):
    """Layers that together are affine, as a matrix (outputs, inputs) and a bias, found out by trying unit inputs."""
    with torch.no_grad():
        bias = layers(torch.zeros(1, *shape, dtype=torch.float64))
        units = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
        return (layers(units) - bias).flatten(1).T, bias.flatten()


def share_out(rule, contributions, output):
    """One output's relevance as shares of its inputs, number by number."""

    def over(counted):
        total = sum(counted)
        return [each / total if total else 0.0 for each in counted]

    above, below = ([each if sign * each > 0 else 0.0 for each in contributions] for sign in (1, -1))
    if rule == "zplus":
        return over(above)
    if rule == "alpha_beta":
        return [2 * a - b for a, b in zip(over(above), over(below), strict=True)]
    if rule == "gamma":
        favoured = above if output > 0 else below
        return over([each + 0.25 * more for each, more in zip(contributions, favoured, strict=True)])
    total = sum(contributions)
    return [each / (total + (1e-6 if total >= 0 else -1e-6)) for each in contributions]


def slowly(stages, x, target, rule, first):
    """Relevance of one input, back through stages: affine modules, "relu", and "max" over pairs of columns."""
    steps, shape = [], tuple(x.shape)
    for stage in stages:
        before = x
        if stage == "relu":
            x = x.clamp(min=0)
        elif stage == "max":
            x = torch.maximum(x[..., ::2], x[..., 1::2])
        else:
            x = stage(x[None])[0]
        steps.append((stage, before, x))
    relevance = torch.zeros_like(x)
    relevance[target] = x[target]
    for number, (stage, before, after) in reversed(list(enumerate(steps))):
        if stage == "relu":
            continue
        passed = torch.zeros(before.numel(), dtype=torch.float64)
        if stage == "max":
            left = before[..., ::2] >= before[..., 1::2]
            passed = torch.stack([relevance * left, relevance * ~left], -1).flatten()
        else:
            matrix = affine(stage, before.shape)[0]
            for row, output, given in zip(matrix, after.flatten().tolist(), relevance.flatten().tolist(), strict=True):
                if number == 0 and first == "flat":
                    shares = [float(weight != 0) / int((row != 0).sum()) for weight in row]
                else:
                    shares = share_out(rule, (row * before.flatten()).tolist(), output)
                passed += given * torch.tensor(shares, dtype=torch.float64)
        relevance = passed.view(before.shape)
    return relevance.view(shape)


def noisy_norm(channels):
    norm = nn.BatchNorm2d(channels)
    nn.init.normal_(norm.running_mean), nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.normal_(norm.weight), nn.init.uniform_(norm.bias, 0, 2)
    return norm


@pytest.mark.parametrize("first", ["flat", "same"])
@pytest.mark.parametrize("rule", ["zplus", "epsilon", "gamma", "alpha_beta"])
def test_it_is_the_formulas_walked_through_number_by_number(rule, first, seed):
    one = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), noisy_norm(3))
    two = nn.Sequential(nn.Conv2d(3, 8, 2, stride=2), noisy_norm(8))
    head = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    net = nn.Sequential(one, nn.ReLU(), nn.MaxPool2d((1, 2)), two, nn.ReLU(), head).double().eval()
    x, target = torch.randn(2, 4, 4).double(), 1
    found = told("lrp", net, x[None], torch.tensor([target]), rule=rule, first=first, bias="redistributed")[0][0]
    expected = slowly([one, "relu", "max", two, "relu", head], x, target, rule, first)
    assert expected.abs().max() > 0
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def warmed(net):
    """Statistics of a few batches in the BatchNorms."""
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 3, 64, 64) + 0.3)
    return net.eval()


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn"])
def test_networks_of_torchvision_hand_all_relevance_on(name, seed):
    net = warmed(getattr(torchvision.models, name)(num_classes=10))
    norms = sum(isinstance(part, nn.BatchNorm2d) for part in net.modules())
    x, targets = torch.randn(2, 3, 64, 64), torch.tensor([1, 5])
    product = told("input_x_gradient", net, x, targets)[0]
    for first in ("flat", "same"):
        found, facts = told("lrp", net, x, targets, first=first, bias="redistributed")
        assert torch.allclose(facts.per_sample["relevance_over_output"][0], torch.ones(2).double(), atol=5e-4)
        assert facts.single["merged_norms"] == norms and facts.single["first_layers"] == (first == "flat")
        assert facts.single["operations"]["unruled"] == {}
        assert F.cosine_similarity(found.flatten(1), product.flatten(1)).abs().max() < 0.9


def test_the_same_network_of_timm_is_explained_like_torchvisions(seed):
    net = warmed(torchvision.models.resnet18(num_classes=10))
    twin = timm.create_model("resnet18", num_classes=10).eval()
    twin.load_state_dict(net.state_dict())
    x, targets = torch.randn(2, 3, 64, 64), torch.tensor([1, 5])
    found, expected = (told("lrp", each, x, targets)[0] for each in (twin, net))
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_relevance_lost_in_an_efficientnet_is_told(seed):
    """Most of its small maps' outputs see nothing but padding and zeros, and are biases."""
    net = warmed(timm.create_model("efficientnet_lite0", num_classes=10))
    found, facts = told("lrp", net, torch.randn(2, 3, 32, 32), torch.tensor([1, 5]))
    arrived = facts.per_sample["relevance_over_output"][0]
    assert found.isfinite().all() and (arrived < 0.9).all()


def transformers():
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 5}
    yield torchvision.models.VisionTransformer(32, 8, 2, 4, 48, 96, num_classes=5)
    yield timm.create_model("vit_tiny_patch16_224", **size)


@pytest.mark.parametrize("name", ["attn_lrp", "cp_lrp"])
@pytest.mark.parametrize("number", [0, 1], ids=["torchvision", "timm"])
def test_vision_transformers_are_explained_fused_or_not(name, number, seed):
    net, x, targets = list(transformers())[number].eval(), torch.randn(2, 3, 32, 32), torch.tensor([1, 4])
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.15)
    found, facts = told(name, net, x, targets)
    ruled = facts.single["operations"]["ruled"]
    assert ruled["softmax"] == 2 and ruled["matmul"] == 4 and facts.single["operations"]["unruled"] == {}
    for plain in ("gradient", "input_x_gradient"):
        assert F.cosine_similarity(found.flatten(), told(plain, net, x, targets)[0].flatten(), 0) < 0.999
    for part in net.modules():
        if getattr(part, "fused_attn", False):
            part.fused_attn = False
    assert torch.allclose(told(name, net, x, targets)[0], found, atol=1e-5 * float(found.abs().max()))


def test_without_biases_and_embeddings_of_its_own_cp_lrp_hands_all_of_a_vision_transformers_relevance_on(seed):
    net = list(transformers())[1].eval()
    for name, parameter in net.named_parameters():
        if "bias" in name or "pos_embed" in name or "cls_token" in name:
            nn.init.zeros_(parameter)
    net.global_pool = "avg"
    arrived = told("cp_lrp", net, torch.randn(2, 3, 32, 32), torch.tensor([1, 4]))[1].per_sample
    assert torch.allclose(arrived["relevance_over_output"][0], torch.ones(2).double(), atol=2e-3)


def test_captums_rules_give_the_same_on_a_plain_sequence_of_layers(seed):
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule

    x, target = torch.rand(3, 12), 1
    ours = {
        "zplus": (lambda: Alpha1_Beta0_Rule(set_bias_to_zero=True), {"rule": "zplus"}),
        "epsilon": (lambda: EpsilonRule(epsilon=1e-6), {"rule": "epsilon"}),
        "gamma": (
            lambda: GammaRule(gamma=0.25, set_bias_to_zero=True),
            {"rule": "gamma", "bias": "redistributed"},
        ),
    }
    for name, (rule, options) in ours.items():
        net = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 30), nn.ReLU(), nn.Linear(30, 3)).eval()
        with torch.no_grad():
            net[4].bias += 10  # captum's gamma rule is for outputs above zero
        found = told("lrp", net, x, torch.full((3,), target), **options)[0]
        for layer in net[::2]:
            layer.rule = rule()
        expected = LRP(net).attribute(x, target=target).detach()
        assert float((found - expected).abs().max()) < 1e-3 * float(expected.abs().max()), name


def by_zennit(composite, net, x, targets, canonizers=(), **options):
    """What a composite of zennit gives on a copy of a net, as its canonizers change weights."""
    from zennit import composites
    from zennit.attribution import Gradient

    made = getattr(composites, composite)(stabilizer=1e-12, canonizers=list(canonizers), **options)
    with Gradient(copy.deepcopy(net), made) as attributor:
        return attributor(x, lambda outputs: outputs * F.one_hot(targets, outputs.shape[1]))[1]


COMPOSITES = {
    "epsilon_plus": "EpsilonPlus",
    "epsilon_plus_flat": "EpsilonPlusFlat",
    "epsilon_alpha2_beta1": "EpsilonAlpha2Beta1",
    "epsilon_alpha2_beta1_flat": "EpsilonAlpha2Beta1Flat",
    "epsilon_gamma_box": "EpsilonGammaBox",
}


def cnn_with_norms():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        noisy_norm(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(108, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )


def cnn_of_series():
    return nn.Sequential(
        nn.Conv1d(3, 8, 5), nn.ReLU(), nn.Conv1d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14, 4)
    )


def cnn_of_volumes():
    return nn.Sequential(nn.Conv3d(1, 6, 3), nn.ReLU(), nn.ConvTranspose3d(6, 4, 2), nn.ReLU(), nn.Flatten()).append(
        nn.Linear(4 * 125, 4)
    )


CNNS = {
    "images": (cnn_with_norms, (3, 16, 16)),
    "series": (cnn_of_series, (3, 20)),
    "volumes": (cnn_of_volumes, (1, 6, 6, 6)),
}


@pytest.mark.parametrize("bias", ["absorbed", "redistributed"])
@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("kind", CNNS)
def test_composites_are_zennits(kind, composite, bias, seed):
    """In double precision and with a small stabiliser, as zennit adds 1e-6 to sums of any size."""
    from zennit.canonizers import SequentialMergeBatchNorm

    make, shape = CNNS[kind]
    net, x, targets = make().double().eval(), torch.rand(3, *shape).double(), torch.tensor([0, 3, 1])
    data = harness.Data(x, targets, value_range=(0, 1), modality=kind.removesuffix("s") if kind != "series" else kind)
    found = harness.explain("lrp", net, data, composite=composite, bias=bias)
    options = {"low": 0.0, "high": 1.0} if composite == "epsilon_gamma_box" else {}
    options |= {"zero_params": ["bias"]} if bias == "redistributed" else {}
    expected = by_zennit(COMPOSITES[composite], net, x, targets, [SequentialMergeBatchNorm()], **options)
    assert float((found - expected).abs().max()) < 1e-3 * float(expected.abs().max())


@pytest.mark.parametrize("composite", ["epsilon_plus_flat", "epsilon_alpha2_beta1"])
def test_composites_are_zennits_on_a_residual_network(composite, seed):
    from zennit.torchvision import ResNetCanonizer

    net = warmed(torchvision.models.resnet18(num_classes=10)).double()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-12  # zennit divides by sqrt(1 + eps) once more after merging, so that its outputs differ
    x, targets = torch.randn(2, 3, 48, 48).double(), torch.tensor([1, 5])
    found = told("lrp", net, x, targets, composite=composite, bias="absorbed")[0]
    expected = by_zennit(COMPOSITES[composite], net, x, targets, [ResNetCanonizer()])
    assert float((found - expected).abs().max()) < 1e-3 * float(expected.abs().max())


def test_zennits_flat_rule_says_nothing_of_a_dense_first_layer(seed):
    """A dense layer sees every input: shared equally, all inputs get the same, whatever the class. Ours has epsilon."""
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    x, targets = torch.randn(4, 6).double(), torch.tensor([0, 1, 2, 0])
    theirs = by_zennit("EpsilonPlusFlat", net, x, targets)
    assert float((theirs - theirs[:, :1]).abs().max()) < 1e-6 * float(theirs.abs().max())
    for composite in ("epsilon_plus", "epsilon_plus_flat"):
        found = told("lrp", net, x, targets, composite=composite, bias="absorbed")[0]
        assert torch.allclose(found.double(), by_zennit("EpsilonPlus", net, x, targets), rtol=1e-3)


def test_zennits_first_layer_is_the_first_one_that_is_registered_and_no_other(seed):
    """Two branches on the input: zennit has the flat rule in one of them, and here each first convolution has it."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.relu = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3), nn.ReLU()
            self.out = nn.Linear(8 * 16, 3)

        def forward(self, x):
            return self.out(torch.cat([self.relu(self.one(x)), self.relu(self.two(x))], 1).flatten(1))

    net, x, targets = Branches().double().eval(), torch.rand(2, 1, 6, 6).double(), torch.tensor([0, 2])
    swapped = copy.deepcopy(net)
    swapped._modules = {name: net._modules[name] for name in ("two", "one", "relu", "out")}
    theirs, others = (by_zennit("EpsilonPlusFlat", each, x, targets) for each in (net, swapped))
    assert float((theirs - others).abs().max()) > 0.01 * float(theirs.abs().max())
    ours, twins = (told("lrp", each, x, targets, bias="absorbed")[0] for each in (net, swapped))
    assert torch.equal(ours, twins)
