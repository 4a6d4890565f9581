"""Equal to Quantus 0.6.0 and scikit-learn to 1e-6 where they compute what the papers define."""

import numpy as np
import pytest
import quantus
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.score import score_batch
from harness.registry import METRICS

pytestmark = pytest.mark.usefixtures("seed")

QUIET = {"normalise": False, "disable_warnings": True, "return_aggregate": False, "display_progressbar": False}
COUNT, SIDE = 6, 12


@pytest.fixture
def world():
    """Inputs (6, 1, 12, 12), maps of one channel and masks of 5 to 60 units."""
    masks = torch.zeros(COUNT, SIDE * SIDE, dtype=torch.bool)
    for mask in masks:
        mask[torch.randperm(SIDE * SIDE)[: torch.randint(5, 60, ()).item()]] = True
    shape = (COUNT, 1, SIDE, SIDE)
    return torch.randn(shape), torch.randn(shape), masks.view(COUNT, SIDE, SIDE)


def theirs(metric, world):
    inputs, attributions, masks = world
    found = metric(
        model=nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)).eval(),
        x_batch=inputs.numpy().copy(),
        y_batch=np.zeros(COUNT, dtype=int),
        a_batch=attributions.numpy().copy(),
        s_batch=masks[:, None].numpy().copy(),
        softmax=True,
        device="cpu",
        batch_size=COUNT,
        channel_first=True,
    )
    return torch.tensor(np.array(found, dtype=np.float64))


def ours(metric, world, **options):
    inputs, attributions, masks = world
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)).eval()
    samples = samples_of(model, inputs, torch.zeros(COUNT, dtype=torch.long), masks=masks)
    entry = METRICS[metric]
    return score_batch(entry, entry.complete(options), make_batch(samples, attributions, None)).values


def close(found, expected):
    assert found.isfinite().all() and found.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_relevance_mass_of_sizes(world):
    close(ours("relevance_mass", world, sign="abs"), theirs(quantus.RelevanceMassAccuracy(abs=True, **QUIET), world))


def test_relevance_mass_of_positive_parts_is_attribution_localisation(world):
    metric = quantus.AttributionLocalisation(abs=False, positive_attributions=True, **QUIET)
    close(ours("relevance_mass", world), theirs(metric, world))
    by_size = quantus.AttributionLocalisation(abs=True, **QUIET)
    close(ours("relevance_mass", world, sign="abs"), theirs(by_size, world))


def test_relevance_mass_of_signed_sums_leaves_its_range_there_and_not_here(world):
    inputs, attributions, masks = world
    attributions = attributions - attributions.mean((2, 3), keepdim=True) + 1e-3
    expected = theirs(quantus.RelevanceMassAccuracy(abs=False, **QUIET), (inputs, attributions, masks))
    found = ours("relevance_mass", (inputs, attributions, masks))
    assert ((expected < 0) | (expected > 1)).any()
    assert ((found >= 0) & (found <= 1)).all()


def test_relevance_rank(world):
    close(ours("relevance_rank", world), theirs(quantus.RelevanceRankAccuracy(abs=False, **QUIET), world))


@pytest.mark.parametrize("k", [3, 14, 72, 143])
def test_top_k_intersection(world, k):
    expected = theirs(quantus.TopKIntersection(k=k, abs=False, **QUIET), world)
    torch.testing.assert_close(ours("top_k_intersection", world, top_share=k / SIDE**2), expected, rtol=1e-6, atol=1e-6)


def test_localization_auc(world):
    close(ours("localization_auc", world), theirs(quantus.AUC(abs=False, **QUIET), world))


@pytest.mark.parametrize("levels", [None, 4])
def test_localization_auc_is_scikit_learns_also_with_ties(world, levels):
    inputs, attributions, masks = world
    attributions = attributions if levels is None else (attributions * levels / 4).round()
    expected = [
        roc_auc_score(mask.flatten(), values.flatten()) for mask, values in zip(masks, attributions, strict=True)
    ]
    close(ours("localization_auc", (inputs, attributions, masks)), torch.tensor(expected, dtype=torch.float64))


def test_pointing_game_on_the_mask_itself(world):
    inputs, attributions, masks = world
    for i in range(0, COUNT, 2):  # some hits, however the maps were drawn
        attributions[i].flatten()[masks[i].flatten().nonzero()[0]] = 9.0
        attributions[i + 1].flatten()[(~masks[i + 1]).flatten().nonzero()[0]] = 9.0
    expected = theirs(quantus.PointingGame(abs=False, **QUIET), world)
    close(ours("pointing_game", world, margin=0.0), expected)


def test_an_empty_mask_is_a_hit_there_and_has_no_score_here(world):
    world[2][1] = False
    assert theirs(quantus.PointingGame(abs=False, **QUIET), world)[1] == 1
    assert ours("pointing_game", world).isnan().tolist() == [i == 1 for i in range(COUNT)]


@pytest.mark.parametrize("epsilon", [1e-5, 0.2, 0.7])
def test_effective_complexity_by_threshold_of_maps_whose_largest_size_is_one(world, epsilon):
    inputs, attributions, masks = world
    attributions = attributions / attributions.abs().amax((2, 3), keepdim=True)
    expected = theirs(quantus.EffectiveComplexity(eps=epsilon, abs=True, **QUIET), (inputs, attributions, masks))
    options = {"definition": "threshold", "least_attribution": epsilon, "normalised": False}
    found = ours("effective_complexity", (inputs, attributions, masks), **options)
    assert torch.equal(found, expected)
    # Here the threshold follows the scale of the map, there it does not.
    assert torch.equal(ours("effective_complexity", (inputs, 1e-3 * attributions, masks), **options), found)
