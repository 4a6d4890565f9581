"""Parts and interventions: each score equals a loop over parts, and says what is planted."""

import pytest
import torch

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics.funny_birds import IMPORTANT_SHARES
from metric_worlds import Additive, Constant, Interacting, draw, explaining, generator, gradient, on, samples, scores

PARTS = {"segments": "given", "baseline": "zero"}
LABELS = torch.tensor([0] * 11 + [1] * 3 + [2] * 7 + [3] * 4 + [4] * 5).view(6, 5)
SHAPE = (3, 6, 5)


def without(model, image, part):
    """The logits of an image (C, H, W) without one part."""
    return model(torch.where(LABELS == part, torch.zeros(()), image)[None])[0].double().detach()


def drops_by_hand(model, image, target):
    whole = model(image[None])[0].double().detach()
    return whole[target], torch.stack([whole[target] - without(model, image, part)[target] for part in range(5)])


def test_distractibility_equals_a_loop_over_parts_and_shares(seed):
    model, inputs, maps = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), draw(SHAPE, seed + 1)
    found = scores("distractibility", model, inputs, maps, options={**PARTS, "relevant_drop": 0.3}, segments=LABELS)
    for image, map_, value, curve in zip(inputs, maps, found.values, found.curves, strict=True):
        score, drops = drops_by_hand(model, image, 0)
        irrelevant = (drops < 0.3 * score.abs()).tolist()
        sums = torch.stack([map_.double().sum(0)[LABELS == part].sum() for part in range(5)])
        by_hand = [
            1
            - sum(bool(s > p * map_.double().sum()) and i for s, i in zip(sums, irrelevant, strict=True))
            / sum(irrelevant)
            for p in IMPORTANT_SHARES
        ]
        assert curve.tolist() == pytest.approx(by_hand) and value == pytest.approx(sum(by_hand) / 80)


def test_a_map_on_the_relevant_part_is_not_distracted_and_one_on_the_others_is(seed):
    """f is the sum of one part: the others matter to nothing."""
    model, inputs = Additive(SHAPE), draw(SHAPE, seed).abs() + 0.5
    model.w.data = (LABELS == 2).float().expand(SHAPE).clone()
    maps = torch.stack([(LABELS == 2).float(), (LABELS != 2).float(), torch.ones(6, 5)])
    right, wrong, flat = scores(
        "distractibility", model, inputs[:1].expand(3, -1, -1, -1), maps[:, None], options=PARTS, segments=LABELS
    ).values.tolist()
    assert right == 1 and wrong < flat < 1


def test_background_independence_counts_the_parts_of_the_background_that_matter(seed):
    model, inputs = Additive(SHAPE), draw(SHAPE, seed).abs() + 0.5
    model.w.data = ((LABELS == 1) | (LABELS == 3)).float().expand(SHAPE).clone()
    masks = (LABELS == 1).expand(3, 6, 5)  # part 3 matters and is background, as are three that do not
    maps = draw(SHAPE, seed + 1)
    found = scores("background_independence", model, inputs, maps, options=PARTS, segments=LABELS, masks=masks)
    assert found.values.tolist() == [0.75] * 3
    everything = torch.ones(3, 6, 5, dtype=torch.bool)
    nothing = scores("background_independence", model, inputs, maps, options=PARTS, segments=LABELS, masks=everything)
    assert nothing.values.isnan().all() and "no part is background" in nothing.reason
    with pytest.raises(NotApplicable, match="masks"):
        scores("background_independence", model, inputs, maps, options=PARTS, segments=LABELS)


class Two(torch.nn.Module):
    """Three classes: one sees part 1, another part 3, and the third nothing."""

    def forward(self, x):
        sums = [(x.double() * (LABELS == part)).flatten(1).sum(1) for part in (1, 3)]
        return torch.stack([*sums, torch.zeros_like(sums[0]) - 100], 1).float()


def test_target_sensitivity_tells_maps_of_two_classes_apart(seed):
    model, inputs = Two(), draw(SHAPE, seed).abs() + 0.5
    contributions = lambda model, inputs, targets: inputs.detach() * gradient(model, inputs, targets)
    blind = lambda model, inputs, targets: inputs.detach() * (LABELS == 1)
    swapped = lambda model, inputs, targets: contributions(model, inputs, 1 - targets)
    for by, expected in ((contributions, 1), (blind, 0), (swapped, 0)):
        targets = torch.zeros(3, dtype=torch.long)
        maps = by(model, inputs.clone(), targets)
        found = scores(
            "target_sensitivity", model, inputs, maps, by=explaining(by, model), options=PARTS, segments=LABELS
        )
        assert found.values.tolist() == [expected] * 3


def test_where_no_part_tells_the_classes_apart_there_is_no_target_sensitivity(seed):
    inputs = draw(SHAPE, seed)
    flat = lambda model, inputs, targets: inputs.detach()
    by = explaining(flat, Constant())
    found = scores("target_sensitivity", Constant(), inputs, inputs, by=by, options=PARTS, segments=LABELS)
    assert found.values.isnan().all() and "tell the classes apart" in found.reason


def test_parts_are_taken_away_once_for_all_maps(seed):
    made = samples(
        Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), segments=LABELS, masks=LABELS.expand(3, 6, 5) == 1
    )
    on("distractibility", make_batch(made, draw(SHAPE, seed + 1), None), **PARTS)
    evaluations = made.predictor.forwards
    on("distractibility", make_batch(made, draw(SHAPE, seed + 2), None), **PARTS, relevant_drop=0.4)
    on("background_independence", make_batch(made, draw(SHAPE, seed + 2), None), **PARTS)
    assert made.predictor.forwards == evaluations == 3 * 5 + 3


def test_a_drop_of_0_is_refused(seed):
    with pytest.raises(UserError, match="relevant_drop (of .* )?is 0"):
        scores("distractibility", Constant(), draw(SHAPE, seed), draw(SHAPE, seed), options={"relevant_drop": 0.0})


def test_a_map_that_ignores_the_class_is_no_less_the_same_for_its_rounding(seed):
    """The map of the other class is explained in another batch, and differs by the rounding of that."""
    model, inputs = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed, 12)
    blind = lambda model, inputs, targets: inputs * (1 + 3e-7 * torch.randn(inputs.shape, generator=generator(seed)))
    found = scores(
        "target_sensitivity", model, inputs, inputs, by=explaining(blind, model), options=PARTS, segments=LABELS
    )
    assert set(found.values[found.values.isfinite()].tolist()) == {0.0}
