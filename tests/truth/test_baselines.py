"""Every baseline against its definition, computed here with numpy and scipy, and the draws of the random ones."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter

from harness.errors import NotApplicable, UserError
from harness.messages import heard_by
from harness.removal.baselines import BASELINES, is_random, meaning_of_typical
from metric_worlds import Constant, draw, samples

SEED = int(os.environ["HARNESS_TEST_SEED"])
SHAPES = {"image": (3, 6, 5), "table": (7,), "tokens": (5, 4), "series": (4, 9)}
OVER = {"image": (2, 3), "tokens": (1,), "series": (2,)}  # the axes of the units, of which a channel has many
FOR_IMAGES = ("black", "blur")
FOR_TEXTS = ("mask", "pad")  # in test_text_baselines
WHERE_THEY_APPLY = [
    (kind, name)
    for kind in SHAPES
    for name in sorted(BASELINES.keys() - set(FOR_TEXTS))
    if kind == "image" or name not in FOR_IMAGES
]
RANDOM = ("gaussian_noise", "train_sample", "uniform_noise")


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def spread_out(shape, seed, count):
    """Inputs of which every channel, column and sample has its own mean and spread."""
    inputs = draw(shape, seed, count) * torch.linspace(0.5, 3, count).view(-1, *[1] * len(shape))
    return inputs * (1 + torch.arange(inputs[0].numel()).view(shape)) + 5 * draw(shape, seed + 1, 1)


def world(kind, seed, count=3, shape=None, **more):
    shape = shape or SHAPES[kind]
    found = samples(
        Constant(), spread_out(shape, seed, count), modality=kind, train=spread_out(shape, seed + 7, 11), **more
    )
    return found, found.inputs.double().numpy(), found.train.double().numpy()


def equal(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    np.testing.assert_allclose(
        found.double().numpy(), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max()
    )


def correlation(first, second):
    return abs(np.corrcoef(first.double().flatten().numpy(), second.double().flatten().numpy())[0, 1])


def test_there_is_a_statement_here_on_each_baseline():
    named = {"typical", "typical_or_zero", "resampled"}
    assert set(BASELINES) == {*named, "zero", "black", "mean", "train_mean", "blur", *RANDOM, *FOR_TEXTS}


@pytest.mark.parametrize("kind", SHAPES)
def test_typical_or_zero_is_typical_unless_that_needs_training_inputs_that_are_missing(kind, seed):
    found, x, _ = world(kind, seed)
    equal(found.baseline("typical_or_zero"), found.baseline("typical").numpy())
    without, said = replace(found, train=None, scratch={}, block={}), []
    with heard_by(said.append):
        removed = [without.baseline("typical_or_zero") for _ in range(2)]
    if kind == "table":
        equal(removed[0], np.zeros_like(x))
        assert len(said) == 1 and "replace removed units by zero" in said[0]
    else:
        equal(removed[0], without.baseline("typical").numpy())
        assert not said


@pytest.mark.parametrize("kind", SHAPES)
def test_resampled_is_from_the_training_inputs_or_without_them_noise_over_the_datas_range(kind, seed):
    found, *_ = world(kind, seed, value_range=(-4.0, 4.0))
    without, said = replace(found, train=None, scratch={}, block={}), []
    with heard_by(said.append):
        for draw_ in range(3):
            assert torch.equal(found.baseline("resampled", draw_), found.baseline("train_sample", draw_))
            assert torch.equal(without.baseline("resampled", draw_), without.baseline("uniform_noise", draw_))
    assert len(said) == 1 and "give train=" in said[0] and is_random("resampled")


@pytest.mark.parametrize("kind", SHAPES)
def test_zero_is_zero(kind, seed):
    found, x, _ = world(kind, seed)
    equal(found.baseline("zero"), np.zeros_like(x))


def test_black_is_the_lowest_value_of_each_channel_in_the_models_space(seed):
    low, high = torch.tensor([-2.1, -2.0, -1.8]), torch.tensor([2.2, 2.4, 2.6])
    found, x, _ = world("image", seed, value_range=(low, high))
    equal(found.baseline("black"), np.broadcast_to(low.double().numpy()[:, None, None], x.shape))
    found, x, _ = world("image", seed, value_range=(0.0, 1.0))
    equal(found.baseline("black"), np.zeros_like(x))


def test_black_is_not_known_without_a_declared_range_and_is_for_images(seed):
    with pytest.raises(NotApplicable, match="value_range"):
        world("image", seed)[0].baseline("black")
    for kind in ("table", "tokens", "series"):
        with pytest.raises(NotApplicable, match="needs image"):
            world(kind, seed, value_range=(0.0, 1.0))[0].baseline("black")


@pytest.mark.parametrize("kind", OVER)
def test_the_mean_is_that_of_each_channel_of_each_sample_over_its_units(kind, seed):
    found, x, _ = world(kind, seed)
    equal(found.baseline("mean"), np.broadcast_to(x.mean(OVER[kind], keepdims=True), x.shape))


@pytest.mark.parametrize("kind", OVER)
def test_the_training_mean_is_that_of_each_channel(kind, seed):
    found, x, train = world(kind, seed)
    equal(found.baseline("train_mean"), np.broadcast_to(train.mean((0, *OVER[kind]), keepdims=True), x.shape))


@pytest.mark.parametrize("name", ["mean", "train_mean"])
def test_both_means_of_a_table_are_those_of_the_training_columns(name, seed):
    found, x, train = world("table", seed)
    equal(found.baseline(name), np.broadcast_to(train.mean(0), x.shape))


@pytest.mark.parametrize(
    ("kind", "name"), [("image", "mean"), ("series", "mean"), ("tokens", "zero"), ("table", "train_mean")]
)
def test_what_is_typical_depends_on_the_kind_of_input(kind, name, seed):
    found, *_ = world(kind, seed)
    assert meaning_of_typical(found) == name
    assert torch.equal(found.baseline("typical"), found.baseline(name))


def test_a_removed_token_is_padding_where_the_model_has_some(seed):
    padding = {"mask": torch.full((4,), 2.0), "pad": torch.full((4,), 3.0)}
    assert (samples(Constant(), draw((5, 4), seed), fillers=padding).baseline("typical") == 3).all()


@pytest.mark.parametrize("modality", ["table", "other"])
def test_numbers_without_a_common_scale_need_training_inputs_of_which_each_has_its_own_mean_and_range(modality, seed):
    shape = (7,) if modality == "table" else (2, 3, 4, 5)
    inputs, train = spread_out(shape, seed, 3), spread_out(shape, seed + 7, 11)
    found = samples(Constant(), inputs, modality=modality, train=train)
    torch.testing.assert_close(found.baseline("typical"), train.mean(0).expand_as(inputs))
    low, high = found.input_range()
    assert torch.equal(low.expand(shape), train.amin(0)) and torch.equal(high.expand(shape), train.amax(0))
    alone = samples(Constant(), inputs, modality=modality)
    for ask in (alone.input_range, *(lambda n=n: alone.baseline(n) for n in ("typical", "uniform_noise"))):
        with pytest.raises(NotApplicable, match=r"\(give train=\)"):
            ask()


def test_the_channels_of_a_series_have_ranges_of_their_own(seed):
    found, x, _ = world("series", seed)
    low, high = found.input_range()
    equal(low, x.min(2, keepdims=True))
    equal(high, x.max(2, keepdims=True))


@pytest.mark.parametrize("name", ["train_mean", "train_sample"])
def test_what_is_made_of_training_data_needs_them(name, seed):
    with pytest.raises(NotApplicable):
        samples(Constant(), draw((3, 6, 5), seed)).baseline(name)


def test_a_table_without_training_data_has_no_mean(seed):
    with pytest.raises(NotApplicable):
        samples(Constant(), draw((7,), seed)).baseline("mean")


@pytest.mark.parametrize(
    ("shape", "radius"), [((3, 26, 31), 5), ((1, 20, 20), 5), ((3, 8, 8), 2), ((2, 9, 40), 2), ((3, 14, 12), 3)]
)
def test_blur_is_rises_kernel_with_zeros_around_the_image(shape, radius, seed):
    found, x, _ = world("image", seed, shape=shape)
    delta = np.zeros((2 * radius + 1, 2 * radius + 1))
    delta[radius, radius] = 1
    kernel = gaussian_filter(delta, radius, mode="reflect")  # at full size 11 x 11 and sigma 5
    blurred = lambda mode: np.stack([[convolve(c, kernel, mode=mode, cval=0.0) for c in image] for image in x])
    equal(found.baseline("blur"), blurred("constant"))
    assert not np.allclose(found.baseline("blur").numpy(), blurred("nearest"), rtol=1e-2)


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_blur_changes_even_the_smallest_image(side, seed):
    found, x, _ = world("image", seed, shape=(3, side, side))
    assert (np.abs(found.baseline("blur").numpy() - x) > 0.01 * np.abs(x)).any((1, 2, 3)).all()


@pytest.mark.parametrize("kind", ["table", "tokens", "series"])
def test_only_images_can_be_blurred(kind, seed):
    with pytest.raises(NotApplicable):
        world(kind, seed)[0].baseline("blur")


@pytest.mark.parametrize("width", [3, 11])
def test_uniform_noise_is_uniform_over_each_channels_declared_range(width, seed):
    low, high = torch.tensor([-1.0, 10, 100]), torch.tensor([1.0, 30, 103])
    noise = world("image", seed, 200, (3, 5, width), value_range=(low, high))[0].baseline("uniform_noise").double()
    unit = (noise - low.view(3, 1, 1)) / (high - low).view(3, 1, 1)
    assert (unit >= -1e-5).all() and (unit <= 1 + 1e-5).all()
    for channel in unit.unbind(1):
        n = channel.numel()
        assert abs(channel.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
        assert abs(channel.var() - 1 / 12) < 5 * ((1 / 80 - 1 / 144) / n) ** 0.5


def test_a_declared_range_is_one_number_or_one_per_channel_or_of_an_inputs_shape(seed):
    bounds = [
        (-2.0, 3.0),
        (torch.full((3,), -2.0), torch.full((3,), 3.0)),
        (torch.full((3, 1, 1), -2.0), torch.full((3, 5, 11), 3.0)),
    ]
    first, *others = [
        world("image", seed, 2, (3, 5, 11), value_range=each)[0].baseline("uniform_noise") for each in bounds
    ]
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("width", [3, 11])
@pytest.mark.parametrize("wrong", [(2,), (1,), (5,), (11,), (5, 11), (2, 1, 1), (3, 4, 1), (1, 3, 1, 1)])
def test_a_range_of_another_shape_is_a_users_error(wrong, width, seed):
    for bounds in ((torch.zeros(wrong), 1.0), (0.0, torch.ones(wrong))):
        found, *_ = world("image", seed, shape=(3, 5, width), value_range=bounds)
        with pytest.raises(UserError, match="value_range"):
            found.baseline("uniform_noise")


def test_without_a_declared_range_uniform_noise_has_each_samples_own(seed):
    found, x, _ = world("image", seed, 4, (3, 20, 20))
    noise = found.baseline("uniform_noise").flatten(1).double().numpy()
    low, high = x.reshape(4, -1).min(1), x.reshape(4, -1).max(1)
    unit = (noise - low[:, None]) / (high - low)[:, None]
    assert ((unit >= -1e-5) & (unit <= 1 + 1e-5)).all()
    assert (np.abs(unit.mean(1) - 0.5) < 5 * (1 / 12 / 1200) ** 0.5).all()


def test_uniform_noise_on_a_table_has_the_training_columns_range(seed):
    found, _, train = world("table", seed, 3000)
    unit = (found.baseline("uniform_noise").double().numpy() - train.min(0)) / (train.max(0) - train.min(0))
    assert ((unit >= -1e-5) & (unit <= 1 + 1e-5)).all()
    assert (np.abs(unit.mean(0) - 0.5) < 5 * (1 / 12 / 3000) ** 0.5).all()


@pytest.mark.parametrize(("kind", "shape"), [("image", (3, 2, 2)), ("tokens", (3, 4)), ("series", (4, 3))])
def test_gaussian_noise_has_the_mean_and_population_spread_of_each_channel(kind, shape, seed):
    found, x, _ = world(kind, seed, 3000, shape)  # three or four units a channel: the sample's spread is another
    unit = (found.baseline("gaussian_noise").double().numpy() - x.mean(OVER[kind], keepdims=True)) / x.std(
        OVER[kind], keepdims=True
    )
    for channel in np.moveaxis(unit, found.units.channel_axis, 0):
        assert abs(channel.mean()) < 5 / channel.size**0.5
        assert abs(channel.var() - 1) < 5 * (2 / channel.size) ** 0.5
        assert abs((channel**4).mean() - 3) < 7 * (96 / channel.size) ** 0.5


def test_gaussian_noise_on_a_table_has_the_mean_and_spread_of_the_training_columns(seed):
    found, _, train = world("table", seed, 10_000)  # eleven training rows: the sample's variance is a tenth larger
    unit = (found.baseline("gaussian_noise").double().numpy() - train.mean(0)) / train.std(0)
    assert (np.abs(unit.mean(0)) < 5 / 10_000**0.5).all()
    assert (np.abs(unit.var(0) - 1) < 5 * (2 / 10_000) ** 0.5).all()


@pytest.mark.parametrize("kind", SHAPES)
def test_training_samples_are_whole_training_inputs_each_as_often(kind, seed):
    found, _, train = world(kind, seed, 600)
    row = numbers(found, 0)
    often = torch.bincount(row, minlength=len(train)).double()
    assert (often - 600 / 11).abs().max() < 5 * (600 / 11) ** 0.5


def numbers(found, number):
    """Which training input each sample is given; every one must be one."""
    drawn = found.baseline("train_sample", number)
    same = (drawn[:, None] == found.train[None]).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.long().argmax(1)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("name", ["uniform_noise", "gaussian_noise"])
def test_successive_draws_of_noise_and_those_of_different_samples_are_uncorrelated(kind, name, seed):
    shape = {"image": (3, 24, 24), "table": (1500,), "tokens": (40, 40), "series": (40, 40)}[kind]
    found, *_ = world(kind, seed, 4, shape, **({} if kind == "table" else {"value_range": (0.0, 1.0)}))
    drawn = torch.stack([found.baseline(name, number) for number in range(4)])  # draws, samples, ...
    source, axes = (found.train, (0,)) if kind == "table" else (found.inputs, OVER[kind])
    centre, spread = source.mean(axes, keepdim=True), source.std(axes, keepdim=True)
    if name == "uniform_noise":
        low, high = (source.amin(0), source.amax(0)) if kind == "table" else (0.0, 1.0)
        centre, spread = (low + high) / 2, high - low
    drawn = (drawn - centre) / spread
    limit = 5 / drawn[0, 0].numel() ** 0.5
    for i in range(3):
        for j in range(3):
            assert correlation(drawn[i, j], drawn[i + 1, j]) < limit
            assert correlation(drawn[i, j], drawn[i, j + 1]) < limit


def test_successive_draws_of_training_samples_and_those_of_different_samples_are_uncorrelated(seed):
    found, *_ = world("table", seed, 2000)
    first, second = numbers(found, 0), numbers(found, 1)
    assert correlation(first, second) < 5 / 2000**0.5
    assert correlation(first[1:], first[:-1]) < 5 / 1999**0.5


@pytest.mark.parametrize(("kind", "name"), WHERE_THEY_APPLY)
def test_a_samples_baseline_does_not_depend_on_its_company_or_place(kind, name, seed):
    found, *_ = world(kind, seed, 6, value_range=(-9.0, 9.0))
    rows = torch.tensor([4, 0, 3])
    alone = samples(Constant(), found.inputs[rows], modality=kind, train=found.train, value_range=(-9.0, 9.0))
    for number in (0, 3):
        torch.testing.assert_close(
            alone.baseline(name, number), found.baseline(name, number)[rows], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize(("kind", "name"), WHERE_THEY_APPLY)
def test_a_baseline_is_the_same_where_every_number_is_a_unit(kind, name, seed):
    more = {"value_range": (-9.0, 9.0)}
    joint, apart = world(kind, seed, **more)[0], world(kind, seed, elements=True, **more)[0]
    for number in (0, 2):
        assert torch.equal(joint.baseline(name, number), apart.baseline(name, number))


def test_a_tensor_is_the_baseline_of_every_sample_and_must_have_an_inputs_shape(seed):
    found, x, _ = world("image", seed)
    given = draw((3, 6, 5), seed + 2, 1)[0]
    equal(found.baseline(given), np.broadcast_to(given.double().numpy(), x.shape))
    with pytest.raises(UserError, match="baseline"):
        found.baseline(given[:, :, :4])
