"""The degradation ladder: its noise, its grounds and its tests are what they are said to be."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.api import samples_of
from harness.datasets._shapley import shapley_against
from harness.registry import METRICS
from harness.reproducing.studies.degradation_ladder.claims import (
    MISRANKED,
    blur_claims,
    fidelity_claims,
    order_claims,
    quadratic_error,
)
from harness.reproducing.studies.degradation_ladder.grounds import (
    COLUMNS,
    EXACT_GROUNDS,
    GROUNDS,
    SPREAD,
    TwoSided,
    bias_free_net,
    ground_of,
)
from harness.reproducing.studies.degradation_ladder.order import (
    chance_of_order,
    climbs_of,
    p_of_means,
    recoveries,
    recovery,
    verdict_on_climbs,
)
from harness.reproducing.studies.degradation_ladder.scores import (
    BLURRED,
    BLURRED_NOISE,
    F_FIDELITY,
    FIDELITIES,
    FIDELITY,
    LADDER_SEED,
    OF_MAGNITUDES,
    RANDOM_FIDELITY,
    ROAR,
    RUNGS,
    SIGMAS,
    UNTUNED,
    degrading,
    facts_of,
    faithfulness_metrics,
    ladder_controls,
    mirrored_consistency,
    remembered_maps,
    retrains,
    rung_maps,
    rungs_of,
    setting_of,
    turned_without_upper_half,
    wide_scores,
    with_noise,
)
from harness.reproducing.studies.degradation_ladder.tables import LadderTables, scaled_ladder
from harness.results.ties import difference

TABLE = "linear table"


def test_recovery_is_spearmans_correlation_with_the_order_of_the_rungs():
    assert recovery([5, 4, 3, 2, 1]) == pytest.approx(1)
    assert recovery([1, 2, 3, 4, 5]) == pytest.approx(-1)
    assert recovery([4, 5, 3, 2, 1]) == pytest.approx(1 - 6 * 2 / (5 * 24))  # the formula for ranks without ties
    assert recovery([2, 2, 2, 2, 2]) == 0
    assert recovery([3, 3 * (1 + 1e-9), 2, 1, 0]) == recovery([3, 3, 2, 1, 0]) < 1  # equal but for rounding


def test_of_all_orders_of_five_means_one_follows_the_ladder():
    from itertools import permutations

    orders = [recovery(order) for order in permutations(range(5))]
    assert np.mean(np.isclose(orders, 1)) == chance_of_order(5) == 1 / 120
    assert np.mean(orders) == pytest.approx(0, abs=1e-12)


def test_p_values_are_those_of_all_sign_patterns():
    same = np.array([[1.0, 1, 0], [1, 2, 0], [1, 3, 0], [1, 4, 0], [1, -1, 0]])
    first, second, third = p_of_means(same)
    assert first == 2 / 32 and third == 1
    sums = [abs(np.dot(signs, same[:, 1])) for signs in np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T]
    assert second == np.mean(np.array(sums) >= 9)
    assert p_of_means(np.zeros((1, 2))).tolist() == [1, 1]


def test_p_values_of_many_samples_are_near_those_of_students_t():
    from scipy.stats import ttest_1samp

    values = np.random.default_rng(0).normal(0.1, 1, (300, 3))
    assert p_of_means(values) == pytest.approx(ttest_1samp(values, 0).pvalue, abs=0.02)


def planted_ladder(falls, n=60, spread=0.5, seed=0):
    """Scores (n, rungs) that fall by ``falls`` at each step, with noise of the samples and of each score."""
    draw = np.random.default_rng(seed)
    means = -np.concatenate([[0], np.cumsum(falls)])
    return means + draw.normal(size=(n, 1)) + spread * draw.normal(size=(n, len(means)))


def test_a_metric_that_falls_is_right_one_that_rises_is_wrong_and_of_a_blind_one_nothing_is_said():
    right, wrong, blind = planted_ladder([1] * 4), planted_ladder([-1] * 4), planted_ladder([0] * 4, seed=1)
    assert verdict_on_climbs(climbs_of({"a": right})) is True
    assert verdict_on_climbs(climbs_of({"a": right, "b": wrong})) is False
    assert verdict_on_climbs(climbs_of({"a": right, "b": blind})) is None
    assert verdict_on_climbs({}) is None
    climb = climbs_of({"a": right})["a"]
    assert climb.sure == 4 and climb.turned == 0 and climb.n == 60
    assert climb.steps == pytest.approx(difference(right[:, :-1], right[:, 1:]).mean(0))
    equal = climbs_of({"a": np.ones((10, 5))})["a"]
    assert equal.recovery == 0 and equal.sure == equal.turned == 0


def test_no_more_blind_metrics_than_promised_are_found_wrong():
    verdicts = [verdict_on_climbs(climbs_of({"a": planted_ladder([0] * 4, n=20, seed=seed)})) for seed in range(120)]
    assert np.mean([verdict is False for verdict in verdicts]) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 120)
    assert sum(verdict is True for verdict in verdicts) <= 4


def test_groups_are_disjoint_and_samples_without_a_score_do_not_count():
    scores = np.repeat([[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5]], 3, axis=0)
    assert recoveries(scores, 3) == pytest.approx([1, -1])
    assert recoveries(scores[:5], 3) == pytest.approx([1])
    scores[:3] = np.nan
    assert recoveries(scores, 3) == pytest.approx([0, -1])
    scores[3, 0] = np.nan
    assert recoveries(scores, 3) == pytest.approx([0, -1])


@pytest.mark.parametrize("sigma", SIGMAS)
def test_noise_has_the_size_of_the_map_and_lowers_its_correlation_as_algebra_says(sigma):
    inputs = torch.randn(1, 40_000, generator=torch.Generator().manual_seed(0))
    samples = samples_of(nn.Linear(40_000, 1).eval(), inputs, torch.tensor([0]), modality="table")
    maps = 7 * torch.randn(1, 40_000, generator=torch.Generator().manual_seed(1))
    noisy = with_noise(maps, sigma, samples)
    assert float((noisy - maps).square().mean().sqrt()) == pytest.approx(7 * sigma, rel=0.02)
    correlation = np.corrcoef(noisy.numpy()[0], maps.numpy()[0])[0, 1]
    assert correlation == pytest.approx(1 / np.sqrt(1 + sigma**2), abs=0.01)
    half = with_noise(maps, sigma / 2, samples)  # the same draws for every sigma
    assert torch.allclose(noisy - maps, 2 * (half - maps), atol=1e-3)


def test_the_linear_table_has_the_contributions_that_its_weights_say():
    ground = ground_of(TABLE, 8, 16)
    weights = torch.arange(COLUMNS - 1, -1, -1).float()
    weights = weights / weights.norm() * SPREAD
    side = (2 * ground.data.targets - 1)[:, None]
    assert torch.allclose(rung_maps(ground, 0.0), side * weights * ground.data.inputs / 2, atol=1e-5)


def test_the_net_without_biases_is_homogeneous_and_its_maps_are_shapley_values():
    ground = ground_of("net table", 6, 16)
    net, inputs = bias_free_net(), ground.data.inputs
    with torch.no_grad():
        assert torch.allclose(net(3 * inputs), 3 * net(inputs), atol=1e-3) and not net(torch.zeros(1, COLUMNS)).any()
        assert torch.equal(net(inputs), net(inputs * (torch.arange(COLUMNS) < COLUMNS - 1)))
        values = shapley_against(
            lambda rows: net(rows.float())[:, 0] / 2, inputs, torch.zeros(COLUMNS), tuple(range(COLUMNS))
        )
    side = (2 * ground.data.targets - 1)[:, None]
    assert torch.allclose(rung_maps(ground, 0.0).double(), side * values, atol=1e-4)


def test_the_linear_images_have_the_probabilities_of_the_registered_model():
    from harness.models.xai_tris_models import xai_tris_linear

    ground = ground_of("linear images", 6, 40)
    registered = xai_tris_linear().module
    inputs = ground.data.inputs
    with torch.no_grad():
        assert torch.allclose(ground.model(inputs).softmax(1), registered(inputs).softmax(1), atol=1e-6)
        weights = registered[-1].weight[1] - registered[-1].weight[0]
    side = (2 * ground.data.targets - 1).view(-1, 1, 1, 1)
    assert torch.allclose(rung_maps(ground, 0.0), side * weights.view(1, 1, 8, 8) * inputs / 2, atol=1e-5)


def test_infidelity_on_the_ladder_is_the_closed_form():
    """Each column is removed with probability 1/2, so that the error of noise n is ((sum n)^2 + sum n^2) / 4."""
    ground = ground_of(TABLE, 40, 16)
    clean, noisy = rung_maps(ground, 0.0), rung_maps(ground, 2.0)
    options = {"baseline": "zero", "draws": 2000}
    scored = harness.score("infidelity", ground.model, ground.data, noisy, **options)
    noise = (noisy - clean).double()
    expected = (noise.sum(1).square() + noise.square().sum(1)) / 4
    assert float(scored.mean()) == pytest.approx(float(expected.mean()), rel=0.03)
    assert not harness.score("infidelity", ground.model, ground.data, clean, **options).round(decimals=8).any()


def test_facts_of_a_linear_ground_are_exact():
    facts = facts_of(TABLE, 12, 20, "").iloc[0]
    assert facts["sum_error"] < 1e-6 and facts["pearson_error"] < 1e-5 and facts["accuracy"] == 1
    assert facts["turned"] > facts["turned_by_noise"]


def test_what_is_left_without_the_upper_half_of_contributions_speaks_for_the_other_class():
    ground = ground_of(TABLE, 12, 20)
    maps = rung_maps(ground, 0.0)
    half = maps.sort(1).values[:, : COLUMNS // 2].sum(1)
    assert turned_without_upper_half(ground, maps) == int((half < 0).sum())
    assert turned_without_upper_half(ground, -maps) == 0


def test_consistency_is_one_half_where_training_inputs_are_mirrored():
    found = mirrored_consistency(10, 30, "").iloc[0]
    assert found["distance"] == 0 and found["n"] == 10


def test_magnitudes_and_blurs_are_made_of_the_same_maps():
    ground = ground_of("linear images", 4, 40)
    make = lambda **options: harness.explain(
        degrading(remembered_maps(ground)), ground.model, ground.data, seed=LADDER_SEED, sigma=1.0, **options
    )
    plain, size, blurred = make(), make(magnitude=True), make(blur=1.0)
    assert torch.equal(size, plain.abs())
    assert blurred.std() < plain.std() and float(blurred.mean()) == pytest.approx(float(plain.mean()), abs=0.02)


def test_a_loop_over_the_registry_finds_every_metric_and_its_setting():
    names = faithfulness_metrics()
    assert set(names) == {name for name, entry in METRICS.items() if entry.kind == "faithfulness"}
    assert [name for name in names if retrains(name)] == [ROAR]
    small = {"epochs": 3, "weight_seeds": 1}
    assert setting_of(METRICS["deletion"], small) == {"baseline": "zero"}
    assert setting_of(METRICS["monotonicity_correlation"], small) == {}  # its own baseline is random
    assert setting_of(METRICS[ROAR], small) == {"baseline": "zero", **small}
    assert set(MISRANKED) <= set(names) and set(EXACT_GROUNDS) < set(GROUNDS)


def test_maps_of_tables_and_images():
    table, images = ground_of(TABLE, 8, 16), ground_of("linear images", 4, 40)
    assert set(rungs_of(table)) == set(RUNGS) and set(ladder_controls(table)) == {"constant", "random"}
    assert set(rungs_of(images)) == {*RUNGS, BLURRED, BLURRED_NOISE}
    assert set(ladder_controls(images)) == {"constant", "random", "blurred_random", "edge"}


def test_fidelities_are_f_fidelity_with_other_options():
    """Without the first column the sign of 3 - 1 turns; without the second it stays."""
    log_odds = nn.Linear(2, 1, bias=False)
    log_odds.weight.data = torch.tensor([[3.0, 1.0]])
    model, points = TwoSided(log_odds).eval(), torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    data = harness.Data(points, torch.tensor([1, 1]), modality="table", train=points, train_labels=torch.tensor([1, 1]))
    maps, options = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), {"percents": 50, "baseline": "zero"}
    score = lambda name: harness.score(F_FIDELITY, model, data, maps, **options, **FIDELITIES[name]).tolist()
    assert score(FIDELITY) == [1, 0]
    removed, kept = score(RANDOM_FIDELITY)
    assert 0.2 < removed < 0.8 and kept == 0  # 50 draws with probability 1/2


def test_rows_of_samples_become_rows_of_cells():
    rows = [
        {"metric": "m", "explainer": "a", "sample": s, "value": v, "better": "higher", "status": "ok", "error": ""}
        for s, v in ((1, 0.25), (0, 0.5))
    ]
    rows.append({**rows[0], "explainer": "b", "sample": 0, "value": None, "status": "not_applicable", "error": "no"})
    found = wide_scores(pd.DataFrame(rows)).set_index("map")
    assert found.loc["a", ["0", "1"]].tolist() == [0.5, 0.25] and found.loc["a", "why"] == ""
    assert found.loc["b", "why"] == "not applicable: no" and np.isnan(found.loc["b", "0"])


def planted_tables(ladders, *, group=5, extra=()):
    """Tables of grounds and metrics: ``ladders`` ground -> metric -> signed scores (n, rungs)."""
    scores = {}
    for ground, metrics in ladders.items():
        rows = []
        for metric, values in metrics.items():
            for shown, column in zip((*RUNGS, *extra), values.T, strict=True):
                row = {"metric": metric, "map": shown, "better": "higher", "why": ""}
                rows.append({**row, **{str(number): value for number, value in enumerate(column)}})
        scores[ground] = pd.DataFrame(rows)
    return LadderTables(scores, {}, group)


def test_the_claims_name_the_metrics_that_fail():
    planted = {
        "good": planted_ladder([1] * 4),
        "bad": planted_ladder([-1] * 4),
        "blind": planted_ladder([0] * 4, seed=1),
    }
    every, *single = order_claims(planted_tables({TABLE: planted}), list(planted))
    assert every.holds is False and "reversed: bad; not in order, or not sure: blind" in every.measured
    assert [claim.name for claim in single] == ["bad ranks", "blind ranks", "good ranks"]
    assert [claim.holds for claim in single] == [False, None, True] and all(claim.expected for claim in single)


def test_f_fidelity_is_compared_in_pairs_of_small_groups():
    sharp, blurry = planted_ladder([1] * 4, n=200, spread=0.2), planted_ladder([1] * 4, n=200, spread=4)
    names = (ROAR, OF_MAGNITUDES, FIDELITY, RANDOM_FIDELITY, UNTUNED)
    better = planted_tables({TABLE: {F_FIDELITY: sharp, **dict.fromkeys(names, blurry)}})
    assert all(claim.holds is True and claim.n == 40 for claim in fidelity_claims(better))
    worse = planted_tables({TABLE: {F_FIDELITY: blurry, **dict.fromkeys(names, sharp)}})
    assert all(claim.holds is False for claim in fidelity_claims(worse))
    same = planted_tables({TABLE: {F_FIDELITY: sharp, **dict.fromkeys(names, sharp)}})
    assert all(claim.holds is None for claim in fidelity_claims(same))


@pytest.mark.parametrize(("gain", "holds"), [(1.0, True), (-1.0, False), (0.0, None)])
def test_a_blur_improves_where_every_comparison_says_so(gain, holds):
    ladder = planted_ladder([1] * 4)
    blurs = ladder[:, [0, 2]] + gain + 0.1 * np.random.default_rng(2).normal(size=(len(ladder), 2))
    values = np.concatenate([ladder, blurs], 1)
    tables = planted_tables(
        {"linear images": {ROAR: values, OF_MAGNITUDES: values, "road": values}}, extra=(BLURRED, BLURRED_NOISE)
    )
    assert [claim.holds for claim in blur_claims(tables)] == [holds] * 3


def test_samples_without_a_score_do_not_count_as_equal_ones():
    ladder = planted_ladder([1] * 4)
    blurs = ladder[:, [0, 2]] + 1
    blurs[:40] = np.nan
    values = np.concatenate([ladder, blurs], 1)
    tables = planted_tables({"linear images": {"road": values}}, extra=(BLURRED, BLURRED_NOISE))
    (claim,) = blur_claims(tables)
    assert claim.n == 20 and "clean +1.000" in claim.measured


@pytest.mark.parametrize("rung", RUNGS)
def test_infidelity_that_is_off_or_missing_on_one_rung_is_not_quadratic(rung):
    values = 3 * np.square(SIGMAS) * np.ones((4, 1))
    assert quadratic_error(planted_tables({TABLE: {"infidelity": values}}), TABLE) == 0
    for wrong in (values[2, RUNGS.index(rung)] + 0.5, np.nan):
        values[2, RUNGS.index(rung)] = wrong
        assert not quadratic_error(planted_tables({TABLE: {"infidelity": values}}), TABLE) <= 0.01


def test_a_drawn_ladder_is_scaled_between_its_best_and_worst_mean():
    means, low, high = scaled_ladder(planted_ladder([1] * 4))
    assert means[0] == 1 and means[-1] == 0 and (low < means).all() and (means < high).all()
    assert (scaled_ladder(np.ones((5, 5))) == 0.5).all()
