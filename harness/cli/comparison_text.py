"""A comparison of runs in words: on the screen, as Markdown and as CSV."""

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


def show_comparison(chosen: argparse.Namespace, sides: tuple[list[str], list[str]], failing: list[str]) -> int:
    """Print the comparison of two sides' runs; 1 if a verdict is one of ``failing``, or too few cells are compared."""
    base, new = ([find_run(name, chosen.runs) for name in names] for names in sides)
    _refuse_twice([*base, *new])
    comparison = compare_runs(base, new)
    cells = comparison.cells if chosen.all else comparison.cells[comparison.cells["verdict"] != "same"]
    titles = [", ".join(run.name for run in side) for side in (base, new)]
    print("\n".join(_comparison_lines(comparison, cells, *titles)))
    if chosen.csv:
        to_csv(comparison.cells, chosen.csv)
        print(f"{len(comparison.cells)} rows: {chosen.csv}")
    if chosen.markdown:
        with whole_file(Path(chosen.markdown)) as temporary:
            temporary.write_text(comparison_markdown(comparison, *titles), encoding="utf-8")
        print(f"Markdown: {chosen.markdown}")
    if comparison.compared < chosen.min_compared:
        print(f"only {comparison.compared} cells could be compared, expected at least {chosen.min_compared}")
    return int(comparison.compared < chosen.min_compared or any(map(comparison.has, failing)))


def _refuse_twice(runs: list[Path]) -> None:
    """UserError if a run came twice."""
    places = [run.resolve() for run in runs]
    twice = [run for run, place in zip(runs, places, strict=True) if places.count(place) > 1]
    if twice:
        raise UserError(f"{twice[0]} came twice; expected different runs")


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
    lines += _drift_lines(comparison)
    lines += [_block_line(row) for row in comparison.blocks.to_dict("records")]
    lines += [f"{len(comparison.cells)} cells: {_verdict_counts(comparison)}"]
    for row in cells.head(MOST_ROWS).to_dict("records"):
        note = f"; {row['note']}" if row["note"] else ""
        lines.append(f"{MARKS[row['verdict']]} {row['verdict']:<14} {cell_title(row)}{_change_text(row)}{note}")
    return lines + rows_left_out(len(cells))


def _drift_lines(comparison: Comparison) -> list[str]:
    """What the machine changed by, which is divided out of the changes below."""
    return [
        f"{name}: {significant(ratio)} times the cost before, median over explainers; divided out below"
        for name, ratio in comparison.drift.items()
    ]


def _block_line(row: dict[str, Any]) -> str:
    """What changed in a block as a whole."""
    shares = [f"{100 * row[name]:+.1f}" for name in ("change", "low", "high")]
    chance = "not tested" if pd.isna(row["p"]) else f"p {significant(row['p'])}"
    about = f"{row['model']} on {row['dataset']}, its {row['cells']} scores together"
    return f"{MARKS[row['verdict']]} {row['verdict']:<14} {about}: {shares[0]} % [{shares[1]}, {shares[2]}], {chance}"


def comparison_markdown(comparison: Comparison, base: str, new: str) -> str:
    """The comparison as Markdown for a comment: counts, environment, and the cells that are not the same."""
    title = f"### Explainers: {markdown_text(base)} → {markdown_text(new)}"
    lines = [title, "", f"{len(comparison.cells)} cells: {_verdict_counts(comparison)}", ""]
    lines += [f"- {markdown_text(line)}" for line in _drift_lines(comparison)]
    lines += [f"- {markdown_text(_block_line(row))}" for row in comparison.blocks.to_dict("records")]
    lines += [""] if lines[-1] else []
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
    chance = "" if pd.isna(row["p"]) else f", p {significant(row['p'])}"
    before, after, change = (significant(row[name]) for name in ("before", "after", "change"))
    return f": {before} → {after}, by {change}{interval}{chance}"
