"""Maps of activations on nets worked out by hand, by slow formulas written out, and where the object is."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from explainer_worlds import explain, linear_net, model, near, small_cnn
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.explainers._layers import layer_of_options
from harness.explainers.noise import NoisyCopies, noisy
from harness.explainers.vit_cx import summed_groups
from harness.facts import Facts
from harness.randomness import element, normal
from harness.registry import EXPLAINERS

OF_GRADIENTS = ("grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "layer_cam", "smoothgrad_cam_pp")
EVERY = (*OF_GRADIENTS, "score_cam", "ablation_cam", "eigen_cam", "activation_map")
AT_A_LAYER = [
    name
    for name, entry in EXPLAINERS.items()
    if entry.prepare is layer_of_options and entry.scope == "local" and entry.source == "harness"
]


class Head(nn.Module):
    """A spatial layer that scales the image by a factor per channel, and a linear head on its places."""

    def __init__(self, factors, weights):
        super().__init__()
        self.scale = nn.Conv2d(1, len(factors), 1, bias=False)
        self.scale.weight = nn.Parameter(factors[:, None, None, None])
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        return torch.einsum("nkhw,ckhw->nc", self.scale(x), self.weights)


def head(factors, images, classes=3):
    """A Head for these images with random weights (classes, k, h, w), one target for each image."""
    net = Head(factors, torch.randn(classes, len(factors), *images.shape[2:])).eval()
    return net, net.weights.detach(), torch.arange(len(images)) % classes


def told(name, net, x, targets, modality=None, **options):
    """The maps, and the facts that were told beside them."""
    entry, samples = EXPLAINERS[name], samples_of(net, x, targets, modality=modality)
    samples.facts, explaining = Facts(), Explaining(entry, entry.complete(options), net)
    explaining.prepare(samples)
    return explaining(samples), samples.facts


def test_grad_cam_is_the_activations_weighted_by_the_mean_gradients(seed):
    factors, x = torch.randn(2), torch.randn(3, 1, 5, 4)
    net, weights, targets = head(factors, x)
    alpha = weights.mean((2, 3))[targets]  # a logit's gradient at a place is the head's weight there
    expected = (alpha @ factors)[:, None, None, None] * x
    assert near(harness.explain("grad_cam", net, x, targets, relu=False), expected)
    assert near(harness.explain("grad_cam", net, x, targets), expected.relu())


def weight_by_derivatives(channel, logit):
    """Grad-CAM++'s weight of a channel (h, w), over exp(S), from true derivatives of exp(S(channel))."""
    a = channel.double().flatten().requires_grad_()
    y = logit(a.view(channel.shape)).exp()
    first = torch.autograd.grad(y, a, create_graph=True)[0]
    weight = 0
    for at in range(len(a)):
        row = torch.autograd.grad(first[at], a, create_graph=True)[0]
        second, third = row[at], torch.autograd.grad(row[at], a, retain_graph=True)[0][at]
        weight += second / (2 * second + a.sum() * third) * first[at].relu()
    return (weight / y).detach()


def test_grad_cam_pp_has_the_weights_that_the_derivatives_of_the_exponential_give(seed):
    factors, x = torch.rand(3) + 0.1, torch.rand(2, 1, 3, 4)
    net, weights, targets = head(factors, x)
    expected = torch.zeros_like(x)
    for n in range(2):
        for k in range(3):
            channel, slopes = factors[k] * x[n, 0], weights[targets[n], k].double()
            expected[n, 0] += weight_by_derivatives(channel, lambda a, slopes=slopes: (slopes * a).sum()) * channel
    assert near(harness.explain("grad_cam_pp", net, x, targets), expected, 1e-4)


def test_grad_cam_pp_tells_how_near_its_denominator_comes_to_zero(seed):
    x, targets = torch.ones(1, 1, 2, 2), torch.tensor([0])
    for factor, least in ((0.5, 2 + 3 * 2), (-0.125, 2 - 3 * 0.5)):  # 2 + g sum A with gradient 3 everywhere
        net = Head(torch.tensor([factor]), torch.full((1, 1, 2, 2), 3.0)).eval()
        maps, facts = told("grad_cam_pp", net, x, targets, relu=False)
        assert near(facts.per_sample["least_denominator"][0], torch.tensor([float(least)]))
        assert near(maps, torch.full_like(x, 4 * 3 / least * factor))


