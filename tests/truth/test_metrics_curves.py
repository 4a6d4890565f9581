"""Perturbation curves on functions whose areas can be written down."""

import itertools
import math
import os

import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics._curve import schedule
from harness.metrics._groups import Grouping, make_groups
from metric_worlds import SHAPES, Additive, Constant, Interacting, draw, generator, on, samples, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
RAW = {"baseline": "zero", "score": "logit"}


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def additive(shape, seed, count=3):
    """An additive model, inputs, contributions per unit against zero, f(x) and f(0)."""
    model, inputs = Additive(shape, g=torch.tanh, generator=generator(seed)), draw(shape, seed, count)
    contributions = model.contributions(inputs, torch.zeros_like(inputs))
    return model, inputs, contributions, model(inputs)[:, 0].detach(), torch.full((count,), model.b)


@pytest.mark.parametrize("kind", SHAPES)
def test_areas_of_an_additive_function_follow_from_its_contributions(kind, seed):
    model, inputs, contributions, full, empty = additive(SHAPES[kind], seed)
    attributions = torch.randn(inputs.shape, generator=generator(seed + 1))
    found = samples(model, inputs)
    per_unit = found.units.reduce(contributions).flatten(1)
    order = found.units.reduce(attributions).flatten(1).argsort(1, descending=True)
    d = per_unit.shape[1]
    u = 1 - (torch.arange(1, d + 1) - 0.5) / d
    gained = (per_unit.gather(1, order) * u).sum(1)
    one_by_one = {**RAW, "steps": d}
    deletion = scores("deletion", model, inputs, attributions, options=one_by_one).values
    insertion = scores("insertion", model, inputs, attributions, options=one_by_one).values
    torch.testing.assert_close(deletion.float(), full - gained, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(insertion.float(), empty + gained, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 4, 5, 7, 32])
@pytest.mark.parametrize("kind", SHAPES)
def test_deletion_and_insertion_of_an_additive_function_add_up_to_its_end_points(kind, steps, seed):
    model, inputs, _, full, empty = additive(SHAPES[kind], seed)
    attributions = torch.randn(inputs.shape, generator=generator(seed + 1))
    deletion, insertion = (
        scores(name, model, inputs, attributions, options={**RAW, "steps": steps}).values
        for name in ("deletion", "insertion")
    )
    torch.testing.assert_close((deletion + insertion).float(), full + empty, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 4, 10, 29, 30, 100])
