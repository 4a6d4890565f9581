"""Checks of each explainer's attributions for errors that no metric shows, such as NaN values or two equal explainers.

Each check is a plain function. ``Auditor`` runs the checks on the explainers of one block. Its results are data (the
``audit`` of a cell), together with the facts that the explainer reported, and warnings in words (the cell's flags).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.completeness import missed_sum
from harness.engine.audit_sums import largest_over_output, sums
from harness.engine.explain import Explaining
from harness.engine.present_units import units_of_maps
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.errors import UserError, one_line
from harness.facts import Facts
from harness.messages import once_for_all
from harness.registry import EXPLAINERS, Explainer
from harness.results.store import plain
from harness.samples import Samples
from harness.units import Units

COMPARED_SAMPLES = 4  # samples whose maps are compared between explainers
EQUAL = 1e-5  # share of the largest value: differences up to it come from rounding
SAME = 1e-4  # the same for one explainer in batches of different sizes, for which a GPU uses different algorithms
EXPLODED = 100  # times the explained output: single values above it cancel, and rounding decides what is left of them
GRADIENTS = ("gradient", "input_x_gradient")  # what rule-based explainers reduce to if no rule matches a layer


@dataclass(frozen=True)
class Trial:
    """Attributions from the untimed warm-up calls: of the first sample of the first batch alone, and of this batch."""

    alone: Tensor | None = None
    batch: Tensor | None = None


@dataclass
class Audit:
    """The results of the checks of one explainer.

    found    name -> result of a check or fact that the explainer reported, as plain values for a row: a number, a text,
             or a list or mapping of these
    flags    warnings about the attributions, in words
    tables   name -> table that the explainer reported; saved as a file
    """

    found: dict[str, Any]
    flags: list[str]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


class Auditor:
    """Audits the explainers of one block one after another; each is compared with the earlier ones."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.earlier_maps: dict[str, Tensor] = {}
        self.twins: dict[str, str] = {}

    def audit(self, chosen: Chosen, parts: Sequence[Tensor], facts: Facts, trial: Trial, measured: Tensor) -> Audit:
        """Check an explainer's attributions from its measured calls, ``parts`` for each chunk of samples.

        ``measured`` are those of the first measured call, of the samples that the warm-up calls had.
        """
        own = {
            "not_finite": sum(map(not_finite, parts)),
            "constant": self._constant(parts),
            "equal_to": self._twin(chosen, parts[0]),
            "alone_difference": alone_difference(trial, measured),
            "repeat_difference": repeat_difference(trial, measured),
        }
        reported = _check_reported(
            facts.summary(), (*own, "largest_over_output", "convergence", "source", "caveat", "tables")
        )
        sums = self._sums(chosen, parts, reported)
        about = {"source": chosen.entry.source, "caveat": chosen.entry.caveat} if chosen.entry.caveat else {}
        checked = {name: value for name, value in own.items() if value is not None}
        results = _json_values({**reported, **sums, **about, **checked})
        return Audit(results, flags(results, chosen.entry, self.stage), _storable(facts.tables))

    def _of_units(self, parts: Sequence[Tensor]) -> Iterator[tuple[Samples, Tensor]]:
        """Samples of equal patterns of units, and their attributions of these units alone."""
        for number, ((_, samples), part) in enumerate(zip(self.stage.chunks(), parts, strict=True)):
            for rows, units_only in self.stage.groups(number, samples):
                yield units_only, units_of_maps(part.to(rows.device)[rows], units_only)

    def _constant(self, parts: Sequence[Tensor]) -> int:
        if not self.stage.ragged:
            return sum(map(constant, parts)) if self.stage.units.count > 1 else 0
        return sum(constant(maps) for samples, maps in self._of_units(parts) if samples.units.count > 1)

    def _sums(self, chosen: Chosen, parts: Sequence[Tensor], reported: Mapping[str, Any]) -> dict[str, Any]:
        facts = Facts()
        for samples, maps in self._of_units(parts):
            if "completeness_error" not in reported:
                facts.tell(sums(samples, chosen, maps))
            if chosen.entry.complete_to or "relevance_over_output" in reported:
                facts.tell(largest_over_output(samples, chosen, maps))
        return facts.summary()

    def _twin(self, chosen: Chosen, first: Tensor) -> dict[str, Any] | None:
        """An earlier explainer or a gradient that has the same maps, or None.

        An earlier explainer that was itself reported as equal to this one is left out.
        """
        own = (chosen.label, chosen.entry.name)
        others = {label: maps for label, maps in self.earlier_maps.items() if self.twins.get(label) not in own}
        if chosen.entry.scope == "local" and chosen.entry.access in ("gradient", "activations"):
            others |= {name: maps for name, maps in self._gradients.items() if name not in (*own, *others)}
        maps = first[:COMPARED_SAMPLES].clone()
        twin = equal_to(maps, others, self._units)
        if twin:
            self.twins[chosen.label] = twin["explainer"]
        # Later explainers are not compared with an implementation that is known to be wrong.
        if not chosen.entry.caveat:
            self.earlier_maps[chosen.label] = maps
        return twin

    @cached_property
    def _gradients(self) -> dict[str, Tensor]:
        with once_for_all("gradients"):
            return gradients_of(self.stage)

    @cached_property
    def _units(self) -> Units:
        return Units.of(self.stage.first(), self.stage.data.modality, columns=self.stage.data.columns)


