"""The grid pointing game: what a mosaic shows, closed forms, who may stand in it, and what has no score."""

import os
from dataclasses import replace

import pytest
import torch
from torch import nn

import harness
from harness.api import make_batch
from harness.engine.explain import Explaining
from harness.errors import NotApplicable, UserError
from harness.metrics._mosaics import per_cell
from harness.registry import EXPLAINERS, METRICS
from harness.units import Units
from metric_worlds import explaining, on, samples

pytestmark = pytest.mark.usefixtures("seed")

CLASSES = 6
NAME = "grid_pointing"


class Colours(nn.Module):
    """A class for each channel: the logit is how much of its colour an image has, whatever the image's size."""

    def __init__(self, scale=60.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        return (self.scale * x.double().relu().mean((2, 3))).float()


def pictures(classes, height=4, width=6):
    """Images (N, 6, H, W) that have their class's colour, in random strengths, and no other."""
    inputs = torch.zeros(len(classes), CLASSES, height, width)
    inputs[torch.arange(len(classes)), classes] = torch.rand(len(classes), height, width) + 0.5
    return inputs


def world(count=5, pool=40, **size):
    targets = torch.randint(CLASSES, (count,))
    train = torch.cat([torch.arange(CLASSES), torch.randint(CLASSES, (pool - CLASSES,))])
    return pictures(targets, **size), targets, pictures(train[torch.randperm(pool)], **size)


def score(function, model=None, data=None, reduction="sum", maps=None, chunk=32, rows=slice(None), **options):
    """The Scores of an explainer, a function or an Explaining, on a world."""
    model = model or Colours()
    inputs, targets, train = data or world()
    by = function if isinstance(function, Explaining) else explaining(function, model)
    found = samples(model, inputs[rows], targets[rows], chunk=chunk, train=train, elements=reduction == "none")
    maps = torch.zeros_like(inputs[rows]) if maps is None else maps
    return on(NAME, make_batch(found, maps, by, reduction), **options)


def registered(name, model, **options):
    entry = EXPLAINERS[name]
    return Explaining(entry, entry.complete(options), model)


def input_x_gradient(model, inputs, targets):
    inputs = inputs.requires_grad_()
    return (inputs * torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]).detach()


def showing(seen):
    """An explainer that notes what it is asked to explain."""
    return lambda model, inputs, targets: (seen.append((inputs.clone(), targets.clone())), inputs.abs())[1]


def cells_of(mosaics, side):
    """The images of mosaics of full size, row by row: (M, side^2, C, H, W)."""
    parts = mosaics.unflatten(2, (side, -1)).unflatten(4, (side, -1))
    return parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


@pytest.mark.parametrize("resize", [False, True])
def test_a_map_that_is_the_same_everywhere_scores_one_in_the_number_of_cells(resize):
    found = score(lambda model, x, t: torch.full_like(x, 0.3), resize=resize)
    torch.testing.assert_close(found.values, torch.full((5,), 1 / 4, dtype=torch.float64))


def test_of_unequal_cells_a_constant_map_scores_the_area():
    data, seen = world(height=5, width=7), []
    keep = showing(seen)
    found = score(lambda m, x, t: torch.ones_like(keep(m, x, t)), data=data, resize=True)
    assert seen[0][0].shape == (5, CLASSES, 5, 7)
    areas = {rows * columns / 35 for rows in (2, 3) for columns in (3, 4)}
    assert all(min(abs(value - area) for area in areas) < 1e-9 for value in found.values.tolist())


@pytest.mark.parametrize("options", [{}, {"draws": 4}, {"resize": True}], ids=str)
def test_an_explanation_that_finds_the_classs_own_pixels_scores_one_and_its_opposite_nothing(options):
    model, data = Colours(), world()
    assert score(input_x_gradient, model, data, **options).values.min() > (0.85 if options.get("resize") else 1 - 1e-9)
    # Where the class is not: every pixel without its colour.
    found = score(lambda m, x, t: (x[torch.arange(len(x)), t] == 0).float()[:, None], model, data, **options)
    assert found.values.max() < (0.1 if options.get("resize") else 1e-9)


def test_negative_attribution_does_not_count():
    model, data = Colours(), world()
    both = lambda m, x, t: input_x_gradient(m, x, t) - 5.0 * (x[torch.arange(len(x)), t] == 0)[:, None]
    torch.testing.assert_close(score(both, model, data).values, torch.ones(5, dtype=torch.float64))


