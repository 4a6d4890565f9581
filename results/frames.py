"""Reads a run into data frames: its cells, scores and controls; finds the run that a name stands for."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.catalogue import CATALOGUES
from harness.errors import UserError, one_line, printable
from harness.results.choice_files import choice_in, is_run
from harness.results.rows import CELL_COLUMNS, REAL_COLUMNS, WHOLE_COLUMNS
from harness.results.run_files import content_of
from harness.results.score_table import SCORE_COLUMNS, as_scores, score_schema
from harness.results.store import Store
from harness.seals import Damaged

CELL_NAMES = ("model", "dataset", "explainer", "metric")
JOINED = (*CELL_NAMES, "better")
LIMITS = ("least", "most")  # of the scores of a cell
MOST_NAMES = 20
LOST = {"status": "failed", "stage": "files", **dict.fromkeys(REAL_COLUMNS), "n": 0, "n_invalid": 0}


def read(run_directory: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells of a run (one row each, the last written) and the scores of those that are ok (one row per sample).

    Each score has its cell's model, dataset, explainer, metric, direction (``better``) and limits (``least`` and
    ``most``). If another version wrote the run, columns that it lacks hold missing values, and columns that only it has
    come last.
    """
    cells = read_cells(run_directory)
    return cells, read_scores(run_directory, cells)


def read_cells(
    run_directory: str | Path, *, without_scores: bool = False, only: Collection[str] | None = None
) -> pd.DataFrame:
    """The cells of a run, one row each, in the order of the columns of ``harness.results.store``.

    Damaged files are named in one line each. A cell whose file of scores is damaged or lacking has failed at the stage
    ``files``; one without a row that can be used is left out. ``without_scores`` is for runs that were kept without
    them: then only damaged ones count. Texts are on one line and free of control characters. With ``only``, the ids of
    some cells, files of others are not examined.
    """
    store = Store(run_directory)
    found = [row for cell, row in store.latest().items() if only is None or cell in only]
    rows = [_with_printable_texts(_without_lost_scores(store, row, without_scores)) for row in found]
    others = [name for row in rows for name in row if name not in CELL_COLUMNS]
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys([*CELL_COLUMNS, *others])}
    for name in REAL_COLUMNS:
        columns[name] = pd.array([_as_real(each) for each in columns[name]], dtype="float64")
    for name in WHOLE_COLUMNS:
        columns[name] = pd.array([_whole_number(each) for each in columns[name]], dtype="Int64")
    frame = pd.DataFrame(columns)  # numbers are made before: pandas 3.0 raises OverflowError for an int beyond a float
    for name in (*JOINED, "status"):
        frame[name] = [text if isinstance(text, str) else None for text in frame[name]]
    return frame


def _with_printable_texts(row: dict[str, Any]) -> dict[str, Any]:
    """The row with texts that can be shown anywhere; its identity stays as it is: the cell and the configuration."""
    as_it_is = ("cell", "config")
    return {
        name: value if value is None or name in as_it_is else _printable_texts(value) for name, value in row.items()
    }


def _printable_texts(value: Any) -> Any:
    """The value with its texts, those inside it too, on one line and free of control characters."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable(name): _printable_texts(each) for name, each in value.items()}
    return [_printable_texts(each) for each in value] if isinstance(value, list) else value


def _without_lost_scores(store: Store, row: dict[str, Any], without_scores: bool) -> dict[str, Any]:
    """The row, as a failed one if it is ok and its scores cannot be used."""
    if row.get("status") != "ok" or (without_scores and not store.scores_path(row["cell"]).exists()):
        return row
    flaw = store.flaw(row)
    return {**row, **LOST, "error": flaw} if flaw else row


def _as_real(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _whole_number(value: Any) -> int | None:
    """A whole number of at most 64 bits; it is not converted to a float, which would round a long seed."""
    if not isinstance(value, int):
        value = int(_as_real(value)) if _as_real(value).is_integer() else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


def read_scores(run_directory: str | Path, cells: pd.DataFrame, columns: Sequence[str] = SCORE_COLUMNS) -> pd.DataFrame:
    """The scores of those of ``cells`` (of ``read_cells``, which checks them) that are ok.

    ``columns`` are those of ``SCORE_COLUMNS`` that are read, with ``cell`` first: few take less time.
    """
    from pyarrow import ArrowException

    store = Store(run_directory)
    scored = cells[cells["status"] == "ok"].set_index("cell")
    paths = [store.scores_path(cell) for cell in scored.index]
    try:
        table = _scores_in(paths, columns)
    except (ArrowException, Damaged, OSError) as error:
        named = next(filter(_is_no_table_of_scores, paths), store.directory / "scores")
        raise UserError(f"cannot read the scores in {named}: {one_line(error)[:200]}") from error
    scores = table.to_pandas(categories=["cell"])
    codes = scores["cell"].cat.codes
    for name in JOINED:
        of_cell = scored[name].reindex(scores["cell"].cat.categories).astype("category")
        scores[name] = of_cell.array.take(codes)
    for name in LIMITS:
        scores[name] = scored[name].reindex(scores["cell"].cat.categories).to_numpy()[codes]
    return scores[["cell", *JOINED, *LIMITS, *columns[1:]]]


def _scores_in(paths: Sequence[Path], columns: Sequence[str] = SCORE_COLUMNS) -> Any:
    """The scores in some files as one arrow table; null in columns that a file of another version lacks."""
    import pyarrow as pa
    from pyarrow import parquet

    schema, wanted = score_schema(columns), None if columns == SCORE_COLUMNS else list(columns)
    # Twice as fast for many small files as a dataset of them.
    files = (parquet.ParquetFile(pa.BufferReader(content_of(path))) for path in paths)
    tables = [file.read(columns=wanted, use_threads=False) for file in files]
    tables = [table if table.schema.equals(schema) else as_scores(table, columns) for table in tables]
    return pa.concat_tables(tables or [schema.empty_table()])


def _is_no_table_of_scores(path: Path) -> bool:
    from pyarrow import ArrowException

    try:
        _scores_in([path])
    except (ArrowException, Damaged, OSError):
        return True
    return False


def configured(config: Any, section: str) -> dict[str, Any]:
    """A section (``explainer``, ``protocol``, ...) of a row's ``config``, JSON text or a mapping; {} if it has none."""
    section_found = _as_mapping(config).get(section)
    return dict(section_found) if isinstance(section_found, Mapping) else {}


