"""The contact sheet shows every photo and every map, truly scaled, and says why a tile is blank."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from harness.errors import UserError
from harness.results.heat import coloured, heat_tile, resized
from harness.results.sheet import Caption, _Sheet, contact_sheet

SEED = int(os.environ["HARNESS_TEST_SEED"])


@pytest.fixture
def rng():
    print("seed", SEED)
    return np.random.default_rng(SEED)


def drawn(path, images, maps, **options):
    """The sheet's pixels."""
    contact_sheet(path, images, maps, **options)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def tile(pixels, images, names, controls, captions, row, column):
    """The pixels of one tile."""
    photos = np.broadcast_to(np.asarray(images).transpose(0, 2, 3, 1), (len(images), *images.shape[2:], 3))
    page = _Sheet(photos, names, controls, captions)
    left, top = page.place(row, column)
    return pixels[top : top + page.tile[1], left : left + page.tile[0]]


def test_every_tile_is_drawn_and_the_page_is_white_around_them(tmp_path, rng):
    images = rng.random((3, 3, 40, 40))
    maps = {name: rng.normal(size=(3, 40, 40)) for name in ("gradient", "lrp", "random")}
    pixels = drawn(tmp_path / "sheet.png", images, maps, controls={"random"})
    for row in range(3):
        for column in range(4):
            found = tile(pixels, images, list(maps), ["random"], (), row, column)
            assert found.std() > 5 and (found.min(-1) < 250).mean() > 0.5
    assert (pixels[:, :20] == 255).all() and (pixels[:, -20:] == 255).all()


def test_sixteen_explainers_and_twenty_photos_fit_a_page_of_2400(tmp_path, rng):
    images = rng.random((20, 3, 64, 64))
    maps = {f"explainer_{i}": rng.normal(size=(20, 64, 64)) for i in range(16)}
    captions = [Caption(f"photo {i}", "cat", "dog", 0.5) for i in range(20)]
    height, width, _ = drawn(tmp_path / "sheet.png", images, maps, captions=captions, controls={"explainer_15"}).shape
    assert width <= 2400 and 20 * 64 < height < 20 * 200


@pytest.mark.parametrize("size", [8, 28])
def test_small_images_are_enlarged_by_whole_pixels(tmp_path, rng, size):
    images = rng.random((1, 1, size, size))
    pixels = drawn(tmp_path / "sheet.png", images, {"saliency": rng.random((1, size, size))})
    photo = tile(pixels, images, ["saliency"], [], (), 0, 0)
    scale = len(photo) // size
    assert scale == 224 // size and photo.shape[:2] == (scale * size, scale * size)
    assert (photo[::scale, ::scale, 0] == np.rint(images[0, 0] * 255)).all()
    assert (photo == np.repeat(np.repeat(photo[::scale, ::scale], scale, 0), scale, 1)).all()


def test_images_that_are_not_square_keep_their_shape(tmp_path, rng):
    images = rng.random((1, 3, 30, 60))
    pixels = drawn(tmp_path / "sheet.png", images, {"saliency": rng.random((1, 30, 60))})
    height, width, _ = tile(pixels, images, ["saliency"], [], (), 0, 0).shape
    assert width == 2 * height


def test_making_a_map_smaller_averages_it_over_areas(rng):
    values = rng.normal(size=(12, 12))
    assert np.allclose(resized(values, 4, 4), values.reshape(4, 3, 4, 3).mean((1, 3)), atol=1e-6)
    parts = np.repeat(np.repeat(values, 7, 0), 5, 1)  # each pixel in 7 x 5 equal parts; a tile's takes 12 x 12
    assert np.allclose(resized(values, 5, 7), parts.reshape(7, 12, 5, 12).mean((1, 3)))


def test_a_maps_colours_do_not_depend_on_its_scale(rng):
    photo, heat = rng.random((9, 9, 3)), rng.normal(size=(9, 9))
    assert np.allclose(heat_tile(photo, heat, True), heat_tile(photo, heat * 1e-12, True))


def test_one_wild_attribution_does_not_wash_out_the_others(rng):
    photo, heat = rng.random((30, 30, 3)), rng.normal(size=(30, 30))
    wild = heat.copy()
    wild[3, 3] = 1e9
    difference = np.abs(heat_tile(photo, heat, True) - heat_tile(photo, wild, True))
    difference[3, 3] = 0
    assert difference.max() < 0.2


