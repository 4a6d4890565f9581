"""Layer-wise relevance propagation: numbers worked out by hand, theorems, and twins of the same function."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from axes import meant
from axes import told as data
from explainer_worlds import explain, linear_net, model, near, small_cnn
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.explainers._lrp_composites import COMPOSITES
from harness.facts import Facts
from harness.registry import EXPLAINERS

RULES = ("zplus", "epsilon", "gamma", "alpha_beta")
CONSERVING = ({"rule": "zplus"}, {"rule": "epsilon"}, {"rule": "gamma"}, {"rule": "alpha_beta", "alpha": 1.0})


def told(name, net, x, targets, modality=None, task=None, **options):
    """Attributions and the facts told of them."""
    samples = samples_of(net, x, targets, modality=modality or meant(x), task=task)
    samples.facts = Facts()
    explaining = Explaining(EXPLAINERS[name], EXPLAINERS[name].complete(options), net)
    explaining.prepare(samples)
    return explaining(samples), samples.facts


def zeros(count):
    return torch.zeros(count, dtype=torch.long)


def output(net, x, targets):
    with torch.no_grad():
        return net(x).gather(1, targets[:, None])[:, 0]


def conserves(found, net, x, targets, tolerance=1e-4):
    return near(found.flatten(1).sum(1), output(net, x, targets), tolerance)


def free_of_biases(net):
    for part in net.modules():
        if getattr(part, "bias", None) is not None:
            nn.init.zeros_(part.bias)
    return net


def with_noisy_norms(net):
    """BatchNorms as after training, some of their scales below zero."""
    for part in net.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(part.running_mean), nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight), nn.init.normal_(part.bias)
    return net.eval()


def wide_cnn(bias=False):
    """A net in which an output without a single contribution above zero would be a rare thing."""
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 40, 3, bias=bias),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(40, 4, bias=bias),
    ).eval()


class Normalised(nn.Module):
    """Images less a mean, over a scale."""

    def __init__(self, mean, scale):
        super().__init__()
        self.mean, self.scale = mean, scale

    def forward(self, images):
        return (images - self.mean) / self.scale


class Between(nn.Module):
    """A function between two linear layers."""

    def __init__(self, first, function, last):
        super().__init__()
        self.first, self.function, self.last = first, function, last

    def forward(self, x):
        return self.last(self.function(self.first(x)))


@pytest.fixture
def two_layers():
    """Hidden 4, 2 and 0 from (1, 2, -1); output 2 * 4 - 1 * 2 + 5 * 0 + 3 = 9."""
    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)).eval()
    net[0].weight.data = torch.tensor([[2.0, 1, 1], [1, -1, -2], [-1, 0, 2]])
    net[0].bias.data, net[2].bias.data = torch.tensor([1.0, 1, 0]), torch.tensor([3.0])
    net[2].weight.data = torch.tensor([[2.0, -1, 5]])
    return net


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # (8, -2) / 6 of 9, then (2, 2, -1) / 3 of 12 and (1, -2, 2) of -3
        ({"rule": "epsilon", "bias": "redistributed"}, (5, 14, -10)),
        ({"rule": "epsilon", "epsilon": 1.0, "bias": "redistributed"}, (27 / 7, 54 / 7, -36 / 7)),
        ({"rule": "epsilon"}, (3, 6, -4)),
        ({"rule": "zplus"}, (4.5, 4.5, 0)),  # all 9 to the first hidden unit, and (2, 2, 0) / 4 of it
        ({"rule": "zplus", "bias": "absorbed"}, (144 / 55, 144 / 55, 0)),  # 8 / 11 of 9, then 2 / 5 of it each
        (
            {"rule": "gamma", "gamma": 1.0, "bias": "redistributed"},
            (288 / 49 - 9 / 14, 288 / 49 + 9 / 14, -72 / 49 - 9 / 7),
        ),
        ({"rule": "gamma", "gamma": 0.0, "bias": "redistributed"}, (5, 14, -10)),
        ({"rule": "gamma", "gamma": 0.0}, (3, 6, -4)),
        ({"rule": "alpha_beta"}, (12, 27, -30)),
        ({"rule": "alpha_beta", "alpha": 1.0}, (4.5, 4.5, 0)),
    ],
)
def test_two_layers_are_explained_as_worked_out_by_hand(options, expected, two_layers):
    x = torch.tensor([[1.0, 2, -1]])
    assert two_layers(x).item() == 9
    assert near(explain("lrp", two_layers, x, zeros(1), **options), torch.tensor([expected]).float(), 1e-5)


@pytest.mark.parametrize("options", [{"bias": "redistributed"}, {"bias": "absorbed"}])
def test_gamma_favours_what_agrees_with_an_outputs_sign(options):
    """Contributions 3 and -4 to -1: below zero the -4 counts (1 + gamma) times."""
    net = nn.Linear(2, 1, bias=False).eval()
    net.weight.data = torch.tensor([[3.0, -2]])
    found = explain("lrp", net, torch.tensor([[1.0, 2]]), zeros(1), rule="gamma", gamma=0.5, **options)
    assert near(found, torch.tensor([[1.0, -2]]))  # 3 / (3 - 6) and -6 / (3 - 6) of -1


def test_a_bias_below_zero_is_no_contribution_above_zero():
    net = nn.Linear(2, 1).eval()
    net.weight.data, net.bias.data = torch.tensor([[2.0, 1]]), torch.tensor([-1.0])
    found = explain("lrp", net, torch.ones(1, 2), zeros(1), rule="zplus", bias="absorbed")
    assert near(found, torch.tensor([[4 / 3, 2 / 3]]))  # 2 and 1 of 3 of an output of 2


@pytest.fixture
def two_windows():
    """(3, 1, 1) seen two pixels at a time with (1, -2) and bias 2: 3 and 1; output 3 + 2 * 1 = 5."""
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 2)), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
    net[0].weight.data, net[0].bias.data = torch.tensor([[[[1.0, -2]]]]), torch.tensor([2.0])
    net[3].weight.data = torch.tensor([[1.0, 2]])
    return net


def test_flat_shares_equally_among_the_pixels_of_a_window(two_windows):
    x = torch.tensor([[[[3.0, 1, 1]]]])
    assert near(explain("lrp", two_windows, x, zeros(1)), torch.tensor([[[[1.5, 2.5, 1]]]]))
    assert near(explain("lrp", two_windows, x, zeros(1), first="same"), torch.tensor([[[[3.0, 2, 0]]]]))
    black = torch.tensor([[[[3.0, 0, 0]]]])  # 5 and 2: a pixel of 0 has its share, too
    assert near(explain("lrp", two_windows, black, zeros(1)), torch.tensor([[[[2.5, 4.5, 2]]]]))


@pytest.mark.parametrize("padded", ["by the convolution", "by the model"])
def test_flat_gives_nothing_to_padding(padded, seed):
    inside = padded == "by the convolution"
    convolution = nn.Conv2d(2, 3, 3, padding=1 if inside else 0)
    layers = [convolution] if inside else [nn.ZeroPad2d(1), convolution]
    net = nn.Sequential(*layers, nn.Softplus(), nn.Flatten(), nn.Linear(48, 1)).eval()
    x = torch.randn(2, 2, 4, 4)
    found = explain("lrp", net, x, zeros(2), bias="redistributed")
    assert conserves(found, net, x, zeros(2)) and near(found[:, 0], found[:, 1])


@pytest.mark.parametrize(
    ("composite", "expected"),
    [
        ("epsilon_plus", (3, -2, 0)),
        ("epsilon_plus_flat", (1.5, 0.5, -1)),
        ("epsilon_alpha2_beta1", (6, -3 - 4, 2)),
        ("epsilon_alpha2_beta1_flat", (1.5, 0.5, -1)),
        # 4.5 and -2 of f = 1; of the 1.8: 4.5, -2 and the bias 3, of the -0.8: 1.5, -2 and the bias 3
        ("gamma", (1.8 * 4.5 / 5.5, -1.8 * 2 / 5.5 - 0.8 * 1.5 / 2.5, 0.8 * 2 / 2.5)),
        ("epsilon_gamma_box", (1.5, 1.5 - 2 / 3, -4 / 3)),  # x + 1 and 6 - 2 x: 4 and 4 of 3, 2 and 4 of -2
    ],
)
def test_a_composite_has_a_rule_for_each_kind_of_layer(composite, expected, two_windows):
    """The windows' 3 and 1 contribute 3 and -2 to f = 1, the pixels 3 and -2, 1 and -2 to the windows."""
    two_windows[3].weight.data = torch.tensor([[1.0, -2]])
    x = harness.Data(torch.tensor([[[[3.0, 1, 1]]]]), zeros(1), value_range=(-1, 3))
    options = {"gamma": 0.5, "composite": composite}
    found = harness.explain("lrp", two_windows, x, **options)
    assert near(found.flatten(), torch.tensor(expected), 1e-5)
    own = COMPOSITES[composite]
    assert torch.equal(harness.explain("lrp", two_windows, x, gamma=0.5, **own._asdict()), found)


