"""Time series with labels, the small networks that learn them, and their drawings."""

import numpy as np
import pytest
import torch

from harness.assets import read_members
from harness.datasets.aeon_series import AEON, basic_motions, italy_power_demand
from harness.errors import UserError
from harness.models.series_cnn import SERIES_RECIPES
from harness.models.training import train_network
from harness.results.lines import HEIGHT, WIDTH, drawings, stretched
from harness.units import Units
from named_options import model_named

series_cnn = model_named("series_cnn")

# How it is loaded, channels, steps, series to train and to test, classes.
DATA = {
    "italy_power_demand": (italy_power_demand, 1, 24, 67, 1029, 2),
    "basic_motions": (basic_motions, 6, 100, 40, 40, 4),
}

pytestmark = pytest.mark.usefixtures("seed")


@pytest.mark.parametrize("name", DATA)
def test_a_data_set_has_its_channels_steps_and_classes(name):
    load, channels, steps, train, test, classes = DATA[name]
    for split, count in (("train", train), ("test", test)):
        data = load(split=split)
        assert data.inputs.shape == (count, channels, steps) and data.inputs.isfinite().all()
        assert sorted(set(data.labels.tolist())) == list(range(classes)) and len(data.classes) == classes
        assert data.modality == "series" and len(set(data.ids)) == count
        assert torch.equal(data.train, load(split="train").inputs) and len(data.train_labels) == train


@pytest.mark.parametrize("name", DATA)
def test_every_channel_is_standardised_by_the_training_part_alone(name):
    data = DATA[name][0]()
    torch.testing.assert_close(data.train.mean((0, 2)), torch.zeros(DATA[name][1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(data.train.std((0, 2)), torch.ones(DATA[name][1]), atol=1e-4, rtol=0)


def test_the_part_that_is_tested_has_no_say_in_the_standardisation():
    train, test = basic_motions(split="train"), basic_motions(split="test")
    assert test.inputs.mean((0, 2)).abs().min() > 1e-3
    (content,) = read_members(AEON, "*/BasicMotions_TEST.ts").values()
    first = content.decode().split("@data")[1].split()[0].split(":")[0]
    raw = torch.tensor([float(number) for number in first.split(",")])
    found = test.inputs[test.ids.index("test_0000"), 0]
    ratio = (raw[1:] - raw[:-1]).std() / (found[1:] - found[:-1]).std()  # the training part's deviation, undone
    torch.testing.assert_close((raw - raw.mean()) / ratio, found - found.mean(), rtol=1e-3, atol=1e-4)
    assert train.inputs.std((0, 2)).sub(1).abs().max() < 1e-4 < test.inputs.std((0, 2)).sub(1).abs().max()


@pytest.mark.parametrize("name", DATA)
def test_the_first_series_are_of_all_classes(name):
    assert set(DATA[name][0]().labels[:20].tolist()) == set(range(DATA[name][5]))


def test_in_winter_the_evening_peak_comes_earlier():
    data = italy_power_demand()
    winter, summer = (data.inputs[data.labels == label, 0].mean(0) for label in (0, 1))
    assert winter[15:].argmax() + 15 == 19 and summer[15:].argmax() + 15 == 21
    assert data.classes == ("October to March", "April to September")


def test_who_stands_moves_least_and_who_runs_moves_most():
    data = basic_motions()
    spread = {name: data.inputs[data.labels == label].std().item() for label, name in enumerate(data.classes)}
    assert min(spread, key=spread.get) == "standing" and spread["running"] > spread["walking"]


@pytest.mark.parametrize("name", DATA)
def test_another_split_is_one_line(name):
    with pytest.raises(UserError, match=f"unknown split of {name} 'all'"):
        DATA[name][0](split="all")


@pytest.mark.parametrize(("name", "floor"), [("italy_power_demand", 0.93), ("basic_motions", 0.85)])
def test_the_network_is_right_on_series_it_was_not_trained_on(name, floor, seed):
    data = DATA[name][0]()
    module = train_network(SERIES_RECIPES[name], seed=seed).eval()
    assert (module(data.inputs).argmax(1) == data.labels).float().mean() > floor


def test_the_model_comes_with_its_classes_and_frozen():
    loaded = series_cnn(epochs=1)
    assert loaded.classes == italy_power_demand().classes and not loaded.module.training
    assert not any(weight.requires_grad for weight in loaded.module.parameters())


def test_other_data_are_one_line():
    with pytest.raises(UserError, match="data (of .* )?is 'gun_point'"):
        series_cnn(data="gun_point")


@pytest.mark.parametrize(("elements", "shape"), [(False, (100,)), (True, (6, 100))])
def test_units_are_steps_or_every_channels_steps(elements, shape):
    assert Units.of(basic_motions().inputs[:2], "series", elements=elements).shape == shape


def test_a_rising_series_is_drawn_from_the_lower_left_to_the_upper_right():
    (ink,) = 1 - drawings(torch.arange(24.0).view(1, 1, 24))[:, 0]
    height = [(np.arange(HEIGHT) * ink[:, x]).sum() / ink[:, x].sum() for x in range(8, WIDTH - 8)]
    assert (np.diff(height) < 0.2).all() and height[0] > 0.8 * HEIGHT and height[-1] < 0.2 * HEIGHT


def test_channels_lie_in_bands_below_one_another():
    series = torch.zeros(1, 2, 10)
    series[0, 1, ::2] = torch.rand(5) + 0.5
    ink = 1 - drawings(series)[0, 0]
    upper, lower = ink[: HEIGHT // 2], ink[HEIGHT // 2 :]
    assert (upper.sum(1) > 0).sum() <= 4 < (lower.sum(1) > 0).sum() > HEIGHT // 4


@pytest.mark.parametrize("steps", [7, 24, 100, 300])
def test_a_map_is_stretched_to_where_its_steps_are_drawn(steps):
    maps = torch.randn(3, steps).numpy()
    found = stretched(maps)
    assert found.shape == (3, HEIGHT, WIDTH) and (found == found[:, :1]).all()
    centres = ((np.arange(steps) + 0.5) * WIDTH / steps).astype(int)
    if steps <= WIDTH:
        np.testing.assert_allclose(found[:, 0, centres], maps, rtol=1e-6)


def test_steps_narrower_than_a_pixel_are_averaged():
    maps = torch.zeros(1, 4 * WIDTH)
    maps[0, 2 * WIDTH + 1] = 4.0
    assert stretched(maps).sum() / HEIGHT == pytest.approx(1.0)
