"""Consistency and sufficiency of explanations equal loops over the training inputs, and are 1 for right ones."""

from pathlib import Path

import pytest
import torch
import yaml

from harness.errors import NotApplicable, UserError
from metric_worlds import Interacting, draw, explaining, generator, scores

BOTH = ("explanation_consistency", "explanation_sufficiency")
SHAPE = (6,)
METRIC_GROUPS = Path(__file__).parents[2] / "conf" / "metric"


class Switch(torch.nn.Module):
    """The class is 1 where column 0 is above 0 and column 1 too, or where column 0 is not and column 2 is."""

    def forward(self, x):
        x = x.double()
        f = torch.where(x[:, 0] > 0, x[:, 1], x[:, 2])
        return torch.stack([torch.zeros_like(f), f], 1).float()


def reasons(model, inputs, targets):
    """The two columns that decide, which also tell the branch; and, by the sign of the second, the class."""
    first = inputs[:, 0] > 0
    decides = torch.where(first, inputs[:, 1], inputs[:, 2]) > 0
    maps = torch.zeros_like(inputs)
    maps[:, 0] = 2
    maps[torch.arange(len(inputs)), torch.where(first, 1, 2)] = 1 + decides.float()
    return maps


def corners(count, seed):
    return torch.randint(0, 2, (count, 6), generator=generator(seed)).float() * 2 - 1


def test_sufficiency_is_1_for_the_columns_that_decide_and_less_for_others(seed):
    train, inputs = corners(200, seed), corners(5, seed + 1)
    options = {"top_share": 2 / 6, "closeness": 0.0}
    found = scores(BOTH[1], Switch(), inputs, reasons(None, inputs, None), train=train, options=options).values
    assert found.tolist() == [1.0] * 5
    others = torch.tensor([0.0, 0, 0, 2, 2, 0]).expand(5, 6)
    assert (scores(BOTH[1], Switch(), inputs, others, train=train, options=options).values < 0.8).all()


def test_consistency_is_1_where_the_explanation_tells_the_class_and_the_base_rate_where_it_tells_nothing(seed):
    train, inputs = corners(200, seed), corners(5, seed + 1)
    tells = lambda model, inputs, targets: torch.stack(
        [targets == k for k in (0, 1)] + [torch.zeros_like(targets, dtype=torch.bool)] * 4, 1
    ).float()
    nothing = lambda model, inputs, targets: torch.ones_like(inputs) * torch.arange(6)
    predicted = Switch()(inputs).argmax(1)
    options = {"top_share": 1 / 6, "rows": 200}
    for by in (tells, nothing):
        maps = by(None, inputs, predicted)
        found = scores(
            BOTH[0],
            Switch(),
            inputs,
            maps,
            by=explaining(by, Switch()),
            train=train,
            targets=predicted,
            options=options,
        ).values
        rates = [1.0 if by is tells else (Switch()(train).argmax(1) == k).double().mean().item() for k in predicted]
        assert found.tolist() == pytest.approx(rates)


@pytest.mark.parametrize("name", BOTH)
def test_it_equals_a_loop_over_training_inputs(name, seed):
    model, inputs, train = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), draw(SHAPE, seed + 1, 60)
    by = lambda model, inputs, targets: inputs.abs()
    options = {"top_share": 2 / 6} | ({"closeness": 0.8} if name == BOTH[1] else {})
    found = scores(name, model, inputs, inputs.abs(), by=explaining(by, model), train=train, options=options).values
    top = lambda x: set(x.abs().topk(2).indices.tolist())
    spread, classes = train.std(0, correction=0), model(train).argmax(1)
    for x, value in zip(inputs, found.tolist(), strict=True):
        near = lambda other, x=x: all(abs(other[u] - x[u]) <= 0.8 * spread[u] for u in top(x))
        alike = [near(other) if name == BOTH[1] else top(other) == top(x) for other in train]
        same = [int(c == model(x[None]).argmax()) for c, a in zip(classes, alike, strict=True) if a]
        assert (not same and value != value) or value == pytest.approx(sum(same) / len(same))


