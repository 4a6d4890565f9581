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

from harness.adapted_model import OTHER_POSITIONS, UNIT_POSITIONS
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
        groups.append((rows, _of_units_alone(samples.take(rows), pattern.nonzero()[:, 0], memo, block)))
    return groups


def _of_units_alone(samples: Samples, positions: Tensor, memo: MutableMapping, block: MutableMapping) -> Samples:
    """The samples with only the units at these positions (L,); the other positions are carried."""
    inputs = samples.inputs[:, positions]
    part = lambda values: None if values is None else values[:, positions]
    others = samples.inputs.index_fill(1, positions, 0)
    units = samples.units
    shape, input_shape = (len(positions), *units.shape[1:]), (len(positions), *units.input_shape[1:])
    return replace(
        samples,
        inputs=inputs,
        units=replace(units, shape=shape, input_shape=input_shape),
        keys=sample_keys(inputs),
        train=part(samples.train),
        masks=part(samples.masks),
        truth=part(samples.truth),
        given_segments=part(samples.given_segments),
        carried={**samples.carried, OTHER_POSITIONS: others, UNIT_POSITIONS: positions.expand(len(samples), -1)},
        present=None,
        memo=memo,
        block=block,
        scratch={},
    )


def whole_samples(samples: Samples) -> Samples:
    """Samples that held only their units, with all positions again, for explainers that read layers of the model."""
    if OTHER_POSITIONS not in samples.carried:
        return samples
    others, positions = samples.carried[OTHER_POSITIONS], samples.carried[UNIT_POSITIONS]
    whole = put_back(samples.inputs, others, positions)
    shape = (others.shape[1], *samples.units.shape[1:])
    present = torch.zeros(others.shape[:2], dtype=torch.bool, device=others.device).scatter(1, positions, True)
    return replace(
        samples,
        inputs=whole,
        units=replace(samples.units, shape=shape, input_shape=tuple(whole.shape[1:])),
        masks=None,
        truth=None,
        given_segments=None,
        train=None,
        carried={name: samples.carried[name] for name in samples.carried.keys() - {OTHER_POSITIONS, UNIT_POSITIONS}},
        present=present,
        memo={},
        block={},
        scratch={},
    )


def ordered_by_pattern(samples: Samples) -> Tensor:
    """The numbers (N,) of the samples in an order in which equal patterns of units follow one another.

    Samples with the most units come first: an explainer that is not applicable to a single unit has then explained
    others, and only the short ones get NaN.
    """
    if samples.present is None:
        return torch.arange(len(samples), device=samples.inputs.device)
    patterns, number = samples.present.unique(dim=0, return_inverse=True)
    return patterns.sum(1).argsort(descending=True, stable=True).argsort()[number].argsort(stable=True)


def units_of_maps(raw: Tensor, samples: Samples) -> Tensor:
    """Raw attributions (N, T, ...) of all positions as those of the samples' units; unchanged if all are units."""
    return take_out(raw, samples.carried[UNIT_POSITIONS]) if OTHER_POSITIONS in samples.carried else raw


def put_back(values: Tensor, others: Tensor, positions: Tensor) -> Tensor:
    """Values (N, L, ...) put at their positions (N, L) among the others (N, T, ...)."""
    return others.scatter(1, _index_of(values, positions), values)


def take_out(values: Tensor, positions: Tensor) -> Tensor:
    """The values (N, L, ...) at these positions (N, L) of (N, T, ...)."""
    shape = (len(values), positions.shape[1], *values.shape[2:])
    return values.gather(1, positions.view(*positions.shape, *[1] * (values.dim() - 2)).expand(shape))


def _index_of(values: Tensor, positions: Tensor) -> Tensor:
    return positions.view(*positions.shape, *[1] * (values.dim() - 2)).expand_as(values)


def spread_out(values: Tensor, positions: Tensor, count: int) -> Tensor:
    """Values (N, L, ...) at their positions (N, L) of ``count`` positions, 0 at all others."""
    return put_back(values, values.new_zeros(len(values), count, *values.shape[2:]), positions)
