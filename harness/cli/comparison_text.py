"""The comparison of two runs in words: on the screen, as Markdown and as CSV."""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from harness.cli.words import MARKS
from harness.errors import UserError
from harness.results.comparison import Comparison, compare_runs
from harness.results.disk import whole_file
from harness.results.formats import markdown_text
from harness.results.frames import find_run
from harness.results.numbers import significant
from harness.results.tables import to_csv

MOST_ROWS = 60
COMPARED = ("model", "dataset", "explainer", "metric")


def show_comparison(chosen: argparse.Namespace, failing: list[str]) -> int:
    """Print the comparison; 1 if a cell has a verdict that ``failing`` names."""
    base, new = (find_run(name, chosen.runs) for name in (chosen.base, chosen.new))
    if base.resolve() == new.resolve():
        raise UserError(f"both runs are {base}; expected two different ones")
    comparison = compare_runs(base, new)
    cells = comparison.cells if chosen.all else comparison.cells[comparison.cells["verdict"] != "same"]
    print("\n".join(_comparison_lines(comparison, cells, base.name, new.name)))
    if chosen.csv:
        to_csv(comparison.cells, chosen.csv)
        print(f"{len(comparison.cells)} rows: {chosen.csv}")
    if chosen.markdown:
        with whole_file(Path(chosen.markdown)) as temporary:
            temporary.write_text(comparison_markdown(comparison, base.name, new.name), encoding="utf-8")
        print(f"Markdown: {chosen.markdown}")
    return int(any(comparison.counts[verdict] for verdict in failing))


def cell_title(row: dict[str, Any]) -> str:
    """A cell in a few words."""
    return f"{row['model']} on {row['dataset']}: {row['explainer']}, {row['metric']}"


def rows_left_out(count: int) -> list[str]:
    """The line that says how many rows are not printed; none where all are."""
    return [f"... and {count - MOST_ROWS} more; --csv FILE has them all"] if count > MOST_ROWS else []


def _comparison_lines(comparison: Comparison, cells: pd.DataFrame, base: str, new: str) -> list[str]:
    """The comparison in lines: what differs in the environment first, then the counts, then the cells."""
    lines = [f"{base} → {new}"]
    lines += [f"environment: {name}: {before} → {after}" for name, (before, after) in comparison.environment.items()]
    lines += [
        f"{name}: {significant(ratio)} times the cost in the baseline run, median over explainers"
        for name, ratio in comparison.drift.items()
    ]
    lines += [f"{len(comparison.cells)} cells: {_verdict_counts(comparison)}"]
    for row in cells.head(MOST_ROWS).to_dict("records"):
        note = f"; {row['note']}" if row["note"] else ""
        lines.append(f"{MARKS[row['verdict']]} {row['verdict']:<14} {cell_title(row)}{_change_text(row)}{note}")
    return lines + rows_left_out(len(cells))


def comparison_markdown(comparison: Comparison, base: str, new: str) -> str:
    """The comparison as Markdown for a comment: counts, environment, and the cells that are not the same."""
    title = f"### Explainers: {markdown_text(base)} → {markdown_text(new)}"
    lines = [title, "", f"{len(comparison.cells)} cells: {_verdict_counts(comparison)}", ""]
    if comparison.environment:
        lines += ["| environment | before | after |", "| --- | --- | --- |"]
        pairs = comparison.environment.items()
        lines += ["| " + " | ".join(map(markdown_text, (name, *pair))) + " |" for name, pair in pairs]
        lines.append("")
    cells = comparison.cells[comparison.cells["verdict"] != "same"]
    if len(cells):
        lines += [
            "| verdict | model | data | explainer | metric | before | after | change [95 %] | n | note |",
            "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: | --- |",
        ]
        lines += [_comparison_row(row) for row in cells.head(MOST_ROWS).to_dict("records")]
    if len(cells) > MOST_ROWS:
        lines.append(f"\n... and {len(cells) - MOST_ROWS} more")
    return "\n".join(lines) + "\n"


def _comparison_row(row: dict[str, Any]) -> str:
    number = lambda value: "" if pd.isna(value) else significant(value)
    interval = "" if pd.isna(row["low"]) else f" [{number(row['low'])}, {number(row['high'])}]"
    texts = [
        f"{MARKS[row['verdict']]} {row['verdict']}",
        *(row[name] for name in COMPARED),
        number(row["before"]),
        number(row["after"]),
        number(row["change"]) + interval,
        "" if pd.isna(row["n"]) else int(row["n"]),
        row["note"],
    ]
    return "| " + " | ".join(map(markdown_text, texts)) + " |"


def _verdict_counts(comparison: Comparison) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items() if count)


def _change_text(row: dict[str, Any]) -> str:
    if pd.isna(row["change"]):
        return ""
    interval = "" if pd.isna(row["low"]) else f" [{significant(row['low'])}, {significant(row['high'])}]"
    chance = "" if pd.isna(row["p_holm"]) else f", p {significant(row['p_holm'])}"
    before, after, change = (significant(row[name]) for name in ("before", "after", "change"))
    return f": {before} → {after}, by {change}{interval}{chance}"
