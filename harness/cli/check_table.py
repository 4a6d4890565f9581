"""The table that ``harness check`` prints."""

import shutil
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any, TextIO

import pandas as pd

from harness.jobs.checking import flagged
from harness.results.footnotes import WORDS
from harness.results.numbers import count, significant
from harness.results.terminal import header_and_rows

CHECK_WIDTH = 100  # of the table in a log, and least in a terminal
CHECK_COLUMNS = {
    "status": "status",
    "sum\nerror": "completeness_error",
    "sum /\noutput": "relevance_over_output",
    "alone": "alone_difference",
    "again": "repeat_difference",
    "two\nseeds": "convergence",
    "F": "forwards",
    "B": "backwards",
    "seconds": "seconds",
}
CHECK_COSTS = ("forwards", "backwards", "seconds")
CHECK_LEGEND = (
    "sum error: |sum of the attributions - promised sum| / |promised sum|, median over samples; sum / output: sum over "
    "the output, median; alone: largest difference between a sample explained alone and in its batch, over the largest "
    "value; again: the same between two calls; two seeds: correlation of the maps under two seeds, mean; F, B: forward "
    "and backward passes per sample; seconds: per sample; "
    "*: a flag, explained below the row"
)


def print_checks(rows: pd.DataFrame, file: TextIO, width: int | None = None) -> None:
    """Print the rows of one model and data set: numbers in columns, errors and flags below each explainer."""
    width = width or (max(CHECK_WIDTH, shutil.get_terminal_size().columns) if file.isatty() else CHECK_WIDTH)
    head, lines = _check_table(rows)
    text = ["", f"{rows['model'][0]} on {rows['dataset'][0]}", *_wrapped(CHECK_LEGEND, width, ""), "", *head]
    for line, row in zip(lines, rows.to_dict("records"), strict=True):
        text += [line, *(part for note in _check_notes(row) for part in _wrapped(note, width, "    "))]
    file.write("\n".join([*text, "", _check_counts(rows)]) + "\n")


def _check_table(rows: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The lines of the header, and one line for each row."""
    columns = {name: "left" if name in ("explainer", "status") else "right" for name in ("explainer", *CHECK_COLUMNS)}
    values = [
        [row["explainer"], *(_check_value(name, row) for name in CHECK_COLUMNS.values())]
        for row in rows.to_dict("records")
    ]
    return header_and_rows(columns, values)


def _check_value(name: str, row: Mapping[str, Any]) -> str:
    value = row.get(name)
    if name == "status":
        return WORDS.get(value, value) + ("*" if row["flags"] else "")
    if value is None or pd.isna(value):
        return "unknown" if name in CHECK_COSTS and row["status"] == "ok" else ""
    if "difference" in name:
        return f"{value:.0e}" if value else "0"
    return count(value) if name in ("forwards", "backwards") else significant(value)


def _check_notes(row: Mapping[str, Any]) -> Iterator[str]:
    """An explainer's error, the rules that it used, and its flags, in lines."""
    for reason in (row["error"], row.get("unmeasured")):
        if isinstance(reason, str) and reason:
            yield reason
    for kind, words in (("ruled", "operations with a rule:"), ("unruled", "operations passed by their derivative:")):
        counts = row.get(kind)
        if isinstance(counts, Mapping) and counts:
            yield f"{words} {', '.join(f'{number} {name}' for name, number in counts.items())}"
    yield from (f"* {flag}" for flag in row["flags"])


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    more = f"{indent}  " if indent else ""
    return fill(text, width, initial_indent=indent, subsequent_indent=more, break_on_hyphens=False).split("\n")


def _check_counts(rows: pd.DataFrame) -> str:
    status = rows["status"].value_counts()
    numbers = ", ".join(
        f"{status.get(name, 0)} {name.replace('_', ' ')}" for name in ("ok", "not_applicable", "failed")
    )
    flags = f"{int(flagged(rows).sum())} flagged, not counting rows of libraries with a known caveat"
    return f"{len(rows)} explainers: {numbers}\n{flags}"
