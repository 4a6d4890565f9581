"""The pointing game: its rules against brute force, the nets against torchvision's, and the user's data from files."""

import itertools
import json
import math
from collections import OrderedDict

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from harness.errors import UserError
from harness.reproducing.lines import lines_of
from harness.reproducing.paper import paper
from harness.reproducing.studies.pointing_game import nets
from harness.reproducing.studies.pointing_game import study as pointing_game
from harness.reproducing.studies.pointing_game.claims import sign_test
from harness.reproducing.studies.pointing_game.coco import COCO_FILE, coco_game, outlines_of_class
from harness.reproducing.studies.pointing_game.points import METHODS, Method, point_of
from harness.reproducing.studies.pointing_game.rules import (
    against_chance,
    chances_of_hits,
    class_mean,
    distance_to,
    near_region,
    points_at,
)
from harness.reproducing.studies.pointing_game.voc import (
    VOC_CLASSES,
    VOC_DIFFICULT,
    VOC_FOLDER,
    read_voc_annotation,
    safe_xml,
    voc_game,
)
from harness.reproducing.study import StudySetting


def region_of(rng, height=30, width=40):
    """Two random boxes, as a region and as slices."""
    region, boxes = np.zeros((height, width), dtype=bool), []
    for _ in range(2):
        left, top = int(rng.integers(width - 4)), int(rng.integers(height - 4))
        box = (left, top, left + int(rng.integers(1, 5)), top + int(rng.integers(1, 5)))
        region[box[1] : box[3], box[0] : box[2]] = True
        boxes.append(box)
    return region, boxes


def distance_to_boxes(boxes, x, y):
    """The distance of a point to the pixels of boxes, in closed form."""
    beyond = [(max(left - x, 0, x - right + 1), max(top - y, 0, y - low + 1)) for left, top, right, low in boxes]
    return min(math.hypot(across, down) for across, down in beyond)


@pytest.mark.parametrize("margin", [1, 2, 15 * 32 / 224, 5, 15])
def test_a_hit_is_a_distance_below_the_margin_by_four_computations(margin):
    rng = np.random.default_rng(round(10 * margin))
    region, boxes = region_of(rng)
    near = near_region(region, margin)
    for y in range(region.shape[0]):
        for x in range(region.shape[1]):
            expected = distance_to_boxes(boxes, x, y) < margin
            assert points_at(region, (x, y), margin) == expected == near[y, x]
            assert math.isclose(distance_to(region, (x, y)), distance_to_boxes(boxes, x, y), abs_tol=1e-12)
    for x, y in rng.integers(-20, 100, size=(200, 2)) / 2:  # between pixels and beyond the image
        by_box = min(
            math.hypot(across - x, down - y)
            for left, top, right, low in boxes
            for across in range(left, right)
            for down in range(top, low)
        )
        assert points_at(region, (x, y), margin) == (by_box < margin)


def test_a_point_exactly_at_the_margin_misses_and_an_empty_region_is_never_hit():
    region = np.zeros((1, 40), dtype=bool)
    region[0, 0] = True
    assert points_at(region, (14, 0), 15) and not points_at(region, (15, 0), 15)
    assert not points_at(np.zeros((5, 5), dtype=bool), (2, 2), 15)


def test_all_pixels_as_points_hit_as_often_as_their_share_says():
    region, _ = region_of(np.random.default_rng(3))
    near = near_region(region, 4)
    hits = [points_at(region, (x, y), 4) for y in range(region.shape[0]) for x in range(region.shape[1])]
    assert sum(hits) == near.sum()
    found = against_chance(hits, np.full(len(hits), near.mean()))
    assert abs(found.z) < 1e-9 and found.hits == near.sum()


def test_hits_against_chance_have_the_normal_deviate_and_both_tails():
    found = against_chance([3, 1], [0.5, 0.5], draws=4)  # 8 fair draws: mean 4, deviation sqrt 2
    assert (found.hits, found.expected, found.z) == (4, 4.0, 0.0) and found.above == found.below == 0.5
    found = against_chance([4, 4], [0.5, 0.5], draws=4)
    assert math.isclose(found.z, 4 / math.sqrt(2)) and math.isclose(found.above, 1 - found.below)
    assert against_chance([1, 1], [1.0, 1.0]).z == 0 and against_chance([1, 0], [1.0, 1.0]).z == -math.inf