@pytest.mark.parametrize("deep", [0, 8])
def test_biases_neither_turn_the_default_over_nor_make_it_explode(deep, seed):
    """On dense layers it is input x gradient, whatever the biases; its epsilon is no 0."""
    layers = [each for _ in range(deep) for each in (nn.Linear(20, 20), nn.ReLU())]
    net, x = nn.Sequential(*layers, nn.Linear(20, 3)).eval(), torch.randn(100, 20)
    nn.init.uniform_(net[-1].bias, -3, 3)
    targets = net(x).argmax(1)
    found = explain("lrp", net, x, targets)
    assert near(found, explain("input_x_gradient", net, x, targets), 1e-2)


@pytest.mark.parametrize("rule", RULES)
def test_one_rule_is_that_of_dense_layers_and_of_convolutions(rule, seed):
    net, x, targets = wide_cnn(), torch.randn(2, 3, 8, 8), torch.tensor([0, 3])
    one = explain("lrp", net, x, targets, rule=rule)
    assert torch.equal(one, explain("lrp", net, x, targets, dense=rule, convolution=rule))
    other = "gamma" if rule == "epsilon" else "epsilon"
    mixed = explain("lrp", net, x, targets, rule=rule, dense=other)
    assert torch.equal(
        mixed,
        explain(
            "lrp",
            net,
            x,
            targets,
            composite="epsilon_gamma_box",
            dense=other,
            convolution=rule,
            first="flat",
        ),
    )
    assert not near(mixed, one, 1e-2)


def test_attn_lrp_is_lrp_with_epsilon_everywhere_and_biases_that_keep_their_share(seed):
    net, x, targets = SmallTransformer("fused"), torch.randn(3, 5, 4), torch.tensor([0, 1, 2])
    found = explain("lrp", net, x, targets, rule="epsilon", bias="absorbed")
    assert near(found, explain("attn_lrp", net, x, targets), 1e-5)
    assert not near(explain("lrp", net, x, targets, composite="gamma", bias="absorbed"), found, 1e-2)


@pytest.mark.parametrize("padded", ["by the convolution", "by the model"])
def test_box_is_that_of_the_normalised_input_and_gives_nothing_to_padding(padded, seed):
    inside = padded == "by the convolution"
    convolution = nn.Conv2d(3, 6, 3, padding=1 if inside else 0)
    net = nn.Sequential(*([] if inside else [nn.ZeroPad2d(1)]), convolution, nn.ReLU(), nn.Flatten(), nn.Linear(96, 2))
    net, x, targets = net.double().eval(), torch.rand(2, 3, 4, 4).double(), torch.tensor([0, 1])
    mean, scale = torch.rand(3, 1, 1).double(), torch.tensor([0.5, 2, -1]).double().view(3, 1, 1)  # one is turned round
    ends = torch.stack([(0 - mean) / scale, (1 - mean) / scale])
    normed = harness.Data((x - mean) / scale, targets, value_range=(ends.amin(0), ends.amax(0)))
    options = {"first": "box", "rule": "zplus"}  # of which no contributions cancel
    expected = harness.explain("lrp", net, normed, **options)
    within = nn.Sequential(Normalised(mean, scale), net).eval()
    raw = harness.Data(x, targets, value_range=(0, 1))
    assert near(harness.explain("lrp", within, raw, **options), expected, 1e-5)
    assert conserves(expected, net, normed.inputs, targets)
    black = harness.explain("lrp", within, replace(raw, inputs=torch.zeros_like(x)), **options)
    assert black.abs().sum() > 0  # black is an input like any other


