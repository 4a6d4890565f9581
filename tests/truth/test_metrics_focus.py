"""Focus, DiFull and DiPart: mosaics show what they should, and a map scores by where its positive attribution lies."""

import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable
from metric_worlds import explaining, on, samples
from test_metrics_grid_pointing import CLASSES, cells_of, input_x_gradient, registered, showing, world

pytestmark = pytest.mark.usefixtures("seed")
ALL = ("focus", "difull", "dipart")


def pooled(reach=1):
    """A class for each channel: features of ``reach`` x ``reach`` pixels, and their mean, whatever the image's size."""
    features = nn.Conv2d(CLASSES, CLASSES, reach, padding=reach // 2, bias=False)
    with torch.no_grad():
        features.weight.copy_(60.0 / reach**2 * torch.eye(CLASSES)[:, :, None, None].expand_as(features.weight))
    return nn.Sequential(features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


def score(name, by, model=None, data=None, rows=slice(None), chunk=32, **options):
    model = model or pooled()
    inputs, targets, train = data or world()
    by = explaining(by, model) if not hasattr(by, "entry") else by
    found = samples(model, inputs[rows], targets[rows], chunk=chunk, train=train)
    return on(name, make_batch(found, torch.zeros_like(inputs[rows]), by), **options)


@pytest.mark.parametrize(("name", "chance"), [("focus", 1 / 2), ("difull", 1 / 4), ("dipart", 1 / 4)])
def test_a_map_that_is_the_same_everywhere_scores_the_area_of_what_is_right(name, chance):
    found = score(name, lambda model, x, t: torch.full_like(x, 0.3), draws=3)
    torch.testing.assert_close(found.values, torch.full((5,), chance, dtype=torch.float64))


@pytest.mark.parametrize("name", ALL)
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


def by_hand(model, mosaics, targets, place):
    """The gradient times the input where the mean is taken over one cell of the features: (M, C, H, W)."""
    inputs = mosaics.clone().requires_grad_()
    features = model[1](model[0](inputs))
    height, width = (length // 2 for length in features.shape[2:])
    cell = features[..., place // 2 * height :, place % 2 * width :][..., :height, :width]
    logits = cell.mean((2, 3)).gather(1, targets[:, None])
    return (inputs * torch.autograd.grad(logits.sum(), inputs)[0]).detach()


def test_in_dipart_the_features_of_a_corner_are_pooled_and_also_see_their_neighbours():
    model, data, seen = pooled(reach=3), world(), []
    noted = lambda m, x, t: (seen.append((x.clone(), t.clone(), found := input_x_gradient(m, x, t))), found)[1]
    scores = score("dipart", noted, model, data).values
    corners, shares = set(), []
    for mosaics, targets, found in seen:
        own = cells_of(mosaics, 2).sum((3, 4)).argmax(2) == targets[:, None]  # the only cell of its class
        (place,) = own.float().argmax(1).unique().tolist()
        expected = by_hand(model, mosaics, targets, place)
        torch.testing.assert_close(found, expected)
        cells = cells_of(expected, 2).clamp(min=0).sum((2, 3, 4))
        shares.append(cells[:, place] / cells.sum(1))
        corners.add(place)
    assert corners <= {0, 3}
    torch.testing.assert_close(scores.sort().values, torch.cat(shares).double().sort().values)
    blurred = lambda m, x, t: torch.ones_like(x) * (input_x_gradient(m, torch.ones_like(x), t) > 0)
    edge = score("dipart", blurred, model, data).values  # a pixel beyond each of the two inner edges of 4 x 6
    torch.testing.assert_close(edge, torch.full((5,), 24 / 35, dtype=torch.float64))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def classifying(features, *between, weights):
    """Features with a dense layer in place of their mean."""
    dense = nn.Linear(weights.shape[1], CLASSES, bias=False)
    dense.weight = nn.Parameter(weights)
    return nn.Sequential(*features, *between, nn.Flatten(), dense).eval()


def test_in_dipart_explainers_that_read_the_layer_get_all_of_it():
    """As published: Grad-CAM's mean gradient also weights other cells' features; place by place it does not."""
    weights = torch.eye(CLASSES) + 0.5  # every colour speaks for every class
    model = classifying(pooled()[:2], nn.AdaptiveAvgPool2d(1), weights=weights)
    place_by_place, mean = (score("dipart", registered(cam, model), model).values for cam in ("hires_cam", "grad_cam"))
    torch.testing.assert_close(place_by_place, torch.ones(5, dtype=torch.float64))
    assert (mean < 0.7).all()


def test_dipart_serves_classifiers_of_one_size_and_says_which_models_it_does_not():
    weights = torch.eye(CLASSES).repeat_interleave(6, 1)
    model = classifying(pooled(reach=3)[:2], nn.MaxPool2d(2), weights=weights)
    assert (score("dipart", input_x_gradient, model).values > 0.5).all()
    without_padding = classifying([nn.Conv2d(CLASSES, CLASSES, 4), nn.ReLU()], weights=weights[:, :18])
    for refused, reason in ((Spied(), "no layer"), (without_padding, "mosaics of shape")):
        with pytest.raises(NotApplicable, match=reason):
            score("dipart", input_x_gradient, refused, confidence=0.0)


@pytest.mark.parametrize("name", ALL)
def test_scores_do_not_depend_on_company_and_order(name):
    model, data = pooled(reach=3), world()
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
    for name in ALL:
        with pytest.raises(NotApplicable, match="train="):
            score(name, input_x_gradient, data=(*data[:2], None))
    inputs, targets, train = data
    rest = train[train.sum((2, 3)).argmax(1) != targets[0]]
    found = score("focus", input_x_gradient, data=(inputs, targets, rest))
    assert found.values[targets == targets[0]].isnan().all() and "no training input is predicted" in found.reason
