"""The tables of ``harness table``: from the rows of a run to the screen or to files."""

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd
from pandas.api.types import is_numeric_dtype

from harness.cli.filters import filtered
from harness.cli.words import TABLES
from harness.errors import UserError, printable
from harness.results.board import Board
from harness.results.boards import TESTED, boards_of, boards_of_run
from harness.results.choices import standing_over_settings
from harness.results.disk import whole_file
from harness.results.first_screen import first_lines
from harness.results.formats import long_table, markdown_boards
from harness.results.frames import controls_of, find_run, protocols, read_cells, read_scores
from harness.results.latex import latex_boards
from harness.results.leaderboard import table_lines
from harness.results.matrices import Matrix, matrices
from harness.results.sanity import verdicts_of_run
from harness.results.statistics import OTHER_SAMPLES, cell_ranks, not_comparable, with_caveat
from harness.results.subgroups import disparity
from harness.results.tables import to_csv, to_parquet
from harness.results.terminal import width_of


def show_table(chosen: argparse.Namespace) -> int:
    """Print the table that was asked for, or write it to files."""
    directory = find_run(chosen.run, chosen.runs)
    shown = {"metrics": chosen.metrics or None, "explainers": chosen.explainers or None}
    if any(shown.values()):
        filtered(read_cells(directory), chosen.metrics, chosen.explainers)  # refuses names that the run does not have
    boards = cache(lambda: boards_of_run(directory, TESTED, **shown))  # derived once for all files of one command
    files = [(path, write) for path, write in _writers(chosen, boards) if path]
    if not (files or any(getattr(chosen, name) for name in TABLES)):
        print_boards(boards(), everything=chosen.all)
        return 0
    rows = _shown_rows(_requested_rows(directory, chosen, boards), chosen)
    for path, write in files:
        write(rows, path)
        print(f"{len(rows)} rows: {path}")
    if rows.empty:
        print("no rows: the run has no scores for this table")
    elif not files:
        width = 24 if chosen.samples else None
        print(_with_shown_texts(rows).to_string(index=False, max_colwidth=width, float_format="{:.4g}".format))
    return 0


def _with_shown_texts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with texts, such as names of samples and groups, on one line and free of control characters."""
    shown = {name: rows[name].astype(object) for name in rows if not is_numeric_dtype(rows[name])}
    return rows.assign(**{name: texts.where(texts.isna(), texts.map(printable)) for name, texts in shown.items()})


Boards = Callable[[], Sequence[Board]]


def _writers(
    chosen: argparse.Namespace, boards: Boards
) -> list[tuple[str | None, Callable[[pd.DataFrame, str], None]]]:
    return [
        (chosen.csv, to_csv),
        (chosen.parquet, to_parquet),
        (chosen.markdown, _text_writer(markdown_boards, chosen, boards)),
        (chosen.latex, _text_writer(latex_boards, chosen, boards)),
    ]


def _text_writer(
    form: Callable[[Sequence[Board]], str], chosen: argparse.Namespace, boards: Boards
) -> Callable[[pd.DataFrame, str], None]:
    """A function that writes a leaderboard as text, explainers down and metrics across."""

    def write(rows: pd.DataFrame, path: str) -> None:
        if any(getattr(chosen, name) for name in TABLES if name != "long"):
            raise UserError("Markdown and LaTeX are for the leaderboard; write other tables with --csv or --parquet")
        with whole_file(Path(path)) as temporary:
            temporary.write_text(form(boards()), encoding="utf-8", errors="backslashreplace")

    return write


def _requested_rows(directory: Path, chosen: argparse.Namespace, boards: Boards) -> pd.DataFrame:
    """The rows of the table that was asked for."""
    if chosen.sanity:
        return verdicts_of_run(directory).drop(columns="protocol")
    cells = read_cells(directory)
    if chosen.long or chosen.markdown or chosen.latex:
        return long_table(boards())
    if not any(getattr(chosen, name) for name in TABLES):
        return cells.assign(rank=cell_ranks(cells))
    scores = read_scores(directory, cells)
    if chosen.samples:
        return scores
    if chosen.by:
        return disparity(scores, chosen.by, least=chosen.least)
    if chosen.seeds:
        from harness.results.seeds import over_seeds

        return over_seeds(cells, scores)
    scores, controls = _with_protocols(scores, cells), controls_of(cells)
    if chosen.choices:
        checks = cells.loc[cells["kind"] == "check", "cell"]
        return standing_over_settings(scores[~scores["cell"].isin(checks)], controls)
    return _metric_statistics(matrices(_rankable_scores(scores, cells)), controls, chosen)


def _metric_statistics(scores: Iterable[Matrix], controls: Collection[str], chosen: argparse.Namespace) -> pd.DataFrame:
    """The tables that need scipy's statistics, which take a second to import: other tables do not wait for them."""
    if chosen.reliability:
        from harness.results.trust import reliability

        return reliability(scores, controls)
    if chosen.agreement:
        from harness.results.agreement import metric_agreement

        return metric_agreement(scores, controls)
    return _mean_rank_rows(scores)


