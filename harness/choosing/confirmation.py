"""Confirms what the race has left, on samples that took no part: scores, costs, and conditions that are no scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.choosing.candidates import COSTS, Candidate, mean_of_known
from harness.choosing.headline import Headline, sign_of
from harness.choosing.measuring import Measured, Measuring, Part
from harness.choosing.random_weights import why_weights_tell_nothing
from harness.engine.selection import Chosen, choose_one
from harness.registry import METRICS
from harness.results.family import Family, all_pairs
from harness.results.matrices import Matrix
from harness.results.sanity import OVERALL, Bounds, verdicts
from harness.results.statistics import interval, side_of

CHECKED_SAMPLES = 16  # on which conditions are checked
MOST_CHANGE = 1.0  # mean change of a map under small noise, in sizes of the map: above it the map is called unstable
# What conditions are measured by. Two other classes, and two random models: with one, each sample says yes or no, and
# the interval of a mean of 16 of these leaves one sane explainer in five undecided.
CHECKS = {
    "sanity": {"weight_seeds": 2, "draws": 2},
    "random_logit": {"draws": 2},
    "avg_sensitivity": {"draws": 4},
}
# Of two classes, what speaks for one speaks against the other: an unsigned map may be the same for both.
CHECKS_OF_UNSIGNED = {
    "parameter_randomization": {"weight_seeds": 2, "stages": 1},
    "avg_sensitivity": {"draws": 4},
}
OF_WEIGHTS = ("sanity", "parameter_randomization")  # the check by random weights, of other explainers and of those
EXPLANATIONS = sum(
    number for options in CHECKS.values() for number in options.values()
)  # of each sample, by all checks


@dataclass(frozen=True)
class Confirmation:
    """What was found on the samples of the confirmation.

    family   all pairs of candidates and controls, tested together at the level that is left for the confirmation
    seconds  candidate -> seconds for one sample
    lacking  candidate -> why it has no scores here
    sign     -1 where a lower score is better: in the family higher is better, so its values are turned around
    """

    family: Family
    seconds: dict[str, float]
    lacking: dict[str, str]
    sign: float = 1.0


def confirm(
    measuring: Measuring,
    headline: Headline,
    candidates: Sequence[Candidate],
    parts: Sequence[Part],
    alpha: float,
) -> Confirmation:
    """Scores and costs of the candidates, controls among them, on parts that took no part in the race."""
    costs = [choose_one(METRICS, name) for name in COSTS]
    chosen = [each.chosen for each in candidates]
    found = [measuring.measure(part, chosen, [*headline.metrics, *costs]) for part in parts]
    columns, lacking, seconds = {}, {}, {}
    for each in candidates:
        scores = [headline.whole_scores(measured, each.label) for measured in found]
        if any(part is None for part in scores):
            lacking[each.label] = next(filter(None, (m.problem_of(each.label) for m in found)), "samples have no score")
            continue
        columns[each.label] = np.concatenate(scores)
        times = [measured.values.get((each.label, COSTS[0])) for measured in found]
        seconds[each.label] = mean_of_known(*times)
    matrix = Matrix({"metric": headline.name}, pd.DataFrame(columns), "higher")
    return Confirmation(all_pairs(matrix, alpha=alpha), seconds, lacking, sign_of(headline.metrics[0]))


@dataclass(frozen=True)
class Conditions:
    """Of one explainer: whether it passes checks that are no scores; ``pass``, ``fail``, ``undecided``, ``not done``.

    sanity     whether its maps depend on the weights and on the class (``harness.results.sanity``)
    per_class  whether maps of different classes differ, which is a part of it; ``not applicable`` to a single output,
               and to unsigned maps of two classes
    stable     whether small noise on the input changes its maps by less than their size
    """

    sanity: str
    per_class: str
    stable: str
    rows: pd.DataFrame


def check_conditions(measuring: Measuring, explainer: Candidate, rows: Sequence[int]) -> Conditions:
    """Check one explainer on the first samples of the confirmation."""
    part = Part(f"conditions 1-{min(len(rows), CHECKED_SAMPLES)}", tuple(rows[:CHECKED_SAMPLES]))
    untold = why_weights_tell_nothing(measuring.stage, part.rows)
    one_for_both = measuring.stage.output_count == 2 and not explainer.chosen.entry.signed
    checks = CHECKS_OF_UNSIGNED if one_for_both else CHECKS
    checks = {name: options for name, options in checks.items() if not (untold and name in OF_WEIGHTS)}
    metrics = [choose_one(METRICS, {"name": name, "label": name, **options}) for name, options in checks.items()]
    measured = measuring.measure(part, [explainer.chosen], metrics)
    frame = pd.concat([_as_rows(measured, explainer.label, each) for each in metrics], ignore_index=True)
    judged = verdicts(frame).set_index("check")
    verdict_of = lambda name: str(judged["verdict"].get(name, "not done"))
    sanity = verdict_of(OVERALL) if verdict_of(OVERALL) != "undecided" else verdict_of(OF_WEIGHTS[one_for_both])
    stable, row = _stability_verdict(measured.values.get((explainer.label, "avg_sensitivity")))
    shown = (OF_WEIGHTS[one_for_both], "random_logit")
    table = judged.loc[[name for name in shown if name in judged.index]].reset_index()
    table = table[["check", "verdict", "value", "ci_low", "ci_high", "bound", "n", "reason"]]
    if untold:
        table.loc[table["check"].isin(OF_WEIGHTS), "reason"] = untold
    table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
    table.insert(0, "explainer", explainer.label)
    problem = measured.problems.get((explainer.label, "random_logit"), "")
    alike = one_for_both or problem.startswith("not applicable")
    per_class = "not applicable" if alike else verdict_of("random_logit")
    return Conditions(sanity, per_class, stable, table)


def _as_rows(measured: Measured, explainer: str, metric: Chosen) -> pd.DataFrame:
    """The scores of one explainer by one metric, a row for each sample, as ``verdicts`` reads them."""
    values = measured.values.get((explainer, metric.label))
    problem = measured.problems.get((explainer, metric.label), "")
    count = 1 if values is None else len(values)
    return pd.DataFrame(
        {
            "explainer": explainer,
            "metric": metric.label,
            "unit": metric.entry.unit_of(metric.options),
            "sample": [str(place) for place in range(count)],
            "value": [float("nan")] if values is None else values,
            "status": "ok" if values is not None else "not done",
            "error": problem,
        }
    )


def _stability_verdict(values: np.ndarray | None) -> tuple[str, dict]:
    """The verdict on the mean change of maps under small noise, by its 95 % interval, and its row."""
    known = np.empty(0) if values is None else values[np.isfinite(values)]
    row = {"check": "stability", "bound": MOST_CHANGE, "n": len(known), "reason": ""}
    if not len(known):
        return "not done", {**row, "verdict": "not done", "reason": "no sample has a score"}
    low, high = interval(known)
    row |= {"value": float(known.mean()), "ci_low": low, "ci_high": high}
    if len(known) < (least := Bounds().least):
        reason = f"{len(known)} samples have a score, {least} are needed"
        return "undecided", {**row, "verdict": "undecided", "reason": reason}
    verdict = {-1: "pass", 1: "fail", 0: "undecided"}[side_of(known, MOST_CHANGE)]
    return verdict, {**row, "verdict": verdict}