def test_box_needs_the_range_of_the_inputs():
    with pytest.raises(harness.NotApplicable, match="give value_range="):
        harness.explain("lrp", small_cnn(), torch.rand(2, 3, 8, 8), zeros(2), first="box")


@pytest.mark.parametrize("modality", ["image", "series", "volume", "tokens"])
def test_first_convolutions_have_their_rule_on_everything_but_words(modality, seed):
    axes = {"image": 2, "series": 1, "volume": 3, "tokens": 1}[modality]
    convolution = getattr(nn, f"Conv{axes}d")(3, 4, 2)
    head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    net = nn.Sequential(convolution, head).eval()
    x = torch.randn(2, 3, *[4] * axes)
    net(x)
    if modality == "tokens":
        x, net = x.mT, nn.Sequential(Turned(), net).eval()
    found, facts = told("lrp", net, x, zeros(2), modality)
    shared = facts.single["first_layers"] == 1
    assert shared == (modality != "tokens")
    assert torch.equal(found, told("lrp", net, x, zeros(2), modality, first="same")[0]) != shared


class Turned(nn.Module):
    """Tokens (N, T, D) as (N, D, T)."""

    def forward(self, tokens):
        return tokens.mT


def test_flat_is_for_convolutions_alone(seed):
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 2)).eval()
    x = torch.randn(2, 3, 4, 4)
    found, facts = told("lrp", net, x, zeros(2))
    assert facts.single["first_layers"] == 0
    assert torch.equal(found, explain("lrp", net, x, zeros(2), first="same")) and found.flatten(1).std(1).min() > 0


@pytest.mark.parametrize("options", [*CONSERVING, {"rule": "gamma", "bias": "absorbed"}])
@pytest.mark.parametrize("first", ["flat", "same"])
def test_without_biases_all_relevance_arrives(options, first, seed):
    net = wide_cnn()
    x, targets = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    found, facts = told("lrp", net, x, targets, first=first, **options)
    assert conserves(found, net, x, targets, 1e-3)
    share = found.double().flatten(1).sum(1) / output(net, x, targets).double()
    assert near(facts.per_sample["relevance_over_output"][0], share, 1e-3)


def test_alpha_beta_conserves_where_every_output_has_contributions_of_both_signs(seed):
    net = nn.Sequential(nn.Linear(30, 40), nn.LeakyReLU(), nn.Linear(40, 3)).eval()
    x, targets = torch.randn(4, 30), torch.tensor([0, 1, 2, 0])
    assert conserves(explain("lrp", net, x, targets, rule="alpha_beta"), net, x, targets, 1e-3)
    lone = nn.Linear(2, 1, bias=False).eval()
    lone.weight.data = torch.ones(1, 2)
    found = explain("lrp", lone, torch.tensor([[1.0, 3]]), zeros(1), rule="alpha_beta", alpha=3.0)
    assert near(found, torch.tensor([[3.0, 9]]))  # nothing below zero takes its -2 shares


@pytest.mark.parametrize("first", ["flat", "same"])
def test_what_biases_contribute_is_handed_on(first, seed):
    net, x, targets = wide_cnn(bias=True), torch.rand(4, 3, 8, 8) + 0.1, torch.tensor([0, 1, 2, 3])
    assert conserves(explain("lrp", net, x, targets, first=first, bias="redistributed"), net, x, targets)
    lost = explain("lrp", net, x, targets, first=first, bias="absorbed").flatten(1).sum(1) - output(net, x, targets)
    assert (lost.abs() > 1e-3).any()


def test_epsilon_is_input_x_gradient_on_relu_nets_that_absorb_or_have_no_biases(seed):
    x, targets = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    for net, bias in ((small_cnn(), "absorbed"), (free_of_biases(small_cnn()), "redistributed")):
        product = explain("input_x_gradient", net, x, targets)
        found = explain("lrp", net, x, targets, rule="epsilon", first="same", bias=bias, epsilon=1e-9)
        assert near(found, product, 1e-4)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("first", ["flat", "same"])
def test_it_is_neither_the_gradient_nor_input_x_gradient(rule, first, seed):
    net, x, targets = small_cnn(), torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    for part in net.modules():
        if getattr(part, "bias", None) is not None:
            nn.init.uniform_(part.bias, 0.2, 0.5)
    found = explain("lrp", net, x, targets, rule=rule, first=first, bias="redistributed").flatten(1)
    for name in ("gradient", "input_x_gradient"):
        assert F.cosine_similarity(found, explain(name, net, x, targets).flatten(1)).max() < 0.999


