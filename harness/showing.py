"""What ``harness table`` shows of a run: its leaderboard, its rows, or what they say of groups, choices and sanity."""

import argparse
from pathlib import Path

import pandas as pd

from harness.registry import EXPLAINERS
from harness.results.choices import standing
from harness.results.frames import configured, find_run, protocols, read_cells, read_scores
from harness.results.sanity import verdicts_of_run
from harness.results.statistics import ranks
from harness.results.subgroups import disparity
from harness.results.tables import print_table, to_csv, to_parquet


def show_table(arguments: list[str]) -> int:
    """What ``harness table`` was asked for with these arguments; the exit status."""
    parser = argparse.ArgumentParser(prog="harness table")
    parser.add_argument("run", nargs="?", default="latest", help="a name under runs/, a folder, latest or previous")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--samples", action="store_true", help="one row per sample instead of one per cell")
    which.add_argument(
        "--by", metavar="DIVISION", help="gaps between groups: label, correct, target, or the data's own"
    )
    parser.add_argument("--least", type=int, default=30, help="samples a group needs to count with --by (default: 30)")
    which.add_argument("--choices", action="store_true", help="how verdicts hold over a metric's settings (over=)")
    which.add_argument("--sanity", action="store_true", help="which sanity checks each explainer passes")
    parser.add_argument("--csv", metavar="FILE", help="write the rows as CSV")
    parser.add_argument("--parquet", metavar="FILE", help="write the rows as Parquet")
    parser.add_argument("--runs", default="runs", help="the folder in which runs lie (default: runs)")
    chosen = parser.parse_args(arguments)
    directory = find_run(chosen.run, chosen.runs)
    special = chosen.by or chosen.choices or chosen.sanity
    if not (chosen.samples or special or chosen.csv or chosen.parquet):
        show(directory)
        return 0
    rows = _rows(directory, chosen)
    for path, write in ((chosen.csv, to_csv), (chosen.parquet, to_parquet)):
        if path:
            write(rows, path)
            print(f"{len(rows)} rows: {path}")
    if rows.empty:
        print("no rows: the run has no scores that this table is about")
    elif not (chosen.csv or chosen.parquet):
        print(rows.to_string(index=False, max_colwidth=None if special else 24, float_format="{:.4g}".format))
    return 0


def _rows(directory: Path, chosen: argparse.Namespace) -> pd.DataFrame:
    """The rows that were asked for: of cells, samples, gaps between groups, standings over settings, or verdicts."""
    if chosen.sanity:
        return verdicts_of_run(directory).drop(columns="protocol")
    cells = read_cells(directory)
    if not (chosen.samples or chosen.by or chosen.choices):
        return cells.assign(rank=ranks(cells))
    scores = read_scores(directory, cells)
    if chosen.by:
        return disparity(scores, chosen.by, least=chosen.least)
    return standing(_with_protocols(scores, cells), _controls(cells)) if chosen.choices else scores


def _with_protocols(scores: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The scores with their cells' ``protocol``, if there are several."""
    found = scores["cell"].map(dict(zip(cells["cell"], protocols(cells), strict=True)))
    return scores.assign(protocol=found) if found.nunique() > 1 else scores


def show(directory: Path, only: set[str] | None = None) -> None:
    """Print the leaderboard of a run's cells, or of some of them; controls come last."""
    cells = read_cells(directory)
    cells = cells if only is None else cells[cells["cell"].isin(only)]
    print_table(cells, controls=_controls(cells))


def _controls(cells: pd.DataFrame) -> set[str]:
    """The labels of the explainers among the cells that are controls."""
    labels = zip(cells["explainer"], cells["config"], strict=True)
    names = {label: configured(config, "explainer").get("name", label) for label, config in labels}
    return {label for label, name in names.items() if name in EXPLAINERS and EXPLAINERS[name].control}
