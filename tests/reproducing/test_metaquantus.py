"""The mathematics of ``metaquantus``: consistency in closed form, noise, masks, and the published tables."""

import math
import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from harness.reproducing.findings import IDENTITY
from harness.reproducing.paper import paper
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.metaquantus.claims import (
    components_by_draw,
    exact_claims_of_consistency,
    mean_of_both,
    of_draws,
    tendencies_of_draws,
    tendencies_of_grounds,
)
from harness.reproducing.studies.metaquantus.consistency import (
    DISRUPTIVE,
    MINOR,
    agreeing_places,
    components_of,
    meta_consistency,
    rows_of_consistency,
    shares_of_changes,
    signed_rank_p,
    unchanged_p,
)
from harness.reproducing.studies.metaquantus.grounds import (
    agreement_of_all_rankings,
    known_consistencies,
    largest_gap_of_levels,
    planted_by_images,
    planted_luck,
)
from harness.reproducing.studies.metaquantus.published import benchmark_row, claims_of_published
from harness.reproducing.studies.metaquantus.scores import (
    BLIND,
    EXPLAINERS_OF_METAQUANTUS,
    LUCK,
    METRICS_OF_METAQUANTUS,
    MORE_SUBSETS,
    NOISE,
    SIGNED_ENTROPY,
    DigitProblem,
    better_of,
    boxes_of,
    options_of_metrics,
    signed_entropy,
)
from harness.reproducing.studies.shared.tendencies import claim_of_tendency
from harness.sources import Data

EXPLAINERS = len(EXPLAINERS_OF_METAQUANTUS)


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_the_signed_rank_test_is_exact_for_few_changes_without_ties_and_else_approximate(digits):
    draw = np.random.default_rng(digits)
    for count in range(2, 40):
        changes = draw.normal(size=count).round(digits)
        plain = count <= 25 and changes.all() and len(np.unique(np.abs(changes))) == count
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            method = "exact" if plain else "asymptotic"
            known = stats.wilcoxon(changes, zero_method="zsplit", correction=False, method=method).pvalue
        assert signed_rank_p(changes) == pytest.approx(known, abs=1e-12)


def test_the_signed_rank_test_counts_all_signs_of_few_changes():
    draw = np.random.default_rng(0)
    for count in (2, 5, 9):
        changes = draw.normal(size=count)
        ranks = stats.rankdata(np.abs(changes))
        smaller = lambda signs, ranks=ranks: min(ranks[signs > 0].sum(), ranks[signs < 0].sum())
        as_far = [smaller(np.array(signs)) <= smaller(changes) for signs in product((-1, 1), repeat=count)]
        assert signed_rank_p(changes) == pytest.approx(np.mean(as_far), abs=1e-12)


@pytest.mark.parametrize("digits", [0, 1, 9])
def test_the_signed_rank_test_of_many_changes_or_of_ties_is_the_normal_approximation(digits):
    """Changes of 0 give half of their ranks to each sign; ties take their share of the variance."""
    changes = np.random.default_rng(digits).normal(size=39).round(digits)
    ranks = stats.rankdata(np.abs(changes))
    smaller = min(ranks[changes > 0].sum(), ranks[changes < 0].sum()) + ranks[changes == 0].sum() / 2
    _, ties = np.unique(np.abs(changes), return_counts=True)
    variance = (39 * 40 * 79 - (ties**3 - ties).sum() / 2) / 24
    expected = 2 * stats.norm.cdf((smaller - 39 * 40 / 4) / np.sqrt(variance))
    assert signed_rank_p(changes) == pytest.approx(expected, abs=1e-9)


def test_p_is_one_where_nothing_changes_and_the_least_where_all_changes_have_one_sign():
    assert signed_rank_p(np.zeros(7)) == 1
    assert signed_rank_p(np.arange(1.0, 11)) == 2.0**-9
    assert signed_rank_p(np.arange(1.0, 11) * 1e-9) == 2.0**-9
    assert math.isnan(signed_rank_p(np.array([])))


def test_undefined_changes_are_left_out_or_make_p_zero_as_in_the_released_code():
    before, after = np.array([-np.inf, 1.0, np.nan]), np.array([-np.inf, 1.0, 2.0])
    assert unchanged_p(before, after) == 1
    assert unchanged_p(before, after, released=True) == 0
    assert unchanged_p(before[1:2], after[1:2], released=True) == 1


