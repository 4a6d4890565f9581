"""Occlusion's windows, the painting of segments, and RISE's masks, each against a slow twin."""

from itertools import product

import pytest
import torch
from skimage.transform import resize
from torch import nn

import harness
from explainer_worlds import explain, linear_net, near, small_cnn
from harness.api import samples_of
from harness.explainers.rise import RiseMasks, bilinear_strips
from harness.randomness import element, uniform


def worth(net, inputs, target):
    return float(net(inputs[None])[0, target].detach())


def occlusion_by_hand(net, x, target, window, stride, baseline):
    """Windows start at multiples of the stride; the first that reaches the far edge is the last."""
    height, width = x.shape[1:]
    total, covering = torch.zeros(height, width), torch.zeros(height, width)
    top = 0
    while True:
        left = 0
        while True:
            hidden = x.clone()
            hidden[:, top : top + window, left : left + window] = baseline[:, top : top + window, left : left + window]
            total[top : top + window, left : left + window] += worth(net, x, target) - worth(net, hidden, target)
            covering[top : top + window, left : left + window] += 1
            if left + window >= width:
                break
            left += stride
        if top + window >= height:
            break
        top += stride
    return total / covering


@pytest.mark.parametrize(("window", "stride"), [(3, 3), (3, 2), (5, 4), (4, 1), (1, 1), (20, 20), (7, 5)])
def test_occlusion_averages_the_drops_of_all_windows_over_a_pixel_also_at_the_edge(window, stride, seed):
    net, x, baseline = small_cnn(2), torch.randn(2, 2, 8, 11), torch.randn(2, 8, 11)
    targets = torch.tensor([1, 3])
    found = explain("occlusion", net, x, targets, window=window, stride=stride, baseline=baseline)
    by_hand = [occlusion_by_hand(net, x[row], int(targets[row]), window, stride, baseline) for row in range(2)]
    assert near(found[:, 0], torch.stack(by_hand).detach(), 1e-4)


