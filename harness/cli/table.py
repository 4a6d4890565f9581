"""What ``harness table`` shows of a run: its leaderboard, its rows, or what they say of groups, choices and sanity."""

import argparse
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from harness.errors import UserError
from harness.results.board import Board, boards_of_run
from harness.results.choices import standing_over_settings
from harness.results.disk import whole_file
from harness.results.formats import latex_boards, long_table, markdown_boards
from harness.results.frames import controls_of, find_run, protocols, read_cells, read_scores
from harness.results.matrices import Matrix, matrices
from harness.results.sanity import verdicts_of_run
from harness.results.statistics import ranks
from harness.results.subgroups import disparity
from harness.results.tables import print_table, to_csv, to_parquet

TABLES = ("samples", "long", "by", "choices", "sanity", "reliability", "agreement", "across", "seeds")


def show_table(arguments: list[str]) -> int:
    """What ``harness table`` was asked for with these arguments; the exit status."""
    chosen = _parser().parse_args(arguments)
    directory = find_run(chosen.run, chosen.runs)
    boards = cache(lambda: boards_of_run(directory))  # derived once for all files of one command
    files = [(path, write) for path, write in _writers(chosen, boards) if path]
    if not (files or any(getattr(chosen, name) for name in TABLES)):
        show(directory, letters=True)
        return 0
    rows = _rows(directory, chosen, boards)
    for path, write in files:
        write(rows, path)
        print(f"{len(rows)} rows: {path}")
    if rows.empty:
        print("no rows: the run has no scores that this table is about")
    elif not files:
        print(rows.to_string(index=False, max_colwidth=24 if chosen.samples else None, float_format="{:.4g}".format))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="harness table")
    parser.add_argument("run", nargs="?", default="latest", help="a name under runs/, a folder, latest or previous")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--samples", action="store_true", help="one row per sample instead of one per cell")
    which.add_argument("--long", action="store_true", help="the leaderboard, one row per cell, with tests and letters")
    which.add_argument(
        "--by", metavar="DIVISION", help="gaps between groups: label, correct, target, or the data's own"
    )
    which.add_argument("--choices", action="store_true", help="how verdicts hold over a metric's settings (over=)")
    which.add_argument("--sanity", action="store_true", help="which sanity checks each explainer passes")
    which.add_argument("--reliability", action="store_true", help="can each metric's ranking be relied on?")
    which.add_argument("--agreement", action="store_true", help="do the metrics rank explainers alike?")
    which.add_argument("--across", action="store_true", help="ranks over models and data sets, and their test")
    which.add_argument("--seeds", action="store_true", help="variance between samples and between protocol.seed")
    parser.add_argument("--least", type=int, default=30, help="samples a group needs to count with --by (default: 30)")
    for name, what in (("csv", "CSV"), ("parquet", "Parquet"), ("markdown", "Markdown"), ("latex", "LaTeX (booktabs)")):
        parser.add_argument(f"--{name}", metavar="FILE", help=f"write the rows as {what}")
    parser.add_argument("--runs", default="runs", help="the folder in which runs lie (default: runs)")
    return parser


Boards = Callable[[], Sequence[Board]]


def _writers(
    chosen: argparse.Namespace, boards: Boards
) -> list[tuple[str | None, Callable[[pd.DataFrame, str], None]]]:
    return [
        (chosen.csv, to_csv),
        (chosen.parquet, to_parquet),
        (chosen.markdown, _as_text(markdown_boards, chosen, boards)),
        (chosen.latex, _as_text(latex_boards, chosen, boards)),
    ]


def _as_text(
    form: Callable[[Sequence[Board]], str], chosen: argparse.Namespace, boards: Boards
) -> Callable[[pd.DataFrame, str], None]:
    """Writes a leaderboard as text, explainers down and metrics across: other tables have no such form."""

    def write(rows: pd.DataFrame, path: str) -> None:
        if any(getattr(chosen, name) for name in TABLES if name != "long"):
            raise UserError("Markdown and LaTeX are for the leaderboard; write other tables with --csv or --parquet")
        with whole_file(Path(path)) as temporary:
            temporary.write_text(form(boards()), encoding="utf-8")

    return write


def _rows(directory: Path, chosen: argparse.Namespace, boards: Boards) -> pd.DataFrame:
    """The rows that were asked for."""
    if chosen.sanity:
        return verdicts_of_run(directory).drop(columns="protocol")
    cells = read_cells(directory)
    if chosen.long or chosen.markdown or chosen.latex:
        return long_table(boards())
    if not any(getattr(chosen, name) for name in TABLES):
        return cells.assign(rank=ranks(cells))
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
        return standing_over_settings(scores, controls)
    return _statistics(matrices(_comparable(scores, cells)), controls, chosen)


def _statistics(found: Iterable[Matrix], controls: Collection[str], chosen: argparse.Namespace) -> pd.DataFrame:
    """What scipy's statistics say of the metrics: it takes a second to import, which no run should wait for."""
    if chosen.reliability:
        from harness.results.trust import reliability

        return reliability(found, controls)
    if chosen.agreement:
        from harness.results.agreement import metric_agreement

        return metric_agreement(found)
    return _across(found)


def _comparable(scores: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The scores of cells that have a rank and are no costs, which samples share: an explainer with several cells, or
    with another number of samples, has none."""
    return scores[scores["cell"].isin(cells.loc[ranks(cells).notna() & (cells["kind"] != "cost"), "cell"])]


def _across(found: Iterable[Matrix]) -> pd.DataFrame:
    """One row per metric and explainer: its mean rank over the blocks, and the test of all of them."""
    from harness.results.blocks import across_blocks

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
                "note": each.refused,
            }
            for each in across_blocks(found)
            for name, rank in each.mean_ranks.items()
        ]
    )


def _with_protocols(scores: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The scores with their cells' ``protocol``, if there are several."""
    found = scores["cell"].map(dict(zip(cells["cell"], protocols(cells), strict=True)))
    return scores.assign(protocol=found) if found.nunique() > 1 else scores


def show(directory: Path, only: set[str] | None = None, letters: bool = False) -> None:
    """Print the leaderboard of a run's cells, or of some of them; controls come last.

    With ``letters`` it says which explainers are not shown to differ, for which it reads every sample's score.
    """
    cells = read_cells(directory)
    cells = cells if only is None else cells[cells["cell"].isin(only)]
    print_table(cells, read_scores(directory, cells) if letters else None)
