"""Correlations with a surrogate: exact where the truth is known, nearer to it than draws, and fair to all maps."""

import itertools

import pytest
import torch

from harness.api import make_batch
from harness.messages import heard_by
from harness.metrics import _subset_surrogate
from harness.metrics._similarity import pearson
from metric_worlds import SHAPES, Additive, Constant, Hash, Interacting, draw, generator, on, samples, scores

NAMES = ("sensitivity_n", "seg_sensitivity_n", "faithfulness_correlation")
ZERO = {"baseline": "zero"}
# Of three sizes: the cost of the process grows with the cube of their number, and one more adds nothing new.
GROUPED = {"sensitivity_n": {"sizes": 3}, "seg_sensitivity_n": {"segments": "grid:4", "sizes": 3}}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("metric", ["sensitivity_n", "faithfulness_correlation"])
def test_true_contributions_correlate_perfectly_and_reversed_ones_perfectly_wrong(metric, kind, seed):
    model = Additive(SHAPES[kind], g=torch.sin, generator=generator(seed))
    inputs = draw(SHAPES[kind], seed)
    contributions = model.contributions(inputs, torch.zeros_like(inputs))
    options = {**ZERO, "draws": 60, "surrogate": True, **GROUPED.get(metric, {})}
    seen = samples(model, inputs)  # the surrogate, which knows no maps, is fitted once
    for sign in (1, -1):
        found = on(metric, make_batch(seen, sign * contributions, None), **options)
        curve = found.values[:, None] if found.curves is None else found.curves
        torch.testing.assert_close(curve, torch.full_like(curve, sign), rtol=0, atol=1e-4)


def test_the_correlation_over_all_subsets_is_known_from_few_where_the_output_is_a_sum(seed):
    model, inputs = Additive((12,), g=torch.sin, generator=generator(seed)), draw((12,), seed, 30)
    attributions = draw((12,), seed + 1, 30)
    truth = pearson(attributions, model.contributions(inputs, torch.zeros_like(inputs)))
    options = {**ZERO, "draws": 40, "surrogate": True}
    found = scores("faithfulness_correlation", model, inputs, attributions, options=options).values
    # What is left is the chance of the new subsets, as if the model had been evaluated on all of them.
    assert (found - truth).abs().max() < 4.5 / _subset_surrogate.NEW**0.5


def test_the_error_is_less_than_half_of_that_of_the_draws_alone_and_has_mean_zero(seed):
    model, inputs = Interacting((10,), generator(seed)), draw((10,), seed, 60)
    attributions = draw((10,), seed + 1, 60)
    truth = _over_all(model, inputs, attributions, 4)
    error = {}
    for surrogate in (False, True):
        options = {**ZERO, "share": 0.4, "draws": 50, "surrogate": surrogate}
        error[surrogate] = (
            scores("faithfulness_correlation", model, inputs, attributions, options=options).values - truth
        )
    assert error[True].square().mean() < 0.5 * error[False].square().mean()
    assert error[True].mean().abs() < 4 * error[True].std() / 60**0.5


def _over_all(model, inputs, attributions, size):
    """The correlation (N,) over all subsets of ``size`` units of inputs (N, K), one after the other."""
    sums, drops = [], []
    for chosen in itertools.combinations(range(inputs.shape[1]), size):
        without = inputs.index_fill(1, torch.tensor(chosen), 0.0)
        target = torch.zeros(len(inputs), dtype=torch.long)
        drops.append((model(inputs) - model(without)).gather(1, target[:, None])[:, 0])
        sums.append(attributions[:, list(chosen)].sum(1))
    return pearson(torch.stack(sums, 1), torch.stack(drops, 1))


@pytest.mark.parametrize("metric", NAMES)
@pytest.mark.parametrize("units", [(1, 8, 8)])
def test_what_cannot_be_predicted_is_scored_by_the_draws_alone(metric, units, seed):
    inputs, attributions = draw(units, seed), draw(units, seed + 1)
    options = {"draws": 80, **ZERO, **GROUPED.get(metric, {})}
    plain = scores(metric, Hash(), inputs, attributions, options=options)
    said = []
    with heard_by(said.append):
        found = scores(metric, Hash(), inputs, attributions, options=options | {"surrogate": True})
    assert torch.equal(found.values, plain.values)
    assert len(said) == 1 and said[0].startswith("surrogate: used for 0 of ")