def test_xgrad_cam_weighs_gradients_by_activations_and_its_map_sums_as_gradient_x_activation(seed):
    factors, x = torch.tensor([0.7, 0.0, 1.3]), torch.rand(3, 1, 5, 4)
    net, weights, targets = head(factors, x)
    alpha = (weights[targets] * x).sum((2, 3)) / x.sum((2, 3))
    found = harness.explain("xgrad_cam", net, x, targets, relu=False)
    assert near(found, (alpha @ factors)[:, None, None, None] * x)
    assert near(found.sum((1, 2, 3)), net(x).gather(1, targets[:, None])[:, 0].detach())
    assert near(harness.explain("xgrad_cam", net, x, targets), found.relu())


def test_hires_cam_is_gradient_x_activation_place_by_place(seed):
    factors, x = torch.randn(2), torch.randn(3, 1, 5, 4)
    net, weights, targets = head(factors, x)
    expected = torch.einsum("nkhw,k->nhw", weights[targets], factors)[:, None] * x
    assert near(harness.explain("hires_cam", net, x, targets), expected)
    assert near(harness.explain("hires_cam", net, x, targets, relu=True), expected.relu())


def test_hires_cam_sums_to_the_logit_less_the_bias_where_pooling_and_a_linear_layer_follow(seed):
    net, x, targets = small_cnn(), torch.randn(4, 3, 12, 8), torch.tensor([3, 1, 0, 2])
    expected = net(x).gather(1, targets[:, None])[:, 0] - net[-1].bias[targets]
    found = harness.explain("hires_cam", net, x, targets)  # enlarged twice along each axis, which keeps the mean
    assert near(found.sum((1, 2, 3)) / 4, expected.detach(), rounding=1e-6)


def test_layer_cam_takes_what_is_positive_of_each_gradient(seed):
    factors, x = torch.randn(2), torch.randn(3, 1, 5, 4)
    net, weights, targets = head(factors, x)
    expected = torch.einsum("nkhw,k->nhw", weights[targets].relu(), factors)[:, None] * x
    assert near(harness.explain("layer_cam", net, x, targets, relu=False), expected)
    assert near(harness.explain("layer_cam", net, x, targets), expected.relu())


def score_cam_by_hand(net, layer, image, target, score, softmax, value):
    """One image after the other and one channel after the other, as the paper's algorithm 1 and definition 5 read."""
    chosen = (lambda z: z[0, target]) if score == "logit" else (lambda z: z.softmax(1)[0, target])
    channels = net[: layer + 1](image)
    scores, background = [], torch.full_like(image, value)
    for k in range(channels.shape[1]):
        mask = F.interpolate(channels[:, k : k + 1], image.shape[2:], mode="bilinear", align_corners=False)
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        scores.append(chosen(net(image * mask + background * (1 - mask))))
    scores = torch.stack(scores)
    weights = scores.softmax(0) if softmax else scores - chosen(net(background))
    return F.interpolate(
        (weights[:, None, None] * channels[0]).sum(0).relu()[None, None], image.shape[2:], mode="bilinear"
    )


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize(("score", "softmax"), [("logit", True), ("logit", False), ("probability", False)])
def test_score_cam_is_what_a_loop_over_channels_gives(layer, score, softmax, seed):
    net, x, targets = small_cnn(), 3 * torch.randn(3, 3, 8, 6), torch.tensor([2, 0, 3])
    with torch.no_grad():
        net[-1].weight.mul_(20)  # or all channels weigh about the same
    for baseline, value in (("zero", 0.0), (torch.full((3, 8, 6), 0.5), 0.5)):
        with torch.no_grad():
            one_by_one = [
                score_cam_by_hand(net, layer, x[n : n + 1], targets[n], score, softmax, value) for n in range(3)
            ]
        found = harness.explain(
            "score_cam", net, x, targets, layer=str(layer), score=score, softmax=softmax, baseline=baseline
        )
        assert near(found, torch.cat(one_by_one), 1e-4)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_channel_with_one_value_everywhere_has_no_part_in_score_cam(softmax, seed):
    net, x, targets = small_cnn().double(), torch.randn(2, 3, 8, 8).double(), torch.tensor([0, 1])
    with torch.no_grad():
        net[3].weight[2:] = 0
        net[3].bias[2:] = 5.0
        net[3].bias[:2] = 1.0  # alive after the ReLU whatever the weights
    other = small_cnn().double()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other[3].bias[2:] = 7.0  # a constant that the linear layer's bias makes up for
        other[-1].bias -= 2 * other[-1].weight[:, 2:].sum(1)
    first, second = (
        harness.explain("score_cam", each, x, targets, softmax=softmax, relu=False) for each in (net, other)
    )
    assert near(first, second, 1e-4) and first.abs().max() > 0
    with torch.no_grad():
        net[3].weight.zero_()
    maps, facts = told("score_cam", net, x, targets, softmax=softmax)
    assert not maps.any() and facts.per_sample["contrast"][0].tolist() == [0, 0]


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_ablation_cam_weighs_a_channel_by_what_the_score_loses_without_it(score, seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 6), torch.tensor([2, 0, 3])
    chosen = (lambda z, n: z[n, targets[n]]) if score == "logit" else (lambda z, n: z.softmax(1)[n, targets[n]])
    with torch.no_grad():
        values = net[:2](x)
        coarse = torch.zeros(3, 8, 6)
        for n in range(3):
            for k in range(6):
                without = values.clone()
                without[:, k] = 0
                coarse[n] += (chosen(net(x), n) - chosen(net[2:](without), n)) * values[n, k]
    found = harness.explain("ablation_cam", net, x, targets, layer="1", score=score)
    assert near(found[:, 0], coarse.relu(), 1e-4) and found.flatten(1).any(1).all()


