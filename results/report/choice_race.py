"""The race of a choice: its picture, and who left it in which round and why."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.results.numbers import significant
from harness.results.report.choice_forest import is_known
from harness.results.report.choice_plots import RaceLine, race_plot
from harness.results.report.drawing import number
from harness.results.report.elements import Cell, Head, html_table
from harness.results.report.markup import Raw, tag

GONE = ("dropped", "withdrawn")  # states of those that have left
STANDINGS = {
    "first": "recommended",
    "choice": "in the answer",
    "stays": "not dropped, but not in the answer",
    "left": "left the race",
}
RACE_LEAD = (
    "Each line is an explainer. After every round those are dropped that are shown not to be the best, however often "
    "one looks. A line ends with a cross where its explainer left; lines of controls, which ignore the model, are "
    "dashed. Point at the end of a line for the numbers."
)


def race_part(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Raw | None:
    """The picture and the table; None where no round was played."""
    rows, candidates = tables.get("race", pd.DataFrame()), tables.get("candidates", pd.DataFrame())
    if rows.empty or not (rows["measured"] > 0).any():
        return None
    about = candidates.set_index("explainer").to_dict("index")
    fates = {name: fate_of(own) for name, own in rows.groupby("explainer", sort=False)}
    lines = [_race_line_of(name, fate, about.get(name, {}), facts) for name, fate in fates.items()]
    lines = [line for line in lines if line is not None]
    unit = f" ({facts['unit']})" if facts.get("unit") else ""
    plot = (
        race_plot(lines, f"The race: {len(lines)} explainers", f"mean difference to the leader{unit}") if lines else ""
    )
    parts = [tag("div", plot, class_="plot-box race-box"), _race_key(lines), tag("p", _survivors(rows), class_="fine")]
    return tag("div", parts, _table_of_those_that_left(fates, about))


def fate_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Of one explainer's rows those that tell its way: the last look at each number of samples, until it left."""
    rows = rows.sort_values("look", kind="stable")
    gone = rows["state"].isin(GONE).to_numpy()
    until = int(gone.argmax()) + 1 if gone.any() else len(rows)
    return rows.iloc[:until].drop_duplicates("measured", keep="last")


def _race_line_of(name: str, fate: pd.DataFrame, about: Mapping, facts: Mapping[str, Any]) -> RaceLine | None:
    """The line of an explainer; None for one that was never measured."""
    seen = fate[(fate["measured"] > 0) & fate["behind_leader"].notna()]
    if seen.empty:
        return None
    points = [(int(n), 0.0 - behind) for n, behind in zip(seen["measured"], seen["behind_leader"], strict=True)]
    last = seen.iloc[-1]
    standing = "left" if last["state"] in GONE or about.get("left_race") else "stays"
    if about.get("in_answer"):
        standing = "first" if name == facts.get("recommended") else "choice"
    words = [name, about.get("left_race") or STANDINGS[standing]]
    words.append(f"mean {number(last['mean'])}, {_behind(last)} after {last['measured']:,} samples")
    words.append(f"evidence that it is not the best: {_evidence(last['wealth'])}")
    return RaceLine(name, points, standing, bool(about.get("control")), "\n".join(words))


def _behind(row: Mapping) -> str:
    if row["explainer"] == row["leader"]:
        return "the leader"
    return f"{number(row['behind_leader'])} behind {row['leader']}"


def _evidence(wealth: float) -> str:
    if not is_known(wealth):
        return "–"
    return "over a million" if wealth > 1e6 else significant(wealth) if wealth >= 0.01 else "below 0.01"


def _race_key(lines: list[RaceLine]) -> Raw:
    there = {line.standing for line in lines}
    keys = [tag("span", words, class_=f"key way-key {each}") for each, words in STANDINGS.items() if each in there]
    return tag("p", keys, class_="legend")


def _survivors(rows: pd.DataFrame) -> str:
    """How many were left after each round, in a sentence."""
    last = rows[rows["look"] == rows.groupby("round")["look"].transform("max")]
    counts = last[last["state"] == "in"].groupby("round")["explainer"].nunique()
    samples = last.groupby("round")["samples"].max()
    told = [f"{counts.get(number, 0)} after {samples[number]:,} samples (round {number})" for number in samples.index]
    return f"In the race, with controls: {'; '.join(told)}."


def _table_of_those_that_left(fates: Mapping[str, pd.DataFrame], about: Mapping[str, Mapping]) -> Raw:
    """A row for each that left, the first to leave first; controls apart. No table where all stay."""
    gone = [(name, fate.iloc[-1]) for name, fate in fates.items() if _has_left(fate.iloc[-1], about.get(name, {}))]
    if not gone:
        return tag("p", "Nobody left the race.", class_="note")
    gone.sort(key=lambda pair: (pair[1]["state"] not in GONE, pair[1]["round"], -_or_zero(pair[1]["behind_leader"])))
    heads = [
        Head("explainer"),
        Head("round", True, tip="the round in which it left"),
        Head("samples", True, tip="on which it was measured"),
        Head("behind", True, "the leader", tip="the leader's mean less its own, on the samples of both"),
        Head("evidence", True, "wealth", tip="what a bet of 1 against its being the best has become"),
        Head("why"),
    ]
    cells = [
        (_left_row(name, row, about.get(name, {})), bool(about.get(name, {}).get("control"))) for name, row in gone
    ]
    own, controls = [row for row, control in cells if not control], [row for row, control in cells if control]
    return html_table("Who left the race", heads, own, apart=("controls", controls))


def _has_left(row: Mapping, about: Mapping) -> bool:
    return row["state"] in GONE or bool(about.get("left_race"))


def _left_row(name: str, row: Mapping, about: Mapping) -> list[Any]:
    known = row["measured"] > 0
    left_in = Cell(row["round"], row["round"]) if row["state"] in GONE else Cell("–")
    behind = row["behind_leader"] if row["explainer"] != row["leader"] else None
    why = about.get("left_race") or f"worse than {row['leader']}"
    return [
        name,
        left_in,
        Cell(f"{row['measured']:,}", row["measured"]),
        Cell(number(behind), behind if is_known(behind) else None),
        Cell(_evidence(row["wealth"]), row["wealth"]) if known else Cell("–"),
        Cell(why, why, "reason"),
    ]


def _or_zero(value: float) -> float:
    return value if is_known(value) else 0.0
