"""The two monotonicities, on functions whose steps and reactions are known in closed form."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from metric_worlds import SHAPES, Additive, Constant, Interacting, draw, generator, on, samples, scores

ZERO = {"baseline": "zero", "score": "logit", "steps": 30}
LABELS = torch.arange(30).view(1, 6, 5) // torch.tensor([6, 15, 4]).view(3, 1, 1)

pytestmark = pytest.mark.usefixtures("seed")


def world(shape, seed, count=3):
    model, inputs = Additive(shape, g=torch.sin, generator=generator(seed)), draw(shape, seed, count)
    return model, inputs, model.contributions(inputs, torch.zeros_like(inputs))


@pytest.mark.parametrize("kind", SHAPES)
def test_every_order_is_monotone_where_every_contribution_is_positive(kind, seed):
    model, inputs, _ = world(SHAPES[kind], seed)
    with torch.no_grad():
        model.w.abs_()
        inputs = inputs.abs().clamp(max=1.5)
    maps = draw(SHAPES[kind], seed + 1)
    for verdict in (False, True):
        found = scores("monotonicity", model, inputs, maps, options=ZERO | {"verdict": verdict}).values
        assert (found == 1).all()
    fallen = scores("monotonicity", model, -inputs, maps, options=ZERO | {"verdict": True}).values
    assert (fallen == 0).all() and (scores("monotonicity", model, -inputs, maps, options=ZERO).values == 0).all()


def test_one_by_one_in_any_order_the_share_of_steps_is_that_of_contributions_not_negative(seed):
    model, inputs, contributions = world((6, 5), seed)
    model, contributions = Additive((30,), g=torch.sin, generator=generator(seed)), contributions.flatten(1)
    inputs = inputs.flatten(1)
    inputs[2] = inputs[2].abs().clamp(max=1.5) * model.w.detach().sign()
    contributions = model.contributions(inputs, torch.zeros_like(inputs))
    share = (contributions >= 0).double().mean(1)
    assert share[2] == 1 and (share[:2] < 1).all()
    for maps in (contributions, draw((30,), seed + 1), torch.zeros(3, 30)):
        found = scores("monotonicity", model, inputs, maps, options=ZERO)
        torch.testing.assert_close(found.values, share)
        verdict = scores("monotonicity", model, inputs, maps, options=ZERO | {"verdict": True})
        assert verdict.values.tolist() == [0, 0, 1]
    assert (found.tied == 1).all()  # the map of zeros, in an order by lot


@pytest.mark.parametrize("reference", ["zero", "train_mean"])
def test_units_enter_from_the_baseline_in_increasing_order_of_size_whatever_the_sign(reference, seed):
    model, inputs, train = Interacting((8,), generator(seed)), draw((8,), seed), draw((8,), seed + 1, 20)
    maps = draw((8,), seed + 2)
    options = ZERO | {"baseline": reference}
    found = scores("monotonicity", model, inputs, maps, options=options, train=train)
    start = torch.zeros(8) if reference == "zero" else train.mean(0)
    for i in range(3):
        x, heights = start.clone(), [model(start[None])[0, 0].item()]
        for at in maps[i].abs().argsort().tolist():
            x[at] = inputs[i, at]
            heights.append(model(x[None])[0, 0].item())
        torch.testing.assert_close(found.curves[i], torch.tensor(heights).double(), rtol=0, atol=1e-6)
        rises = [after >= before for before, after in zip(heights, heights[1:], strict=False)]
        assert found.values[i].item() == pytest.approx(sum(rises) / 8)
    flipped = scores("monotonicity", model, inputs, -maps, options=options, train=train)
    assert torch.equal(flipped.curves, found.curves)


def test_a_fall_within_the_rounding_is_none():
    model, inputs = Additive((4,)), torch.ones(1, 4)
    with torch.no_grad():
        model.w.copy_(torch.tensor([1.0, -0.125, 1.0, 1.0]))
    maps = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    largest = 3.175  # f(x) with the bias of 0.3, the largest on the way

    def share(tolerance):
        return scores("monotonicity", model, inputs, maps, options=ZERO | {"rounding": tolerance}).values.item()

    assert share(0.0) == share(0.12 / largest) == 0.75 and share(0.13 / largest) == 1


@pytest.mark.parametrize("granularity", ["patch", "segment"])
def test_groups_enter_by_the_mean_of_the_sizes_of_their_units(granularity, seed):
    model, inputs, maps = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    options = ZERO | {"granularity": granularity, "patch": 2, "segments": "given"}
    found = scores("monotonicity", model, inputs, maps, options=options, segments=LABELS)
    rows, columns = torch.arange(6) // 2, torch.arange(5) // 2
    for i in range(3):
        labels = rows[:, None] * 3 + columns if granularity == "patch" else LABELS[i]
        sizes = maps[i].sum(0).abs()
        groups = labels.unique()
        order = groups[torch.stack([sizes[labels == k].mean() for k in groups]).argsort()]
        entered = [torch.isin(labels, order[:n]) for n in range(len(order) + 1)]
        heights = model(torch.stack([torch.where(there, inputs[i], 0.0) for there in entered])).detach()[:, 0].double()
        rises = (heights.diff() >= 0).double().mean()  # of the steps at which a group enters, and no others
        assert found.values[i].item() == pytest.approx(rises.item())
        gaps = (found.curves[i][:, None] - heights).abs().amin(1)
        assert gaps.max() < 1e-5 and found.curves[i, [0, -1]].tolist() == pytest.approx(heights[[0, -1]].tolist())


def test_a_score_that_never_moves_does_not_fall_and_one_that_is_no_number_has_none(seed):
    inputs, maps = draw((1, 6, 5), seed), draw((1, 6, 5), seed + 1)
    assert (scores("monotonicity", Constant(), inputs, maps).values == 1).all()

    class Broken(nn.Module):
        def forward(self, x):
            outputs = torch.stack([x.flatten(1).sum(1), x.flatten(1).mean(1)], 1)
            return outputs.masked_fill((x == 0).flatten(1).any(1)[:, None], float("nan"))

    for metric in ("monotonicity", "monotonicity_correlation"):
        found = scores(metric, Broken(), inputs, maps, options={"baseline": "zero"})
        assert found.values.isnan().all() and "not finite" in found.reason


def test_verdict_and_rounding_cost_no_further_evaluations():
    made = samples(Interacting((1, 6, 5)), draw((1, 6, 5), 0))
    batch = make_batch(made, draw((1, 6, 5), 1), None)
    for options in ({}, {"verdict": True}, {"rounding": 0.1}):
        on("monotonicity", batch, steps=10, **options)
    assert made.predictor.forwards == 3 * (9 + 2)


def test_the_correlation_is_perfect_for_sizes_of_weights_where_every_unit_is_displaced_alike(seed):
    model, inputs = Additive((9,), generator=generator(seed)), draw((9,), seed, 1)
    train = inputs + 0.7 * (torch.randint(0, 2, (50, 9), generator=generator(seed)) * 2 - 1)
    weights = model.w.detach()[None]
    for maps in (weights, -weights, weights.abs() * torch.randn(1, 9).sign()):
        found = scores("monotonicity_correlation", model, inputs, maps, train=train).values
        assert found.item() == pytest.approx(1)
    least_for_most = 1 / weights
    found = scores("monotonicity_correlation", model, inputs, least_for_most, train=train).values
    assert found.item() == pytest.approx(-1)


@pytest.mark.parametrize("score", ["logit", "probability"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_correlation_equals_a_loop_over_units_and_training_inputs(kind, score, seed):
    shape = SHAPES[kind]
    model, inputs, train = Interacting(shape, generator(seed)), draw(shape, seed), draw(shape, seed + 1, 30)
    maps = draw(shape, seed + 2)
    options = {"draws": 5, "score": score}
    found = scores("monotonicity_correlation", model, inputs, maps, train=train, options=options, chunk=9).values
    made = samples(model, inputs, train=train)
    drawn = [made.baseline("train_sample", m) for m in range(5)]
    units = made.units
    for i in range(3):
        value = lambda x: (model(x[None]).softmax(1) if score == "probability" else model(x[None]))[0, 0].item()
        before, changed = value(inputs[i]), []
        for at in range(units.count):
            gone = units.expand((torch.arange(units.count) == at).view(1, *units.shape))[0]
            changed.append(sum((value(torch.where(gone, d[i], inputs[i])) - before) ** 2 for d in drawn) / 5)
        expected = spearmanr(units.reduce(maps)[i].flatten().abs(), changed).statistic
        assert found[i].item() == pytest.approx(expected, abs=2e-3)


def test_a_group_has_the_size_of_its_sum_and_fewer_groups_cost_less(seed):
    model, train = Interacting((1, 8, 8), generator(seed)), draw((1, 8, 8), seed, 20)
    made = samples(model, draw((1, 8, 8), seed), train=train)
    maps = draw((1, 8, 8), seed + 1)
    first = on("monotonicity_correlation", make_batch(made, maps, None), draws=4, most_groups=16).values
    assert made.predictor.forwards == 3 * (4 * 16 + 1)
    sums = nn.functional.avg_pool2d(maps, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    second = on("monotonicity_correlation", make_batch(made, -sums, None), draws=4, most_groups=16).values
    torch.testing.assert_close(first, second)
    on("monotonicity_correlation", make_batch(made, maps.flip(0), None), draws=4, most_groups=16, score="probability")
    assert made.predictor.forwards == 3 * (4 * 16 + 1)  # for all explainers and scores
    on("monotonicity_correlation", make_batch(made, maps, None), draws=100, most_groups=16, baseline="zero")
    assert made.predictor.forwards == 3 * (4 * 16 + 1 + 16)  # zero has no second draw


def test_more_draws_approach_the_expectation_over_the_training_inputs(seed):
    model, inputs, train = Additive((12,), generator=generator(seed)), draw((12,), seed), draw((12,), seed + 1, 25)
    expected = (model.w.detach() ** 2 * (train[None] - inputs[:, None]).square().mean(1)).sqrt()
    found = scores("monotonicity_correlation", model, inputs, expected, train=train, options={"draws": 500}).values
    assert (found > 0.9).all()


@pytest.mark.parametrize("metric", ["monotonicity", "monotonicity_correlation"])
def test_a_sample_alone_scores_as_in_company(metric, seed):
    model, inputs, train = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1, 9)
    maps, options = draw((3, 6, 5), seed + 2), {"draws": 4} if metric == "monotonicity_correlation" else {}
    together = scores(metric, model, inputs, maps, train=train, options=options).values
    alone = [
        scores(metric, model, inputs[i:][:1], maps[i:][:1], train=train, options=options, chunk=5).values
        for i in range(3)
    ]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-12)


def test_what_cannot_be_is_said(seed):
    inputs, maps = draw((7,), seed), draw((7,), seed + 1)
    with pytest.raises(NotApplicable, match="train"):
        scores("monotonicity_correlation", Interacting((7,)), inputs, maps)
    for metric in ("monotonicity", "monotonicity_correlation"):
        with pytest.raises(NotApplicable):
            scores(metric, nn.Linear(1, 2), torch.ones(2, 1), torch.ones(2, 1), options={"baseline": "zero"})
    with pytest.raises(UserError, match="rounding"):
        scores("monotonicity", Interacting((7,)), inputs, maps, options={"rounding": -1.0})
    flat = scores("monotonicity_correlation", Constant(), inputs, maps, options={"baseline": "zero"})
    assert flat.values.isnan().all() and "does not vary" in flat.reason