def test_a_channel_of_tokens_is_ablated_in_all_of_them(seed):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.look, self.out, self.first = nn.Conv2d(1, 5, 3, 3), nn.Identity(), nn.Parameter(torch.randn(1, 2, 5))

        def forward(self, x):
            tokens = self.look(x).flatten(2).mT
            tokens = self.out(torch.cat([self.first.expand(len(x), -1, -1), tokens], 1))
            return tokens.square().sum(1)[:, :3]

    net, x, targets = Net().eval(), torch.randn(2, 1, 12, 9), torch.tensor([2, 0])
    with torch.no_grad():  # the logit of a class is a channel's own: nothing else can lower it
        coarse = net(x)[torch.arange(2), targets, None, None] * net.look(x)[torch.arange(2), targets]
        expected = F.interpolate(coarse[:, None], (12, 9), mode="bilinear")
    assert near(harness.explain("ablation_cam", net, x, targets, relu=False), expected)


def test_smoothgrad_cam_pp_without_noise_is_grad_cam_pp(seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 6), torch.tensor([2, 0, 3])
    for layer in ("1", "4"):
        plain = harness.explain("grad_cam_pp", net, x, targets, layer=layer)
        assert near(harness.explain("smoothgrad_cam_pp", net, x, targets, layer=layer, noise=0.0, samples=3), plain)


def test_smoothgrad_cam_pp_has_weights_of_derivatives_averaged_over_its_noisy_copies(seed):
    net, x, targets = small_cnn().double(), torch.randn(2, 3, 8, 6).double(), torch.tensor([2, 0])
    net[4] = nn.Tanh()  # or the gradients of all copies are about the same
    context = samples_of(net, x, targets)
    build = noisy(context, NoisyCopies(samples=4, noise=0.5), "smoothgrad_cam_pp noise")
    expected = torch.zeros(2, 1, 8, 6).double()
    for n in range(2):
        slopes = []
        for draw in range(4):
            copy = build(torch.tensor([n]), torch.tensor([draw]))
            values = net[:4](copy).detach().requires_grad_()
            slopes.append(torch.autograd.grad(net[4:](values)[0, targets[n]], values)[0][0])
        first, second, third = (torch.stack(slopes).pow(power).mean(0) for power in (1, 2, 3))
        values = net[:4](x[n : n + 1]).detach()[0]
        alpha = second / (2 * second + third * values.sum((1, 2), keepdim=True))
        weights = (alpha * first.relu()).sum((1, 2))
        coarse = torch.einsum("k,khw->hw", weights, values).relu()[None, None]
        expected[n] = F.interpolate(coarse, (8, 6), mode="bilinear")[0]
    found = harness.explain("smoothgrad_cam_pp", net, x, targets, layer="3", samples=4, noise=0.5)
    assert near(found, expected, 1e-4) and found.flatten(1).any(1).all()


