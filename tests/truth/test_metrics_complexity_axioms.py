"""Complexity, sparseness, effective complexity and completeness against values worked out by hand."""

import math
import os

import pytest
import torch
from torch import nn

import harness.api
from harness.errors import NotApplicable, UserError
from harness.registry import METRICS
from metric_worlds import (
    SHAPES,
    Additive,
    Constant,
    Interacting,
    draw,
    explaining,
    generator,
    gradient,
    on,
    samples,
    scores,
)

SEED = int(os.environ["HARNESS_TEST_SEED"])


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
    torch.manual_seed(int(os.environ["HARNESS_TEST_SEED"]) % 10_000)
    net = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()
    inputs, targets, train = torch.randn(4, 5), torch.tensor([0, 1, 2, 0]), torch.randn(9, 5)
    maps = harness.explain(explainer, net, inputs, targets, train=train, **options)
    error = harness.score(
        "completeness", net, inputs, targets, maps, explainer=explainer, explainer_options=options, train=train
    )
    assert (error < 1e-4).all()


def effective(model, inputs, attributions, *, reduction="sum", more=None, **options):
    options = {"least_probability": 0.0, **options}
    return scores(
        "effective_complexity", model, inputs, attributions, reduction=reduction, options=options, **(more or {})
    )


def test_units_above_a_share_of_the_largest_are_counted():
    attributions = torch.tensor([[4.0, -2.0, 1.0, 0.5, 0.0], [0.1, 0.1, 0.1, -0.1, 0.1], [0.0, 0.0, 7.0, 0.0, 0.0]])
    for epsilon, counts in (
        (0.0, [4, 5, 1]),
        (0.125, [3, 5, 1]),
        (0.2, [3, 5, 1]),
        (0.25, [2, 5, 1]),
        (0.5, [1, 5, 1]),
    ):
        found = score("effective_complexity", attributions, definition="threshold", least_attribution=epsilon)
        assert found.values.tolist() == pytest.approx([count / 5 for count in counts], abs=1e-12)
        absolute = score(
            "effective_complexity", attributions, definition="threshold", least_attribution=epsilon, normalised=False
        )
        assert absolute.values.tolist() == counts


def test_the_count_of_units_depends_on_neither_scale_nor_sign(seed):
    attributions = draw((30,), seed)
    reference = score("effective_complexity", attributions, definition="threshold", least_attribution=0.3).values
    assert 0 < reference.min() and reference.max() < 1
    for changed in (-attributions, 2.0**-60 * attributions, attributions.abs(), attributions.flip(1)):
        assert torch.equal(
            score("effective_complexity", changed, definition="threshold", least_attribution=0.3).values, reference
        )


def smallest(losses, tolerance):
    return next(k for k, loss in enumerate(losses) if k and loss < tolerance)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_fewest_units_that_keep_the_score_are_those_of_a_loop(kind, chunk, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    attributions = draw(SHAPES[kind], seed + 1)
    options = {"baseline": "zero", "score": "logit", "tolerance": 0.3}
    found = effective(model, inputs, attributions, more={"chunk": chunk}, **options)
    axis = {"grey": 0, "colour": 0, "tokens": 1}.get(kind)
    for i in range(3):
        sizes = attributions[i].abs() if axis is None else attributions[i].sum(axis).abs()
        order = sizes.flatten().argsort(descending=True)
        losses = []
        for k in range(len(order) + 1):
            kept = torch.zeros(len(order), dtype=torch.bool)
            kept[order[:k]] = True
            kept = kept.view(sizes.shape)
            kept = kept if axis is None else kept.unsqueeze(axis)
            change = model(inputs[i : i + 1])[0, 0] - model((inputs[i] * kept)[None])[0, 0]
            losses.append(abs(change.item()))
        assert found.values[i].item() == pytest.approx(smallest(losses, 0.3) / len(order), abs=1e-12)


def test_an_additive_model_needs_the_contributions_that_the_tolerance_does_not_cover():
    model = Additive((5,))
    model.w.data = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5])
    inputs = torch.ones(1, 5)
    right = model.contributions(inputs, torch.zeros_like(inputs))
    options = {"baseline": "zero", "score": "logit", "normalised": False}
    for tolerance, units in (
        (20.0, 1),
        (15.5, 1),
        (7.6, 1),
        (7.5, 2),
        (3.6, 2),
        (1.6, 3),
        (0.6, 4),
        (0.5, 5),
        (1e-6, 5),
    ):
        assert effective(model, inputs, right, tolerance=tolerance, **options).values.item() == units
        wrong = effective(model, inputs, right.flip(1), tolerance=tolerance, **options).values.item()
        assert wrong >= units


