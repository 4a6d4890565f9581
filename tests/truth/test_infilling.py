"""What fills in from the units that are left: the linear system solved directly, OpenCV, and what a VAE must learn."""

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

import harness
from harness.errors import NotApplicable, UserError
from harness.removal.baselines import BASELINES, is_random
from harness.removal.infilling import DRAWING, INFILLINGS, infill
from harness.removal.noisy_linear import NUMBERS_AT_ONCE, fill_linearly
from metric_worlds import Additive, Constant, Interacting, draw, generator, samples, scores

pytestmark = pytest.mark.usefixtures("seed")
# They need a range of values or a text, and the last follows the seed alone.
OF_ITS_OWN = ("black", "pad", "mask")
EVERY = sorted(set(INFILLINGS) - {"drop"})  # which is for texts: test_text_baselines


@pytest.fixture(autouse=True)
def a_short_training(request, monkeypatch):
    """A few steps, save where a test is about what has been learned."""
    if "finds_what_follows" not in request.node.name:
        monkeypatch.setattr("harness.removal.vae.STEPS", 8)


def holes(shape, share, seed, block=1):
    """Masks (N, 1, H, W) of about a share of the pixels, in blocks of some pixels a side; some pixel is always left."""
    count, height, width = shape
    coarse = torch.rand(count, 1, -(-height // block), -(-width // block), generator=generator(seed))
    removed = (coarse < share).repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :height, :width].clone()
    removed[:, :, height // 2, width // 3] = False
    return removed


def solved(image, removed):
    """One channel (H, W) with removed pixels filled in by a direct solver, pixel by pixel in double precision."""
    height, width = image.shape
    number = {tuple(at): k for k, at in enumerate(np.argwhere(removed))}
    matrix, right = lil_matrix((len(number), len(number))), np.zeros(len(number))
    for (row, column), k in number.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                there = row + down, column + across
                inside = 0 <= there[0] < height and 0 <= there[1] < width
                if (down, across) == (0, 0) or not inside:
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[k, k] += weight
                if there in number:
                    matrix[k, number[there]] = -weight
                else:
                    right[k] += weight * image[there]
    filled = image.copy()
    filled[removed] = spsolve(matrix.tocsc(), right)
    return filled


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 31, 44), (2, 1, 30), (1, 9, 2), (3, 40, 17)], ids=str)
@pytest.mark.parametrize("block", [1, 7])
def test_linear_in_filling_solves_rongs_system(shape, share, block, seed):
    images = draw(shape, seed, 2) + 5
    removed = holes((2, *shape[1:]), share, seed, block)
    found = fill_linearly(images, removed)
    for image, mask, filled in zip(images, removed, found, strict=True):
        expected = np.stack([solved(channel.double().numpy(), mask[0].numpy()) for channel in image])
        np.testing.assert_allclose(filled.double().numpy(), expected, atol=2e-4)
    assert torch.equal(torch.where(removed, images, found), images)  # what is kept is kept to the bit


def test_in_double_precision_the_equations_hold(seed):
    images, removed = draw((2, 50, 37), seed, 2).double(), holes((2, 50, 37), 0.8, seed, 5)
    filled = fill_linearly(images, removed)
    assert filled.dtype == torch.float64
    kernel = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]]).double()[None, None] / 12
    around = lambda x: torch.nn.functional.conv2d(x.flatten(0, 1)[:, None], kernel, padding=1).view_as(x)
    gap = (around(torch.ones_like(filled)) * filled - around(filled)) * removed
    start = around((images - images.mean()) * ~removed) * removed
    assert gap.norm() < 1e-5 * start.norm()