class Twin(nn.Module):
    """One function in several spellings."""

    def __init__(self, spelling):
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.out, self.act = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3), nn.ReLU()
        self.spelling = spelling

    def forward(self, x):
        return getattr(self, self.spelling)(x)

    def modules_alone(self, x):
        x = nn.MaxPool2d(2)(nn.ReLU()(self.norm(self.first(x))))
        x = x + nn.ReLU()(self.second(x))
        return self.out(nn.Flatten()(nn.AdaptiveAvgPool2d(1)(x)))

    def functions(self, x):
        n = self.norm
        x = F.conv2d(x, self.first.weight, self.first.bias, padding=1)
        x = F.relu(F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, eps=n.eps))
        x = F.max_pool2d(x, 2)
        x = torch.add(x, torch.relu(torch.conv2d(x, self.second.weight, self.second.bias, padding=1)))
        return F.linear(x.mean((2, 3)), self.out.weight, self.out.bias)

    def reused(self, x):
        x = F.max_pool2d(self.act(self.norm(self.first(x))), 2)
        return self.out((x + self.act(self.second(x))).mean((2, 3)))

    def in_place(self, x):
        x = F.max_pool2d(self.norm(self.first(x)).relu_(), 2)
        change = F.relu(self.second(x), inplace=True)
        change += x
        return self.out(change.mean((2, 3)))

    def written_out(self, x):
        w = self.second.weight.flatten(1)
        x = F.max_pool2d(torch.clamp(self.norm(self.first(x)), min=0), 2)
        patches = F.unfold(x, 3, padding=1)
        change = (torch.einsum("ok,nkt->not", w, patches) + self.second.bias[:, None]).view_as(x)
        pooled = (x + torch.clamp_min(change, 0)).mean((2, 3))
        return pooled @ self.out.weight.T + self.out.bias

    def by_addmm(self, x):
        x = F.max_pool2d(self.act(self.norm(self.first(x))), 2)
        pooled = (x + self.act(self.second(x))).mean((2, 3))
        return torch.addmm(self.out.bias, pooled, self.out.weight.T)

    def by_mm(self, x):
        x = F.max_pool2d(self.act(self.norm(self.first(x))), 2)
        return self.out.bias + (x + self.act(self.second(x))).mean((2, 3)).mm(self.out.weight.T)


@pytest.mark.parametrize("options", [*({"rule": rule} for rule in RULES), {"rule": "zplus", "bias": "absorbed"}])
@pytest.mark.parametrize("spelling", ["functions", "reused", "in_place", "written_out", "by_addmm", "by_mm"])
def test_spellings_of_one_function_are_explained_alike(spelling, options, seed):
    net = with_noisy_norms(Twin("modules_alone")).double()  # where contributions cancel, float32 rounds another way
    x, targets = torch.randn(3, 2, 8, 8).double(), torch.tensor([0, 1, 2])
    twin = copy.deepcopy(net)
    twin.spelling = spelling
    found, facts = told("lrp", twin, x, targets, **options)
    assert near(found, explain("lrp", net, x, targets, **options), 1e-6)
    assert facts.single["merged_norms"] == 1 and facts.single["linear_layers"] == 3
    assert facts.single["operations"]["unruled"] == {}


def conv_then_norm(axes, transposed):
    kind = getattr(nn, f"Conv{'Transpose' if transposed else ''}{axes}d")
    norm = getattr(nn, f"BatchNorm{axes}d")(4)
    head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    return with_noisy_norms(nn.Sequential(kind(2, 4, 2), norm, head))


@pytest.mark.parametrize("options", [{}, *({"rule": rule} for rule in RULES), {"bias": "absorbed"}])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_norm_right_after_a_convolution_is_folded_into_it(axes, transposed, options, seed):
    net, x, targets = conv_then_norm(axes, transposed), torch.randn(3, 2, *[4] * axes).double(), torch.tensor([0, 1, 2])
    net(x.float())
    net.double()
    folded = copy.deepcopy(net)
    folded[0] = nn.utils.fusion.fuse_conv_bn_eval(net[0], net[1], transpose=transposed)
    folded[1] = nn.Identity()
    options = {"first": "same", **options} if options else {}
    found, facts = told("lrp", net, x, targets, **options)
    assert facts.single["merged_norms"] == 1 and facts.single["first_layers"] == (axes > 1 and not options)
    assert near(found, explain("lrp", folded, x, targets, **options), 1e-6)


def test_a_norm_right_after_a_linear_layer_is_folded_into_it(seed):
    net = with_noisy_norms(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))).double()
    folded, x, targets = copy.deepcopy(net), torch.randn(4, 6).double(), torch.tensor([0, 1, 2, 0])
    folded[0], folded[1] = nn.utils.fusion.fuse_linear_bn_eval(net[0], net[1]), nn.Identity()
    for rule in RULES:
        assert near(explain("lrp", net, x, targets, rule=rule), explain("lrp", folded, x, targets, rule=rule), 1e-6)


def test_a_norm_is_not_folded_over_what_was_done_in_place_in_between(seed):
    class Rectified(nn.Module):
        def __init__(self, in_place):
            super().__init__()
            self.conv, self.norm, self.out = nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Linear(27, 2)
            self.in_place = in_place

        def forward(self, x):
            x = self.conv(x)
            x = x.relu_().mul_(2) if self.in_place else 2 * x.relu()
            return self.out(self.norm(x).relu().flatten(1))

    net, x, targets = with_noisy_norms(Rectified(False)), torch.randn(3, 1, 4, 4), torch.tensor([0, 1, 0])
    twin = copy.deepcopy(net)
    twin.in_place = True
    found, facts = told("lrp", twin, x, targets, first="same")
    assert facts.single["merged_norms"] == 0
    assert near(found, explain("lrp", net, x, targets, first="same"), 1e-6)


@pytest.mark.parametrize("options", [{}, {"first": "same"}, {"rule": "gamma"}])
def test_normalising_inside_the_model_or_before_it_makes_no_difference(options, seed):
    net, targets = small_cnn().double(), torch.tensor([0, 1])
    mean, scale = torch.rand(3, 1, 1).double(), torch.rand(3, 1, 1).double() + 0.5
    x = torch.rand(2, 3, 8, 8).double() * (torch.rand(2, 1, 8, 8) > 0.3)  # with black pixels
    inside = nn.Sequential(Normalised(mean, scale), net).eval()
    expected = explain("lrp", net, (x - mean) / scale, targets, **options)
    assert near(explain("lrp", inside, x, targets, **options), expected, 1e-4)
    norm = nn.BatchNorm2d(3).double().eval()
    norm.running_mean, norm.running_var, norm.eps = mean.flatten(), scale.flatten() ** 2, 0.0
    assert near(explain("lrp", nn.Sequential(norm, net).eval(), x, targets, **options), expected, 1e-4)