def test_without_an_effect_every_level_has_its_probability():
    assert largest_gap_of_levels(6) == 0


def test_rankings_agree_by_places_and_ties_keep_the_order_of_the_list():
    before = np.array([[1.0, 1.0, 5.0], [2.0, 2.0, 5.0], [3.0, 3.0, 5.0]])
    after = np.array([[1.0, 3.0, 5.0], [3.0, 1.0, 5.0], [2.0, 2.0, np.nan]])
    assert agreeing_places(before, after)[:2] == pytest.approx([1 / 3, 0.0])
    assert np.isnan(agreeing_places(before, after)[2])
    assert agreeing_places(before[:, 2:], before[:, 2:]).tolist() == [1.0]
    assert agreement_of_all_rankings(4) == pytest.approx(1 / 4)


def test_the_shares_of_changes_follow_the_direction():
    before, after = np.array([[1.0, 1.0, 1.0, np.nan]]), np.array([[2.0, 0.5, 1.0, 1.0]])
    low, high = shares_of_changes(before, after, "lower"), shares_of_changes(before, after, "higher")
    assert low == pytest.approx({"worse": 1 / 3, "equal": 1 / 3, "improved": 1 / 3})
    assert low["worse"] == pytest.approx(1 - high["worse"] - high["equal"])
    assert np.isnan(list(shares_of_changes(before[:, 3:], after[:, 3:], "lower").values())).all()


def test_planted_scores_have_the_components_of_the_closed_form():
    known = known_consistencies()
    assert (known["value"] - known["expected"]).abs().max() < 1e-12
    mean = known[known["component"] == "MC"].set_index("world")["value"]
    assert mean["blind"] == 0.5 and mean["perfect"] == pytest.approx(1 - 2.0**-11 / 4)
    assert mean["entropy of signed maps, six explainers"] == pytest.approx(0.5)


def test_a_quarter_of_the_images_has_the_p_values_of_its_own_images():
    before, after = np.zeros((1, 16)), np.arange(1.0, 17)[None]
    chosen = np.ones(16, dtype=bool)
    rows = {row["part"]: row for row in rows_of_consistency(before, after, chosen, "lower", DISRUPTIVE)}
    assert rows["IAC"]["value"] == 1 - 2.0**-15 and rows["IAC of a quarter"]["value"] == 1 - 2.0**-3
    assert rows["IEC"]["value"] == 1 and rows["equal"]["value"] == 0 and rows["IAC"]["images"] == 16
    chosen[:] = False
    few = {row["part"]: row["value"] for row in rows_of_consistency(before, after, chosen, "lower", MINOR)}
    assert math.isnan(few["IAC"]) and math.isnan(few["IEC"]) and "IAC of a quarter" not in few


def test_luck_has_the_consistency_of_chance_and_is_below_a_blind_metric():
    luck = planted_luck(16, 60)
    assert luck["MC"].mean() == pytest.approx(5 / 12, abs=0.02)
    assert luck["IEC_NR"].mean() == pytest.approx(1 / 6, abs=0.02)


def test_the_consistency_of_one_planted_metric_moves_with_the_number_of_images():
    means = planted_by_images([10, 160], 12).groupby("images").mean()
    assert means.loc[160, "IAC_NR"] < means.loc[10, "IAC_NR"] - 0.1
    assert means.loc[160, "IAC_AR"] > means.loc[10, "IAC_AR"] + 0.1


def test_the_box_holds_all_that_is_lit_and_no_line_beyond():
    images = torch.zeros(2, 1, 6, 6)
    images[0, 0, 1, 2] = images[0, 0, 3, 4] = 1
    images[1, 0, 5, 0] = 0.1
    boxes = boxes_of(images)
    assert boxes[0].nonzero().tolist() == [[row, column] for row in (1, 2, 3) for column in (2, 3, 4)]
    assert boxes[1].nonzero().tolist() == [[5, 0]]


def test_the_entropy_of_signed_maps_is_minus_infinity_unless_a_map_has_one_sign():
    maps = torch.tensor([[1.0, -1.0, 3.0, 0.0], [1.0, 1.0, 0.0, 0.0], [-2.0, -2.0, -2.0, -2.0]]).view(3, 1, 2, 2)
    assert signed_entropy(maps).tolist() == pytest.approx([-math.inf, math.log(2), math.log(4)])


