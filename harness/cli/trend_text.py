"""A trend over runs on the screen: a sentence, a table of the cells that changed, and the number of the rest."""

import argparse
from collections.abc import Sequence

import pandas as pd

from harness.cli.comparison_text import MOST_CHANGES, wrapped_text
from harness.cli.filters import filter_words, filtered
from harness.cli.words import MARKS, TREND_VERDICTS
from harness.results.direction_words import change_in_words, levels_in_words
from harness.results.frames import find_run
from harness.results.numbers import significant
from harness.results.tables import to_csv
from harness.results.terminal import header_and_rows
from harness.results.trend import trend
from harness.results.trend_words import certainty, step_of_row, trend_sentence

QUIET = ("stable", "few")
EXACT = "exact: the values repeat bit for bit, so that a change needs no test"
TESTED = "p: of the clearest step, corrected over all cells"
WITHOUT_DRIFT = "levels of measured costs are without the drift that all explainers of a block share"


def show_trend(chosen: argparse.Namespace, failing: Sequence[str]) -> int:
    """Print the trend of the runs and write its file; 1 if a cell that is shown has a verdict in ``failing``."""
    whole, values = trend([find_run(name, chosen.runs) for name in chosen.names])
    rows = _worst_first(filtered(whole, chosen.metrics, chosen.explainers))
    print("\n".join(_trend_lines(rows, values.loc[rows["cell"]], everything=chosen.all)))
    if len(rows) < len(whole):
        words = filter_words(chosen.metrics, chosen.explainers)
        print(f"{len(rows)} of {len(whole)} cells, by {words}; tests are corrected over all of them")
    if chosen.csv:
        to_csv(rows.merge(values, left_on="cell", right_index=True), chosen.csv)
        print(f"{len(rows)} rows: {chosen.csv}")
    return int(rows["verdict"].isin(failing).any())


def _worst_first(rows: pd.DataFrame) -> pd.DataFrame:
    """By verdict, and the largest relative change first."""
    size = ((rows["last"] - rows["best"]) / rows["best"].abs()).abs()
    order = pd.DataFrame({"verdict": rows["verdict"].map(TREND_VERDICTS.index), "size": -size})
    return rows.loc[order.sort_values(["verdict", "size"], kind="stable").index]


def _trend_lines(rows: pd.DataFrame, values: pd.DataFrame, *, everything: bool) -> list[str]:
    listed = rows if everything else rows[~rows["verdict"].isin(QUIET)].head(MOST_CHANGES)
    lines = wrapped_text(trend_sentence(rows, values))
    if len(listed):
        lines += ["", *_trend_table(listed, rows, levels=everything), ""]
    costs = listed[(listed["kind"] == "cost") & (listed["unit"] != "passes")]
    known = listed.apply(certainty, axis=1) if len(listed) else pd.Series(dtype=str)
    notes = {EXACT: (known == "exact").any(), TESTED: (~known.isin(["", "exact"])).any(), WITHOUT_DRIFT: len(costs)}
    lines += [note for note, holds in notes.items() if holds]
    rest = rows.drop(listed.index)["verdict"].value_counts()
    if len(rest):
        counts = ", ".join(f"{rest[verdict]} {verdict}" for verdict in TREND_VERDICTS if verdict in rest)
        lines.append(f"not listed: {counts} (--all lists them, with all levels)")
    return lines


def _trend_table(listed: pd.DataFrame, rows: pd.DataFrame, *, levels: bool) -> list[str]:
    """One line for each cell, and with ``levels`` all levels below those that have several."""
    blocks = rows["model"].nunique() > 1 or rows["dataset"].nunique() > 1
    columns = {"verdict": "left"} | ({"model": "left", "data": "left"} if blocks else {})
    columns |= dict.fromkeys(("explainer", "metric", "best before → last", "change", "since"), "left")
    columns |= {"p": "right", "runs": "right"}
    records = listed.to_dict("records")
    header, lines = header_and_rows(columns, [_texts_of_trend(row, blocks) for row in records])
    below = [[f"    {row['steps']}"] if levels and row["since"] else [] for row in records]
    return [*header, *(text for line, more in zip(lines, below, strict=True) for text in (line, *more))]


def _texts_of_trend(row: dict, blocks: bool) -> list[str]:
    step, moved = step_of_row(row), bool(row["since"])
    last = "" if pd.isna(row["last"]) else significant(row["last"])
    return [
        f"{MARKS.get(row['verdict'], ' ')} {row['verdict']}",
        *([row["model"], row["dataset"]] if blocks else []),
        row["explainer"],
        row["metric"],
        levels_in_words(step) if moved else last,
        change_in_words(step, step["change"]) if moved else "",
        row["since"],
        certainty(row),
        str(row["runs"]),
    ]
