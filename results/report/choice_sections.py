"""The steps of a choice before and after its race, as sections of its page: metrics, tuning, conditions, candidates."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.results.numbers import rounded_together, with_interval, with_sign
from harness.results.report.choice_forest import is_known
from harness.results.report.choice_plots import ladder_plot
from harness.results.report.choice_race import outcomes
from harness.results.report.drawing import number, tick
from harness.results.report.elements import Head, TableCell, folded, html_table, note
from harness.results.report.markup import Raw, soft, tag

MOST_OPEN = 12  # rows of a table of those that were left out; more are folded
LEAST_CHANCE = 1e-4  # a smaller probability is said to be below it


@dataclass(frozen=True)
class Check:
    """A condition in words: what is checked, on which side of its bound an interval passes, and what its value is."""

    name: str
    side: str
    value: str


CHECKS = {
    "sanity": Check(
        "depends on weights and class",
        "above",
        "share of random draws (other weights, other classes) whose map differs; of the two shares the smaller one",
    ),
    "random_logit": Check(
        "depends on the class",
        "below",
        "similarity of the maps of the explained class and of others; 1 for the same map",
    ),
    "stability": Check("stable under small noise", "below", "mean change of the map, in sizes of the map"),
}
Tables = Mapping[str, pd.DataFrame]


def numeral(value: Any, shown: str | None = None) -> TableCell:
    """A cell with a number; a dash where there is none, which is sorted last."""
    return TableCell(shown or number(value), float(value)) if is_known(value) else TableCell("–")


def metrics_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """The ladder of each metric, whether it is used, and how much their rankings agree."""
    rows = tables.get("ladder", pd.DataFrame())
    if rows.empty:
        return None
    known = [value for value in rows["mean"] if is_known(value)]
    ends = (min(known), max(known)) if known else (0.0, 1.0)
    figures = [_ladder_figure(name, own, ends) for name, own in rows.groupby("metric", sort=False)]
    agreement = _agreement_table(tables) if rows["metric"].nunique() > 1 and known else ""
    return tag("div", tag("div", figures, class_="ladders"), agreement)


def _agreement_table(tables: Tables) -> Raw:
    pairs = tables.get("agreement", pd.DataFrame())
    if pairs.empty:
        return note("How far the metrics agree is not known: too few explainers were measured.")
    heads = [Head("metric"), Head("other metric"), Head("tau-b", True)]
    cells = [[row["metric"], row["other"], numeral(row["tau_b"])] for row in pairs.to_dict("records")]
    caption = "Agreement of two metrics' rankings of the explainers: Kendall's tau-b, 1 the same order, −1 reversed"
    return html_table(caption, heads, cells)


def _ladder_figure(name: str, rows: pd.DataFrame, ends: tuple[float, float]) -> Raw:
    first = rows.iloc[0]
    used = bool(first["used"])
    word = tag("span", "used" if used else "not used", class_="word better" if used else "word")
    steps = [(a, b) for a, b in zip(rows["noise"], rows["mean"], strict=True) if is_known(b)]
    plot = ladder_plot(f"Ladder of {name}", steps, ends, used=used) if steps else ""
    texts = [*([] if used else [first["reason"]]), *_ladder_numbers(first)]
    told = [tag("span", text, class_="numbers") for text in texts]
    return tag("figure", tag("figcaption", tag("b", soft(name)), " ", word, told), plot)


def _ladder_numbers(row: Mapping) -> Iterator[str]:
    if is_known(row["drop"]):
        fall = with_interval(row["drop"], row["drop_low"], row["drop_high"])
        yield f"falls by {fall} (95 %){_p_in_words(row['p_falls'])}"
    if is_known(row["random_low"]):
        middle = (row["random_low"] + row["random_high"]) / 2
        low, high = rounded_together(middle, row["random_low"], row["random_high"])[1:]
        yield f"noise less random maps: {low} to {high} (99 %)"
    if is_known(row.get("detectable")):
        found = f"{number(row['detectable'])} are found with {row['samples_to_confirm']:,} samples"
        yield f"differences above {found} (80 % power)"


def _p_in_words(p: float) -> str:
    """The probability of such a fall without reason."""
    if not is_known(p):
        return ""
    return f", p below {LEAST_CHANCE:g}" if p < LEAST_CHANCE else f", p {number(p)}"


def tuning_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """What tuning gained on the half that it used and on the other, and each variant at each rung."""
    found, rungs = tables.get("held_out", pd.DataFrame()), tables.get("tuning", pd.DataFrame())
    if found.empty:
        return None
    heads = [
        Head("explainer"),
        Head("best"),
        Head("gain", True, "tuned half", name="gain on the tuned half"),
        Head("gain", True, "held-out half", name="gain on the held-out half"),
        Head("optimism", True, tip="the first gain less the second"),
        Head("samples", True, "held out"),
        Head("used"),
    ]
    parts = [
        html_table("Gain of the best variant over the default", heads, [*map(_held_out_row, found.to_dict("records"))])
    ]
    for name, own in rungs.groupby("explainer", sort=False):
        told = f"the default and its variants, {own['variant'].nunique()} in all, on {own['rung'].nunique()} rungs"
        parts.append(folded(f"{name}: {told}", _rungs_table(name, own)))
    return tag("div", parts)


def _held_out_row(row: Mapping) -> list[Any]:
    used = "yes" if row["used"] else f"no: {row['reason']}" if row["reason"] else "no"
    differences = ("gain_tuned", "gain_held_out", "optimism")
    return [
        row["explainer"],
        row["variant"] or "–",
        *(numeral(row[name], with_sign(number(row[name]))) for name in differences),
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


def _rung_cell(row: Mapping | None) -> TableCell:
    if row is None:
        return TableCell("·")
    if not is_known(row["mean"]):
        return TableCell("no score")
    return TableCell(number(row["mean"]), float(row["mean"]), "mean best" if row["kept"] else "mean")


def conditions_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """The checks that are no scores, a row for each explainer and check, and what their values are."""
    rows = tables.get("conditions", pd.DataFrame())
    if rows.empty:
        return None
    heads = [
        Head("explainer"),
        Head("check"),
        Head("verdict"),
        Head("value", True),
        Head("95 % interval", True),
        Head("passes", True),
        Head("samples", True),
        Head("reason"),
    ]
    table = html_table("Conditions", heads, [_condition_row(row) for row in rows.to_dict("records")])
    there = [CHECKS[name] for name in rows["check"].drop_duplicates() if name in CHECKS]
    told = [tag("li", tag("b", check.name), f": {check.value}") for check in there]
    return tag("div", table, tag("ul", told, class_="fine values") if told else "")


def _condition_row(row: Mapping) -> list[Any]:
    verdict = str(row["verdict"])
    mark = tag("span", {"pass": "✓ ", "fail": "✗ "}.get(verdict, ""), aria_hidden="true")
    check = CHECKS.get(row["check"], Check(row["check"], "", ""))
    value, interval = numeral(row.get("value")), TableCell("–")
    ends = [row.get(name) for name in ("value", "ci_low", "ci_high")]
    if all(map(is_known, ends)):
        middle, low, high = rounded_together(*ends)
        value, interval = numeral(ends[0], middle), TableCell(f"[{low}, {high}]", float(ends[1]))
    reason = row["reason"] if isinstance(row["reason"], str) else ""
    bound = f"{check.side} {tick(row['bound'])}".strip() if is_known(row["bound"]) else None
    return [
        row["explainer"],
        check.name,
        TableCell([mark, verdict], verdict, f"is-{verdict.replace(' ', '-')}"),
        value,
        interval,
        numeral(row["bound"], bound),
        numeral(row["n"], f"{row['n']:g}"),
        TableCell(reason, reason, "reason" if reason else ""),
    ]


def candidates_part(facts: Mapping[str, Any], tables: Tables) -> Raw | None:
    """Those that could be chosen with their costs and how far they came, and those left out with the reason."""
    found = tables.get("candidates", pd.DataFrame())
    if found.empty:
        return None
    rows = found.to_dict("records")
    parts = [_costs_table([row for row in rows if not row["left_out"]], outcomes(facts, tables))]
    out = [row for row in rows if row["left_out"]]
    if out:
        cells = [[row["explainer"], TableCell(row["left_out"], row["left_out"], "reason")] for row in out]
        own, controls = (
            [cell for cell, row in zip(cells, out, strict=True) if bool(row["control"]) == wanted]
            for wanted in (False, True)
        )
        heads, told = [Head("explainer"), Head("why")], f"Left out: {_counted_kinds(len(own), len(controls))}"
        table = html_table(
            "Left out, with the reason", heads, own or controls, apart=("controls", controls) if own else None
        )
        parts.append(folded(told, table, opened=len(out) <= MOST_OPEN))
    return tag("div", parts)


def _counted_kinds(own: int, controls: int) -> str:
    """How many explainers and controls, as far as there are any."""
    words = ((own, "explainer"), (controls, "control"))
    return " and ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in words if count)


def _costs_table(rows: Sequence[Mapping], found: Mapping[str, str]) -> Raw:
    """A row for each that could be chosen; what became of it only where a race was run."""
    if not rows:
        return Raw("")
    heads = [
        Head("explainer"),
        Head("declared", True, "evaluations", tip="evaluations of the model for one sample, by the declared cost"),
        Head("measured", True, "evaluations", tip="forward and backward passes for one sample"),
        Head("seconds", True, "a sample", tip="as first measured; the confirmation measures again"),
        *([Head("outcome")] if any(found.values()) else []),
    ]
    own, controls = ([_cost_row(row, found, len(heads)) for row in rows if row["control"] == each] for each in (0, 1))
    return html_table("Candidates, the cheapest by declared cost first", heads, own, apart=("controls", controls))


def _cost_row(row: Mapping, found: Mapping[str, str], columns: int) -> list[Any]:
    counts = (row["declared_evaluations"], row["evaluations"])
    cells = [numeral(each, f"{each:,.0f}" if is_known(each) else None) for each in counts]
    cells.append(numeral(row["seconds_per_sample"]))
    outcome = found.get(row["explainer"], "")
    return [row["explainer"], *cells, TableCell(outcome, outcome, "reason")][:columns]