@pytest.mark.parametrize("first", ["flat", "same"])
def test_no_branch_on_the_input_loses_its_relevance(first, seed):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.out = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 2, 5), nn.Linear(252, 2)

        def forward(self, x):
            branches = [self.one(x).relu()[..., 1:-1, 1:-1], self.two(x).relu(), x[:, :, 2:-2, 2:-2].abs()]
            return self.out(torch.cat(branches, 1).flatten(1))

    net, x, targets = Branches().eval(), torch.rand(3, 2, 10, 10) + 0.1, torch.tensor([0, 1, 0])
    found, facts = told("lrp", net, x, targets, first=first, bias="redistributed")
    assert facts.single["first_layers"] == 2 * (first == "flat")
    assert conserves(found, net, x, targets)


@pytest.mark.parametrize(
    "middle",
    [
        nn.LayerNorm([4, 6]),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm1d(4, affine=True),
        nn.RMSNorm(6),
        nn.GELU(),
        nn.SiLU(),
        nn.LeakyReLU(),
        nn.ReLU6(),
        nn.Tanh(),
        nn.Sigmoid(),
        nn.PReLU(),
        nn.ELU(),
        nn.Hardswish(),
        nn.MaxPool1d(2),
        nn.AvgPool1d(2),
        nn.LocalResponseNorm(2),
        nn.ConvTranspose1d(4, 4, 3, groups=2),
        nn.Upsample(scale_factor=2),
        nn.BatchNorm1d(4),
        nn.Dropout(),
    ],
    ids=lambda part: type(part).__name__,
)
def test_every_operation_with_a_rule_hands_all_relevance_on(middle, seed):
    for name, parameter in middle.named_parameters():
        if "bias" in name:
            nn.init.normal_(parameter)
    first = nn.Sequential(nn.Linear(5, 6), nn.Softplus())
    net = nn.Sequential(first, middle, nn.Flatten(), nn.LazyLinear(2)).eval()
    x, targets = torch.rand(3, 4, 5) + 0.1, torch.tensor([0, 1, 0])
    net(x)
    net, x = copy.deepcopy(net).double(), x.double()
    found, facts = told("lrp", net, x, targets, rule="epsilon", epsilon=1e-12, bias="redistributed")
    assert facts.single["operations"]["unruled"] == {}
    rounding = 1e-5 * float(found.abs().max())  # maps are float32, and large relevances may cancel
    assert near(found.flatten(1).sum(1), output(net, x, targets), 1e-3, rounding)


def test_norms_written_out_are_explained_like_modules(seed):
    def written(x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    def root_mean_square(x):
        return x * torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-5)

    modules = {written: lambda x: F.layer_norm(x, (8,)), root_mean_square: lambda x: F.rms_norm(x, (8,), eps=1e-5)}
    first, last, x = nn.Linear(6, 8), nn.Linear(8, 2), torch.randn(3, 6)
    for by_hand, function in modules.items():
        found, expected = (
            explain("lrp", Between(first, each, last).eval(), x, zeros(3)) for each in (by_hand, function)
        )
        assert near(found, expected, 1e-4)


def test_a_gate_and_what_it_gates_get_half_each(seed):
    """f = (a x1)(b x2): half of f each; and of a product with itself, all."""
    net = model(lambda x: F.linear(x[:, :1], torch.tensor([[3.0]])) * F.linear(x[:, 1:], torch.tensor([[-2.0]])))
    found = explain("lrp", net, torch.tensor([[1.0, 5]]), zeros(1), rule="epsilon")
    assert near(found, torch.tensor([[-15.0, -15]]))
    square = model(lambda x: F.linear(x, torch.tensor([[3.0]])) ** 2)
    assert near(explain("lrp", square, torch.tensor([[2.0]]), zeros(1)), torch.tensor([[36.0]]))


def test_relevance_that_only_a_bias_could_explain_is_told_to_be_lost():
    """A black half: its two outputs are biases alone, 2 of 3 + 2."""
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 2), stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1, bias=False)).eval()
    net[0].weight.data, net[0].bias.data = torch.tensor([[[[1.0, 0]]]]), torch.tensor([2.0])
    net[3].weight.data = torch.ones(1, 2)
    found, facts = told("lrp", net, torch.tensor([[[[1.0, 1, 0, 0]]]]), zeros(1), first="same")
    assert near(found, torch.tensor([[[[3.0, 0, 0, 0]]]]))
    assert near(facts.per_sample["relevance_over_output"][0], torch.tensor([0.6]))


def test_operations_without_a_rule_are_told(seed):
    net = nn.Sequential(nn.Linear(5, 8), nn.GLU(), nn.Linear(4, 3), nn.Softmax(1)).eval()
    facts = told("lrp", net, torch.randn(2, 5), zeros(2), task="probabilities")[1]
    assert facts.single["operations"]["unruled"] == {"softmax": 1}
    assert facts.single["operations"]["ruled"] == {"linear": 2, "sigmoid": 1, "mul": 1}, "a GLU is a product"


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cells, self.out = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(self.cells(x)[0][:, -1])


def test_where_no_rule_would_be_at_work_it_does_not_apply():
    x = torch.randn(2, 6, 4)
    refused = {
        "no convolution and no linear layer": model(lambda x: x.mean(1)),
        "recurrent layer": Recurrent().eval(),
    }
    for reason, net in refused.items():
        with pytest.raises(harness.NotApplicable, match=reason):
            harness.explain("lrp", net, data(x, zeros(2)))
    with pytest.raises(harness.NotApplicable, match="no relevance"):
        softmax = SmallTransformer("fused", softmax_last=True)
        harness.explain("cp_lrp", softmax, data(x, zeros(2), task="probabilities"))
    for name in ("attn_lrp", "cp_lrp"):
        for net in (small_cnn(), nn.Sequential(small_cnn(), nn.Softmax(1)).eval()):
            with pytest.raises(harness.NotApplicable, match="no attention"):
                task = "probabilities" if isinstance(net[-1], nn.Softmax) else "classes"
                harness.explain(name, net, torch.randn(2, 3, 8, 8), zeros(2), task=task)


