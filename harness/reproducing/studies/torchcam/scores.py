"""The scores of maps on images, image by image, and what holds exactly between torch-cam's maps and registered ones."""

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from harness.api import explain, score
from harness.reproducing.studies.torchcam.images import Subject, subject_of
from harness.reproducing.studies.torchcam.maps import (
    CONTROL_MAPS,
    GRAD_CAM,
    GRAD_CAM_PP,
    LAYER_CAM,
    NOISE,
    NOISY_COPIES,
    ONES,
    PLAIN_GRAD_CAM,
    PLAIN_LAYER_CAM,
    PLAIN_PP,
    SMOOTH,
    control_weights,
    drop_and_increase,
    enlarged_weights,
    grad_cam_on_grid,
    grad_cam_pp_on_grid,
    layer_and_gradient,
    layer_cam_on_grid,
    probabilities_of,
    scaled_on_grid,
    smooth_cam_on_grid,
)
from harness.sources import LoadedModel

BATCH = 10
REGISTERED_CAMS = {PLAIN_GRAD_CAM: "grad_cam", PLAIN_PP: "grad_cam_pp", PLAIN_LAYER_CAM: "layer_cam"}


def scores_of_images(
    folder: str, architecture: str, weights: str, side: int, first: int, last: int, seed: int, files: str = ""
) -> pd.DataFrame:
    """A row for each image and map: image, map, label, predicted class, probability before and after, drop, increase,
    and whether the map is flat. ``files`` is the fingerprint of the user's files."""
    subject = subject_of(folder, architecture, weights, side)
    rows = []
    for start in range(first, last, BATCH):
        inputs, labels = subject.load(start, min(start + BATCH, last))
        with torch.no_grad():
            predicted = subject.module(inputs).argmax(1)
        before = probabilities_of(subject.module, inputs, predicted)
        for name, pixels in _weights_of_all(subject, inputs, predicted, start, seed):
            after = probabilities_of(subject.module, pixels * inputs, predicted)
            drop, increase = drop_and_increase(before, after)
            flat = pixels.flatten(1).amax(1) == pixels.flatten(1).amin(1)
            found = {"label": labels, "predicted": predicted, "before": before, "after": after}
            table = pd.DataFrame({key: each.tolist() for key, each in found.items()})
            rows.append(
                table.assign(
                    image=range(start, start + len(inputs)),
                    map=name,
                    drop=drop.tolist(),
                    increase=increase.double().tolist(),
                    flat=flat.tolist(),
                )
            )
    return pd.concat(rows, ignore_index=True)


def _weights_of_all(
    subject: Subject, inputs: Tensor, targets: Tensor, start: int, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """The weights (N, 1, H, W) of each method and control."""
    size = tuple(inputs.shape[2:])
    grids = maps_on_grid(subject, inputs, targets, start, seed)
    for name, maps in grids.items():
        yield name, enlarged_weights(scaled_on_grid(maps), size)
    seeds = [seed * 1_000_000 + start + place for place in range(len(inputs))]
    for name in CONTROL_MAPS:
        yield name, control_weights(name, inputs, seeds, grids[GRAD_CAM].shape[-1])


def maps_on_grid(subject: Subject, inputs: Tensor, targets: Tensor, start: int, seed: int) -> dict[str, Tensor]:
    """Method -> maps (N, h, w) on the layer's grid, not scaled; the noise of an image depends on its number alone."""
    net, layer = subject.module, subject.layer
    values, of_probability = layer_and_gradient(net, layer, inputs, targets, probability=True)
    _, of_logit = layer_and_gradient(net, layer, inputs, targets, probability=False)
    generators = [torch.Generator().manual_seed(seed * 1_000_000 + start + place) for place in range(len(inputs))]
    drawn = torch.stack([torch.randn(NOISY_COPIES, *inputs.shape[1:], generator=each) for each in generators], 1)
    return {
        GRAD_CAM: grad_cam_on_grid(values, of_probability),
        GRAD_CAM_PP: grad_cam_pp_on_grid(values, of_probability),
        SMOOTH: smooth_cam_on_grid(net, layer, inputs, targets, values, lambda copy: NOISE * drawn[copy]),
        LAYER_CAM: layer_cam_on_grid(values, of_probability),
        PLAIN_GRAD_CAM: grad_cam_on_grid(values, of_logit),
        PLAIN_PP: grad_cam_pp_on_grid(values, of_logit, 0.0),
        PLAIN_LAYER_CAM: layer_cam_on_grid(values, of_logit),
    }


def exact_checks_of_maps(
    folder: str, architecture: str, weights: str, side: int, count: int, seed: int, files: str = ""
) -> pd.DataFrame:
    """Largest differences, a row for each identity: own maps against registered ones, as a share of the largest number
    of a map, own scores against registered ones, the map of ones, and gradients that are the same at all places."""
    subject = subject_of(folder, architecture, weights, side)
    inputs, _ = subject.load(0, count)
    with torch.no_grad():
        targets = subject.module(inputs).argmax(1)
    loaded = LoadedModel(subject.module, task="classes")
    grids, size = maps_on_grid(subject, inputs, targets, 0, seed), tuple(inputs.shape[2:])
    values, gradients = layer_and_gradient(subject.module, subject.layer, inputs, targets, probability=True)
    apart = {}
    for name, registered in REGISTERED_CAMS.items():
        theirs = explain(registered, loaded, inputs, targets, layer=subject.layer)
        ours = enlarged_weights(grids[name], size)
        apart[f"{name} is registered"] = _share_apart(ours, theirs)
    before = probabilities_of(subject.module, inputs, targets)
    pixels = scaled_on_grid(enlarged_weights(grids[LAYER_CAM], size)[:, 0])[:, None]
    drop, increase = drop_and_increase(before, probabilities_of(subject.module, pixels * inputs, targets))
    scored = lambda metric: score(metric, loaded, inputs, targets, pixels)
    apart["drop is registered"] = (scored("average_drop") - drop).abs().max().item()
    apart["increase is registered"] = (scored("average_increase") - increase.double()).abs().max().item()
    ones = control_weights(ONES, inputs, [0] * len(inputs), 1)
    kept, risen = drop_and_increase(before, probabilities_of(subject.module, ones * inputs, targets))
    apart["ones"] = max(kept.max().item(), risen.double().max().item())
    middle = gradients.mean((2, 3), keepdim=True)
    apart["same gradient at all places"] = _share_apart(middle.expand_as(gradients), gradients)
    powers = gradients[:, :, 0, 0]
    exact = (powers.relu() / (2 + powers * values.sum((2, 3))))[:, :, None, None] * values.shape[2] * values.shape[3]
    closed = (exact * values).sum(1).relu()
    apart["closed form of Grad-CAM++"] = _share_apart(grad_cam_pp_on_grid(values, gradients, 0.0), closed)
    apart["noise changes nothing"] = _share_apart(scaled_on_grid(grids[SMOOTH]), scaled_on_grid(grids[PLAIN_PP]))
    return pd.DataFrame([{"check": name, "largest": value, "images": count} for name, value in apart.items()])


def _share_apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest number."""
    return ((found - expected).abs().amax() / expected.abs().amax()).item()