def test_fewer_evaluations_than_groups_are_scored_as_they_are(seed):
    model, inputs = Additive((1, 8, 8), generator=generator(seed)), draw((1, 8, 8), seed)
    attributions = draw((1, 8, 8), seed + 1)
    options = {**ZERO, "draws": 60}
    plain = scores("faithfulness_correlation", model, inputs, attributions, options=options).values
    found = scores("faithfulness_correlation", model, inputs, attributions, options=options | {"surrogate": True})
    assert torch.equal(found.values, plain)


def test_outputs_that_do_not_enter_the_process_correct_it_too(seed, monkeypatch):
    """With a small process the prediction of the other subsets is compared with what the model gave for them."""
    monkeypatch.setattr(_subset_surrogate, "MOST", 40)
    test_the_error_is_less_than_half_of_that_of_the_draws_alone_and_has_mean_zero(seed)


def test_errors_in_closed_form_are_those_of_processes_without_the_subset(seed):
    draws = generator(seed)
    signs = torch.randint(0, 2, (2, 9, 5), generator=draws).double() * 2 - 1
    outputs = torch.randn(2, 9, generator=draws, dtype=torch.float64)
    process = _subset_surrogate._fit_process(signs, outputs)
    seen, flat, size = signs.flatten(0, 1), (outputs - outputs.mean()).flatten(), torch.arange(18) // 9
    spread = outputs.var(-1, correction=0)
    weight = (spread / spread.mean() + _subset_surrogate.LEAST_WEIGHT)[size]
    levels = _subset_surrogate.LEVEL * (size[:, None] == size).double()
    covariance = _subset_surrogate.covariance_of_sets(seen, seen, process.curvature) + levels
    missed = {}
    for noise in _subset_surrogate.NOISES:
        own = torch.diag(weight * noise * (1 + process.curvature))
        errors = torch.empty(18, dtype=torch.float64)
        for left_out in range(18):
            rest = torch.arange(18) != left_out
            solved = torch.linalg.solve((covariance + own)[rest][:, rest], flat[rest])
            errors[left_out] = flat[left_out] - covariance[left_out, rest] @ solved
        missed[(errors.square() / weight).mean().item()] = errors
    torch.testing.assert_close(process.errors.flatten(), missed[min(missed)], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("metric", NAMES)
def test_scores_do_not_depend_on_the_other_samples_or_explainers_and_nan_says_why(metric, seed):
    model, inputs = Interacting((1, 8, 8), generator(seed)), draw((1, 8, 8), seed)
    attributions = draw((1, 8, 8), seed + 1)
    options = {"draws": 80, "surrogate": True, **GROUPED.get(metric, {})}
    together = scores(metric, model, inputs, attributions, options=options).values
    alone = scores(metric, model, inputs[:1], attributions[:1], options=options).values
    torch.testing.assert_close(alone, together[:1], rtol=0, atol=1e-6)
    for given, net in ((torch.full_like(inputs, 0.1), model), (attributions, Constant())):
        found = scores(metric, net, inputs, given, options=options)
        assert found.values.isnan().all() and "does not vary" in found.reason


def test_a_sample_with_fewer_segments_than_another_one_is_scored_as_it_is_alone(seed):
    model, inputs = Interacting((1, 10, 10), generator(seed)), draw((1, 10, 10), seed, 2)
    attributions = draw((1, 10, 10), seed + 1, 2)
    units = torch.arange(100).view(10, 10)
    labels = torch.stack([units // 4, units])  # 25 segments and 100
    options = {"granularity": "segment", "draws": 70, "surrogate": True}
    score = lambda rows: (
        scores(
            "faithfulness_correlation",
            model,
            inputs[:rows],
            attributions[:rows],
            options=options | {"segments": labels[:rows]},
        ).values
    )
    torch.testing.assert_close(score(2)[:1], score(1), rtol=0, atol=1e-6)


def test_a_constant_added_to_the_output_changes_nothing(seed):
    class Shifted(torch.nn.Module):
        def forward(self, x):
            return model(x).double() + 1e3

    model, inputs = Interacting((10,), generator(seed)), draw((10,), seed)
    options = {**ZERO, "draws": 60, "surrogate": True}
    found = [
        scores("faithfulness_correlation", net, inputs, draw((10,), seed + 1), options=options).values
        for net in (model, Shifted())
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-3)


def test_more_draws_than_new_subsets_of_a_surrogate_are_no_loss(seed, monkeypatch):
    monkeypatch.setattr(_subset_surrogate, "NEW", 20)
    test_the_error_is_less_than_half_of_that_of_the_draws_alone_and_has_mean_zero(seed)
