"""The importance of weights, attributed to the input's numbers, against sums over single weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from explainer_worlds import explain, explain_in, linear_net, model, near, small_cnn
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.facts import Facts
from harness.registry import EXPLAINERS


def holding(function, *layers):
    """A model that is a function and holds the layers that this calls."""
    net = model(function)
    net.layers = nn.ModuleList(layers)
    return net


def mlp(width=6):
    return nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def delta(after, hidden, targets):
    """The gradient of the targets' logits at what the first layer gives."""
    hidden = hidden.detach().requires_grad_()
    return torch.autograd.grad(after(hidden.clone()).gather(1, targets[:, None]).sum(), hidden)[0]


def weight_gradients(net, weight, x, targets):
    """The gradient of each sample's own logit with respect to a weight, sample by sample."""
    logits = [net(x[row : row + 1])[0, targets[row]] for row in range(len(x))]
    return torch.stack([torch.autograd.grad(logit, weight)[0] for logit in logits])


def test_on_a_linear_first_layer_it_is_snips_importance_summed_over_the_weights_of_an_input(seed):
    """dL/dw_ji = delta_j x_i, so that |w_ji dL/dw_ji| summed over the outputs j belongs to the input i."""
    net, x, targets = mlp(), torch.randn(4, 6), torch.tensor([0, 2, 1, 1])
    saliences = (net[0].weight * weight_gradients(net, net[0].weight, x, targets)).detach().abs()
    assert near(explain("gradient_x_weight", net, x, targets), saliences.sum(1))


def test_signed_the_same_sum_is_input_times_gradient(seed):
    """Which is why the signed form is no explainer of its own."""
    net, x, targets = mlp(), torch.randn(4, 6), torch.tensor([0, 2, 1, 1])
    signed = (net[0].weight * weight_gradients(net, net[0].weight, x, targets)).detach().sum(1)
    product = explain("input_x_gradient", net, x, targets)
    assert near(signed, product)
    found = explain("gradient_x_weight", net, x, targets)
    assert (found >= product.abs() - 1e-6).all() and not near(found, product.abs(), 0.1)


def test_on_a_linear_model_it_is_the_size_of_the_contribution(seed):
    net, weights = linear_net((2, 4, 5))
    x, targets = torch.randn(3, 2, 4, 5), torch.tensor([2, 0, 1])
    assert near(explain("gradient_x_weight", net, x, targets), (x * weights[targets]).abs())


