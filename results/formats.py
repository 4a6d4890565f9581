"""A run's leaderboards as tables for papers and programs: long as rows, wide as Markdown; ``latex`` writes LaTeX.

Ranks and letters are of the explainers of one metric on one board (``harness.results.board``). Two explainers that
share a letter are not shown to differ (``harness.results.family``). A cell without a number is a hole that says why.
"""

from collections.abc import Sequence

import pandas as pd

from harness.results.board import Board
from harness.results.footnotes import footnotes, without_cost
from harness.results.leaderboard import same_votes
from harness.results.place import Place, why_no_cost
from harness.results.plain_text import markdown_text

LONG = [
    "model",
    "dataset",
    "protocol",
    "metric",
    "explainer",
    "kind",
    "unit",
    "better",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "n_invalid",
    "rank",
    "letters",
    "best",
    "vs_best",
    "low_best",
    "high_best",
    "p_best",
    "vs_control",
    "low_control",
    "high_control",
    "p_control",
    "effect_control",
    "share_control",
    "status",
    "why",
]
CONTROLS_ROW = "*controls*"


def long_table(boards: Sequence[Board]) -> pd.DataFrame:
    """One row per cell in the order of the run's cells, columns ``LONG``: mean, interval, rank, letters, and how the
    explainer stands to the best explainer and to the best control.

    Costs are ranked and not tested. ``letters`` and ``best`` (the best, or not shown to be worse than it) are missing
    where nothing could be tested, ``rank`` where the cells of the metric are not comparable; ``why`` says so, or why
    there is no number.
    """
    rows = [_long_rows(board) for board in boards]
    return pd.concat(rows).sort_index().reindex(columns=LONG) if rows else pd.DataFrame(columns=LONG)


def _long_rows(board: Board) -> pd.DataFrame:
    cells = board.cells.assign(why=board.cells["error"].fillna(""))
    cells["why"] = cells["why"].where(cells["status"] != "ok", cells["unranked"])
    unmeasured = without_cost(cells)
    cells.loc[unmeasured, "why"] = [why_no_cost(row) for row in cells[unmeasured].to_dict("records")]
    if not board.tests:
        return cells
    tests = pd.concat(board.tests, names=["metric", "label"]).drop(columns="mean")
    return cells.join(tests, on=["metric", "label"])


def markdown_boards(boards: Sequence[Board]) -> str:
    """The leaderboards as Markdown, controls apart, each with the notes that say why a place has no number."""
    legend = (
        "**bold**: best mean of the explainers that are no controls; <u>underlined</u>: not shown to be worse than it "
        "(all pairs of a metric at 5 %; metrics beside the headline are exploratory); letters: those that share one "
        "are not shown to differ."
    )
    return "\n\n".join([*map(_markdown_board, boards), legend]) + "\n"


def _markdown_board(board: Board) -> str:
    heads = ["explainer", *(markdown_text(board.head(metric)) for metric in board.metrics)]
    lines = [f"**{markdown_text(board.heading)}**", "", _markdown_line(heads)]
    lines.append(_markdown_line(["---", *["---:"] * len(board.metrics)]))
    for row, label in enumerate(board.explainers):
        if starts_controls(board, row):
            lines.append(_markdown_line([CONTROLS_ROW, *[""] * len(board.metrics)]))
        places = (_markdown_place(board.places[metric, label]) for metric in board.metrics)
        lines.append(_markdown_line([markdown_text(board.named(label)), *places]))
    notes = [f"- {markdown_text(text)}" for text in (*footnotes(board.visible), *same_votes(board))]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def starts_controls(board: Board, row: int) -> bool:
    """Whether the controls begin with this row of a board."""
    labels = board.explainers
    return labels[row] in board.controls and (row == 0 or labels[row - 1] not in board.controls)


def _markdown_place(place: Place) -> str:
    text = markdown_text(" ".join(part for part in (place.text, place.interval) if part))
    marked = {"best": f"**{text}**", "near": f"<u>{text}</u>"}.get(place.standing, text)
    return f"{marked} {markdown_text(place.letters)}".rstrip()


def _markdown_line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"