@pytest.mark.parametrize("kind", SHAPES)
def test_deleting_equals_inserting_in_the_reverse_order_for_any_model_and_number_of_steps(kind, steps, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    attributions = torch.randn(inputs.shape, generator=generator(seed + 1))
    options = {"steps": steps, "baseline": "train_mean"}
    train = draw(SHAPES[kind], seed + 2)
    forwards = scores("deletion", model, inputs, attributions, options=options, train=train)
    backwards = scores("insertion", model, inputs, -attributions, options=options, train=train)
    torch.testing.assert_close(forwards.values, backwards.values, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(forwards.curves, backwards.curves.flip(1), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", SHAPES)
def test_abpc_is_the_aopc_of_most_less_that_of_least_relevant_first(kind, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    maps, more = draw(SHAPES[kind], seed + 1), {"train": draw(SHAPES[kind], seed + 2)}
    most, least = (
        scores("aopc", model, inputs, maps, options={"order": order}, **more).values for order in ("morf", "lerf")
    )
    found = scores("abpc", model, inputs, maps, **more)
    torch.testing.assert_close(found.values, most - least)
    torch.testing.assert_close(found.values, found.curves.mean(1))
    torch.testing.assert_close(scores("abpc", model, inputs, -maps, **more).values, -found.values)
    assert found.values.abs().max() > 1e-4


def test_abpc_of_the_right_map_of_an_additive_function_follows_from_its_contributions(seed):
    model, inputs, parts, *_ = additive((6,), seed)
    lost = [parts.sort(1, descending=down).values.cumsum(1) for down in (True, False)]
    expected = (lost[0] - lost[1]).sum(1) / 7
    found = scores("abpc", model, inputs, parts, options={**RAW, "steps": 6})
    torch.testing.assert_close(found.values.float(), expected, rtol=1e-5, atol=1e-5)


def test_selectivity_is_the_area_under_the_score_while_patches_go(seed):
    model, inputs, parts, full, _ = additive((1, 6, 6), seed)
    maps = draw((1, 6, 6), seed + 1)
    patches = lambda x: x.view(3, 3, 2, 3, 2).sum((2, 4)).flatten(1)
    order = patches(maps).argsort(1, descending=True)
    heights = torch.cat([full[:, None], full[:, None] - patches(parts).gather(1, order).cumsum(1)], 1)
    found = scores("selectivity", model, inputs, maps, options={**RAW, "patch": 2})
    torch.testing.assert_close(found.values.float(), torch.trapezoid(heights, dx=1 / 9, dim=1), rtol=1e-5, atol=1e-5)
    by_deletion = scores("deletion", model, inputs, maps, options={**RAW, "patch": 2, "granularity": "patch"})
    assert torch.equal(by_deletion.values, found.values)


@pytest.mark.parametrize("orders", [1, 3])
@pytest.mark.parametrize("kind", SHAPES)
def test_in_random_order_an_additive_function_keeps_half_whatever_the_orders(kind, orders, seed):
    model, inputs, _, full, empty = additive(SHAPES[kind], seed)
    found = scores("random_order", model, inputs, draw(SHAPES[kind], seed), options={**RAW, "draws": orders})
    torch.testing.assert_close(found.values.float(), (full + empty) / 2, rtol=1e-5, atol=1e-5)
    mirrored = found.curves[:, :1] + found.curves[:, -1:] - found.curves.flip(1)
    torch.testing.assert_close(found.curves, mirrored, rtol=1e-5, atol=1e-5)


def test_random_order_is_the_mean_of_deletion_over_all_orders(seed):
    model, one = Interacting((4,), generator(seed)), draw((4,), seed, 1)
    every = torch.tensor(list(itertools.permutations(range(4)))).float()
    options = {"baseline": "zero", "score": "logit", "steps": 4}
    areas = scores("deletion", model, one.expand(24, 4), every, options=options).values
    found = scores("random_order", model, one, one, options={**options, "draws": 4000}).values
    assert areas.std() > 1e-3
    assert (found - areas.mean()).abs() < 5 * areas.std() / 4000**0.5 + 1e-6  # in pairs it varies less


def test_random_order_does_not_look_at_the_attributions_and_is_evaluated_once_for_all_explainers(seed):
    made = samples(Interacting((1, 8, 8), generator(seed)), draw((1, 8, 8), seed, 4))
    spent, found = [], []
    for explainer in range(2):
        made.predictor.forwards = 0
        batch = make_batch(made, draw((1, 8, 8), seed + explainer, 4), None)
        for score in ("probability", "logit"):
            found.append(on("random_order", batch, steps=16, draws=3, score=score).values)
        spent.append(made.predictor.forwards)
    assert spent == [4 * (2 * 3 * 15 + 2), 0]
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3]) and not torch.equal(*found[:2])
    with pytest.raises(UserError, match="draws"):
        on("random_order", batch, draws=0)


def test_random_orders_are_a_samples_own_and_another_seed_draws_others(seed):
    model, inputs = Interacting((1, 6, 6), generator(seed)), draw((1, 6, 6), seed, 3)
    labels = torch.stack([torch.randint(0, k, (6, 6), generator=generator(seed + k)) for k in (5, 12, 30)])
    options = {"granularity": "segment", "segments": "given", "steps": 6, "draws": 1}
    together = scores("random_order", model, inputs, inputs, options=options, segments=labels).values
    for i in range(3):
        rows = slice(i, i + 1)
        alone = scores("random_order", model, inputs[rows], inputs[rows], options=options, segments=labels[rows])
        torch.testing.assert_close(alone.values, together[rows], rtol=1e-6, atol=1e-7)
    other = scores("random_order", model, inputs, inputs, options=options, segments=labels, seed=5).values
    assert not torch.allclose(other, together, rtol=1e-6)


def test_every_curve_metric_along_one_path_costs_two_passes(seed):
    made = samples(Interacting((1, 8, 8), generator(seed)), draw((1, 8, 8), seed, 4))
    batch = make_batch(made, draw((1, 8, 8), seed + 1, 4), None)
    path = {"steps": 16, "granularity": "patch", "patch": 2, "baseline": "uniform_noise", "imputations": 2}
    for metric in ("deletion", "insertion", "srg", "aopc", "abpc", "selectivity", "irof"):
        on(metric, batch, **path)
    assert made.predictor.forwards == 4 * (2 * 2 * 15 + 1 + 2)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 30, 35, 50176])
@pytest.mark.parametrize("steps", [3, 5, 33])
def test_the_schedule_is_symmetrical_and_runs_from_nothing_to_everything(total, steps):
    counts = schedule(torch.tensor([total]), steps)[0]
    assert counts[0] == 0 and counts[-1] == total
    assert torch.equal(counts.flip(0), total - counts)
    assert (counts.diff() >= 0).all() and counts.diff().max() - counts.diff().min() <= 2