def _rankable_scores(scores: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The scores of cells that can be compared on the samples that all of them have, without costs."""
    comparable = not_comparable(cells).isin(["", OTHER_SAMPLES]) & (cells["status"] == "ok") & ~with_caveat(cells)
    directed = cells["better"].isin(["higher", "lower"]) & (cells["kind"] != "cost")
    return scores[scores["cell"].isin(cells.loc[comparable & directed, "cell"])]


def _mean_rank_rows(scores: Iterable[Matrix]) -> pd.DataFrame:
    """One row for each metric and explainer: its mean rank over models and data sets, and the test of all of them."""
    from harness.results.blocks import across_blocks
    from harness.results.one_vote import one_vote

    return pd.DataFrame(
        [
            {
                "metric": each.metric,
                "explainer": name,
                "mean_rank": rank,
                "blocks": len(each.ranks),
                "F": each.statistic,
                "p": each.p,
                "critical_difference": each.critical,
                "note": "; ".join(filter(None, [each.ranks_as and one_vote(each.metric, each.ranks_as), each.refused])),
                "not_ranked": "; ".join(each.left_out),
            }
            for each in across_blocks(scores)
            for name, rank in each.mean_ranks.items()
        ]
    )


def _with_protocols(scores: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The scores with the ``protocol`` of their cells, if there are several."""
    names = scores["cell"].map(dict(zip(cells["cell"], protocols(cells), strict=True)))
    return scores.assign(protocol=names) if names.nunique() > 1 else scores


def _shown_rows(rows: pd.DataFrame, chosen: argparse.Namespace) -> pd.DataFrame:
    """The rows of the metrics and explainers that were asked for; those of pairs of metrics need both."""
    if {"first", "second"} <= set(rows) and not chosen.explainers:
        asked = (
            rows[["first", "second"]].isin(chosen.metrics).all(axis=1) if chosen.metrics else rows.index == rows.index
        )
        return rows[asked]
    for name, asked in (("metric", chosen.metrics), ("explainer", chosen.explainers)):
        if asked and name not in rows:
            raise UserError(f"--{name} does not go with this table, which has no {name}s; leave it out")
    return filtered(rows, chosen.metrics, chosen.explainers) if len(rows) else rows


def print_run(directory: Path, only: set[str]) -> None:
    """Print the first screen of those cells of a run whose names are in ``only``."""
    cells = read_cells(directory, only=only)
    print_boards(boards_of(cells, read_scores(directory, cells, TESTED)))


def print_boards(boards: Sequence[Board], *, everything: bool = False) -> None:
    """Print the first screen of boards: the answer and a row for each explainer.

    ``everything`` adds the means of all metrics, which a board without a headline metric shows in any case.
    """
    width, colour = width_of(sys.stdout), sys.stdout.isatty()
    print("\n".join(first_lines(boards, width, colour)))
    whole = [board for board in boards if everything or board.headline is None]
    if whole:
        print("\n".join(table_lines(whole, width, colour)))
