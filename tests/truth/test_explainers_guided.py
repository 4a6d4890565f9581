"""Guided backpropagation and deconvnet on nets worked out by hand, and which operations they take for a ReLU."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from explainer_worlds import explain_in, model, near
from harness.api import samples_of
from harness.engine.explain import Explaining
from harness.explainers.guided import guided_gradient
from harness.facts import Facts
from harness.registry import EXPLAINERS


class OneLayer(nn.Module):
    """x -> V activation(W x)."""

    def __init__(self, activation, width=6, hidden=12, classes=3):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, classes)
        self.activation = activation

    def forward(self, x):
        return self.outer(self.activation(self.inner(x)))


def by_hand(net, x, targets, cap=float("inf")):
    """Gradient, guided gradient and deconvnet of a single hidden layer."""
    z, v = net.inner(x).detach(), net.outer.weight.detach()[targets]
    is_open = ((z > 0) & (z < cap)).float()
    return tuple(back @ net.inner.weight.detach() for back in (v * is_open, v.clamp(min=0) * is_open, v.clamp(min=0)))


def operations_seen(name, net, x, targets):
    entry, samples = EXPLAINERS[name], samples_of(net, x, targets)
    samples.facts = Facts()
    Explaining(entry, {}, net)(samples)
    return samples.facts.summary()["operations"]


def world():
    return torch.randn(5, 6), torch.tensor([0, 1, 2, 1, 0])


RELUS = {
    "module": nn.ReLU(),
    "in place": nn.ReLU(inplace=True),
    "function": F.relu,
    "torch": torch.relu,
    "in-place function": lambda z: F.relu(z, inplace=True),
    "method": lambda z: z.relu_(),
    "clamp": lambda z: z.clamp(min=0),
    "clamp_min": lambda z: torch.clamp_min(z, 0.0),
    "clip": lambda z: z.clip(0),
    "threshold": lambda z: F.threshold(z, 0, 0),
    "threshold module": nn.Threshold(0.0, 0.0),
}
CAPPED = {
    "relu6": F.relu6,
    "module": nn.ReLU6(),
    "in place": nn.ReLU6(inplace=True),
    "clamp": lambda z: z.clamp(0, 6),
    "hardtanh": lambda z: F.hardtanh(z, 0.0, 6.0),
    "in-place clamp": lambda z: z.clamp_(0, 6),
}
OTHERS = {
    "leaky": nn.LeakyReLU(),
    "gelu": nn.GELU(),
    "silu": F.silu,
    "hardtanh": nn.Hardtanh(),
    "threshold elsewhere": nn.Threshold(0.1, 0.0),
    "threshold to another value": nn.Threshold(0.0, -1.0),
    "clamp elsewhere": lambda z: z.clamp(min=-1),
    "clamp from above": lambda z: z.clamp(max=0),
    "clamp from 0 down": lambda z: z.clamp(-1, 0),
    "none": nn.Identity(),
}


@pytest.mark.parametrize("kind", RELUS)
def test_a_relu_passes_back_what_is_positive_however_it_is_called(kind, seed):
    net, (x, targets) = OneLayer(RELUS[kind]).eval(), world()
    gradient, guided, deconvolved = by_hand(net, x, targets)
    assert near(harness.explain("guided_backprop", net, x, targets), guided)
    assert near(harness.explain("deconvnet", net, x, targets), deconvolved)
    assert not near(guided, gradient, 0.01) and not near(guided, deconvolved, 0.01)


@pytest.mark.parametrize("kind", CAPPED)
def test_a_capped_relu_is_open_below_its_cap(kind, seed):
    net, (x, targets) = OneLayer(CAPPED[kind]).eval(), world()
    net.inner.weight.data *= 20  # so that caps are reached
    assert (net.inner(x) > 6).any()
    _, guided, deconvolved = by_hand(net, x, targets, cap=6)
    assert near(harness.explain("guided_backprop", net, x, targets), guided)
    assert near(harness.explain("deconvnet", net, x, targets), deconvolved)


@pytest.mark.parametrize("name", ["guided_backprop", "deconvnet"])
@pytest.mark.parametrize("kind", OTHERS)
def test_without_a_relu_it_is_not_applicable(kind, name, seed):
    net, (x, targets) = OneLayer(OTHERS[kind]).eval(), world()
    with pytest.raises(harness.NotApplicable, match="no ReLU on the way"):
        harness.explain(name, net, x, targets)


def test_a_relu_off_the_inputs_way_does_not_count(seed):
    net, (x, targets) = OneLayer(lambda z: z * F.relu(torch.ones(12))).eval(), world()
    with pytest.raises(harness.NotApplicable, match="no ReLU on the way"):
        harness.explain("guided_backprop", net, x, targets)


def test_other_activations_keep_their_derivative_and_are_told(seed):
    net, (x, targets) = OneLayer(lambda z: F.gelu(F.relu(z))).eval(), world()
    z = net.inner(x).detach().relu().requires_grad_()
    slope = torch.autograd.grad(F.gelu(z).sum(), z)[0]
    back = (net.outer.weight.detach()[targets] * slope).clamp(min=0)
    assert near(harness.explain("deconvnet", net, x, targets), back @ net.inner.weight.detach())
    seen = operations_seen("deconvnet", net, x, targets)
    assert seen["ruled"] == {"relu": 1} and seen["unruled"] == {"linear": 2, "gelu": 1}


def test_every_use_of_a_reused_relu_is_guided(seed):
    shared, (x, targets) = nn.ReLU(inplace=True), world()
    first, second, last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
    reused = nn.Sequential(first, shared, second, shared, last).eval()
    apart = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).eval()
    for name in ("guided_backprop", "deconvnet"):
        assert near(harness.explain(name, reused, x, targets), harness.explain(name, apart, x, targets))
        assert operations_seen(name, reused, x, targets)["ruled"] == {"relu": 2}


def test_a_sum_after_an_in_place_relu_goes_both_ways(seed):
    class Residual(OneLayer):
        def forward(self, x):
            z = F.relu(self.inner(x), inplace=True)
            z += self.side(x)
            return self.outer(z)

    net, (x, targets) = Residual(None), world()
    net.side = nn.Linear(6, 12)
    _, guided, deconvolved = by_hand(net, x, targets)
    aside = net.outer.weight.detach()[targets] @ net.side.weight.detach()
    assert near(harness.explain("guided_backprop", net.eval(), x, targets), guided + aside)
    assert near(harness.explain("deconvnet", net, x, targets), deconvolved + aside)


def test_maps_do_not_depend_on_how_many_rows_pass_at_once(seed):
    net, (x, targets) = OneLayer(F.relu).eval(), world()
    for name in ("guided_backprop", "deconvnet"):
        at_once = explain_in(16, 32, name, net, x, targets)
        assert near(explain_in(16, 2, name, net, x, targets), at_once)
        assert near(explain_in(1, 32, name, net, x, targets), at_once)


def test_maps_for_other_explainers_are_those_of_guided_backprop(seed):
    net, (x, targets) = OneLayer(F.relu).eval(), world()
    maps = guided_gradient(net, x, targets, samples_of(net, x, targets))
    assert torch.equal(maps, harness.explain("guided_backprop", net, x, targets))


def test_the_model_comes_back_as_it_was_also_where_it_is_not_applicable(seed):
    x, targets = world()
    for activation in (F.relu, F.gelu):
        net = OneLayer(activation).eval()
        net.outer.weight.requires_grad_(False)
        before = copy.deepcopy(net.state_dict())
        try:
            harness.explain("guided_backprop", net, x, targets)
        except harness.NotApplicable:
            assert activation is F.gelu
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
        assert [p.requires_grad for p in net.parameters()] == [True, True, False, True]
        assert all(p.grad is None for p in net.parameters())
        assert torch.equal(torch.relu(torch.tensor([-1.0])), torch.zeros(1))


def test_a_single_output_has_a_map(seed):
    net, (x, _) = OneLayer(F.relu, classes=1).eval(), world()
    targets = torch.zeros(5, dtype=torch.long)
    flat = model(lambda z: net(z)[:, 0])
    assert near(harness.explain("guided_backprop", net, x, targets), by_hand(net, x, targets)[1])
    assert near(harness.explain("guided_backprop", flat, x, targets), by_hand(net, x, targets)[1])