@pytest.mark.parametrize("d", [4, 5, 6, 31])
@pytest.mark.parametrize("steps", [2, 4, 5, 6])
def test_every_step_removes_something_and_no_step_is_left_out(d, steps):
    model, inputs = Interacting((d,), generator(d)), draw((d,), d)
    curve = scores("deletion", model, inputs, inputs, options={"steps": steps, "baseline": "zero"}).curves
    expected = min(steps, d)
    assert curve.shape[1] - 1 == (expected + 1 if d % 2 and expected % 2 == 0 else expected)


@pytest.mark.parametrize("kind", SHAPES)
def test_srg_is_insertion_minus_deletion_and_changes_sign_with_the_attributions(kind, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    attributions = torch.randn(inputs.shape, generator=generator(seed + 1))
    train = draw(SHAPES[kind], seed + 2)
    gain, insertion, deletion, least_first = (
        scores(name, model, inputs, attributions, train=train, options=options).values
        for name, options in (("srg", {}), ("insertion", {}), ("deletion", {}), ("deletion", {"order": "lerf"}))
    )
    torch.testing.assert_close(gain, insertion - deletion)
    torch.testing.assert_close(gain, least_first - deletion)
    torch.testing.assert_close(scores("srg", model, inputs, -attributions, train=train).values, -gain)


def test_the_mean_of_srg_over_all_orders_is_zero_for_any_model_and_bounded_by_its_range(seed):
    d = 5
    model, one = Interacting((d,), generator(seed)), draw((d,), seed, 1)
    orders = torch.tensor(list(itertools.permutations(range(d)))).float()
    gains = scores("srg", model, one.expand(len(orders), d), orders, options={"baseline": "zero"}).values
    assert len(gains) == math.factorial(d) and gains.std() > 1e-4
    assert gains.mean().abs() < 1e-6
    subsets = torch.tensor(list(itertools.product([0.0, 1.0], repeat=d)))
    outputs = model(one * subsets).softmax(1)[:, 0]
    assert gains.abs().max() <= outputs.max() - outputs.min() + 1e-6


def test_a_constant_map_is_ordered_by_lot_and_not_by_position():
    model = Additive((9,))
    model.w.data, model.b = torch.arange(1.0, 10), 0.0
    options = {**RAW, "steps": 9, "tie_draws": 400}
    found = scores("deletion", model, torch.ones(2, 9), torch.ones(2, 9), options=options)
    # One random order has sd 4.3; 400 draws leave 0.22. By position it would be 29.17.
    assert (found.values - 22.5).abs().max() < 4 * 0.22
    assert torch.equal(found.tied, torch.ones(2, dtype=torch.float64))


def test_the_share_of_tied_units_is_told():
    found = scores(
        "deletion", Additive((4,)), torch.ones(2, 4), torch.tensor([[1.0, 2, 2, 3], [1, 2, 3, 4]]), options=RAW
    )
    assert found.tied.tolist() == [0.5, 0.0]


@pytest.mark.parametrize("metric", ["deletion", "insertion", "srg", "aopc"])
def test_only_the_order_of_the_units_matters(metric, seed):
    model, inputs = Interacting((1, 6, 5), generator(seed)), draw((1, 6, 5), seed)
    attributions = torch.randn(inputs.shape, generator=generator(seed + 1))
    reference = scores(metric, model, inputs, attributions).values
    for changed in (attributions**3, 5 * attributions + 3, attributions * torch.tensor([2.0, 0.5, 7]).view(3, 1, 1, 1)):
        assert torch.equal(scores(metric, model, inputs, changed).values, reference)


@pytest.mark.parametrize("metric", ["deletion", "insertion", "srg", "aopc"])
def test_only_the_order_of_segment_means_matters(metric, seed):
    model, inputs = Interacting((1, 6, 6), generator(seed)), draw((1, 6, 6), seed)
    attributions = torch.randn(inputs.shape, generator=generator(seed + 1))
    options = {"granularity": "segment", "segments": "grid:3"}
    reference = scores(metric, model, inputs, attributions, options=options).values
    torch.testing.assert_close(scores(metric, model, inputs, 4 * attributions + 2, options=options).values, reference)


def test_segments_rank_by_their_mean_and_not_by_their_sum():
    labels = torch.tensor([[0, 0, 0, 1]])
    inputs, attributions = torch.ones(1, 1, 1, 4), torch.tensor([1.0, 1, 1, 2]).view(1, 1, 1, 4)
    model = Additive((1, 1, 4))
    model.w.data = torch.tensor([1.0, 1, 1, 10]).view(1, 1, 4)
    options = {**RAW, "granularity": "segment", "segments": "given", "steps": 3}
    found = scores("deletion", model, inputs, attributions, options=options, segments=labels.view(1, 1, 4))
    assert found.curves[0].tolist() == pytest.approx([13.3, 3.3, 3.3, 0.3], abs=1e-4)


@pytest.mark.parametrize("world", ["constant function", "baseline is the input"])
def test_where_nothing_changes_the_curves_are_flat(world, seed):
    inputs, attributions = draw((1, 6, 5), seed, 1), draw((1, 6, 5), seed + 1, 1)
    model = Constant() if world == "constant function" else Interacting((1, 6, 5), generator(seed))
    options = {"baseline": "mean" if world == "constant function" else inputs[0]}
    level = model(inputs).softmax(1)[:, 0].detach().double()
    found = {
        m: scores(m, model, inputs, attributions, options=options) for m in ("deletion", "insertion", "srg", "aopc")
    }
    torch.testing.assert_close(found["deletion"].values, level, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["insertion"].values, level, rtol=1e-6, atol=1e-6)
    assert found["srg"].values.abs() < 1e-6 and found["aopc"].values.abs() < 1e-6


def test_aopc_counts_the_step_at_which_nothing_is_removed(seed):
    model, inputs, contributions, full, _ = additive((6,), seed)
    order = contributions.argsort(1, descending=True)
    drops = torch.cat([torch.zeros(3, 1), contributions.gather(1, order).cumsum(1)], 1)
    for order, expected in (("morf", drops.mean(1)), ("lerf", (drops[:, -1:] - drops).mean(1))):
        found = scores("aopc", model, inputs, contributions, options={**RAW, "steps": 6, "order": order}).values
        torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("score", ["probability", "logit", "log_odds"])
@pytest.mark.parametrize("granularity", ["unit", "patch", "segment"])
@pytest.mark.parametrize("kind", ["grey", "colour"])
def test_the_batched_curve_equals_a_loop_over_samples_and_steps(kind, granularity, score, seed):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed)
    attributions, targets = draw(SHAPES[kind], seed + 1), torch.tensor([0, 1, 2])
    options = {
        "granularity": granularity,
        "patch": 2,
        "segments": "grid:3",
        "steps": 5,
        "score": score,
        "baseline": "blur",
    }
    made = samples(model, inputs)
    for metric in ("deletion", "insertion"):
        found = scores(metric, model, inputs, attributions, options=options, targets=targets, chunk=4)
        for i in range(3):
            expected = _curve_by_hand(metric, model, made, attributions[i].sum(0), options, i, int(targets[i]))
            torch.testing.assert_close(found.curves[i], expected, rtol=1e-6, atol=1e-6)


