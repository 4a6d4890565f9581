"""A comparison of runs as Markdown, for a comment or the summary of a job."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.cli.words import MARKS
from harness.results.comparison import UNPAIRED, Comparison
from harness.results.comparison_words import block_in_words, comparison_sentence, drift_in_words, unpaired_in_words
from harness.results.direction_words import whole_change_in_words
from harness.results.formats import markdown_text
from harness.results.numbers import significant

MOST_ROWS = 60
COMPARED = ("model", "dataset", "explainer", "metric")


def comparison_markdown(comparison: Comparison, base: Sequence[str], new: Sequence[str]) -> str:
    """The sentence, the counts, what concerns whole blocks, the environments, and the cells that changed."""
    title = f"### Explainers: {markdown_text(', '.join(base))} → {markdown_text(', '.join(new))}"
    counts = ", ".join(f"{count} {verdict}" for verdict, count in comparison.counts.items() if count)
    paragraphs = [
        [title],
        [markdown_text(comparison_sentence(comparison, base, new))],
        [f"{len(comparison.cells)} cells: {counts}"],
        [f"- {markdown_text(line)}" for line in drift_in_words(comparison.drift)],
        [f"- {markdown_text(block_in_words(row))}" for row in comparison.blocks.to_dict("records")],
        _environment_rows(comparison),
        [f"- {markdown_text(line)}" for line in unpaired_in_words(comparison)] if comparison.compared else [],
        _changed_rows(comparison.cells[~comparison.cells["verdict"].isin([*UNPAIRED, "same"])]),
    ]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines) + "\n"


def _environment_rows(comparison: Comparison) -> list[str]:
    if not comparison.environment:
        return []
    rows = [
        "| " + " | ".join(map(markdown_text, (name, *pair))) + " |" for name, pair in comparison.environment.items()
    ]
    return ["| environment | before | after |", "| --- | --- | --- |", *rows]


def _changed_rows(cells: pd.DataFrame) -> list[str]:
    if cells.empty:
        return []
    more = [f"\n... and {len(cells) - MOST_ROWS} more"] if len(cells) > MOST_ROWS else []
    return [
        "| verdict | model | data | explainer | metric | before | after | change [95 %] | n | note |",
        "| --- | --- | --- | --- | --- | ---: | ---: | --- | ---: | --- |",
        *(_row_of_cell(row) for row in cells.head(MOST_ROWS).to_dict("records")),
        *more,
    ]


def _row_of_cell(row: dict[str, Any]) -> str:
    number = lambda value: "" if pd.isna(value) else significant(value)
    texts = [
        f"{MARKS[row['verdict']]} {row['verdict']}",
        *(row[name] for name in COMPARED),
        number(row["before"]),
        number(row["after"]),
        whole_change_in_words(row),
        "" if pd.isna(row["n"]) else int(row["n"]),
        row["note"],
    ]
    return "| " + " | ".join(map(markdown_text, texts)) + " |"
