"""The table of a cell's scores: its columns and types, and what makes a table the scores of a cell."""

from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import unknown
from harness.seals import Damaged

SCORE_COLUMNS = (
    "cell",
    "sample",
    "target",
    "prediction",
    "label",
    "groups",
    "value",
    "valid",
    "tied",
    "standard_error",
    "curve",
)


def score_schema(columns: Iterable[str] = SCORE_COLUMNS) -> Any:
    """The arrow schema of the scores, or of some of their ``columns``."""
    import pyarrow as pa  # imported here so that a run that has nothing to do does not load it

    kinds = {
        "cell": pa.string(),
        "sample": pa.string(),
        "target": pa.int64(),
        "prediction": pa.int64(),
        "label": pa.int64(),
        "groups": pa.string(),
        "value": pa.float64(),
        "valid": pa.bool_(),
        "tied": pa.float64(),
        "standard_error": pa.float64(),
        "curve": pa.list_(pa.float64()),
    }
    return pa.schema([(name, kinds[name]) for name in columns])


def score_table(cell: str, columns: Mapping[str, Any]) -> Any:
    """The scores of a cell as an arrow table; ``columns`` as for ``Store.write_scores``."""
    import pyarrow as pa

    given = {name: columns[name] for name in columns if name != "cell" and columns[name] is not None}
    for name in given:
        if name not in SCORE_COLUMNS:
            raise unknown("column of the scores", name, SCORE_COLUMNS)
    count = len(given["value"])
    filled = {name: [None] * count for name in SCORE_COLUMNS} | given | {"cell": [cell] * count}
    schema = score_schema()
    arrays = [pa.array(_arrow_ready(filled[field.name]), field.type, from_pandas=True) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def as_scores(table: Any, columns: Iterable[str] = SCORE_COLUMNS) -> Any:
    """An arrow table with the ``columns`` of scores, null where it lacks one; Damaged where it holds something else."""
    import pyarrow as pa

    lacking = [name for name in ("cell", "sample", "value") if name not in table.column_names]
    if lacking:
        raise Damaged(f"it has no column {lacking[0]}")
    schema = score_schema(columns)
    try:
        arrays = [
            table[field.name].cast(field.type) if field.name in table.column_names else pa.nulls(len(table), field.type)
            for field in schema
        ]
    except Exception as error:  # arrow has many
        raise Damaged(f"its columns are not those of scores: {str(error).splitlines()[0][:80]}") from error
    return pa.Table.from_arrays(arrays, schema=schema)


def check_scores(table: Any, row: Mapping[str, Any]) -> None:
    """Raise Damaged where a table cannot be the scores of a row."""
    table = as_scores(table)
    if set(table["cell"].to_pylist()) - {row["cell"]}:
        raise Damaged("it holds scores of another cell")
    counts = [row.get(name) for name in ("n", "n_invalid")]
    if all(isinstance(each, int) for each in counts) and 0 < sum(counts) != len(table):
        raise Damaged(f"it has {len(table)} rows, expected {sum(counts)}")


def _arrow_ready(values: Any) -> Any:
    """Tensors become numpy arrays, curves (N, K) a list of rows; other values are unchanged."""
    values = values.numpy() if hasattr(values, "numpy") else values
    return list(values) if getattr(values, "ndim", 1) == 2 else values