def _curve_by_hand(metric, model, made, attribution, options, i, target):
    labels = make_groups(made, Grouping(options["granularity"], options["patch"], options["segments"])).labels
    labels = torch.arange(attribution.numel()).view(attribution.shape) if labels is None else labels[i]
    means = [(attribution[labels == s].double().mean().item(), s) for s in range(int(labels.max()) + 1)]
    order = [s for _, s in sorted(means, reverse=True)]
    removed, heights = made.baseline(options["baseline"])[i], []
    for k in range(6):
        mirrored = min(k, 5 - k)
        count = math.floor(mirrored * len(order) / 5 + 0.5)
        count = count if k == mirrored else len(order) - count
        before, after = (made.inputs[i], removed) if metric == "deletion" else (removed, made.inputs[i])
        x = before.clone()
        for segment in order[:count]:
            x[:, labels == segment] = after[:, labels == segment]
        logits = model(x[None])[0].detach().double()
        p = logits.softmax(0)[target]
        heights.append({"logit": logits[target], "probability": p, "log_odds": (p / (1 - p)).log()}[options["score"]])
    return torch.stack(heights)


def test_random_baselines_are_averaged_over_their_draws(seed):
    model, inputs = Interacting((1, 6, 5), generator(seed)), draw((1, 6, 5), seed, 1)
    attributions = draw((1, 6, 5), seed + 1, 1)
    made = samples(model, inputs, seed=seed)
    singles = [
        scores(
            "deletion", model, inputs, attributions, options={"baseline": made.baseline("uniform_noise", k)[0]}
        ).curves
        for k in range(3)
    ]
    options = {"baseline": "uniform_noise", "imputations": 3}
    together = scores("deletion", model, inputs, attributions, options=options, seed=seed).curves
    torch.testing.assert_close(together, torch.stack(singles).mean(0), rtol=1e-6, atol=1e-6)
    assert (singles[0] - singles[1]).abs().max() > 1e-4


