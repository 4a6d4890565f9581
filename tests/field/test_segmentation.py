"""The score of a class over a region of an image: right in closed form, for the outputs of every library's models."""

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from architectures import ARCHITECTURES
from harness.errors import UserError
from harness.models.segmentation import (
    RegionScore,
    check_regions,
    class_maps,
    masked_regions,
    point_regions,
    predicted_classes,
    predicted_regions,
)

WAYS = {
    "a tensor": lambda maps: maps,
    "torchvision's dict": lambda maps: OrderedDict(out=maps, aux=-maps),
    "a dict of logits": lambda maps: {"loss": None, "logits": maps},
    "an object with logits": lambda maps: SimpleNamespace(logits=maps, hidden_states=None),
}


class Linear(nn.Module):
    """Class maps that are linear in each pixel, at a part of the image's size."""

    def __init__(self, classes=3, size=None, wrap=WAYS["a tensor"]):
        super().__init__()
        self.conv, self.size, self.wrap = nn.Conv2d(2, classes, 1), size, wrap
        self.eval()

    def forward(self, x):
        maps = self.conv(x)
        return self.wrap(maps if self.size is None else F.adaptive_avg_pool2d(maps, self.size))


def regions_of(count, height, width):
    regions = torch.rand(count, height, width) < 0.3
    regions[:, 0, 0] = True
    return regions


@pytest.mark.parametrize("way", WAYS)
def test_the_score_is_the_mean_logit_of_each_class_over_the_region(way):
    model, inputs, region = Linear(wrap=WAYS[way]), torch.randn(4, 2, 6, 9), regions_of(4, 6, 9)
    pixels = model.conv(inputs)
    expected = torch.stack([pixels[row][:, region[row]].mean(1) for row in range(4)])
    assert torch.allclose(RegionScore(model)(inputs, region), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (1, 1), (16, 20), (31, 40)])
def test_small_maps_count_as_if_they_were_resized_to_the_image(size):
    model, inputs, region = Linear(size=size), torch.randn(3, 2, 16, 20), regions_of(3, 16, 20)
    large = F.interpolate(model(inputs), size=(16, 20), mode="bilinear", align_corners=False)
    expected = torch.stack([large[row][:, region[row]].mean(1) for row in range(3)])
    assert torch.allclose(RegionScore(model)(inputs, region), expected, atol=1e-5)


def test_the_gradient_is_that_of_the_mean():
    model, region = Linear(), regions_of(2, 6, 9)
    inputs = torch.randn(2, 2, 6, 9, requires_grad=True)
    RegionScore(model)(inputs, region)[:, 1].sum().backward()
    share = region / region.sum((1, 2), keepdim=True)
    assert torch.allclose(inputs.grad, model.conv.weight[1].detach() * share[:, None], atol=1e-7)


@pytest.mark.parametrize("autocast", [False, True])
def test_means_of_16_bit_maps_have_the_digits_of_32(autocast):
    model, inputs, region = Linear().bfloat16(), torch.randn(2, 2, 70, 90).bfloat16(), regions_of(2, 70, 90)
    expected = torch.stack([model(inputs)[row].double()[:, region[row]].mean(1) for row in range(2)])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert torch.allclose(RegionScore(model)(inputs, region).double(), expected, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "(segmentation)" in name])
def test_published_models_score_rows_in_any_number_and_order(name):
    made = ARCHITECTURES[name]()
    rows = torch.tensor([2, 0, 0, 1, 2])
    together = made.module(made.inputs, **made.carried)
    assert together.shape == (3, class_maps(made.module.module, made.inputs).shape[1])
    gathered = made.module(made.inputs[rows], **{key: each[rows] for key, each in made.carried.items()})
    assert torch.allclose(gathered, together[rows], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if "(segmentation)" in name])
def test_published_models_score_what_their_resized_maps_say(name):
    made = ARCHITECTURES[name]()
    maps = class_maps(made.module.module, made.inputs)
    large = F.interpolate(maps, size=made.inputs.shape[2:], mode="bilinear", align_corners=False)
    region = made.carried["region"]
    expected = torch.stack([large[row][:, region[row]].mean(1) for row in range(len(region))])
    assert torch.allclose(made.module(made.inputs, region), expected, atol=1e-5)


