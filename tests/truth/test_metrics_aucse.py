"""Relative drops equal a loop over the published shares, and the right map of an additive model is the best."""

import itertools

import numpy as np
import pytest
import torch

from harness.metrics.aucse import REPLACED
from metric_worlds import Additive, Constant, Interacting, draw, generator, scores

SHAPE = (2, 12)  # two channels, twelve time steps
TOP, F = "aucse_top", "aucse_f_score"


def series(name, model, inputs, maps, targets=None, **options):
    options = {"baseline": "zero", **options}
    return scores(name, model, inputs, maps, targets=targets, options=options, modality="series")


def by_hand(model, x, a):
    """Both scores of one series (C, T) and its map (C, T), from the definition."""
    values, probability = a.sum(0).double(), lambda x: model(x[None]).double().softmax(1)[0, 0].item()
    order = [u for u in values.argsort(descending=True).tolist() if values[u] >= 0]
    shares, top, bottom = [0.0], [0.0], [0.0]
    for share in REPLACED:
        count = max(1, round(share * len(order)))
        shares.append(count / 12)
        for drops, gone in ((top, order[:count]), (bottom, order[len(order) - count :])):
            kept = torch.ones(12).index_fill(0, torch.tensor(gone), 0)
            drops.append((probability(x) - probability(x * kept)) / probability(x))
    falls, stays = max(0, np.trapezoid(top, shares)), max(0, 1 - np.trapezoid(bottom, shares))
    return np.trapezoid([*top, top[-1]], [*shares, 1.0]), falls * stays / (falls + stays) if falls * stays else 0


def test_both_scores_equal_a_loop_over_published_shares(seed):
    model, inputs, maps = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), draw(SHAPE, seed + 1)
    expected = np.array([by_hand(model, x, a) for x, a in zip(inputs, maps, strict=True)])
    for name, column in ((TOP, 0), (F, 1)):
        found = series(name, model, inputs, maps).values.numpy()
        np.testing.assert_allclose(found, expected[:, column], atol=1e-6)


def test_no_order_of_positive_contributions_is_better_than_their_own(seed):
    model, inputs = Additive((1, 5)), torch.ones(1, 1, 5)
    model.w.data = torch.rand(1, 5, generator=generator(seed)) + 0.1
    orders = torch.tensor(list(itertools.permutations(range(1, 6)))).float().view(-1, 1, 5)
    for name in (TOP, F):
        own = series(name, model, inputs, model.w.detach()[None]).values
        others = series(name, model, inputs.expand(len(orders), 1, 5), orders).values
        assert (others <= own + 1e-9).all() and (others < own - 1e-3).any()


@pytest.mark.parametrize("name", [TOP, F])
def test_the_right_map_of_an_unlikely_class_is_better_than_its_reverse(name, seed):
    model, inputs = Additive(SHAPE, generator=generator(seed)), draw(SHAPE, seed, 100)
    model.w.data *= 3
    unlikely = model(inputs).argmin(1)
    maps = model.contributions(inputs, torch.zeros_like(inputs)) * (1 - 2 * unlikely.view(-1, 1, 1))
    right, reversed_ = (series(name, model, inputs, each, targets=unlikely).values for each in (maps, -maps))
    both = right.isfinite() & reversed_.isfinite()
    assert both.float().mean() > 0.8 and (right > reversed_)[both].float().mean() > 0.9
    assert (right >= reversed_)[both].all()
    if name == F:
        assert right[both].min() >= 0 and right[both].max() <= 1 and reversed_[both].max() < 0.5


def test_what_nothing_changes_has_no_drop_and_a_negative_map_no_score(seed):
    inputs, maps = draw(SHAPE, seed), draw(SHAPE, seed + 1)
    assert series(TOP, Constant(), inputs, maps).values.tolist() == [0, 0, 0]
    nothing = series(F, Constant(), inputs, -maps.abs() - 1)
    assert nothing.values.isnan().all() and "at least 0" in nothing.reason


@pytest.mark.parametrize("name", [TOP, F])
def test_draws_of_noise_are_averaged(name, seed):
    model, inputs, maps = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), draw(SHAPE, seed + 1)
    curves = [series(name, model, inputs, maps, baseline="gaussian_noise", imputations=n).curves for n in (1, 2, 50)]
    assert not torch.equal(curves[0], curves[1]) and curves[2].isfinite().all()