def test_four_metrics_under_every_score_cost_two_passes_and_a_second_explainer_no_end_points():
    inputs, steps = draw((1, 8, 8), 0, 4), 16
    made = samples(Interacting((1, 8, 8)), inputs)
    for explainer, expected in ((0, 4 * (2 * (steps - 1) + 2)), (1, 4 * 2 * (steps - 1))):
        made.predictor.forwards = 0
        batch = make_batch(made, draw((1, 8, 8), explainer + 5, 4), None)
        for score in ("probability", "logit", "log_odds"):
            for metric in ("deletion", "insertion", "srg", "aopc"):
                on(metric, batch, steps=steps, score=score)
        on("aopc", batch, steps=steps, order="lerf")
        assert made.predictor.forwards == expected


def test_segments_of_unequal_number_score_alone_as_in_company(seed):
    model, inputs = Interacting((1, 6, 6), generator(seed)), draw((1, 6, 6), seed, 4)
    attributions = draw((1, 6, 6), seed + 1, 4)
    labels = torch.stack([torch.randint(0, k, (6, 6), generator=generator(seed + k)) for k in (3, 9, 20, 36)])
    options = {"granularity": "segment", "segments": "given", "steps": 8}
    together = scores("srg", model, inputs, attributions, segments=labels, options=options)
    for i in range(4):
        part = slice(i, i + 1)
        alone = scores("srg", model, inputs[part], attributions[part], segments=labels[part], options=options)
        torch.testing.assert_close(alone.values, together.values[part], rtol=1e-6, atol=1e-7)
        assert torch.equal(alone.tied, together.tied[part])


@pytest.mark.parametrize("steps", [2, 8, 32])
def test_with_fewer_segments_than_steps_every_removal_counts_once_and_is_evaluated_once(steps, seed):
    model, inputs = Interacting((1, 6, 6), generator(seed)), draw((1, 6, 6), seed, 2)
    attributions = draw((1, 6, 6), seed + 1, 2)
    labels = torch.stack([torch.arange(36).view(6, 6) // 12, torch.arange(36).view(6, 6) // 6])
    made = samples(model, inputs, segments=labels)
    batch = make_batch(made, attributions, None)
    options = {**RAW, "granularity": "segment", "segments": "given", "steps": steps}
    aopc, lerf, abpc = (
        on(metric, batch, **options, **more).values
        for metric, more in (("aopc", {}), ("aopc", {"order": "lerf"}), ("abpc", {}))
    )
    if steps == 32:
        assert made.predictor.forwards == 2 * (2 + 5) + 2 * 2  # both orders, and the shared end points
    for i, count in enumerate((3, 6)):
        means = torch.stack([attributions[i, 0][labels[i] == label].mean() for label in range(count)])
        point = [round_half_up(k * count / (steps | 1), count) for k in range((steps | 1) + 1)]
        drops = {}
        for name, order in (("morf", means.argsort(descending=True)), ("lerf", means.argsort())):
            heights = [
                model(inputs[i : i + 1] * ~torch.isin(labels[i], order[:gone]))[0, 0].item()
                for gone in dict.fromkeys(point)
            ]
            drops[name] = sum(heights[0] - height for height in heights) / len(heights)
        assert aopc[i].item() == pytest.approx(drops["morf"], abs=1e-5)
        assert lerf[i].item() == pytest.approx(drops["lerf"], abs=1e-5)
        assert abpc[i].item() == pytest.approx(drops["morf"] - drops["lerf"], abs=1e-5)


def round_half_up(value, count):
    """A place on the way from 0 to ``count`` as a whole number, rounded alike from both ends."""
    return math.floor(value + 0.5) if value <= count / 2 else count - math.floor(count - value + 0.5)


def test_what_cannot_be_asked_is_said():
    inputs = draw((1, 6, 5), 0)
    for options, error in (
        ({"order": "most"}, UserError),
        ({"granularity": "pixel"}, UserError),
        ({"steps": 1}, UserError),
        ({"score": "margin"}, UserError),
        ({"granularity": "patch", "patch": 6}, NotApplicable),
    ):
        with pytest.raises(error):
            scores("deletion", Interacting((1, 6, 5)), inputs, inputs, options=options)
    single = nn.Sequential(nn.Flatten(), nn.Linear(30, 1))
    with pytest.raises(NotApplicable):
        scores("deletion", single, inputs, inputs)
    assert scores("deletion", single, inputs, inputs, options={"score": "logit"}).values.isfinite().all()
