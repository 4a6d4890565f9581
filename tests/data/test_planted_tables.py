"""Planted tables: their truth against closed forms, simulation and an independent enumeration, and their models."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import harness
from harness.datasets import gaussian_terms as terms_module
from harness.datasets._shapley import exact_shapley_values, shapley_against
from harness.datasets.causal import GRAPHS, MECHANISMS, CausalGraph, causal_splitter
from harness.datasets.gaussian import covariance, gaussian_splitter
from harness.datasets.gaussian_terms import GaussianFunction, conditional_values, sum_of_terms
from harness.datasets.logic import GATES
from harness.engine.protocol import Protocol
from harness.engine.stage import set_stage
from harness.errors import UserError
from harness.models import planted
from harness.sources import LoadedModel
from named_options import data_set, model_named

gaussian, causal, logic = data_set("gaussian"), data_set("causal"), data_set("logic")
gaussian_function, gaussian_mlp = model_named("gaussian_function"), model_named("gaussian_mlp")
causal_function, causal_mlp = model_named("causal_function"), model_named("causal_mlp")
logic_net = model_named("logic_net")

FUNCTIONS = tuple(terms_module.GAUSSIAN_FUNCTIONS)


def terms_of(function, features):
    return GaussianFunction(function, features).terms


pytestmark = pytest.mark.usefixtures("seed")


def every_pair():
    """Each kind of planted table with its model."""
    for function in FUNCTIONS:
        for values in ("conditional", "interventional"):
            yield gaussian(function=function, values=values, count=20), gaussian_function(function=function)
    for graph, mechanism in itertools.product(GRAPHS, MECHANISMS):
        options = {"graph": graph, "mechanism": mechanism}
        yield causal(**options, count=20), causal_function(**options)
    for gate in GATES:
        yield logic(gate=gate, copies=2), logic_net(gate=gate)


def test_shapley_values_are_the_mean_over_all_orders(seed):
    players, earned = 4, {}

    def value(coalition):
        return earned.setdefault(coalition, torch.randn(3, dtype=torch.float64))

    found, expected = exact_shapley_values(value, players), torch.zeros(3, players, dtype=torch.float64)
    for order in itertools.permutations(range(players)):
        for place, player in enumerate(order):
            before = tuple(sorted(order[:place]))
            expected[:, player] += value(tuple(sorted((*before, player)))) - value(before)
    torch.testing.assert_close(found, expected / math.factorial(players))


def test_players_alike_get_alike_and_a_dummy_exactly_nothing():
    inputs = torch.rand(5, 4)
    inputs[:, 1] = inputs[:, 0]
    found = shapley_against(lambda x: (x[:, 0] * x[:, 1]).exp() * x[:, 2], inputs, torch.zeros(4), (0, 1, 2, 3))
    torch.testing.assert_close(found[:, 0], found[:, 1])
    assert (found[:, 3] == 0).all() and (found[:, 2] > 0).all()


@pytest.mark.parametrize("values", ["conditional", "interventional"])
def test_without_correlation_a_linear_function_gives_each_column_its_product(values):
    data = gaussian(rho=0.0, values=values, count=20)
    expected = data.inputs * torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    torch.testing.assert_close(data.truth, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_correlation_both_kinds_of_values_are_equal(function):
    first, second = (
        gaussian(function=function, rho=0.0, values=values, count=20) for values in ("conditional", "interventional")
    )
    torch.testing.assert_close(first.truth, second.truth, rtol=1e-5, atol=1e-5)


def test_two_correlated_columns_share_as_worked_out_by_hand():
    rho, inputs = 0.6, torch.randn(9, 2, dtype=torch.float64)
    found = conditional_values(terms_of("linear", 2), inputs, covariance(rho, 2))  # f = x1
    # Alone, the second column tells rho x2 of the first: it gets half of that, and the first column the rest.
    torch.testing.assert_close(found[:, 1], rho * inputs[:, 1] / 2)
    torch.testing.assert_close(found[:, 0], inputs[:, 0] - rho * inputs[:, 1] / 2)


@pytest.mark.parametrize(
    "term",
    [
        terms_module.Linear(2.5),
        terms_module.Sine(),
        terms_module.Magnitude(),
        terms_module.Square(),
        terms_module.Decay(),
        *terms_of("piecewise", 5),
    ],
    ids=lambda term: type(term).__name__,
)
def test_expectations_are_those_of_numerical_integration(term):
    mean, spread = float(torch.randn(())), float(0.2 + torch.rand(()))
    jumps = [place for place in getattr(term, "at", (0.0,)) if abs(place - mean) < 8 * spread]

    def density(x):
        return float(term(torch.tensor(x, dtype=torch.float64))) * stats.norm.pdf(x, mean, spread)

    edges = [mean - 8 * spread, *sorted(jumps), mean + 8 * spread]
    expected = sum(integrate.quad(density, *pair)[0] for pair in itertools.pairwise(edges))
    found = term.mean(torch.tensor(mean, dtype=torch.float64), spread**2).item()
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_stairs_are_what_they_are_said_to_be():
    first, second, third = terms_of("piecewise", 5)
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64) + 1e-7
    assert torch.equal(first(x), x.sign())
    assert second(torch.tensor([-0.6, -0.5, -0.1, 0.0, 0.4, 0.5])).tolist() == [-2, -1, -1, 1, 1, 2]
    assert torch.equal(third(x), (2 * torch.cos(math.pi * x)).floor())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_conditional_values_agree_with_simulation(function):
    """The same game, its coalitions' earnings estimated from draws of the absent columns given the present ones."""
    terms, sigma = terms_of(function, 5), covariance(0.6, 5)
    x = torch.randn(1, 5, dtype=torch.float64) * 0.8
    draws = 20_000

    def value(present):
        known, absent = list(present), [column for column in range(5) if column not in present]
        rows = x.repeat(draws, 1)
        if absent:
            weights = torch.linalg.solve(sigma[known][:, known], sigma[known][:, absent])
            left = sigma[absent][:, absent] - sigma[absent][:, known] @ weights
            normal = torch.distributions.MultivariateNormal(x[0, known] @ weights, left)
            rows[:, absent] = normal.sample((draws,))
        return sum_of_terms(terms, rows).mean()[None]

    found, simulated = conditional_values(terms, x, sigma), exact_shapley_values(value, 5)
    torch.testing.assert_close(found, simulated, rtol=0, atol=0.12)


