"""DeepLift, guided backpropagation and deconvnet against captum where captum computes the published rule."""

import copy

import captum.attr as captum
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness

pytestmark = [pytest.mark.filterwarnings("ignore:Setting", "ignore:Input Tensor"), pytest.mark.usefixtures("seed")]


def cnn(activation, pool):
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        activation(),
        nn.Conv2d(6, 8, 3, padding=1),
        pool,
        nn.Conv2d(8, 8, 3),
        activation(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 4),
    )
    net[1].running_mean.normal_(), net[1].running_var.uniform_(0.5, 2)
    return net.eval()


def mlp(activation):
    return nn.Sequential(nn.Linear(7, 20), activation(), nn.Linear(20, 20), activation(), nn.Linear(20, 4)).eval()


def world(shape=(3, 12, 12)):
    return torch.randn(4, *shape), torch.tensor([0, 3, 1, 1])


def same(found, expected, tolerance):
    found, expected = found.detach(), expected.detach()
    return float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=["average", "maximum after a convolution"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.LeakyReLU, nn.Softplus])
def test_deep_lift_is_captums_on_cnns(activation, pool):
    net, (x, targets) = cnn(activation, pool), world()
    wide = copy.deepcopy(net).double()  # captum's quotients of small differences need the digits
    for baseline in (torch.zeros(3, 12, 12), torch.randn(3, 12, 12)):
        expected = captum.DeepLift(wide).attribute(x.double(), baseline[None].expand_as(x).double(), targets)
        assert same(harness.explain("deep_lift", net, x, targets, baseline=baseline), expected, 1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid])
def test_deep_lift_is_captums_on_mlps(activation):
    net, (x, targets) = mlp(activation), world((7,))
    baseline = torch.randn(7)
    wide = copy.deepcopy(net).double()
    expected = captum.DeepLift(wide).attribute(x.double(), baseline[None].expand_as(x).double(), targets)
    assert same(harness.explain("deep_lift", net, x, targets, baseline=baseline), expected, 1e-5)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_deep_lift_shap_is_captums_when_all_baselines_are_drawn(activation):
    net, (x, targets), train = mlp(activation), world((7,)), torch.randn(9, 7)
    expected = captum.DeepLiftShap(copy.deepcopy(net).double()).attribute(x.double(), train.double(), targets)
    assert same(harness.explain("deep_lift_shap", net, x, targets, train=train, samples=9), expected, 1e-5)


@pytest.mark.parametrize("ours", ["guided_backprop", "deconvnet"])
@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(3, 2)], ids=["average", "overlapping maximum"])
def test_guided_backprop_and_deconvnet_are_captums(ours, pool):
    net, (x, targets) = cnn(nn.ReLU, pool), world()
    theirs = {"guided_backprop": captum.GuidedBackprop, "deconvnet": captum.Deconvolution}[ours]
    assert same(
        harness.explain(ours, net, x, targets), theirs(net).attribute(x.clone().requires_grad_(), targets), 1e-6
    )


class Functions(nn.Module):
    """The layers of ``cnn`` with ReLU as a function, which captum's hooks do not see."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = F.relu(x) if isinstance(layer, nn.ReLU) else layer(x)
        return x


def test_captum_still_gives_the_gradient_where_a_relu_is_a_function():
    """The reason for rules on operations: here the function's maps are the module's."""
    net, (x, targets) = cnn(nn.ReLU, nn.AvgPool2d(2)), world()
    twin = Functions(net).eval()
    gradient = harness.explain("gradient", net, x, targets)
    assert same(captum.GuidedBackprop(twin).attribute(x.clone().requires_grad_(), targets), gradient, 1e-6)
    assert same(captum.DeepLift(twin).attribute(x, target=targets), x * gradient, 1e-5)
    for name in ("guided_backprop", "deconvnet", "deep_lift"):
        assert same(harness.explain(name, twin, x, targets), harness.explain(name, net, x, targets), 1e-6)


def test_captums_deep_lift_still_loses_contributions_where_a_maximum_follows_a_relu():
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(96, 4)
    net, (x, targets), baseline = nn.Sequential(*layers).eval(), world(), torch.randn(3, 12, 12)
    pick = torch.arange(4), targets
    change = (net(x) - net(baseline[None])).detach()[pick]
    sums = [
        maps.flatten(1).sum(1).detach()
        for maps in (
            captum.DeepLift(net).attribute(x, baseline[None].expand_as(x), targets),
            harness.explain("deep_lift", net, x, targets, baseline=baseline),
        )
    ]
    assert (sums[0] - change).abs().max() > 0.01 * change.abs().max()
    assert same(sums[1], change, 1e-5)
