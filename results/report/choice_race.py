"""The race of a choice: its picture, and who left it in which round and why."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.results.numbers import significant
from harness.results.report.choice_forest import is_known
from harness.results.report.choice_plots import RaceLine, race_plot
from harness.results.report.drawing import number
from harness.results.report.elements import Head, TableCell, html_table, note
from harness.results.report.markup import Raw, tag

GONE = ("dropped", "withdrawn")  # states of those that have left
STANDINGS = {
    "first": "recommended",
    "choice": "in the answer",
    "stays": "stayed in the race, but is not in the answer",
    "left": "left the race",
}
RACE_LEAD = (
    "Each line is an explainer. After every round those are dropped that are shown not to be the best, however often "
    "one looks. A line ends with a cross where its explainer left; lines and ends of controls, which ignore the model, "
    "are dashed and grey. Tuned variants come after the race, for the confirmation."
)
EVIDENCE = (
    "Evidence is what 1 has become by fair bets against an explainer's being the best. For one that is the best it "
    "ever reaches 100 with a probability of at most 1 %."
)


def race_part(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> Raw | None:
    """The picture and the table; a note where no round was played, None where it did not come to a race."""
    rows = tables.get("race")
    if rows is None:
        return None
    if rows.empty or not (rows["measured"] > 0).any():
        return note("No round was played, so that no explainer was dropped: the budget did not suffice for one.")
    about = tables["candidates"].set_index("explainer").to_dict("index")
    fates = {name: fate_of(own) for name, own in rows.groupby("explainer", sort=False)}
    words = outcomes(facts, tables)
    lines = [_race_line_of(name, fate, about.get(name, {}), facts, words.get(name, "")) for name, fate in fates.items()]
    lines = [line for line in lines if line is not None]
    unit = unit_in_words(facts.get("unit"))
    title = f"difference to the leader ({unit})" if unit else "difference to the leader"
    parts = []
    if lines:
        plot = race_plot(lines, f"The race: {len(lines)} explainers", title)
        parts = [tag("div", plot, class_="plot-box race-box"), _race_key(lines, facts)]
    parts.append(tag("p", _survivors(rows), class_="fine"))
    return tag("div", parts, _table_of_those_that_left(fates, about, unit))


def unit_in_words(unit: str | None) -> str:
    """The unit of the score for a reader; "" for none."""
    return {"probability": "class probability"}.get(unit or "", unit or "")


def outcomes(facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """How far each candidate came: out of the race and why, worse in the confirmation, or in the answer."""
    rows, raced = tables["candidates"].to_dict("records"), tables.get("race", pd.DataFrame())
    there = set(raced["explainer"]) if len(raced) else set()
    found = {r["explainer"]: r["left_race"] or ("stayed in the race" if r["explainer"] in there else "") for r in rows}
    for row in tables.get("confirmation", pd.DataFrame()).to_dict("records"):
        name = row["explainer"]
        if row["worse_than"]:
            found[name] = f"worse than {row['worse_than']} in the confirmation"
        elif row["control"]:
            found[name] = "; ".join(filter(None, (found.get(name), "compared in the confirmation")))
    stays = "in the answer" if facts["status"] == "answer" else "not shown to be worse, but not to recommend"
    found |= {row["explainer"]: stays for row in rows if row["in_answer"]}
    found |= {name: "not shown to be worse, but not confirmed" for name in facts.get("unconfirmed") or ()}
    return found | ({facts["recommended"]: "recommended"} if facts.get("recommended") else {})


def fate_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Of one explainer's rows those that tell its way: the last look at each number of samples, until it left."""
    rows = rows.sort_values("look", kind="stable")
    gone = rows["state"].isin(GONE).to_numpy()
    until = int(gone.argmax()) + 1 if gone.any() else len(rows)
    return rows.iloc[:until].drop_duplicates("measured", keep="last")


def _race_line_of(
    name: str, fate: pd.DataFrame, about: Mapping, facts: Mapping[str, Any], outcome: str
) -> RaceLine | None:
    """The line of an explainer; None for one that was never measured."""
    seen = fate[(fate["measured"] > 0) & fate["behind_leader"].notna()]
    if seen.empty:
        return None
    points = [(int(n), 0.0 - behind) for n, behind in zip(seen["measured"], seen["behind_leader"], strict=True)]
    last = seen.iloc[-1]
    standing = "left" if last["state"] in GONE or about.get("left_race") else "stays"
    if about.get("in_answer") and facts["status"] == "answer":
        standing = "first" if name == facts.get("recommended") else "choice"
    words = [name, outcome or STANDINGS[standing]]
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


def _race_key(lines: list[RaceLine], facts: Mapping[str, Any]) -> Raw:
    known = STANDINGS if facts["status"] == "answer" else STANDINGS | {"stays": "stayed in the race"}
    there = {line.standing for line in lines}
    keys = [tag("span", words, class_=f"key way-key {each}") for each, words in known.items() if each in there]
    return tag("p", keys, class_="legend")


def _survivors(rows: pd.DataFrame) -> str:
    """How many were left after each round, in a sentence."""
    last = rows[rows["look"] == rows.groupby("round")["look"].transform("max")]
    counts = last[last["state"] == "in"].groupby("round")["explainer"].nunique()
    samples = last.groupby("round")["samples"].max()
    told = [f"{counts.get(number, 0)} after round {number} ({samples[number]:,} samples)" for number in samples.index]
    return f"Remaining, controls included: {', '.join(told)}."


def _table_of_those_that_left(fates: Mapping[str, pd.DataFrame], about: Mapping[str, Mapping], unit: str) -> Raw:
    """A row for each that left, the first to leave first; controls apart. No table where all stay."""
    gone = [(name, fate.iloc[-1]) for name, fate in fates.items() if _has_left(fate.iloc[-1], about.get(name, {}))]
    if not gone:
        return note("Nobody left the race.")
    gone.sort(key=lambda pair: (pair[1]["state"] not in GONE, pair[1]["round"], -_or_zero(pair[1]["behind_leader"])))
    heads = [
        Head("explainer"),
        Head("round", True, tip="the round in which it left"),
        Head("samples", True, "measured", tip="on which it was measured before it left"),
        Head("behind leader", True, unit, tip="the leader's mean less its own, on the samples of both"),
        Head("evidence", True, tip=EVIDENCE),
        Head("why"),
    ]
    rows = [(_left_row(name, row, about.get(name, {})), bool(about.get(name, {}).get("control"))) for name, row in gone]
    own, controls = ([row for row, control in rows if control == wanted] for wanted in (False, True))
    caption = "Who left the race" if own else "Controls that left the race; no explainer did"
    table = html_table(caption, heads, own or controls, apart=("controls", controls) if own else None)
    return tag("div", table, tag("p", EVIDENCE, class_="fine"))


def _has_left(row: Mapping, about: Mapping) -> bool:
    return row["state"] in GONE or bool(about.get("left_race"))


def _left_row(name: str, row: Mapping, about: Mapping) -> list[Any]:
    known = row["measured"] > 0
    left_in = TableCell(row["round"], row["round"]) if row["state"] in GONE else TableCell("–")
    behind = row["behind_leader"] if row["explainer"] != row["leader"] else None
    why = about.get("left_race") or f"worse than {row['leader']}"
    return [
        name,
        left_in,
        TableCell(f"{row['measured']:,}", row["measured"]),
        TableCell(number(behind), behind if is_known(behind) else None),
        TableCell(_evidence(row["wealth"]), row["wealth"]) if known else TableCell("–"),
        TableCell(why, why, "reason"),
    ]


def _or_zero(value: float) -> float:
    return value if is_known(value) else 0.0
