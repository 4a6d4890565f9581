"""Maps of activations beside torchcam and captum, on networks of torchvision with random weights."""

import os

import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from pytorch_grad_cam import AblationCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn
from torch.nn import functional as F
from torchcam import methods

import harness

LAYERS = {"resnet18": "layer4", "resnet18 early": "layer2", "mobilenet": "features", "cnn": "3"}
OURS = {"GradCAM": "grad_cam", "XGradCAM": "xgrad_cam", "LayerCAM": "layer_cam"}


@pytest.fixture(scope="module")
def worlds():
    """Nets with batch statistics of their inputs, images that are not square, and a class for each.

    In double precision: sums over channels of random nets all but cancel.
    """
    seed = int(os.environ["HARNESS_TEST_SEED"])
    print(f"HARNESS_TEST_SEED={seed}")
    torch.manual_seed(seed)
    small = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    resnet = torchvision.models.resnet18(num_classes=4)
    nets = {
        "resnet18": resnet,
        "resnet18 early": resnet,
        "cnn": small,
        "mobilenet": torchvision.models.mobilenet_v3_small(num_classes=4),
    }
    for net in nets.values():
        net.double().train()(torch.randn(8, 3, 64, 96).double())
    x = F.interpolate(torch.randn(3, 3, 8, 12).double(), (64, 96), mode="bilinear")
    return {name: (net.eval(), x, torch.tensor([0, 3, 1])) for name, net in nets.items()}


def torchcam_map(method, net, layer, x, targets, relu=True):
    """torchcam's map as it is before it is brought to 0..1, enlarged to the image."""
    with getattr(methods, method)(net, layer) as extractor:
        extractor._relu = relu
        (found,) = extractor(targets.tolist(), net(x), normalized=False)
    return F.interpolate(found.detach()[:, None], x.shape[2:], mode="bilinear", align_corners=False)


def distance(found, expected):
    """The largest difference in shares of each sample's largest number."""
    scale = expected.abs().flatten(1).amax(1).clamp(min=1e-30)  # a rectified map can be 0 everywhere
    return float(((found - expected).abs().flatten(1).amax(1) / scale).max())


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("world", LAYERS)
@pytest.mark.parametrize("method", OURS)
def test_gradient_maps_are_torchcams(method, world, relu, worlds):
    if method == "XGradCAM" and world in ("cnn", "mobilenet"):
        pytest.skip("torchcam adds 1e-8 to the sums of activations, which come near 0 where no ReLU made them")
    (net, x, targets), layer = worlds[world], LAYERS[world]
    found = harness.explain(OURS[method], net, x, targets, layer=layer, relu=relu)
    assert relu or found.flatten(1).any(1).all()
    assert distance(found, torchcam_map(method, net, layer, x, targets, relu)) < 1e-5


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("world", LAYERS)
def test_grad_cam_is_captums(world, relu, worlds):
    (net, x, targets), layer = worlds[world], LAYERS[world]
    attributions = LayerGradCam(net, net.get_submodule(layer)).attribute(x, targets, relu_attributions=relu)
    expected = F.interpolate(attributions.detach(), x.shape[2:], mode="bilinear", align_corners=False)
    assert distance(harness.explain("grad_cam", net, x, targets, layer=layer, relu=relu), expected) < 1e-6


def test_torchcams_grad_cam_pp_weighs_by_the_cube_of_the_gradient_instead(worlds):
    """It divides a copy, so that alpha stays g^2; its denominator has sum g^3 A where the paper has g^3 sum A."""
    net, x, targets = worlds["resnet18 early"]
    kept = []
    with net.layer2.register_forward_hook(lambda module, inputs, output: kept.append(output)):
        logits = net(x).gather(1, targets[:, None]).sum()
    (values,), (slopes,) = kept, torch.autograd.grad(logits, kept)
    cubes = (slopes.square() * slopes.relu()).sum((2, 3), keepdim=True)
    theirs = torchcam_map("GradCAMpp", net, "layer2", x, targets)
    as_told = F.interpolate((cubes * values).sum(1, True).relu().detach(), x.shape[2:], mode="bilinear")
    assert distance(theirs, as_told) < 1e-6
    whole = values.sum((2, 3), keepdim=True)
    alpha = slopes.square() / (2 * slopes.square() + slopes**3 * whole)
    weights = (alpha * slopes.relu()).nan_to_num(0).sum((2, 3), keepdim=True)
    paper = F.interpolate((weights * values).sum(1, True).relu().detach(), x.shape[2:], mode="bilinear")
    ours = harness.explain("grad_cam_pp", net, x, targets, layer="layer2")
    assert distance(ours, paper) < 1e-6
    assert distance(*(each / each.amax((1, 2, 3), True) for each in (ours, theirs))) > 1e-2


def test_ablation_cam_is_that_of_pytorch_grad_cam_times_the_score(worlds):
    """It divides the drops by the score, as the paper does, which turns the map over where the score is negative."""
    net, x, targets = worlds["cnn"]
    layer, chosen = net.get_submodule("2"), [ClassifierOutputTarget(int(each)) for each in targets]
    method = AblationCAM(net, [layer])
    values = net[:3](x).detach()
    weights = method.get_cam_weights(x, layer, chosen, values, None).reshape(values.shape[:2])
    scores = net(x).detach().gather(1, targets[:, None])
    expected = torch.einsum("nk,nkhw->nhw", torch.from_numpy(weights) * scores, values)[:, None]
    found = harness.explain("ablation_cam", net, x, targets, layer="2", relu=False)
    assert distance(found, expected.float()) < 1e-3  # its scores are float32
    assert scores.min() < 0


def test_score_cam_is_torchcams_where_nothing_is_enlarged(worlds):
    """There torchcam's masks, brought to 0..1 before they are enlarged, are those of the paper, brought there after."""
    net, x, targets = worlds["cnn"]
    with torch.no_grad():
        theirs = torchcam_map("ScoreCAM", net, "3", x, targets)
    ours = harness.explain("score_cam", net, x, targets, layer="3")
    assert distance(ours, theirs) < 1e-6
