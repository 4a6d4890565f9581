"""Joins the parts of a run: the shards of its samples, and runs of several machines.

A shard is a run of its own in the folder ``shards/<number>-of-<count>`` of the run: the same cells, scored on a part of
the samples. A cell that all shards have is written into the run as if it had been measured there: its scores are those
of the shards one after the other, and its statistics are computed from them.
"""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import NO_SCORE, OUTPUTS_NOT_FINITE
from harness.places import SHARDS, shard_folder
from harness.results.part_folders import shard_folders
from harness.results.row_labels import Labels, labels_in, newest_labels, relabelled
from harness.results.run_files import content_of, name_damage, write_content
from harness.results.statistics import cell_statistics, limits_in
from harness.results.store import Store, cell_scores
from harness.seals import Damaged

# Columns that are equal in all parts of a cell; otherwise they were measured with other code, weights or settings.
SHARED = ("stick", "subject", "config")
WORTH = ("ok", "not_applicable", "failed")  # of two rows of a cell the one with the earlier status counts
# Files about the run's first samples, and so of its first part, whose tables its rows name too. They keep their path,
# which is part of their seal.
MAPS, TABLES, PICTURES = "maps/*.npy", "tables/*", ("maps/*", "*.png", "*.html")
OF_ALL = ("environment/*", "config/*")  # their names say what is in them

Row = dict[str, Any]


@dataclass(frozen=True)
class Merged:
    """What was joined.

    written   cells that were written into the run
    lacking   cells that some parts lack
    damaged   cells that all parts have, of which some have damaged files
    mixed     cells whose parts are of different code, weights or settings
    absent    parts that hold nothing
    """

    written: int = 0
    lacking: int = 0
    damaged: int = 0
    mixed: int = 0
    absent: int = 0


def copied_cells(source: Path, target: Path) -> int:
    """Copy what a run and its shards hold, and the target lacks, into the target; the number of cells copied.

    A model or data set that the target knows keeps the label that it has there.
    """
    count = _copied_cells(Store(source), Store(target))
    for shard in shard_folders(source):
        count += _copied_cells(Store(shard), Store(target / SHARDS / shard.name))
    return count


def _copied_cells(source: Store, target: Store) -> int:
    target.check_folders()
    present, count = target.latest(), 0
    labels = labels_in(present.values())
    for cell, row in source.latest().items():
        known = present.get(cell)
        kept = known is not None and WORTH.index(known["status"]) <= WORTH.index(row["status"])
        if (kept and _is_sound(target, known)) or not _is_sound(source, row):
            continue
        if row["status"] == "ok":
            target.write_scores(cell, cell_scores(source, cell), row)
        _copy_error(source, target, cell)
        target.append({name: value for name, value in relabelled(row, labels).items() if name != "run"})
        count += 1
    _copy(source, target, (TABLES, *PICTURES, *OF_ALL))
    return count


def merge_shards(run: Path, count: int, only: Container[str] | None = None) -> Merged:
    """Write the cells that all ``count`` shards of a run have, and that the run lacks, into the run."""
    return merge_parts(run, [run / shard_folder(number, count) for number in range(count)], only)


def merge_parts(run: Path, parts: Sequence[Path], only: Container[str] | None = None) -> Merged:
    """Write the cells that all parts of a run have into the run; ``only`` those, if given.

    A row of the run that is not older than those of the parts stays. Files of scores are only looked at where all parts
    have a row: each part is joined when it ends, and most of the others are not done then.
    """
    whole, stores = Store(run), [Store(part) for part in parts]
    whole.check_folders()
    rows, present = list(map(_rows_of_part, stores)), whole.latest()
    found, complete = Counter(), list[list[Row]]()
    for cell in dict.fromkeys(cell for of_part in rows for cell in of_part if only is None or cell in only):
        of_cell = [of_part[cell] for of_part in rows if cell in of_part]
        if cell in present and _is_newer(present[cell], of_cell) and _is_sound(whole, present[cell]):
            continue
        outcome = _fate_of_parts(stores, of_cell)
        found[outcome] += 1
        if outcome == "written":
            complete.append(of_cell)
    if complete:
        of_parts = (row for each in rows for row in each.values())
        labels = newest_labels(of_parts) | labels_in(present.values())
        for of_cell in complete:
            _write_merged(whole, stores, of_cell, labels)
        _copy_pictures(stores[0], whole)
        for store in stores:
            _copy(store, whole, OF_ALL)
    return Merged(**found, absent=sum(not each for each in rows))


def _fate_of_parts(stores: Sequence[Store], of_cell: Sequence[Row]) -> str:
    """What becomes of a cell that has these rows in parts of a run: the name of a number in ``Merged``."""
    if len(of_cell) < len(stores):
        return "lacking"
    if not all(map(_is_sound, stores, of_cell)):
        return "damaged"
    return "written" if agree(of_cell) else "mixed"


def agree(rows: Sequence[Row]) -> bool:
    """Whether rows of a cell, of several parts, are of the same code, weights and settings."""
    return all(row.get(name) == rows[0].get(name) for row in rows for name in SHARED)


def outdated_cells(part: Path, others: Sequence[Path]) -> frozenset[str]:
    """The cells of a part that the newest row of the other parts does not agree with: to be measured again.

    The newest row is by the weights that the user has now, of which only a loaded model tells more.
    """
    rows, found = [_rows_of_part(Store(other)) for other in others], set()
    for cell, row in _rows_of_part(Store(part)).items():
        newest = max((each[cell] for each in rows if cell in each), key=_finished, default=row)
        if _finished(newest) > _finished(row) and not agree([row, newest]):
            found.add(cell)
    return frozenset(found)