@pytest.fixture
def problem():
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).eval(), torch.rand(5, 1, 3, 3)
    given = DigitProblem(net, Data(images, torch.zeros(5, dtype=torch.long), modality="image"))
    return DigitProblem(net, Data(images, given.predictions(), modality="image"))


def test_noise_on_weights_is_a_factor_and_leaves_net_and_images_as_they_are(problem):
    weights = problem.net[1].weight.clone()
    noisy = problem.under_noise("model", 0.1, 3)
    factors = (noisy.net[1].weight / weights).detach().numpy()
    assert np.abs(factors - 1).max() < 0.5 and factors.std() > 0.03
    assert torch.equal(problem.net[1].weight, weights) and noisy.data is problem.data
    again = problem.under_noise("model", 0.1, 3)
    assert torch.equal(again.net[1].weight, noisy.net[1].weight)
    assert not torch.equal(problem.under_noise("model", 0.1, 4).net[1].weight, noisy.net[1].weight)


def test_noise_on_images_is_uniform_and_not_below_the_least_value(problem):
    clean, noisy = problem.data.inputs, problem.under_noise("input", 5.0, 0)
    assert noisy.data.inputs.min() == clean.min() and 1 < noisy.data.inputs.max() <= 6
    small = problem.under_noise("input", 0.001, 0)
    assert (small.data.inputs - clean).abs().max() <= 0.001 + 1e-6 and small.stayed().all()
    assert noisy.net is problem.net and torch.equal(noisy.data.targets, problem.data.targets)


def test_the_metrics_have_the_names_of_the_table_and_pixel_flipping_is_lower_the_better():
    assert set(METRICS_OF_METAQUANTUS) | {MORE_SUBSETS} == set(options_of_metrics(5))
    rows = published_numbers("metaquantus2023", {"table_or_figure": "experiments notebook, benchmarking table"})
    assert set(METRICS_OF_METAQUANTUS) == set(rows["explainer"])
    registered = rows.drop_duplicates("explainer").set_index("explainer")["note"]
    assert "although MoRF AUC is lower-is-better" in registered["Pixel-Flipping"]
    assert better_of("Pixel-Flipping") == "lower" and better_of(SIGNED_ENTROPY) == "lower"
    assert better_of("Sparseness") == better_of("Pointing Game") == "higher"


def test_the_published_components_make_the_published_means():
    for metric in METRICS_OF_METAQUANTUS:
        row = benchmark_row("LeNet", "MNIST", metric)
        for test in ("model test", "input test"):
            parts = {each: row[f"{each} ({test})"] for each in ("IAC_NR", "IAC_AR", "IEC_NR", "IEC_AR")}
            assert meta_consistency(parts) == pytest.approx(row[f"MC ({test})"], abs=0.001)


def test_all_claims_of_the_published_tables_hold_and_are_exact():
    claims = list(claims_of_published(known_consistencies()))
    assert len(claims) == 7 and all(claim.holds and claim.kind == IDENTITY for claim in claims)


def planted_tests(draws=6, images=24):
    """Rows of all tests for planted scores: all metrics react but in the input test those of the map alone."""
    tests = {}
    for space, failing in NOISE:
        rows = []
        for number, name in enumerate((*METRICS_OF_METAQUANTUS, SIGNED_ENTROPY, BLIND, LUCK, MORE_SUBSETS)):
            for draw in range(draws):
                random = np.random.default_rng((number, draw))
                before = random.uniform(size=(EXPLAINERS, images)) + np.arange(EXPLAINERS)[:, None]
                after = before.copy()
                unseen = space == "input" and name in (*METRICS_OF_METAQUANTUS[:2], *METRICS_OF_METAQUANTUS[4:6])
                if failing == DISRUPTIVE and not unseen and name != BLIND:
                    after += 0.7 + random.normal(size=after.shape)
                if name == MORE_SUBSETS:
                    after = before
                elif failing == MINOR and name == "Faithfulness Correlation":
                    after = before + 9 * random.normal(size=after.shape)
                if name == SIGNED_ENTROPY:
                    before, after = (np.full_like(before, -np.inf) for _ in range(2))
                    before[1] = after[1] = random.uniform(size=images)
                every = np.ones(images, dtype=bool)
                found = rows_of_consistency(before, after, every, better_of(name), failing, name == SIGNED_ENTROPY)
                rows += [{"metric": name, "draw": draw, "seed": draw, **row} for row in found]
        tests[space, failing] = pd.DataFrame(rows)
    return tests


