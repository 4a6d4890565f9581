"""The explainers that can be chosen: which ones apply here, which are left out and why, and what each one takes."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.choosing.measuring import Measured
from harness.engine.audit import SAME
from harness.engine.selection import Chosen
from harness.engine.stage import Stage
from harness.errors import UserError
from harness.registry import EXPLAINERS
from harness.removal.background import DEFAULT_BASELINE, USUAL_ROWS
from harness.results.numbers import significant
from harness.results.ties import differences_on_samples

# The controls that are compared in every choice, where they apply.
CONTROLS = ("random", "blurred_random", "input_magnitude", "edge", "center")
# What the letters of a declared cost stand for, as far as they are not options: channels of a layer, segments, windows.
LETTERS = {"C": 256, "K": 64, "W": 100}
VARIES = 10_000  # evaluations, where a declared cost says that they vary
UNDECLARED = 100  # evaluations, where none are declared: such an explainer starts with the others, and is measured
DEAR = 400  # evaluations of the model for one sample: an explainer that takes more enters the race late
CHEAPER = 3  # if there is one that takes less than a third of them
# Explainers that most models have, as sources of a ladder of noise beside the candidates.
REFERENCE_NAMES = ("input_x_gradient", "occlusion")
COSTS = ("seconds_per_sample", "forward_passes", "backward_passes")


@dataclass
class Candidate:
    """An explainer that can be chosen, or a control.

    estimate     evaluations of the model for one sample, by what the explainer declares
    dear         whether it takes so many, and many more than others, that it enters the race late
    reason       why it is left out; "" if it takes part
    stand_in     the explainer with equal maps and scores that stands for it, if it is left out for that
    seconds      seconds for one sample; NaN before they are measured
    evaluations  forward and backward passes for one sample; NaN where they cannot be counted
    """

    chosen: Chosen
    estimate: int
    dear: bool = False
    reason: str = ""
    stand_in: str = ""
    seconds: float = float("nan")
    evaluations: float = float("nan")

    @property
    def label(self) -> str:
        """Its name in tables."""
        return self.chosen.label

    @property
    def control(self) -> bool:
        """Whether it does not look at the model."""
        return self.chosen.entry.control

    @property
    def takes_part(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reason


def candidates_of(
    stage: Stage, explainers: Sequence[Chosen], *, seconds_per_pass: float, limit: float
) -> list[Candidate]:
    """The explainers as candidates, the cheapest by their declared costs first; with those that cannot be chosen.

    ``limit`` are the most seconds for one sample: an explainer whose declared cost takes more than three times that is
    left out unmeasured, and others that take more when they have been measured.
    """
    table = stage.units.modality == "table" and stage.data.train is not None
    rows = len(stage.data.train) if table else 0
    found = [Candidate(each, declared_evaluations(each, rows)) for each in explainers]
    for each in found:
        each.reason = _why_not(stage, each)
        if not each.reason and each.estimate * seconds_per_pass > 3 * limit:
            about = each.estimate * seconds_per_pass
            each.reason = (
                f"too slow: about {significant(about)} s for one sample by its declared cost; the limit is {limit:g} s"
            )
    mark_dear(found)
    return sorted(found, key=lambda each: (each.dear, each.estimate))


def mark_dear(candidates: Sequence[Candidate]) -> None:
    """Mark those as dear that take many more evaluations than others, as far as it is known; once dear, always dear."""
    taken = {each.label: each.evaluations if np.isfinite(each.evaluations) else each.estimate for each in candidates}
    own = [each for each in candidates if each.takes_part and not each.control]
    bar = max(DEAR, CHEAPER * min((taken[each.label] for each in own), default=0))
    for each in own:
        each.dear = each.dear or taken[each.label] > bar


def declared_evaluations(chosen: Chosen, training_rows: int = 0) -> int:
    """About how many evaluations of the model one explanation takes, by the explainer's declared cost.

    The product of the numbers that the declaration names: options such as ``samples``, and letters that stand for
    segments or channels; times the rows of a background, for a table with ``training_rows``. It is an estimate for an
    order of magnitude; what counts is measured.
    """
    entry = chosen.entry
    if not entry.cost:
        return 0 if entry.control or entry.access == "none" else UNDECLARED
    per_sample = entry.cost.partition("once:")[0]
    if "varies" in per_sample:
        return VARIES
    if "2^K" in per_sample:
        return 2**10
    product = 1
    for word in dict.fromkeys(re.findall(r"[A-Za-z_]+", per_sample)):
        product *= _size_of(chosen.options.get(word, LETTERS.get(word)))
    return product * _rows_of_background(chosen, training_rows)


def _rows_of_background(chosen: Chosen, training_rows: int) -> int:
    """The training inputs that take the place of each removed unit; 1 where one baseline does."""
    if "background" not in chosen.options:
        return 1
    given, baseline = chosen.options["background"], chosen.options.get("baseline", DEFAULT_BASELINE)
    usual = min(USUAL_ROWS, training_rows) if baseline == DEFAULT_BASELINE else 0
    return max(1, usual if given is None else given)


def _size_of(value: Any) -> int:
    if isinstance(value, list | tuple):
        return max(1, len(value))
    return max(1, int(value)) if isinstance(value, int) and not isinstance(value, bool) else 1


def _why_not(stage: Stage, candidate: Candidate) -> str:
    """Why an explainer cannot be used, by what it declares; "" if it may be used."""
    entry = candidate.chosen.entry
    if entry.caveat:
        return f"an implementation with a known error: {entry.caveat}"
    if entry.stored:
        return "it only reads stored maps"
    if stage.units.modality not in entry.modalities:
        return f"it does not explain inputs of the kind {stage.units.modality}"
    return ""


def heed_audit(
    candidate: Candidate, measured: Measured, metrics: Sequence[str], limit: float, others: Collection[str]
) -> None:
    """Note what was measured of a candidate, and leave it out if something speaks against it.

    ``others`` are the labels of the candidates that take part so far: only one of these can stand for it.
    """
    label = candidate.label
    candidate.seconds = mean_of_known(measured.values.get((label, COSTS[0])))
    candidate.evaluations = sum(mean_of_known(measured.values.get((label, name))) for name in COSTS[1:])
    audit = measured.audits.get(label, {})
    candidate.reason = _no_scores(label, measured, metrics) or _flaw(audit)
    twin = (audit.get("equal_to") or {}).get("explainer")
    if not candidate.reason and twin in others and _same_scores(label, twin, measured, metrics):
        candidate.reason, candidate.stand_in = f"equal to {twin}, which stands for both", twin
    if not candidate.control:
        candidate.reason = candidate.reason or _too_slow(candidate.seconds, limit)


def mean_of_known(*parts: np.ndarray | None) -> float:
    """The mean of the numbers that are known, of all parts together; NaN for none."""
    known = np.concatenate([part[np.isfinite(part)] for part in parts if part is not None] or [np.empty(0)])
    return float(known.mean()) if len(known) else float("nan")


def _no_scores(label: str, measured: Measured, metrics: Sequence[str]) -> str:
    """Why not one of the metrics has a score of every sample, or "" if one has."""
    scores = [measured.values.get((label, metric)) for metric in metrics]
    if any(
        each is not None and _is_whole(each, measured.defined(name)) for each, name in zip(scores, metrics, strict=True)
    ):
        return ""
    return why_no_score(measured, label, next((each for each in scores if each is not None), None))


def _is_whole(scores: np.ndarray, defined: np.ndarray) -> bool:
    """Whether an explainer has a score of every sample of which any explainer has one."""
    return bool(defined.any() and np.isfinite(scores[defined]).all())


def why_no_score(measured: Measured, label: str, scores: np.ndarray | None) -> str:
    """Why an explainer lacks scores: the reason of a cell, or how many samples lack one."""
    if scores is None:
        return measured.problem_of(label) or "no sample has a score"
    lacking = int((~np.isfinite(scores)).sum())
    return (
        measured.problem_of(label) or f"{lacking} of {len(scores)} samples {'has' if lacking == 1 else 'have'} no score"
    )


def _same_scores(first: str, second: str, measured: Measured, metrics: Sequence[str]) -> bool:
    """Whether two explainers have the same scores, but for rounding, on all samples by all metrics."""
    pairs = [(measured.values.get((first, name)), measured.values.get((second, name))) for name in metrics]
    return all(a is None if b is None else a is not None and not differences_on_samples(a, b).any() for a, b in pairs)


def _flaw(audit: Mapping[str, Any]) -> str:
    """What the self-checks say against an explainer; "" for nothing."""
    if audit.get("not_finite"):
        return f"{audit['not_finite']} maps hold NaN or infinite values"
    alone = audit.get("alone_difference")
    if isinstance(alone, int | float) and alone > SAME:
        return "the map of a sample depends on the other samples in the batch"
    return ""


def _too_slow(seconds: float, limit: float) -> str:
    return f"too slow: {significant(seconds)} s for one sample; the limit is {limit:g} s" if seconds > limit else ""


def with_controls(explainers: Sequence[Chosen], controls: Sequence[Chosen]) -> list[Chosen]:
    """The explainers with the controls that are not among them; UserError for an explainer with a control's label."""
    there = {each.entry.name for each in explainers if each.entry.control}
    added = [each for each in controls if each.entry.name not in there]
    clash = {each.label for each in explainers} & {each.label for each in added}
    if clash:
        raise UserError(
            f"a candidate is called {min(clash)}, as a control is that it is compared with; give it another name"
        )
    return [*explainers, *added]


def registered_names() -> list[str]:
    """The names of all registered explainers that can be chosen without further files; those of pairs come last."""
    return [name for name, entry in EXPLAINERS.items() if not (entry.stored or entry.caveat or entry.pairs)]
