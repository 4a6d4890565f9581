"""Agreement of two maps: OpenXAI's numbers on maps without ties, and the mean over all orders of equal units."""

import itertools
import os

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

import harness
from harness.engine.explain import Explaining
from harness.errors import NotApplicable, UserError
from harness.registry import EXPLAINERS
from metric_worlds import Constant, Interacting, draw, generator, gradient, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
TOP = ("feature_agreement", "rank_agreement", "sign_agreement", "signed_rank_agreement")
FAMILY = (*TOP, "pairwise_rank_agreement")


def score(name, maps, truth, **options):
    maps, truth = torch.as_tensor(maps), torch.as_tensor(truth)
    data = harness.Data(torch.zeros_like(maps), torch.zeros(len(maps), dtype=torch.long), truth=truth)
    return harness.score(name, Constant().eval(), data, maps, **options)


def by_hand(name, a, t, k, order, orders_of_truth):
    """One agreement under a given order of the map; each place that a unit has in an order of the truth is right."""
    right = {unit: {other.index(unit) for other in orders_of_truth} for unit in order}
    hits = 0
    for place, unit in enumerate(order[:k]):
        agrees = place in right[unit] if "rank" in name else min(right[unit]) < k
        hits += agrees and ("sign" not in name or np.sign(a[unit]) == np.sign(t[unit]))
    return hits / k


@pytest.mark.parametrize("name", TOP)
def test_top_units_are_compared_as_in_openxai(name):
    maps, truth = draw((12,), SEED, 6), draw((12,), SEED + 1, 6)
    maps[:, :3], truth[:, :3] = maps[:, :3] + 9, truth[:, :3] + torch.tensor([9.0, 9.0, 0.0])
    found = score(name, maps, truth, top_share=0.3)
    pairs = [
        (a, t, np.argsort(-np.abs(a)), np.argsort(-np.abs(t))) for a, t in zip(maps.numpy(), truth.numpy(), strict=True)
    ]
    expected = [by_hand(name, a, t, 4, first.tolist(), [second.tolist()]) for a, t, first, second in pairs]
    assert found.tolist() == pytest.approx(expected) and max(expected) > 0


def orders(values):
    """All orders, by size, of equal units."""
    sizes = np.abs(values)
    return [p for p in itertools.permutations(range(len(sizes))) if all(np.diff(sizes[list(p)]) <= 0)]


@pytest.mark.parametrize("name", TOP)
def test_equal_units_score_the_mean_over_all_their_orders_and_those_of_the_truth_may_have_any(name):
    a, t = np.array([2.0, -1.0, 1.0, 1.0, 0.0]), np.array([-3.0, 3.0, 2.0, 2.0, 1.0])
    every = [by_hand(name, a, t, 3, list(order), orders(t)) for order in orders(a)]
    assert score(name, a[None], t[None], top_share=0.6).item() == pytest.approx(np.mean(every))
    assert score(name, t[None], t[None], top_share=0.6).item() == pytest.approx(1)


def test_pairs_are_compared_as_in_openxai():
    maps, truth = draw((9,), SEED, 5), draw((9,), SEED + 1, 5)
    expected = []
    for a, t in zip(maps, truth, strict=True):
        first, second = (rankdata(-each.abs().numpy()) for each in (a, t))
        pairs = list(itertools.combinations(range(9), 2))
        expected.append(np.mean([(first[i] < first[j]) == (second[i] < second[j]) for i, j in pairs]))
    assert score("pairwise_rank_agreement", maps, truth).tolist() == pytest.approx(expected)
    # Two of three pairs differ in the truth; the map has one of them right and is undecided about the other.
    assert score("pairwise_rank_agreement", [[3.0, 3.0, 1.0]], [[2.0, 0.0, 0.0]]).item() == pytest.approx(0.75)
    assert score("pairwise_rank_agreement", [[3.0, 3.0, 3.0]], [[2.0, 0.0, 1.0]]).item() == 0.5