def biased_cnn():
    """Convolutions, one without a bias before a batch norm, ReLUs in place, pooling and a linear layer."""
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(5, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    net.train()(2 * torch.randn(30, 3, 8, 6) + 1)
    nn.init.normal_(net[3].bias)
    return net.eval()


def test_full_gradients_add_up_to_the_output_before_they_are_made_a_map(seed):
    net, x, targets = biased_cnn().double(), torch.randn(4, 3, 8, 6).double(), torch.tensor([2, 0, 3, 1])
    _, facts = told("full_grad", net, x, targets)
    assert float(facts.per_sample["completeness_error"][0].max()) < 1e-6
    smooth = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(120, 4)).double().eval()
    _, facts = told("full_grad", smooth, x, targets)
    assert float(facts.per_sample["completeness_error"][0].min()) > 1e-3, "a tanh has a bias of its own, which is told"


def test_full_grad_is_the_sum_of_scaled_terms_of_the_input_and_of_each_bias_on_places(seed):
    net, x, targets = biased_cnn(), torch.randn(3, 3, 8, 6), torch.tensor([2, 0, 3])
    norm = net[3]
    shift = norm.bias - norm.running_mean * norm.weight / (norm.running_var + norm.eps).sqrt()
    biases = {0: net[0].bias, 3: shift, 6: net[6].bias}

    def scaled(term, size=(8, 6)):
        parts = []
        for one in term.abs():
            one = (one - one.min()) / (one.max() - one.min())
            parts.append(F.interpolate(one[None], size, mode="bilinear").sum(1))
        return torch.stack(parts)

    leaf = x.clone().requires_grad_()
    state, kept = leaf.clone(), {}
    for at, layer in enumerate(net):
        state = layer(state)
        if at in biases:
            kept[at] = state
            state = state.clone()
    slopes = torch.autograd.grad(state.gather(1, targets[:, None]).sum(), [leaf, *kept.values()])
    expected = scaled(x * slopes[0])
    for at, slope in zip(kept, slopes[1:], strict=True):
        expected = expected + scaled(slope * biases[at][:, None, None])
    assert near(harness.explain("full_grad", net, x, targets), expected.detach(), 1e-4)


def test_a_net_without_biases_has_no_full_gradient(seed):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)).eval()
    with pytest.raises(harness.NotApplicable, match="no convolution and no batch norm of the model has a bias"):
        harness.explain("full_grad", net, torch.randn(2, 3, 8, 6), torch.tensor([0, 1]))


class EachChannelByItself(nn.Module):
    """Rows of a convolution are channels of samples."""

    def __init__(self):
        super().__init__()
        self.convolution, self.last = nn.Conv2d(1, 4, 3), nn.Linear(12, 3)

    def forward(self, x):
        rows = self.convolution(x.reshape(-1, 1, *x.shape[2:])).relu().mean((2, 3))
        return self.last(rows.reshape(len(x), -1))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (EachChannelByItself, "works on more or fewer rows than there are samples"),
        (lambda: torch.jit.script(biased_cnn()), "is scripted, which hides its operations"),
    ],
)
def test_biases_that_cannot_be_seen_or_assigned_make_no_full_gradient(make, reason, count, seed):
    with pytest.raises(harness.NotApplicable, match=reason):
        harness.explain("full_grad", make().eval(), torch.randn(count, 3, 8, 6), torch.arange(count))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_vit_cx_is_what_a_loop_over_its_masks_gives(noise, seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 6), torch.tensor([2, 0, 3])
    low, high = x.amin((1, 2, 3)), x.amax((1, 2, 3))
    keys = samples_of(net, x, targets).stream("vit_cx noise")
    share = lambda image, n: net(image[None]).softmax(1)[0, targets[n]]
    expected = torch.zeros(3, 1, 8, 6)
    for n in range(3):
        channels = F.interpolate(net[:4](x[n : n + 1]), (8, 6), mode="bilinear")[0].detach()
        masks = [(each - each.min()) / (each.max() - each.min()) for each in channels]
        groups = [[at] for at in range(len(masks))]  # joined while the farthest two of any two groups are near
        far = [[1 - float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a in masks] for b in masks]
        while True:
            pairs = [
                (max(far[i][j] for i in one for j in other), one, other)
                for place, one in enumerate(groups)
                for other in groups[:place]
            ]
            nearest = min(pairs, default=(1.0, None, None), key=lambda pair: pair[0])
            if nearest[0] >= 0.3:
                break
            groups = [each for each in groups if each not in nearest[1:]] + [nearest[1] + nearest[2]]
        made = []
        for group in sorted(groups, key=min):
            total = sum(masks[at] for at in group)
            made.append((total - total.min()) / (total.max() - total.min()))
        weights = []
        for number, mask in enumerate(made):
            draws = (high[n] - low[n]) * noise * normal(element(keys[n : n + 1], torch.tensor([number])), 3, 8, 6)[0]
            both = x[n] * mask + draws * (1 - mask), x[n] + draws * (1 - mask)
            weights.append(share(both[0], n) - share(both[1], n) + share(x[n], n))
        total = sum(made)
        expected[n, 0] = sum(w * m for w, m in zip(weights, made, strict=True)) / total / len(made)
    options = {"layer": "3", "distance": 0.3, "noise": noise}
    if noise:  # the groups are numbered by the library: the noise of each mask may be another's
        assert not near(harness.explain("vit_cx", net, x, targets, **options), expected.detach(), 1e-9)
        return
    assert near(harness.explain("vit_cx", net, x, targets, **options), expected.detach(), 1e-4)


