"""Impact coverage: planted patches that change the decision are found by right maps, and no other patches count."""

from math import comb

import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from metric_worlds import explaining, on, samples
from test_metrics_grid_pointing import CLASSES, pictures

pytestmark = pytest.mark.usefixtures("seed")
brightest = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())


def world(count=6):
    """Images of one colour each, brighter ones to cut patches from, and the model whose class is the brightest's."""
    targets = torch.arange(count) % CLASSES
    return pictures(targets, 8, 6), targets, 2 * pictures(torch.arange(30) % CLASSES, 8, 6)


def score(by, data=None, model=brightest, rows=slice(None), chunk=32, reduction="sum", **options):
    inputs, targets, train = data or world()
    found = samples(
        model,
        inputs[rows],
        targets[rows],
        chunk=chunk,
        train=train,
        elements=reduction == "none",
        value_range=(0.0, 4.0),
    )
    batch = make_batch(found, torch.zeros_like(inputs[rows]), explaining(by, model), reduction)
    return on("impact_coverage", batch, **{"baseline": "zero", **options})


def colour(model, inputs, targets):
    """The pixels of the explained colour, which only the patch has."""
    return inputs[torch.arange(len(inputs)), targets][:, None]


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_map_of_the_patch_scores_1_and_one_of_the_rest_0(reduction):
    everywhere = lambda by: lambda m, x, t: by(m, x, t).expand_as(x)
    assert score(everywhere(colour), reduction=reduction).values.tolist() == [1.0] * 6
    assert score(everywhere(lambda *given: -colour(*given)), reduction=reduction).values.tolist() == [0.0] * 6


def test_a_map_of_noise_scores_what_chance_gives():
    """Of 48 pixels the patch has 4 x 3, and 12 are drawn at random: the hits are hypergeometric."""
    data = world(600)
    found = score(lambda m, x, t: torch.ones_like(x), data).values
    chances = [comb(12, hits) * comb(36, 12 - hits) / comb(48, 12) for hits in range(13)]
    mean, square = (sum(p * (hits / (24 - hits)) ** power for hits, p in enumerate(chances)) for power in (1, 2))
    assert abs(found.mean().item() - mean) < 4 * ((square - mean**2) / 600) ** 0.5
    assert mean == pytest.approx(0.25 / 1.75, abs=0.01)


def test_the_patch_is_the_only_change_and_its_class_is_explained():
    data, seen = world(), []
    score(lambda m, x, t: (seen.append((x.clone(), t.clone())), x)[1], data, share=0.2)
    (patched, classes) = (torch.cat(each) for each in zip(*seen, strict=True))
    changed = (patched != data[0]).any(1)
    assert (changed.flatten(1).sum(1) == 4 * 3).all() and (classes != data[1]).all()
    assert torch.equal(classes, brightest(patched).argmax(1))
    shown = changed[:, None] * patched
    assert ((shown[:, None] == data[2] * changed[:, None, None]).flatten(2).all(2)).any(1).all()  # at its own place


def test_a_given_patch_is_pasted_whole_at_random_places():
    patch, seen = torch.rand(CLASSES, 2, 3), []
    patch[2] += 5
    noted = lambda m, x, t: (seen.append((x.clone(), t.clone())), x[:, 2:3])[1]
    found = score(noted, world(24), pasted=patch).values
    assert found.isnan().tolist() == [row % CLASSES == 2 for row in range(24)]
    assert (found[~found.isnan()] == 1).all()
    patched, classes = (torch.cat(each) for each in zip(*seen, strict=True))
    assert (classes == 2).all()
    windows = patched.unfold(2, 2, 1).unfold(3, 3, 1).permute(0, 2, 3, 1, 4, 5)
    places = (windows == patch).flatten(3).all(3).flatten(1)
    assert (places.sum(1) == 1).all() and len(places.long().argmax(1).unique()) > 5


def test_a_decision_that_is_changed_by_what_the_patch_covers_does_not_count():
    """Class 0 is where the middle is bright: a dark patch changes it, and so does nothing at all."""

    class Middle(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0, 2:6, 2:4].mean((1, 2)), torch.full((len(x),), 0.4)], 1)

    bright = torch.ones(4, 1, 8, 6), torch.zeros(4, dtype=torch.long), torch.zeros(9, 1, 8, 6)
    by, options = (lambda m, x, t: -x), {"share": 0.6, "draws": 40}
    found = score(by, bright, Middle(), **options)
    assert found.values.isnan().all() and "no patch changes the decision" in found.reason
    assert score(by, bright, Middle(), **options, baseline=torch.ones(1, 8, 6)).values.isfinite().all()


def test_scores_do_not_depend_on_company_and_order():
    data, by = world(), lambda m, x, t: colour(m, x, t) + x.sum(1, keepdim=True) ** 3
    whole = score(by, data).values
    assert torch.equal(whole, score(by, data, rows=torch.arange(5, -1, -1), chunk=3).values.flip(0))
    assert torch.equal(whole[2:3], score(by, data, rows=slice(2, 3)).values)


def test_what_cannot_be_is_said():
    data = world()
    for options in ({"share": 1.0}, {"draws": 0}, {"pasted": "test"}, {"pasted": torch.ones(1, 2, 2)}):
        with pytest.raises(UserError):
            score(colour, data, **options)
    with pytest.raises(NotApplicable, match="no patch is given"):
        score(colour, (*data[:2], None))
    with pytest.raises(NotApplicable, match="whole image"):
        score(colour, data, pasted=torch.ones(CLASSES, 8, 6))
    assert score(lambda m, x, t: x * float("nan"), data).values.isnan().all()
