"""Positions that are no units of an input: padding and special tokens of texts, the padding of series.

They stay as they are: no explainer or metric removes, changes, ranks or counts them. Samples with the same pattern of
units are explained and scored as inputs that have only these units, and the model puts them back among the other
positions of each sample (``harness.adapted_model``). So the scores of a text or series do not depend on the length to
which it is padded.
"""

from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.adapted_model import OTHER_POSITIONS, UNIT_POSITIONS, along, put_back
from harness.randomness import sample_keys
from harness.samples import Samples
from harness.units import Units

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
    axis, count = samples.units.position_axis, len(samples)
    inputs = samples.inputs.index_select(axis, positions)
    if "keys" not in memo:  # hashes of the inputs: once for all explainers and metrics
        memo["keys"] = sample_keys(inputs)

    def part(values: Tensor | None) -> Tensor | None:
        """Values per unit, or per number of an input, at the positions."""
        like_inputs = values is not None and values.dim() == inputs.dim()
        return None if values is None else values.index_select(axis if like_inputs else 1, positions.to(values.device))

    return replace(
        samples,
        inputs=inputs,
        units=_of_length(samples.units, len(positions)),
        keys=memo["keys"],
        train=part(samples.train),
        masks=part(samples.masks),
        truth=part(samples.truth),
        given_segments=part(samples.given_segments),
        carried={
            **samples.carried,
            OTHER_POSITIONS: samples.inputs.index_fill(axis, positions, 0),
            UNIT_POSITIONS: positions.expand(count, -1),
        },
        present=None,
        memo=memo,
        block=block,
        scratch={},
    )


def _of_length(units: Units, length: int) -> Units:
    """The same kind of units, for inputs of another number of positions."""
    axis = units.position_axis
    longer = lambda shape, at: (*shape[:at], length, *shape[at + 1 :])
    own = longer(units.shape, axis - 1 if units.shape == units.input_shape else 0)
    return replace(units, shape=own, input_shape=longer(units.input_shape, axis - 1))


def whole_samples(samples: Samples) -> Samples:
    """Samples that held only their units, with all positions again, for explainers that read layers of the model."""
    if OTHER_POSITIONS not in samples.carried:
        return samples
    others, positions = (samples.carried[name] for name in (OTHER_POSITIONS, UNIT_POSITIONS))
    axis = samples.units.position_axis
    present = torch.zeros(len(others), others.shape[axis], dtype=torch.bool, device=others.device)
    return replace(
        samples,
        inputs=put_back(samples.inputs, others, positions, axis),
        units=_of_length(samples.units, others.shape[axis]),
        masks=None,
        truth=None,
        given_segments=None,
        train=None,
        carried={name: each for name, each in samples.carried.items() if name not in (OTHER_POSITIONS, UNIT_POSITIONS)},
        present=present.scatter(1, positions, True),
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
    """Raw attributions (N, ...) of all positions as those of the samples' units; unchanged if all are units."""
    if OTHER_POSITIONS not in samples.carried:
        return raw
    positions, axis = samples.carried[UNIT_POSITIONS], samples.units.position_axis
    shape = [*raw.shape[:axis], positions.shape[1], *raw.shape[axis + 1 :]]
    return raw.gather(axis, along(positions, axis, raw.dim()).expand(shape))


def maps_of_all(raw: Tensor, samples: Samples) -> Tensor:
    """Raw attributions (N, ...) of samples of units alone as those of all positions, 0 where there is no unit."""
    axis = samples.units.position_axis
    shape = [*raw.shape[:axis], samples.carried[OTHER_POSITIONS].shape[axis], *raw.shape[axis + 1 :]]
    return put_back(raw, raw.new_zeros(shape), samples.carried[UNIT_POSITIONS], axis)


def only_units(raw: Tensor, samples: Samples) -> Tensor:
    """Raw attributions (N, ...) of all positions with 0 where there is no unit (``Samples.present``)."""
    return raw * along(samples.present, samples.units.position_axis, raw.dim())
