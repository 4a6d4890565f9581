"""The mathematics of the study torchcam: maps on a grid, the scores, and the checks of the user's folder."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from harness.errors import UserError
from harness.models.torchvision_models import torchvision_classifier
from harness.reproducing import paper
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.shared import image_nets as _image_nets
from harness.reproducing.studies.torchcam import images, maps
from harness.reproducing.studies.torchcam import study as torchcam
from harness.reproducing.study import StudySetting


@pytest.fixture
def pooled_net():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(4), nn.ReLU())
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    return net.requires_grad_(False)


@pytest.fixture
def small_images():
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_the_gradient_at_a_layer_before_a_linear_head_is_its_weight_over_the_places(pooled_net, small_images):
    targets = torch.arange(6) % 5
    values, gradient = maps.layer_and_gradient(pooled_net, "0", small_images, targets, probability=False)
    expected = pooled_net[3].weight[targets][:, :, None, None] / 16
    torch.testing.assert_close(gradient, expected.expand(6, 8, 4, 4))
    torch.testing.assert_close(values, pooled_net[0](small_images))
    _, of_probability = maps.layer_and_gradient(pooled_net, "0", small_images, targets, probability=True)
    shares = pooled_net(small_images).softmax(1)
    own = shares.gather(1, targets[:, None])
    closed = own * (pooled_net[3].weight[targets] - shares @ pooled_net[3].weight) / 16
    torch.testing.assert_close(of_probability, closed[:, :, None, None].expand(6, 8, 4, 4), atol=1e-7, rtol=1e-4)


def test_grad_cam_of_a_linear_head_sums_to_the_rectified_logit_less_its_bias(pooled_net, small_images):
    targets = torch.zeros(6, dtype=torch.long)
    values, gradient = maps.layer_and_gradient(pooled_net, "0", small_images, targets, probability=False)
    signed = (gradient.mean((2, 3), keepdim=True) * values).sum(1)
    torch.testing.assert_close(signed.sum((1, 2)), pooled_net(small_images)[:, 0] - pooled_net[3].bias[0])
    assert torch.equal(maps.grad_cam_on_grid(values, gradient), signed.relu())


def test_epsilon_shrinks_a_weight_of_grad_cam_pp_by_the_closed_ratio():
    values, gradients = torch.full((1, 1, 2, 2), 3.0), torch.full((1, 1, 2, 2), 1e-3)
    plain = maps.grad_cam_pp_on_grid(values, gradients, 0.0)
    shrunk = maps.grad_cam_pp_on_grid(values, gradients, 1e-6)
    below = 2 + 1e-3 * 12
    torch.testing.assert_close(plain, torch.full((1, 2, 2), 3 * 4e-3 / below))
    torch.testing.assert_close(shrunk / plain, torch.full((1, 2, 2), below / (below + 1e-6 / 1e-6)))


def test_layer_cam_keeps_positive_gradients_place_by_place():
    values = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    gradients = torch.tensor([[[[1.0, -1.0]], [[-1.0, 0.5]]]])
    assert maps.layer_cam_on_grid(values, gradients).tolist() == [[[1.0, 2.0]]]


def test_scaled_maps_span_0_to_1_and_flat_ones_are_0():
    scaled = maps.scaled_on_grid(torch.tensor([[[1.0, 3.0], [2.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]]))
    torch.testing.assert_close(scaled[0], torch.tensor([[0.0, 1.0], [0.5, 0.0]]))
    assert not scaled[1].any()


def test_drop_and_increase_are_those_of_torch_cam():
    drop, increase = maps.drop_and_increase(torch.tensor([0.8, 0.4, 0.5]), torch.tensor([0.2, 0.6, 0.5]))
    torch.testing.assert_close(drop, torch.tensor([0.75, 0.0, 0.0]))
    assert increase.tolist() == [False, True, False]


@pytest.mark.parametrize("name", maps.CONTROL_MAPS)
def test_controls_are_weights_in_0_to_1_that_depend_on_the_image_alone(name, small_images):
    found = maps.control_weights(name, small_images, list(range(6)), 4)
    assert found.shape == (6, 1, 16, 16) and found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(maps.control_weights(name, small_images[2:3], [2], 4), found[2:3])


def test_published_names_are_those_of_the_study():
    rows = published_numbers("torchcam", {"table_or_figure": "README performance table"})
    assert set(rows["explainer"]) == set(maps.METHODS_OF_TOOL)
    assert set(rows["metric"]) == set(torchcam.METRICS_OF_TOOL)
    assert set(rows["model"]) == {net.label for net in images.NETS_OF_TOOL}


@pytest.fixture
def imagenette(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    for wnid in images.CLASSES_OF_IMAGENETTE:
        folder = tmp_path / "val" / wnid
        folder.mkdir(parents=True)
        Image.fromarray(draw.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / "a.JPEG")
    monkeypatch.setattr(images, "COUNTS", {10: "a small one"})
    images.listed_images.cache_clear()
    images.subject_of.cache_clear()
    return tmp_path


def test_images_have_the_classes_of_imagenet_in_the_order_of_their_folders(imagenette):
    files = images.listed_images(str(imagenette))
    assert [label for _, label in files] == [0, 217, 482, 491, 497, 566, 569, 571, 574, 701]
    inputs, labels = images._decoded(str(imagenette), files[:2])
    assert inputs.shape == (2, 3, 224, 224) and labels.tolist() == [0, 217]


def test_another_folder_is_refused_in_one_line(imagenette):
    (imagenette / "val" / "n01440764" / "b.png").write_bytes(b"")
    with pytest.raises(UserError, match="holds 11 images"):
        images.listed_images(str(imagenette))
    (imagenette / "val" / "n99999999").mkdir()
    with pytest.raises(UserError, match="n99999999 is missing or too many"):
        images.listed_images(str(imagenette))
    with pytest.raises(UserError, match=r"resnet18-f37072fd\.pth"):
        images.nets_in(imagenette)


def test_the_study_runs_on_a_folder_with_images_and_weights(imagenette, tmp_path, monkeypatch):
    net = replace(images.NETS_OF_TOOL[1], architecture="mobilenet_v3_small")  # it takes a quarter of the time
    weights = tmp_path / "weights"
    weights.mkdir()
    module = torchvision_classifier(architecture=net.architecture, weights=None, seed=0).module
    torch.save(module.state_dict(), weights / "first.pth")
    known = hashlib.sha256((weights / "first.pth").read_bytes()).hexdigest()[:8]
    (weights / "first.pth").rename(weights / f"net-{known}.pth")
    urls = lambda name: dict.fromkeys(
        ("IMAGENET1K_V1", "IMAGENET1K_V2"), f"x/net-{known}.pth" if name == net.architecture else "x/other.pth"
    )
    monkeypatch.setattr(images, "published_urls", urls)
    monkeypatch.setattr(_image_nets, "published_urls", urls)
    monkeypatch.setattr(images, "NETS_OF_TOOL", (net,))
    monkeypatch.setattr(torchcam, "NETS_OF_TOOL", (net,))
    said = []
    sizes = {**paper.paper("torchcam").sizes["full"], "chunk": 5}
    found = torchcam.study(StudySetting("full", sizes, tmp_path / "parts", imagenette, said.append))
    assert "10 images x 1 nets: about" in said[0]
    ones = found.numbers[found.numbers["explainer"] == maps.ONES]
    assert (ones["value"] == 0).all() and set(ones["n"]) == {10}
    exact = [claim for claim in found.claims if claim.kind == "identity"]
    assert len(exact) == 7 and all(claim.holds for claim in exact), [c.measured for c in exact if not c.holds]