def test_it_is_the_first_number_that_keeps_the_score_even_if_a_larger_one_does_not():
    model = Additive((4,))
    model.w.data = torch.tensor([1.0, 3.0, -3.0, 0.1])  # kept: f - 1.1, f - 0.1, f + 2.9, f - 0.1, f
    inputs, order = torch.ones(1, 4), torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    found = effective(model, inputs, order, baseline="zero", score="logit", tolerance=0.2, normalised=False)
    assert found.values.item() == 1


class OnePixel(nn.Module):
    """Two classes, told apart by one pixel of 224 x 224."""

    def forward(self, x):
        return 6 * torch.stack([x[:, 0, 100, 100] - 0.5, 0.5 - x[:, 0, 100, 100]], 1)


def test_one_pixel_in_fifty_thousand_is_found_where_it_is_enough():
    inputs = torch.rand(2, 1, 224, 224)
    inputs[:, 0, 100, 100] = 1
    sizes = torch.rand(2, 1, 224, 224)
    sizes[0, 0, 100, 100], sizes[1, 0, 100, 100] = 2, 0.75  # the first of all, and behind about a quarter of them
    found = scores("effective_complexity", OnePixel(), inputs, sizes, options={"baseline": "zero", "normalised": False})
    assert found.values.tolist() == [1, 1 + (sizes[1] > 0.75).sum()]


def test_an_improbable_class_has_no_score_for_any_unit_would_keep_it_improbable():
    inputs = torch.rand(2, 1, 8, 8)
    pixel, options = torch.nn.functional.pad(inputs, (100, 116, 100, 116)), {"baseline": "zero"}
    pixel[:, 0, 100, 100] = 1
    classes = torch.tensor([0, 1])  # of the probabilities 1 and 1e-5
    found = scores("effective_complexity", OnePixel(), pixel, pixel, options=options, targets=classes)
    assert found.values.isnan().tolist() == [False, True] and "least_probability" in found.reason
    kept = scores(
        "effective_complexity", OnePixel(), pixel, pixel, options={**options, "score": "logit"}, targets=classes
    )
    assert kept.values.isnan().tolist() == [False, True]
    assert effective(OnePixel(), pixel, pixel, more={"targets": classes}, **options).values.isfinite().all()


def test_the_loss_is_the_mean_over_draws_of_the_change_and_not_the_change_of_the_mean():
    model, inputs = Additive((4,)), torch.zeros(2, 4)
    train = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])  # whose changes cancel in the mean
    model.w.data.fill_(1.0)
    options = {"imputations": 6, "score": "logit", "normalised": False, "more": {"train": train}}
    last_unit_first = torch.tensor([1.0, 2, 3, 4]).expand(2, 4)  # the changing unit comes last: all four are needed
    for tolerance, units in ((0.999, 4), (1.001, 1)):
        found = effective(model, inputs, last_unit_first, baseline="train_sample", tolerance=tolerance, **options)
        assert found.values.tolist() == [units, units]
    single = effective(model, inputs, torch.ones(2, 4), baseline="zero", tolerance=0.5, **options)
    assert (single.values == 1).all()  # a baseline that is the input: one unit is as good as any number


@pytest.mark.parametrize("steps", [2, 3, 7, 29, 64])
def test_a_search_in_rounds_ends_where_one_unit_less_does_not_suffice(steps, seed):
    model, inputs = Interacting((1, 6, 5), generator(seed)), draw((1, 6, 5), seed, 20)
    options = {"baseline": "zero", "score": "logit", "tolerance": 0.2, "normalised": False}
    exact = effective(model, inputs, inputs, steps=29, **options).values
    found = effective(model, inputs, inputs, steps=steps, **options).values
    assert (found >= exact).all()
    if steps >= 29:
        assert torch.equal(found, exact)
    order = inputs.flatten(1).abs().argsort(dim=1, descending=True).argsort(1)
    for count, suffices in ((found, True), (found - 1, False)):
        kept = inputs * (order < count[:, None]).view_as(inputs)
        change = (model(kept) - model(inputs))[:, 0].abs()
        assert torch.equal((change < 0.2) & (count > 0), torch.full((20,), suffices))