def test_hits_of_few_pairs_have_their_exact_distribution():
    """The normal approximation would give six hits of six a probability that is 35 times too small."""
    assert math.isclose(against_chance([1] * 6, [0.234] * 6).above, 0.234**6)
    shares = np.random.default_rng(4).random(7)
    expected = np.zeros(8)
    for pattern in itertools.product((0, 1), repeat=7):
        expected[sum(pattern)] += math.prod(s if hit else 1 - s for s, hit in zip(shares, pattern, strict=True))
    np.testing.assert_allclose(chances_of_hits(shares), expected)
    found = against_chance([1, 1, 0, 1, 0, 0, 0], shares)
    assert math.isclose(found.above, expected[3:].sum()) and math.isclose(found.below, expected[:4].sum())


def test_one_point_for_all_classes_of_an_image_is_no_better_than_chance_more_often_than_promised():
    rng, wrong, wrong_if_independent = np.random.default_rng(5), 0, 0
    images, shares = np.repeat(np.arange(40), 6), np.full(240, 0.3)
    for _ in range(400):
        hits = np.repeat(rng.random(40) < 0.3, 6)  # the six classes of an image are hit together
        wrong += against_chance(hits, shares, images=images).above < 0.025
        wrong_if_independent += against_chance(hits, shares).above < 0.025
    assert wrong <= 20 and wrong_if_independent > 60


def test_random_points_hit_within_sampling_error_in_many_seeds():
    region, _ = region_of(np.random.default_rng(8))
    near = near_region(region, 3)
    z = []
    for seed in range(400):
        points = np.random.default_rng(seed).integers((40, 30), size=(50, 2)).tolist()
        z.append(against_chance([points_at(region, tuple(p), 3) for p in points], [near.mean()] * 50).z)
    assert abs(np.mean(z)) < 4 / math.sqrt(400) and abs(np.std(z) - 1) < 0.15


def test_the_mean_over_classes_and_its_jackknife_against_leaving_out_each_image():
    rng = np.random.default_rng(0)
    hits, classes, images = rng.integers(2, size=30), rng.integers(4, size=30), rng.integers(12, size=30)
    classes[0], images[0] = 9, 77  # a class that one image alone has

    def mean_of(keep):
        return np.mean([hits[keep & (classes == kind)].mean() for kind in set(classes[keep])])

    found, own = class_mean(hits, classes, images), sorted(set(images))
    left = np.array([mean_of(images != image) for image in own])
    expected = math.sqrt((len(own) - 1) / len(own) * ((left - left.mean()) ** 2).sum())
    assert math.isclose(found.value, mean_of(np.ones(30, dtype=bool))) and found.n == 30
    assert math.isclose(found.error, expected)


def test_with_one_class_the_error_is_that_of_a_mean_and_with_one_image_there_is_none():
    hits = [1, 0, 0, 1, 1]
    found = class_mean(hits, [0] * 5, range(5))
    assert math.isclose(found.value, 0.6) and math.isclose(found.error, np.std(hits, ddof=1) / math.sqrt(5))
    assert math.isnan(class_mean([1], [0], [0]).error)


def test_the_sign_test_is_exact():
    assert sign_test(0, 0) == 1 and math.isclose(sign_test(5, 0), 2 / 32) and math.isclose(sign_test(3, 3), 1)


def test_a_map_points_at_its_first_largest_pixel_of_the_enlarged_and_smoothed_map():
    values = torch.zeros(4, 6)
    values[2, 5] = values[3, 1] = 1
    assert point_of(values, (6, 4)) == (5, 2)
    x, y = point_of(values, (60, 40))
    assert abs(x - 54.5) <= 1 and abs(y - 24.5) <= 1
    crowd = torch.zeros(50, 50)
    crowd[10, 10], crowd[30:33, 40:43] = 1, 0.5
    smoothed = Method("", smoothing=0.04)
    assert point_of(crowd, (50, 50)) == (10, 10) and point_of(crowd, (50, 50), smoothed) == (41, 31)