@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 0, 1), (2, 1, 1), (1, 1, 2)])
def test_a_convolutions_weights_are_taken_apart_by_place(stride, padding, groups, seed):
    layer = nn.Conv2d(4, 6, 3, stride=stride, padding=padding, groups=groups)
    after = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.LazyLinear(3))
    x, targets = torch.randn(2, 4, 6, 7), torch.tensor([2, 0])
    net = nn.Sequential(layer, after)
    net(x)
    slope, weight = delta(after, layer(x), targets), layer.weight.detach()
    by_hand, padded = torch.zeros(2, 4, 6 + 2 * padding, 7 + 2 * padding), F.pad(x, [padding] * 4)
    for out in range(6):
        first = out // (6 // groups) * (4 // groups)
        for row in range(slope.shape[2]):
            for column in range(slope.shape[3]):
                down, right = (slice(at * stride, at * stride + 3) for at in (row, column))
                places = (slice(None), slice(first, first + 4 // groups), down, right)
                by_hand[places] += (padded[places] * weight[out] * slope[:, out, row, column].view(-1, 1, 1, 1)).abs()
    cut = by_hand[:, :, padding : padding + 6, padding : padding + 7]
    assert near(explain("gradient_x_weight", net.eval(), x, targets), cut)


def test_tokens_pass_the_same_weights_each_by_itself(seed):
    layer, out = nn.Linear(5, 7), nn.Linear(7, 3)
    net = holding(lambda z: out(torch.tanh(layer(z)).mean(1)), layer, out)
    x, targets = torch.randn(2, 4, 5), torch.tensor([1, 2])
    slope = delta(lambda hidden: out(torch.tanh(hidden).mean(1)), layer(x), targets)
    by_hand = (x[:, :, None] * layer.weight.detach() * slope[..., None]).abs().sum(2)
    assert near(explain("gradient_x_weight", net, x, targets), by_hand)


@pytest.mark.parametrize("how", ["scaled", "negated", "doubled", "padded", "turned", "in place"])
def test_what_only_moves_and_scales_the_input_belongs_to_the_first_layers_weights(how, seed):
    layer, after = nn.Linear(12, 8), nn.Sequential(nn.Tanh(), nn.Linear(8, 3))
    before, fold = {
        "scaled": (lambda z: (z - 0.3) / 0.5, lambda w: w[:, :6] / 0.5 + 0 * w[:, 6:]),
        "negated": (lambda z: torch.cat([z, 0 * z], 1).mul(-2.0), lambda w: w[:, :6] * 2),
        "doubled": (lambda z: torch.cat([z, -z], 1), lambda w: w[:, :6].abs() + w[:, 6:].abs()),
        "padded": (lambda z: F.pad(z, (4, 2)), lambda w: w[:, 4:10]),
        "turned": (lambda z: F.pad(z, (0, 6)).flip(1), lambda w: w[:, 6:].flip(1)),
        "in place": (lambda z: F.pad(z.div_(0.5), (0, 6)), lambda w: w[:, :6] / 0.5),
    }[how]
    if how == "scaled":
        layer = nn.Linear(6, 8)
        fold = lambda w: w / 0.5
    net = nn.Sequential(model(before), layer, after).eval()
    x, targets = torch.randn(4, 6), torch.tensor([0, 2, 1, 1])
    slope, weight = delta(after, layer(before(x.clone())), targets), fold(layer.weight.detach()).abs()
    by_hand = x.abs() * (slope.abs() @ weight)
    assert near(explain("gradient_x_weight", net, x, targets), by_hand)


def test_all_the_layers_that_the_input_reaches_unchanged_count(seed):
    """A second branch, and a third layer that sees the input again beside what the first one gives."""
    one, two, three = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(9, 3)
    net = holding(lambda z: three(torch.cat([one(z) * two(z).sigmoid(), z], 1)), one, two, three)
    x, targets = torch.randn(3, 5), torch.tensor([2, 0, 1])
    last = three.weight.detach()[targets]
    gate = two(x).detach().sigmoid()
    at_one, at_two = last[:, :4] * gate, last[:, :4] * one(x).detach() * gate * (1 - gate)
    by_hand = at_one.abs() @ one.weight.detach().abs() + at_two.abs() @ two.weight.detach().abs() + last[:, 4:].abs()
    assert near(explain("gradient_x_weight", net, x, targets), x.abs() * by_hand)


def test_modules_functions_and_products_of_matrices_are_explained_alike(seed):
    net, x, targets = mlp(), torch.randn(4, 6), torch.tensor([0, 2, 1, 1])
    (w, b), after = (net[0].weight.detach(), net[0].bias.detach()), net[1:]
    expected = explain("gradient_x_weight", net, x, targets)
    for twin in (
        lambda z: F.linear(z, w, bias=b),
        lambda z: z @ w.T + b,
        lambda z: torch.addmm(b, z, w.T),
        lambda z: torch.einsum("ni,ji->nj", z, w) + b,
    ):
        net = holding(lambda z, twin=twin: after(twin(z)), after)
        assert near(explain("gradient_x_weight", net, x, targets), expected)


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (torch.relu, "first meets the operation relu"),
        (torch.tanh, "first meets the operation tanh"),
        (lambda z: z * z, "first meets the operation mul"),
        (lambda z: z.detach(), "no linear or convolution operation"),
        (lambda z: z - z.mean(1, keepdim=True), "first meets the operation sub"),
        (lambda z: F.linear(z, z.T @ z), "weights of the first layer depend on the input"),
    ],
)
def test_inputs_that_first_meet_something_else_are_not_applicable(begin, reason, seed):
    layer = nn.Linear(6, 3)
    with pytest.raises(harness.NotApplicable, match=reason):
        explain(
            "gradient_x_weight", holding(lambda z: layer(begin(z)), layer), torch.randn(6, 6), torch.zeros(6).long()
        )


