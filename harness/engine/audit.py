"""Self-checks of explainers: what they told of their work, and what their attributions show beside any metric.

Each check is a plain function. ``Auditor`` makes the checks of one block's explainers and gives what they found as data
(the ``audit`` of a cell) and, where a reader of the scores should know of it, in words (the cell's flags).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from harness.completeness import promised, relative_error, total
from harness.engine.explain import Explaining
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.errors import NotApplicable, UserError, one_line
from harness.facts import Facts
from harness.registry import EXPLAINERS, Explainer
from harness.results.store import plain
from harness.samples import Samples
from harness.units import Units

COMPARED_SAMPLES = 4  # samples that are compared with other explainers'
EQUAL = 1e-5  # of the largest value: rounding in another order of sums
SAME = 1e-4  # the same for one explainer in batches of other sizes, for which a GPU takes other algorithms
INCOMPLETE = 0.05  # of what was promised: how near Sundararajan et al. 2017 (1703.01365) want a sum to come
GRADIENTS = ("gradient", "input_x_gradient")  # what explainers turn into where their rules find nothing


@dataclass(frozen=True)
class Trial:
    """Attributions from the untimed calls before the measured ones: of the first sample alone, of the first batch."""

    alone: Tensor | None = None
    batch: Tensor | None = None


@dataclass
class Audit:
    """What the checks of one explainer found.

    found    name -> number, text, or list or mapping of these: plain values, as they go into a row
    flags    what a reader of the scores should know, in words
    tables   name -> rows of the explainer's own that are kept as files
    """

    found: dict[str, Any]
    flags: list[str]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


class Auditor:
    """Audits the explainers of one block, one after the other, for each is compared with those before it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seen: dict[str, Tensor] = {}
        self.twins: dict[str, str] = {}

    def audit(self, chosen: Chosen, parts: Sequence[Tensor], facts: Facts, trial: Trial) -> Audit:
        """Check an explainer's attributions, ``parts`` of a chunk of samples each, after its measured calls."""
        measured = parts[0][: self.stage.protocol.explain_batch]
        own = {
            "not_finite": sum(map(not_finite, parts)),
            "constant": sum(map(constant, parts)) if self.stage.units.count > 1 else 0,
            "equal_to": self._twin(chosen, parts[0]),
            "alone_difference": alone_difference(trial, measured),
            "repeat_difference": repeat_difference(trial, measured),
        }
        told = _check_reported(facts.summary(), (*own, "source", "caveat", "tables"))
        sums = {} if "completeness_error" in told else self._sums(chosen, parts)
        about = {"source": chosen.entry.source, "caveat": chosen.entry.caveat} if chosen.entry.caveat else {}
        found = _json_values({**told, **sums, **about, **{name: value for name, value in own.items() if value is not None}})
        return Audit(found, flags(found, chosen.entry, self.stage), _storable(facts.tables))

    def _sums(self, chosen: Chosen, parts: Sequence[Tensor]) -> dict[str, Any]:
        facts = Facts()
        for (_, samples), part in zip(self.stage.chunks(), parts, strict=True):
            facts.tell(sums(samples, chosen, part))
        return facts.summary()

    def _twin(self, chosen: Chosen, first: Tensor) -> dict[str, Any] | None:
        """Whom the explainer equals: one before it, unless that was told to equal this one, or a gradient."""
        own = (chosen.label, chosen.entry.name)
        others = {label: maps for label, maps in self.seen.items() if self.twins.get(label) not in own}
        if chosen.entry.scope == "local" and chosen.entry.access in ("gradient", "activations"):
            others |= {name: maps for name, maps in self._gradients.items() if name not in (*own, *others)}
        maps = first[:COMPARED_SAMPLES].clone()
        found = equal_to(maps, others, self._units)
        if found:
            self.twins[chosen.label] = found["explainer"]
        if not chosen.entry.caveat:  # nobody is told to equal what a library gets wrong: it is the other way round
            self.seen[chosen.label] = maps
        return found

    @cached_property
    def _gradients(self) -> dict[str, Tensor]:
        return gradients_of(self.stage)

    @cached_property
    def _units(self) -> Units:
        return Units.of(self.stage.first(), self.stage.data.modality, columns=self.stage.data.columns)


def relative_difference(first: Tensor, second: Tensor) -> float:
    """The largest difference of two tensors of one shape over their largest value; values not finite count as 0."""
    first, second = (values.detach().double().cpu().nan_to_num(0, 0, 0) for values in (first, second))
    largest = float(torch.maximum(first.abs(), second.abs()).max())
    return float((first - second).abs().max()) / largest if largest else 0.0


def equal_to(maps: Tensor, others: Mapping[str, Tensor], units: Units) -> dict[str, Any] | None:
    """The first of ``others`` (name -> maps) from which ``maps`` differ by no more than EQUAL, and by how much.

    A map of one channel is compared with the sum over the channels of one that has them all: the two score alike. Maps
    that are constant or hold NaN or infinite values are like many others and are left out.
    """
    for name, other in others.items():
        mine, its = (maps, other) if maps.shape[1:] == other.shape[1:] else (units.reduce(maps), units.reduce(other))
        difference = _largest_difference(mine[: len(its)].flatten(1), its[: len(mine)].flatten(1))
        if difference <= EQUAL:
            return {"explainer": name, "difference": difference}
    return None