def _rows_of_part(part: Store) -> dict[str, Row]:
    """The last row of each cell of a part; none where its folder is a link, which can lead out of the run."""
    return {} if part.directory.is_symlink() else part.latest()


def _is_sound(store: Store, row: Row) -> bool:
    """Whether the results of a row can be used."""
    return row["status"] != "ok" or not store.flaw(row, closely=True)


def _finished(row: Row) -> str:
    return str(row.get("finished") or "")


def _is_newer(row: Row, of_parts: Sequence[Row]) -> bool:
    return _finished(row) >= max(map(_finished, of_parts))


def _write_merged(whole: Store, stores: Sequence[Store], rows: Sequence[Row], labels: Labels) -> None:
    """Write the row of a cell, and its scores if all parts are ok; else the row of a part that is not. Model and data
    have the ``labels`` of the run."""
    worst = max(rows, key=lambda row: WORTH.index(row["status"]))
    names = [_part_name(store.directory) for store in stores]
    merged = {**worst, "run": whole.directory.name, "finished": max(map(_finished, rows))}
    merged["seconds"] = _sum(row.get("seconds") for row in rows)
    merged["flags"] = _joined_messages([row.get("flags") or [] for row in rows], names)
    if worst["status"] == "ok":
        merged |= _with_scores(whole, stores, rows, names)
    else:
        _copy_error(stores[rows.index(worst)], whole, worst["cell"])
    whole.append(relabelled(merged, labels))


def _with_scores(whole: Store, stores: Sequence[Store], rows: Sequence[Row], names: Sequence[str]) -> Row:
    """Write the scores of all parts; what the row of the cell says of them."""
    cell, kind = rows[0]["cell"], rows[0]["kind"]
    scores = pd.concat([cell_scores(store, cell) for store in stores], ignore_index=True)
    values, valid = scores["value"].to_numpy(np.float64), scores["valid"].to_numpy(bool)
    if not valid.any() and kind != "cost":
        return _without_scores(rows)
    whole.write_scores(cell, _with_curves(scores), rows[0])
    errors = _joined_messages([[row["error"]] if row.get("error") else [] for row in rows], names)
    return cell_statistics(values, valid, kind=kind, limits=limits_in(rows[0])) | {"error": next(iter(errors), "")}


def _without_scores(rows: Sequence[Row]) -> Row:
    """What the row of a cell says that has no score at all: the metric is not applicable if it gives a reason, and a
    number was not finite otherwise."""
    about = {**dict.fromkeys(("value", "std", "ci_low", "ci_high")), "n": 0, "n_invalid": 0, "stage": "score"}
    of_attributions = {flag for row in rows for flag in row.get("flags") or []}
    reasons = [row["error"] for row in rows if row.get("error")]
    of_metric = [text for text in reasons if text != OUTPUTS_NOT_FINITE and text not in of_attributions]
    if of_metric and len(of_metric) == len(rows):
        return about | {"status": "not_applicable", "error": f"no sample has a score: {of_metric[0]}", "flags": []}
    return about | {"status": "failed", "error": next(iter(reasons), NO_SCORE), "flags": []}


def _part_name(folder: Path) -> str:
    """``shard 3`` or ``round 3``."""
    return f"{folder.parent.name.removesuffix('s')} {folder.name.partition('-')[0]}"


def _joined_messages(messages: Sequence[Sequence[str]], parts: Sequence[str]) -> list[str]:
    """The messages of all parts, each once. One that some parts lack names those that have it: ``shard 0: ...``."""
    found = list(dict.fromkeys(text for each in messages for text in each))
    having = {text: [part for part, each in zip(parts, messages, strict=True) if text in each] for text in found}
    return [text if len(having[text]) == len(parts) else f"{', '.join(having[text])}: {text}" for text in found]


def _with_curves(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores with curves of NaN for samples of shards that had none, if others have some."""
    lengths = [len(curve) for curve in scores["curve"] if curve is not None]
    if lengths and len(lengths) < len(scores):
        nothing = np.full(lengths[0], np.nan)
        scores["curve"] = [nothing if curve is None else curve for curve in scores["curve"]]
    return scores


def _sum(values: Iterator[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(sum(known)) if known else None


def _copy_error(source: Store, target: Store, cell: str) -> None:
    _copy_file(source.directory / "errors" / f"{cell}.txt", target.directory / "errors" / f"{cell}.txt", target)


def _copy_pictures(first: Store, whole: Store) -> None:
    """Copy the maps and tables of the first part in place of older ones; and pictures of all maps, if it has them."""
    maps_of = lambda store: {path.name for path in store.directory.glob(MAPS)}
    all_there = maps_of(whole) <= maps_of(first)
    _copy(first, whole, (MAPS, TABLES), replace=True)
    _copy(first, whole, PICTURES, replace=all_there)


def _copy(source: Store, target: Store, patterns: Sequence[str], *, replace: bool = False) -> None:
    """Copy files that the target lacks, or all with ``replace``."""
    for pattern in patterns:
        for path in sorted(source.directory.glob(pattern)):
            place = target.directory / path.relative_to(source.directory)
            if not path.name.startswith(".") and (replace or not place.exists()):
                _copy_file(path, place, target)


def _copy_file(path: Path, place: Path, target: Store) -> None:
    """Copy a file that is there and no link, nor in a linked folder: the run may come from somebody else."""
    if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
        try:
            content = content_of(path)
        except Damaged as error:
            name_damage(path, error, "it is not copied")
            return
        write_content(place, content, target.safe)