def test_weights_whose_output_is_thrown_away_are_not_applicable(seed):
    layer = nn.Linear(6, 3)
    with pytest.raises(harness.NotApplicable, match="no gradient of the model's output reaches its input"):
        explain(
            "gradient_x_weight", holding(lambda z: layer(z).detach(), layer), torch.randn(2, 6), torch.zeros(2).long()
        )


def test_batch_and_chunk_do_not_matter(seed):
    net, x, targets = small_cnn(), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0])
    together = explain_in(5, 100, "gradient_x_weight", net, x, targets)
    assert near(explain_in(2, 100, "gradient_x_weight", net, x, targets), together)
    assert near(explain_in(5, 2, "gradient_x_weight", net, x, targets), together)


def told(net, x, targets):
    entry, samples = EXPLAINERS["gradient_x_weight"], samples_of(net, x, targets)
    samples.facts = Facts()
    Explaining(entry, entry.complete({}), net).prepare(samples)
    return samples.facts.tables["parameters"]


def test_the_table_holds_every_parameters_importance_for_the_mean_logit(seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 8, 8), torch.tensor([0, 1, 2])
    table = told(net, x, targets)
    wanted = dict(net.named_parameters())
    mean = net(x).gather(1, targets[:, None]).mean()
    slopes = torch.autograd.grad(mean, list(wanted.values()))
    importance = [float((w.detach() * g).abs().sum()) for w, g in zip(wanted.values(), slopes, strict=True)]
    assert list(table.layer + "." + table.parameter) == list(wanted)
    assert list(table.kind) == ["Conv2d"] * 4 + ["Linear"] * 2
    assert list(table["size"]) == [weight.numel() for weight in wanted.values()]
    assert table.importance.to_list() == pytest.approx(importance, rel=1e-4)
    assert table.share.to_list() == pytest.approx([each / sum(importance) for each in importance], rel=1e-4)


def test_the_table_counts_shared_weights_once_and_unused_ones_as_0(seed):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.idle = nn.Linear(4, 4), nn.Linear(2, 2)
            self.again = self.first

        def forward(self, inputs):
            return self.again(self.first(inputs).tanh())

    net = Odd().eval()
    table = told(net, torch.randn(3, 4), torch.tensor([0, 1, 2])).set_index(["layer", "parameter"]).importance
    assert list(table.index) == [("first", "weight"), ("first", "bias"), ("idle", "weight"), ("idle", "bias")]
    assert (table["first"] > 0).all() and (table["idle"] == 0).all()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize("factors", [(1.0, -1.0), (2.0, -1.0)])
def test_numbers_added_up_with_both_signs_before_the_first_layer_are_refused(factors, seed):
    linear, factor = nn.Linear(4, 3), torch.tensor(factors)[:, None]
    x, targets = torch.randn(2, 2, 4), torch.tensor([0, 1])
    with pytest.raises(harness.NotApplicable, match="factors of both signs"):
        explain("gradient_x_weight", holding(lambda x: linear((x * factor).sum(1)), linear), x, targets)
    negative = -factor.abs()
    found = explain("gradient_x_weight", holding(lambda x: linear((x * negative).sum(1)), linear), x, targets)
    assert near(found, x.abs() * negative.abs() * linear.weight.detach()[targets].abs()[:, None])


def test_memory_that_runs_out_halves_the_chunk_and_changes_nothing(seed):
    net, x, targets = small_cnn(), torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, 0])

    def tight(inputs):
        if torch.is_grad_enabled() and len(inputs) > 2:
            raise torch.OutOfMemoryError("no room")
        return net(inputs)

    expected = explain("gradient_x_weight", net, x, targets)
    assert near(explain("gradient_x_weight", holding(tight, net), x, targets), expected)