def relative_difference(first: Tensor, second: Tensor) -> float:
    """The largest difference of two tensors of one shape, divided by their largest magnitude.

    NaN and infinite values count as 0.
    """
    first, second = (values.detach().double().cpu().nan_to_num(0, 0, 0) for values in (first, second))
    largest = float(torch.maximum(first.abs(), second.abs()).max())
    return float((first - second).abs().max()) / largest if largest else 0.0


def equal_to(maps: Tensor, others: Mapping[str, Tensor], units: Units) -> dict[str, Any] | None:
    """The first of ``others`` (name -> maps) from which ``maps`` differ by at most EQUAL, with the difference.

    A map of one channel is compared with the sum over the channels of a map that has several, since both get the same
    scores. Maps that are constant or hold NaN or infinite values are left out.
    """
    for name, other in others.items():
        mine, its = (maps, other) if maps.shape[1:] == other.shape[1:] else (units.reduce(maps), units.reduce(other))
        difference = _largest_difference(mine[: len(its)].flatten(1), its[: len(mine)].flatten(1))
        if difference <= EQUAL:
            return {"explainer": name, "difference": difference}
    return None


def _largest_difference(first: Tensor, second: Tensor) -> float:
    """The largest relative difference over the samples of two sets of maps (N, D).

    It is relative to each sample's own largest value, so that a sample with large values does not hide the others.
    Infinite if no sample has distinctive maps in both.
    """
    compared = _distinctive(first) & _distinctive(second)
    first, second = first[compared], second[compared]
    largest = torch.maximum(first.abs().amax(1), second.abs().amax(1))
    return float(((first - second).abs().amax(1) / largest).max()) if len(first) else float("inf")


def _distinctive(maps: Tensor) -> Tensor:
    """Which maps (N, D) are finite and not constant; a map of one value must not be zero."""
    low, high = maps.aminmax(dim=1)  # NaN where one is NaN
    several = (low < high) if maps.shape[1] > 1 else (low != 0)
    return several & low.isfinite() & high.isfinite()


def gradients_of(stage: Stage) -> dict[str, Tensor]:
    """Maps of ``gradient`` and ``input_x_gradient`` for the first samples; empty if the model has no gradient."""
    _, samples = next(stage.chunks())
    samples = samples.take(torch.arange(min(COMPARED_SAMPLES, len(samples)), device=samples.inputs.device))
    explaining = Explaining(EXPLAINERS["gradient"], {}, stage.module, stage.protocol.explain_batch)
    try:
        explaining.prepare(samples)
        gradient = explaining(samples)
    except Exception:  # without a gradient, no explainer can have returned it
        return {}
    return dict(zip(GRADIENTS, (gradient.cpu(), (samples.inputs * gradient).cpu()), strict=True))


