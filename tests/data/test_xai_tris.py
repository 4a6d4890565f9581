"""XAI-TRIS: images made as its paper says, pixels that are known to tell the class, and models that learn it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import harness
from harness.datasets import tetrominoes
from harness.datasets.tetrominoes import BACKGROUNDS, SCENARIOS, TetrominoOptions
from harness.datasets.xai_tris import family_of as family_with
from harness.datasets.xai_tris import xai_tris_splitter
from harness.errors import UserError
from harness.models.training import train_network
from harness.models.xai_tris_models import XAI_TRIS_RECIPES
from named_options import data_set, model_named
from planted_worlds import CONTROLS, LOCALISATION, mean_scores, right

xai_tris, xai_tris_mlp = data_set("xai_tris"), model_named("xai_tris_mlp")
FAMILIES = [(scenario, background) for scenario in SCENARIOS for background in BACKGROUNDS]
PLACES = """
........
.T......
.TT.....
.T......
.....L..
.....L..
.....LL.
........
"""


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def family_of(scenario, background, size, **options):
    return family_with(TetrominoOptions(scenario, background), size, **options)


def drawn(letter, scale=1):
    """The tetromino as the plan of the image shows it."""
    plan = np.array([[float(pixel == letter) for pixel in line] for line in PLACES.split()])
    return np.kron(plan, np.ones((scale, scale)))


def by_hand(scenario, numbers, scale=1):
    """The signals of fixed places, straight from the plan; smoothed where they are large."""
    t_shape, l_shape = (drawn(letter, scale) for letter in "TL")
    pairs = {0: (1, 1), 1: (1, -1), 2: (-1, -1), 3: (-1, 1)}
    if scenario == "xor":
        signals = [pairs[n % 4][0] * t_shape + pairs[n % 4][1] * l_shape for n in numbers]
    else:
        signals = [(t_shape, l_shape)[n % 2] for n in numbers]
    return np.stack([gaussian_filter(signal, 1.5) if scale > 1 else signal for signal in signals])


def whole(scenario, background, size=8, count=120, seed=0):
    """All samples of a small data set, their labels and their masks."""
    parts = [
        xai_tris(scenario=scenario, backdrop=background, size=size, count=count, seed=seed, split=split)
        for split in ("train", "validation", "test")
    ]
    return tuple(torch.cat(each) for each in zip(*((p.inputs[:], p.labels, p.masks[:]) for p in parts), strict=True))


@pytest.mark.parametrize(("scenario", "background"), FAMILIES)
def test_images_are_the_papers_formula_over_the_whole_data_matrix(scenario, background, seed):
    images, *_ = whole(scenario, background, seed=seed)
    family = family_of(scenario, background, 8, count=120, seed=seed)
    numbers = np.concatenate(list(family.parts.values()))
    behind = family.backgrounds(numbers).astype(np.float64)
    signal = family.signals(numbers).astype(np.float64) if scenario == "rotation" else by_hand(scenario, numbers)
    if scenario == "multiplicative":
        signal = 1 - family.alpha * signal
    signal, behind = signal / np.linalg.norm(signal), behind / np.linalg.norm(behind)
    mixed = signal * behind if scenario == "multiplicative" else family.alpha * signal + (1 - family.alpha) * behind
    np.testing.assert_allclose(images[:, 0].numpy(), mixed / np.abs(mixed).max(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scenario", ["linear", "xor"])
def test_large_images_hold_smoothed_tetrominoes_eight_times_as_large(scenario):
    numbers = np.arange(8)
    made = family_of(scenario, "white", 64, count=40).signals(numbers)
    np.testing.assert_allclose(made, by_hand(scenario, numbers, scale=8), atol=1e-5)


def test_large_turned_tetrominoes_are_four_times_as_large(seed):
    masks = family_of("rotation", "white", 64, count=40, seed=seed).signals(np.arange(20))
    assert np.abs(masks.sum((1, 2)) - 4 * 16).max() < 4 * 16 * 0.1  # smoothing keeps the sum, mirrored at the border


@pytest.mark.parametrize("size", [8, 64])
def test_correlated_backgrounds_are_the_white_ones_smoothed(size, seed):
    white, smooth = (family_of("linear", name, size, seed=seed).backgrounds(np.arange(5)) for name in BACKGROUNDS[:2])
    expected = np.stack([gaussian_filter(image, {8: 3, 64: 10}[size]) for image in white.astype(np.float64)])
    np.testing.assert_allclose(smooth, expected, atol=1e-5)
    assert white.std() == pytest.approx(0.5, rel=0.2)


def test_natural_backgrounds_are_grey_with_a_mean_of_nought_and_differ_from_each_other(seed):
    crops = family_of("linear", "natural", 64, seed=seed).backgrounds(np.arange(20))
    assert np.abs(crops.mean((1, 2))).max() < 1e-5 and np.abs(crops).max() <= 1
    neighbours = np.abs(np.diff(crops, axis=2)).mean()
    assert neighbours < 0.5 * np.abs(crops - np.roll(crops, 1, axis=0)).mean(), "pixels of a photograph go together"


@pytest.mark.parametrize("scenario", ["linear", "multiplicative", "xor"])
def test_the_mask_of_fixed_places_is_both_tetrominoes(scenario):
    data = xai_tris(scenario=scenario, count=60)
    both = torch.from_numpy(drawn("T") + drawn("L")) > 0
    assert all(torch.equal(mask, both) for mask in data.masks[:]) and both.sum() == 8
    assert torch.equal(data.truth[:], data.masks[:].float())


def test_the_mask_of_a_turned_tetromino_is_its_four_pixels_wherever_it_lies(seed):
    data = xai_tris(scenario="rotation", count=400, seed=seed, split="train")
    seen = set()
    for mask, label in zip(data.masks[:].numpy(), data.labels.tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        part = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        plan = drawn("TL"[label])
        rows, columns = np.nonzero(plan)
        shape = plan[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] > 0
        turns = [turn for turn in range(4) if np.array_equal(np.rot90(shape, turn), part)]
        assert len(turns) == 1
        seen.add((label, turns[0]))
    assert len(seen) == 8, "every turn of both shapes"


def test_the_class_means_of_the_linear_family_differ_on_the_mask_and_nowhere_else(seed):
    data = xai_tris(split="train", seed=seed)
    images, mask = data.inputs[:][:, 0], data.masks[0]
    one, other = images[data.labels == 0], images[data.labels == 1]
    z = (one.mean(0) - other.mean(0)) / (one.var(0) / len(one) + other.var(0) / len(other)).sqrt()
    assert z[mask].abs().min() > 8 and z[~mask].abs().max() < 5
    assert (z[torch.from_numpy(drawn("T")) > 0] > 0).all() and (z[torch.from_numpy(drawn("L")) > 0] < 0).all()


def test_no_pixel_alone_tells_the_class_of_xor_but_the_product_of_both_shapes_does(seed):
    data = xai_tris(scenario="xor", split="train", seed=seed)
    images = data.inputs[:][:, 0]
    one, other = images[data.labels == 0], images[data.labels == 1]
    z = (one.mean(0) - other.mean(0)) / (one.var(0) / len(one) + other.var(0) / len(other)).sqrt()
    assert z.abs().max() < 5
    parts = [(images * torch.from_numpy(drawn(letter)).float()).sum((1, 2)) for letter in "TL"]
    assert ((parts[0] * parts[1] < 0).long() == data.labels).float().mean() > 0.9


ASKED = [*((*family, 8) for family in FAMILIES[::2]), ("rotation", "natural", 64)]


@pytest.mark.parametrize(("scenario", "background", "size"), ASKED)
def test_a_sample_is_the_same_however_it_is_asked_for(scenario, background, size, seed):
    data = xai_tris(scenario=scenario, backdrop=background, size=size, count=60, seed=seed)
    for values in (data.inputs, data.masks, data.truth):
        together = values[:]
        assert len(values) == len(together) == len(data)
        assert torch.equal(values[1], together[1]) and torch.equal(values[-1], together[-1])
        assert torch.equal(values[1:3], together[1:3]) and torch.equal(values[torch.tensor([2, 0])], together[[2, 0]])
    again = xai_tris(scenario=scenario, backdrop=background, size=size, count=60, seed=seed)
    assert torch.equal(again.inputs[:], data.inputs[:])
    another = xai_tris(scenario=scenario, backdrop=background, size=size, count=60, seed=seed + 1)
    assert not torch.equal(another.inputs[:], data.inputs[:])


def test_images_are_made_as_they_are_read_and_not_before(monkeypatch):
    data, made = xai_tris(size=64, count=400), []

    def mixed(family, numbers):
        made.append(len(numbers))
        return np.zeros((len(numbers), 64, 64))

    monkeypatch.setattr(tetrominoes.TetrominoFamily, "mixed", mixed)
    data.inputs[3], data.inputs[7:9]
    assert made == [1, 2]


@pytest.mark.parametrize(("n", "sizes"), [(None, (8000, 1000, 1000)), (200, (160, 20, 20))])
def test_parts_share_no_image_and_have_both_classes_alike(n, sizes):
    parts = {split: xai_tris(count=n, split=split) for split in ("train", "validation", "test")}
    assert tuple(len(part) for part in parts.values()) == sizes
    assert len({name for part in parts.values() for name in part.ids}) == sum(sizes)
    images = torch.cat([part.inputs[:] for part in parts.values()]).flatten(1)
    assert len(images.unique(dim=0)) == sum(sizes)
    assert all(part.labels.bincount().tolist() == [len(part) / 2] * 2 for part in parts.values())
    assert all(torch.equal(part.train, parts["train"].inputs[:]) for part in parts.values())
    assert images.abs().max() == 1


@pytest.mark.parametrize("n", [100, 4000])
def test_no_image_held_out_of_some_samples_was_trained_on_in_more_of_them(n):
    trained_on, held = (
        set(xai_tris(split="train").ids),
        (xai_tris(count=n, split=part) for part in ("validation", "test")),
    )
    assert not any(trained_on & set(part.ids) for part in held)


def test_large_data_sets_have_ninety_percent_to_train_and_hold_a_thousand_of_them(monkeypatch):
    monkeypatch.setattr(tetrominoes, "_largest_magnitude", lambda family: 1.0)
    monkeypatch.setattr(tetrominoes, "_norms_of_parts", lambda family: (1.0, 1.0))
    data = xai_tris(size=64, split="train")
    assert len(data) == 36_000 and data.train.shape == (1000, 1, 64, 64) and data.train_labels.shape == (1000,)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"scenario": "xnor"}, "scenario (of .* )?is 'xnor'"),
        ({"backdrop": "wite"}, "backdrop (of .* )?is 'wite'"),
        ({"size": 16}, "size (of .* )?is 16, expected 8 or 64"),
        ({"signal": 1.0}, r"signal (of .* )?is 1.0"),
        ({"signal": 0.0}, r"signal (of .* )?is 0.0"),
        ({"count": 39}, "count (of .* )?is 39"),
        ({"count": 2_000_000}, "count (of .* )?is 2000000, expected .* to 1,000,000"),
        ({"seed": -1}, "seed (of .* )?is -1"),
        ({"split": "tset"}, "split (of .* )?is 'tset'"),
    ],
)
def test_a_wrong_option_is_one_line(options, line):
    with pytest.raises(UserError, match=line) as raised:
        xai_tris(**options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["xai_tris_linear", "xai_tris_mlp", "xai_tris_cnn"])
def test_a_model_of_an_unknown_family_is_one_line(name):
    with pytest.raises(UserError, match="scenario (of .* )?is 'xnor'"):
        model_named(name)(scenario="xnor")


@pytest.mark.parametrize("kind", ["xai_tris_linear", "xai_tris_mlp", "xai_tris_cnn"])
def test_models_give_two_logits_and_no_probabilities(kind, seed):
    outputs = XAI_TRIS_RECIPES[kind, "linear", "white"].build()(torch.randn(20, 1, 8, 8) * 10)
    assert outputs.shape == (20, 2)
    assert (outputs.sum(1) - 1).abs().max() > 1e-3


def test_every_family_of_data_has_a_file_of_weights_of_its_own():
    assert len({recipe.name for recipe in XAI_TRIS_RECIPES.values()}) == 3 * len(FAMILIES) == 36


def test_a_dense_network_learns_xor_and_a_linear_model_cannot(seed):
    images, labels = xai_tris_splitter(TetrominoOptions("xor", "white"), 8)()["test"]
    linear, dense = (
        train_network(replace(XAI_TRIS_RECIPES[kind, "xor", "white"], epochs=10), seed=0)
        for kind in ("xai_tris_linear", "xai_tris_mlp")
    )
    assert right(dense, images, labels) > 0.95 and right(linear, images, labels) < 0.6


def test_a_linear_model_in_white_noise_weighs_pixels_by_the_difference_of_the_class_means():
    data = xai_tris()
    module = model_named("xai_tris_linear")().module
    assert right(module, data.inputs[:], data.labels) > 0.83
    weights = (module[1].weight[0] - module[1].weight[1]).view(8, 8)
    pattern = torch.from_numpy(drawn("T") - drawn("L")).float()
    assert torch.corrcoef(torch.stack([weights.flatten(), pattern.flatten()]))[0, 1] > 0.85


@pytest.mark.parametrize(("scenario", "background"), FAMILIES)
def test_the_oracle_is_first_in_every_localisation_metric(scenario, background, seed):
    """Whatever the model has learnt: the scores look at maps and masks, and the controls at no model.

    In the paper's own setting a turned tetromino is the brightest part of white noise, so that looking at the input
    alone finds it as well as the oracle does.
    """
    data = xai_tris(scenario=scenario, backdrop=background, count=400, seed=seed)
    module = XAI_TRIS_RECIPES["xai_tris_mlp", scenario, background].build().requires_grad_(False).eval()
    scores = mean_scores(module, data)
    assert set(scores.columns) == set(LOCALISATION) and (scores.loc["oracle"] == 1).all()
    beaten = [name for name in CONTROLS if (scenario, background, name) != ("rotation", "white", "input_magnitude")]
    assert (scores.loc[beaten] < 1).all().all()


def test_explanations_of_a_model_that_has_learnt_the_shapes_lie_on_them():
    data, loaded = xai_tris(scenario="xor"), xai_tris_mlp(scenario="xor", epochs=10)
    images, labels, masks = data.inputs[:100], data.labels[:100], data.masks[:100]
    assert right(loaded.module, data.inputs[:], data.labels) > 0.95
    maps = harness.explain("integrated_gradients", loaded.module, images, labels, baseline="zero")
    scores = harness.score("localization_auc", loaded.module, images, labels, maps.abs(), masks=masks)
    assert scores.mean() > 0.9
