"""The mathematics of the study single_deletion: its own protocol, nets that are additive over cells, and its tests."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from harness.reproducing.studies.single_deletion import identities, maps, nets
from harness.reproducing.studies.single_deletion import study as single_deletion
from harness.reproducing.studies.single_deletion.crossed_means import (
    LEVEL,
    CrossedMean,
    all_on_one_side,
    crossed_mean,
    kept_order,
    lies_within,
)
from harness.reproducing.studies.single_deletion.patterns import CHANCE, deviation_of
from harness.reproducing.studies.single_deletion.poster import poster_claims, poster_scores


@pytest.fixture
def images():
    return torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.arange(12) % nets.CLASSES


def seeded(net, seed=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nets.NETS[net]().eval()


def test_a_cell_is_two_by_two_pixels_and_cells_are_numbered_row_by_row(images):
    parts = maps.without_cells(images)
    assert parts.shape == (12, 16, 1, 8, 8)
    assert (parts[:, 6, :, 2:4, 4:6] == 0).all()
    changed = (parts != images[:, None]).flatten(3)
    assert (changed.sum(3) == 4).all() and (changed.any(1).sum(2) == 64).all()
    sums = identities.cell_sums(images)
    np.testing.assert_allclose(sums[:, 6], images[:, 0, 2:4, 4:6].sum((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(sums.sum(1), images.double().sum((1, 2, 3)), rtol=1e-6)


def test_drops_of_a_linear_net_are_the_sums_of_its_contributions(images, labels):
    net = seeded(nets.LINEAR)
    contributions = images * net[1].weight[labels].view_as(images)
    drops = identities.logit_drops(net, images, labels)
    np.testing.assert_allclose(drops, identities.cell_sums(contributions.detach()), atol=2e-6)
    np.testing.assert_allclose(identities.cell_sums(identities.drops_map(net, images, labels)), drops, atol=1e-6)


def test_evidence_of_a_bag_is_additive_over_cells_and_sums_to_the_logit_less_that_of_zeros(images, labels):
    net = seeded(nets.CELL_BAG)
    with torch.no_grad():
        evidence = net.evidence(images, labels)
        whole, nothing = net(images), net(torch.zeros_like(images))
    np.testing.assert_allclose(identities.cell_sums(evidence), identities.logit_drops(net, images, labels), atol=2e-6)
    rows = torch.arange(12)
    torch.testing.assert_close(evidence.sum((1, 2, 3)), (whole - nothing)[rows, labels], atol=1e-5, rtol=1e-5)


def test_evidence_of_overlapping_patches_is_complete_but_not_additive_over_cells(images, labels):
    net = seeded(nets.OVERLAPPING_BAG)
    with torch.no_grad():
        evidence = net.evidence(images, labels)
        whole, nothing = net(images), net(torch.zeros_like(images))
    rows = torch.arange(12)
    torch.testing.assert_close(evidence.sum((1, 2, 3)), (whole - nothing)[rows, labels], atol=1e-5, rtol=1e-5)
    apart = np.abs(identities.cell_sums(evidence) - identities.logit_drops(net, images, labels))
    assert apart.max() > 1e-3


def test_rank_correlations_are_those_of_scipy_with_ties_and_without_a_number_for_a_constant_row():
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 5, (50, 16)).astype(float), draw.normal(size=(50, 16))
    expected = [spearmanr(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(identities.rank_correlations(first, second), expected, atol=1e-12)
    assert np.isnan(identities.rank_correlations(np.ones((1, 16)), second[:1])).all()
    np.testing.assert_allclose(identities.rank_correlations(second, second**3), 1)
    np.testing.assert_allclose(identities.rank_correlations(second, -second), -1)


def test_all_orders_are_different_and_rank_correlations_over_them_have_variance_one_over_k_less_one():
    orders = single_deletion.all_orders(5)
    assert len({tuple(order) for order in orders}) == 120 and (np.sort(orders, axis=1) == np.arange(5)).all()
    found = identities.rank_correlations(orders.astype(float), np.broadcast_to(np.arange(5.0), orders.shape))
    assert abs(found.mean()) < 1e-12 and abs(found.var() - 1 / 4) < 1e-12
    assert single_deletion.enumerated_claim().holds and single_deletion.simulated_claim().holds


def test_only_differences_by_rounding_make_an_order_unclear():
    values = np.array([[1.0, 2.0, 3.0], [1.0, 1.0, 3.0], [1.0, 1.0 + 1e-7, 3.0], [1e-9, 2e-9, 3e-9]])
    assert identities.clearly_ordered(values).tolist() == [True, True, False, True]


@pytest.mark.parametrize("net", [nets.BASE, nets.WITHOUT_NORM])
def test_removing_biases_leaves_a_net_that_is_homogeneous(net, images):
    free, biased = seeded(nets.WITHOUT_BIAS), seeded(net)
    assert not [name for name, _ in free.named_parameters() if name.endswith("bias")]
    with torch.no_grad():
        torch.testing.assert_close(free(2 * images), 2 * free(images), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(biased(2 * images), 2 * biased(images), rtol=1e-3)


def test_nets_differ_in_depth_and_batch_norm_as_their_names_say():
    count = lambda net, kind: sum(isinstance(part, kind) for part in seeded(net).modules())
    assert [count(net, nn.Conv2d) for net in (nets.SHALLOW, nets.BASE, nets.DEEP)] == [3, 5, 9]
    assert [count(net, nn.BatchNorm2d) for net in (nets.BASE, nets.WITHOUT_NORM, nets.WITHOUT_BIAS)] == [5, 0, 0]


def test_a_zero_of_the_data_is_the_mean_grey_of_training():
    parts = nets.normalised_digits()
    assert abs(parts["train"][0].mean()) < 1e-5 and abs(parts["train"][0].std() - 1) < 1e-5
    assert len(parts["test"][0]) == 500


def world(draw, nets_count, images_count, mean=0.0):
    """Scores of images and nets, both of which have an effect of their own."""
    own = draw.normal(0, 0.05, (1, nets_count)) + draw.normal(0, 0.2, (images_count, 1))
    return mean + own + draw.normal(0, 0.2, (images_count, nets_count))


def test_intervals_over_crossed_images_and_nets_cover_the_true_mean():
    draw, missed, times = np.random.default_rng(0), 0, 2000
    for _ in range(times):
        low, high = crossed_mean(world(draw, 6, 40, mean=0.3)).interval()
        missed += not low <= 0.3 <= high
    assert missed / times <= LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / times)


def test_missing_scores_are_left_out_and_counted():
    scores = np.array([[0.1, np.nan], [0.3, 0.5], [np.nan, np.nan]])
    found = crossed_mean(scores)
    assert found.count == 3 and found.value == pytest.approx((0.2 + 0.5) / 2) and found.nets == 2
    nothing = crossed_mean(np.full((3, 2), np.nan))
    assert nothing.count == 0 and np.isnan(nothing.value)
    assert np.isnan(crossed_mean(scores[:, :1]).error)  # one net has no spread over nets


def test_a_side_is_seldom_claimed_where_a_mean_is_zero():
    draw, claimed, refused = np.random.default_rng(1), 0, 0
    for _ in range(1000):
        means = [crossed_mean(world(draw, 6, 30, mean)) for mean in (0.0, 0.5, 0.5)]
        verdict = all_on_one_side(means, above=True)
        claimed, refused = claimed + (verdict is True), refused + (verdict is False)
    assert claimed / 1000 < LEVEL and refused / 1000 < LEVEL


def found_identities(**largest):
    """What ``measured_identities`` gives where all is right, but for these deviations."""
    names = [nets.LINEAR, nets.CELL_BAG, "drops", "negated drops", *(f"apart: {each}" for each in identities.COMPARED)]
    names += ["IxG is IG", "XGrad-CAM is Grad-CAM", "SG-CAM++ is Grad-CAM++"]
    rows = [(name, 0.0, 16, 0) for name in names] + [("constant_map", 0.0, 16, 16), ("gappy_map", 0.0, 16, 2)]
    found = pd.DataFrame(rows, columns=identities.COLUMNS).set_index("identity")
    for name, value in largest.items():
        found.loc[name, "largest"] = value
    return {each.name: each.holds for each in single_deletion._identity_claims(found)}


def test_an_identity_without_a_score_does_not_hold():
    assert all(found_identities().values())
    for name in ("apart: edge", "apart: IG"):
        holds = found_identities(**{name: float("nan")})
        assert [each for each, value in holds.items() if not value] == ["computed apart"]
    gaps = identities.score_gaps(np.array([0.5, np.nan, np.nan]), np.array([0.25, np.nan, 0.5]))
    assert gaps[:2].tolist() == [0.25, 0] and np.isnan(gaps[2])


def exact(value, error=0.01, nets_count=6):
    return CrossedMean(value, error, nets_count, 100)


@pytest.mark.parametrize(
    ("values", "above", "verdict"),
    [
        ((0.5, 0.4), True, True),
        ((-0.5, -0.4), False, True),
        ((0.5, 0.0), True, None),
        ((0.5, -0.2), True, False),
        ((0.5, 0.4), False, False),
    ],
)
def test_the_verdict_on_several_means(values, above, verdict):
    assert all_on_one_side([exact(value) for value in values], above) is verdict


@pytest.mark.parametrize(("value", "verdict"), [(0.0, True), (0.02, None), (0.1, False), (float("nan"), None)])
def test_the_verdict_on_equality(value, verdict):
    assert lies_within(exact(value), 0, 0.03) is verdict


@pytest.mark.parametrize(
    ("before", "after", "verdict", "told"),
    [
        ((0.5, -0.5, 0.0), (0.4, -0.4, -0.4), True, 2),
        ((0.5, -0.5, 0.0), (0.4, 0.4, 0.0), False, 2),
        ((0.5, -0.5, 0.0), (0.4, 0.0, 0.0), None, 2),
        ((0.0, 0.0, 0.0), (0.4, 0.4, 0.4), None, 0),
    ],
)
def test_the_verdict_on_an_order(before, after, verdict, told):
    found = kept_order([exact(value) for value in before], [exact(value) for value in after])
    assert found[0] is verdict and found[1] == told and (found[2] == [1]) == (verdict is False)


def test_the_deviation_of_permutations_is_found_within_its_standard_error():
    draw, away = np.random.default_rng(2), []
    for _ in range(300):
        ranks = draw.normal(size=(200, 16))
        found = deviation_of(identities.rank_correlations(ranks, np.broadcast_to(np.arange(16.0), ranks.shape)))
        away.append((found.value - CHANCE) / found.error)
    assert 0.85 < np.std(away) < 1.15 and abs(np.mean(away)) < 0.2


def test_the_claims_on_the_poster_follow_from_its_numbers():
    found = {each.name: each for each in poster_claims()}
    scores = poster_scores()["value"]
    smooth = [scores[net, "IG-SG"] - scores[net, "IG"] for net in ("VGG-16", "ResNet-18", "ResNet-50", "ViT-B/16")]
    assert max(smooth) < 0 and found["poster, SmoothGrad"].holds
    no_norm, no_bias = "ResNet-50 w/o BatchNorm", "ResNet-50 w/o BatchNorm w/o bias"
    assert scores[no_bias, "IG"] < scores[no_norm, "IG"] - 0.01 and found["poster, biases"].holds is False
