"""Tunes the options of the best explainers: successive halving on one half of the samples, told on the other half.

Variants differ from the default in one option that the explainer declares as tunable. A variant that wins among many on
some samples looks better there than it is (*optimism*): its gain over the default is measured again on the other half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.choosing.candidates import Candidate
from harness.choosing.headline import Headline
from harness.choosing.measuring import Measuring, Part
from harness.engine.labels import default_label
from harness.engine.selection import Chosen

LEAST_SAMPLES = 16  # of the race, of which one half is used for tuning
RUNGS = (4, 2, 1)  # a rung uses one part in so many of the tuning half, and keeps the better half of the variants
COLUMNS = ("explainer", "variant", "rung", "samples", "mean", "kept")
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
    """Tune each finalist on the samples ``rows`` of the race; ``affords`` says whether the budget suffices."""
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
        if not affords([finalist] * (len(variants) + 1), len(halves[0]) // 2):
            outcomes.append(_untuned(finalist, "the budget does not suffice"))
            continue
        best, own = _halving(measuring, headline, finalist, variants, halves[0])
        rungs += own
        outcome = _outcome(measuring, headline, finalist, best, halves)
        outcomes.append(outcome)
        if outcome["used"]:
            found.append(Candidate(best, finalist.estimate))
            say(f"{'':>9}{best.label} gains {outcome['gain_held_out']:.2g} over {finalist.label} on the other half")
    return Tuning(found, pd.DataFrame(rungs, columns=COLUMNS), pd.DataFrame(outcomes, columns=OUTCOMES))


def _halving(
    measuring: Measuring, headline: Headline, finalist: Candidate, variants: Sequence[Chosen], half: tuple[int, ...]
) -> tuple[Chosen, list[dict]]:
    """The best of an explainer and its variants by successive halving on some samples, and a row for each rung."""
    left, rows = [finalist.chosen, *variants], []
    ends = sorted({max(4, len(half) // part) for part in RUNGS})
    for rung, end in enumerate(ends, start=1):
        means = _means(measuring, headline, left, half, ends[:rung], "tuning")
        left = sorted(left, key=lambda each: -means[each.label])
        keep = 1 if end == ends[-1] else -(-len(left) // 2)
        about = {"explainer": finalist.label, "rung": rung, "samples": end}
        rows += [
            {**about, "variant": each.label, "mean": means[each.label], "kept": place < keep}
            for place, each in enumerate(left)
        ]
        left = left[:keep]
    return left[0], rows


def _outcome(
    measuring: Measuring, headline: Headline, finalist: Candidate, best: Chosen, halves: tuple[tuple[int, ...], ...]
) -> dict:
    """What the best variant gains over the default on the half it was tuned on, and on the other."""
    about = {"explainer": finalist.label, "variant": best.label, "samples": len(halves[1])}
    if best is finalist.chosen:
        nothing = dict.fromkeys(("gain_tuned", "gain_held_out", "optimism"), 0.0)
        return {**about, **nothing, "used": False, "reason": "the default is best"}
    gains = []
    for half, name in zip(halves, ("tuning", "held out"), strict=True):
        ends = sorted({max(4, len(half) // part) for part in RUNGS}) if name == "tuning" else [len(half)]
        means = _means(measuring, headline, [best, finalist.chosen], half, ends, name)
        gains.append(means[best.label] - means[finalist.label])
    used = bool(gains[1] > 0)
    return {
        **about,
        "gain_tuned": gains[0],
        "gain_held_out": gains[1],
        "optimism": gains[0] - gains[1],
        "used": used,
        "reason": "" if used else "it does not gain on the other half",
    }


def _means(
    measuring: Measuring,
    headline: Headline,
    explainers: Sequence[Chosen],
    half: tuple[int, ...],
    ends: Sequence[int],
    name: str,
) -> dict[str, float]:
    """The mean scores on the first ``ends[-1]`` samples of a half; minus infinity for an explainer that lacks one."""
    parts = [Part(f"{name} {first + 1}-{end}", half[first:end]) for first, end in zip([0, *ends], ends, strict=False)]
    found = [measuring.measure(part, explainers, headline.metrics) for part in parts]
    means = {}
    for each in explainers:
        scores = [headline.scores(measured, each.label) for measured in found]
        whole = all(part is not None and np.isfinite(part).all() for part in scores)
        means[each.label] = float(np.concatenate(scores).mean()) if whole else float("-inf")
    return means


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