def interventional_of(function, x):
    return terms_module.interventional_values(terms_of(function, 5), x)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_interventional_values_are_those_of_the_enumerated_game(function):
    terms, x = terms_of(function, 5), torch.randn(7, 5, dtype=torch.float64)
    nothing = torch.zeros(7, dtype=torch.float64)

    def value(present):
        parts = enumerate(terms)
        return sum(term(x[:, column]) if column in present else term.mean(nothing, 1.0) for column, term in parts)

    torch.testing.assert_close(interventional_of(function, x), exact_shapley_values(value, 5))


def test_values_sum_to_what_the_function_differs_from_its_expectation():
    for data, loaded in every_pair():
        outputs = loaded.module(data.inputs)[:, 0]
        left = outputs - data.truth.sum(1)
        torch.testing.assert_close(left, left[:1].expand(len(left)), rtol=0, atol=2e-5)  # a constant
        if not data.function.startswith("causal"):  # whose labels have noise
            torch.testing.assert_close(outputs, data.labels, rtol=0, atol=1e-6)


def test_the_constant_is_the_mean_of_the_function():
    data = gaussian(function="additive", count=5)
    expected = math.sqrt(2 / math.pi) + 1 + math.exp(0.5)  # E sin = 0, E |x|, E x^2, E exp(-x)
    assert (data.labels - data.truth.sum(1)).mean().item() == pytest.approx(expected, abs=1e-5)


def test_columns_that_the_function_ignores_have_exactly_nothing_but_for_what_they_tell_of_others():
    for function in FUNCTIONS:
        data = gaussian(function=function, rho=0.5, values="interventional", count=20)
        assert (data.truth[~data.masks] == 0).all() and (data.truth[data.masks] != 0).any()
        assert (gaussian(function=function, rho=0.5, count=20).truth[~data.masks] != 0).all()
    for data, _ in every_pair():
        if not data.function.startswith("gaussian"):
            assert (data.truth[~data.masks] == 0).all() and (data.truth[data.masks] != 0).any()


def test_the_columns_are_correlated_as_asked():
    for rho in (0.0, 0.75, -0.2):
        data = gaussian(rho=rho, count=4)
        found = np.corrcoef(data.train.T.numpy())
        np.testing.assert_allclose(found[~np.eye(5, dtype=bool)], rho, atol=0.15)
        np.testing.assert_allclose(data.train.std(0).numpy(), 1, atol=0.12)


def test_an_exact_explainer_of_the_function_finds_the_truth_of_causes_and_gates():
    for data, loaded in every_pair():
        if data.function.startswith("gaussian"):
            continue
        found = harness.explain(
            "exact_shapley",
            loaded.module,
            data.inputs,
            torch.zeros(len(data), dtype=torch.long),
            train=data.train,
            baseline="mean" if data.function.startswith("causal") else "zero",
        )
        torch.testing.assert_close(found, data.truth, rtol=1e-4, atol=2e-5)


