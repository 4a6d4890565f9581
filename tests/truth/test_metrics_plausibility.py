"""Plausibility: values by hand, ERASER's and scikit-learn's numbers, and the mean over orders of equal values."""

import itertools
import os

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch.utils._python_dispatch import TorchDispatchMode

import harness
from harness.errors import NotApplicable, UserError
from metric_worlds import Constant, draw, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
HARD = ("plausibility_f1", "plausibility_iou", "plausibility_iou_f1")
FAMILY = (*HARD, "plausibility_auprc", "plausibility_mean_iou")


def score(metric, maps, masks, **options):
    """The scores of maps (N, T) of texts of T tokens against their rationales (N, T)."""
    maps, masks = (torch.as_tensor(each) for each in (maps, masks))
    texts = torch.zeros(*maps.shape, 3)
    return scores(metric, Constant(), texts, maps.float(), masks=masks.bool(), options=options, modality="tokens")


def world(seed, count=6, tokens=12):
    masks = draw((tokens,), seed, count) > 0.3
    masks[:, :3] = torch.tensor([True, True, False])
    return draw((tokens,), seed + 1, count), masks


def chosen_by_hand(row, k):
    return set(np.argsort(-row.numpy(), kind="stable")[:k].tolist())


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_hard_rationales_are_compared_as_sets(share):
    maps, masks = world(SEED)
    k = int(np.ceil(share * 12 - 1e-9))
    found = {name: score(name, maps, masks, top_share=share).values for name in HARD[:2]}
    for row, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        top, human = chosen_by_hand(values, k), set(mask.nonzero()[:, 0].tolist())
        predicted = [token in top for token in range(12)]
        assert found["plausibility_f1"][row].item() == pytest.approx(sklearn.f1_score(mask, predicted))
        assert found["plausibility_iou"][row].item() == pytest.approx(len(top & human) / len(top | human))


def test_average_precision_is_scikit_learns_with_ties_and_without():
    maps, masks = world(SEED)
    for values in (maps, maps.round(), torch.zeros_like(maps)):
        expected = [sklearn.average_precision_score(mask, row) for row, mask in zip(values, masks, strict=True)]
        torch.testing.assert_close(score("plausibility_auprc", values, masks).values.tolist(), expected)


def spans(chosen):
    return [[i for i, _ in run] for on, run in itertools.groupby(enumerate(chosen), lambda each: each[1]) if on]


def erasers_f1(top, human):
    """IOU F1 of one text, as in ERASER's partial_match_score."""
    overlap = lambda a, b: len(set(a) & set(b)) / len(set(a) | set(b))
    right = sum(max(overlap(span, other) for other in human) >= 0.5 for span in top)
    precision, recall = right / len(top), right / len(human)
    return 0.0 if not right else 2 * precision * recall / (precision + recall)


def test_spans_that_overlap_by_half_are_the_same_as_in_eraser():
    maps, masks = world(SEED, count=40)
    found = score("plausibility_iou_f1", maps, masks, top_share=0.4).values
    for row, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        top = chosen_by_hand(values, 5)
        expected = erasers_f1(spans([token in top for token in range(12)]), spans(mask.tolist()))
        assert found[row].item() == pytest.approx(expected)
    assert found.unique().numel() > 3
    assert score("plausibility_iou_f1", [[3, 2, 0, 0.0]], [[1, 1, 1, 1]], top_share=0.5).values.item() == 1


def test_many_spans_of_a_long_text_are_compared_without_laying_out_every_pair():
    largest = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, given=(), options=None):
            made = function(*given, **(options or {}))
            largest.append(made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    masks = torch.zeros(2, 600)
    masks[:, ::3] = 1  # 200 spans of the rationale, and of the map as many
    with Sizes():
        found = score("plausibility_iou_f1", masks.tolist(), masks.tolist(), top_share=1 / 3).values
    assert found.tolist() == [1, 1] and max(largest) <= 2 * 200 * 600


def test_the_mean_iou_is_taken_over_thresholds_of_the_largest_value():
    found = score("plausibility_mean_iou", [[4.0, 2.0, 1.0, -9.0]], [[1, 1, 0, 0]], percents=(20, 50, 80))
    assert found.curves.tolist() == [pytest.approx([2 / 3, 1.0, 0.5])]
    assert found.values.item() == pytest.approx((2 / 3 + 1 + 0.5) / 3)


@pytest.mark.parametrize(("metric", "of_sets"), [("plausibility_f1", "f1"), ("plausibility_iou", "iou")])
def test_equal_values_score_the_mean_over_every_order(metric, of_sets):
    values, mask = [5.0, 1.0, 1.0, 1.0, 1.0, 0.0], [1, 1, 0, 1, 0, 1]
    human, every = {0, 1, 3, 5}, []
    for pair in itertools.combinations([1, 2, 3, 4], 2):
        hits = len({0, *pair} & human)
        every.append(2 * hits / 7 if of_sets == "f1" else hits / (7 - hits))
    found = score(metric, [values], [mask], top_share=0.5)
    assert found.values.item() == pytest.approx(np.mean(every)) and found.tied.item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("metric", FAMILY)
def test_the_rationale_itself_is_perfect_and_its_opposite_the_worst(metric):
    masks = torch.tensor([True, True, False, True] + [False] * 8).expand(6, 12)
    options = {"top_share": 0.25} if metric in HARD else {}
    right, wrong = (score(metric, each, masks, **options).values for each in (masks.float(), 1 - masks.float()))
    assert right.eq(1).all() and (wrong < right).all()
    assert (wrong == 0).all() or metric == "plausibility_auprc"


@pytest.mark.parametrize("metric", FAMILY)
def test_an_empty_rationale_has_no_score_and_others_keep_theirs(metric):
    maps, masks = world(SEED)
    whole = score(metric, maps, masks)
    masks[2] = False
    found = score(metric, maps, masks)
    assert found.values.isnan().tolist() == [row == 2 for row in range(6)] and "empty" in found.reason
    assert torch.equal(found.values[[0, 1, 3, 4, 5]], whole.values[[0, 1, 3, 4, 5]])
    assert score(metric, maps[2:3], masks[2:3]).values.isnan().all()


@pytest.mark.parametrize("metric", FAMILY)
def test_a_text_scores_alone_as_it_does_in_company(metric):
    maps, masks = world(SEED)
    maps[:, :4] = maps[:, :4].round()
    whole = score(metric, maps, masks)
    for row in range(6):
        alone = score(metric, maps[row : row + 1], masks[row : row + 1])
        torch.testing.assert_close(alone.values, whole.values[row : row + 1])


def test_no_positive_value_has_no_thresholds():
    found = score("plausibility_mean_iou", [[-1.0, 0.0], [1.0, 0.0]], [[1, 0], [1, 0]])
    assert found.values.isnan().tolist() == [True, False] and "positive" in found.reason


def test_what_is_wrong_is_said():
    maps, masks = world(SEED)
    for share in (0, 1.5):
        with pytest.raises(UserError, match="top_share of .* is"):
            score("plausibility_f1", maps, masks, top_share=share)
    with pytest.raises(NotApplicable, match="masks"):
        harness.score("plausibility_auprc", Constant().eval(), torch.zeros(6, 12), torch.zeros(6).long(), maps)
    images, inside = draw((1, 4, 4), SEED), torch.ones(3, 4, 4, dtype=torch.bool)
    with pytest.raises(NotApplicable, match="no sequence"):
        scores("plausibility_iou_f1", Constant(), images, images, masks=inside)
