"""The eight maps of the ROAD paper, removal by their order, and the two ways to fill in what was removed."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from harness.api import explain
from harness.removal.noisy_linear import fill_linearly
from harness.reproducing.studies.road_cifar10.images import standardised
from harness.sources import LoadedModel

SHARES = (10, 20, 30, 40, 50, 70, 90)  # per cent
LINEAR_FILL, FIXED_FILL = FILLS = ("noisy-linear", "fixed")
MORF_ORDER, LERF_ORDER = ROAD_ORDERS = ("MoRF", "LeRF")
ADDED_NOISE = 0.01  # to imputed pixels in 0..1
BASES = {"IG": "integrated_gradients", "GB": "guided_backprop"}
FORMS = ("base", "SG", "SQ", "Var")
ROAD_METHODS = tuple(f"{base} ({form})" for base in BASES for form in FORMS)
IG_BASE, RANDOM_ORDER, EDGE_ORDER, BLURRED_IG = "IG (base)", "random", "edge", "IG (base), blurred"
ROAD_CONTROLS = (RANDOM_ORDER, EDGE_ORDER, BLURRED_IG)
NOISE_OF_COPIES = {"IG": 0.2, "GB": 1.0}  # in the space of the inputs, -1..1
BLUR = 2.0  # pixels


def maps_of_paper(
    net: nn.Module, images: Tensor, labels: Tensor, numbers: Sequence[int], steps: int, copies: int
) -> dict[str, Tensor]:
    """Method or control -> maps (N, H, W), summed over channels; noise depends on the image's number alone."""
    inputs = standardised(images)
    drawn = torch.stack([_normals(number, (copies, *inputs.shape[1:])) for number in numbers])
    found = {}
    for base in BASES:
        found[f"{base} (base)"] = _signed_map(net, base, inputs, labels, steps).sum(1)
        noisy = (inputs[:, None] + NOISE_OF_COPIES[base] * drawn).flatten(0, 1)
        each = _signed_map(net, base, noisy, labels.repeat_interleave(copies), steps)
        each = each.unflatten(0, (len(images), copies)).double()
        found[f"{base} (SG)"] = each.mean(1).sum(1)
        found[f"{base} (SQ)"] = each.square().mean(1).sum(1)
        found[f"{base} (Var)"] = each.var(1, correction=0).sum(1)
    found[RANDOM_ORDER] = torch.stack([_normals(number + 1_000_000, inputs.shape[2:]) for number in numbers])
    found[EDGE_ORDER] = explain("edge", LoadedModel(net, task="classes"), inputs, labels)[:, 0]
    found[BLURRED_IG] = blurred(found[IG_BASE])
    return {name: each.double() for name, each in found.items()}


def _normals(seed: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def _signed_map(net: nn.Module, base: str, inputs: Tensor, labels: Tensor, steps: int) -> Tensor:
    options = {"steps": steps, "baseline": "zero"} if base == "IG" else {}
    return explain(BASES[base], LoadedModel(net, task="classes"), inputs, labels, **options)


def blurred(maps: Tensor) -> Tensor:
    """Maps (N, H, W) smoothed by a Gaussian, which knows nothing of the model."""
    reach = int(3 * BLUR)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=maps.dtype) / BLUR) ** 2)
    weights = weights / weights.sum()
    padded = torch.nn.functional.pad(maps[:, None], (reach,) * 4, mode="reflect")
    rows = torch.nn.functional.conv2d(padded, weights.view(1, 1, -1, 1))
    return torch.nn.functional.conv2d(rows, weights.view(1, 1, 1, -1))[:, 0]


def places_of_pixels(maps: Tensor, numbers: Sequence[int]) -> Tensor:
    """The place (N, H, W) of each pixel, 0 for the largest; pixels of equal attribution are in a random order."""
    flat = maps.flatten(1)
    ties = torch.stack(
        [torch.from_numpy(np.random.default_rng(number).permutation(flat.shape[1])) for number in numbers]
    )
    order = ties.gather(1, torch.argsort(-flat.gather(1, ties), dim=1, stable=True))
    return torch.argsort(order, dim=1).view_as(maps)


def removed_pixels(places: Tensor, order: str, share: float) -> Tensor:
    """Which pixels (N, H, W) are removed, at a share in per cent.

    As in the released code, LeRF at a share keeps that share of the most important pixels and removes all others.
    """
    count = places[0].numel() * int(share) // 100
    return places < count if order == MORF_ORDER else places >= count


def filled_images(images: Tensor, removed: Tensor, fill: str, noise: Tensor) -> Tensor:
    """Images (N, 3, H, W) in 0..1 without what is removed: filled in by neighbours plus noise, or by channel means."""
    gone = removed[:, None]
    if fill == FIXED_FILL:
        return torch.where(gone, images.mean((2, 3), keepdim=True), images)
    return torch.where(gone, fill_linearly(images, gone) + noise, images)


def solved_directly(channel: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """A channel (H, W) filled in by a dense solver, written apart: each removed pixel is the weighted mean of its
    neighbours within the image, 1/6 for direct and 1/12 for diagonal ones, divided by the sum of these weights."""
    height, width = channel.shape
    spots = list(zip(*np.nonzero(removed), strict=True))
    number = {spot: place for place, spot in enumerate(spots)}
    matrix, right = np.zeros((len(spots), len(spots))), np.zeros(len(spots))
    for (row, column), place in number.items():
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                other = (row + down, column + across)
                if (down, across) == (0, 0) or not (0 <= other[0] < height and 0 <= other[1] < width):
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[place, place] += weight
                if other in number:
                    matrix[place, number[other]] -= weight
                else:
                    right[place] += weight * channel[other]
    found = channel.copy()
    found[removed] = np.linalg.solve(matrix, right)
    return found
