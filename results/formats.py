"""A run's leaderboards as tables for papers and programs: long as rows, wide as Markdown or LaTeX.

Ranks and letters are of the explainers of one metric on one board (``harness.results.board``). Two explainers that
share a letter are not shown to differ (``harness.results.family``). A cell without a number is a hole that says why.
"""

import re
from collections.abc import Callable, Sequence

import pandas as pd

from harness.results.board import ARROWS, Board
from harness.results.place import Place

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
TEX_ARROWS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}
TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "·": r"$\cdot$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}


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
    if not board.tests:
        return cells
    tests = pd.concat(board.tests, names=["metric", "label"]).drop(columns="mean")
    return cells.join(tests, on=["metric", "label"])


def markdown_boards(boards: Sequence[Board]) -> str:
    """The leaderboards as Markdown."""
    parts = []
    for board in boards:
        head, *rows = _wide_texts(board, markdown_text, ARROWS, _markdown_place)
        lines = [f"**{markdown_text(board.heading)}**", "", _markdown_line(head)]
        lines += [_markdown_line(["---", *["---:"] * len(board.metrics)]), *map(_markdown_line, rows)]
        parts.append("\n".join(lines))
    legend = (
        "**bold**: best mean of the explainers that are no controls; <u>underlined</u>: not shown to be worse than it "
        "(all pairs of a metric at 5 %; metrics beside the headline are exploratory); letters: those that share one "
        "are not shown to differ."
    )
    return "\n\n".join([*parts, legend]) + "\n"


def latex_boards(boards: Sequence[Board]) -> str:
    """The leaderboards as LaTeX for the package booktabs, each a ``tabular`` of its own."""
    parts = []
    for board in boards:
        head, *rows = _wide_texts(board, _tex_text, TEX_ARROWS, _tex_place)
        lines = [
            f"% {' '.join(board.heading.split())}",
            rf"\begin{{tabular}}{{l{'r' * len(board.metrics)}}}",
            r"\toprule",
            _tex_line(head),
            r"\midrule",
            *map(_tex_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        parts.append("\n".join(lines))
    note = (
        "% bold: best mean of the explainers that are no controls; underlined: not shown to be worse than it "
        "(all pairs of a metric at 5 %); needs booktabs"
    )
    return "\n\n".join([*parts, note]) + "\n"


def _wide_texts(
    board: Board, escape: Callable[[object], str], arrows: dict[str, str], form: Callable[[Place], str]
) -> list[list[str]]:
    """A board as lines of texts, the head first: explainers down and metrics across."""
    heads = [f"{escape(metric)} {arrows.get(board.better(metric), '')}".strip() for metric in board.metrics]
    rows = [
        [escape(board.named(label)), *(form(board.places[metric, label]) for metric in board.metrics)]
        for label in board.explainers
    ]
    return [["explainer", *heads], *rows]


def _markdown_place(place: Place) -> str:
    text = " ".join(part for part in (place.text, place.interval) if part)
    marked = {"best": f"**{text}**", "near": f"<u>{text}</u>"}.get(place.standing, text)
    return f"{marked} {place.letters}".rstrip()


def _tex_place(place: Place) -> str:
    text = _tex_text(" ".join(part for part in (place.text, place.interval) if part))
    marked = {"best": rf"\textbf{{{text}}}", "near": rf"\underline{{{text}}}"}.get(place.standing, text)
    return rf"{marked}\textsuperscript{{{place.letters}}}" if place.letters else marked


def _markdown_line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _tex_line(texts: Sequence[str]) -> str:
    line = " & ".join(texts) + r" \\"
    return "{}" + line if line[0] in "[*" else line  # the command before it would take them for its argument


def _tex_text(text: object) -> str:
    return "".join(TEX.get(letter, letter) for letter in " ".join(str(text).split()))


def markdown_text(text: object) -> str:
    """A text that Markdown shows as it is: on one line, its marks escaped."""
    plain = " ".join(str(text).split()).replace("&", "&amp;")
    return re.sub(r"([\\`*_\[\]|~#<>])", lambda mark: {"<": "&lt;", ">": "&gt;"}.get(mark[0], f"\\{mark[0]}"), plain)