@pytest.mark.parametrize("turned", [False, True])
def test_an_image_of_one_row_is_interpolated_between_the_next_known_pixels(turned, seed):
    values, removed = draw((1, 1, 700), seed, 2).double(), holes((2, 1, 700), 0.9, seed, 3)
    turn = (lambda x: x.mT) if turned else (lambda x: x)
    found = turn(fill_linearly(turn(values), turn(removed)))
    for line, gone, filled in zip(values[:, 0, 0].numpy(), removed[:, 0, 0].numpy(), found[:, 0, 0], strict=True):
        expected = np.interp(np.arange(700), np.flatnonzero(~gone), line[~gone])
        np.testing.assert_allclose(filled.numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("at_once", [1, 700, 2500, 10**6])
def test_a_row_is_filled_in_the_same_to_the_bit_in_any_company(at_once, seed, monkeypatch):
    images = draw((2, 27, 22), seed, 6)
    images[1, :, 3] = float("nan")  # which stays where it is
    removed = torch.cat([holes((1, 27, 22), share, seed, 2) for share in (0.1, 0.5, 0.9, 0.3)])
    removed = torch.cat([removed, torch.zeros(1, 1, 27, 22) > 0, torch.ones(1, 1, 27, 22) > 0])
    alone = torch.cat([fill_linearly(images[k : k + 1], removed[k : k + 1]) for k in range(6)])
    monkeypatch.setitem(NUMBERS_AT_ONCE, "cpu", at_once)
    found = fill_linearly(images, removed)
    assert found[1].isnan().any() and found[[0, 2, 3, 4, 5]].isfinite().all()
    assert torch.equal(found.nan_to_num(), alone.nan_to_num())
    assert torch.equal(alone[4], images[4])
    torch.testing.assert_close(alone[5], images[5].mean((1, 2), keepdim=True).expand_as(images[5]))


@pytest.mark.parametrize("side", [8, 33, 60])
def test_a_plane_is_continued_across_a_hole_inside_the_image(side, seed):
    rows, columns = torch.meshgrid(torch.arange(side) * 1.0, torch.arange(side) * 1.0, indexing="ij")
    slope = draw((2,), seed, 1)[0]
    plane = (slope[0] * rows + slope[1] * columns + 3)[None, None]
    removed = torch.zeros(1, 1, side, side, dtype=torch.bool)
    removed[..., 1:-1, 2:-1] = True
    damaged = torch.where(removed, torch.full_like(plane, 1e3), plane)  # what was there does not matter
    torch.testing.assert_close(fill_linearly(damaged, removed), plane, atol=1e-3 * side, rtol=0)
    assert (damaged - plane).abs().max() > 100


def test_one_channel_may_be_hidden_where_another_is_not(seed):
    images = draw((3, 12, 10), seed, 2)
    removed = torch.cat([holes((2, 12, 10), 0.5, seed + k) for k in range(3)], 1)
    apart = torch.cat([fill_linearly(images[:, k : k + 1], removed[:, k : k + 1]) for k in range(3)], 1)
    torch.testing.assert_close(fill_linearly(images, removed), apart, atol=1e-5, rtol=1e-5)


def test_where_nothing_is_left_an_image_becomes_its_own_mean(seed):
    images = draw((3, 7, 6), seed, 3) + 2
    made = samples(Constant(), images)
    none = torch.zeros(3, 1, 7, 6, dtype=torch.bool)
    means = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(fill_linearly(images, ~none), means)
    torch.testing.assert_close(infill(made, "inpaint", torch.arange(3), none), means)
    noise = infill(made, "noisy_linear", torch.arange(3), none) - means
    assert noise.abs().max() < 0.07 and noise.std() > 0.005


def test_the_noise_is_gaussian_of_a_hundredth_on_removed_pixels_only(seed):
    images = draw((3, 40, 40), seed, 4)
    kept = ~holes((4, 40, 40), 0.6, seed)
    made, rows = samples(Constant(), images), torch.arange(4)
    first, second = (infill(made, "noisy_linear", rows, kept, k) for k in range(2))
    clear, gone = fill_linearly(images, ~kept), (~kept).expand_as(images)
    noise = torch.stack([first, second]) - clear
    assert (noise[:, ~gone] == 0).all()
    drawn = noise[:, gone] / 0.01
    assert drawn.mean().abs() < 5 / drawn.numel() ** 0.5
    assert (drawn.var() - 1).abs() < 5 * (2 / drawn.numel()) ** 0.5
    assert np.corrcoef(drawn[0], drawn[1])[0, 1] < 5 / drawn[0].numel() ** 0.5


def test_the_noise_of_a_place_is_the_same_under_every_mask(seed):
    made, rows = samples(Constant(), draw((1, 9, 9), seed, 2)), torch.arange(2)
    masks = [~holes((2, 9, 9), share, seed + 1) for share in (0.3, 0.9)]
    noise = [infill(made, "noisy_linear", rows, kept) - fill_linearly(made.inputs, ~kept) for kept in masks]
    both = ~(masks[0] | masks[1])
    torch.testing.assert_close(noise[0][both], noise[1][both], atol=1e-5, rtol=0)


def test_inpainting_is_opencvs_on_values_between_0_and_255(seed):
    images, kept = draw((2, 14, 11), seed, 2) * 3 - 1, ~holes((2, 14, 11), 0.4, seed, 2)
    found = infill(samples(Constant(), images), "inpaint", torch.arange(2), kept)
    for image, mask, filled in zip(images.numpy(), kept[:, 0].numpy(), found.numpy(), strict=True):
        for channel, answer in zip(image, filled, strict=True):
            low, high = channel[mask].min(), channel[mask].max()
            scaled = np.where(mask, (channel - low) / (high - low) * 255, 0).astype(np.float32)
            expected = cv2.inpaint(scaled, (~mask).astype(np.uint8), 3, cv2.INPAINT_TELEA)
            np.testing.assert_allclose(answer, expected / 255 * (high - low) + low, atol=1e-3)
            assert answer.min() > low - 0.1 * (high - low) and answer.max() < high + 0.1 * (high - low)


@pytest.mark.parametrize("power", [-30, -20, -10, 10, 20, 30])
def test_what_removed_units_become_follows_the_scale_of_the_images(power, seed):
    images, train = draw((2, 9, 8), seed, 3) + 1, draw((2, 9, 8), seed + 1, 40) + 1
    kept, rows = ~holes((3, 9, 8), 0.5, seed + 2), torch.arange(3)
    made = (samples(Constant(), 10.0**by * images, train=10.0**by * train) for by in (0, power))
    here, scaled = (replace(each, keys=torch.arange(3)) for each in made)  # the same draws
    in_turn = {name: lambda made, name=name: infill(made, name, rows, kept) for name in ("inpaint", "vae")}
    in_turn |= {name: lambda made, name=name: made.baseline(name) for name in BASELINES if name not in OF_ITS_OWN}
    in_turn["linear"] = lambda made: fill_linearly(made.inputs, ~kept)  # of noisy_linear, whose noise is absolute
    for name, removed in in_turn.items():
        expected, found = removed(here).double(), removed(scaled).double() / 10.0**power
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3, msg=lambda told, name=name: f"{name}: {told}")


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_inpainting_follows_the_scale_of_the_values(scale, seed):
    images, kept = draw((1, 12, 12), seed, 1), ~holes((1, 12, 12), 0.3, seed)
    one, other = (
        infill(samples(Constant(), x), "inpaint", torch.arange(1), kept) for x in (images, scale * images + 7)
    )
    torch.testing.assert_close((other - 7) / scale, one, atol=max(1e-3, 1e-5 / scale), rtol=0)