def _largest_difference(first: Tensor, second: Tensor) -> float:
    """The largest relative difference of two maps (N, D) of a sample, so that one with large values does not hide the
    others; infinite where no sample's maps can be told apart from others'."""
    telling = _distinctive(first) & _distinctive(second)
    first, second = first[telling], second[telling]
    largest = torch.maximum(first.abs().amax(1), second.abs().amax(1))
    return float(((first - second).abs().amax(1) / largest).max()) if len(first) else float("inf")


def _distinctive(maps: Tensor) -> Tensor:
    """Which maps (N, D) are finite, not zero, and, where they have several values, not constant."""
    low, high = maps.aminmax(dim=1)  # NaN where one is NaN
    several = (low < high) if maps.shape[1] > 1 else (low != 0)
    return several & low.isfinite() & high.isfinite()


def gradients_of(stage: Stage) -> dict[str, Tensor]:
    """What ``gradient`` and ``input_x_gradient`` give for the first samples; empty where the model has no gradient."""
    _, samples = next(stage.chunks())
    samples = samples.take(torch.arange(min(COMPARED_SAMPLES, len(samples)), device=samples.inputs.device))
    explaining = Explaining(EXPLAINERS["gradient"], {}, stage.module, stage.protocol.explain_batch)
    try:
        explaining.prepare(samples)
        gradient = explaining(samples)
    except Exception:  # whatever keeps the gradient from being had, nobody can have given it instead of their own
        return {}
    return dict(zip(GRADIENTS, (gradient.cpu(), (samples.inputs * gradient).cpu()), strict=True))


def sums(samples: Samples, chosen: Chosen, raw: Tensor) -> dict[str, Tensor]:
    """Numbers (N,) that say how far raw attributions are from the sum that their explainer promises, if it does.

    ``completeness_error`` is |sum - promised| / |promised|, as in the metric of that name; where the output itself is
    promised, ``relevance_over_output`` is sum / f(x).
    """
    claim = chosen.entry.complete_to
    try:
        promise, found = promised(samples, claim, chosen.options), total(raw.to(samples.inputs.device))
    except NotApplicable:  # nothing is promised, or of something that only the explainer knows
        return {}
    shares = {"relevance_over_output": found / promise} if claim == "output" else {}
    return {"completeness_error": relative_error(found, promise), **shares}


def alone_difference(trial: Trial, measured: Tensor) -> float | None:
    """How much the first sample's attributions differ alone and in a batch; None where it was never alone or never
    in company."""
    if trial.alone is None or len(measured) == 1:
        return None
    return relative_difference(trial.alone, measured[:1])


def repeat_difference(trial: Trial, measured: Tensor) -> float | None:
    """How much two calls with the same batch and the same seed differ; None where there was one such call only."""
    first = trial.alone if len(measured) == 1 and trial.batch is None else trial.batch
    return None if first is None else relative_difference(first, measured)


def not_finite(raw: Tensor) -> int:
    """How many samples' attributions hold NaN or infinite values."""
    return int((~raw.flatten(1).isfinite().all(1)).sum())


def constant(raw: Tensor) -> int:
    """How many samples' attributions are the same number throughout."""
    flat = raw.flatten(1)
    return int((flat.amax(1) == flat.amin(1)).sum())


def flags(found: Mapping[str, Any], entry: Explainer, stage: Stage) -> list[str]:
    """What a reader of the scores should know of the checks, in words; a lower precision excuses small differences."""
    said, full = [], stage.protocol.dtype == "float32"
    if found["not_finite"]:
        said.append(f"{found['not_finite']} of {stage.count} attributions hold NaN or infinite values")
    if found["constant"]:
        said.append(f"{found['constant']} of {stage.count} attributions are constant")
    if "equal_to" in found:
        said.append(f"equal to {found['equal_to']['explainer']}")
    if full and found.get("repeat_difference", 0) > SAME:
        said.append(f"two calls under one seed differ by {found['repeat_difference']:.1g} of the largest value")
    elif full and found.get("alone_difference", 0) > SAME:
        said.append(f"a sample alone and in its batch differ by {found['alone_difference']:.1g} of the largest value")
    error = found.get("completeness_error")
    error = error.get("median") if isinstance(error, Mapping) else error
    if error is not None and error > INCOMPLETE:
        said.append(f"the sum misses what it should be by {error:.1g} of it (median)")
    return said + ([f"{entry.source}: {entry.caveat}"] if entry.caveat else [])


def _check_reported(told: dict[str, Any], taken: Sequence[str]) -> dict[str, Any]:
    """What the explainer told, if it leaves the audit its own names and gives numbers where numbers are read."""
    for name in told.keys() & set(taken):
        raise UserError(f"the explainer told {name!r}, expected a name that the audit does not give itself")
    for name in told.keys() & {"completeness_error", "relevance_over_output"}:
        value = told[name].get("median", 0) if isinstance(told[name], Mapping) else told[name]
        if not isinstance(value, int | float):
            raise UserError(f"the explainer told {name} as {value!r}, expected a number, or a tensor (n,) of them")
    return told


def _json_values(found: dict[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(plain(found), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the explainer told what no row can hold, expected numbers or text: {one_line(error)}"
        ) from None


def _storable(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables, if Parquet can hold them."""
    import pyarrow as pa  # most explainers have no tables

    for name, table in tables.items():
        try:
            pa.Table.from_pandas(table, preserve_index=False)
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UserError(f"the explainer's table {name!r} cannot be kept: {one_line(error)}") from None
    return dict(tables)