def test_vit_cx_keeps_masks_on_the_layers_grid(seed):
    """The masks of all samples at the size of the images are gigabytes."""
    channels = torch.rand(6, 4, 3).repeat(2, 1, 1) * torch.rand(12, 1, 1)
    assert summed_groups(channels, 1e-4, (64, 48)).shape == (6, 4, 3)
    assert summed_groups(channels[:1], 1e-4, (64, 48)).shape == (1, 4, 3)


def test_eigen_cam_of_one_pattern_is_the_pattern_whatever_the_signs_of_its_channels(seed):
    factors, x = torch.randn(4), torch.rand(3, 1, 5, 4)
    net, _, targets = head(factors, x)
    upright = factors.sum().sign() * factors.norm()  # the side of the mean activation, which is factors.mean() x
    assert near(harness.explain("eigen_cam", net, x, targets), upright * x)
    centred = x - x.mean((2, 3), keepdim=True)
    assert near(harness.explain("eigen_cam", net, x, targets, centred=True), upright * centred, 1e-4)


def test_eigen_cam_is_the_projection_of_largest_length_and_not_negative_where_activations_are_not(seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 6), torch.tensor([0, 1, 2])
    found = harness.explain("eigen_cam", net, x, targets, layer="1")
    points = net[:2](x).detach().flatten(2).transpose(1, 2).double()
    values, vectors = torch.linalg.eigh(points.transpose(1, 2) @ points)
    assert near(found.flatten(1), (points @ vectors[:, :, -1:])[..., 0].abs(), 1e-4)
    assert near(found.square().sum((1, 2, 3)), values[:, -1].float(), 1e-4)
    assert torch.equal(found, harness.explain("eigen_cam", net, x, targets.flip(0), layer="1")), "whatever the class"


def test_eigen_cam_behind_a_layer_norm_has_the_sign_of_its_sum_alone_and_in_company(seed):
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), _OverChannels(), nn.Flatten(), nn.Linear(8 * 36, 3)).eval()
    net, x, targets = net.double(), torch.randn(6, 3, 6, 6).double(), torch.zeros(6, dtype=torch.long)
    together = explain("eigen_cam", net, x, targets, layer="1")
    assert (together.flatten(1).sum(1) > 0).all()
    alone = torch.cat([explain("eigen_cam", net, x[i : i + 1], targets[i : i + 1], layer="1") for i in range(6)])
    assert near(alone, together, 1e-4)


class _OverChannels(nn.Module):
    """A layer norm of each place."""

    def forward(self, x):
        return nn.functional.layer_norm(x.movedim(1, -1), (x.shape[1],)).movedim(-1, 1)


def test_an_activation_map_is_the_mean_absolute_activation(seed):
    factors, x = torch.randn(4), torch.randn(3, 1, 5, 4)
    net, _, targets = head(factors, x)
    assert near(harness.explain("activation_map", net, x, targets), factors.abs().mean() * x.abs())


def test_guided_grad_cam_is_the_product_of_its_parents(seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 6), torch.tensor([0, 1, 2])
    coarse, fine = (harness.explain(name, net, x, targets) for name in ("grad_cam", "guided_backprop"))
    found = harness.explain("guided_grad_cam", net, x, targets)
    assert near(found, fine * coarse) and found.abs().max() > 0
    early, unrectified = {"layer": "0"}, {"layer": "0", "relu": False}
    for options in (early, unrectified):
        coarse = harness.explain("grad_cam", net, x, targets, **options)
        assert near(harness.explain("guided_grad_cam", net, x, targets, **options), fine * coarse)