def test_gates_compute_their_names_and_share_as_worked_out_by_hand():
    by_hand = {  # x -> value, Shapley values of the gate's own columns
        "and": {(1, 1): (1, (0.5, 0.5)), (0, 1): (0, (0, 0))},
        "or": {(1, 1): (1, (0.5, 0.5)), (0, 1): (1, (0, 1))},
        "xor": {(1, 1): (0, (0, 0)), (1, 0): (1, (1, 0))},
        "interaction": {(1, 0.5, 1): (1.5, (0.25, 0.25, 1)), (0, 1, 0.5): (0.5, (0, 0, 0.5))},
        "cancellation": {(0.5, 1): (0.5, (0.5, 0)), (0, 1): (0, (0, 0))},
        "max": {(0.5, 1): (1, (0.25, 0.75)), (1, 0): (1, (1, 0)), (0.5, 0.5): (0.5, (0.25, 0.25))},
    }
    for gate, cases in by_hand.items():
        data = logic(gate=gate, copies=1)
        for inputs, (value, shares) in cases.items():
            width = len(inputs)
            (row,) = (data.inputs[:, :width] == torch.tensor(inputs)).all(1).nonzero()[:, 0]
            assert data.labels[row] == value, gate
            torch.testing.assert_close(data.truth[row, :width], torch.tensor(shares, dtype=torch.float32))


def test_gates_get_every_combination_of_their_levels_with_fresh_noise():
    data = logic(gate="interaction", noise_columns=2, copies=3)
    assert len(data) == 81 and len(set(data.ids)) == 81 and data.unit_names == ("x1", "x2", "x3", "noise1", "noise2")
    assert len(data.inputs[:, :3].unique(dim=0)) == 27
    first, second = data.inputs[:27, 3:], data.inputs[27:54, 3:]
    assert not torch.equal(first, second) and set(data.inputs.unique().tolist()) == {0, 0.5, 1}


@pytest.mark.parametrize("graph", GRAPHS)
def test_children_and_confounded_columns_are_correlated_with_the_outcome_and_cause_nothing(graph):
    data = causal(graph=graph, mechanism="linear", count=300)
    causes = set(GRAPHS[graph]["y"])
    assert {name for name, inside in zip(data.unit_names, data.masks[0], strict=True) if inside} == causes
    correlated = [np.corrcoef(column, data.train_labels)[0, 1] for column in data.train.T.numpy()]
    strong = [name for name, value in zip(data.unit_names, correlated, strict=True) if abs(value) > 0.5]
    assert set(strong) - causes, "else nothing could mislead"


def test_forcing_a_cause_changes_the_outcome_and_forcing_a_correlate_does_not():
    """Pearl's intervention, on the equations rather than on the model's word."""
    for graph in GRAPHS:
        rows = causal(graph=graph, count=10).inputs
        planted_graph = CausalGraph(graph)
        before = planted_graph.outcome(rows.double())
        for column, name in enumerate(planted_graph.columns):
            forced = rows.double().clone()
            forced[:, column] += 1
            moved = (planted_graph.outcome(forced) - before).abs().max() > 1e-3
            assert bool(moved) == (name in GRAPHS[graph]["y"])


def test_a_net_of_correlates_alone_looks_at_no_cause_and_is_said_so_by_masks():
    data, loaded = causal(count=60, truth=False), causal_mlp(epochs=20)
    assert data.truth is None and data.function is None
    left = data.labels - loaded.module(data.inputs)[:, 0]
    assert 1 - left.var() / data.labels.var() > 0.3  # it knows something
    targets = torch.zeros(60, dtype=torch.long)
    maps = harness.explain("input_x_gradient", loaded.module, data.inputs, targets)
    assert (maps[data.masks] == 0).all()
    share = harness.score("relevance_mass", loaded.module, data.inputs, targets, maps, masks=data.masks, sign="abs")
    assert (share == 0).all()
    everything = causal_mlp(columns="all", epochs=20).module
    maps = harness.explain("input_x_gradient", everything, data.inputs, targets)
    share = harness.score("relevance_mass", everything, data.inputs, targets, maps, masks=data.masks, sign="abs")
    assert 0.1 < share.mean() < 0.95  # some of it on the effects


@pytest.mark.parametrize(("function", "least"), [("linear", 0.99), ("additive", 0.95), ("piecewise", 0.8)])
def test_a_net_learns_the_function(function, least):
    data, module = gaussian(function=function, count=400), gaussian_mlp(function=function).module
    left = data.labels - module(data.inputs)[:, 0]
    assert 1 - left.var() / data.labels.var() > least