def test_wrong_options_are_told_in_one_line():
    net, _ = linear_net((4,))
    wrong = {
        "rule (of .* )?is 'z_plus'": {"rule": "z_plus"},
        "first (of .* )?is 'boxes'": {"first": "boxes"},
        "composite (of .* )?is 'epsilon_flat', .*did you mean": {"composite": "epsilon_flat"},
        "dense (of .* )?is 'flat'": {"dense": "flat"},
        "convolution (of .* )?is 'z_plus'": {"convolution": "z_plus"},
        "alpha (of .* )?is 3.0, but composite=epsilon_alpha2_beta1 stands for 2": {
            "composite": "epsilon_alpha2_beta1",
            "alpha": 3.0,
        },
        "bias (of .* )?is 'none'": {"bias": "none"},
        "epsilon (of .* )?is 0.0": {"epsilon": 0.0},
        "alpha (of .* )?is 0.5": {"alpha": 0.5},
        "gamma (of .* )?is -1.0": {"gamma": -1.0},
    }
    for message, options in wrong.items():
        with pytest.raises(ValueError, match=message):
            harness.explain("lrp", net, torch.randn(2, 4), torch.tensor([0, 1]), **options)


class SmallTransformer(nn.Module):
    """One attention layer and its head, with attention in one of its forms."""

    def __init__(self, form, bias=True, softmax_last=False):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, bias=bias, batch_first=True)
        self.norm, self.out = nn.LayerNorm(4, bias=bias), nn.Linear(4, 3, bias=bias)
        self.form, self.softmax_last = form, softmax_last
        self.eval()

    def forward(self, x):
        attended = self.norm(x + getattr(self, self.form)(x))
        outputs = self.out(F.gelu(attended).mean(1))
        return outputs.softmax(1) if self.softmax_last else outputs

    def module(self, x):
        return self.attention(x, x, x, need_weights=False)[0]

    def with_weights(self, x):
        return self.attention(x, x, x)[0]

    def fused(self, x):
        return self.joined(F.scaled_dot_product_attention(*self.heads(x)))

    def by_hand(self, x):
        q, k, v = self.heads(x)
        return self.joined(torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5, -1) @ v)

    def by_einsum(self, x):
        q, k, v = self.heads(x)
        scores = torch.einsum("nhqd,nhkd->nhqk", q, k) * q.shape[-1] ** -0.5
        return self.joined(torch.einsum("nhqk,nhkd->nhqd", scores.softmax(-1), v))

    def heads(self, x):
        projected = F.linear(x, self.attention.in_proj_weight, self.attention.in_proj_bias)
        return (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in projected.chunk(3, -1))

    def joined(self, mixed):
        return self.attention.out_proj(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("name", ["lrp", "attn_lrp", "cp_lrp"])
@pytest.mark.parametrize("form", ["module", "with_weights", "by_hand", "by_einsum"])
def test_the_forms_of_attention_are_explained_alike(name, form, seed):
    net, x, targets = SmallTransformer("fused"), torch.randn(3, 5, 4), torch.tensor([0, 1, 2])
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    other = copy.deepcopy(net)
    other.form = form
    expected = explain(name, net, x, targets)
    assert near(explain(name, other, x, targets), expected, 1e-4)
    for plain in ("gradient", "input_x_gradient"):
        assert F.cosine_similarity(expected.flatten(), explain(plain, net, x, targets).flatten(), 0) < 0.999


def bare_attention(size=3):
    """softmax(x Q K' x') x V with one output, and what its parts are worth."""
    query, key, value, head = (torch.randn(size, size) for _ in range(4))

    def forward(x):
        scores = F.linear(x, query) @ F.linear(x, key).transpose(1, 2)
        return F.linear(scores.softmax(-1) @ F.linear(x, value), head[:1]).sum((1, 2))

    return model(forward), query, key, value, head[0]


def attn_lrp_by_hand(x, query, key, value, head):
    """The propositions of 2402.05602 in loops over tokens and dimensions, for one sample (T, D)."""
    q, k, v = x @ query.T, x @ key.T, x @ value.T
    scores = q @ k.T
    shares = scores.softmax(-1)
    mixed = shares @ v
    tokens, size = x.shape
    r_shares, r_v, r_q, r_k = (
        torch.zeros(tokens, tokens),
        torch.zeros(tokens, size),
        torch.zeros(tokens, size),
        torch.zeros(tokens, size),
    )
    for i in range(tokens):
        for d in range(size):
            relevance = mixed[i, d] * head[d]
            for j in range(tokens):
                part = shares[i, j] * v[j, d] * relevance / (2 * mixed[i, d])
                r_shares[i, j] += part
                r_v[j, d] += part
    for i in range(tokens):
        for j in range(tokens):
            relevance = scores[i, j] * (r_shares[i, j] - shares[i, j] * r_shares[i].sum())
            for d in range(size):
                part = q[i, d] * k[j, d] * relevance / (2 * scores[i, j])
                r_q[i, d] += part
                r_k[j, d] += part
    answer = torch.zeros_like(x)
    for weight, projected, relevance in ((query, q, r_q), (key, k, r_k), (value, v, r_v)):
        for i in range(tokens):
            for d in range(size):
                answer[i] += x[i] * weight[d] * relevance[i, d] / projected[i, d]
    return answer, scores


def test_attn_lrp_is_its_propositions_one_after_the_other(seed):
    net, *weights = bare_attention()
    x = torch.randn(2, 4, 3).double()
    found = explain("attn_lrp", net, x.float(), zeros(2), epsilon=1e-12)
    expected = torch.stack([attn_lrp_by_hand(each, *(w.double() for w in weights))[0] for each in x])
    assert near(found, expected, 1e-3)


def test_attn_lrp_keeps_half_and_what_the_softmax_lets_through_and_cp_lrp_keeps_all(seed):
    net, query, key, value, head = bare_attention()
    x = torch.randn(3, 4, 3)
    scores = ((x @ query.T) @ (x @ key.T).transpose(1, 2)).requires_grad_()
    worth = (scores.softmax(-1) @ (x @ value.T) @ head).sum(1)
    through = (scores * torch.autograd.grad(worth.sum(), scores)[0]).sum((1, 2))
    found = explain("attn_lrp", net, x, zeros(3)).sum((1, 2))
    assert near(found, (worth + through).detach() / 2, 1e-3)
    assert near(explain("cp_lrp", net, x, zeros(3)).sum((1, 2)), worth.detach(), 1e-3)
    query.zero_()  # attention is uniform
    assert near(explain("attn_lrp", net, x, zeros(3)).sum((1, 2)), net(x) / 2, 1e-3)


def test_cp_lrp_conserves_without_biases(seed):
    net, x, targets = SmallTransformer("by_hand", bias=False), torch.randn(2, 5, 4), torch.tensor([0, 2])
    assert conserves(explain("cp_lrp", net, x, targets), net, x, targets, 1e-3)


def test_masked_attention_loses_nothing(seed):
    net = SmallTransformer("module", bias=False)
    net.module = lambda x: net.attention(
        x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1), need_weights=False
    )[0]
    x, targets = torch.randn(2, 5, 4), torch.tensor([0, 2])
    assert conserves(explain("cp_lrp", net, x, targets), net, x, targets, 1e-3)
    assert explain("lrp", net, x, targets).isfinite().all() and explain("attn_lrp", net, x, targets).isfinite().all()


