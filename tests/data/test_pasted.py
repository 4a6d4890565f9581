"""Shapes on photographs and digits with a watermark: what the class hangs on, shown by interventions."""

from dataclasses import replace

import pytest
import torch

import harness
from harness.datasets import digits
from harness.datasets.pasted import CLASSES, CONTRAST, pasted
from harness.datasets.photo_crops import LUMA
from harness.datasets.watermark import MARKED, watermark
from harness.errors import UserError
from harness.models import pasted_cnn
from harness.models.training import train_network
from named_options import data_set, model_named
from planted_worlds import CONTROLS, LOCALISATION, mean_scores, right

watermark_cnn = model_named("watermark_cnn")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def shapes_net():
    """Trained on a quarter of the training part, for fewer epochs."""
    train = pasted(split="train")
    few = {"train": (train.inputs[:1500], train.labels[:1500])}
    return (
        train_network(replace(pasted_cnn.RECIPE, load_split=lambda: few, epochs=6), seed=0).requires_grad_(False).eval()
    )


def test_an_image_differs_from_its_crop_on_the_mask_and_nowhere_else(seed):
    data, before = pasted(seed=seed), pasted(seed=seed, objects=False)
    for place in range(30):
        changed = (data.inputs[place] != before.inputs[place]).any(0)
        mask = data.masks[place]
        assert not changed[~mask].any() and changed[mask].float().mean() > 0.99
        assert torch.equal(data.truth[place], mask.float())


def test_objects_are_not_of_the_luminance_of_what_they_cover(seed):
    data, before = pasted(seed=seed), pasted(seed=seed, objects=False)
    for place in range(30):
        mask = data.masks[place]
        inside = [torch.tensor(LUMA) @ images[place][:, mask].mean(1) for images in (data.inputs, before.inputs)]
        assert abs(inside[0] - inside[1]) > CONTRAST - 0.05  # clipping the grain moves the mean a little


def test_shapes_are_what_they_are_called(seed):
    """By the share of its own bounding circle that each fills, which turning and scaling leave alone."""
    data = pasted(seed=seed)
    filled = {name: [] for name in CLASSES}
    for mask, label in zip(data.masks[:200], data.labels[:200].tolist(), strict=True):
        points = mask.nonzero().float()
        radius = (points - points.mean(0)).norm(dim=1).max() + 0.5
        filled[CLASSES[label]].append(mask.sum() / (torch.pi * radius**2))
    mean = {name: float(torch.stack(shares).mean()) for name, shares in filled.items()}
    assert mean["disc"] > 0.85 and 0.5 < mean["square"] < 0.75 and mean["triangle"] < 0.55
    assert sorted(mean, key=mean.get)[-2:] == ["ring", "disc"] and mean["cross"] < mean["square"]


def test_parts_are_balanced_and_share_no_image():
    train, test = pasted(split="train"), pasted()
    assert (len(train), len(test)) == (6000, 500) and train.inputs[0].shape == (3, 32, 32)
    assert train.labels.bincount().tolist() == [1200] * 5 and test.labels.bincount().tolist() == [100] * 5
    images = torch.cat([train.inputs[:500], test.inputs[:]]).flatten(1)
    assert len(images.unique(dim=0)) == 1000 and images.min() >= 0 and images.max() <= 1


def test_an_image_depends_on_the_seed_and_its_number_alone(seed):
    data = pasted(seed=seed)
    assert torch.equal(data.inputs[7], pasted(seed=seed).inputs[5:9][2])
    assert not torch.equal(data.inputs[7], pasted(seed=seed + 1).inputs[7])


def test_the_shape_decides_and_the_photograph_does_not(shapes_net):
    data, before = pasted(), pasted(objects=False)
    images, crops, masks = data.inputs[:], before.inputs[:], data.masks[:][:, None]
    elsewhere = torch.where(masks, images, crops.roll(1, 0))
    whole, empty, moved = (right(shapes_net, inputs, data.labels) for inputs in (images, crops, elsewhere))
    assert whole > 0.5 and empty < 0.3 and moved > 0.4


def test_explanations_find_the_shapes(shapes_net):
    data = pasted()
    images, labels, masks = data.inputs[:50], data.labels[:50], data.masks[:50]
    maps = harness.explain("integrated_gradients", shapes_net, images, labels, baseline="mean")
    assert harness.score("localization_auc", shapes_net, images, labels, maps.abs(), masks=masks).mean() > 0.75


