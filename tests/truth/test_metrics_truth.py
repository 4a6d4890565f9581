"""Metrics of the truth: values by hand, other libraries' numbers, order of maps, and what is undefined."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import nn

import harness
from harness.errors import NotApplicable, UserError
from harness.metrics._transport import earth_movers_distance, pooled
from harness.registry import METRICS

METRICS_OF_TRUTH = ("truth_correlation", "truth_cosine", "truth_error", "truth_sign", "truth_precision", "false_mass")

pytestmark = pytest.mark.usefixtures("seed")


class Two(nn.Module):
    """Two logits; what they are is no matter to metrics that look at no model."""

    def forward(self, inputs):
        first = inputs.flatten(1).sum(1)
        return torch.stack([first, -first], 1)


class One(nn.Module):
    """A single output."""

    def forward(self, inputs):
        return inputs.flatten(1).sum(1, keepdim=True)


def score(metric, maps, truth, model=None, targets=None, labels=None, **more):
    inputs = torch.randn(len(maps), *((1, *maps.shape[1:]) if maps.dim() == 3 else maps.shape[1:]))
    targets = torch.zeros(len(maps), dtype=torch.long) if targets is None else targets
    return harness.score(
        metric, (model or Two()).eval(), harness.Data(inputs, targets, truth=truth, labels=labels), maps, **more
    )


def by_hand(metric, maps, truth, **options):
    return score(metric, torch.tensor([maps]), torch.tensor([truth]), **options).item()


def sparse_truth(count=6, units=9):
    truth = torch.randn(count, units) * (torch.rand(count, units) < 0.5)
    truth[:, 0], truth[:, 1] = 1.5, 0.0  # neither everything nor nothing matters
    return truth


def planted():
    """Truth on a table and on a grid."""
    grid = torch.zeros(6, 5, 5)
    grid[:, 1:3, 2:4] = torch.rand(6, 2, 2) + 0.1
    return sparse_truth(), grid


def test_scores_by_hand():
    assert by_hand("truth_correlation", [1.0, 2.0, 3.0], [0.0, 0.0, 1.0]) == pytest.approx(math.sqrt(3) / 2)
    assert by_hand("truth_correlation", [1.0, 2.0, 9.0], [0.0, 5.0, 6.0], rank=True) == pytest.approx(1)
    assert by_hand("truth_correlation", [-3.0, 1.0, 2.0], [3.0, 1.0, -2.0], unsigned=True) == pytest.approx(1)
    assert by_hand("truth_cosine", [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]) == pytest.approx(math.sqrt(0.5))
    assert by_hand("truth_error", [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]) == pytest.approx(0.5)
    assert by_hand("truth_error", [2.0, 2.0, 0.0], [1.0, 0.0, 0.0], scaled=False) == pytest.approx(5)
    assert by_hand("truth_sign", [1.0, -2.0, 0.0, 7.0], [3.0, 1.0, 2.0, 0.0]) == pytest.approx((3 + 0 + 1) / 6)
    assert by_hand("truth_sign", [1.0, -2.0, 0.0, 7.0], [3.0, 1.0, 2.0, 0.0], weighted=False) == pytest.approx(0.5)
    assert by_hand("truth_precision", [-5.0, 1.0, 4.0, 0.0], [1.0, 1.0, 0.0, 0.0]) == pytest.approx(0.5)
    assert by_hand("truth_precision", [-5.0, 1.0, 4.0, 0.0], [-2.0, 0.0, 0.0, 0.0]) == 1
    assert by_hand("false_mass", [-1.0, 2.0, 1.0], [1.0, 0.0, 3.0]) == pytest.approx(0.5)


def test_equals_are_counted_by_the_mean_over_their_orders():
    truth = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    for maps, expected in (([3.0, 2.0, 2.0, 2.0], 0.5 + 0.5 / 3), ([0.0] * 4, 0.5), ([0.0, 0.0, 1.0, 1.0], 0.0)):
        maps = torch.tensor([maps])
        for order in (slice(None), [2, 3, 0, 1]):
            found = score("truth_precision", maps[:, order], truth[:, order]).item()
            assert found == pytest.approx(expected)


@pytest.mark.parametrize("absolute", [False, True])
def test_correlations_are_scipys(absolute):
    maps, truth = torch.randn(6, 9), sparse_truth()
    maps[:, 3] = maps[:, 4]
    sides = [side.abs() if absolute else side for side in (maps, truth)]
    for rank, theirs in ((False, stats.pearsonr), (True, stats.spearmanr)):
        expected = [theirs(a, t).statistic for a, t in zip(*(side.double().numpy() for side in sides), strict=True)]
        found = score("truth_correlation", maps, truth, rank=rank, unsigned=absolute)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-9)


def test_the_scaled_error_is_the_least_there_is():
    maps, truth = torch.randn(6, 9).double(), sparse_truth().double()
    found = score("truth_error", maps.float(), truth.float()).numpy()
    for a, t, error in zip(maps, truth, found, strict=True):
        least = optimize.minimize_scalar(
            lambda c, a=a, t=t: float(((c * a - t) ** 2).sum()),
            (0, 1),
            (0, 50),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert error == pytest.approx(min(least.fun / float(t.square().sum()), 1), abs=1e-5)


@pytest.mark.parametrize("metric", [*METRICS_OF_TRUTH, "truth_emd"])
def test_the_truth_is_perfect_noise_worse_and_nothing_beats_the_truth(metric):
    truth = planted()[metric == "truth_emd"]
    best = {"truth_error": 0.0, "false_mass": 0.0}.get(metric, 1.0)
    sign = {"higher": 1, "lower": -1}[METRICS[metric].direction(METRICS[metric].options)]
    means, truth = [], truth.repeat(5 if metric == "truth_emd" else 60, *[1] * (truth.dim() - 1))
    for noise in (0.0, 0.3, 3.0):
        found = score(metric, truth + noise * torch.randn_like(truth), truth)
        assert (sign * found <= sign * best + 1e-6).all()
        means.append(sign * found.mean().item())
    assert means[0] == pytest.approx(sign * best, abs=1e-6)
    assert means[0] > means[1] > means[2]


@pytest.mark.parametrize("metric", [*METRICS_OF_TRUTH, "truth_emd"])
def test_scale_does_not_matter_and_the_opposite_is_worst_where_the_sign_is_seen(metric):
    truth = planted()[metric == "truth_emd"]
    maps = torch.randn_like(truth)
    torch.testing.assert_close(score(metric, 7 * maps, truth), score(metric, maps, truth), rtol=1e-5, atol=1e-6)
    worst = {"truth_correlation": -1.0, "truth_cosine": -1.0, "truth_error": 1.0, "truth_sign": 0.0}
    expected = worst.get(metric, score(metric, truth, truth).mean().item())
    torch.testing.assert_close(score(metric, -truth, truth), torch.full((6,), expected).double(), rtol=1e-5, atol=1e-6)


def test_moving_a_unit_of_mass_costs_its_distance():
    for shape in ((8, 8), (3, 9)):
        start, end = (torch.tensor([int(torch.randint(side, ())) for side in shape]) for _ in range(2))
        first, second = torch.zeros(shape), torch.zeros(shape)
        first[tuple(start)], second[tuple(end)] = 2.0, 5.0
        expected = (start - end).double().norm().item()
        assert earth_movers_distance(first, second) == pytest.approx(expected, abs=1e-9)
    one, far = torch.zeros(1, 8, 8), torch.zeros(1, 8, 8)
    one[0, 0, 0], far[0, 7, 7] = 1, 1
    assert score("truth_emd", far, one).item() == pytest.approx(0, abs=1e-9)  # from corner to corner
    assert score("truth_emd", one, one).item() == 1


def test_the_transport_is_the_best_assignment():
    count, masses = 6, []
    for _ in range(2):
        mass = torch.zeros(25)
        mass[torch.randperm(25)[:count]] = 1
        masses.append(mass.view(5, 5))
    places = [mass.nonzero().double() for mass in masses]
    costs = torch.cdist(*places).numpy()
    expected = costs[optimize.linear_sum_assignment(costs)].mean()
    assert earth_movers_distance(*masses) == pytest.approx(expected, abs=1e-8)


def test_on_a_line_the_transport_is_scipys_and_a_grid_of_one_row_agrees():
    first, second = torch.rand(2, 9)
    places = np.arange(9)
    expected = stats.wasserstein_distance(places, places, first.double().numpy(), second.double().numpy())
    assert earth_movers_distance(first, second) == pytest.approx(expected, abs=1e-6)
    assert earth_movers_distance(first[None], second[None]) == pytest.approx(expected, abs=1e-6)


def test_tiny_and_huge_masses_are_transported_alike():
    first, second = torch.rand(2, 5, 5).double()
    second[0, 0] = 1e-9
    expected = earth_movers_distance(first, second)
    assert expected > 0
    assert earth_movers_distance(1e-12 * first, 1e12 * second) == pytest.approx(expected, rel=1e-6)


def test_pooling_sums_blocks_and_cuts_the_last_ones_off():
    mass = torch.rand(2, 5, 4)
    found = pooled(mass, 2)
    assert found.shape == (2, 3, 2)
    torch.testing.assert_close(found[:, 0, 1], mass[:, :2, 2:].sum((1, 2)))
    torch.testing.assert_close(found[:, 2, 0], mass[:, 4:, :2].sum((1, 2)))
    assert torch.equal(pooled(mass, 1), mass)


def test_a_large_grid_is_declined_unless_pooled():
    maps, truth = torch.rand(2, 20, 20), torch.rand(2, 20, 20)
    with pytest.raises(NotApplicable, match="larger pool"):
        score("truth_emd", maps, truth)
    assert (score("truth_emd", maps, truth, pool=4) <= 1).all()
    with pytest.raises(UserError, match="pool (of .* )?is 0"):
        score("truth_emd", maps, truth, pool=0)


def test_columns_have_no_distance():
    with pytest.raises(NotApplicable, match="no distance"):
        score("truth_emd", torch.rand(2, 5), torch.rand(2, 5))


ZERO, FLAT, MIXED, FULL = [0.0] * 4, [2.0] * 4, [1.0, 0.0, -2.0, 0.0], [1.0, -1.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("metric", "maps", "truth", "undefined"),
    [
        ("truth_correlation", FLAT, MIXED, True),
        ("truth_correlation", MIXED, FLAT, True),
        ("truth_correlation", MIXED, FULL, False),
        ("truth_cosine", ZERO, MIXED, True),
        ("truth_cosine", MIXED, ZERO, True),
        ("truth_cosine", FLAT, MIXED, False),
        ("truth_error", MIXED, ZERO, True),
        ("truth_error", ZERO, MIXED, False),
        ("truth_sign", MIXED, ZERO, True),
        ("truth_sign", ZERO, MIXED, False),
        ("truth_precision", MIXED, ZERO, True),
        ("truth_precision", MIXED, FULL, True),
        ("truth_precision", ZERO, MIXED, False),
        ("false_mass", ZERO, MIXED, True),
        ("false_mass", MIXED, FULL, True),
        ("false_mass", FLAT, MIXED, False),
    ],
)
def test_what_has_no_value_is_nan_with_a_reason_and_only_that(metric, maps, truth, undefined):
    assert math.isnan(by_hand(metric, maps, truth)) is undefined
    frame = harness.evaluate(
        Two().eval(),
        harness.Data(torch.randn(2, 4), torch.zeros(2, dtype=torch.long), truth=torch.tensor([truth, MIXED])),
        explainers={"mine": {"name": _giving(maps)}},
        metrics=[metric],
    )
    both = frame.set_index("sample").value
    assert math.isnan(both.iloc[0]) is undefined


def _giving(maps):
    """An explainer that gives these maps, and others to the samples after the first."""

    def mine(model, inputs, targets):
        found = torch.tensor([maps, MIXED])[: len(inputs)]
        return found

    return mine


def test_an_error_of_a_map_of_zeros_is_the_whole_truth_and_its_signs_are_a_guess():
    assert by_hand("truth_error", ZERO, MIXED) == by_hand("truth_error", ZERO, MIXED, scaled=False) == 1
    assert by_hand("truth_sign", ZERO, MIXED) == 0.5


@pytest.mark.parametrize("metric", [*METRICS_OF_TRUTH, "truth_emd"])
def test_the_truth_is_not_known_of_another_class_than_the_label(metric):
    truth = planted()[metric == "truth_emd"]
    targets, labels = torch.tensor([0, 1, 0, 1, 0, 0]), torch.tensor([0, 1, 1, 0, 0, 0])
    found = score(metric, torch.rand_like(truth), truth, targets=targets, labels=labels)
    assert found.isnan().tolist() == [False, False, True, True, False, False]
    single = score(metric, torch.rand_like(truth), truth, One(), targets=torch.zeros(6, dtype=torch.long))
    assert single.isfinite().all()


def test_a_single_output_is_the_truths_whatever_the_labels():
    truth = sparse_truth()
    data = harness.sources.Data(torch.randn(6, 9), labels=torch.tensor([0, 1, 2, 1, 0, 0]), truth=truth)
    stage = harness.engine.stage.set_stage(
        harness.sources.LoadedModel(One().eval(), task="regression"),
        data,
        harness.engine.protocol.Protocol(),
        torch.device("cpu"),
    )
    ((_, samples),) = stage.chunks()
    assert torch.equal(harness.metrics._truth.truth_of_targets(samples), truth.double())


@pytest.mark.parametrize("metric", [*METRICS_OF_TRUTH, "truth_emd"])
def test_without_a_truth_there_is_nothing_to_compare_with(metric):
    with pytest.raises(NotApplicable, match="no truth"):
        score(metric, torch.rand(2, 5, 5), None)


def test_channels_scored_apart_have_no_truth_of_pixels():
    data = harness.evaluate(
        Two().eval(),
        harness.Data(torch.randn(2, 3, 4, 4), torch.zeros(2, dtype=torch.long), truth=torch.rand(2, 4, 4)),
        explainers=["gradient"],
        metrics=["truth_cosine"],
        reduction="none",
    )
    assert set(data.status) == {"not_applicable"} and data.error.str.contains("one number for each").all()


def test_signs_of_maps_without_sign_are_not_scored():
    with pytest.raises(NotApplicable, match="sign"):
        score("truth_sign", torch.rand(2, 5), torch.rand(2, 5), explainer="saliency")


@pytest.mark.parametrize("metric", [*METRICS_OF_TRUTH, "truth_emd"])
def test_they_ask_the_model_nothing(metric):
    class Unasked(Two):
        calls = 0

        def forward(self, inputs):
            Unasked.calls += 1
            assert Unasked.calls <= 3  # how many outputs there are, what they can be, and whether they are random
            return super().forward(inputs)

    assert score(metric, torch.rand(2, 5, 5), planted()[1][:2], Unasked()).isfinite().all()
