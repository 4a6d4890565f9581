"""The mathematics of the study xai_bench, against results that are worked out by hand or known in closed form."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.datasets.gaussian import covariance, draw_gaussian
from harness.datasets.gaussian_terms import GaussianFunction, conditional_values
from harness.models.black_box import BlackBox
from harness.reproducing.studies.xai_bench import cells
from harness.reproducing.studies.xai_bench.coalitions import (
    all_but_one,
    conditional_worths,
    gaussian_given,
    known_columns,
    marginal_outputs,
    shapley_of_worths,
    symmetric_normals,
)
from harness.reproducing.studies.xai_bench.explainers import break_down, maple, released_regression, shapr
from harness.reproducing.studies.xai_bench.identities import (
    WEIGHTS,
    exact_measurements,
    function_of,
    identity_claims,
)
from harness.reproducing.studies.xai_bench.metrics import (
    changes_on_insertion,
    correlations_of_rows,
    drawn_changes,
    expected_changes,
    faithfulness_of,
    infidelity_over_sets,
    monotonicity_of,
    orders_of_insertion,
    released_monotonicity,
)
from harness.reproducing.studies.xai_bench.patterns import (
    all_above_zero,
    expected_linear_error,
    function_errors,
    nearest_method_claim,
    random_last_claims,
    steps_between,
    undefined_claim,
)
from harness.sources import Data, LoadedModel

RHO = 0.6


@pytest.fixture
def rows(seed):
    return np.random.default_rng(seed).normal(size=(12, 5))


@pytest.fixture
def sigma():
    return covariance(RHO, 5).numpy()


@pytest.fixture
def normals():
    return symmetric_normals(256, 5, 0)


def linear(values):
    return values @ WEIGHTS


def product_of_two(values):
    return values[:, 0] * values[:, 1] + values[:, 2]


def test_the_bits_of_a_coalition_are_its_known_columns():
    known = known_columns(3)
    assert known[0].sum() == 0 and known[-1].all() and known[5].tolist() == [True, False, True]
    assert [(~known[number]).nonzero()[0].tolist() for number in all_but_one(3)] == [[0], [1], [2]]


def test_a_conditional_gaussian_is_that_of_the_inverse_covariance(seed):
    mixing = np.random.default_rng(seed).normal(size=(5, 5))
    sigma, known = mixing @ mixing.T + np.eye(5), np.array([True, False, True, False, False])
    weights, root = gaussian_given(known, sigma)
    precision = np.linalg.inv(sigma)
    within = np.linalg.inv(precision[~known][:, ~known])
    np.testing.assert_allclose(root @ root.T, within, atol=1e-10)
    np.testing.assert_allclose(weights.T, -within @ precision[~known][:, known], atol=1e-10)


def test_points_are_symmetric_and_have_the_moments_of_a_normal():
    points = symmetric_normals(512, 5, 3)
    np.testing.assert_allclose(points.sum(0), 0, atol=1e-12)
    np.testing.assert_allclose(points.T @ points / 512, np.eye(5), atol=0.05)
    with pytest.raises(ValueError, match="even"):
        symmetric_normals(3, 5, 0)


def test_a_linear_function_has_exact_worths(rows, sigma, normals):
    worths = conditional_worths(linear, rows, sigma, normals)
    for number, known in enumerate(known_columns(5)):
        expected = rows.copy()
        expected[:, ~known] = rows[:, known] @ gaussian_given(known, sigma)[0]
        np.testing.assert_allclose(worths[:, number], linear(expected), atol=1e-10)


def test_two_correlated_columns_share_as_worked_out_by_hand(normals):
    first = lambda values: values[:, 0]
    two, sigma = np.array([[1.0, 2.0], [-1.0, 0.5]]), np.array([[1.0, RHO], [RHO, 1.0]])
    found = shapley_of_worths(conditional_worths(first, two, sigma, normals[:, :2]))
    # Alone, the second column tells rho x2 of the first: it gets half of that, and the first column the rest.
    np.testing.assert_allclose(found[:, 1], RHO * two[:, 1] / 2, atol=1e-12)
    np.testing.assert_allclose(found[:, 0], two[:, 0] - RHO * two[:, 1] / 2, atol=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("target", ["linear", "additive", "piecewise"])
def test_sampled_values_are_those_of_the_closed_form(target, rho, seed):
    _, table = draw_gaussian(rho, 5, 30, seed)
    truth = conditional_values(GaussianFunction(target, 5).terms, table, covariance(rho, 5)).numpy()
    points = symmetric_normals(512, 5, seed)
    found = shapley_of_worths(
        conditional_worths(function_of(target), table.numpy(), covariance(rho, 5).numpy(), points)
    )
    assert ((found - truth) ** 2).sum() < 5e-3 * (truth**2).sum()


def test_marginal_values_are_those_of_the_registered_explainers(rows):
    background = np.random.default_rng(1).normal(size=(40, 5))
    model = lambda values: np.sin(values[:, 0]) * values[:, 1] + values[:, 2] ** 2
    found = shapley_of_worths(marginal_outputs(model, rows, background).mean(2))
    inputs, train = torch.from_numpy(rows).float(), torch.from_numpy(background).float()
    for name, options in {"exact_shapley": {}, "kernel_shap": {"samples": 30}}.items():
        box = LoadedModel(BlackBox(model), task="regression")
        zeros = torch.zeros(len(rows), dtype=torch.long)
        registered = harness.explain(name, box, inputs, zeros, train=train, background=40, **options)
        np.testing.assert_allclose(registered.numpy(), found, atol=1e-5)


def test_a_removed_column_changes_a_linear_function_by_what_the_others_do_not_tell(rows, sigma, normals):
    expected = np.empty_like(rows)
    for column in range(5):
        others = np.arange(5) != column
        expected[:, column] = WEIGHTS[column] * (
            rows[:, column] - (rows[:, others] @ gaussian_given(others, sigma)[0])[:, 0]
        )
    worths = conditional_worths(linear, rows, sigma, normals)
    np.testing.assert_allclose(expected_changes(worths), expected, atol=1e-10)


def test_drawn_changes_scatter_about_the_expected_ones_with_the_conditional_spread(sigma, normals):
    many = np.random.default_rng(5).normal(size=(600, 5))
    draws, spread = 25, gaussian_given(np.arange(5) != 0, sigma)[1][0, 0]
    found, worths = drawn_changes(linear, many, sigma, draws, 7), conditional_worths(linear, many, sigma, normals)
    apart = found - expected_changes(worths)
    np.testing.assert_allclose(apart[:, 4], 0, atol=1e-10)  # its weight is 0
    standard = apart[:, :4] / (WEIGHTS[:4] * spread / np.sqrt(draws))
    assert np.abs(standard.mean(0)).max() < 0.2 and np.abs(standard.std(0) - 1).max() < 0.15
    assert np.abs(np.corrcoef(standard.T) - np.eye(4)).max() < 0.2  # each column has draws of its own
    assert np.array_equal(found, drawn_changes(linear, many, sigma, draws, 7))


def test_contributions_of_independent_columns_are_faithful_and_monotone(rows, normals):
    worths = conditional_worths(linear, rows, np.eye(5), normals)
    contributions = WEIGHTS * rows
    np.testing.assert_allclose(shapley_of_worths(worths), contributions, atol=1e-10)
    for factor in (1, -3):  # neither sign nor size matters
        np.testing.assert_allclose(faithfulness_of(factor * contributions, expected_changes(worths)), 1, atol=1e-10)
    changes = changes_on_insertion(worths, orders_of_insertion(contributions, 0))
    np.testing.assert_allclose(changes, np.sort(np.abs(contributions), 1), atol=1e-10)
    assert (monotonicity_of(changes) == 1).all()
    backwards = orders_of_insertion(1 / (1 + np.abs(contributions)), 0)
    assert (monotonicity_of(changes_on_insertion(worths, backwards)) == 0).all()


def test_correlated_columns_are_less_faithful(rows, sigma, normals):
    worths = conditional_worths(linear, rows, sigma, normals)
    assert faithfulness_of(WEIGHTS * rows, expected_changes(worths)).mean() < 0.99


def test_a_side_that_does_not_vary_has_no_correlation():
    first = np.array([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    second = np.array([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0], [3.0, 2.0, 1.0]])
    found = correlations_of_rows(first, second)
    assert np.isnan(found[:2]).all() and found[2] == pytest.approx(-1)


def test_equal_attributions_are_inserted_in_every_order():
    orders = orders_of_insertion(np.ones((600, 3)), 0)
    assert len({tuple(order) for order in orders.tolist()}) == 6
    assert orders_of_insertion(np.array([[3.0, -1.0, 2.0]]), 0).tolist() == [[1, 2, 0]]


def test_the_released_monotonicity_compares_columns_and_not_steps():
    worths, orders = np.zeros((1, 8)), np.array([[2, 1, 0]])
    worths[0, [0b100, 0b110, 0b111]] = 1.0, 3.0, 6.0  # after column 2, then 1, then 0
    changes = changes_on_insertion(worths, orders)
    assert changes.tolist() == [[1.0, 2.0, 3.0]] and monotonicity_of(changes).tolist() == [1.0]
    # In the order of the columns they are 6, 3 and 1, whose changes from 0 on are 6, 3 and 2.
    assert released_monotonicity(worths, orders).tolist() == [0.0]


def test_infidelity_is_the_registered_one_with_every_set(rows):
    worths = marginal_outputs(product_of_two, rows, np.zeros((1, 5)))[:, :, 0]
    maps = np.random.default_rng(2).normal(size=rows.shape)
    inputs, zeros = torch.from_numpy(rows).float(), torch.zeros(len(rows), dtype=torch.long)
    data = Data(inputs, zeros, modality="table", task="regression")
    box = LoadedModel(BlackBox(product_of_two), task="regression")
    options = {"perturbation": "subset", "scaling": "optimal", "baseline": "zero", "draws": 4000}
    registered = harness.score("infidelity", box, data, torch.from_numpy(maps).float(), **options)
    np.testing.assert_allclose(registered.numpy(), infidelity_over_sets(maps, worths), rtol=0.15, atol=0.02)


def test_contributions_predict_every_change_and_nothing_predicts_none(rows):
    worths = marginal_outputs(linear, rows, np.zeros((1, 5)))[:, :, 0]
    np.testing.assert_allclose(infidelity_over_sets(-7 * WEIGHTS * rows, worths), 0, atol=1e-10)
    none = infidelity_over_sets(np.zeros_like(rows), worths)
    np.testing.assert_allclose(none, ((worths[:, -1:] - worths) ** 2).mean(1))


def test_shapr_is_between_the_marginal_and_the_nearest_row(rows, sigma):
    background = np.random.default_rng(3).multivariate_normal(np.zeros(5), sigma, 50)
    outputs = marginal_outputs(product_of_two, rows, background)
    marginal = shapley_of_worths(outputs.mean(2))
    np.testing.assert_allclose(shapr(outputs, rows, background, 1e6), marginal, atol=1e-8)
    np.testing.assert_allclose(shapr(outputs, rows, background, 0.4, fewest=6), marginal, atol=1e-12)
    worths = outputs.mean(2)
    for number, known in enumerate(known_columns(5)):
        if known.any():  # one row is nearest, and alone counts
            apart = rows[:, None, known] - background[None][:, :, known]
            precision = np.linalg.inv(np.atleast_2d(np.cov(background[:, known], rowvar=False)))
            nearest = np.einsum("nrk,kl,nrl->nr", apart, precision, apart).argmin(1)
            worths[:, number] = outputs[np.arange(len(rows)), number, nearest]
    np.testing.assert_allclose(shapr(outputs, rows, background, 1e-5), shapley_of_worths(worths), atol=1e-6)


def test_shapr_comes_nearer_to_the_conditional_values_of_correlated_columns(seed):
    sigma = covariance(0.9, 5).numpy()
    drawn = np.random.default_rng(seed).multivariate_normal(np.zeros(5), sigma, 1040)
    table, background = drawn[:40], drawn[40:]
    truth = shapley_of_worths(conditional_worths(linear, table, sigma, symmetric_normals(64, 5, 0)))
    outputs = marginal_outputs(linear, table, background)
    errors = [
        ((values - truth) ** 2).mean()
        for values in (shapr(outputs, table, background, 0.4), shapley_of_worths(outputs.mean(2)))
    ]
    assert errors[0] < 0.5 * errors[1]


def test_break_down_is_the_contribution_of_an_additive_function_and_takes_one_order_of_others(rows):
    background = np.random.default_rng(4).normal(size=(30, 5))
    worths = marginal_outputs(linear, rows, background).mean(2)
    np.testing.assert_allclose(break_down(worths), WEIGHTS * (rows - background.mean(0)), atol=1e-10)
    # f = x1 x2 at (1, 3) against 0: each column alone loses all, so the first in order goes first and takes all.
    assert break_down(np.array([[0.0, 0.0, 0.0, 3.0]])).tolist() == [[3.0, 0.0]]
    # Forgetting column 2 costs 1 of 5, then column 1 costs the other 4.
    assert break_down(np.array([[0.0, 4.0, 2.0, 5.0]])).tolist() == [[4.0, 1.0]]
    other = break_down(marginal_outputs(product_of_two, rows, background).mean(2))
    worths = marginal_outputs(product_of_two, rows, background).mean(2)
    np.testing.assert_allclose(other.sum(1), worths[:, -1] - worths[:, 0], atol=1e-10)


def test_maple_finds_the_slopes_of_a_linear_function(rows):
    background = np.random.default_rng(5).normal(size=(300, 5))
    found = maple(rows, background, linear(background), 20, 0)
    np.testing.assert_allclose(found, WEIGHTS * (rows - background.mean(0)), atol=0.02)


def test_maple_finds_local_slopes():
    background = np.random.default_rng(6).uniform(-1, 1, size=(1000, 2))
    at = np.array([[-0.7, 0.0], [0.7, 0.0]])
    found = maple(at, background, np.abs(background[:, 0]), 50, 0)[:, 0] / (at - background.mean(0))[:, 0]
    np.testing.assert_allclose(found, [-1, 1], atol=0.1)


def test_the_released_regression_shares_the_worth_of_the_empty_coalition(rows, sigma, normals):
    worths = conditional_worths(product_of_two, rows, sigma, normals) + 2.5
    surplus = released_regression(worths) - shapley_of_worths(worths)
    np.testing.assert_allclose(surplus, np.repeat(worths[:, :1] / 5, 5, 1), atol=1e-5)
    np.testing.assert_allclose(released_regression(worths).sum(1), worths[:, -1], atol=1e-4)


def test_the_expected_error_of_the_linear_function_is_its_mean_and_falls_at_the_end():
    assert expected_linear_error(0.0) == pytest.approx(0, abs=1e-12)
    # At rho = 1 it is the spread of the weights, 2, over the variance of the sum, 100.
    assert expected_linear_error(1 - 1e-6) == pytest.approx(0.02, rel=1e-3)
    assert expected_linear_error(0.75) > expected_linear_error(0.5) > expected_linear_error(0.25)
    assert expected_linear_error(0.99) < 0.75 * expected_linear_error(0.75)
    drawn = function_errors(["linear"], [0.75], list(range(12)), 500)["Shapley MSE"]
    assert drawn.mean() == pytest.approx(expected_linear_error(0.75), rel=0.05)


def test_steps_go_from_each_rho_to_the_next_in_every_seed_and_group():
    table = pd.DataFrame(
        [
            {"seed": seed, "model": model, "rho": rho, "value": rho * slope + seed}
            for seed, (model, slope), rho in product((1, 2), {"a": 1.0, "b": 2.0}.items(), (0.0, 0.5, 0.75))
        ]
    )
    steps = steps_between(table, "value", "model")
    assert dict(steps.iloc[0]) == {(0.5, "a"): 0.5, (0.5, "b"): 1.0, (0.75, "a"): 0.25, (0.75, "b"): 0.5}
    assert len(steps) == 2 and (steps.iloc[0] == steps.iloc[1]).all()


def test_all_are_above_zero_only_where_each_is_shown_to_be():
    draw = np.random.default_rng(0)
    table = lambda *means: pd.DataFrame(draw.normal(means, 0.1, (20, len(means))))
    assert all_above_zero(table(1.0, 2.0))[0] is True
    assert all_above_zero(table(1.0, 0.0))[0] is None
    assert all_above_zero(table(1.0, -1.0))[0] is False
    wrong = [all_above_zero(table(0.0, 0.0, 0.0))[0] for _ in range(400)]
    assert wrong.count(True) <= 2 and wrong.count(False) / 400 < 0.09  # 5 % for one of them, corrected


def planted_scores(**better):
    """Scores of 5 seeds in which every method has the value 1 by each metric, and others what ``better`` says."""
    draw, values = np.random.default_rng(0), {name: 1.0 for name in cells.METHODS} | {"random": 0.0} | better
    return pd.DataFrame(
        [
            {
                "target": "linear",
                "rho": rho,
                "seed": seed,
                "model": "LR",
                "explainer": name,
                "metric": metric,
                "value": (-value if metric in cells.LOWER_IS_BETTER else value) + draw.normal(0, 0.02),
                "undefined": 0,
            }
            for seed, rho, (name, value), metric in product(
                range(5), (0.0, 0.5), values.items(), (*cells.METRICS, cells.MONOTONICITY_OF_FIGURES)
            )
        ]
    )


def test_random_is_last_only_where_every_method_is_above_it():
    verdicts = lambda **better: {claim.holds for claim in random_last_claims(planted_scores(**better))}
    assert verdicts() == {True}
    assert verdicts(LIME=0.0) <= {None, False} and None in verdicts(LIME=0.0)
    assert verdicts(MAPLE=-0.5) == {False}


def test_shapr_is_nearest_only_where_no_method_is_nearer():
    assert nearest_method_claim(planted_scores(SHAPR=2.0)).holds is True
    assert nearest_method_claim(planted_scores(SHAPR=2.0, SHAP=3.0)).holds is False


def test_constant_attributions_that_have_a_score_are_noticed():
    scores = planted_scores(constant=0.0)
    assert undefined_claim(scores, 10).holds is False
    constant = scores["explainer"] == "constant"
    scores.loc[constant, ["value", "undefined"]] = [np.nan, 10]
    assert undefined_claim(scores, 10).holds is True


def test_every_model_is_explained_and_the_truth_agrees_with_itself():
    scores = cells.benchmark_scores("piecewise", 3, [0.5], list(cells.MODELS), 8, 120, 64, 50, 5)
    assert set(scores["explainer"]) >= {*cells.METHODS, *cells.CONTROLS, cells.TRUTH}
    of_truth = scores[scores["explainer"] == cells.TRUTH].set_index("metric")["value"]
    assert (of_truth[cells.MSE] == 0).all() and np.allclose(of_truth[cells.CORRELATION], 1)
    constant = scores[(scores["explainer"] == "constant") & (scores["metric"] == cells.FAITHFULNESS)]
    assert constant["value"].isna().all() and (constant["undefined"] == 8).all()
    assert not scores.duplicated(["model", "explainer", "metric"]).any()


def test_identities_fail_where_what_they_measure_is_wrong():
    table = exact_measurements(7, [0.0, 0.5], 10, 64)
    assert all(claim.holds for claim in identity_claims(table, [0.0, 0.5], 64) if claim.kind == "identity")
    for name in ("apart LR", "unfaithful LR", "unfaithful to means", "missed sum", "surplus apart", "second step"):
        wrong = table.assign(value=table["value"].where(table["name"] != name, 0.01))
        assert sum(not claim.holds for claim in identity_claims(wrong, [0.0, 0.5], 64) if claim.kind == "identity") == 1