def test_relevance_beyond_the_range_of_numbers_is_refused_not_dropped():
    """Contributions that all but cancel, eighty times over."""
    net = nn.Sequential(*[nn.Linear(2, 2, bias=True) for _ in range(80)]).eval()
    for layer in net:
        layer.weight.data = torch.tensor([[1.0, -1 + 1e-4], [-1 + 1e-4, 1.0]])
        layer.bias.data = torch.ones(2)
    with pytest.raises(ValueError, match="NaN or infinite"):
        harness.explain("lrp", net, torch.ones(1, 2), zeros(1), rule="epsilon", epsilon=1e-12, bias="redistributed")


@pytest.mark.parametrize("name", ["lrp", "attn_lrp", "cp_lrp"])
def test_a_transformers_sample_alone_is_explained_as_in_company_and_the_model_stays_as_it_was(name, seed):
    net, x, targets = SmallTransformer("module").double(), torch.randn(4, 5, 4).double(), torch.tensor([0, 1, 2, 0])
    given, state = x.clone(), copy.deepcopy(net.state_dict())
    together = harness.explain(name, net, data(x, targets))
    alone = [harness.explain(name, net, data(x[i : i + 1], targets[i : i + 1])) for i in range(4)]
    assert near(torch.cat(alone), together, 1e-6)
    assert torch.equal(x, given) and all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    assert all(each.requires_grad and each.grad is None for each in net.parameters())


@pytest.mark.parametrize("first", ["flat", "same"])
@pytest.mark.parametrize(
    "prepare",
    [
        lambda z: z - z.mean((1, 2, 3), keepdim=True),
        lambda z: z - z.flip(3),
        lambda z: (z - z.mean((2, 3), keepdim=True)) / z.std((2, 3), keepdim=True).detach(),
    ],
)
def test_differences_taken_inside_the_model_keep_their_relevance(prepare, first, seed):
    """Each input's share in them is its own, up or down: they do not change when every input grows by one."""
    inner, x = free_of_biases(small_cnn()).double(), torch.randn(2, 3, 8, 8).double()
    targets = inner(prepare(x)).argmax(1)  # a logit above 0 has contributions above 0 to hand it to
    net = nn.Sequential(model(prepare), inner).eval()
    found, _ = told("lrp", net, x, targets, first=first)
    assert conserves(found, net, x, targets, 1e-3)
    prepared, _ = told("lrp", inner, prepare(x), targets, first="same")
    assert near(found, pulled_back(prepare, x, prepared), 1e-3)


def pulled_back(prepare, x, relevance):
    """Relevance of linearly prepared numbers shared in proportion to what each input adds to them."""
    z = x.clone().requires_grad_()
    prepared = prepare(z)
    return x * torch.autograd.grad(prepared, z, relevance / prepared.detach())[0]


def test_a_softmax_before_the_first_layer_does_not_explode(seed):
    net = nn.Sequential(nn.Softmax(1), small_cnn()).eval()
    x, targets = torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    found, _ = told("lrp", net, x, targets)
    assert found.abs().sum() < 1e3 * output(net, x, targets).abs().sum()


@pytest.mark.parametrize("name", ["lrp", "attn_lrp"])
def test_weights_that_the_model_has_not_registered_are_weights(name, seed):
    """A layer in a list or a bare tensor that requires a gradient does not depend on the input."""
    inner, scale, x = (
        nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)),
        torch.rand(5) + 1,
        torch.randn(2, 4, 5),
    )
    head = nn.Linear(5, 3)

    def function(z):
        return (lambda y: head((F.softmax(y @ y.mT, -1) @ (y * scale + 1)).mean(1)))(inner(z * scale))

    scale.requires_grad_()
    free, registered = model(function), model(function)
    registered.parts, registered.scale = nn.ModuleList([inner, head]), nn.Parameter(scale)
    registered.function = lambda z: (lambda y: head((F.softmax(y @ y.mT, -1) @ (y * registered.scale + 1)).mean(1)))(
        inner(z * registered.scale)
    )
    (found, facts), (expected, same) = (told(name, net, x, zeros(2), "tokens") for net in (free, registered))
    assert near(found, expected, 1e-5) and scale.requires_grad and head.weight.requires_grad
    assert facts.summary()["operations"] == same.summary()["operations"]


