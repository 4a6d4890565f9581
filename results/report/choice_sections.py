"""The steps of a choice before and after its race, as sections of its page: metrics, tuning, conditions, candidates."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from harness.results.numbers import with_interval, with_sign
from harness.results.report.choice_forest import is_known
from harness.results.report.choice_plots import ladder_plot
from harness.results.report.drawing import number
from harness.results.report.elements import Cell, Head, folded, html_table
from harness.results.report.markup import Raw, soft, tag

MOST_OPEN = 12  # rows of a table of those that were left out; more are folded
CHECKS_IN_WORDS = {
    "sanity": "depends on the weights",
    "random_logit": "depends on the class",
    "stability": "stable under small noise",
}
Tables = Mapping[str, pd.DataFrame]


def numeral(value: Any, shown: str | None = None) -> Cell:
    """A cell with a number; a dash where there is none, which is sorted last."""
    return Cell(shown or number(value), float(value)) if is_known(value) else Cell("–")


def metrics_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """The ladder of each metric, whether it is used, and how much their rankings agree."""
    rows, pairs = tables.get("ladder", pd.DataFrame()), tables.get("agreement", pd.DataFrame())
    if rows.empty:
        return None
    known = [value for value in rows["mean"] if is_known(value)]
    ends = (min(known), max(known)) if known else (0.0, 1.0)
    figures = [_ladder_figure(name, own, ends) for name, own in rows.groupby("metric", sort=False)]
    parts = [tag("div", figures, class_="ladders")]
    if len(pairs):
        heads = [Head("metric"), Head("other metric"), Head("tau-b", True)]
        cells = [[row["metric"], row["other"], numeral(row["tau_b"])] for row in pairs.to_dict("records")]
        parts.append(html_table("Agreement of the rankings of all candidates (1 the same order)", heads, cells))
    return tag("div", parts)


def _ladder_figure(name: str, rows: pd.DataFrame, ends: tuple[float, float]) -> Raw:
    first = rows.iloc[0]
    used = bool(first["used"])
    words = tag("span", "used" if used else f"not used: {first['reason']}", class_="word better" if used else "word")
    steps = [(a, b) for a, b in zip(rows["noise"], rows["mean"], strict=True) if is_known(b)]
    plot = ladder_plot(f"Ladder of {name}", steps, ends, used=used) if steps else ""
    told = [tag("span", text, class_="numbers") for text in _ladder_numbers(first)]
    return tag("figure", tag("figcaption", tag("b", soft(name)), " ", words, told), plot)


def _ladder_numbers(row: Mapping) -> Iterator[str]:
    if is_known(row["drop"]):
        chance = f", p {number(row['p_falls'])}" if is_known(row["p_falls"]) else ""
        yield f"falls by {with_interval(row['drop'], row['drop_low'], row['drop_high'])}{chance}"
    if is_known(row["random_low"]):
        yield f"noise less random maps: {number(row['random_low'])} to {number(row['random_high'])} (99 %)"


def tuning_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """What tuning gained on the half that it used and on the other, and each variant at each rung."""
    found, rungs = tables.get("held_out", pd.DataFrame()), tables.get("tuning", pd.DataFrame())
    if found.empty:
        return None
    heads = [
        Head("explainer"),
        Head("best variant"),
        Head("gain", True, "tuned half", name="gain on the tuned half"),
        Head("gain", True, "held-out half", name="gain on the held-out half"),
        Head("optimism", True, tip="the first gain less the second"),
        Head("samples", True, "held out"),
        Head("used"),
    ]
    parts = [
        html_table("Gain of the best variant over the default", heads, [*map(_outcome_row, found.to_dict("records"))])
    ]
    for name, own in rungs.groupby("explainer", sort=False):
        variants = own["variant"].nunique()
        parts.append(folded(f"{name}: {variants} variants on {own['rung'].nunique()} rungs", _rungs_table(name, own)))
    return tag("div", parts)


def _outcome_row(row: Mapping) -> list[Any]:
    used = "yes" if row["used"] else f"no: {row['reason']}" if row["reason"] else "no"
    gains = [numeral(row[name], with_sign(number(row[name]))) for name in ("gain_tuned", "gain_held_out")]
    return [
        row["explainer"],
        row["variant"],
        *gains,
        numeral(row["optimism"]),
        numeral(row["samples"], f"{row['samples']:,}"),
        used,
    ]


def _rungs_table(name: str, rows: pd.DataFrame) -> Raw:
    """A row for each variant, a column for each rung; those that a rung kept are bold."""
    rungs = rows.drop_duplicates("rung").sort_values("rung")
    heads = [
        Head("variant"),
        *(Head(f"rung {r}", True, f"{n:,} samples") for r, n in zip(rungs["rung"], rungs["samples"], strict=True)),
    ]
    by = {(row["variant"], row["rung"]): row for row in rows.to_dict("records")}
    longest = rows.sort_values(["rung", "mean"], ascending=False)["variant"].drop_duplicates()
    cells = [[variant, *(_rung_cell(by.get((variant, rung))) for rung in rungs["rung"])] for variant in longest]
    return html_table(f"Means of the variants of {name}; bold: kept", heads, cells)


def _rung_cell(row: Mapping | None) -> Cell:
    if row is None:
        return Cell("·")
    if not is_known(row["mean"]):
        return Cell("no score")
    return Cell(number(row["mean"]), float(row["mean"]), "mean best" if row["kept"] else "mean")


def conditions_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """The checks that are no scores, a row for each explainer and check."""
    rows = tables.get("conditions", pd.DataFrame())
    if rows.empty:
        return None
    heads = [
        Head("explainer"),
        Head("check"),
        Head("verdict"),
        Head("value", True),
        Head("95 % interval", True),
        Head("bound", True),
        Head("samples", True),
        Head("reason"),
    ]
    return html_table("Conditions", heads, [_condition_row(row) for row in rows.to_dict("records")])


def _condition_row(row: Mapping) -> list[Any]:
    verdict = str(row["verdict"])
    mark = tag("span", {"pass": "✓ ", "fail": "✗ "}.get(verdict, ""), aria_hidden="true")
    ends = [row.get("ci_low"), row.get("ci_high")]
    interval = f"[{number(ends[0])}, {number(ends[1])}]" if all(map(is_known, ends)) else "–"
    reason = row["reason"] if isinstance(row["reason"], str) else ""
    return [
        row["explainer"],
        CHECKS_IN_WORDS.get(row["check"], row["check"]),
        Cell([mark, verdict], verdict, f"is-{verdict.replace(' ', '-')}"),
        numeral(row.get("value")),
        Cell(interval, ends[0] if is_known(ends[0]) else None),
        numeral(row["bound"]),
        numeral(row["n"], f"{row['n']:g}"),
        Cell(reason, reason, "reason" if reason else ""),
    ]


def candidates_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """Those that took part with their costs, and those that were left out with the reason."""
    rows = tables.get("candidates", pd.DataFrame())
    if rows.empty:
        return None
    out = [row for row in rows.to_dict("records") if row["left_out"]]
    parts = [_taking_part_table([row for row in rows.to_dict("records") if not row["left_out"]], tables)]
    if out:
        reasons = [[row["explainer"], Cell(row["left_out"], row["left_out"], "reason")] for row in out]
        table = html_table("Left out before the race", [Head("explainer"), Head("why")], reasons)
        parts.append(folded(f"{len(out)} left out before the race", table, opened=len(out) <= MOST_OPEN))
    return tag("div", parts)


def _taking_part_table(rows: Sequence[Mapping], tables: Tables) -> Raw:
    heads = [
        Head("explainer"),
        Head("declared", True, "evaluations", tip="evaluations of the model for one sample, by the declared cost"),
        Head("measured", True, "evaluations", tip="forward and backward passes for one sample"),
        Head("seconds", True, "a sample"),
        Head("outcome"),
    ]
    outcomes = _outcomes(rows, tables)
    own, controls = ([_cost_row(row, outcomes) for row in rows if row["control"] == each] for each in (False, True))
    return html_table("Candidates that took part", heads, own, apart=("controls", controls)) if rows else Raw("")


def _outcomes(rows: Sequence[Mapping], tables: Tables) -> dict[str, str]:
    """How far each candidate came: out of the race and why, worse in the confirmation, or in the answer."""
    stayed = "stayed in the race" if "race" in tables else ""
    found = {row["explainer"]: row["left_race"] or stayed for row in rows}
    for row in tables.get("confirmation", pd.DataFrame()).to_dict("records"):
        if row["worse_than"]:
            found[row["explainer"]] = f"worse than {row['worse_than']} in the confirmation"
        elif row["control"]:
            found[row["explainer"]] = "compared in the confirmation"
    return found | {row["explainer"]: "in the answer" for row in rows if row["in_answer"]}


def _cost_row(row: Mapping, outcomes: Mapping[str, str]) -> list[Any]:
    outcome = outcomes[row["explainer"]]
    counts = (row["declared_evaluations"], row["evaluations"])
    cells = [numeral(each, f"{each:,.0f}" if is_known(each) else None) for each in counts]
    return [row["explainer"], *cells, numeral(row["seconds_per_sample"]), Cell(outcome, outcome, "reason")]