@pytest.mark.parametrize("name", BOTH)
def test_parts_are_tied_and_not_units(name, seed):
    """Of a map of sixteen cells each pixel has its own value, and two cells have the same sum."""
    shape, cells = (1, 8, 8), torch.arange(16.0).view(1, 1, 4, 4)
    cells[..., 0, 1] = cells[..., 0, 0]
    maps = torch.kron(cells, torch.tensor([[1.0, 2.0], [4.0, 8.0]])).expand(3, *shape) + 0.0
    model = Interacting(shape, generator(seed))
    by = explaining(lambda model, inputs, targets: maps[:1].expand_as(inputs), model)
    given = {"by": by, "train": draw(shape, seed + 1, 20), "options": {"rows": 20}}
    assert scores(name, model, draw(shape, seed), maps, **given).tied.tolist() == [2 / 16] * 3
    maps[:] = 0
    maps[:, 0, 0, :2], maps[:, 0, 2, 2] = torch.tensor([1.0, 3.0]), 4.0
    assert scores(name, model, draw(shape, seed), maps, **given).tied.tolist() == [1.0] * 3


def test_few_rows_are_a_part_of_all_and_what_cannot_be_is_said(seed):
    model, inputs, train = Interacting(SHAPE, generator(seed)), draw(SHAPE, seed), draw(SHAPE, seed + 1, 60)
    by, wide = explaining(lambda model, inputs, targets: inputs.abs(), model), {"closeness": 100.0}
    few = scores(BOTH[1], model, inputs, inputs, train=train, options={"rows": 7, **wide}).values * 7
    torch.testing.assert_close(few, few.round(), rtol=0, atol=1e-9)
    far = scores(BOTH[1], model, inputs + 100, inputs, train=train)
    assert far.values.isnan().all() and "applies to no training input" in far.reason
    for name in BOTH:
        with pytest.raises(NotApplicable, match="training inputs"):
            scores(name, model, inputs, inputs, by=by)
        with pytest.raises(UserError, match="top_share (of .* )?is 0"):
            scores(name, model, inputs, inputs, by=by, train=train, options={"top_share": 0.0})
    with pytest.raises(UserError, match="closeness"):
        scores(BOTH[1], model, inputs, inputs, train=train, options={"closeness": -1.0})


def test_consistency_explains_a_hundred_training_inputs_and_is_not_among_all_metrics(seed):
    explained, model, inputs = [], Interacting(SHAPE, generator(seed)), draw(SHAPE, seed)
    by = explaining(lambda model, inputs, targets: explained.append(len(inputs)) or inputs.abs(), model)
    scores(BOTH[0], model, inputs, inputs.abs(), by=by, train=draw(SHAPE, seed + 1, 300))
    assert sum(explained) == 100
    files = {path.stem: yaml.safe_load(path.read_text()) for path in METRIC_GROUPS.glob("*.yaml")}
    choosing = {group for group, said in files.items() if BOTH[0] in said["defaults"]}
    assert choosing == {"consistency"} and not choosing & set(files["all"]["defaults"])


@pytest.mark.parametrize("name", BOTH)
def test_the_parts_of_an_image_are_cells_and_are_compared_by_their_means(name, seed):
    shape = (3, 8, 8)
    model, inputs, train = Interacting(shape, generator(seed)), draw(shape, seed), draw(shape, seed + 1, 60)
    cells = lambda x: torch.nn.functional.avg_pool2d(x, 2).flatten(2)  # 16 cells of four pixels
    by, top = explaining(lambda model, inputs, targets: inputs.abs(), model), lambda x: cells(x.abs()).sum(1).argmax(1)
    options = {"top_share": 1 / 16} | ({"closeness": 1.0} if name == BOTH[1] else {})
    found = scores(name, model, inputs, inputs.abs(), by=by, train=train, options=options).values
    classes, spread = model(train).argmax(1), cells(train).std(0, correction=0)
    for x, value in zip(inputs, found.tolist(), strict=True):
        cell = top(x[None]).item()
        near = ((cells(train) - cells(x[None])).abs() <= spread)[..., cell].all(1)
        alike = near if name == BOTH[1] else top(train) == cell
        same = (classes == model(x[None]).argmax())[alike].double()
        assert (not len(same) and value != value) or value == pytest.approx(same.mean().item())
