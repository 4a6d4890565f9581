"""Tunes the options of the best explainers: successive halving on one half of the samples, told on the other half.

Variants differ from the default in one option that the explainer declares as tunable. A variant that wins among many on
some samples looks better there than it is (*optimism*): its gain over the default is measured again on the other half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.choosing.candidates import COSTS, Candidate, declared_evaluations, mean_of_known
from harness.choosing.headline import Headline
from harness.choosing.measuring import Measured, Measuring, Part
from harness.engine.labels import default_label
from harness.engine.selection import Chosen, choose_one
from harness.registry import METRICS

LEAST_SAMPLES = 24  # of the race, of which one half is used for tuning
RUNGS = (4, 2, 1)  # a rung uses one part in so many of the tuning half, and keeps the better half of the variants
COLUMNS = ("explainer", "variant", "rung", "samples", "mean", "seconds_per_sample", "kept")
OUTCOMES = ("explainer", "variant", "gain_tuned", "gain_held_out", "optimism", "samples", "used", "reason")


@dataclass(frozen=True)
class Tuning:
    """What tuning found: the variants to confirm, a row for each variant and rung, and a row for each explainer."""

    variants: list[Candidate]
    rungs: pd.DataFrame
    outcomes: pd.DataFrame


def variants_of(chosen: Chosen) -> list[Chosen]:
    """The explainer with one of its tunable options changed, for each of the declared values."""
    found = []
    for option, values in chosen.entry.tunable.items():
        for value in values:
            options = dict(chosen.options) | {option: value}
            if options != dict(chosen.options):
                label = f"{chosen.label} {option}={value}" if chosen.named else default_label(chosen.entry, options)
                found.append(Chosen(label, chosen.entry, options, chosen.named))
    return found


def tune_finalists(
    measuring: Measuring,
    headline: Headline,
    finalists: Sequence[Candidate],
    rows: Sequence[int],
    limit: float,
    affords: Callable[[Sequence[Candidate], int], bool],
    say: Callable[[str], None],
) -> Tuning:
    """Tune each finalist on the samples ``rows`` of the race; ``affords`` says whether the budget suffices.

    A variant that takes more than ``limit`` seconds for one sample is not kept.
    """
    rungs: list[dict] = []
    outcomes: list[dict] = []
    found: list[Candidate] = []
    halves = tuple(rows[0::2]), tuple(rows[1::2])
    for finalist in finalists:
        variants = variants_of(finalist.chosen)
        if not variants:
            continue
        if len(rows) < LEAST_SAMPLES:
            outcomes.append(_untuned(finalist, f"{len(rows)} samples, {LEAST_SAMPLES} are needed"))
            continue
        if not affords(_to_measure(finalist, variants), len(halves[0]) // 2):
            outcomes.append(_untuned(finalist, "the budget does not suffice"))
            continue
        best, own = _halving(measuring, headline, finalist, variants, halves[0], limit)
        rungs += own
        outcome = _outcome(measuring, headline, finalist, best, halves)
        outcomes.append(outcome)
        if outcome["used"]:
            found.append(_variant_priced(finalist, best))
            say(f"{'':>9}{best.label} gains {outcome['gain_held_out']:.2g} over {finalist.label} on the other half")
    return Tuning(found, pd.DataFrame(rungs, columns=COLUMNS), pd.DataFrame(outcomes, columns=OUTCOMES))


def _variant_priced(finalist: Candidate, variant: Chosen) -> Candidate:
    """A variant as a candidate: it takes as many times more than the default as its declared cost is larger."""
    estimate = declared_evaluations(variant)
    times = estimate / max(1, finalist.estimate)
    prices = {"seconds": finalist.seconds * times, "evaluations": finalist.evaluations * times}
    return Candidate(variant, estimate, finalist.dear, **prices)


def _to_measure(finalist: Candidate, variants: Sequence[Chosen]) -> list[Candidate]:
    """What is measured, at most, in units of half the samples of a half: all once, and the winner and the default three
    times more, on both halves. The dearest may win."""
    priced = [_variant_priced(finalist, each) for each in variants]
    dearest = max([*priced, finalist], key=lambda each: each.estimate)
    return [*priced, finalist, *[finalist, dearest] * 3]


def _halving(
    measuring: Measuring,
    headline: Headline,
    finalist: Candidate,
    variants: Sequence[Chosen],
    half: tuple[int, ...],
    limit: float,
) -> tuple[Chosen, list[dict]]:
    """The best of an explainer and its variants by successive halving on some samples, and a row for each rung."""
    left, rows = [finalist.chosen, *variants], []
    ends = _sizes_of_rungs(half)
    for rung, end in enumerate(ends, start=1):
        found = _measured_variants(measuring, headline, left, half, ends[:rung], "tuning", timed=limit < np.inf)
        slow = {each.label for each in left if each is not finalist.chosen and found[each.label].seconds > limit}
        left = sorted(left, key=lambda each: (each.label in slow, -found[each.label].mean))
        keep = min(1 if end == ends[-1] else -(-len(left) // 2), len(left) - len(slow))
        about = {"explainer": finalist.label, "rung": rung, "samples": end}
        rows += [
            {**about, "variant": each.label, **found[each.label].row, "kept": place < keep}
            for place, each in enumerate(left)
        ]
        left = left[:keep]
    return left[0], rows


def _sizes_of_rungs(half: tuple[int, ...]) -> list[int]:
    """The number of samples of a half on each rung."""
    return sorted({max(4, len(half) // part) for part in RUNGS})


def _outcome(
    measuring: Measuring, headline: Headline, finalist: Candidate, best: Chosen, halves: tuple[tuple[int, ...], ...]
) -> dict:
    """What the best variant gains over the default on the half it was tuned on, and on the other."""
    about = {"explainer": finalist.label, "variant": best.label, "samples": len(halves[1])}
    if best is finalist.chosen:
        nothing = dict.fromkeys(("gain_tuned", "gain_held_out", "optimism"), 0.0)
        return {**about, **nothing, "used": False, "reason": "the default is best"}
    gains = []
    for half, ends, name in zip(
        halves, (_sizes_of_rungs(halves[0]), [len(halves[1])]), ("tuning", "held out"), strict=True
    ):
        found = _measured_variants(measuring, headline, [best, finalist.chosen], half, ends, name)
        means = [found[each].mean for each in (best.label, finalist.label)]
        gains.append(means[0] - means[1] if np.isfinite(means).all() else float("nan"))
    used = bool(gains[1] > 0)
    reason = "it does not gain on the other half" if np.isfinite(gains[1]) else "samples have no score"
    return {
        **about,
        "gain_tuned": gains[0],
        "gain_held_out": gains[1],
        "optimism": gains[0] - gains[1],
        "used": used,
        "reason": "" if used else reason,
    }


@dataclass(frozen=True)
class _MeanAndTime:
    """A mean score, minus infinity where a sample has none, and the seconds for one sample if they were measured."""

    mean: float
    seconds: float

    @property
    def row(self) -> dict[str, float]:
        return {"mean": self.mean, "seconds_per_sample": self.seconds}


def _measured_variants(
    measuring: Measuring,
    headline: Headline,
    explainers: Sequence[Chosen],
    half: tuple[int, ...],
    ends: Sequence[int],
    name: str,
    *,
    timed: bool = False,
) -> dict[str, _MeanAndTime]:
    """What is measured on the first ``ends[-1]`` samples of a half."""
    parts = [Part(f"{name} {first + 1}-{end}", half[first:end]) for first, end in zip([0, *ends], ends, strict=False)]
    metrics = [*headline.metrics, *([choose_one(METRICS, COSTS[0])] if timed else [])]
    found = [measuring.measure(part, explainers, metrics) for part in parts]
    return {each.label: _over_parts(headline, found, each.label) for each in explainers}


def _over_parts(headline: Headline, found: Sequence[Measured], explainer: str) -> _MeanAndTime:
    scores = [headline.whole_scores(measured, explainer) for measured in found]
    whole = all(part is not None for part in scores)
    times = [measured.values.get((explainer, COSTS[0])) for measured in found]
    mean = float(np.concatenate(scores).mean()) if whole else float("-inf")  # so that it is never kept
    return _MeanAndTime(mean, mean_of_known(*times))


def _untuned(finalist: Candidate, reason: str) -> dict:
    nan = float("nan")
    return {
        "explainer": finalist.label,
        "variant": "",
        "gain_tuned": nan,
        "gain_held_out": nan,
        "optimism": nan,
        "samples": 0,
        "used": False,
        "reason": reason,
    }
