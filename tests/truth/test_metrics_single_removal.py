"""Scores over single removals, on functions whose contributions are known and against loops that remove one by one."""

import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics._groups import Grouping, make_groups
from harness.metrics._removal import changes, over_groups
from harness.metrics._similarity import pearson
from harness.registry import METRICS
from harness.task import LOG_PROBABILITY, OUTPUT
from metric_worlds import SHAPES, Additive, Constant, Interacting, draw, generator, on, samples, scores

ESTIMATES = ("faithfulness_estimate", "single_deletion")
# Segments of three samples that differ in their number: 5, 2 and 8.
LABELS = torch.arange(30).view(1, 6, 5) // torch.tensor([6, 15, 4]).view(3, 1, 1)
GIVEN = {"granularity": "segment", "segments": "given"}
ZERO = {"baseline": "zero"}

pytestmark = pytest.mark.usefixtures("seed")


def world(kind, seed, count=3):
    model, inputs = Additive(SHAPES[kind], g=torch.sin, generator=generator(seed)), draw(SHAPES[kind], seed, count)
    return model, inputs, model.contributions(inputs, torch.zeros_like(inputs))


def per_unit(maps, kind):
    return {"colour": lambda m: m.sum(1), "grey": lambda m: m.sum(1), "tokens": lambda m: m.sum(2)}.get(
        kind, lambda m: m
    )(maps).flatten(1)


def removed_by_hand(model, made, labels, i, baseline="zero", score=lambda logits: logits[0, 0]):
    """f(x) - f(x without the segment), for each of one sample's segments."""
    before = score(model(made.inputs[i][None]).double())
    drops = []
    for k in labels.unique().tolist():
        x = torch.where(made.units.expand((labels == k)[None])[0], made.baseline(baseline)[i], made.inputs[i])
        drops.append((before - score(model(x[None]).double())).item())
    return drops


def sums_by_hand(per_unit_map, labels):
    return [per_unit_map[labels == k].double().sum().item() for k in labels.unique().tolist()]


@pytest.mark.parametrize("kind", SHAPES)
def test_on_an_additive_model_the_estimate_is_the_correlation_of_attributions_and_contributions(kind, seed):
    model, inputs, contributions = world(kind, seed)
    maps = draw(SHAPES[kind], seed + 1)
    found = scores("faithfulness_estimate", model, inputs, maps, options=ZERO).values
    expected = pearson(per_unit(maps, kind), per_unit(contributions, kind))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


OF_PATCHES = [name for name, entry in METRICS.items() if "patch" in entry.options]


@pytest.mark.parametrize("metric", OF_PATCHES)
def test_automatic_groups_are_patches_of_the_size_that_is_given(metric, seed):
    model, inputs, maps = Interacting((1, 6, 6), generator(seed)), draw((1, 6, 6), seed), draw((1, 6, 6), seed + 1)
    own = {name: 3 for name in ("draws", "sizes") if name in METRICS[metric].options}
    of = lambda **grouped: scores(metric, model, inputs, maps, options=own | grouped, value_range=(-3.0, 3.0)).values
    automatic, given = (of(granularity=each, patch=3) for each in ("auto", "patch"))
    assert automatic.isfinite().any()
    torch.testing.assert_close(automatic, given, equal_nan=True)


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("metric", ESTIMATES)
def test_true_contributions_are_perfect_and_reversed_ones_perfectly_wrong(metric, kind, seed):
    model, inputs, contributions = world(kind, seed)
    for sign in (1, -1):
        found = scores(metric, model, inputs, sign * contributions, options=ZERO).values
        torch.testing.assert_close(found, torch.full_like(found, sign), rtol=0, atol=1e-4)


@pytest.mark.parametrize("score", ["logit", "probability", "log_odds"])
@pytest.mark.parametrize("baseline", ["mean", "blur", "uniform_noise"])
def test_single_deletion_is_spearman_over_sixteen_patches_removed_one_by_one(baseline, score, seed):
    model, inputs, maps = Interacting((3, 9, 7), generator(seed)), draw((3, 9, 7), seed), draw((3, 9, 7), seed + 1)
    options = {"baseline": baseline, "score": score}
    found = scores("single_deletion", model, inputs, maps, options=options, chunk=7).values
    made = samples(model, inputs)
    rows, columns = torch.arange(9) * 4 // 9, torch.arange(7) * 4 // 7
    labels = rows[:, None] * 4 + columns
    assert len(labels.unique()) == 16
    scored = {
        "logit": lambda logits: logits[0, 0],
        "probability": lambda logits: logits.softmax(1)[0, 0],
        "log_odds": lambda logits: logits[0, 0] - logits[0, 1:].logsumexp(0),
    }[score]
    for i in range(3):
        drops = removed_by_hand(model, made, labels, i, baseline, scored)
        expected = spearmanr(sums_by_hand(maps[i].sum(0), labels), drops).statistic
        assert found[i].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", ESTIMATES)
