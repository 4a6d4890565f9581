"""The boards of a run: its cells and scores by model, data set and protocol."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from harness.errors import printable
from harness.results.board import Board
from harness.results.frames import protocols, read_cells, read_scores
from harness.results.sanity import NO_VERDICTS, verdicts_of_cells
from harness.results.score_table import SCORE_COLUMNS
from harness.results.statistics import cell_ranks, not_comparable, with_caveat

TESTED = ("cell", "sample", "value")  # the columns of the scores that tests of explainers need
# What a row that another version wrote may lack.
UNNAMED = {name: "?" for name in ("model", "dataset", "explainer", "metric", "status")} | {"unit": "", "kind": ""}


def boards_of_run(
    run_directory: str | Path, columns: Sequence[str] = SCORE_COLUMNS, **shown: Collection[str] | None
) -> list[Board]:
    """The boards of a run, with paired tests of its scores; ``metrics`` and ``explainers`` as in ``boards_of``.

    ``columns`` of the scores are kept in the boards; ``TESTED`` are enough for all but curves and single samples.
    """
    cells = read_cells(run_directory)
    return boards_of(cells, read_scores(run_directory, cells, columns), **shown)


def boards_of(
    cells: pd.DataFrame,
    scores: pd.DataFrame | None = None,
    *,
    metrics: Collection[str] | None = None,
    explainers: Collection[str] | None = None,
) -> list[Board]:
    """The boards of a run's cells, by model, data set and protocol; without ``scores`` there are no tests.

    ``metrics`` and ``explainers`` are those to show, all by default.
    """
    checked = NO_VERDICTS if scores is None or "sanity" not in set(cells["kind"]) else verdicts_of_cells(cells, scores)
    shown = {
        "metrics_shown": None if metrics is None else frozenset(metrics),
        "explainers_shown": None if explainers is None else frozenset(explainers),
    }
    cells = cells.fillna(UNNAMED).assign(error=cells["error"].astype(object).where(cells["error"].notna(), None))
    cells = cells if scores is None else cells.assign(valid=_sample_sets(cells, scores))
    cells = cells.assign(protocol=protocols(cells))
    unranked = not_comparable(cells)
    cells = cells.assign(
        rank=cell_ranks(cells, unranked),
        unranked=unranked,
        caveat=with_caveat(cells),
        # A row that an older version wrote may lack the number of samples without a score.
        n_invalid=cells["n_invalid"].where(cells["status"] != "ok", cells["n_invalid"].fillna(0)),
    )
    return [replace(board, **shown) for board in _boards(cells, scores, checked)]


def _boards(cells: pd.DataFrame, scores: pd.DataFrame | None, checked: pd.DataFrame) -> Iterator[Board]:
    for (model, dataset), of_pair in cells.groupby(["model", "dataset"]):
        apart = _differing(of_pair["protocol"].unique())
        checked_here = checked[(checked["model"] == model) & (checked["dataset"] == dataset)]
        for protocol, rows in of_pair.groupby("protocol"):
            rows = _named_apart(rows)
            yield Board(
                model=model,
                dataset=dataset,
                protocol=protocol,
                heading=f"{model} on {dataset}{apart[protocol]}",
                cells=rows,
                scores=None if scores is None else _scores_of(rows, scores),
                checked=checked_here[checked_here["protocol"] == protocol],
            )


def _sample_sets(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.Series:
    """For each cell a number that is equal for cells that have a score on the same samples.

    It is the sum of random numbers of the samples: sums of other samples are equal by a chance of 2^-63. (To compare
    the names themselves took a tenth of the time of the whole table.)
    """
    cell, cell_names = pd.factorize(scores["cell"])
    sample, sample_names = pd.factorize(scores["sample"].astype(object), use_na_sentinel=False)
    of_sample = np.random.default_rng(0).integers(2**63, size=len(sample_names))
    sums, finite = np.zeros(len(cell_names), dtype=np.int64), np.isfinite(scores["value"].to_numpy())
    np.add.at(sums, cell[finite], of_sample[sample[finite]])  # modulo 2^64
    return cells["cell"].map(dict(zip(cell_names, sums, strict=True))).fillna(0).astype(np.int64)


def _differing(texts: Collection[str]) -> dict[str, str]:
    """Protocol (JSON text) -> the settings in which the protocols differ, as text for a heading."""
    settings = {text: json.loads(text) for text in texts}
    names = sorted({name for protocol in settings.values() for name in protocol})
    names = [name for name in names if len({json.dumps(protocol.get(name)) for protocol in settings.values()}) > 1]
    return {
        text: f" ({', '.join(printable(f'{name}={protocol.get(name)}') for name in names)})" if names else ""
        for text, protocol in settings.items()
    }


def _named_apart(cells: pd.DataFrame) -> pd.DataFrame:
    """Adds ``label``: the explainer's label; with a part of the cell's id if it has several cells for one metric."""
    twice = cells.duplicated(["explainer", "metric"], keep=False)
    return cells.assign(label=cells["explainer"].where(~twice, cells["explainer"] + " " + cells["cell"].str[:6]))


def _scores_of(cells: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of some cells, with labels; samples with equal names get their index in the cell as a suffix."""
    labels = dict(zip(cells["cell"], cells["label"], strict=True))
    mine = scores[scores["cell"].isin(set(labels))]
    again = mine.duplicated(["cell", "sample"], keep=False)
    if again.any():
        place = mine.groupby("cell", observed=True).cumcount()
        mine = mine.assign(sample=mine["sample"].where(~again, mine["sample"] + " (" + place.astype(str) + ")"))
    return mine.assign(explainer=mine["cell"].astype(object).map(labels), metric=mine["metric"].astype(object))
