"""Do settings agree on which method is better? For anybody's table of scores, published or your own.

``read`` makes a table of settings and methods from a file; ``pairwise_tau``, ``kendall_w`` and ``distinct_rankings``
say how far the settings rank the methods alike. ``SRG`` is a published table: the pixel flipping scores of seven
explainers in 40 settings by Blücher et al. (2024, 2401.06654), taken from the data in their repository
bluecher31/pixel-flipping; its column ``provenance`` tells which numbers are theirs (seen) and which follow (computed).
"""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from harness.errors import UserError, one_line
from harness.results.reliability import taus

SRG = Path(__file__).parent / "srg2024.csv"
METHODS = ("explainer", "method")
SETTINGS = ("setting", "table_or_figure", "model", "dataset")
SIGNS = {"higher": 1.0, "lower": -1.0}


def read(csv: str | Path, *, better: str | Mapping[str, str] | None = None) -> dict[str, pd.DataFrame]:
    """The tables of a CSV file, one per metric: settings down, methods across, the sign changed where lower is better,
    so that higher is always better.

    Either a long file, a row per score: ``explainer`` or ``method``, ``value``, and optionally ``metric`` and
    ``better`` (higher or lower; rows without it have no direction and are left out); the setting is the column
    ``setting``, or all of ``table_or_figure``, ``model`` and ``dataset`` that are there. Or a wide file, a row per
    method: ``explainer`` or ``method``, and one column of numbers per setting.

    ``better``, for all metrics or by metric, replaces the column of this name. A file without metrics has one table,
    whose name is that of the file. A metric with a single method or setting, such as a summary, ranks nothing and is
    left out. A score that is missing is NaN.

    UserError for a file that cannot be read as such a table, scores that are no numbers, several scores for one method
    in one setting, and a missing or unknown direction.
    """
    path = Path(csv)
    rows = _long(_parsed(path), path)
    rows["better"] = [_direction(better, *each, path) for each in zip(rows["metric"], rows["better"], strict=True)]
    rows = rows.dropna(subset="better")
    if rows.empty:
        raise UserError(f"{path.name} has no score with a direction; pass better='higher' or better='lower'")
    tables = {str(metric): _pivoted(each, path) for metric, each in rows.groupby("metric", sort=False)}
    found = {metric: table for metric, table in tables.items() if min(table.shape) > 1}
    if not found:
        raise UserError(f"{path.name} has no metric with two or more settings and methods, and so nothing to rank")
    return found


def pairwise_tau(table: pd.DataFrame) -> float:
    """Mean Kendall tau-b of the rankings in every two settings, in [-1, 1]; ``table`` (settings, methods)."""
    values = _ranked_scores(table)
    first, second = np.array(list(combinations(range(len(values)), 2))).T
    return float(taus(values[first], values[second]).mean())


def kendall_w(table: pd.DataFrame) -> float:
    """Kendall's coefficient of concordance W of the rankings in all settings, 0 for no agreement to 1 for the same
    ranking everywhere, corrected for ties; ``table`` (settings, methods)."""
    from_middle = _ranks_by_setting(table) - (table.shape[1] + 1) / 2
    return float((from_middle.sum(0) ** 2).sum() / (len(table) * (from_middle**2).sum()))


def distinct_rankings(table: pd.DataFrame) -> int:
    """How many different rankings the settings give; ``table`` (settings, methods)."""
    return len(np.unique(_ranks_by_setting(table), axis=0))


def _ranks_by_setting(table: pd.DataFrame) -> np.ndarray:
    """Ranks (settings, methods), 1 is best, ties share their mean rank."""
    return pd.DataFrame(_ranked_scores(table)).rank(axis=1, ascending=False).to_numpy()


def _ranked_scores(table: pd.DataFrame) -> np.ndarray:
    """The scores (settings, methods), if each setting ranks all methods."""
    if not isinstance(table, pd.DataFrame) or min(table.shape) < 2:
        came = f"{table.shape[0]} x {table.shape[1]}" if isinstance(table, pd.DataFrame) else type(table).__name__
        raise UserError(
            f"expected a table of two or more settings and methods, one of those that read gives; got {came}"
        )
    values = table.to_numpy(dtype=np.float64)
    if len(lacking := np.argwhere(~np.isfinite(values))):
        row, column = lacking[0]
        method, setting = table.columns[column], _name_of_setting(table.index[row])
        raise UserError(
            f"{method} has no score in the setting {setting} ({len(lacking)} such gaps); leave it out: "
            f"table.drop(columns={method!r}), or leave out the setting"
        )
    if (tied := np.ptp(values, axis=1) == 0).any():
        raise UserError(
            f"all methods score alike in the setting {_name_of_setting(table.index[tied][0])}, which ranks none"
        )
    return values


def _name_of_setting(setting: object) -> str:
    return ", ".join(map(str, setting)) if isinstance(setting, tuple) else str(setting)


def _parsed(path: Path) -> pd.DataFrame:
    """The file with the column of methods renamed ``method``."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} as a CSV file: {one_line(error)}") from None
    method = next((name for name in METHODS if name in frame), None)
    if method is None:
        raise UserError(f"{path.name} has no column explainer or method; its columns: {', '.join(map(str, frame))}")
    return frame.rename(columns={method: "method"})


def _long(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The rows as ``method metric value better`` and the columns of the setting."""
    if "value" not in frame:
        frame = frame.melt("method", var_name="setting")
    if not any(name in frame for name in SETTINGS):
        raise UserError(f"{path.name} has no column that names the setting; expected {' or '.join(SETTINGS)}")
    numbers = pd.to_numeric(frame["value"], errors="coerce")
    if (wrong := numbers.isna() & frame["value"].notna()).any():
        raise UserError(f"{path.name}: expected numbers as scores, got {frame.loc[wrong, 'value'].iloc[0]!r}")
    return frame.assign(
        value=numbers, metric=frame.get("metric", path.stem), better=frame["better"] if "better" in frame else None
    )


def _direction(given: str | Mapping[str, str] | None, metric: str, told: object, path: Path) -> str | None:
    """The direction of a metric: the one given, else what the file tells; None where neither has one."""
    chosen = given.get(metric) if isinstance(given, Mapping) else given
    found = told if chosen is None else chosen
    if isinstance(found, str) and found not in SIGNS:
        raise UserError(f"{path.name}: the direction of {metric} is {found!r}, expected higher or lower")
    return found if isinstance(found, str) else None


def _pivoted(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """One metric's rows as settings x methods."""
    metric, settings = rows["metric"].iloc[0], [name for name in SETTINGS if name in rows]
    settings = ["setting"] if "setting" in settings else settings
    if rows["better"].nunique() > 1:
        raise UserError(f"{path.name} has both directions, higher and lower, for the metric {metric}")
    if (again := rows.duplicated([*settings, "method"])).any():
        method, *setting = rows.loc[again, ["method", *settings]].iloc[0]
        raise UserError(
            f"{path.name} has several scores of {metric} for {method} in {_name_of_setting(tuple(setting))}"
        )
    signed = rows.assign(value=rows["value"] * SIGNS[rows["better"].iloc[0]])
    return signed.pivot(index=settings, columns="method", values="value")
