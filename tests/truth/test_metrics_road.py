"""ROAD against a loop over samples, percents and pixels, and on models whose accuracy is known beforehand."""

import pytest
import torch
from torch import nn

import harness
from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.randomness import normal
from harness.removal.infilling import infill
from harness.removal.noisy_linear import fill_linearly
from metric_worlds import Constant, Interacting, draw, generator, on, samples, scores

pytestmark = pytest.mark.usefixtures("seed")
PERCENTS = (10, 20, 30, 40, 50, 70, 90)


def world(seed, shape=(3, 8, 7), count=4):
    model = Interacting(shape, generator(seed))
    return model, draw(shape, seed + 1, count), draw(shape, seed + 2, count)


def removed_by_hand(maps, percent, order):
    """Which pixels go (N, 1, H, W): a share of them, rounded down, from one end of the order."""
    flat = maps.sum(1).flatten(1)
    count = flat.shape[1] * percent // 100
    first = flat.argsort(1, descending=order == "morf")[:, :count]
    return torch.zeros_like(flat, dtype=torch.bool).scatter(1, first, True).view(len(maps), 1, *maps.shape[2:])


@pytest.mark.parametrize("order", ["morf", "lerf"])
@pytest.mark.parametrize("shape", [(3, 8, 7), (1, 5, 9)], ids=str)
def test_each_point_is_the_prediction_for_the_imputed_images(shape, order, seed):
    model, inputs, maps = world(seed, shape)
    targets = torch.tensor([0, 1, 2, 1])
    found = {
        score: scores(
            "road",
            model,
            inputs,
            maps,
            targets=targets,
            chunk=5,
            options={"order": order, "absolute_noise": 0.0, "score": score},
        )
        for score in ("accuracy", "probability", "logit", "log_odds")
    }
    for point, percent in enumerate(PERCENTS):
        outputs = model(fill_linearly(inputs, removed_by_hand(maps, percent, order))).detach().double()
        p = outputs.softmax(1).gather(1, targets[:, None])[:, 0]
        expected = {
            "accuracy": (outputs.argmax(1) == targets).double(),
            "probability": p,
            "log_odds": (p / (1 - p)).log(),
            "logit": outputs.gather(1, targets[:, None])[:, 0],
        }
        for score, values in expected.items():
            torch.testing.assert_close(found[score].curves[:, point], values, atol=1e-4, rtol=1e-4)
    for each in found.values():
        torch.testing.assert_close(each.values, each.curves.mean(1))
    assert found["probability"].values.std() > 1e-3


def test_the_noise_is_the_samples_own_and_is_averaged_over_imputations(seed):
    model, inputs, maps = world(seed)
    options = {"absolute_noise": 0.5, "imputations": 2, "score": "logit", "percents": "40"}
    found = scores("road", model, inputs, maps, options=options, seed=3)
    removed = removed_by_hand(maps, 40, "morf")
    made = samples(model, inputs, seed=3)
    noise = [0.5 * normal(made.stream(f"noisy linear {k}"), *inputs.shape[1:]) for k in range(2)]
    filled = fill_linearly(inputs, removed)
    draws = [model(torch.where(removed, filled + each, inputs))[:, 0].detach().double() for each in noise]
    torch.testing.assert_close(found.values, (draws[0] + draws[1]) / 2, atol=1e-4, rtol=1e-4)
    assert (draws[0] - draws[1]).abs().max() > 1e-3


def test_the_default_noise_is_the_baselines_of_the_same_name(seed):
    model, inputs, maps = world(seed)
    found = scores("road", model, inputs, maps, options={"percents": "50", "score": "logit"}, seed=3)
    made, kept = samples(model, inputs, seed=3), ~removed_by_hand(maps, 50, "morf")
    by_name = model(infill(made, "noisy_linear", torch.arange(4), kept))[:, 0].detach().double()
    torch.testing.assert_close(found.values, by_name, atol=1e-6, rtol=1e-6)


class Left(nn.Module):
    """Class 0 where the left half of a grey image is brighter than the right."""

    def forward(self, x):
        half = x.shape[-1] // 2
        gain = (x[..., :half].double().mean((1, 2, 3)) - x[..., half:].double().mean((1, 2, 3))).float()
        return torch.stack([gain, -gain], 1)


def test_an_object_that_is_removed_first_is_lost_and_one_that_is_removed_last_is_kept():
    """A bright patch on the left decides; without its pixels the image is even, and the noise alone decides."""
    images = torch.zeros(200, 1, 10, 20)
    images[:, :, 3:7, 3:8] = 1
    images += 1e-3 * torch.randn_like(images)
    found = {
        order: scores("road", Left(), images, images, options={"order": order, "percents": "10 50"}).curves
        for order in ("morf", "lerf")
    }
    assert (found["lerf"] == 1).all()
    # A coin for each image: sd 0.035; the mean of what is left of the patch's rim is no part of either half.
    assert (found["morf"][:, 0].mean() - 0.5).abs() < 5 * 0.036


