"""Positions that are no units of an input: padding and special tokens of texts.

They stay as they are: no explainer or metric removes, changes, ranks or counts them. Samples with the same pattern of
units are explained and scored as inputs that have only these units, and the model puts them back among the other
positions of each sample (``harness.adapted_model``). So the scores of a text do not depend on the length to which it is
padded.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.adapted_model import FRAME, PLACES
from harness.randomness import sample_keys
from harness.samples import Samples

# For a pattern, as bytes: the memo of the samples that have it, and that of the whole block.
Memos = Callable[[bytes], tuple[MutableMapping[Any, Any], MutableMapping[Any, Any]]]


def groups_of_units(samples: Samples, memos: Memos | None = None) -> list[tuple[Tensor, Samples]]:
    """Samples with equal patterns of units, as rows (n,) and as samples of these units alone.

    Without such a pattern (``Samples.present`` is None) there is one group: all samples as they are. ``memos`` gives
    each pattern the memos that outlive this call.
    """
    if samples.present is None:
        return [(torch.arange(len(samples), device=samples.inputs.device), samples)]
    patterns, number = samples.present.unique(dim=0, return_inverse=True)
    groups = []
    for each, pattern in enumerate(patterns):
        rows = (number == each).nonzero()[:, 0]
        memo, block = ({}, {}) if memos is None else memos(pattern.cpu().numpy().tobytes())
        groups.append((rows, _of_units(samples.take(rows), pattern.nonzero()[:, 0], memo, block)))
    return groups


def _of_units(samples: Samples, places: Tensor, memo: MutableMapping, block: MutableMapping) -> Samples:
    """The samples with only the units at these places (L,); the other positions go along as a frame."""
    inputs = samples.inputs[:, places]
    part = lambda values: None if values is None else values[:, places]
    frame = samples.inputs.index_fill(1, places, 0)
    units = samples.units
    shape, input_shape = (len(places), *units.shape[1:]), (len(places), *units.input_shape[1:])
    return replace(
        samples,
        inputs=inputs,
        units=replace(units, shape=shape, input_shape=input_shape),
        keys=sample_keys(inputs),
        train=part(samples.train),
        masks=part(samples.masks),
        truth=part(samples.truth),
        given_segments=part(samples.given_segments),
        carried={**samples.carried, FRAME: frame, PLACES: places.expand(len(samples), -1)},
        present=None,
        memo=memo,
        block=block,
        scratch={},
    )


def whole_samples(samples: Samples) -> Samples:
    """Samples of units alone with all their positions again, for explainers that read layers of the model."""
    if FRAME not in samples.carried:
        return samples
    frame, places = samples.carried[FRAME], samples.carried[PLACES]
    whole = put_back(samples.inputs, frame, places)
    shape = (frame.shape[1], *samples.units.shape[1:])
    present = torch.zeros(frame.shape[:2], dtype=torch.bool, device=frame.device).scatter(1, places, True)
    return replace(
        samples,
        inputs=whole,
        units=replace(samples.units, shape=shape, input_shape=tuple(whole.shape[1:])),
        masks=None,
        truth=None,
        given_segments=None,
        train=None,
        carried={name: each for name, each in samples.carried.items() if name not in (FRAME, PLACES)},
        present=present,
        memo={},
        block={},
        scratch={},
    )


def alike_together(samples: Samples) -> Tensor:
    """The numbers (N,) of the samples in an order in which equal patterns of units follow one another.

    The first of them has the most units: an explainer that has nothing to say about a single unit gets it later.
    """
    if samples.present is None:
        return torch.arange(len(samples), device=samples.inputs.device)
    patterns, number = samples.present.unique(dim=0, return_inverse=True)
    return patterns.sum(1).argsort(descending=True, stable=True).argsort()[number].argsort(stable=True)


def units_of_maps(raw: Tensor, samples: Samples) -> Tensor:
    """Raw attributions (N, T, ...) of all positions as those of the samples' units; unchanged if all are units."""
    return take_out(raw, samples.carried[PLACES]) if FRAME in samples.carried else raw


def put_back(values: Tensor, frame: Tensor, places: Tensor) -> Tensor:
    """Values (N, L, ...) at their places (N, L) within a frame (N, T, ...)."""
    return frame.scatter(1, _index_of(values, places), values)


def take_out(values: Tensor, places: Tensor) -> Tensor:
    """The values (N, L, ...) at these places (N, L) of (N, T, ...)."""
    shape = (len(values), places.shape[1], *values.shape[2:])
    return values.gather(1, places.view(*places.shape, *[1] * (values.dim() - 2)).expand(shape))


def _index_of(values: Tensor, places: Tensor) -> Tensor:
    return places.view(*places.shape, *[1] * (values.dim() - 2)).expand_as(values)


def spread_out(values: Tensor, places: Tensor, count: int) -> Tensor:
    """Values (N, L, ...) at their places (N, L) of ``count`` positions, 0 at all others."""
    return put_back(values, values.new_zeros(len(values), count, *values.shape[2:]), places)