def test_an_even_image_stays_as_it_is_where_pixels_are_inpainted():
    found = infill(samples(Constant(), torch.full((1, 1, 5, 5), 0.3)), "inpaint", torch.tensor([0]), torch.eye(5) > 0)
    assert torch.equal(found, torch.full((1, 1, 5, 5), 0.3))


def test_without_opencv_one_line_says_what_to_install(monkeypatch, seed):
    monkeypatch.setitem(sys.modules, "cv2", None)
    made = samples(Constant(), draw((1, 6, 6), seed))
    with pytest.raises(UserError, match=r"harness\[inpainting\]") as error:
        infill(made, "inpaint", torch.tensor([0]), torch.ones(1, 1, 6, 6) > 0)
    assert "\n" not in str(error.value)


def factors(shape, seed, count):
    """Inputs that two numbers each decide: what is hidden follows from what is seen."""
    return torch.einsum("nk,k...->n...", draw((2,), seed, count), torch.randn(2, *shape, generator=generator(7))) + 1


KINDS = {"image": (3, 10, 7), "table": (12,), "tokens": (6, 4), "series": (4, 9)}


def generative(kind, seed, count=6, **more):
    inputs, train = factors(KINDS[kind], seed, count), factors(KINDS[kind], seed + 1, 300)
    return samples(Constant(), inputs, modality=kind, train=train, seed=seed % 1000, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_the_autoencoder_finds_what_follows_from_the_units_that_are_left(kind, seed):
    made = generative(kind, seed, 40)
    kept = made.units.expand(torch.rand(40, *made.units.shape, generator=generator(seed)) < 0.6)
    found = infill(made, "vae", torch.arange(40), kept)
    hidden = (~kept).expand_as(found)
    error = (found - made.inputs)[hidden].square().mean()
    assert error < 0.4 * (made.train.mean(0) - made.inputs)[hidden].square().mean()
    assert torch.equal(found[~hidden], made.inputs[~hidden])
    other = infill(made, "vae", torch.arange(40), kept, draw=1)
    assert (other - found)[hidden].abs().mean() > 1e-3  # another draw of the code


def test_it_is_trained_once_for_a_block_the_same_every_time_and_draws_nothing_from_the_global_generators(seed):
    made = generative("image", seed)
    kept = torch.rand(6, 1, 10, 7, generator=generator(seed)) < 0.5
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    with torch.inference_mode():
        found = infill(made, "vae", torch.arange(6), kept)
    assert torch.equal(torch.get_rng_state(), torch_state) and (np.random.get_state()[1] == numpy_state).all()
    assert len(made.block) == 1
    model = next(iter(made.block.values()))
    part = made.take(torch.tensor([4, 1]))
    torch.testing.assert_close(infill(part, "vae", torch.arange(2), kept[[4, 1]]), found[[4, 1]], atol=1e-5, rtol=1e-5)
    assert list(made.block.values()) == [model]
    again = infill(generative("image", seed), "vae", torch.arange(6), kept)
    torch.testing.assert_close(again, found, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("train", [None, 35])
def test_a_distribution_cannot_be_learned_from_nothing(train, seed):
    train = None if train is None else draw((7,), seed, train)
    with pytest.raises(NotApplicable, match="36 training inputs"):
        infill(samples(Constant(), draw((7,), seed), train=train), "vae", torch.arange(3), torch.ones(3, 7) > 0)


@pytest.mark.parametrize("name", ["noisy_linear", "inpaint"])
@pytest.mark.parametrize("kind", ["table", "tokens", "series"])
def test_neighbours_fill_in_images_only(kind, name, seed):
    made = generative(kind, seed)
    with pytest.raises(NotApplicable, match="needs image"):
        infill(made, name, torch.arange(6), torch.ones_like(made.inputs) > 0)


def image_world(seed, **more):
    inputs, train = draw((1, 6, 6), seed, 3), draw((1, 6, 6), seed + 1, 60)
    return Additive((1, 6, 6), generator=generator(seed)).eval(), inputs, {"train": train, **more}


@pytest.mark.parametrize("name", EVERY)
def test_a_sample_is_filled_in_alone_as_in_company(name, seed):
    images, train = draw((2, 9, 8), seed, 5), draw((2, 9, 8), seed + 1, 40)
    kept = torch.stack([~holes((1, 9, 8), share, seed + 3)[0] for share in (0.1, 0.3, 0.5, 0.7, 0.9)])
    together = infill(samples(Constant(), images, train=train), name, torch.arange(5), kept)
    for i in (3, 0):
        part = samples(Constant(), images[i : i + 1], train=train)
        alone = infill(part, name, torch.tensor([0]), kept[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("metric", ["deletion", "insertion", "srg", "aopc", "abpc", "selectivity", "irof"])
def test_every_curve_takes_what_fills_in(metric, name, seed):
    model, inputs, more = image_world(seed)
    options = {"baseline": name, "steps": 4, "patch": 2, "segments": "grid:3", "score": "logit"}
    options |= {"normalised": False} if metric == "irof" else {}
    found = scores(metric, model, inputs, draw((1, 6, 6), seed + 2), options=options, **more)
    zero = scores(metric, model, inputs, draw((1, 6, 6), seed + 2), options={**options, "baseline": "zero"}, **more)
    assert found.values.isfinite().all() and not torch.allclose(found.values, zero.values)


@pytest.mark.parametrize("name", EVERY)
def test_a_curve_is_that_of_images_filled_in_by_hand(name, seed):
    model, inputs, more = image_world(seed)
    maps, made = draw((1, 6, 6), seed + 2), samples(model, inputs, **more)
    order = maps.flatten(1).argsort(1, descending=True)
    options = {"baseline": name, "steps": 4, "score": "logit", "imputations": 2}
    found = scores("deletion", model, inputs, maps, options=options, **more)
    for point, count in enumerate((0, 9, 18, 27, 36)):
        kept = torch.ones(3, 36, dtype=torch.bool).scatter(1, order[:, :count], False).view(3, 1, 6, 6)
        draws = [model(infill(made, name, torch.arange(3), kept, k))[:, 0].detach().double() for k in range(2)]
        torch.testing.assert_close(found.curves[:, point], torch.stack(draws).mean(0), atol=1e-4, rtol=1e-4)
    single = scores("deletion", model, inputs, maps, options={**options, "imputations": 1}, **more)
    assert torch.allclose(single.values, found.values, atol=1e-9, rtol=0) == (not is_random(name))


@pytest.mark.parametrize("name", EVERY)
def test_channels_that_are_units_of_their_own_are_filled_in_each_with_its_own_mask(name, seed):
    model, inputs = Interacting((3, 5, 4), generator(seed)), draw((3, 5, 4), seed)
    more = {"options": {"baseline": name, "steps": 4}, "train": draw((3, 5, 4), seed + 1, 40)}
    found = scores("deletion", model, inputs, draw((3, 5, 4), seed + 2), reduction="none", **more)
    assert found.values.isfinite().all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("explainer", ["occlusion", "feature_ablation", "kernel_shap"])
def test_explainers_that_remove_segments_take_what_fills_in(explainer, name, seed):
    model, inputs, more = image_world(seed)
    options = {"segments": "grid:2"} if explainer != "occlusion" else {"window": 3}
    maps = harness.explain(
        explainer, model, inputs, torch.zeros(3, dtype=torch.long), baseline=name, score="logit", **options, **more
    )
    assert maps.isfinite().all() and maps.std() > 0
    if explainer == "feature_ablation":
        made, first = samples(model, inputs, **more), torch.ones(3, 1, 6, 6, dtype=torch.bool)
        first[:, :, :3, :3] = False
        drop = model(inputs)[:, 0] - model(infill(made, name, torch.arange(3), first))[:, 0]
        torch.testing.assert_close(maps[:, 0, :3, :3].sum((1, 2)), drop.detach(), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", EVERY)
def test_what_mixes_or_needs_one_fixed_input_says_that_it_cannot(name, seed):
    model, inputs, more = image_world(seed)
    targets = torch.zeros(3, dtype=torch.long)
    reasons = {"rise": "fills in whole units", "integrated_gradients": "a fixed input is needed"}
    for explainer, reason in reasons.items():
        with pytest.raises(NotApplicable, match=reason):
            harness.explain(explainer, model, inputs, targets, baseline=name, **more)
    with pytest.raises(NotApplicable, match="a fixed input is needed"):
        samples(model, inputs, **more).baseline(name)


def test_which_of_them_draw_is_known(seed):
    made = samples(Constant(), draw((1, 8, 8), seed), train=draw((1, 8, 8), seed + 1, 40))
    kept, rows = ~holes((3, 8, 8), 0.5, seed), torch.arange(3)
    for name in EVERY:
        changes = not torch.equal(infill(made, name, rows, kept, 0), infill(made, name, rows, kept, 1))
        assert is_random(name) == changes == (name in DRAWING)
    assert not set(EVERY) & set(BASELINES)


def test_a_misspelt_name_is_told_of_those_that_fill_in(seed):
    with pytest.raises(UserError, match="noisy_linear"):
        samples(Constant(), draw((1, 8, 8), seed)).baseline("nosy_linear")