def test_the_prediction_is_held_against_the_label_where_the_data_has_one(seed):
    model, inputs, maps = world(seed)
    labels = torch.tensor([2, 0, 1, 2])
    made = samples(model, inputs)
    made.labels = labels
    found = on("road", make_batch(made, maps, None), absolute_noise=0.0)
    by_target = scores("road", model, inputs, maps, targets=labels, options={"absolute_noise": 0.0})
    assert torch.equal(found.curves, by_target.curves)
    chosen = [scores("road", model, inputs, maps, targets=torch.full((4,), k)).values for k in range(3)]
    torch.testing.assert_close(torch.stack(chosen).sum(0), torch.ones(4, dtype=torch.float64))


def test_the_scores_are_independent_of_chunks_and_company(seed):
    model, inputs, maps = world(seed, (3, 20, 17), 5)
    options = {"score": "logit", "imputations": 2, "tie_draws": 2}
    together = scores("road", model, inputs, maps, options=options, chunk=64).values
    in_threes = scores("road", model, inputs, maps, options=options, chunk=3).values
    torch.testing.assert_close(in_threes, together, atol=1e-5, rtol=1e-5)
    for k in (3, 1):
        alone = scores("road", model, inputs[k : k + 1], maps[k : k + 1], options=options).values
        torch.testing.assert_close(alone, together[k : k + 1], atol=1e-5, rtol=1e-5)


def test_all_scores_of_a_map_come_of_the_same_passes(seed):
    model, inputs, maps = world(seed)
    made = samples(model, inputs)
    batch = make_batch(made, maps, None)
    for score in ("accuracy", "probability", "logit"):
        on("road", batch, score=score, imputations=2, tie_draws=3)
    assert made.predictor.forwards == 4 * 7 * 2 * 3


def test_the_last_pixel_of_all_fills_the_image(seed):
    model, inputs, maps = world(seed)
    found = scores("road", model, inputs, maps, options={"percents": "99.9", "score": "logit", "absolute_noise": 0.0})
    last = maps.sum(1).flatten(1).argmin(1)
    even = inputs.flatten(2)[torch.arange(len(inputs)), :, last][..., None, None].expand_as(inputs)
    torch.testing.assert_close(found.values, model(even)[:, 0].detach().double(), atol=1e-4, rtol=1e-4)


def test_only_the_order_of_the_units_matters_and_ties_are_broken_by_lot(seed):
    model, inputs, maps = world(seed)
    options = {"score": "logit"}
    reference = scores("road", model, inputs, maps.sum(1, keepdim=True), options=options)
    changed = scores("road", model, inputs, 3 * maps.sum(1, keepdim=True) ** 3 + 1, options=options)
    assert torch.equal(reference.values, changed.values) and (reference.tied == 0).all()
    even = scores("road", model, inputs, torch.ones_like(inputs), options={**options, "tie_draws": 2})
    assert (even.tied == 1).all()
    single = scores("road", model, inputs, torch.ones_like(inputs), options=options)
    assert not torch.allclose(even.values, single.values)


def test_a_models_outputs_that_are_not_numbers_are_no_wrong_prediction(seed):
    class Broken(nn.Module):
        def forward(self, x):
            logits = x.flatten(1)[:, :3].double().float()
            return torch.where((x[:, :1, 0, 0] > 0).expand(-1, 3), logits, torch.full_like(logits, float("nan")))

    inputs = draw((1, 6, 6), seed, 2).abs()
    inputs[1] *= -1
    maps = torch.linspace(0, 1, 36).view(1, 1, 6, 6).expand(2, 1, 6, 6)
    found = scores("road", Broken(), inputs, maps, options={"percents": "10", "absolute_noise": 0.0})
    assert found.values.isnan().tolist() == [False, True] and "not finite" in found.reason


def test_every_number_may_be_a_unit_of_its_own(seed):
    model, inputs, maps = world(seed)
    found = scores("road", model, inputs, maps, reduction="none", options={"score": "logit", "absolute_noise": 0.0})
    flat = maps.flatten(1)
    first = flat.argsort(1, descending=True)[:, : flat.shape[1] // 2]
    removed = torch.zeros_like(flat, dtype=torch.bool).scatter(1, first, True).view_as(maps)
    by_hand = model(fill_linearly(inputs, removed))[:, 0].detach().double()
    torch.testing.assert_close(found.curves[:, 4], by_hand, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_asked_is_said(seed):
    model, inputs, maps = world(seed)
    numbers = ({"absolute_noise": -0.1}, {"imputations": 0}, {"tie_draws": 0})
    texts = ({"percents": p} for p in ("", "0", "101", "10,20", "x"))
    for options in ({"order": "most"}, {"score": "margin"}, *numbers, *texts):
        with pytest.raises(UserError):
            scores("road", model, inputs, maps, options=options)
    with pytest.raises(NotApplicable, match="image"):
        scores("road", Constant(), draw((7,), seed), draw((7,), seed))
    single = nn.Sequential(nn.Flatten(), nn.Linear(168, 1))
    numbers = harness.Data(inputs, task="regression")
    with pytest.raises(NotApplicable, match="regression has no probability"):
        harness.score("road", single.eval(), numbers, maps, score="probability")
    assert harness.score("road", single, numbers, maps).isfinite().all()  # it has no accuracy: the number itself