def test_signs_have_different_colours_and_zero_none():
    ground = np.full((3, 3), 0.8)
    against, nothing, favour = coloured(ground, np.array([-1.0, 0.0, 1.0]), signed=True)
    assert against[2] > against[0] and favour[0] > favour[2]
    assert (nothing == 0.8).all()


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("sign", [-1, 1])
def test_stronger_heat_is_never_lighter(signed, sign):
    strength = np.linspace(0, 1, 101)
    grey = coloured(np.full((101, 3), 0.97), sign * strength, signed) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(grey) < 1e-12).all()


def test_maps_without_values_are_blank_and_say_why(tmp_path, rng):
    images = rng.random((2, 3, 100, 100))
    broken = rng.normal(size=(2, 100, 100))
    broken[1, 5, 5] = np.nan
    maps = {"lrp": broken, "grad_cam": None, "zero": np.zeros((2, 100, 100))}
    plain = drawn(tmp_path / "plain.png", images, maps)
    said = drawn(tmp_path / "said.png", images, maps, reasons={"grad_cam": "needs a spatial layer"})
    names = list(maps)
    assert tile(plain, images, names, [], (), 0, 1).tolist() != tile(plain, images, names, [], (), 1, 1).tolist()
    for row, column in ((1, 1), (0, 2), (1, 2)):
        assert (tile(plain, images, names, [], (), row, column) == (240, 240, 242)).all(-1).mean() > 0.5
    assert (tile(plain, images, names, [], (), 0, 2) != tile(said, images, names, [], (), 0, 2)).any()
    assert (tile(plain, images, names, [], (), 0, 1) == tile(said, images, names, [], (), 0, 1)).all()


def test_which_maps_are_signed_may_be_told_or_found(tmp_path, rng):
    images, heat = rng.random((1, 3, 50, 50)), rng.random((1, 50, 50))
    found = drawn(tmp_path / "a.png", images, {"saliency": heat})
    told = drawn(tmp_path / "b.png", images, {"saliency": heat}, signed={"saliency"})
    assert (found == drawn(tmp_path / "c.png", images, {"saliency": heat}, signed=())).all()
    assert (found != told).any()


def test_a_wrong_prediction_is_marked(tmp_path, rng):
    assert Caption(label="cat", prediction="dog").wrong
    assert not Caption(label="cat", prediction="cat").wrong and not Caption(prediction="cat").wrong
    images, maps = rng.random((1, 1, 90, 90)), {"saliency": rng.random((1, 90, 90))}
    right, wrong = (
        drawn(tmp_path / "sheet.png", images, maps, captions=[Caption("x", "cat", prediction, 0.9)])[:, :190]
        for prediction in ("cat", "dog")
    )
    reddish = lambda pixels: ((pixels[..., 0] - pixels[..., 2]) > 100).any()
    assert reddish(wrong) and not reddish(right)


def test_tensors_and_long_names_are_drawn(tmp_path):
    torch.manual_seed(SEED)
    images = torch.rand(1, 1, 20, 20, requires_grad=True)
    maps = {"an_explainer_of_a_remarkably_unreasonable_incomprehensibility_indeed": torch.randn(1, 20, 20)}
    assert drawn(tmp_path / "sheet.png", images, maps, title="t" * 500, subtitle="s" * 500).size


def test_the_same_sheet_is_the_same_file(tmp_path, rng):
    images, maps = rng.random((1, 3, 30, 30)), {"lrp": rng.normal(size=(1, 30, 30))}
    for name in ("a.png", "b.png"):
        contact_sheet(tmp_path / name, images, maps)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("images", "maps", "options", "words"),
    [
        (np.zeros((2, 2, 8, 8)), {}, {}, "images have shape"),
        (np.zeros((8, 8)), {}, {}, "images have shape"),
        (np.zeros((2, 3, 8, 8)), {"lrp": np.zeros((2, 9, 8))}, {}, "maps of lrp have shape"),
        (np.zeros((2, 3, 8, 8)), {"lrp": np.zeros((2, 8, 8))}, {"captions": [Caption()]}, "captions are 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, images, maps, options, words):
    with pytest.raises(UserError, match=words):
        contact_sheet(tmp_path / "sheet.png", images, maps, **options)
    assert list(tmp_path.iterdir()) == []