def test_a_mosaic_shows_the_image_and_training_images_of_other_classes_each_once():
    data, seen, side = world(count=8), [], 2
    inputs, targets, train = data
    score(showing(seen), data=data, side=side, draws=3)
    mosaics, explained = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert mosaics.shape == (24, CLASSES, 4 * side, 6 * side)
    assert torch.equal(explained, targets.repeat_interleave(3))
    for row, cells in enumerate(cells_of(mosaics, side)):
        classes = cells.sum((2, 3)).argmax(1).tolist()
        assert len(set(classes)) == side**2  # all different
        own = [torch.equal(cell, inputs[row // 3]) for cell in cells]
        assert sum(own) == 1 and classes[own.index(True)] == targets[row // 3]
        others = [cell for cell, is_own in zip(cells, own, strict=True) if not is_own]
        assert all((cell == train).flatten(1).all(1).any() for cell in others)


def test_a_larger_mosaic_uses_every_class_where_it_must():
    class Many(Colours):
        def forward(self, x):
            return torch.cat([super().forward(x), super().forward(-x)], 1)

    classes = torch.arange(12).repeat(3)
    coloured = lambda at: torch.where(at < 6, 1.0, -1.0).view(-1, 1, 1, 1) * pictures(at % 6)
    targets, seen = torch.tensor([0, 7, 11]), []
    data = coloured(targets), targets, coloured(classes)
    model = Many(120.0).eval()
    score(showing(seen), model, data, side=3)
    for cells in cells_of(seen[0][0], 3):
        assert len(set(model(cells).argmax(1).tolist())) == 9
    constant = score(lambda m, x, t: torch.ones_like(x), model, data, side=3, resize=True)
    assert (constant.values - 1 / 9).abs().max() < 0.06  # 4 x 6 pixels in nine cells


def test_the_place_and_the_other_images_are_spread_evenly():
    inputs = pictures(torch.zeros(400, dtype=torch.long))
    data, seen = (inputs, torch.zeros(400, dtype=torch.long), pictures(torch.arange(CLASSES).repeat(4))), []
    score(showing(seen), data=data)
    cells = cells_of(torch.cat([mosaics for mosaics, _ in seen]), 2)
    classes = cells.sum((3, 4)).argmax(2)
    place = (classes == 0).long().argmax(1).bincount(minlength=4)
    assert (place - 100).abs().max() < 5 * (400 * 0.25 * 0.75) ** 0.5
    others = classes[classes > 0].bincount(minlength=CLASSES)[1:]
    assert (others - 240).abs().max() < 5 * (400 * 0.6 * 0.4) ** 0.5
    kinds = torch.unique(cells[classes == 1].flatten(1), dim=0)
    assert len(kinds) == 4  # every training image of a class has its turn


def test_explainers_meet_the_same_mosaics_and_another_seed_draws_others():
    (inputs, targets, train), calls = world(), []
    for seed in (0, 0, 1):
        found = samples(Colours(), inputs, targets, train=train, seed=seed)
        on(NAME, make_batch(found, torch.zeros_like(inputs), explaining(showing(seen := []), None)), draws=3)
        calls.append(torch.cat([mosaics for mosaics, _ in seen]))
    assert torch.equal(calls[0], calls[1]) and not torch.equal(calls[0], calls[2])


def test_a_sample_scores_alone_as_it_does_in_company_in_any_order_and_chunk():
    model, data = Colours(), world(count=6)
    noisy = registered("random", model)
    for by in (noisy, explaining(lambda m, x, t: input_x_gradient(m, x, t) + x.roll(1, 3), model)):
        whole = score(by, model, data, draws=3).values
        assert whole.std() > 0
        for rows, chunk in (([2], 32), ([5, 0, 3], 1), ([1, 1, 4], 3)):
            part = score(by, model, data, rows=rows, chunk=chunk, draws=3).values
            torch.testing.assert_close(part, whole[rows], rtol=1e-6, atol=1e-9)


def test_the_score_is_the_mean_over_the_mosaics():
    model, data, seen = Colours(), world(), []
    maps = lambda m, x, t: (seen.append(x.clone()), x.roll(2, 3).abs())[1]
    several = score(maps, model, data, draws=3).values
    mosaics = torch.cat(seen)
    inputs = data[0]
    shares = []
    for row, mosaic in enumerate(mosaics):
        own = [torch.equal(cell, inputs[row // 3]) for cell in cells_of(mosaic[None], 2)[0]].index(True)
        sums = cells_of(mosaic.roll(2, 2).abs()[None].double(), 2)[0].flatten(1).sum(1)
        shares.append(sums[own] / sums.sum())
    torch.testing.assert_close(several, torch.stack(shares).view(5, 3).mean(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("resize", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "saliency",
        "input_x_gradient",
        "integrated_gradients",
        "random",
        "center",
        "occlusion",
        "grad_cam",
        "expected_gradients",
        "smoothgrad",
        "rise",
        "kernel_shap",
        "blurred_random",
    ],
)
def test_explainers_of_every_kind_are_asked_again_on_the_mosaics_size(name, resize):
    torch.manual_seed(int(os.environ["HARNESS_TEST_SEED"]) % 10_000)
    inputs, targets, train = world(height=8, width=8)
    model = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), nn.ReLU(), Colours(200.0)).eval()
    model[0].weight.data.abs_()
    entry = EXPLAINERS[name]
    options = {key: 8 for key in ("steps",) if isinstance(entry.options.get(key), int)}
    options |= {"samples": 60} if "samples" in entry.options else {}
    options |= {"segments": "grid:4"} if "segments" in entry.options else {}
    maps = harness.explain(name, model, inputs, targets, train=train, **options)
    found = harness.score(
        NAME, model, inputs, targets, maps, explainer=name, explainer_options=options, train=train, resize=resize
    )
    assert found.isfinite().any() and ((found >= 0) & (found <= 1))[found.isfinite()].all()
    if name == "center" and not resize:
        torch.testing.assert_close(found, torch.full_like(found, 0.25), rtol=1e-5, atol=0)


def test_what_an_explainer_prepares_is_made_for_the_mosaics_and_its_training_inputs_are_mosaics():
    seen, (inputs, targets, train) = [], world()
    model = Colours()

    def mapped(model, inputs, targets, *, context, prepared):
        assert prepared == tuple(inputs.shape[1:]) == tuple(context.train.shape[1:])
        seen.append(context)
        return inputs.abs()

    by = explaining(mapped, model, prepare=lambda model, context: tuple(context.inputs.shape[1:]))
    score(by, model, (inputs, targets, train))
    context = seen[0]
    assert context.units.shape == (8, 12)
    assert len(context.train) == len(train) // 4
    shown = cells_of(context.train, 2).flatten(0, 1)
    assert len(torch.unique(shown.flatten(1), dim=0)) == len(train) == len(shown)  # each training image once
    assert all((cell == train).flatten(1).all(1).any() for cell in shown)
    assert by.prepared is None  # what it had prepared for the images themselves is its own


def test_what_speaks_of_the_images_themselves_is_not_handed_to_an_explainer_of_mosaics():
    (inputs, targets, train), model, contexts = world(), Colours(), []

    def noting(model, inputs, targets, *, context):
        contexts.append(context)
        return inputs.abs()

    found = samples(
        model,
        inputs,
        targets,
        train=train,
        chunk=32,
        train_labels=train.sum((2, 3)).argmax(1),
        masks=torch.ones(5, 4, 6),
        segments=torch.zeros(4, 6, dtype=torch.long),
    )
    found.for_block("mean", lambda: train.mean(0))
    on(NAME, make_batch(found, torch.zeros_like(inputs), explaining(noting, model)))
    for context in contexts:
        assert context.masks is context.given_segments is context.train_labels is None
        assert context.for_block("mean", lambda: 0.0) == 0.0
        assert context.predictor.chunk == 8 and len(context) <= 4  # a mosaic takes the memory of four images


def test_only_confident_images_are_mosaicked_and_only_confident_samples_scored():
    inputs, targets, train = world(count=6, pool=60)
    faint = torch.arange(60) % 2 == 0
    train[faint] *= 1e-3  # probabilities near 1 / 6
    train = torch.cat([train, pictures(torch.arange(CLASSES))])
    inputs[2] *= 1e-3
    seen = []
    found = score(showing(seen), data=(inputs, targets, train))
    assert found.values.isnan().tolist() == [row == 2 for row in range(6)] and "confidence" in found.reason
    shown = cells_of(torch.cat([mosaics for mosaics, _ in seen]), 2).flatten(2).amax(2)
    assert len(shown) == 5 and shown.min() > 0.4
    wrong = score(showing([]), data=(inputs[:1], (targets[:1] + 1) % CLASSES, train))
    assert wrong.values.isnan().all()  # the model is confident, of another class
    lenient = score(showing([]), data=(inputs, targets, train), confidence=0.1)
    assert lenient.values.isfinite().all()


def test_a_class_that_others_need_may_be_the_samples_own():
    targets = torch.tensor([0, 4])
    data = pictures(targets), targets, pictures(torch.tensor([0, 1, 2, 1]))
    found = score(lambda m, x, t: torch.ones_like(x), data=data)
    assert found.values.isnan().tolist() == [True, False] and "too few other classes" in found.reason


def test_a_map_without_a_positive_part_has_no_score():
    data = world()
    target = int(data[1][0])
    maps = lambda m, x, t: x.abs() * torch.where(t == target, -1.0, 1.0).view(-1, 1, 1, 1)
    found = score(maps, data=data)
    assert found.values.isnan().tolist() == (data[1] == target).tolist() and "no positive part" in found.reason
    broken = score(lambda m, x, t: torch.where(t == target, torch.nan, 1.0).view(-1, 1, 1, 1) * x, data=data)
    assert broken.values.isnan().tolist() == (data[1] == target).tolist()


def test_a_model_of_one_size_needs_the_mosaic_scaled_down():
    unfolded = nn.Sequential(nn.Flatten(), nn.Unflatten(1, (6, 4, 6)), Colours()).eval()
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(144, 6)).eval()
    fixed[1].weight.data = 60 * torch.eye(6).repeat_interleave(24, 1) / 24
    fixed[1].bias.data.zero_()
    data = world()
    for each in (unfolded, fixed):
        with pytest.raises(NotApplicable, match="resize=True"):
            score(input_x_gradient, each, data)
    found = score(input_x_gradient, fixed, data, resize=True)
    assert found.values.min() > 0.9  # antialiasing mixes a pixel's neighbours only


def test_a_mosaic_is_scaled_image_by_image_into_its_cells():
    data, seen, small = world(height=8, width=12), [], []
    score(showing(seen), data=data)
    score(showing(small), data=data, resize=True)
    mosaics, scaled = (torch.cat([inputs for inputs, _ in calls]) for calls in (seen, small))
    assert scaled.shape == data[0].shape
    for cell, shrunk in zip(cells_of(mosaics, 2).flatten(0, 1), cells_of(scaled, 2).flatten(0, 1), strict=True):
        torch.testing.assert_close(shrunk.mean((1, 2)), cell.mean((1, 2)), rtol=0.1, atol=1e-6)
        expected = nn.functional.interpolate(cell[None], (4, 6), mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(shrunk, expected)


def test_where_there_is_no_mosaic_there_is_a_reason():
    inputs, targets, train = data = world()
    with pytest.raises(NotApplicable, match="train="):
        score(input_x_gradient, data=(inputs, targets, None))
    with pytest.raises(NotApplicable, match="explains again"):
        harness.score(NAME, Colours().eval(), inputs, targets, inputs, train=train)
    with pytest.raises(NotApplicable, match="there are 2"):
        score(input_x_gradient, data=(inputs, targets, pictures(torch.tensor([0, 1, 1]))))
    with pytest.raises(NotApplicable, match="there are 6"):
        score(input_x_gradient, data=data, side=3)
    with pytest.raises(NotApplicable, match="there are 0"):
        score(input_x_gradient, Colours(1e-3), data)
    with pytest.raises(NotApplicable, match="single output"):
        score(lambda m, x, t: x, nn.Sequential(nn.Flatten(), nn.Linear(144, 1)), (inputs, 0 * targets, train))
    table = torch.randn(5, 7)
    net = nn.Linear(7, 3)
    with pytest.raises(NotApplicable, match="image"):
        score(lambda m, x, t: x, net, (table, targets % 3, table))
    tall = world(height=1, width=6)
    with pytest.raises(NotApplicable, match="1 pixels cannot be cut"):
        score(input_x_gradient, data=tall, resize=True)


@pytest.mark.parametrize("wrong", [{"side": 1}, {"draws": 0}, {"confidence": 1.5}, {"confidence": -0.1}], ids=str)
def test_options_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UserError, match="expected"):
        score(input_x_gradient, **wrong)


@pytest.mark.parametrize("reduction", ["sum", "abs_sum", "none"])
def test_channels_are_reduced_as_the_protocol_says(reduction):
    model, data = Colours(), world()

    # Own cell: the class's channel. Everywhere: two other channels that cancel.
    def maps(m, x, t):
        cancel = torch.zeros_like(x)
        cancel[torch.arange(len(x)), (t + 1) % CLASSES], cancel[torch.arange(len(x)), (t + 2) % CLASSES] = 1.0, -1.0
        return (x * nn.functional.one_hot(t, CLASSES)[:, :, None, None] > 0).float() + cancel

    # In every pixel the two add 0, 2 or 1 to the 1 of the own cell's pixels.
    added = {"sum": 0, "abs_sum": 2, "none": 1}[reduction]
    found = score(maps, model, data, reduction=reduction).values
    expected = (1 + added) / (1 + 4 * added)
    torch.testing.assert_close(found, torch.full_like(found, expected))


def test_everything_comes_back_as_it_was_also_after_a_failure():
    model, (inputs, targets, train) = Colours(), world()
    before = inputs.clone(), train.clone(), model.scale.detach().clone(), torch.get_rng_state()

    def failing(m, x, t):
        x.mul_(0)
        raise RuntimeError("no")

    for function in (lambda m, x, t: x.mul_(2), failing):
        try:
            score(function, model, (inputs, targets, train))
        except RuntimeError as error:
            assert str(error) == "no"
    assert torch.equal(inputs, before[0]) and torch.equal(train, before[1])
    assert torch.equal(model.scale, before[2]) and torch.equal(torch.get_rng_state(), before[3])


def test_the_pool_is_predicted_once_for_all_explainers_and_mosaics_only_where_scored():
    inputs, targets, train = world(count=5, pool=40)
    model = Colours()
    found = samples(model, inputs, targets, train=train)
    by = explaining(lambda m, x, t: x.abs(), model)
    for _ in range(3):
        on(NAME, make_batch(found, torch.zeros_like(inputs), by))
    assert found.predictor.forwards == 40 + 5  # the mosaics are on the live model, whose predictor is another


def test_it_is_the_same_through_the_front_door_in_chunks_of_any_size(monkeypatch):
    inputs, targets, train = world(count=7)
    explainers = {"mine": {"name": lambda model, x, t: x.roll(1, 3).abs()}, "random": {}}
    kwargs = {"explainers": explainers, "metrics": [NAME], "train": train}
    whole = harness.evaluate(Colours().eval(), inputs, targets, **kwargs)
    assert (whole.status == "ok").all(), whole.error.unique()
    monkeypatch.setattr("harness.engine.stage.CHUNK_BYTES", 2 * inputs[0].nbytes)
    parts = harness.evaluate(Colours().eval(), inputs, targets, **kwargs)
    first, second = (
        torch.tensor(frame.sort_values(["explainer", "sample"]).value.tolist()) for frame in (whole, parts)
    )
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-9)


def test_sums_over_cells_are_those_of_a_loop():
    values = torch.randn(3, 2, 7, 9, dtype=torch.float64)
    found = per_cell(values, 3)
    rows, columns = (0, 2, 4, 7), (0, 3, 6, 9)
    for cell in range(9):
        down, right = divmod(cell, 3)
        part = values[:, :, rows[down] : rows[down + 1], columns[right] : columns[right + 1]]
        torch.testing.assert_close(found[:, cell], part.sum((1, 2, 3)))


def test_kind_direction_and_unit():
    entry = METRICS[NAME]
    assert (entry.kind, entry.direction({}), entry.unit_of({})) == ("localisation", "higher", "share")


def test_an_explainer_without_a_registered_entry_is_called_as_it_is():
    inputs, targets, train = world()
    model, seen = Colours(), []
    batch = make_batch(samples(model, inputs, targets, train=train), torch.zeros_like(inputs), None)

    def again(found):
        seen.append(found.units)
        return found.inputs.abs()

    values = on(NAME, replace(batch, explain_again=again)).values
    assert values.isfinite().all() and seen == [Units.of(torch.zeros(1, CLASSES, 8, 12))]