def test_a_model_whose_score_falls_with_every_unit_is_searched_in_rounds_without_loss(seed):
    """Contributions of one sign: the loss falls with k, so that there is one number to find."""
    model = Additive((3000,), generator=generator(seed))
    model.w.data.abs_()
    inputs = torch.rand(5, 3000, generator=generator(seed))
    options = {"baseline": "zero", "score": "logit", "tolerance": 100.0, "normalised": False}
    maps = draw((3000,), seed + 1, 5)
    counts = [effective(model, inputs, maps, steps=steps, **options).values for steps in (2, 50, 3000)]
    assert torch.equal(counts[0], counts[2]) and torch.equal(counts[1], counts[2]) and counts[2].max() < 3000


def test_equal_sizes_are_ordered_by_lot_and_reported(seed):
    model, inputs = Additive((8,), generator=generator(seed)), draw((8,), seed, 200)
    options = {"baseline": "zero", "score": "logit", "tolerance": 1.0}
    found = effective(model, inputs, torch.full_like(inputs, -2.0), **options)
    assert (found.tied == 1).all() and len(found.values.unique()) > 3
    exact = effective(model, inputs, model.contributions(inputs, torch.zeros_like(inputs)), **options)
    assert (exact.tied == 0).all()
    assert exact.values.mean() < found.values.mean()


def test_the_search_stops_at_the_first_number_that_suffices(seed):
    model, inputs = Additive((100,)), torch.ones(1, 100)
    model.w.data = torch.linspace(10, 0, 100)
    found = samples(model, inputs, chunk=1)
    batch = harness.api.make_batch(found, model.w.data[None], None)
    on("effective_complexity", batch, baseline="zero", score="logit", tolerance=400.0, normalised=False)
    count = on("effective_complexity", batch, baseline="zero", score="logit", tolerance=400.0, normalised=False).values
    assert found.predictor.forwards == 1 + 2 * count.item() < 60


def test_a_map_of_zeros_has_no_effective_complexity_under_either_definition():
    attributions = torch.tensor([[0.0, 0, 0], [1, 0, 2]])
    for options in ({"definition": "threshold"}, {"baseline": "zero"}):
        found = score("effective_complexity", attributions, **options)
        assert found.values.isnan().tolist() == [True, False] and "0 throughout" in found.reason


def test_a_single_unit_and_a_single_output_have_nothing_to_choose():
    with pytest.raises(NotApplicable, match="single unit"):
        score("effective_complexity", torch.ones(2, 1), baseline="zero")
    assert score("effective_complexity", torch.ones(2, 1), definition="threshold").values.tolist() == [1, 1]
    with pytest.raises(NotApplicable, match="score=output"):
        effective(nn.Linear(4, 1), draw((4,), 0), draw((4,), 1), baseline="zero")
    assert (
        effective(nn.Linear(4, 1), draw((4,), 0), draw((4,), 1), baseline="zero", score="logit").values.isfinite().all()
    )


def test_outputs_that_are_not_finite_leave_no_effective_complexity():
    class Broken(nn.Module):
        def forward(self, x):
            outputs = torch.stack([x.sum(1), x.mean(1)], 1)
            return outputs.masked_fill(((x == 0).sum(1) == 2)[:, None], float("nan"))

    found = effective(Broken(), draw((4,), 0), draw((4,), 1), baseline="zero", score="logit")
    assert found.values.isnan().all() and "not finite" in found.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"definition": "both"},
        {"tolerance": 0.0},
        {"steps": 1},
        {"imputations": 0},
        {"least_attribution": 1.0},
        {"least_attribution": -0.1},
    ],
    ids=str,
)
def test_options_of_effective_complexity_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UserError, match="expected|available"):
        score("effective_complexity", torch.ones(2, 3), **{"baseline": "zero", **wrong})


def test_the_unit_of_effective_complexity_follows_its_options():
    entry = METRICS["effective_complexity"]
    assert entry.kind == "complexity" and entry.direction(entry.options) == "lower"
    assert [entry.unit_of(entry.complete({"normalised": flag})) for flag in (True, False)] == ["share", "count"]