def test_the_same_seed_draws_the_same_data_and_another_other_data(seed):
    for make in (gaussian, causal):
        first, again, other = (make(count=8, seed=each) for each in (seed, seed, seed + 1))
        assert torch.equal(first.inputs, again.inputs) and torch.equal(first.truth, again.truth)
        assert not torch.equal(first.inputs, other.inputs)
    first, other = logic(seed=seed), logic(seed=seed + 1)
    assert torch.equal(first.truth, other.truth) and not torch.equal(first.inputs, other.inputs)


def test_more_samples_leave_the_training_rows_as_they_were():
    for make in (gaussian, causal):
        few, many = make(count=3), make(count=9)
        assert torch.equal(few.train, many.train) and torch.equal(few.train_labels, many.train_labels)


def test_nets_are_trained_on_the_training_rows_of_the_data():
    for data, split in (
        (gaussian(function="additive", count=2), gaussian_splitter(GaussianFunction("additive"), 0.5, 0)),
        (causal(count=2), causal_splitter(CausalGraph(), 0)),
    ):
        assert all(map(torch.equal, split()["train"], (data.train, data.train_labels)))


def staged(data, loaded):
    return set_stage(loaded, data, Protocol(), torch.device("cpu"))


def test_every_pair_is_ready_for_a_block():
    for data, loaded in every_pair():
        stage = staged(data, loaded)
        assert (stage.targets == 0).all() and stage.outputs.shape == (len(data), 1)


@pytest.mark.parametrize(
    ("data", "loaded"),
    [
        (lambda: gaussian(), lambda: gaussian_function(function="additive")),
        (lambda: causal(), lambda: causal_function(mechanism="linear")),
        (lambda: logic(), lambda: logic_net(gate="max")),
        (lambda: logic(gate="or"), lambda: gaussian_function()),
        (lambda: gaussian(), lambda: gaussian_mlp(function="additive", epochs=1)),
        (lambda: causal(), lambda: causal_mlp(epochs=1)),
    ],
)
def test_a_model_that_is_not_the_function_of_the_truth_is_refused_in_one_line(data, loaded):
    with pytest.raises(UserError, match="truth is of .* the model is .* the same options") as error:
        staged(data(), loaded())
    assert "\n" not in str(error.value)


def test_a_table_of_another_width_is_refused_in_one_line():
    with pytest.raises(UserError, match=r"expected \('N', 6\).*gaussian.*same options"):
        gaussian_function(features=6).module(torch.zeros(2, 5))


def test_nets_of_almost_the_same_correlation_are_trained_apart():
    first, other = (gaussian_mlp(rho=rho, epochs=1).module for rho in (0.5, 0.5000001))
    assert not torch.equal(first[0].weight, other[0].weight)


def test_a_net_is_trained_again_when_the_function_it_learns_has_changed(monkeypatch):
    told = []
    monkeypatch.setattr(planted, "trained", lambda recipe, options: told.append(recipe) or torch.nn.Identity())
    gaussian_mlp()
    assert sum_of_terms in told[0].reads


def test_any_other_model_may_be_compared_with_the_truth():
    data = gaussian(count=4)
    staged(data, LoadedModel(gaussian_mlp().module))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gaussian(function="linaer"), "did you mean 'linear'"),
        (lambda: gaussian(values="marginal"), "values (of .* )?is 'marginal'"),
        (lambda: gaussian(rho=1.0), "rho (of .* )?is 1.0"),
        (lambda: gaussian(rho=-0.3), "rho (of .* )?is -0.3"),
        (lambda: gaussian(count=0), "count of gaussian is 0"),
        (lambda: gaussian(features=1), "features (of .* )?is 1"),
        (lambda: gaussian(features=13), "features (of .* )?is 13"),
        (lambda: gaussian_function(function="cubic"), "function (of .* )?is 'cubic'"),
        (lambda: gaussian_mlp(rho=2.0), "rho (of .* )?is 2.0"),
        (lambda: causal(graph="chian"), "did you mean 'chain'"),
        (lambda: causal(mechanism="cubic"), "mechanism (of .* )?is 'cubic'"),
        (lambda: causal(count=0), "count of causal is 0"),
        (lambda: causal_function(graph="loop"), "graph (of .* )?is 'loop'"),
        (lambda: causal_function(mechanism="cubic"), "mechanism (of .* )?is 'cubic'"),
        (lambda: causal_mlp(columns="causes"), "columns (of .* )?is 'causes'"),
        (lambda: logic(gate="nand"), "gate (of .* )?is 'nand'"),
        (lambda: logic(noise_columns=-1), "noise_columns (of .* )?is -1"),
        (lambda: logic(copies=0), "copies (of .* )?is 0"),
        (lambda: logic_net(gate="nand"), "gate (of .* )?is 'nand'"),
        (lambda: logic_net(noise_columns=-1), "noise_columns (of .* )?is -1"),
    ],
)
def test_mistakes_are_told_in_one_line(make, message):
    with pytest.raises(UserError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