def test_samples_that_differ_in_their_number_of_segments_each_count_their_own(metric, seed):
    model, inputs, maps = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    options = ZERO | (GIVEN if metric == "faithfulness_estimate" else {"segments": "given"})
    found = scores(metric, model, inputs, maps, options=options, segments=LABELS).values
    made, correlation = samples(model, inputs), pearsonr if metric == "faithfulness_estimate" else spearmanr
    for i in range(3):
        drops = removed_by_hand(model, made, LABELS[i], i)
        expected = correlation(sums_by_hand(maps[i].sum(0), LABELS[i]), drops).statistic
        assert found[i].item() == pytest.approx(expected, abs=1e-5)
        alone = scores(metric, model, inputs[i:][:1], maps[i:][:1], options=options, segments=LABELS[i]).values
        torch.testing.assert_close(alone, found[i:][:1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("number", [2, 7, 8, 30])
def test_ranked_groups_are_disjoint_nearly_equal_and_in_the_order_of_attribution(number, seed):
    model, inputs, maps = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    options = {"granularity": "ranked", "most_groups": number, **ZERO}
    found = scores("faithfulness_estimate", model, inputs, maps, options=options).values
    made = samples(model, inputs)
    for i in range(3):
        order = maps[i].sum(0).flatten().argsort(descending=True)
        parts = [[at for at in range(30) if at * number // 30 == group] for group in range(number)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        labels = torch.zeros(30, dtype=torch.long)
        for group, part in enumerate(parts):
            labels[order[part]] = group
        labels = labels.view(6, 5)
        expected = pearsonr(sums_by_hand(maps[i].sum(0), labels), removed_by_hand(model, made, labels, i)).statistic
        assert found[i].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "groups", "expected"),
    [
        ((1, 6, 5), 200, 30),
        ((1, 12, 12), 200, 144),
        ((1, 16, 16), 200, 196),
        ((2, 12, 12), 50, 49),
        ((60,), 9, 60),
        ((40, 2), 16, 16),
        ((1, 2, 9), 3, 1),
    ],
)
def test_units_go_one_by_one_where_they_are_few_and_else_by_a_grid_of_no_more_parts_than_asked_for(
    shape, groups, expected, seed
):
    made = samples(Interacting(shape, generator(seed)), draw(shape, seed, 2))
    on("faithfulness_estimate", make_batch(made, draw(shape, seed + 1, 2), None), most_groups=groups, **ZERO)
    assert made.predictor.forwards == 2 * (expected + 1)


def test_twenty_explainers_and_several_metrics_cost_the_evaluations_of_one():
    made = samples(Interacting((1, 6, 5)), draw((1, 6, 5), 0))
    for explainer in range(20):
        batch = make_batch(made, draw((1, 6, 5), explainer), None)
        for score in ("logit", "probability"):
            on("faithfulness_estimate", batch, score=score)
            on("faithfulness_estimate", batch, score=score, granularity="unit")
        on("non_sensitivity", batch, baseline="typical")
    assert made.predictor.forwards == 3 * 31


def test_ranked_groups_are_evaluated_once_for_each_explainer():
    made = samples(Interacting((1, 6, 5)), draw((1, 6, 5), 0))
    for explainer in range(4):
        batch = make_batch(made, draw((1, 6, 5), explainer), None)
        for score in ("logit", "probability"):
            on("faithfulness_estimate", batch, score=score, granularity="ranked", most_groups=6)
    assert made.predictor.forwards == 3 * (4 * 6 + 1)


@pytest.mark.parametrize("metric", ESTIMATES)
def test_where_nothing_varies_there_is_no_correlation_and_it_says_why(metric, seed):
    inputs, maps = draw((1, 6, 5), seed), draw((1, 6, 5), seed + 1)
    flat = torch.full_like(maps, 0.25) if metric == "faithfulness_estimate" else torch.zeros_like(maps)
    for model, given in ((Constant(), maps), (Interacting((1, 6, 5)), flat)):
        found = scores(metric, model, inputs, given)
        assert found.values.isnan().all() and "does not vary" in found.reason
    equal = Additive((7,), generator=generator(seed))
    equal.w.data.fill_(0.1)  # every unit contributes the same, but for rounding
    ones = torch.full((3, 7), 1.1)
    assert scores(metric, equal, ones, draw((7,), seed), options={"segments": "unit", **ZERO}).values.isnan().all()


def test_units_without_effect_are_tied_however_their_outputs_were_rounded(seed):
    made = samples(Interacting((7,), generator(seed)), 100 + draw((7,), seed))
    clean = made.intact()
    tracked = clean[:, None].repeat(1, 4, 1)
    tracked[:, 0, OUTPUT] *= 1 + 2e-7
    tracked[:, 1, OUTPUT] *= 1 - 2e-7
    tracked[:, 2, OUTPUT] *= 1 + 1e-4
    found = changes(made, tracked, "logit")
    assert (found[:, [0, 1, 3]] == 0).all() and (found[:, 2] != 0).all()
    tracked[:, 0] = float("nan")
    tracked[:, 1, LOG_PROBABILITY] = float("inf")
    assert changes(made, tracked, "logit")[:, 0].isnan().all()
    assert changes(made, tracked, "probability")[:, 1].isinf().all()


def test_drops_that_differ_by_rounding_alone_do_not_vary(seed):
    made = samples(Interacting((7,), generator(seed)), draw((7,), seed))
    found, values = make_groups(made, Grouping()), draw((7,), seed).double()
    drops = 1 + 1e-5 * torch.randn(3, 7).double()
    scale = torch.tensor([100.0, 1.0, 0.0])  # rounding of a score of 100, of 1, and of none
    assert over_groups(pearson, values, drops, found, scale).isnan().tolist() == [True, False, False]


class Some(nn.Module):
    """Reacts to some columns, by their weights, and to no others."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def forward(self, x):
        f = (x.double() * self.weights).sum(1)
        return torch.stack([f, 0 * f], 1).float()


def test_non_sensitivity_is_the_share_of_units_that_are_zero_for_one_of_map_and_model_alone(seed):
    g = generator(seed)
    dead, blank = torch.rand(9, generator=g) < 0.5, torch.rand(3, 9, generator=g) < 0.5
    blank[:, 0], dead[0] = False, False
    weights = (1 + torch.rand(9, generator=g)).masked_fill(dead, 0).double()
    inputs, maps = 1 + torch.rand(3, 9, generator=g), (1 + torch.rand(3, 9, generator=g)).masked_fill(blank, 0)
    expected = (dead ^ blank).double().mean(1)
    for eps in (0.0, 1e-3):
        for factor in (1, -1e-6, 1e6):
            options = {"attribution_eps": eps, "output_eps": eps, **ZERO}
            found = scores("non_sensitivity", Some(weights), inputs, factor * maps, options=options).values
            torch.testing.assert_close(found, expected)
    nothing = scores("non_sensitivity", Some(weights), inputs, torch.zeros(3, 9), options=ZERO).values
    torch.testing.assert_close(nothing, (~dead).double().mean().expand(3))


@pytest.mark.parametrize("train", [True, False])
def test_the_model_reacts_to_a_unit_that_is_0_already_and_a_map_that_says_otherwise_is_wrong(train, seed):
    g = generator(seed)
    weights = (1 + torch.rand(9, generator=g)).masked_fill(torch.rand(9, generator=g) < 0.3, 0).double()
    empty = torch.rand(3, 9, generator=g) < 0.5
    inputs = (1 + torch.rand(3, 9, generator=g)).masked_fill(empty, 0)
    more = {"train": draw((9,), seed, 40)} if train else {"value_range": (0.0, 2.0)}
    gradient, product = weights.float().expand(3, 9), weights.float() * inputs

    def score(maps, **options):
        return scores("non_sensitivity", Some(weights), inputs, maps, options=options, **more).values

    right, wrong = score(gradient), score(product)
    assert right.tolist() == [0, 0, 0]
    torch.testing.assert_close(wrong, (empty & (weights != 0)).double().mean(1))
    assert score(product, **ZERO).tolist() == [0, 0, 0]  # removed to 0, it seems right


def test_each_threshold_of_non_sensitivity_is_what_it_says():
    weights, inputs = torch.tensor([1.0, 0.5, 0.1, 0.0]).double(), torch.ones(1, 4)
    maps = torch.tensor([[2.0, 0.2, 0.1, 0.05]])
    typical = maps.square().mean().sqrt().item()

    def share(attribution, output, **options):
        options = {"attribution_eps": attribution, "output_eps": output, **ZERO, **options}
        return scores("non_sensitivity", Some(weights), inputs, maps, options=options).values.item()

    assert share(0.0, 0.0) == 0.25  # the map scores a unit that the model does not know
    assert share(0.06 / typical, 0.0) == 0.0
    assert share(0.15 / typical, 0.0) == 0.25
    assert share(0.15 / typical, 0.2) == 0.0
    assert share(0.25 / typical, 0.2) == 0.25
    assert share(0.25 / typical, 0.7) == 0.0
    assert share(9.0, 0.0) == 0.75


def test_a_unit_reacts_by_the_root_mean_square_over_draws_of_a_random_baseline(seed):
    weights, inputs = torch.rand(6, generator=generator(seed)).double(), draw((6,), seed)
    train, maps = draw((6,), seed + 1, 40), torch.ones(3, 6)
    made = samples(Some(weights), inputs, train=train)
    drawn = torch.stack([made.baseline("train_sample", m) for m in range(8)])
    typical = (weights * (drawn - inputs).double()).square().mean(0).sqrt()
    for eps in typical.flatten().quantile(torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)).tolist():
        options = {"baseline": "train_sample", "draws": 8, "output_eps": eps, "attribution_eps": 0.5}
        found = scores("non_sensitivity", Some(weights), inputs, maps, train=train, options=options).values
        torch.testing.assert_close(found, (typical <= eps).double().mean(1))


@pytest.mark.parametrize("metric", [*ESTIMATES, "non_sensitivity"])
def test_one_sample_alone_and_any_chunk_give_the_same(metric, seed):
    model, inputs, maps = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    options = {"baseline": "uniform_noise"} | (
        {"output_eps": 0.05, "attribution_eps": 0.4, "draws": 3} if metric == "non_sensitivity" else {}
    )
    together = scores(metric, model, inputs, maps, options=options).values
    assert len(together.unique()) > 1
    for chunk in (1, 11):
        alone = [
            scores(metric, model, inputs[i:][:1], maps[i:][:1], options=options, chunk=chunk).values for i in range(3)
        ]
        torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-12)


def test_outputs_that_are_not_numbers_give_none(seed):
    inputs, maps = draw((1, 6, 5), seed), draw((1, 6, 5), seed + 1)

    class Broken(nn.Module):
        def forward(self, x):
            outputs = torch.stack([x.flatten(1).sum(1), x.flatten(1).mean(1)], 1)
            return outputs.masked_fill((x == 0).flatten(1).any(1)[:, None], float("nan"))

    for metric in (*ESTIMATES, "non_sensitivity"):
        found = scores(metric, Broken(), inputs, maps, options=ZERO)
        assert found.values.isnan().all() and "not finite" in found.reason


@pytest.mark.parametrize(
    ("metric", "options", "words"),
    [
        ("faithfulness_estimate", {"granularity": "rankd"}, "ranked"),
        ("faithfulness_estimate", {"most_groups": 1}, "most_groups"),
        ("non_sensitivity", {"granularity": "ranked"}, "auto"),
        ("non_sensitivity", {"draws": 0}, "draws"),
        ("faithfulness_estimate", {"granularity": "ranked", "most_groups": 1}, "most_groups"),
        ("non_sensitivity", {"attribution_eps": -1.0}, "attribution_eps"),
        ("non_sensitivity", {"output_eps": -1.0}, "output_eps"),
        ("single_deletion", {"score": "loss"}, "score"),
        ("single_deletion", {"baseline": "zeros"}, "baseline"),
    ],
)
def test_a_wrong_option_is_told_in_one_line(metric, options, words):
    with pytest.raises(UserError, match=words):
        scores(metric, Interacting((1, 6, 5)), draw((1, 6, 5), 0), draw((1, 6, 5), 1), options=options)


def test_what_cannot_be_is_said():
    one = torch.ones(2, 1)
    for metric in ("faithfulness_estimate", "non_sensitivity"):
        with pytest.raises(NotApplicable):
            scores(metric, nn.Linear(1, 2), one, one)
    with pytest.raises(NotApplicable, match="table"):
        scores("single_deletion", Interacting((7,)), draw((7,), 0), draw((7,), 1), options={"segments": "grid:4"})


def test_non_sensitivity_is_a_share_of_each_samples_own_groups(seed):
    model, inputs, maps = Interacting((1, 6, 6), generator(seed)), draw((1, 6, 6), seed, 2), torch.zeros(2, 1, 6, 6)
    labels = torch.stack([torch.arange(36).view(6, 6) // 12, torch.arange(36).view(6, 6) // 4])
    options = {"granularity": "segment", "segments": "given"}
    found = scores("non_sensitivity", model, inputs, maps, segments=labels, options=options)
    assert found.values.tolist() == [1, 1]  # the model reacts to every segment, the map to none
