"""Performance information curves: a slow twin written from the paper's released code, and what has no curve."""

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import interpolate
from torch import nn

from harness.errors import NotApplicable, UserError
from harness.metrics.information_curves import _known_pixels
from metric_worlds import Constant, draw, generator, samples, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])
SHARES = (0.5, 1, 2, 3, 4, 5, 7, 10, 13, 21, 34, 50, 75)
RANGE = {"value_range": (0.0, 255.0)}


class Patch(nn.Module):
    """Logits (contrast of the middle less a threshold, 0)."""

    def forward(self, x):
        middle = x[:, :, 4:10, 4:10].double()
        f = (middle.flatten(1).std(1) - 62) / 10
        return torch.stack([f, torch.zeros_like(f)], 1).float()


def world(channels, count=4, side=14):
    images = torch.randint(0, 256, (count, channels, side, side), generator=generator(SEED)).float()
    return images, draw((side, side), SEED + 1, count)


def twin(image, saliency, known, predict):
    """The area under one image's curve, step by step."""
    height, width = known.shape

    def blurred(mask):
        mask, out = mask.copy(), image.copy()
        mask[[0, 0, height - 1, height - 1], [0, width - 1, 0, width - 1]] = True
        if mask.all():
            return image
        for channel in range(image.shape[2]):
            values = image[..., channel][mask].astype(float)
            found = interpolate.griddata(np.argwhere(mask), values, np.argwhere(~mask), "linear")
            out[..., channel][~mask] = np.round(found)
        return out

    def size(pixels):
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze()).save(buffer, format="webp", lossless=True, quality=100)
        return len(buffer.getvalue())

    start, end = blurred(known), image
    if size(start) >= size(end) or predict(start) >= predict(end):
        return np.nan
    points, best = [], 0.0
    for share in SHARES:
        now = blurred((saliency >= np.quantile(saliency, 1 - share / 100)) | known)
        bytes_ = np.clip((size(now) - size(start)) / (size(end) - size(start)), 0, 1)
        gain = np.clip((predict(now) - predict(start)) / (predict(end) - predict(start)), 0, 1)
        points.append((bytes_, best := max(best, gain)))
    x, y = zip(*points, (0.0, 0.0), (1.0, 1.0), strict=True)
    axis = np.linspace(0, 1, 1000, endpoint=False)
    curve = np.append(interpolate.interp1d(x, y)(axis), 1.0)
    return np.trapezoid(curve, np.append(axis, 1.0))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("metric", ["sic", "aic"])
def test_the_area_is_that_of_the_released_code(metric, channels):
    model, (images, maps) = Patch(), world(channels)
    known = _known_pixels(samples(model, images), 0.01).numpy()

    def predict(pixels):
        logits = model(torch.from_numpy(pixels.transpose(2, 0, 1)[None]).float())[0]
        return logits.softmax(0)[0].item() if metric == "sic" else float(logits.argmax() == 0)

    whole = images.permute(0, 2, 3, 1).numpy().astype(np.uint8)
    expected = [twin(*each, predict) for each in zip(whole, maps.double().numpy(), known, strict=True)]
    assert np.isfinite(expected).any()
    found = scores(metric, model, images, maps, **RANGE)
    np.testing.assert_allclose(found.values.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(found.curves[:, -1].numpy(), np.where(np.isnan(expected), np.nan, 1.0))
    assert found.curves.shape == (4, 101)


def test_pixels_that_decide_are_better_than_pixels_that_do_not():
    model, (images, _) = Patch(), world(1)
    middle = torch.zeros(4, 14, 14)
    middle[:, 4:10, 4:10] = 1
    noise = 0.1 * draw((14, 14), SEED, 4)
    for metric in ("sic", "aic"):
        right, wrong = (scores(metric, model, images, each + noise, **RANGE).values for each in (middle, -middle))
        assert (right > wrong).all()


def test_a_sample_scores_alone_in_company_and_at_any_chunk():
    model, (images, maps) = Patch(), world(3)
    maps[0] = 0  # ties
    for metric in ("sic", "aic"):
        whole = scores(metric, model, images, maps, **RANGE)
        for rows, chunk in (([2], 32), ([3, 0], 5)):
            part = scores(metric, model, images[rows], maps[rows], chunk=chunk, **RANGE)
            torch.testing.assert_close(part.values, whole.values[rows], equal_nan=True)
        again = scores(metric, model, images, maps, **RANGE)
        assert torch.equal(again.values.nan_to_num(-1), whole.values.nan_to_num(-1))


@pytest.mark.parametrize("metric", ["sic", "aic"])
def test_the_order_in_which_percents_are_given_changes_nothing(metric):
    model, (images, maps) = Patch(), world(1)
    given = [(5.0, 20.0, 60.0), (60.0, 5.0, 20.0)]
    found = [scores(metric, model, images, maps, options={"percents": each}, **RANGE) for each in given]
    assert found[0].values.isfinite().any()
    torch.testing.assert_close(found[0].curves, found[1].curves, equal_nan=True)


def test_what_cannot_be_regained_has_no_score():
    images, maps = world(1)
    found = scores("sic", Constant(), images, maps, **RANGE)
    assert found.values.isnan().all() and "no worse" in found.reason
    images[1] = 40.0  # is its own blurred image
    found = scores("sic", Patch(), images, maps, **RANGE)
    assert found.values.isnan().tolist() == [False, True, False, False]
    unlikely = scores("sic", Patch(), images, maps, options={"least_probability": 0.999999}, **RANGE)
    assert unlikely.values.isnan().all()


def test_the_label_is_what_is_right():
    model, (images, maps) = Patch(), world(1)
    found = scores("aic", model, images, maps, labels=torch.tensor([0, 1, 0, 0]), **RANGE)
    assert found.values.isnan().tolist() == [False, True, False, False]


def test_what_does_not_fit_is_said():
    model, (images, maps) = Patch(), world(1)
    for shape in ((2, 6, 6), (1, 1, 6)):
        with pytest.raises(NotApplicable, match="grey or colour"):
            scores("sic", Constant(), draw(shape, SEED), draw(shape[1:], SEED))
    with pytest.raises(NotApplicable, match="image"):
        scores("sic", Constant(), draw((6,), SEED), draw((6,), SEED))
    with pytest.raises(UserError, match="known_share (of .* )?is 1"):
        scores("sic", model, images, maps, options={"known_share": 1.0})
    one = nn.Sequential(nn.Flatten(), nn.Linear(196, 1))
    with pytest.raises(NotApplicable):
        scores("aic", one, images, maps, task="regression", **RANGE)