@pytest.mark.parametrize(("side", "window", "stride"), [(224, 32, 16), (28, 4, 2), (8, 1, 1)])
def test_windows_are_a_seventh_of_the_side_and_move_by_half_of_it(side, window, stride, seed):
    pool = side // 4
    net = nn.Sequential(nn.AvgPool2d(pool), nn.Flatten(), nn.Linear((side // pool) ** 2, 2)).eval()
    x, targets = torch.randn(1, 1, side, side), torch.tensor([1])
    plain, spelt = (explain("occlusion", net, x, targets, **o) for o in ({}, {"window": window, "stride": stride}))
    assert torch.equal(plain, spelt)


@pytest.mark.parametrize(
    ("modality", "shape", "windows"), [("image", (14, 42), (2, 6)), ("volume", (4, 8, 12), (1, 2, 3))]
)
def test_windows_follow_from_the_length_of_each_axis(modality, shape, windows, seed):
    """Of an additive model a window takes away the sum over it; it moves by half its length along each axis."""
    net, weights = linear_net((1, *shape))
    x, targets = torch.randn(2, 1, *shape), torch.tensor([0, 2])
    added = (x * weights[targets])[:, 0]
    total, covering = torch.zeros_like(added), torch.zeros(shape)
    starts = [
        range(0, -(-(length - window) // max(1, window // 2)) * max(1, window // 2) + 1, max(1, window // 2))
        for length, window in zip(shape, windows, strict=True)
    ]
    for corner in product(*starts):
        cut = tuple(slice(start, start + window) for start, window in zip(corner, windows, strict=True))
        total[(slice(None), *cut)] += added[(slice(None), *cut)].flatten(1).sum(1).view(-1, *[1] * len(shape))
        covering[cut] += 1
    found = explain("occlusion", net, x, targets, modality=modality, baseline="zero")
    assert near(found[:, 0], total / covering, 1e-4)


def test_tokens_and_time_steps_are_hidden_with_all_their_channels(seed):
    for modality, shape, axis in (("tokens", (6, 3), 2), ("series", (3, 6), 1)):
        net, weights = linear_net(shape)
        x, targets = torch.randn(2, *shape), torch.tensor([0, 2])
        expected = (x * weights[targets]).sum(axis, keepdim=True)
        assert near(explain("occlusion", net, x, targets, modality=modality, window=1, baseline="zero"), expected)
        halves = explain("occlusion", net, x, targets, modality=modality, window=3, stride=3, baseline="zero")
        assert halves.shape == expected.shape
        assert near(halves.flatten(1)[:, ::3], expected.flatten(1).view(2, 2, 3).sum(2))


def test_windows_that_leave_gaps_or_span_columns_are_refused(seed):
    net, _ = linear_net((5,))
    with pytest.raises(harness.NotApplicable, match="columns of a table"):
        explain("occlusion", net, torch.randn(1, 5), torch.tensor([0]), window=2)
    net, _ = linear_net((1, 5, 5))
    with pytest.raises(ValueError, match="stride (of .* )?is 3, expected at most the window, 2"):
        explain("occlusion", net, torch.randn(1, 1, 5, 5), torch.tensor([0]), window=2, stride=3)


def test_ablation_gives_each_sample_the_drops_of_its_own_segments(seed):
    net, x, targets = small_cnn(), torch.randn(3, 3, 6, 6), torch.tensor([0, 1, 2])
    segments = torch.stack([torch.randint(count, (6, 6)) for count in (2, 5, 9)])
    found = explain("feature_ablation", net, x, targets, segments=segments, baseline="mean")
    for row in range(3):
        for segment in segments[row].unique():
            own = segments[row] == segment
            hidden = torch.where(own, x[row].mean((1, 2), keepdim=True), x[row])
            drop = worth(net, x[row], targets[row]) - worth(net, hidden, targets[row])
            assert float(found[row, 0, own].sum()) == pytest.approx(drop, abs=1e-5)


def rise_mask_by_hand(coins, shift, shape):
    """As the released code does it: scikit-image enlarges the coins, the image's size is cut out at the shift."""
    cells = [-(-length // len(coins)) for length in shape]
    size = [(len(coins) + 1) * cell for cell in cells]
    large = resize(coins.double().numpy(), size, order=1, mode="reflect", anti_aliasing=False)
    cut = tuple(slice(start, start + length) for start, length in zip(shift, shape, strict=True))
    return torch.from_numpy(large[cut])


@pytest.mark.parametrize(
    ("cells", "shape"), [(7, (28, 28)), (3, (10, 8)), (1, (4, 5)), (5, (5, 13)), (4, (18,)), (3, (5, 9, 7))]
)
def test_rises_masks_are_those_of_the_released_code(cells, shape, seed):
    keys, axes, count = torch.randint(2**62, (2,)), len(shape), cells ** len(shape)
    masks = RiseMasks(keys, cells, 0.4, tuple(bilinear_strips(length, cells) for length in shape))
    pairs = [(sample, draw) for sample in range(2) for draw in range(6)]
    found = masks.of_rows(*torch.tensor(pairs).T)
    shifts = set()
    for mask, (sample, draw) in zip(found, pairs, strict=True):
        numbers = uniform(element(keys[sample : sample + 1], torch.tensor([draw])), count + axes)[0]
        coins = (numbers[:count] < 0.4).view([cells] * axes)
        shift = [int(numbers[count + axis] * -(-shape[axis] // cells)) for axis in range(axes)]
        shifts.add(tuple(shift))
        assert near(mask, rise_mask_by_hand(coins, shift, shape), 1e-5)
    assert len(shifts) > 1 or shape == (5, 13), "masks are shifted"

    weights = torch.randn(2, 6)
    assert near(masks.weighted_sum(weights), torch.einsum("nd,nd...->n...", weights, found.view(2, 6, *shape)))


def test_rise_is_its_masks_weighted_by_the_scores_they_reach(seed):
    net, x, targets = small_cnn(), torch.randn(2, 3, 9, 9), torch.tensor([2, 0])
    masks = RiseMasks(
        samples_of(net, x, targets).stream("rise masks"), 3, 0.5, (bilinear_strips(9, 3), bilinear_strips(9, 3))
    )
    for row in range(2):
        z = masks.of_rows(torch.full((40,), row), torch.arange(40))
        v = net(x[row] * z[:, None]).softmax(1)[:, targets[row]].detach()
        published = (v[:, None, None] * z).sum(0) / (40 * 0.5)
        covariance = ((v - v.mean())[:, None, None] * (z - z.mean(0))).sum(0) / (40 * 0.25)
        options = {"samples": 40, "cells": 3}
        assert near(explain("rise", net, x, targets, centred=False, **options)[row, 0], published)
        assert near(explain("rise", net, x, targets, adjusted=False, **options)[row, 0], covariance, 1e-4)