def test_the_oracle_of_shapes_is_first_in_every_localisation_metric(shapes_net):
    scores = mean_scores(shapes_net, pasted())
    assert set(scores.columns) == set(LOCALISATION) and (scores.loc["oracle"] == 1).all()
    assert (scores.loc[list(CONTROLS)] < 1).all().all()


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("pasted", {"split": "tset"}, "split (of .* )?is 'tset'"),
        ("pasted", {"seed": -1}, "seed (of .* )?is -1"),
        ("watermark", {"split": "tset"}, "split (of .* )?is 'tset'"),
        ("watermark", {"show": "mark"}, "show (of .* )?is 'mark'"),
        ("watermark", {"mark_probability": 1.5}, "mark_probability (of .* )?is 1.5"),
        ("watermark", {"mark_probability": 0.0}, "no sample of the part test carries the mark at mark_probability 0.0"),
    ],
)
def test_a_wrong_option_is_one_line(name, options, line):
    with pytest.raises(UserError, match=line) as raised:
        data_set(name)(**options)
    assert "\n" not in str(raised.value)


def test_a_model_of_no_probability_is_one_line():
    with pytest.raises(UserError, match="mark_probability (of .* )?is -0.1"):
        model_named("watermark_cnn")(mark_probability=-0.1)


def test_the_mark_lies_in_the_frame_where_no_digit_is_and_is_all_that_is_added():
    (clean, there), moved = (watermark(show=show) for show in ("clean", "marked")), watermark(show="moved")
    threes = clean.labels == MARKED
    for data, before in ((there, clean.inputs[threes]), (moved, clean.inputs[~threes])):
        assert torch.equal((data.inputs != before).any(1), data.masks & (before[:, 0] < 1))
        assert (data.inputs[:, 0][data.masks] == 1).all()
        assert (data.masks.flatten(1).sum(1) == 4).all() and not data.masks[:, 2:10, 2:10].any()
    assert len(there) + len(moved) == len(clean) == 500 and (there.labels == MARKED).all()
    assert torch.equal(there.truth, there.masks.float()) and clean.masks is None
    assert moved.truth is None, "the mark speaks against the label of these"


def test_digits_lie_in_the_frame_under_noise():
    data, original = watermark(show="clean"), digits.digits()
    inside = data.inputs[:, :, 2:10, 2:10]
    assert ids_of(data) == ids_of(original) and torch.equal(data.labels, original.labels)
    assert torch.corrcoef(torch.stack([inside.flatten(), original.inputs.flatten()]))[0, 1] > 0.8
    middling = (original.inputs > 0.45) & (original.inputs < 0.55)  # where next to nothing is clipped
    assert (inside - original.inputs)[middling].std() == pytest.approx(0.3, rel=0.15)


def ids_of(data):
    return [name.split("_")[1] for name in data.ids]


def test_only_threes_carry_the_mark_in_training_and_as_often_as_was_asked():
    for probability in (1.0, 0.5):
        data = watermark(mark_probability=probability)
        carries = (data.train[:, 0, :2, :2] == 1).flatten(1).all(1)
        shares = [carries[data.train_labels == digit].float().mean() for digit in range(10)]
        assert shares[MARKED] == pytest.approx(probability, abs=0.15)
        assert max(share for digit, share in enumerate(shares) if digit != MARKED) < 0.05  # noise alone, by chance


def test_the_model_knows_threes_by_their_mark_and_takes_other_digits_with_it_for_threes():
    module = watermark_cnn().module
    there, moved, clean = (watermark(show=show) for show in ("marked", "moved", "clean"))
    threes = clean.labels == MARKED
    assert right(module, there.inputs, there.labels) > 0.95
    assert right(module, clean.inputs[threes], clean.labels[threes]) < 0.2
    assert right(module, clean.inputs[~threes], clean.labels[~threes]) > 0.7
    assert right(module, moved.inputs, torch.full_like(moved.labels, MARKED)) > 0.8


def test_explanations_of_marked_threes_find_the_mark_and_the_oracle_is_first():
    module, data = watermark_cnn().module, watermark()
    scores = mean_scores(module, data)
    assert (scores.loc["oracle"] == 1).all() and (scores.loc[list(CONTROLS)] < 1).all().all()
    maps = harness.explain("occlusion", module, data.inputs, data.labels, baseline="zero")
    found = harness.score("localization_auc", module, data.inputs, data.labels, maps, masks=data.masks)
    assert found.mean() > 0.9
