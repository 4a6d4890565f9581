"""What the net still gets right while pixels are removed, image by image, and what holds exactly."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import score
from harness.reproducing.studies.road_cifar10.images import RoadSubject, road_subject, standardised
from harness.reproducing.studies.road_cifar10.maps import (
    ADDED_NOISE,
    FILLS,
    IG_BASE,
    LERF_ORDER,
    LINEAR_FILL,
    MORF_ORDER,
    ROAD_ORDERS,
    SHARES,
    filled_images,
    maps_of_paper,
    places_of_pixels,
    removed_pixels,
    solved_directly,
)
from harness.sources import LoadedModel

BATCH_OF_IMAGES = 20


def columns_of_settings() -> list[tuple[str, str]]:
    """Order and fill of the four settings."""
    return [(order, fill) for fill in FILLS for order in ROAD_ORDERS]


def road_curves(folder: str, first: int, last: int, steps: int, copies: int, files: str = "") -> pd.DataFrame:
    """A row for each image and map: for each setting a text with 1 or 0 at each of SHARES, for right and wrong; and
    whether the whole image is right. ``files`` is the fingerprint of the user's."""
    subject, rows = road_subject(folder), []
    for start in range(first, last, BATCH_OF_IMAGES):
        numbers = range(start, min(start + BATCH_OF_IMAGES, last))
        images, labels = subject.images[start : numbers.stop], subject.labels[start : numbers.stop]
        noise = ADDED_NOISE * torch.stack([_noise_of(number, images.shape[1:]) for number in numbers])
        whole = right_of(subject.net, images, labels)
        for name, maps in maps_of_paper(subject.net, images, labels, numbers, steps, copies).items():
            places = places_of_pixels(maps, numbers)
            table = pd.DataFrame({"image": list(numbers), "map": name, "whole": whole.tolist()})
            for order, fill in columns_of_settings():
                right = [
                    right_of(
                        subject.net, filled_images(images, removed_pixels(places, order, share), fill, noise), labels
                    )
                    for share in SHARES
                ]
                table[f"{order} {fill}"] = ["".join(map(str, row)) for row in torch.stack(right, 1).int().tolist()]
            rows.append(table)
    return pd.concat(rows, ignore_index=True)


def _noise_of(number: int, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(number + 2_000_000))


def right_of(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Whether the net is right on images (N, 3, H, W) in 0..1."""
    with torch.no_grad():
        return net(standardised(images)).argmax(1) == labels


def exact_checks_of_road(folder: str, count: int, steps: int, copies: int, files: str = "") -> pd.DataFrame:
    """Largest differences, a row for each identity."""
    subject = road_subject(folder)
    images, labels, numbers = subject.images[:count], subject.labels[:count], range(count)
    maps = maps_of_paper(subject.net, images, labels, numbers, steps, copies)[IG_BASE]
    places, zero = places_of_pixels(maps, numbers), torch.zeros_like(images)
    apart = {**_apart_from_direct(images, places), "ramp": _ramp_apart()}
    share = 30
    one_way = removed_pixels(places, LERF_ORDER, 100 - share)
    other = removed_pixels(places_of_pixels(-maps, numbers), MORF_ORDER, share)
    apart["LeRF of the negated map"] = float((one_way.sum((1, 2)) - other.sum((1, 2))).abs().max() > 1)
    apart["LeRF of the negated map"] += float((one_way != other).sum((1, 2)).max() > 1)
    apart["registered road"] = _apart_from_registered(subject, images, labels, maps, places, zero)
    return pd.DataFrame([{"check": name, "largest": value, "images": count} for name, value in apart.items()])


def _apart_from_direct(images: Tensor, places: Tensor) -> dict[str, float]:
    """The registered imputation against a dense solver, and one removed pixel against the mean of its neighbours."""
    zero, largest = torch.zeros_like(images), 0.0
    for share in (30, 90):
        gone = removed_pixels(places, MORF_ORDER, share)
        filled = filled_images(images, gone, LINEAR_FILL, zero)
        for number in range(2):
            expected = solved_directly(images[number, 0].double().numpy(), gone[number].numpy())
            largest = max(largest, float(np.abs(filled[number, 0].numpy() - expected).max()))
    single = torch.zeros_like(places, dtype=torch.bool)
    single[:, 5, 7] = single[:, 0, 0] = True
    filled = filled_images(images, single, LINEAR_FILL, zero)
    around = images[:, :, 4:7, 6:9]
    direct = around[:, :, 1, 0] + around[:, :, 1, 2] + around[:, :, 0, 1] + around[:, :, 2, 1]
    corners = around[:, :, ::2, ::2].sum((2, 3))
    middle = (filled[:, :, 5, 7] - (direct / 6 + corners / 12)).abs().max()
    edge = (2 * images[:, :, 0, 1] + 2 * images[:, :, 1, 0] + images[:, :, 1, 1]) / 5
    return {
        "dense solver": largest,
        "one pixel": max(middle.item(), (filled[:, :, 0, 0] - edge).abs().max().item()),
    }


def _ramp_apart() -> float:
    """A slope without its inner square: linear functions are the means of their neighbours."""
    ramp = (torch.arange(16.0)[:, None] + 2 * torch.arange(16.0)).expand(1, 3, 16, 16) / 45
    gone = torch.zeros(1, 16, 16, dtype=torch.bool)
    gone[:, 3:12, 4:14] = True
    return (filled_images(ramp, gone, LINEAR_FILL, torch.zeros_like(ramp)) - ramp).abs().max().item()


def _apart_from_registered(
    subject: RoadSubject, images: Tensor, labels: Tensor, maps: Tensor, places: Tensor, zero: Tensor
) -> float:
    """The mean accuracy without noise against the registered metric's, image by image."""
    right = [
        right_of(
            subject.net, filled_images(images, removed_pixels(places, MORF_ORDER, share), LINEAR_FILL, zero), labels
        )
        for share in SHARES
    ]
    found = score(
        "road",
        LoadedModel(subject.net, task="classes"),
        standardised(images),
        labels,
        maps[:, None].float(),
        percents=list(SHARES),
        absolute_noise=0.0,
    )
    return (torch.stack(right, 1).double().mean(1) - found).abs().max().item()