def test_smoothing_goes_by_the_longer_side_and_keeps_the_edge_or_by_the_shorter_side_and_darkens_it():
    values = torch.zeros(20, 100)
    values[0, 50], values[10, 50] = 1, 1.5
    longer, shorter = METHODS["Gradient"], METHODS["Extremal Perturbation"]
    assert (longer.smoothing, longer.longer, shorter.smoothing, shorter.longer) == (0.02, True, 0.09, False)
    assert point_of(values, (100, 20), longer)[1] == 0  # what lies beyond the edge is as bright as the edge
    assert point_of(values, (100, 20), shorter)[1] == 10
    spread = torch.zeros(20, 100)
    spread[10, 20], spread[10, 60], spread[10, 62] = 1, 0.8, 0.8  # one place for a deviation of 2, not for one of 0.4
    assert point_of(spread, (100, 20), Method("", smoothing=0.02))[0] == 61
    assert point_of(spread, (100, 20), Method("", smoothing=0.02, longer=False))[0] == 20


class Small(nn.Module):
    """A net with the parts of torchvision's VGG: 32 times smaller places, pooled to 7 x 7, and three dense layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(16))
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        dense = [nn.Linear(4 * 49, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 5)]
        self.classifier = nn.Sequential(*dense)

    def forward(self, inputs):
        return self.classifier(self.avgpool(self.features(inputs)).flatten(1))


def small_net():
    torch.manual_seed(1)
    return Small().eval()


def test_a_net_at_all_places_is_the_net_on_square_images_and_on_each_window():
    net = small_net()
    everywhere = nets.at_all_places(nets.VGG, net)
    square, wide = torch.randn(2, 3, 224, 224), torch.randn(1, 3, 224, 288)
    torch.testing.assert_close(everywhere(square), net(square))
    places = everywhere.body(wide).flatten(2)
    assert places.shape == (1, 5, 3)
    features = net.features(wide)
    windows = [net.classifier(features[..., at : at + 7].flatten(1)) for at in range(3)]
    torch.testing.assert_close(places, torch.stack(windows, 2))
    torch.testing.assert_close(nets.averaging(everywhere)(wide), torch.stack(windows).mean(0))
    assert nets.averaging(net) is net


def test_the_gradient_is_that_of_the_places_with_their_softmax_as_weights():
    """TorchRay passes exp(logit) of each place back, divided by their sum."""
    everywhere = nets.at_all_places(nets.VGG, small_net()).double()
    inputs = torch.randn(1, 3, 224, 320, dtype=torch.float64, requires_grad=True)
    places = everywhere.body(inputs)
    passed = torch.zeros_like(places)
    passed[0, 3] = (places[0, 3].exp() / places[0, 3].exp().sum()).detach()
    (expected,) = torch.autograd.grad(places, inputs, passed)
    (came,) = torch.autograd.grad(everywhere(inputs)[0, 3], inputs)
    torch.testing.assert_close(came, expected)


@pytest.mark.parametrize("label", nets.ARCHITECTURES)
def test_torchvision_has_the_layers_by_which_weights_are_known_and_grad_cam_looks(label):
    from torchvision import models

    name, own, last, layer = nets.ARCHITECTURES[label]
    with torch.device("meta"):
        network = models.get_model(name, num_classes=20)
    state = network.state_dict()
    assert own in state and len(state[last]) == 20
    chosen = nets.at_all_places(label, network).get_submodule(layer)
    assert isinstance(chosen, nn.ReLU if label == nets.VGG else nn.Sequential)


def test_images_come_with_their_shorter_side_at_224_pixels_or_as_a_square():
    image = Image.fromarray(np.full((375, 500, 3), 255, np.uint8))
    white = (1 - torch.tensor(nets.MEAN)) / torch.tensor(nets.DEVIATION)
    assert nets.shorter_side(image).shape == (3, 224, 298) and nets.squared(image).shape == (3, 224, 224)
    assert nets.shorter_side(image.rotate(90, expand=True)).shape == (3, 298, 224)
    torch.testing.assert_close(nets.squared(image)[:, 5, 7], white)


OBJECT = """<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"""


def annotation(width, height, *objects, head=""):
    inside = "".join(OBJECT.format(*each) for each in objects)
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"{head}<annotation><filename>../other.jpg</filename>{size}{inside}</annotation>"


VOC_IMAGES = {
    "000001": (120, 90, ("dog", 0, 11, 21, 60, 80), ("person", 1, 1, 1, 20, 20)),
    "000002": (90, 120, ("cat", 0, 5, 5, 50, 60), ("cat", 1, 60, 60, 90, 120), ("car", 0, 1, 100, 30, 120)),
    "000004": (100, 100, ("person", 1, 10, 10, 20, 20)),
}
VOC_COUNTS = {"images": 3, "objects": 6}


def noise(path, width, height):
    pixels = np.random.default_rng(width).integers(256, size=(height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def voc(tmp_path):
    base = tmp_path / "data" / VOC_FOLDER
    for name, (width, height, *objects) in VOC_IMAGES.items():
        noise(base / "JPEGImages" / f"{name}.jpg", width, height)
        (base / "Annotations").mkdir(exist_ok=True)
        (base / "Annotations" / f"{name}.xml").write_text(annotation(width, height, *objects))
    (base / "ImageSets" / "Main").mkdir(parents=True)
    (base / "ImageSets" / "Main" / "test.txt").write_text("\n".join(VOC_IMAGES) + "\n")
    return tmp_path / "data"


def test_voc_asks_for_classes_with_an_object_that_is_not_difficult_and_shows_the_boxes_of_all(voc):
    game = voc_game(voc)
    assert [each.asked for each in game.scenes] == [(11,), (6, 7), ()]
    assert [each.present for each in game.scenes] == [(11, 14), (6, 7), (14,)]
    assert (game.listed, [each.objects for each in game.scenes], game.scenes[0].size) == (3, [2, 3, 1], (120, 90))
    dog = game.scenes[0].region(11)
    expected = np.zeros((90, 120), dtype=bool)
    expected[20:80, 10:60] = True  # VOC counts from 1, and the last pixel belongs to the box
    assert (dog == expected).all() and game.scenes[0].picture().size == (120, 90)
    assert game.scenes[1].region(7).sum() == 46 * 56 + 31 * 61
    assert len(VOC_CLASSES) == 20 and list(VOC_CLASSES) == sorted(VOC_CLASSES)


def corners(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


@pytest.fixture
def coco(tmp_path):
    folder, numbers = tmp_path / "data", [*range(1, 80), 90]
    runs = [1000, 3, 100 * 80 - 1003]  # off, on, off
    stated = {
        "images": [
            {"id": 7, "file_name": "COCO_val2014_7.jpg", "width": 100, "height": 80},
            {"id": 3, "file_name": "COCO_val2014_3.jpg", "width": 90, "height": 90},
            {"id": 5, "file_name": "COCO_val2014_5.jpg", "width": 50, "height": 50},
        ],
        "annotations": [
            {"image_id": 7, "category_id": 2, "segmentation": corners(10, 20, 30, 40), "iscrowd": 0},
            {"image_id": 7, "category_id": 90, "segmentation": {"size": [80, 100], "counts": runs}, "iscrowd": 1},
            {"image_id": 3, "category_id": 1, "segmentation": corners(40, 40, 80, 80), "iscrowd": 0},
        ],
        "categories": [{"id": number, "name": f"kind {number}"} for number in numbers],
    }
    for each in stated["images"][:2]:
        noise(folder / "val2014" / each["file_name"], each["width"], each["height"])
    (folder / "annotations").mkdir()
    write(folder / "annotations" / COCO_FILE, stated)
    return folder


def write(path, stated):
    path.write_text(json.dumps(stated))


def test_coco_asks_for_every_class_and_fills_outlines_and_runs(coco):
    game = coco_game(coco)
    assert [(each.name, each.asked) for each in game.scenes] == [("COCO_val2014_3", (0,)), ("COCO_val2014_7", (1, 79))]
    assert game.listed == 3 and len(game.classes) == 80 and game.classes[79] == "kind 90"
    bicycle = game.scenes[1].region(1)
    assert bicycle.shape == (80, 100) and bicycle[30, 20] and not bicycle[30, 32] and 400 <= bicycle.sum() <= 441
    crowd = np.argwhere(game.scenes[1].region(79)).tolist()
    assert crowd == [[40, 12], [41, 12], [42, 12]]  # 1,000 = 12 columns of 80 pixels, and 40


def test_outlines_of_several_objects_of_a_class_are_one_region():
    region = outlines_of_class(
        (20, 10), [(0, corners(0, 0, 4, 4)), (1, corners(9, 0, 12, 4)), (0, corners(15, 5, 18, 8))], 0
    )
    assert region[2, 2] and region[6, 16] and not region[2, 10]


def setting_for(folder, parts, counts, label, said):
    sizes = {"chunk": 2, "draws": 3, "budget": {"masks": 4, "steps": 2}, "expected": {label: counts}}
    return StudySetting("full", sizes, parts, folder, said.append)


def untrained(folder, classes, monkeypatch):
    """Puts weights into the folder. A RegNet, which has the parts of a ResNet, stands in for the ResNet-50, which takes
    ten times as long."""
    from torchvision import models

    stand_in = ("regnet_x_400mf", "trunk_output.block4.block4-0.proj.0.weight", "fc.weight", "body.trunk_output")
    monkeypatch.setitem(nets.ARCHITECTURES, nets.RESNET, stand_in)
    torch.manual_seed(0)
    torch.save(models.regnet_x_400mf(num_classes=classes).state_dict(), folder / nets.WEIGHTS)


def measured_on(folder, tmp_path, counts, label, said):
    findings = pointing_game.study(setting_for(folder, tmp_path / "parts", counts, label, said))
    lines = lines_of(findings, paper("pointing_game").expect, small=False)
    return findings, {each.name: each for each in findings.claims}, lines


def test_the_full_scale_plays_on_a_folder_of_voc(voc, tmp_path, monkeypatch):
    untrained(voc, 20, monkeypatch)
    (voc / VOC_DIFFICULT).write_text("000001\t" + "\t".join("0" * 20) + "\n000004\t" + "\t".join("1" * 20) + "\n")
    said = []
    findings, claims, lines = measured_on(voc, tmp_path, VOC_COUNTS, "VOC2007 test", said)
    exact = ("the oracle always hits", "the margin by brute force", "the centre by distance", "the net at all places")
    assert all(claims[name].holds for name in exact)
    assert "3 pairs" in claims["the oracle always hits"].measured and "Grad-CAM beats center" in claims
    assert "DeConvNet beats center" not in claims  # it does not in the table on VOC
    numbers = findings.numbers.set_index(["dataset", "explainer"])
    assert numbers.loc[("VOC2007 test all", "Grad-CAM"), "model"] == "ResNet-50"
    assert numbers.loc[("VOC2007 test all", "Grad-CAM"), "n"] == 3
    assert numbers.loc[("VOC2007 test difficult", "center"), "n"] == 2  # 000002 is not listed, 000001 is easy
    center = {"dog": True, "cat": True, "car": distance_to(voc_game(voc).scenes[1].region(6), (45, 60)) < 15}
    assert math.isclose(numbers.loc[("VOC2007 test all", "center"), "value"], 100 * np.mean(list(center.values())))
    assert {line.verdict for line in lines if "center," in line.what} == {"differs"}
    others = [line for line in lines if "ResNet-50" in line.what]
    assert others and {line.verdict for line in others} == {"not comparable"}
    assert any("about" in line and "3 pairs" in line for line in said) and set(findings.figures) == {
        "accuracy",
        "points",
    }
    again = []
    measured_on(voc, tmp_path, VOC_COUNTS, "VOC2007 test", again)
    assert not [line for line in again if line.startswith("measuring")]
    (voc / nets.WEIGHTS).unlink()


def test_the_full_scale_plays_on_a_folder_of_coco(coco, tmp_path, monkeypatch):
    untrained(coco, 80, monkeypatch)
    counts = {"images": 3, "objects": 3}
    findings, claims, lines = measured_on(coco, tmp_path, counts, "COCO val2014", [])
    assert claims["the margin by brute force"].holds and claims["the net at all places"].holds
    assert claims["the oracle always hits"].holds and claims["random points by area"].n == 9
    assert "DeConvNet beats center" in claims  # as in the table on COCO
    numbers = findings.numbers.set_index(["dataset", "explainer"])
    assert numbers.loc[("COCO val2014 all", "Gradient"), "n"] == 3 and "difficult" not in str(findings.numbers)
    assert any("center" in line.what and "COCO val2014 all" in line.what for line in lines)
    (coco / nets.WEIGHTS).unlink()


def test_without_weights_the_controls_alone_play(voc, tmp_path):
    findings, claims, lines = measured_on(voc, tmp_path, VOC_COUNTS, "VOC2007 test", [])
    assert any("weights.pth" in note for note in findings.notes) and "the net at all places" not in claims
    rows = findings.numbers
    assert set(rows[rows["value"].notna()]["explainer"]) == {
        "center",
        "random",
        "edge",
        "oracle",
        "random, exact",
    }
    assert all(line.ours != line.ours for line in lines if "Gradient" in line.what)


@pytest.mark.parametrize(
    ("counts", "told"),
    [({"images": 4952, "objects": 6}, "3 images"), ({"images": 3, "objects": 14976}, "6 objects")],
)
def test_another_number_of_images_or_objects_is_told(voc, tmp_path, counts, told):
    with pytest.raises(UserError, match=told):
        measured_on(voc, tmp_path, counts, "VOC2007 test", [])


def test_a_folder_with_neither_data_nor_one_of_them_is_told(tmp_path, voc):
    with pytest.raises(UserError, match="neither"):
        measured_on(tmp_path / "data" / "VOCdevkit", tmp_path, VOC_COUNTS, "VOC2007 test", [])
    (voc / COCO_FILE).write_text("{}")
    with pytest.raises(UserError, match="both"):
        measured_on(voc, tmp_path, VOC_COUNTS, "VOC2007 test", [])


class Evil:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_weights_that_hold_objects_are_refused_and_not_run(voc, tmp_path):
    torch.save({"features.28.weight": Evil(tmp_path / "made")}, voc / nets.WEIGHTS)
    with pytest.raises(UserError, match="could run code"):
        measured_on(voc, tmp_path, VOC_COUNTS, "VOC2007 test", [])
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ({"layer4.2.conv3.weight": torch.zeros(1), "fc.weight": torch.zeros(1000, 4)}, "1,000 outputs, expected 20"),
        ({"conv.weight": torch.zeros(1)}, "neither VGG-16 nor ResNet-50"),
        ({"layer4.2.conv3.weight": torch.zeros(1), "fc.weight": torch.zeros(20, 4)}, "do not fit resnet50"),
    ],
)
def test_weights_of_another_net_are_told(voc, tmp_path, state, told):
    torch.save(OrderedDict(state), voc / nets.WEIGHTS)
    with pytest.raises(UserError, match=told) as caught:
        measured_on(voc, tmp_path, VOC_COUNTS, "VOC2007 test", [])
    assert "\n" not in str(caught.value)


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (annotation(9, 9, head=LAUGHS), "document type"),
        (annotation(9, 9, head=OUTSIDE), "document type"),
        (annotation(9, 9, head="<?xml version='1.0' encoding='utf-16'?>" + LAUGHS).encode("utf-16"), "UTF-8"),
        ("<annotation><size>", "no XML"),
        ("<annotation/>", "size/width"),
        (annotation(9, "many"), "'many' for size/height"),
        (annotation(9, 10**6), "the size 9 x 1000000"),
        (annotation(9, 9, ("unicorn", 0, 1, 1, 5, 5)), "unicorn"),
        (annotation(9, 9, ("dog", 0, 1, "nan", 5, 5)), "'nan' for bndbox/ymin"),
        (annotation(9, 9, ("dog", 0, 5, 5, 4, 9)), "no pixel"),
        (annotation(9, 9, ("dog", 0, 20, 20, 40, 40)), "no pixel"),
        (" " * (2**20 + 1), "1,048,577 bytes"),
    ],
)
def test_an_annotation_that_is_none_of_voc_is_told_in_one_line(tmp_path, text, told):
    path = tmp_path / "000001.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=told) as caught:
        read_voc_annotation(path)
    assert "\n" not in str(caught.value)


def test_a_declared_encoding_does_not_change_what_is_read(tmp_path):
    path = tmp_path / "000001.xml"
    path.write_text("<?xml version='1.0' encoding='utf-16'?>" + annotation(9, 8))
    assert safe_xml(path).findtext("size/width") == "9"


@pytest.mark.parametrize(
    ("listed", "told"), [("../../secret\n", "names of images"), ("000001\n000001\n", "twice"), ("000009\n", "000009")]
)
def test_a_list_of_images_that_names_other_files_is_told(voc, listed, told):
    (voc / VOC_FOLDER / "ImageSets" / "Main" / "test.txt").write_text(listed)
    with pytest.raises(UserError, match=told):
        voc_game(voc)


def test_a_broken_image_is_told(voc):
    (voc / VOC_FOLDER / "JPEGImages" / "000001.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot be decoded"):
        voc_game(voc).scenes[0].picture()


@pytest.mark.parametrize("line", ["000001\t0\t1", "000001 " + "0 " * 20, "000001\t" + "\t".join("2" * 20)])
def test_a_list_of_difficult_pairs_in_another_form_is_told(voc, line):
    (voc / VOC_DIFFICULT).write_text(line)
    with pytest.raises(UserError, match="20 times 0 or 1"):
        voc_game(voc)


@pytest.mark.parametrize(
    ("part", "entry", "told"),
    [
        ("images", {"id": 9, "file_name": "../up.jpg", "width": 5, "height": 5}, "without folders"),
        ("images", {"id": 9, "file_name": "up.jpg", "width": 5}, "lacks 'height'"),
        ("images", {"id": 9, "file_name": "up.jpg", "width": 5, "height": 10**7}, "the size is"),
        ("images", {"id": 9, "file_name": "up.jpg", "width": 5, "height": float("inf")}, "image 3 of 4"),
        ("categories", {"id": 99, "name": "more"}, "81 categories"),
        ("annotations", {"image_id": 99, "category_id": 1, "segmentation": corners(1, 1, 2, 2)}, "does not list"),
        ("annotations", {"image_id": 3, "category_id": 1, "segmentation": {"counts": "abc"}}, "compressed"),
        ("annotations", {"image_id": 3, "category_id": 1, "segmentation": {"counts": [4, 5]}}, "do not add up"),
        ("annotations", {"image_id": 3, "category_id": 1, "segmentation": [[1, 2, 3]]}, "three corners"),
        (
            "annotations",
            {"image_id": 3, "category_id": 1, "segmentation": [[1, 2, 3, 4, 5, float("nan")]]},
            "three corners",
        ),
        ("annotations", ["nothing"], "annotation 3 of 4"),
    ],
)
def test_annotations_that_are_none_of_coco_are_told_in_one_line(coco, part, entry, told):
    path = coco / "annotations" / COCO_FILE
    stated = json.loads(path.read_text())
    stated[part].append(entry)
    write(path, stated)
    with pytest.raises(UserError, match=told) as caught:
        coco_game(coco)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_json_or_lacks_lists_is_told(coco):
    path = coco / "annotations" / COCO_FILE
    for text, told in (("{", "no JSON"), ("[" * 100_000, "no JSON"), ("{}", "no list of images"), ("[]", "no list")):
        path.write_text(text)
        with pytest.raises(UserError, match=told):
            coco_game(coco)


def test_the_small_scale_leaves_published_cells_without_a_number(tmp_path):
    cells = list(pointing_game._cells_without_numbers(_play_of("pasted"), set()))
    assert {each["dataset"] for each in cells} == {"VOC2007 test all"} and len(cells) == 7
    assert all(np.isnan(each["value"]) and each["n"] is None for each in cells)


def _play_of(label):
    from harness.reproducing.studies.pointing_game.claims import Play
    from harness.reproducing.studies.pointing_game.scenes import PointingGame

    return Play(PointingGame(label, (), [], 0), "net", pd.DataFrame())