def alone_difference(trial: Trial, measured: Tensor) -> float | None:
    """How much the first sample's attributions differ when it is explained alone and in a batch.

    None if it was not explained in both ways.
    """
    if trial.alone is None or len(measured) == 1:
        return None
    return relative_difference(trial.alone, measured[:1])


def repeat_difference(trial: Trial, measured: Tensor) -> float | None:
    """How much two calls with the same batch and the same seed differ; None if there was only one such call."""
    first = trial.alone if len(measured) == 1 and trial.batch is None else trial.batch
    return None if first is None else relative_difference(first, measured)


def not_finite(raw: Tensor) -> int:
    """The number of samples whose attributions hold NaN or infinite values."""
    return int((~raw.flatten(1).isfinite().all(1)).sum())


def constant(raw: Tensor) -> int:
    """The number of samples whose attributions all have the same value."""
    flat = raw.flatten(1)
    return int((flat.amax(1) == flat.amin(1)).sum())


def flags(results: Mapping[str, Any], entry: Explainer, stage: Stage) -> list[str]:
    """Warnings from the results of the checks, in words; differences between calls count at full precision only."""
    warnings, full = no_numbers_in_words(results["not_finite"], stage.count), stage.protocol.dtype == "float32"
    if results["constant"]:
        warnings.append(f"{results['constant']} of {stage.count} attributions are constant")
    if "equal_to" in results:
        warnings.append(f"equal to {results['equal_to']['explainer']}")
    repeat, alone = results.get("repeat_difference", 0), results.get("alone_difference", 0)
    if full and repeat > SAME:
        warnings.append(f"two calls under one seed differ by {repeat:.1g} of the largest value")
    elif full and alone > SAME:
        warnings.append(f"a sample alone and in its batch differ by {alone:.1g} of the largest value")
    error, largest = (_median(results.get(name)) for name in ("completeness_error", "largest_over_output"))
    warnings += missed_sum(error)
    if largest is not None and largest > EXPLODED:
        warnings.append(f"single values are up to {largest:.1g} times the output that they share (median), and cancel")
    return warnings + ([f"{entry.source}: {entry.caveat}"] if entry.caveat else [])


def no_numbers_in_words(count: int, of_all: int) -> list[str]:
    """A warning if some attributions hold what is no number."""
    return [f"{count} of {of_all} attributions hold NaN or infinite values"] if count else []


def _median(result: Any) -> float | None:
    """A check's number, or the median of its numbers; None if there is none."""
    return result.get("median") if isinstance(result, Mapping) else result


def _check_reported(facts: dict[str, Any], reserved: Sequence[str]) -> dict[str, Any]:
    """The facts that the explainer reported, if none has a reserved name and those that flags use are numbers."""
    for name in facts.keys() & set(reserved):
        raise UserError(
            f"the explainer reported a fact named {name!r}, which is a name of the audit's own; expected another name"
        )
    for name in facts.keys() & {"completeness_error", "relevance_over_output"}:
        value = facts[name].get("median", 0) if isinstance(facts[name], Mapping) else facts[name]
        if not isinstance(value, int | float):
            raise UserError(f"the explainer reported {name} as {value!r}, expected a number, or a tensor (n,) of them")
    return facts


def _json_values(results: dict[str, Any]) -> dict[str, Any]:
    """The results as values that JSON can represent; UserError if one cannot be."""
    try:
        return json.loads(json.dumps(plain(results), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the explainer reported a fact that JSON cannot represent, expected numbers or text: {one_line(error)}"
        ) from None


def _storable(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables, if Parquet can represent them."""
    import pyarrow as pa  # imported here, because most explainers have no tables

    for name, table in tables.items():
        try:
            pa.Table.from_pandas(table, preserve_index=False)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UserError(f"the explainer's table {name!r} cannot be saved as Parquet: {one_line(error)}") from None
    return dict(tables)
