"""Mosaics of photographs: the labelled class is in its cell, and nowhere else."""

import pytest
import torch
from torch import nn

import harness
from harness.datasets.photo_mosaics import CELL, cell_of, photo_mosaics
from harness.datasets.photos import photos
from harness.errors import UserError
from harness.models.lite0 import preprocess
from harness.registry import DATASETS
from planted_worlds import CONTROLS, LOCALISATION


@pytest.fixture(scope="module")
def mosaics():
    try:
        return photo_mosaics(count=12)
    except UserError as error:
        if "could not fetch" not in str(error):
            raise
        pytest.skip(str(error))


def seen(data):
    """What lite0 sees of all items."""
    return torch.stack([preprocess(data.inputs[index]) for index in range(len(data))])


def test_the_labelled_photograph_lies_in_the_masked_cell_pixel_for_pixel(mosaics):
    known, inputs = photos(), seen(mosaics)
    for index, picture in enumerate(inputs):
        cells = [preprocess_cell(known.inputs.sources[place]) for place in mosaics.inputs.chosen[index].tolist()]
        (own,) = [
            place for place in mosaics.inputs.chosen[index].tolist() if known.labels[place] == mosaics.labels[index]
        ]
        inside = picture[:, mosaics.masks[index]].view(3, CELL, CELL)
        assert torch.equal(inside, preprocess_cell(known.inputs.sources[own]))
        whole = torch.cat([torch.cat(cells[:2], 2), torch.cat(cells[2:], 2)], 1)
        assert torch.equal(picture, whole)


def preprocess_cell(encoded):
    import numpy as np

    return torch.from_numpy(np.array(cell_of(encoded))).permute(2, 0, 1) / 127.5 - 1


def test_the_four_classes_of_a_mosaic_differ(mosaics):
    labels = photos().labels[mosaics.inputs.chosen]
    assert all(len(set(row.tolist())) == 4 for row in labels)


def test_doubtful_labels_are_left_out_and_all_others_used():
    ids = photos().ids
    used = {ids[place] for place in photo_mosaics(count=200).inputs.chosen.flatten().tolist()}
    assert len(used) == 18 and not any(name.startswith(("imagenet_12", "imagenet_14")) for name in used)


def test_the_same_seed_draws_the_same_mosaics_and_more_of_them_begin_alike(mosaics):
    again, other = photo_mosaics(count=12), photo_mosaics(count=12, seed=1)
    assert torch.equal(again.inputs.chosen, mosaics.inputs.chosen) and torch.equal(again.labels, mosaics.labels)
    assert not torch.equal(other.inputs.chosen, mosaics.inputs.chosen)
    more = photo_mosaics(count=20)
    assert torch.equal(more.inputs.chosen[:12], mosaics.inputs.chosen) and torch.equal(more.labels[:12], mosaics.labels)


def test_every_cell_is_the_labelled_one_about_as_often():
    masks = photo_mosaics(count=400).masks
    corners = torch.stack([masks[:, 0, 0], masks[:, 0, -1], masks[:, -1, 0], masks[:, -1, -1]]).sum(1)
    assert corners.sum() == 400 and corners.min() > 60


def test_the_oracle_is_first_in_every_localisation_metric(mosaics):
    module = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 1000)).eval().requires_grad_(False)
    table = harness.evaluate(
        module,
        harness.Data(seen(mosaics), mosaics.labels, truth=mosaics.truth),
        explainers=["oracle", *CONTROLS],
        metrics={name: {"margin": 0.0} if name == "pointing_game" else {} for name in LOCALISATION},
        masks=mosaics.masks,
    )
    scores = table.pivot_table(index="explainer", columns="metric", values="value")
    assert (scores.loc["oracle"] == 1).all() and (scores.loc[list(CONTROLS)] < 1).all().all()


def test_no_mosaics_are_one_line():
    with pytest.raises(UserError, match="option count of photo_mosaics is 0, expected a whole number from 1"):
        DATASETS["photo_mosaics"].complete({"count": 0})
