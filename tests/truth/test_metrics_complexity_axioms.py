"""Complexity, sparseness and completeness against values worked out by hand."""

import math

import pytest
import torch
from torch import nn

import harness
from harness.errors import NotApplicable
from metric_worlds import (
    SHAPES,
    Additive,
    Constant,
    Interacting,
    draw,
    explaining,
    generator,
    gradient,
    samples,
    scores,
)

SEED = torch.seed() % 2**31


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def score(metric, attributions, **options):
    return scores(
        metric, Interacting(attributions.shape[1:]), torch.ones_like(attributions), attributions, options=options
    )


def test_entropy_and_gini_at_their_extremes():
    one, same = torch.zeros(1, 10), torch.full((1, 10), -0.3)
    one[0, 4] = -2.0
    assert score("complexity", one).values.item() == 0
    assert score("complexity", same).values.item() == pytest.approx(math.log(10), rel=1e-12)
    assert score("complexity", same, normalised=True).values.item() == pytest.approx(1, rel=1e-12)
    assert score("sparseness", one).values.item() == pytest.approx(0.9, rel=1e-12)
    assert score("sparseness", same).values.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("kind", SHAPES)
def test_entropy_and_gini_equal_a_loop_over_units(kind, seed):
    attributions = draw(SHAPES[kind], seed)
    complexity, sparseness = score("complexity", attributions).values, score("sparseness", attributions).values
    axis = {"grey": 1, "colour": 1, "tokens": 2}.get(kind)
    for i in range(3):
        units = attributions if axis is None else attributions.sum(axis)
        sizes = sorted(abs(value) for value in units[i].flatten().tolist())
        total, d = sum(sizes), len(sizes)
        entropy = -sum(size / total * math.log(size / total) for size in sizes)
        gini = sum(abs(a - b) for a in sizes for b in sizes) / (2 * d * total)
        assert complexity[i].item() == pytest.approx(entropy, rel=1e-6)
        assert sparseness[i].item() == pytest.approx(gini, rel=1e-6)


def test_scale_and_sign_change_neither(seed):
    attributions = draw((8,), seed)
    for metric in ("complexity", "sparseness"):
        reference = score(metric, attributions).values
        for changed in (-attributions, 4 * attributions, attributions.abs(), attributions.flip(1)):
            torch.testing.assert_close(score(metric, changed).values, reference, rtol=1e-12, atol=1e-14)


def test_attributions_that_are_zero_have_neither_and_say_so():
    found = [score(metric, torch.tensor([[0.0, 0, 0], [1, 0, 2]])) for metric in ("complexity", "sparseness")]
    for each in found:
        assert each.values.isnan().tolist() == [True, False] and "0 throughout" in each.reason
    single = score("complexity", torch.ones(2, 1), normalised=True)
    assert single.values.isnan().all() and single.reason
    assert score("complexity", torch.ones(2, 1)).values.tolist() == [0, 0]


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("baseline", ["zero", "mean", "train_mean"])
def test_contributions_to_the_explainers_own_baseline_leave_no_gap(kind, baseline, seed):
    model, inputs, train = (
        Additive(SHAPES[kind], torch.sin, generator(seed)),
        draw(SHAPES[kind], seed),
        draw(SHAPES[kind], 9),
    )
    removed = samples(model, inputs, train=train).baseline(baseline)
    by = explaining(gradient, model, complete_to="baseline")
    by.options = {"baseline": baseline}
    contributions = model.contributions(inputs, removed)
    assert scores("completeness", model, inputs, contributions, by=by, train=train).values.max() < 1e-5
    other = {"baseline": torch.full(SHAPES[kind], 0.7)}
    gap = model(removed)[:, 0] - model(torch.full(SHAPES[kind], 0.7)[None])[:, 0]
    found = scores("completeness", model, inputs, contributions, by=by, train=train, options=other).values
    torch.testing.assert_close(found.float(), gap.abs().detach(), rtol=1e-4, atol=1e-5)


def test_the_gap_is_a_number_with_a_size_also_relative_to_the_drop(seed):
    model, inputs = Additive((5,), generator=generator(seed)), draw((5,), seed)
    half = 0.5 * model.contributions(inputs, torch.zeros_like(inputs))
    drop = (model(inputs)[:, 0] - model.b).abs().detach().double()
    options = {"baseline": "zero"}
    torch.testing.assert_close(
        scores("completeness", model, inputs, half, options=options).values, drop / 2, rtol=1e-4, atol=1e-5
    )
    found = scores("completeness", model, inputs, half, options={**options, "relative": True}).values
    torch.testing.assert_close(found, torch.full_like(found, 0.5), rtol=1e-3, atol=0)


def test_all_channels_add_up_whatever_the_reduction(seed):
    model, inputs = Additive((3, 4, 4), generator=generator(seed)), draw((3, 4, 4), seed)
    contributions = model.contributions(inputs, torch.zeros_like(inputs))
    for reduction in ("sum", "abs_sum", "none"):
        options = {"baseline": "zero"}
        assert (
            scores("completeness", model, inputs, contributions, reduction=reduction, options=options).values.max()
            < 1e-5
        )


def test_explainers_of_the_output_add_up_to_the_output(seed):
    model = nn.Linear(4, 2, bias=False)
    inputs = draw((4,), seed)
    by = explaining(gradient, model, complete_to="output")
    contributions = (inputs * model.weight[0]).detach()
    assert scores("completeness", model, inputs, contributions, by=by).values.max() < 1e-5


def test_without_a_promise_or_a_drop_there_is_no_score():
    inputs = draw((4,), 0)
    with pytest.raises(NotApplicable):
        scores("completeness", Interacting((4,)), inputs, inputs)
    with pytest.raises(NotApplicable):
        scores("completeness", Interacting((4,)), inputs, inputs, by=explaining(gradient, None))
    with pytest.raises(NotApplicable):
        scores("completeness", Interacting((4,)), inputs, inputs, by=explaining(gradient, None, complete_to="baseline"))
    found = scores("completeness", Constant(), inputs, inputs, options={"baseline": "zero", "relative": True})
    assert found.values.isnan().all() and found.reason


@pytest.mark.parametrize(
    ("explainer", "options"),
    [
        ("integrated_gradients", {"baseline": "uniform_noise", "steps": 200}),
        ("kernel_shap", {"score": "probability", "samples": 64}),
        ("exact_shapley", {"score": "log_odds", "baseline": "gaussian_noise"}),
        ("shapley_sampling", {"baseline": "train_sample", "permutations": 4}),
    ],
)
def test_a_promise_is_kept_in_the_explainers_own_score_and_to_its_own_baseline(explainer, options):
    torch.manual_seed(torch.seed() % 10_000)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()
    inputs, targets, train = torch.randn(4, 5), torch.tensor([0, 1, 2, 0]), torch.randn(9, 5)
    maps = harness.explain(explainer, net, inputs, targets, train=train, **options)
    error = harness.score(
        "completeness", net, inputs, targets, maps, explainer=explainer, explainer_options=options, train=train
    )
    assert (error < 1e-4).all()
