"""A run's leaderboard as a table for papers and programs: long or wide; CSV, Parquet, Markdown or LaTeX.

Ranks and letters are of the explainers of one metric on one model and data set. Two explainers that share a letter are
not shown to differ (``harness.results.pairs``). A cell without a number is a hole that says why.
"""

import re
from collections.abc import Collection, Iterator, Sequence

import pandas as pd

from harness.results.leaderboard import differing
from harness.results.matrices import matrices
from harness.results.numbers import significant
from harness.results.pairs import standing
from harness.results.statistics import not_comparable, ranks

CELL = ["model", "dataset", "protocol", "metric", "explainer"]
LONG = [
    *CELL,
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
    "p_best",
    "vs_control",
    "p_control",
    "effect_control",
    "share_control",
    "status",
    "why",
]
ARROWS = {"higher": "↑", "lower": "↓"}
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
}


def long_table(cells: pd.DataFrame, scores: pd.DataFrame, controls: Collection[str] = ()) -> pd.DataFrame:
    """One row per cell, columns ``LONG``: mean, interval, rank, letters, and how it stands to the best and to the best
    control.

    ``cells`` and ``scores`` have a column ``protocol``. Costs are ranked and not tested. ``rank``, ``letters`` and
    ``best`` are missing where the cells of the metric are not comparable; ``why`` says so, or why there is no number.
    """
    rows = cells.assign(rank=ranks(cells), why=not_comparable(cells))
    rows["why"] = rows["error"].fillna("").where(rows["status"] != "ok", rows["why"])
    tested = rows["rank"].notna() & (rows["kind"] != "cost")  # samples of one call share its cost: no paired test
    comparable = scores[scores["cell"].isin(rows.loc[tested, "cell"])]
    stood = [standing(matrix, controls).assign(**matrix.names) for matrix in matrices(comparable) if matrix.better]
    empty = pd.DataFrame(columns=[*CELL, "letters", "best", "vs_best", "p_best"])
    found = pd.concat([empty, *stood]) if stood else empty
    keys = [name for name in CELL if name in found and name in rows]
    merged = rows.merge(found.drop(columns="mean", errors="ignore"), how="left", on=keys)
    return merged.reindex(columns=LONG)


def wide_table(rows: pd.DataFrame, *, tex: bool = False) -> Iterator[tuple[str, pd.DataFrame]]:
    """Per model, data set and protocol its title and texts, explainers down and metrics across.

    The best is bold, those not shown to be worse than it are underlined; a hole shows why in a word. An explainer's
    several cells of a metric, which have no rank, stand beside each other.
    """
    for (model, dataset, protocol), block in rows.groupby(["model", "dataset", "protocol"], sort=False):
        alike = (rows["model"] == model) & (rows["dataset"] == dataset)
        apart = differing(rows.loc[alike, "protocol"].unique())[protocol]
        texts = [_tex(row) if tex else _markdown(row) for row in block.to_dict("records")]
        headers = [_header(row, tex) for row in block.to_dict("records")]
        names = [_tex_text(name) if tex else markdown_text(name) for name in block["explainer"]]
        frame = pd.DataFrame({"explainer": names, "metric": headers, "text": texts})
        metrics, explainers = (list(dict.fromkeys(frame[name])) for name in ("metric", "explainer"))
        wide = frame.groupby(["explainer", "metric"])["text"].agg("; ".join).unstack()
        yield f"{model} on {dataset}{apart}", wide.reindex(index=explainers, columns=metrics).fillna("")


def markdown(rows: pd.DataFrame) -> str:
    """The wide tables as Markdown."""
    parts = []
    for title, wide in wide_table(rows):
        lines = [
            f"**{markdown_text(title)}**",
            "",
            _line(["explainer", *wide.columns]),
            _line(["---", *["---:"] * wide.shape[1]]),
        ]
        lines += [_line([name, *texts]) for name, texts in zip(wide.index, wide.to_numpy().tolist(), strict=True)]
        parts.append("\n".join(lines))
    legend = "**bold**: best mean; <u>underlined</u>: not shown to be worse than it (paired flip test, Holm)"
    return "\n\n".join([*parts, f"{legend}; letters: those that share one are not shown to differ."]) + "\n"


def latex(rows: pd.DataFrame) -> str:
    """The wide tables as LaTeX for the package booktabs, each a ``tabular`` of its own."""
    parts = []
    for title, wide in wide_table(rows, tex=True):
        lines = [
            f"% {' '.join(title.split())}",
            rf"\begin{{tabular}}{{l{'r' * wide.shape[1]}}}",
            r"\toprule",
            _tex_line(["explainer", *wide.columns]),
            r"\midrule",
        ]
        lines += [_tex_line([name, *texts]) for name, texts in zip(wide.index, wide.to_numpy().tolist(), strict=True)]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    note = "% bold: best mean; underlined: not shown to be worse than it (paired flip test, Holm); needs booktabs"
    return "\n\n".join([*parts, note]) + "\n"


def _header(row: dict, tex: bool) -> str:
    arrow = (TEX_ARROWS if tex else ARROWS).get(row["better"], "")
    name = _tex_text(row["metric"]) if tex else markdown_text(row["metric"])
    return f"{name} {arrow}".strip()


def _number(row: dict) -> str:
    if pd.isna(row["value"]):
        return ""
    interval = "" if pd.isna(row["ci_low"]) else f" [{significant(row['ci_low'])}, {significant(row['ci_high'])}]"
    return significant(row["value"]) + interval


def _markdown(row: dict) -> str:
    if row["status"] != "ok":
        return str(row["status"]).replace("not_applicable", "n/a").replace("_", " ")
    text = _number(row)
    marked = f"**{text}**" if row["rank"] == 1 else f"<u>{text}</u>" if row["best"] is True else text
    return f"{marked} {row['letters']}" if isinstance(row["letters"], str) and row["letters"] else marked


def _tex(row: dict) -> str:
    if row["status"] != "ok":
        return "n/a" if row["status"] == "not_applicable" else _tex_text(row["status"])
    text = _tex_text(_number(row))
    marked = rf"\textbf{{{text}}}" if row["rank"] == 1 else rf"\underline{{{text}}}" if row["best"] is True else text
    has_letters = isinstance(row["letters"], str) and row["letters"]
    return rf"{marked}\textsuperscript{{{row['letters']}}}" if has_letters else marked


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def _tex_line(texts: Sequence[str]) -> str:
    return " & ".join(texts) + r" \\"


def _tex_text(text: object) -> str:
    return "".join(TEX.get(letter, letter) for letter in " ".join(str(text).split()))


def markdown_text(text: object) -> str:
    """A text that Markdown shows as it is: on one line, its marks escaped."""
    plain = " ".join(str(text).split()).replace("&", "&amp;")
    return re.sub(r"([\\`*_\[\]|~#<>])", lambda mark: {"<": "&lt;", ">": "&gt;"}.get(mark[0], f"\\{mark[0]}"), plain)
