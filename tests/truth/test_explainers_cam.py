"""Grad-CAM on nets worked out by hand, and the layer it looks at."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import harness
from explainer_worlds import model, near, seed, small_cnn  # noqa: F401
from harness.api import samples_of
from harness.explainers.cam import choose_layer


class Head(nn.Module):
    """A spatial layer that scales the image by two factors, a linear head on its places."""

    def __init__(self, factors, weights):
        super().__init__()
        self.scale = nn.Conv2d(1, len(factors), 1, bias=False)
        self.scale.weight = nn.Parameter(factors[:, None, None, None])
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        return torch.einsum("nkhw,ckhw->nc", self.scale(x), self.weights)


def layer_of(net, shape, layer=None):
    x = torch.randn(2, *shape)
    return choose_layer(net.eval(), samples_of(net.eval(), x, torch.zeros(2, dtype=torch.long)), layer=layer)


def test_grad_cam_is_the_activations_weighted_by_the_mean_gradients(seed):  # noqa: F811
    factors, weights = torch.randn(2), torch.randn(3, 2, 5, 4)
    net, x, targets = Head(factors, weights).eval(), torch.randn(3, 1, 5, 4), torch.tensor([2, 0, 1])
    alpha = weights.mean((2, 3))[targets]  # a logit's gradient at a place is the head's weight there
    expected = (alpha @ factors)[:, None, None, None] * x
    assert near(harness.explain("grad_cam", net, x, targets, relu=False), expected)
    assert near(harness.explain("grad_cam", net, x, targets), expected.relu())


def test_a_coarse_map_is_enlarged_bilinearly_after_its_rectification(seed):  # noqa: F811
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
    assert near(harness.explain("grad_cam", net.eval(), x, torch.tensor([0])), expected)


def test_in_place_and_reused_operations_after_the_layer_do_not_disturb_it(seed):  # noqa: F811
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
        maps.append(harness.explain("grad_cam", net.eval(), x, targets, layer="conv"))
    assert layer_of(nets[2], (3, 7, 7)) == "conv", "a layer called twice is passed over"
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2]) and maps[0].abs().max() > 0
    with pytest.raises(harness.NotApplicable, match="'shared' is called 2 times"):
        harness.explain("grad_cam", nets[2], x, targets, layer="shared")


def test_frozen_weights_and_a_callers_no_grad_leave_the_map_as_it_is(seed):  # noqa: F811
    net, x, targets = small_cnn(), torch.randn(2, 3, 8, 8), torch.tensor([0, 1])
    before = harness.explain("grad_cam", net, x, targets)
    with torch.no_grad():
        assert torch.equal(harness.explain("grad_cam", net.requires_grad_(False), x, targets), before)


@pytest.mark.parametrize("outputs", [(-1,), (-1, 1)])
def test_a_single_output_has_a_map(outputs, seed):  # noqa: F811
    net = small_cnn(classes=1)
    net.append(model(lambda z: z.view(outputs)))
    x, targets = torch.randn(2, 3, 8, 8), torch.zeros(2, dtype=torch.long)
    two = nn.Sequential(net, model(lambda z: torch.stack([z.view(-1), -z.view(-1)], 1))).eval()
    assert near(harness.explain("grad_cam", net.eval(), x, targets), harness.explain("grad_cam", two, x, targets))


def test_the_last_layer_with_a_place_is_chosen():
    nets = torchvision.models
    assert layer_of(nets.resnet18(), (3, 64, 64)) == "layer4"
    assert layer_of(nets.mobilenet_v3_small(), (3, 64, 64)) == "features"
    assert layer_of(nets.squeezenet1_1(), (3, 64, 64)) == "classifier.2"
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))  # as in VGG
    assert layer_of(nn.Sequential(features, nn.AdaptiveAvgPool2d(7), nn.Dropout2d(), nn.Flatten()), (3, 64, 64)) == "0"
    assert layer_of(small_cnn(), (3, 8, 8)) == "4"
    assert layer_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten()), (1, 9, 12)) == "0"


def test_swins_map_is_read_where_its_channels_come_first():
    swin = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [2, 2], num_classes=3)
    assert layer_of(swin, (3, 32, 32)) == "permute"


def test_models_without_a_spatial_layer_at_the_end_are_not_applicable():
    vit = torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 16, num_classes=3)
    swin = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 1], [2, 2], num_classes=3)
    swin.permute = model(lambda z: z)  # the rest of the model reads channels-last maps
    swin.avgpool = model(lambda z: z.mean((1, 2)))
    swin.flatten = nn.Identity()
    for net in (vit, swin):
        with pytest.raises(harness.NotApplicable, match="works on tokens or channels-last maps"):
            layer_of(net, (3, 32, 32))
    with pytest.raises(harness.NotApplicable, match="no layer"):
        layer_of(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (3, 2, 2))
    with pytest.raises(harness.NotApplicable, match="larger than 1 x 1"):
        layer_of(nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten()), (3, 8, 8))
    with pytest.raises(harness.NotApplicable, match=r"layer '7' gives \(1, 4\)"):
        layer_of(small_cnn(), (3, 8, 8), layer="7")


def test_a_misspelt_layer_is_told_with_close_names():
    with pytest.raises(ValueError, match="no layer 'layr4', expected .* like layer4"):
        layer_of(torchvision.models.resnet18(), (3, 64, 64), layer="layr4")


def test_tables_are_not_applicable():
    net = nn.Sequential(nn.Linear(4, 2)).eval()
    with pytest.raises(harness.NotApplicable, match="needs image inputs"):
        harness.explain("grad_cam", net, torch.randn(2, 4), torch.tensor([0, 1]))