def test_what_a_model_computes_without_a_graph_is_a_constant(seed):
    first, second, x = nn.Conv2d(3, 4, 3), small_cnn(4), torch.randn(2, 3, 8, 8)

    def hidden(z):
        with torch.no_grad():
            y = first(z)
        return second(y)

    net = model(hidden)
    net.parts = nn.ModuleList([first, second])
    with pytest.raises(harness.NotApplicable, match="no convolution"):
        explain("lrp", net, x, zeros(2))


def test_a_layer_that_is_doubled_while_something_is_added_is_no_plain_shift(seed):
    inner, head, x = nn.Linear(5, 6), nn.Linear(6, 3), torch.randn(2, 5)
    net = model(lambda z: head(F.relu(torch.add(torch.full((6,), 0.3), inner(z), alpha=2))))
    z = x.clone().requires_grad_()
    expected = x * torch.autograd.grad(net(z)[:, 0].sum(), z)[0]
    found = explain("lrp", net, x, zeros(2), rule="epsilon", bias="absorbed", epsilon=1e-9)
    assert near(found, expected, 1e-4)


def test_a_quotient_written_with_names_is_seen(seed):
    net, x = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).eval(), torch.randn(2, 5)
    halved = model(lambda z: net[2](torch.div(input=net[1](net[0](z)), other=2)))
    twin = model(lambda z: net[2](net[1](net[0](z)) / 2))
    assert near(explain("lrp", halved, x, zeros(2)), explain("lrp", twin, x, zeros(2)))


class MaskedTransformer(nn.Module):
    """An attention over the first tokens alone, with the mask of the others in one of its spellings."""

    LEAST = {"infinite": -float("inf"), "least": torch.finfo(torch.float32).min, "-1e9": -1e9, "-10000": -1e4}

    def __init__(self, form, seen):
        super().__init__()
        self.enter, self.queries, self.keys, self.values = (nn.Linear(4, 4) for _ in range(4))
        self.module = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out, self.form, self.seen = nn.Linear(4, 3), form, seen
        self.eval()

    def forward(self, x):
        x = F.gelu(self.enter(x))
        return self.out((x + self.attended(x))[:, 0])

    def attended(self, x):
        hidden = (torch.arange(x.shape[1]) >= self.seen).expand(len(x), -1)
        q, k, v = self.queries(x), self.keys(x), self.values(x)
        if self.form == "module":
            return self.module(x, x, x, key_padding_mask=hidden)[0]
        hidden = hidden[:, None].expand(-1, x.shape[1], -1)
        if self.form == "fused":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=~hidden)
        if self.form == "fused with numbers":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=self.added(hidden, "least"))
        return self.scores(q, k, hidden).softmax(-1) @ v

    def scores(self, q, k, hidden):
        kind, _, size = self.form.partition(" ")
        if kind == "baddbmm":
            return torch.baddbmm(self.added(hidden, size), q, k.mT)
        scores = q @ k.mT
        if kind == "in_place":
            scores += self.added(hidden, size)
            return scores
        least = torch.full_like(scores, self.LEAST[size])
        return {
            "masked_fill": lambda: scores.masked_fill(hidden, self.LEAST[size]),
            "where": lambda: torch.where(hidden, least, scores),
            "added": lambda: scores + self.added(hidden, size),
            "before": lambda: self.added(hidden, size) + scores,
            "subtracted": lambda: scores - -self.added(hidden, size),
            "twice": lambda: (scores + self.added(hidden, size)) + self.added(hidden, size),
        }[kind]()

    def added(self, hidden, size):
        return torch.zeros(hidden.shape).masked_fill(hidden, self.LEAST[size])


SPELLINGS = [
    *(f"{kind} {size}" for kind in ("added", "in_place", "masked_fill") for size in MaskedTransformer.LEAST),
    *("where least", "before least", "subtracted least", "twice least", "baddbmm least", "baddbmm -10000"),
    *("fused", "fused with numbers", "module"),
]
THROUGH_ATTENTION = [
    *(("lrp", {"rule": rule}) for rule in ("epsilon", "zplus")),
    ("lrp", {"composite": "gamma"}),
    *((name, {}) for name in ("attn_lrp", "cp_lrp", "transformer_attribution", "attention_rollout", "deep_lift")),
]


@pytest.mark.parametrize("form", SPELLINGS)
def test_masked_places_have_no_relevance_and_leave_that_of_the_others_alone(form, seed):
    net, x, targets = MaskedTransformer(form, seen=4), torch.randn(3, 7, 4), torch.tensor([0, 1, 2])
    for name, options in THROUGH_ATTENTION:
        if form.startswith("baddbmm") and name in ("attn_lrp", "cp_lrp"):
            continue  # they need products that they see
        expected, found = (explain(name, net, each, targets, **options) for each in (x[:, :4], x))
        assert near(found[:, :4], expected, 1e-4), name
        assert expected.abs().sum() > 0 and not found[:, 4:].any(), name


@pytest.mark.parametrize("size", ["-10000", "-1e9"])
def test_a_row_that_is_masked_as_a_whole_is_explained_like_one_that_is_not(size, seed):
    """A mask of one number moves all scores of a row alike, which is nothing to a softmax."""

    class Pooled(MaskedTransformer):
        def forward(self, x):
            return self.out(self.attended(F.gelu(self.enter(x))).mean(1))

    net, x, targets = Pooled(f"added {size}", seen=0).double(), torch.randn(3, 5, 4).double(), torch.tensor([0, 1, 2])
    bare = copy.deepcopy(net)
    bare.seen = 5
    expected, found = (explain("lrp", each, x, targets) for each in (bare, net))
    assert near(found, expected, 1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fused_attention_in_half_precision_is_explained_as_in_full(dtype, seed):
    net, x, targets = MaskedTransformer("fused", seen=4), torch.randn(3, 7, 4), torch.tensor([0, 1, 2])
    options = {"lrp": {"rule": "zplus"}, "transformer_attribution": {}}  # of which no numbers cancel
    expected = {name: explain(name, net, x, targets, **options[name]) for name in options}
    net.to(dtype)
    for name, full in expected.items():
        assert near(explain(name, net, x.to(dtype), targets, **options[name]), full, 0.1), name