@pytest.fixture(scope="module")
def tests():
    return planted_tests()


@pytest.fixture
def facts():
    signs = [{"what": "both signs", "explainer": name, "value": 1.0} for name in EXPLAINERS_OF_METAQUANTUS]
    return pd.DataFrame([{"what": "accuracy", "explainer": "", "value": 1.0}, *signs])


def test_the_table_of_draws_has_the_components_of_each_draw(tests):
    table = components_by_draw(tests)
    assert len(of_draws(table, "model", "Sparseness")) == 6
    assert of_draws(table, "input", BLIND) == pytest.approx(0.5)
    assert mean_of_both(table, BLIND) == pytest.approx(0.5)
    assert of_draws(table, "input", SIGNED_ENTROPY, "IAC_NR") == pytest.approx(1 / 6)
    assert of_draws(table, "model", "Sparseness", "IAC_NR") == pytest.approx(1)


def test_exact_claims_hold_in_a_world_as_the_released_code_makes_it(tests, facts):
    claims = {
        each.name: each
        for each in exact_claims_of_consistency(known_consistencies(), tests, components_by_draw(tests), facts)
    }
    assert all(each.holds for each in claims.values()) and len(claims) == 7


def test_the_claims_of_the_input_test_fail_where_maps_change_or_have_one_sign(tests, facts):
    seeing = {**tests, ("input", DISRUPTIVE): tests["model", DISRUPTIVE]}
    finite = {key: rows.copy() for key, rows in tests.items()}
    rows = finite["input", MINOR]
    rows.loc[(rows["metric"] == SIGNED_ENTROPY) & (rows["part"] == "IAC"), "value"] = 1.0
    by_name = lambda given: {
        each.name: each.holds
        for each in exact_claims_of_consistency(known_consistencies(), given, components_by_draw(given), facts)
    }
    assert by_name(seeing)["the input test does not show the noise to metrics of the map alone"] is False
    assert by_name(finite)["the entropy of signed maps has the published row of Complexity"] is False


def test_tendencies_of_draws_can_hold_and_fail(tests):
    verdict = lambda given: {
        each.name: claim_of_tendency(each, 6, 0.01).holds
        for each in tendencies_of_draws(components_by_draw(given), given, {})
    }
    found = verdict(tests)
    assert found["more subsets make steadier ranks"] is True
    assert found["IAC depends on the number of images on the net"] is True
    swapped = {key: rows.copy() for key, rows in tests.items()}
    names = {"Faithfulness Correlation": MORE_SUBSETS, MORE_SUBSETS: "Faithfulness Correlation"}
    for rows in swapped.values():
        rows["metric"] = rows["metric"].replace(names)
    assert verdict(swapped)["more subsets make steadier ranks"] is False


def test_tendencies_of_grounds_hold_for_what_they_say_and_not_for_another_direction():
    planted, luck = planted_by_images([10, 160], 30), planted_luck(24, 60)
    draw = np.random.default_rng(0)
    few, many = draw.normal(0, 1 / 3, 900), draw.normal(0, 0.1, 900)
    subsets = pd.DataFrame({"subsets": [10] * 900 + [100] * 900, "value": [*few, *many]})
    areas = pd.DataFrame(
        [
            {"image": image, "order": order, "area": area + draw.normal(0, 0.1)}
            for image in range(20)
            for order, area in (("right", 1.0), ("noise", 2.0), ("wrong", 3.0))
        ]
    )
    verdicts = lambda areas, subsets: [
        claim_of_tendency(each, count, 0.0125, over).holds
        for each, count, over in tendencies_of_grounds(planted, luck, subsets, areas)
    ]
    assert verdicts(areas, subsets) == [True] * 4
    turned = areas.assign(area=-areas["area"])
    wide = subsets.assign(value=2 * subsets["value"])
    assert verdicts(turned, wide) == [True, True, False, False]


def test_both_components_are_those_of_the_given_scores():
    before = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    found = components_of(before, before, before + 1, "lower")
    assert found["IAC_NR"] == 1 and found["IEC_NR"] == 1 and found["IEC_AR"] == 1
    assert components_of(before, before, before + 1, "higher")["IEC_AR"] == 0


def test_the_small_scale_is_another_one_so_that_published_numbers_are_not_compared():
    about = paper("metaquantus")
    assert about.sizes["small"] != about.sizes["full"] and not about.needs and about.optional_data