def test_guided_grad_cam_needs_both_parents(seed):
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    x, targets = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    assert harness.explain("grad_cam", smooth, x, targets).any()
    with pytest.raises(harness.NotApplicable, match="no ReLU"):
        harness.explain("guided_grad_cam", smooth, x, targets)
    assert harness.explain("guided_backprop", flat, x, targets).any()
    with pytest.raises(harness.NotApplicable, match="no layer"):
        harness.explain("guided_grad_cam", flat, x, targets)


class Spot(nn.Module):
    """Looks at patches of 3 (x 3 (x 3)) with one of five channels only, and lays its output out in some way."""

    def __init__(self, layout, axes, places):
        super().__init__()
        self.look = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1](1, 5, 3, stride=3)
        self.seen, self.mix, self.out, self.layout = nn.ReLU(), nn.Linear(places, places), nn.Identity(), layout
        with torch.no_grad():
            self.look.weight.zero_()[2] = 1.0
            self.look.bias.zero_()
            self.mix.weight.mul_(0.1)

    def forward(self, x):
        seen = self.seen(self.look(x))
        if self.layout == "channels last":
            seen = self.out(seen.movedim(1, -1)).movedim(-1, 1)
        elif self.layout == "tokens":
            tokens = seen.flatten(2).mT
            front = torch.zeros_like(tokens[:, :2])
            seen = self.out(torch.cat([front, tokens], 1))[:, 2:].mT
        elif self.layout == "mixed tokens":
            tokens = seen.flatten(2)
            seen = self.out((tokens + self.mix(tokens)).mT).mT
        else:
            seen = self.out(seen)
        return seen.flatten(2).square().sum(2)


