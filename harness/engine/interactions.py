"""Interactions of pairs of units: the matrices that some explainers compute, with the names of their units."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.checks import check_finite
from harness.completeness import missed_sum
from harness.engine.convergence import convergence_flags
from harness.engine.explain import Explaining
from harness.engine.stage import Stage
from harness.errors import UserError
from harness.facts import Facts
from harness.messages import say
from harness.metrics._similarity import pearson
from harness.registry import EXPLAINERS
from harness.results.numbers import significant
from harness.results.words import COLUMNS, ROWS
from harness.samples import Samples

PRINTED_SAMPLES, PRINTED_PAIRS = 5, 3


@dataclass(frozen=True)
class Interactions:
    """Interactions of the pairs of units of N samples.

    explainer  its name
    ids        the names of the samples
    units      the names of each sample's units: columns, tokens, time steps, or segments of these
    values     (N, K, K), symmetric: both entries of a pair are half of its interaction, the diagonal holds the main
               effects, and the sum of a row is the attribution of its unit. NaN beyond the units of a sample that has
               fewer than K
    facts      other facts that the explainer reported, by name
    """

    explainer: str
    ids: tuple[str, ...]
    units: tuple[tuple[str, ...], ...]
    values: Tensor
    facts: dict[str, Any]

    def strongest(self, sample: int = 0, count: int = 5) -> list[tuple[str, str, float]]:
        """The pairs of units that interact most in a sample, with their interaction, which is both entries together."""
        names = self.units[sample]
        own = self.values[sample, : len(names), : len(names)]
        one, other = torch.triu_indices(len(names), len(names), 1)
        pairs = own[one, other] + own[other, one]
        order = pairs.abs().argsort(descending=True, stable=True)[:count].tolist()
        return [(names[one[i]], names[other[i]], float(pairs[i])) for i in order]

    def frame(self) -> pd.DataFrame:
        """One row for each entry: sample, unit, other and value; that of a unit with itself is its main effect."""
        parts = []
        for name, units, matrix in zip(self.ids, self.units, self.values, strict=True):
            values = matrix[: len(units), : len(units)].flatten().tolist()
            pairs = pd.MultiIndex.from_product([[name], units, units], names=["sample", "unit", "other"])
            parts.append(pd.Series(values, pairs, dtype=float, name="value").reset_index())
        return pd.concat(parts, ignore_index=True)

    def __str__(self) -> str:
        count = len(self.ids)
        lines = [f"{self.explainer}: interactions of {self.values.shape[1]} units, {count} samples", *self._lines()]
        return "\n".join([*lines, *([f"and {count - PRINTED_SAMPLES} more"] if count > PRINTED_SAMPLES else [])])

    __repr__ = __str__

    def _lines(self) -> Iterator[str]:
        for sample, name in enumerate(self.ids[:PRINTED_SAMPLES]):
            pairs = (pair_in_words(*pair) for pair in self.strongest(sample, PRINTED_PAIRS))
            yield f"  {name}: {'; '.join(pairs) or 'no pairs'}"


def pair_in_words(one: str, other: str, interaction: float) -> str:
    """Two units and what they change together beyond what each changes alone."""
    return f"{one} × {other} {'+' if interaction > 0 else ''}{significant(interaction)}"


def interactions_of(stage: Stage, samples: Samples, explaining: Explaining) -> Interactions:
    """The interactions of samples of a stage; UserError where the explainer computes attributions alone.

    Those that depend on random draws are computed again under the next seed. The fact ``convergence`` is the
    correlation of the pairs under the two seeds; where it is low, a message says so.
    """
    entry = explaining.entry
    if not entry.pairs:
        able = " or ".join(name for name, other in EXPLAINERS.items() if other.pairs)
        raise UserError(f"{entry.name} has no interactions of pairs, expected {able}")
    labels, values, facts = _explained(samples, explaining)
    drawn = entry.stochastic and facts.get("share_of_coalitions", {}).get("min", 0) < 1
    if drawn:
        _, again, _ = _explained(replace(samples, seed=samples.seed + 1), explaining)
        seeds = _convergence(values, again)
        if seeds is not None:
            facts["convergence"] = seeds
            for flag in convergence_flags(seeds, explaining.options, "interactions"):
                say(flag)
    for flag in missed_sum(facts.get("completeness_error", {}).get("median")):
        say(f"{entry.name}: {flag}")
    places = samples.places.tolist()
    units = [
        names_of_segments(own, _names_of_units(stage, place, own.shape), stage.units.modality)
        for place, own in zip(places, labels, strict=True)
    ]
    ids = [str(stage.data.ids[place]) for place in places]
    return Interactions(entry.name, tuple(ids), tuple(units), values, facts)


def _explained(samples: Samples, explaining: Explaining) -> tuple[list[np.ndarray], Tensor, dict[str, Any]]:
    """The segments of each sample, the matrices (N, K, K) with NaN beyond these, and the facts."""
    facts = Facts(pairs=[])
    check_finite(explaining(replace(samples, facts=facts)))
    if explaining.refusal is not None:
        raise explaining.refusal
    found = {}
    for places, segments, matrices in facts.pairs:
        found |= zip(places.tolist(), zip(segments.cpu().numpy(), matrices.float(), strict=True), strict=True)
    labels, matrices = zip(*(found[place] for place in samples.places.tolist()), strict=True)
    counts = [own.max() + 1 for own in labels]
    values = samples.inputs.new_full((len(labels), max(counts), max(counts)), float("nan"), dtype=torch.float32)
    for row, (count, matrix) in enumerate(zip(counts, matrices, strict=True)):
        values[row, :count, :count] = matrix[:count, :count]
    return list(labels), values, facts.summary()


def _convergence(first: Tensor, again: Tensor) -> dict[str, float] | None:
    """The correlation of the pairs (N, K, K) under two seeds, as ``harness.engine.convergence`` has that of maps."""
    one, other = torch.triu_indices(first.shape[1], first.shape[1], 1)
    found = []
    for pairs, same in zip(first[:, one, other], again[:, one, other], strict=True):
        own = pairs.isfinite()
        found += [float(pearson(pairs[own], same[own]))] if own.any() else []
    found = [each for each in found if np.isfinite(each)]  # NaN where nothing interacts
    return {"mean": float(np.mean(found)), "lowest": min(found), "samples": len(found)} if found else None


def names_of_segments(labels: np.ndarray, units: Sequence[str] | None, modality: str) -> tuple[str, ...]:
    """Names of the segments from 0 that the labels (*units) give: by their units, or by their places in an image.

    ``units`` are the names of single units, or None where these have none. No two names are equal.
    """
    flat = labels.reshape(-1)
    members = [np.flatnonzero(flat == number) for number in range(flat.max() + 1)]
    if modality == "image" and len(members) < flat.size:
        names = [_place_in_image(np.argwhere(labels == number).mean(0), labels.shape) for number in range(len(members))]
    elif units is None:
        names = [_counted(own, "step" if modality == "series" else "unit") for own in members]
    else:
        names = [(" " if modality == "tokens" else " + ").join(units[i] for i in own) for own in members]
    return tuple(_numbered_names(names))


def _names_of_units(stage: Stage, place: int, shape: tuple[int, ...]) -> list[str] | None:
    """Names of the units of a sample: columns or tokens; None where the data has none."""
    wording = stage.model.wording
    if wording is not None:
        text = stage.data.inputs[place]
        tokens, present = list(map(str, wording.tokens(text))), wording.present(text).nonzero()[:, 0].tolist()
        return [tokens[i] for i in present]
    if stage.units.modality == "table":
        return list(stage.data.unit_names or (f"column {i}" for i in range(shape[0])))
    return [f"token {i}" for i in range(shape[0])] if stage.units.modality == "tokens" else None


def _counted(members: np.ndarray, what: str) -> str:
    return f"{what} {members[0]}" if len(members) == 1 else f"{what}s {members[0]} to {members[-1]}"


def _place_in_image(centre: np.ndarray, shape: tuple[int, ...]) -> str:
    """The third of the height and of the width in which a segment has its centre."""
    row, column = ((centre + 0.5) * 3 // shape).astype(int)
    return "centre" if (row, column) == (1, 1) else f"{ROWS[row]} {COLUMNS[column]}"


def _numbered_names(names: Sequence[str]) -> Iterator[str]:
    """The names, with a number behind each that comes again."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"