@pytest.mark.parametrize("name", FAMILY)
def test_the_truth_agrees_with_itself_and_a_flat_map_with_chance(name):
    truth = draw((10,), SEED, 5)
    assert score(name, 3 * truth, truth).tolist() == pytest.approx([1.0] * 5)
    flat = score(name, torch.ones_like(truth), truth.abs())
    chance = {"feature_agreement": 0.3, "sign_agreement": 0.3, "pairwise_rank_agreement": 0.5}.get(name, 0.1)
    assert flat.tolist() == pytest.approx([chance] * 5)


@pytest.mark.parametrize("name", FAMILY)
def test_only_units_with_an_effect_count_and_without_one_there_is_no_score(name):
    truth = torch.zeros(2, 10)
    truth[0, 4] = 2.0
    found = score(name, truth + torch.linspace(0, 1e-3, 10), truth)
    assert found[0].item() == pytest.approx(1) and found[1].isnan()


def test_what_is_wrong_is_said():
    maps = draw((6,), SEED)
    with pytest.raises(UserError, match="share (of .* )?is 0"):
        score("feature_agreement", maps, maps, top_share=0.0)
    with pytest.raises(NotApplicable, match="truth"):
        harness.score("feature_agreement", Constant().eval(), maps, torch.zeros(3).long(), maps)


def test_disagreement_is_with_the_maps_of_the_reference_made_once():
    model, inputs = Interacting((6,), generator(SEED)).eval(), draw((6,), SEED, 4)
    targets, maps = torch.zeros(4, dtype=torch.long), draw((6,), SEED + 1, 4)
    other = gradient(model, inputs.clone(), targets)
    mine = lambda model, inputs, targets: maps[: len(inputs)]
    measures = {"feature": TOP[0], "rank": TOP[1], "sign": TOP[2], "signed_rank": TOP[3], "pairwise_rank": FAMILY[4]}
    for measure, agreement in measures.items():
        options = {} if measure == "pairwise_rank" else {"top_share": 0.5}
        found = harness.score(
            "explainer_disagreement", model, inputs, targets, maps, explainer=mine, measure=measure, **options
        )
        torch.testing.assert_close(found, 1 - score(agreement, maps, other, **options))
    frame = harness.evaluate(
        model, inputs, targets, explainers=["gradient", "input_x_gradient"], metrics=["explainer_disagreement"]
    )
    means = frame.groupby("explainer").value.mean()
    assert means["gradient"] == 0 and means["input_x_gradient"] > 0


def test_disagreement_says_what_it_lacks():
    model, inputs, targets = Interacting((6,), generator(SEED)).eval(), draw((6,), SEED), torch.zeros(3).long()
    with pytest.raises(NotApplicable, match="explain"):
        harness.score("explainer_disagreement", model, inputs, targets, inputs)
    for options in ({"reference": "gradeint"}, {"measure": "both"}):
        with pytest.raises(UserError):
            harness.score("explainer_disagreement", model, inputs, targets, inputs, explainer="gradient", **options)
    with pytest.raises(NotApplicable, match="sign"):
        harness.score(
            "explainer_disagreement", model, inputs, targets, inputs.abs(), explainer="saliency", measure="sign"
        )
    for measure in ("sign", "signed_rank"):
        with pytest.raises(NotApplicable, match="reference, saliency"):
            harness.score(
                "explainer_disagreement",
                model,
                inputs,
                targets,
                inputs,
                explainer="gradient",
                reference="saliency",
                measure=measure,
            )


@pytest.mark.parametrize("measure", ["feature", "rank", "sign", "signed_rank", "pairwise_rank"])
def test_nothing_disagrees_with_a_reference_that_has_no_order(measure):
    """The gradient of the sum is 1 everywhere; of the other class it is not."""
    model, inputs = torch.nn.Linear(6, 2).eval(), draw((6,), SEED)
    model.weight.data = torch.stack([torch.ones(6), torch.arange(1.0, 7)])
    entry = EXPLAINERS["gradient"]
    own = Explaining(entry, entry.complete({}), model)
    found = scores(
        "explainer_disagreement",
        model,
        inputs,
        inputs,
        by=own,
        targets=torch.tensor([0, 1, 1]),
        options={"measure": measure},
    )
    assert found.values.isnan().tolist() == [True, False, False] and "same size on all units" in found.reason