LAYOUTS = {
    "channels first": (12, 21),
    "channels last": (12, 21),
    "tokens": (12, 21),
    "mixed tokens": (12, 21),
    "series": (30,),
    "volume": (12, 15, 18),
}
PRECISIONS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", AT_A_LAYER)
def test_the_map_is_largest_where_the_object_is_in_every_layout_and_precision(name, layout, dtype, seed):
    size = LAYOUTS[layout]
    net, x = Spot(layout, len(size), math.prod(size) // 3 ** len(size)).eval(), torch.zeros(2, 1, *size)
    for image, corner in zip(x, (0, -3), strict=True):
        image[0][tuple(slice(corner, corner + 3 or None) for _ in size)] = 1.0
    modality = {1: "series", 2: "image", 3: "volume"}[len(size)]
    maps, facts = told(name, net.to(dtype), x.to(dtype), torch.tensor([2, 2]), modality=modality)
    assert facts.single["layer"] == "out" and maps.shape == x.shape and maps.isfinite().all()
    for found, at in zip(maps, (0, -1), strict=True):
        assert found.max() > 0 and found[0][(at,) * len(size)] >= 0.99 * found.max()


def test_a_coarse_map_is_enlarged_bilinearly_after_its_rectification(seed):
    class Coarse(Head):
        def forward(self, x):
            return super().forward(self.halve(x))

    net = Coarse(torch.ones(1), torch.ones(1, 1, 2, 2))
    net.halve = nn.Conv2d(1, 1, 2, stride=2, bias=False)
    net.halve.weight = nn.Parameter(torch.full((1, 1, 2, 2), 0.25))
    coarse = torch.randn(1, 1, 2, 2)
    x = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    half_pixels = torch.tensor([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    expected = half_pixels @ coarse.relu() @ half_pixels.T
    for name in ("grad_cam", "layer_cam"):
        assert near(harness.explain(name, net.eval(), x, torch.tensor([0])), expected)


@pytest.mark.parametrize("name", EVERY)
def test_in_place_and_reused_operations_after_the_layer_do_not_disturb_it(name, seed):
    class Net(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.conv, self.head, self.activation = nn.Conv2d(3, 5, 3), nn.Linear(5, 2), activation

        def forward(self, x):
            return self.head(self.activation(self.conv(x)).mean((2, 3)))

    shared, (x, targets) = nn.ReLU(), (torch.randn(2, 3, 7, 7), torch.tensor([0, 1]))
    nets = [Net(F.relu), Net(lambda z: F.relu(z, inplace=True)), Net(lambda z: shared(shared(z)))]
    nets[2].shared = shared
    maps = []
    for net in nets:
        net.load_state_dict(nets[0].state_dict())
        maps.append(harness.explain(name, net.eval(), x, targets, layer="conv"))
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2]) and maps[0].abs().max() > 0
    with pytest.raises(harness.NotApplicable, match="'shared' is called 2 times"):
        harness.explain(name, nets[2], x, targets, layer="shared")


def test_frozen_weights_and_a_callers_no_grad_leave_the_map_as_it_is(seed):
    net, x, targets = small_cnn(), torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    before = harness.explain("grad_cam", net, x, targets)
    with torch.no_grad():
        assert torch.equal(harness.explain("grad_cam", net.requires_grad_(False), x, targets), before)


@pytest.mark.parametrize("outputs", [(-1,), (-1, 1)])
@pytest.mark.parametrize("name", [*OF_GRADIENTS, "score_cam"])
def test_a_single_output_has_a_map(name, outputs, seed):
    net = small_cnn(classes=1)
    net.append(model(lambda z: z.view(outputs)))
    x, targets = torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.long)
    two = nn.Sequential(net, model(lambda z: torch.stack([z.view(-1), -z.view(-1)], 1))).eval()
    assert near(harness.explain(name, net.eval(), x, targets), harness.explain(name, two, x, targets))


@pytest.mark.parametrize("name", OF_GRADIENTS)
def test_a_model_without_gradients_after_the_layer_has_no_gradient_map_but_others(name, seed):
    net, x, targets = small_cnn(), torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    net.append(model(lambda z: z.detach()))
    with pytest.raises(harness.NotApplicable, match="no gradient of the model's output reaches layer '4'"):
        harness.explain(name, net, x, targets)
    for other in ("score_cam", "eigen_cam", "activation_map"):
        assert harness.explain(other, net, x, targets).any()


def test_a_flat_map_of_one_sample_is_told_and_is_no_error(seed):
    net, x = Head(torch.ones(1), torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).repeat(1, 1, 3, 4)), torch.rand(2, 1, 3, 4)
    maps, facts = told("grad_cam", net.eval(), x, torch.tensor([0, 1]))
    contrast = (x[0].max() - x[0].min()) / x[0].max()
    assert not maps[1].any() and near(facts.per_sample["contrast"][0], torch.tensor([float(contrast), 0.0]))


def test_hooks_and_wants_of_gradients_come_back_after_an_error(seed):
    class Fails(nn.Module):
        def forward(self, z):
            if len(z) > 1:
                raise RuntimeError("too many")
            return z

    net, x = small_cnn(), torch.randn(2, 3, 8, 8)
    net[5] = nn.Sequential(nn.AdaptiveAvgPool2d(1), Fails())
    net[0].weight.requires_grad_(False)
    wants = [parameter.requires_grad for parameter in net.parameters()]
    function, samples = EXPLAINERS["grad_cam"].function, samples_of(net, x, torch.tensor([0, 1]))
    prepared = EXPLAINERS["grad_cam"].prepare(net, samples)
    with pytest.raises(RuntimeError, match="too many"):  # without the harness's guard, which would put all back
        function(net, x, samples.targets, context=samples, prepared=prepared)
    assert not any(module._forward_hooks for module in net.modules()) and torch.is_grad_enabled()
    assert [parameter.requires_grad for parameter in net.parameters()] == wants


@pytest.mark.parametrize("name", EVERY)
def test_tables_are_not_applicable(name):
    net, _ = linear_net((4,))
    with pytest.raises(harness.NotApplicable, match="needs image or series or volume inputs"):
        harness.explain(name, net, torch.randn(2, 4), torch.tensor([0, 1]))


@pytest.mark.parametrize("name", ["grad_cam_pp", "eigen_cam"])
def test_memory_that_runs_out_halves_the_chunk_of_a_map_and_changes_nothing(name, seed):
    net, x, targets = small_cnn(), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0])
    expected, forward, sizes = explain(name, net, x, targets), net.forward, []

    def tight(inputs):
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("no room")
        return forward(inputs)

    net.forward = tight
    assert near(explain(name, net, x, targets), expected) and max(sizes) > 2
