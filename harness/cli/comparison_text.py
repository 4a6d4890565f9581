"""A comparison of runs on the screen: a sentence, a table of what changed, and the number of the rest."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd

from harness.cli.comparison_markdown import comparison_markdown
from harness.cli.filters import filter_words, filtered
from harness.cli.words import MARKS
from harness.errors import UserError, printable
from harness.results.comparison import UNPAIRED, Comparison, compare_runs
from harness.results.comparison_words import block_in_words, comparison_sentence, drift_in_words, unpaired_in_words
from harness.results.direction_words import levels_in_words, whole_change_in_words
from harness.results.disk import whole_file
from harness.results.frames import find_run
from harness.results.numbers import significant
from harness.results.tables import to_csv
from harness.results.terminal import header_and_rows

MOST_CHANGES = 12  # rows that fit a screen beside the sentence and the notes
TEXT_WIDTH = 100
CODE_CHANGED_STATUS = 3
MOVED = "moved: changed, but not shown to be better or worse, or a control, or a metric without a direction"
ALONE = "[...]: 95 % interval of this change alone; p: corrected over all scores, or all costs, of the comparison"


def show_comparison(chosen: argparse.Namespace, sides: tuple[list[str], list[str]], failing: list[str]) -> int:
    """Print the comparison of two sides' runs and write its files; the exit status of ``harness compare``.

    1 if a verdict that is shown is one of ``failing``, or too few cells could be compared; 3 if too few could only
    because the measuring code changed.
    """
    base, new = ([find_run(name, chosen.runs) for name in names] for names in sides)
    _refuse_twice([*base, *new])
    whole = compare_runs(base, new)
    shown = of_chosen_cells(whole, chosen.metrics, chosen.explainers)
    titles = [[printable(run.name) for run in side] for side in (base, new)]
    lines = _comparison_lines(shown, *titles, everything=chosen.all)
    if shown is not whole:
        lines.append(
            f"{len(shown.cells)} of {len(whole.cells)} cells, by {filter_words(chosen.metrics, chosen.explainers)}; "
            "tests are corrected over all of them"
        )
    print("\n".join(lines))
    if chosen.csv:
        to_csv(shown.cells, chosen.csv)
        print(f"{len(shown.cells)} rows: {chosen.csv}")
    if chosen.markdown:
        with whole_file(Path(chosen.markdown)) as temporary:
            temporary.write_text(comparison_markdown(shown, *titles), encoding="utf-8")
        print(f"Markdown: {chosen.markdown}")
    return _exit_status(shown, failing, chosen.min_compared)


def of_chosen_cells(comparison: Comparison, metrics: Sequence[str], explainers: Sequence[str]) -> Comparison:
    """The comparison's cells of some metrics and explainers, with the tests of the whole comparison.

    What concerns whole blocks is left out.
    """
    cells = filtered(comparison.cells, metrics, explainers)
    if len(cells) == len(comparison.cells):
        return comparison
    return replace(comparison, cells=cells, blocks=comparison.blocks.iloc[:0])


def _refuse_twice(runs: list[Path]) -> None:
    """UserError if a run came twice."""
    places = [run.resolve() for run in runs]
    twice = [run for run, place in zip(runs, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UserError(f"{twice[0]} came twice; expected different runs")


def _exit_status(comparison: Comparison, failing: Sequence[str], least: int) -> int:
    """The exit status, with a line on the screen if too few cells could be compared."""
    if comparison.compared < least:
        print(f"only {comparison.compared} cells could be compared, expected at least {least}")
    if any(map(comparison.has, failing)):
        return 1
    if comparison.compared >= least:
        return 0
    if comparison.compared + comparison.of_other_code < least:
        return 1
    print(f"exit status {CODE_CHANGED_STATUS}: no loss was found, but the measuring code has changed between the runs")
    return CODE_CHANGED_STATUS


def _comparison_lines(
    comparison: Comparison, base: Sequence[str], new: Sequence[str], *, everything: bool
) -> list[str]:
    """The comparison in lines: the sentence, what changed, what else there is to know, and what is not listed."""
    cells = comparison.cells
    changed = cells[~cells["verdict"].isin([*UNPAIRED, "same"])]
    listed = cells if everything else changed.head(MOST_CHANGES)
    lines = wrapped_text(comparison_sentence(comparison, base, new))
    if len(listed):
        lines += ["", *_table_of_changes(listed, cells, notes=everything), ""]
    lines += _notes_of_table(listed, bool(comparison.drift))
    if comparison.compared:
        lines += unpaired_in_words(comparison)
    if everything:
        lines += [*drift_in_words(comparison.drift), *map(_block_line, comparison.blocks.to_dict("records"))]
        lines += [f"environment: {name}: {old} → {now}" for name, (old, now) in comparison.environment.items()]
    rest = cells.drop(listed.index)["verdict"].value_counts()
    if len(rest) and not everything:
        counts = ", ".join(f"{rest[verdict]} {verdict}" for verdict in MARKS if verdict in rest)
        lines.append(f"not listed: {counts} (--all lists them, with the notes on each cell and on the environments)")
    return lines


def _table_of_changes(listed: pd.DataFrame, cells: pd.DataFrame, *, notes: bool) -> list[str]:
    """One line for each cell, and with ``notes`` its note below it."""
    blocks = cells["model"].nunique() > 1 or cells["dataset"].nunique() > 1
    columns = {"verdict": "left"} | ({"model": "left", "data": "left"} if blocks else {})
    columns |= {"explainer": "left", "metric": "left", "before → after": "left", "change": "left", "p": "right"}
    rows = listed.to_dict("records")
    header, lines = header_and_rows(columns, [_texts_of_cell(row, blocks) for row in rows])
    below = [[f"    {row['note']}"] if notes and row["note"] else [] for row in rows]
    return [*header, *(text for line, note in zip(lines, below, strict=True) for text in (line, *note))]


def _texts_of_cell(row: dict[str, Any], blocks: bool) -> list[str]:
    return [
        f"{MARKS[row['verdict']]} {row['verdict']}",
        *([row["model"], row["dataset"]] if blocks else []),
        row["explainer"],
        row["metric"],
        levels_in_words(row),
        whole_change_in_words(row),
        "" if pd.isna(row["p"]) else significant(row["p"]),
    ]


def _notes_of_table(listed: pd.DataFrame, drift: bool) -> list[str]:
    """What the words of a table mean, as far as it has them."""
    beside = listed["note"].str.contains("less the change of the controls", regex=False)
    notes = {
        MOVED: (listed["verdict"] == "moved").any(),
        ALONE: listed["low"].notna().any(),
        "changes of scores are those beside the change of the controls": beside.any(),
        "changes of costs are those beside the machine's change": drift and (listed["kind"] == "cost").any(),
    }
    return [note for note, holds in notes.items() if holds]


def _block_line(row: dict[str, Any]) -> str:
    chance = "not tested" if pd.isna(row["p"]) else f"p {significant(row['p'])}"
    return f"{MARKS[row['verdict']]} {row['verdict']}: {block_in_words(row)}, {chance}"


def wrapped_text(text: str) -> list[str]:
    """A text in lines."""
    return fill(text, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False).split("\n")
