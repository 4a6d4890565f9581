"""Focus and DiFull: mosaics show what they should, and a map scores by where its positive attribution lies."""

import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable
from metric_worlds import explaining, on, samples
from test_metrics_grid_pointing import CLASSES, Colours, cells_of, input_x_gradient, registered, showing, world

pytestmark = pytest.mark.usefixtures("seed")
BOTH = ("focus", "difull")


def score(name, by, model=None, data=None, rows=slice(None), chunk=32, **options):
    model = model or Colours()
    inputs, targets, train = data or world()
    by = explaining(by, model) if not hasattr(by, "entry") else by
    found = samples(model, inputs[rows], targets[rows], chunk=chunk, train=train)
    return on(name, make_batch(found, torch.zeros_like(inputs[rows]), by), **options)


@pytest.mark.parametrize(("name", "chance"), [("focus", 1 / 2), ("difull", 1 / 4)])
def test_a_map_that_is_the_same_everywhere_scores_the_area_of_what_is_right(name, chance):
    found = score(name, lambda model, x, t: torch.full_like(x, 0.3), draws=3)
    torch.testing.assert_close(found.values, torch.full((5,), chance, dtype=torch.float64))


@pytest.mark.parametrize("name", BOTH)
def test_the_classs_own_pixels_score_1_and_all_others_nothing(name):
    own = lambda m, x, t: (x[torch.arange(len(x)), t] > 0).float()[:, None]
    others = lambda m, x, t: (x[torch.arange(len(x)), t] == 0).float()[:, None]
    data = world()
    assert score(name, own, data=data).values.tolist() == [1.0] * 5
    assert score(name, others, data=data).values.tolist() == [0.0] * 5


def test_a_mosaic_of_focus_shows_the_image_another_of_its_class_and_two_of_other_classes():
    data, seen = world(), []
    score("focus", showing(seen), data=data, draws=20)
    inputs, targets, train = data
    mosaics, explained = (torch.cat(each) for each in zip(*seen, strict=True))
    cells = cells_of(mosaics, 2)
    colours = cells.sum((3, 4)).argmax(2)
    assert torch.equal(explained, targets.repeat_interleave(20))
    assert ((colours == explained[:, None]).sum(1) == 2).all()
    own = inputs.repeat_interleave(20, 0)[:, None]
    assert ((cells == own).flatten(2).all(2).sum(1) >= 1).all()
    places = (cells == own).flatten(2).all(2).float().argmax(1)
    assert places.unique().tolist() == [0, 1, 2, 3]
    known = torch.cat([inputs, train]).flatten(1)
    assert all((known == cell.flatten()).all(1).any() for cell in cells.flatten(0, 1))


class Spied(nn.Module):
    """A model that notes the sizes of its inputs, of which it takes one size only."""

    def __init__(self):
        super().__init__()
        self.head, self.seen = nn.Linear(CLASSES * 24, CLASSES, bias=False), []
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(CLASSES).repeat_interleave(24, 1) * 10)

    def forward(self, x):
        self.seen.append(tuple(x.shape[1:]))
        return self.head.double()(x.double().flatten(1)).float()


def test_in_difull_the_model_sees_a_corner_alone_and_takes_its_own_size():
    """Gradients, removals and games are 0 where the model does not look, whatever the method."""
    model, data = Spied(), world()
    for name, options in (
        ("input_x_gradient", {}),
        ("integrated_gradients", {"steps": 4}),
        ("occlusion", {"window": 2, "stride": 2}),
    ):
        found = score("difull", registered(name, model, **options), model, data)
        torch.testing.assert_close(found.values, torch.ones(5, dtype=torch.float64))
    assert set(model.seen) == {(CLASSES, 4, 6)}
    places, seen = [], []
    by = lambda m, x, t: (seen.append(x.clone()), input_x_gradient(m, x, t))[1]
    score("difull", by, model, data, draws=12)
    places = (cells_of(torch.cat(seen), 2).flatten(2).sum(2) > 0).all(1)
    assert places.all() and len(torch.cat(seen)) == 60
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("name", BOTH)
def test_scores_do_not_depend_on_company_and_order(name):
    model, data = Colours(), world()
    by = lambda m, x, t: input_x_gradient(m, x, t) + 0.1 * x
    whole = score(name, by, model, data, draws=2).values
    turned = score(name, by, model, data, draws=2, rows=torch.arange(4, -1, -1), chunk=3).values
    assert torch.equal(whole, turned.flip(0))
    assert torch.equal(whole[2:3], score(name, by, model, data, draws=2, rows=slice(2, 3)).values)


def test_what_cannot_be_is_said():
    data = world()
    model = nn.Sequential(nn.Conv2d(CLASSES, 4, 1), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    for reading in ("grad_cam", "full_grad"):
        with pytest.raises(NotApplicable, match="reads layers"):
            score("difull", registered(reading, model.eval()), model, data)
    for name in BOTH:
        with pytest.raises(NotApplicable, match="train="):
            score(name, input_x_gradient, data=(*data[:2], None))
    inputs, targets, train = data
    rest = train[train.sum((2, 3)).argmax(1) != targets[0]]
    found = score("focus", input_x_gradient, data=(inputs, targets, rest))
    assert found.values[targets == targets[0]].isnan().all() and "no training input is predicted" in found.reason