def audit_of(audit: Any) -> dict[str, Any]:
    """A row's ``audit``, JSON text or a mapping, as a mapping; {} if it has none."""
    return dict(_as_mapping(audit))


def seed_in_config(config: Any) -> int | None:
    """The seed of a cell's protocol; None if it tells none."""
    seed = configured(config, "protocol").get("seed")
    return seed if isinstance(seed, int) else None


def median_of(told: Any) -> float | None:
    """The median of a value in an audit: the ``median`` of a summary over samples, or the single number itself."""
    told = told.get("median") if isinstance(told, Mapping) else told
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) else None


def _as_mapping(value: Any) -> Mapping[str, Any]:
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}


def protocols(cells: pd.DataFrame) -> pd.Series:
    """Each cell's protocol as JSON text; cells under different protocols are shown in different tables."""
    text = [json.dumps(configured(config, "protocol"), sort_keys=True) for config in cells["config"]]
    return pd.Series(text, index=cells.index, name="protocol", dtype="object")


def find_run(name: str | Path, runs_directory: str | Path = "runs") -> Path:
    """The directory of a run: ``latest`` or ``previous`` by the last row written, a name, or a path.

    A name is that of a folder under ``runs_directory``. If there is no such run, the UserError lists the runs.
    """
    runs_directory = Path(runs_directory)
    if str(name) in ("latest", "previous"):
        runs = _runs_by_last_row(runs_directory)
        place = -1 if str(name) == "latest" else -2
        if len(runs) < -place:
            raise UserError(f"no {name} run: {_runs_listed(runs_directory)}")
        return runs[place]
    places = (runs_directory / name, Path(name))
    for path in filter(is_run, places):
        return path
    for path in filter(None, map(choice_in, places)):
        raise UserError(f"{path} holds a choice of harness choose and no cells of harness run; {choice_verbs(path)}")
    raise UserError(
        f"no run {str(name)!r}: {_runs_listed(runs_directory)}; expected a run's name, a path, latest or previous"
    )


def choice_verbs(path: Path) -> str:
    """What shows a choice, in words."""
    return f"harness table {path.name} and harness report {path.name} show it"


def _runs_by_last_row(runs_directory: Path) -> list[Path]:
    """The runs that have a row, sorted by the time of their last row, and by name at equal times."""
    times = {path.parent: Store(path.parent).last_written() for path in sorted(runs_directory.glob("*/cells"))}
    return sorted((run for run, time in times.items() if time), key=lambda run: times[run])


def _runs_listed(runs_directory: Path) -> str:
    names = [run.name for run in reversed(_runs_by_last_row(runs_directory))]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    listed = f"the folder {runs_directory} has {', '.join(names[:MOST_NAMES]) or 'no runs'}{more}"
    choices = [path.name for path in sorted(runs_directory.glob("*")) if choice_in(path) == path and not is_run(path)]
    return f"{listed}, and choices of harness choose: {', '.join(choices[:MOST_NAMES])}" if choices else listed


def controls_of(cells: pd.DataFrame, called: str = "explainer") -> frozenset[str]:
    """The controls among the cells' explainers, as the column ``called`` has them.

    A cell's configuration says which explainer a label stands for; without one the label itself is the name.
    """
    rows = zip(cells[called], cells["explainer"], cells["config"], strict=True)
    names = {label: configured(config, "explainer").get("name", name) for label, name, config in rows}
    known = CATALOGUES["explainer"]  # the registry would import all explainers, and torch
    return frozenset(label for label, name in names.items() if name in known and known[name].control)