class FirstPixel(nn.Module):
    """Predicts the class 1 where the first channel is above 0.5, else the class 0; the class 2 nowhere."""

    def forward(self, x):
        return torch.stack([0.5 - x[:, 0], x[:, 0] - 0.5, torch.full_like(x[:, 0], -9.0)], 1)


def test_a_predicted_region_is_where_the_class_has_the_largest_logit():
    inputs = torch.rand(20, 1, 5, 7)  # more than are passed at once
    targets = torch.tensor([0, 1] * 10)
    assert torch.equal(predicted_classes(FirstPixel(), inputs), (inputs[:, 0] > 0.5).long())
    regions = predicted_regions(FirstPixel(), inputs, targets)
    assert torch.equal(regions, (inputs[:, 0] > 0.5) == targets.bool()[:, None, None])


def test_an_image_without_its_class_is_refused_with_the_class_that_is_there():
    with pytest.raises(UserError, match=r"class 2 at no pixel of image 1 \(of 1 images in all\); class 1 is predicted"):
        predicted_regions(FirstPixel(), torch.ones(2, 1, 4, 4), torch.tensor([1, 2]))


def test_a_point_is_a_region_of_one_pixel():
    inputs = torch.rand(2, 3, 4, 6)
    regions = point_regions(torch.tensor([[3, 5], [0, 2]]), inputs)
    assert regions.sum() == 2 and regions[0, 3, 5] and regions[1, 0, 2]


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_masks_of_any_dtype_are_regions(kind):
    inputs, masks = torch.rand(3, 3, 4, 6), regions_of(3, 4, 6)
    assert torch.equal(masked_regions(masks.to(kind), inputs), masks)


IMAGES = torch.rand(2, 3, 4, 6)
REFUSED = {
    "a map of classes": (lambda: masked_regions(torch.full((2, 4, 6), 7), IMAGES), "up to 7.*masks == CLASS"),
    "a list": (lambda: masked_regions([[0, 1]], IMAGES), "masks hold list"),
    "another size": (lambda: masked_regions(torch.ones(2, 6, 4), IMAGES), r"\(2, 6, 4\), expected bool \(2, 4, 6\)"),
    "a channel axis": (lambda: masked_regions(torch.ones(2, 1, 4, 6), IMAGES), r"\(2, 1, 4, 6\), expected bool"),
    "an empty mask": (lambda: masked_regions(torch.zeros(2, 4, 6), IMAGES), "2 of 2 regions hold no pixel"),
    "floats as regions": (lambda: check_regions(torch.ones(2, 4, 6), IMAGES), "torch.float32"),
    "x before y": (
        lambda: point_regions(torch.tensor([[5, 3], [0, 0]]), IMAGES),
        r"\(5, 3\) lies outside .* 4 rows x 6",
    ),
    "a negative point": (lambda: point_regions(torch.tensor([[-1, 3], [0, 0]]), IMAGES), "lies outside"),
    "one point for two": (
        lambda: point_regions(torch.tensor([[1, 3]]), IMAGES),
        r"\(1, 2\), expected integers \(2, 2\)",
    ),
    "points as floats": (lambda: point_regions(torch.rand(2, 2), IMAGES), "float32"),
    "a region of another size": (lambda: RegionScore(Flat(2))(IMAGES, torch.ones(2, 2, 2).bool()), r"\(2, 2, 2\)"),
    "one map": (lambda: class_maps(Flat(1), IMAGES), r"one map for each image.*torch.cat\(\[-z, z\], 1\)"),
    "a classifier": (lambda: class_maps(nn.Flatten(), IMAGES), r"returned \(2, 72\) for 2 images"),
    "a dict without maps": (lambda: class_maps(lambda x: {"mask": x}, IMAGES), "returned dict for 2 images"),
}


class Flat(nn.Module):
    """Maps of zeros for a number of classes."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return x.new_zeros(len(x), self.classes, *x.shape[2:])


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_region_or_no_map_is_refused_in_one_line(what):
    attempt, words = REFUSED[what]
    with pytest.raises(UserError, match=words) as caught:
        attempt()
    assert "\n" not in str(caught.value)
