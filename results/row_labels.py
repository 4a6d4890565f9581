"""The labels of models and data sets in a run: those in its rows, and in the rows of its parts for what only they know.

Parts (shards, rounds) keep the labels under which they were measured. What the run calls a model counts.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.results.part_folders import round_folders, shard_folders
from harness.results.store import Store

MODEL_AND_DATA = ("model", "dataset")
Row = Mapping[str, Any]
Labels = dict[tuple[str, str], str]  # section and settings, as text -> label


def labelling_rows(run: Store) -> list[Row]:
    """The rows of a run, and before them what the rows of its parts tell of models and data that it has no row of.

    A row counts although its scores are lost: what is measured again keeps its label.
    """
    rows = list(run.latest(named=False).values())
    parts = (*shard_folders(run.directory), *round_folders(run.directory))
    of_parts = [row for part in parts for row in Store(part).latest(named=False).values()]
    known = labels_in(rows)
    further = {place: label for place, label in newest_labels(of_parts).items() if place not in known}
    told = [{section: label, "config": {section: json.loads(text)}} for (section, text), label in further.items()]
    return [*told, *rows]


def newest_labels(rows: Iterable[Row]) -> Labels:
    """The labels in rows of several parts; of two for one model, that of the row that was finished last."""
    return labels_in(sorted(rows, key=lambda row: str(row.get("finished") or "")))


def labels_in(rows: Iterable[Row]) -> Labels:
    """The labels in rows; of two for one model, that of the last row."""
    return {
        (section, _settings_text(settings)): label
        for row in rows
        for section, settings, label in settings_and_labels(row)
    }


def relabelled(row: Row, labels: Labels) -> dict[str, Any]:
    """A row with these labels for the model and the data set that they know."""
    known = {
        section: labels[section, _settings_text(settings)]
        for section, settings, _ in settings_and_labels(row)
        if (section, _settings_text(settings)) in labels
    }
    return {**row, **known}


def settings_and_labels(row: Row) -> Iterator[tuple[str, Mapping[str, Any], str]]:
    """Section, settings and label of a row's model and data set, as far as it tells them."""
    for section in MODEL_AND_DATA:
        settings = settings_in(row, section)
        if settings is not None and isinstance(row.get(section), str):
            yield section, settings, row[section]


def settings_in(row: Row, section: str) -> Any:
    """Name and options of a row's model or data set; None in a row that does not tell them."""
    config = row.get("config")
    return config.get(section) if isinstance(config, Mapping) else None


def check_labels_differ(runs: Sequence[Path]) -> None:
    """UserError if two runs have one label for different models or data sets: a table of both would mix them."""
    owners: dict[tuple[str, str], tuple[str, Path]] = {}
    for run in runs:
        for (section, settings), label in labels_in(labelling_rows(Store(run))).items():
            other, place = owners.setdefault((section, label), (settings, run))
            if other != settings:
                raise UserError(
                    f"{section} {label!r} of {run} has other options than that of {place}: give one of them another "
                    f"label first, by its harness run with {section}.label=NAME"
                )


def _settings_text(settings: Any) -> str:
    return json.dumps(settings, sort_keys=True)
