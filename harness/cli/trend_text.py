"""A trend over runs on the screen: a sentence, a table of the cells that changed, and the number of the rest."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.cli.comparison_text import MOST_CHANGES, wrapped_text
from harness.cli.filters import filter_words, filtered
from harness.cli.progress_line import progress_line
from harness.cli.words import MARKS, TREND_VERDICTS
from harness.messages import say
from harness.results.frames import find_run
from harness.results.report.trend_page import write_trend_page
from harness.results.tables import to_csv
from harness.results.terminal import header_and_rows
from harness.results.trend import measured_trend
from harness.results.trend_words import several_blocks, trend_notes, trend_sentence, trend_texts

QUIET = ("stable", "few")
RIGHT = ("p", "runs")


def show_trend(chosen: argparse.Namespace, failing: Sequence[str]) -> int:
    """Print the trend of the runs and write its files; 1 if a cell that is shown has a verdict in ``failing``."""
    with progress_line(quiet=chosen.quiet):
        runs = [find_run(name, chosen.runs) for name in chosen.names]
        say(f"reading {len(runs)} runs")
        found = measured_trend(runs)
        rows = _worst_first(filtered(found.rows, chosen.metrics, chosen.explainers))
        if chosen.html:
            say("drawing cells")
            write_trend_page(chosen.html, found, _listed_cells(rows, everything=chosen.all), rows, runs)
    print("\n".join(_trend_lines(rows, found.values.loc[rows["cell"]], everything=chosen.all)))
    if len(rows) < len(found.rows):
        words = filter_words(chosen.metrics, chosen.explainers)
        print(f"{len(rows)} of {len(found.rows)} cells, by {words}; tests are corrected over all of them")
    if chosen.csv:
        to_csv(rows.merge(found.values, left_on="cell", right_index=True), chosen.csv)
        print(f"{len(rows)} rows: {chosen.csv}")
    if chosen.html:
        print(f"page: {chosen.html} ({Path(chosen.html).stat().st_size / 1e6:.1f} MB)")
    return int(rows["verdict"].isin(failing).any())


def _listed_cells(rows: pd.DataFrame, *, everything: bool) -> pd.DataFrame:
    """The cells that changed, or all."""
    return rows if everything else rows[~rows["verdict"].isin(QUIET)]


def _worst_first(rows: pd.DataFrame) -> pd.DataFrame:
    """By verdict, and the largest relative change first."""
    size = ((rows["last"] - rows["best"]) / rows["best"].abs()).abs()
    order = pd.DataFrame({"verdict": rows["verdict"].map(TREND_VERDICTS.index), "size": -size})
    return rows.loc[order.sort_values(["verdict", "size"], kind="stable").index]


def _trend_lines(rows: pd.DataFrame, values: pd.DataFrame, *, everything: bool) -> list[str]:
    listed = _listed_cells(rows, everything=everything)
    listed = listed if everything else listed.head(MOST_CHANGES)
    lines = wrapped_text(trend_sentence(rows, values))
    if len(listed):
        lines += ["", *_trend_table(listed, rows, levels=everything), ""]
    lines += trend_notes(listed)
    rest = rows.drop(listed.index)["verdict"].value_counts()
    if len(rest):
        counts = ", ".join(f"{rest[verdict]} {verdict}" for verdict in TREND_VERDICTS if verdict in rest)
        lines.append(f"not listed: {counts} (--all lists them, with all levels)")
    return lines


def _trend_table(listed: pd.DataFrame, rows: pd.DataFrame, *, levels: bool) -> list[str]:
    """One line for each cell, and with ``levels`` all levels below those that have several."""
    records = listed.to_dict("records")
    verdicts = [{"verdict": f"{MARKS.get(row['verdict'], ' ')} {row['verdict']}"} for row in records]
    texts = [
        verdict | trend_texts(row, blocks=several_blocks(rows)) for verdict, row in zip(verdicts, records, strict=True)
    ]
    columns = {name: "right" if name in RIGHT else "left" for name in texts[0]}
    header, lines = header_and_rows(columns, [list(each.values()) for each in texts])
    below = [[f"    {row['steps']}"] if levels and row["since"] else [] for row in records]
    return [*header, *(text for line, more in zip(lines, below, strict=True) for text in (line, *more))]
