"""What decides a prediction: the smallest number of units, found by trying all, and single decisions."""

import os

import pytest
import torch
from torch import nn

from harness.errors import NotApplicable, UserError
from harness.metrics._smallest_number import smallest_number
from metric_worlds import Additive, Interacting, draw, generator, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
ZERO = {"baseline": "zero"}


def world(model, count=20, shape=(40,)):
    inputs, maps = draw(shape, SEED, count), draw(shape, SEED + 1, count)
    return inputs, maps, model(inputs).argmax(1)


def kept(model, row, order, k, alone):
    x = row.clone()
    x[order[k:] if alone else order[:k]] = 0
    return model(x[None]).argmax(1).item()


@pytest.mark.parametrize("subset", ["sufficient", "necessary"])
@pytest.mark.parametrize("steps", [2, 5, 64])
def test_the_smallest_number_decides_and_one_less_does_not(subset, steps):
    model = Interacting((40,), generator(SEED))
    inputs, maps, targets = world(model)
    found = scores(
        "minimal_subset", model, inputs, maps, targets=targets, options={**ZERO, "subset": subset, "steps": steps}
    )
    alone, empty = subset == "sufficient", model(torch.zeros(1, 40)).argmax(1).item()
    for row in range(20):
        decides = lambda k, row=row: (
            (kept(model, inputs[row], maps[row].argsort(descending=True), k, alone) == targets[row]) == alone
        )
        if targets[row] == empty:
            assert found.values[row] == 0 if alone else found.values[row].isnan()
            continue
        k = round(found.values[row].item() * 40)
        assert decides(k) and not (k > 1 and decides(k - 1))
        if steps == 64:
            assert k == next(k for k in range(1, 41) if decides(k))


@pytest.mark.parametrize("rows", [1, 3, 7, 64])
@pytest.mark.parametrize("steps", [2, 5, 16])
@pytest.mark.parametrize("count", [1, 2, 3, 17, 64])
def test_the_number_is_found_whatever_is_asked_at_once(rows, steps, count):
    """Answers that change once, at any number; where only samples with few numbers left search on, no call is empty."""
    drawn = torch.Generator().manual_seed(SEED)

    def decides(sample, k):
        assert len(sample) > 0
        return k >= numbers[sample]

    for begun in ((), sorted({1, 2, 4, count // 2} & set(range(1, count)))):
        for _ in range(20):
            numbers = torch.randint(1, count + 1, (3,), generator=drawn)
            assert smallest_number(torch.arange(3), count, steps, decides, rows, begun).tolist() == numbers.tolist()


def test_a_single_unit_of_many_is_found():
    model = nn.Sequential(nn.Flatten(), nn.Linear(10_000, 2, bias=False))
    model[1].weight.data = torch.zeros(2, 10_000)
    model[1].weight.data[0, 77] = 1.0
    model[1].weight.data[1, 0] = 1e-3
    inputs, maps = torch.ones(1, 1, 100, 100), torch.arange(10_000.0).view(1, 100, 100)
    place = 10_000 - 77
    for subset in ("sufficient", "necessary"):
        found = scores("minimal_subset", model, inputs, maps, options={"baseline": draw_baseline(), "subset": subset})
        assert found.values.item() == pytest.approx(place / 10_000)


def draw_baseline():
    """A baseline of the second class."""
    baseline = torch.zeros(1, 100, 100)
    baseline[0, 0, 0] = 1.0
    return baseline


def test_what_is_not_predicted_has_no_subset():
    model = Interacting((40,), generator(SEED))
    inputs, maps, targets = world(model)
    targets[3] = (targets[3] + 1) % 3
    found = scores("minimal_subset", model, inputs, maps, targets=targets, options=ZERO)
    assert found.values.isnan().tolist() == [row == 3 for row in range(20)] and "another class" in found.reason
    for rows, chunk in (([5, 2], 32), ([7], 3)):
        part = scores(
            "minimal_subset", model, inputs[rows], maps[rows], targets=targets[rows], chunk=chunk, options=ZERO
        )
        assert torch.equal(part.values, found.values[rows])


def test_an_impact_is_another_class_or_half_of_the_confidence():
    model = Additive((10,), generator=generator(SEED))
    inputs, maps = draw((10,), SEED, 60), draw((10,), SEED + 1, 60)
    top = maps.argsort(1, descending=True)[:, :2]
    without = inputs.scatter(1, top, 0.0)
    before, after = (model(x).softmax(1)[:, 0] for x in (inputs, without))
    known, other = model(inputs).argmax(1) == 0, model(without).argmax(1) != 0
    for drop, expected in ((1.0, other), (0.5, other | (after <= 0.5 * before))):
        found = scores(
            "impact_score", model, inputs, maps, options={**ZERO, "top_share": 0.2, "lost_share": drop}
        ).values
        assert torch.equal(found[known], expected[known].double()) and 0 < found[known].mean() < 1
        assert found[~known].isnan().all() and not known.all()


def test_what_does_not_fit_is_said():
    model = Interacting((40,), generator(SEED))
    inputs, maps, _ = world(model)
    for name, options in (
        ("minimal_subset", {"steps": 1}),
        ("minimal_subset", {"subset": "both"}),
        ("impact_score", {"top_share": 0.0}),
        ("impact_score", {"lost_share": 2.0}),
    ):
        with pytest.raises(UserError):
            scores(name, model, inputs, maps, options={**ZERO, **options})
    number = nn.Linear(40, 1)
    with pytest.raises(NotApplicable, match="decision"):
        scores("minimal_subset", number, inputs, maps, options=ZERO, task="regression")
