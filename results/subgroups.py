"""Whether explanations are equally good for all groups of samples: a metric's gaps between groups, with intervals.

Groups are divisions of the samples: ``target``, ``prediction``, ``label``, ``correct`` (whether the prediction is the
label), or one that the data brings, like a sensitive attribute. A gap between groups need not be caused by the
explainer: the model's confidence and accuracy differ too, so each group's accuracy is given beside its mean.
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import UserError, unknown
from harness.results.frames import CELL_NAMES
from harness.results.statistics import Limits, interval_on_scale, limits_in
from harness.results.ties import are_one_number

RESAMPLES = 2000
MOST_NUMBERS = 1 << 20  # of resampled numbers in memory at once
OF_SAMPLES = ("target", "prediction", "label")


def divisions(scores: pd.DataFrame) -> list[str]:
    """The names by which samples can be divided into groups; the data's own division of a name replaces ours."""
    own = [name for name in OF_SAMPLES if name in scores and scores[name].notna().any()]
    correct = ["correct"] if {"label", "prediction"} <= set(own) else []
    return list(dict.fromkeys(own + correct + sorted(_own_divisions(scores))))


def with_group(scores: pd.DataFrame, by: str) -> pd.DataFrame:
    """The scores with a column ``group``; samples of no group are left out. Raises UserError for an unknown ``by``."""
    if by not in divisions(scores):
        raise unknown("division of the samples", by, divisions(scores))
    if by in _own_divisions(scores):
        values = {text: _groups_in(text).get(by) for text in scores["groups"].dropna().unique()}
        if len({isinstance(value, str) for value in values.values() if value is not None}) > 1:  # no order among them
            values = {text: None if value is None else str(value) for text, value in values.items()}
        group = scores["groups"].map(values)
    elif by == "correct":
        right = scores["label"] == scores["prediction"]
        group = right.map({True: "correct", False: "wrong"}).where(
            scores["label"].notna() & scores["prediction"].notna()
        )
    else:
        group = scores[by]
    return scores.assign(group=group)[group.notna()]


def by_group(scores: pd.DataFrame, by: str) -> pd.DataFrame:
    """One row per cell and group: ``group n n_invalid mean ci_low ci_high accuracy``.

    ``scores`` has a row per sample and cell: explainer, metric, value, what ``by`` needs, and the ``least`` and the
    ``most`` that a score can be where this is known. The mean is over finite values, with its 95 % interval, that of a
    cell; accuracy is the share of the group that the model gets right, NaN
    without labels.
    """
    rows = []
    for cell, of_cell in _scores_by_cell(with_group(scores, by)):
        for group, of_group in of_cell.groupby("group"):
            values = of_group["value"].to_numpy(dtype=np.float64)
            finite = values[np.isfinite(values)]
            low, high = interval_on_scale(finite, limits_in(of_cell.iloc[0]))
            rows.append(
                {
                    **cell,
                    "group": group,
                    "n": len(finite),
                    "n_invalid": len(values) - len(finite),
                    "mean": finite.mean() if len(finite) else float("nan"),
                    "ci_low": low,
                    "ci_high": high,
                    "accuracy": _accuracy_of_group(of_group),
                }
            )
    return pd.DataFrame(rows)


def disparity(scores: pd.DataFrame, by: str, *, least: int = 30, seed: int = 0) -> pd.DataFrame:
    """One row per cell: the ``worst`` and the ``best`` group, the ``gap`` and ``ratio`` of their means, with intervals.

    A metric without a direction has no worst and no best group; ``n_invalid`` counts scores that are not finite.

    ``gap`` is the largest less the smallest mean, at least 0, in the metric's unit; ``ratio`` the smallest over the
    largest, at most 1, NaN unless all means are positive. Their 95 % intervals are simultaneous over all pairs of
    groups (bootstrap within groups, 2,000 resamples), so that picking the extreme groups does not narrow them.
    Where the scores of a group are all one number, its mean may be off by what samples that were not seen can change,
    which follows from the ``least`` and the ``most`` that a score can be; without these there is no interval.
    ``p``: how often random groups have as large a gap (permutation test); it asks whether groups differ at all, also in
    spread. Groups of fewer than ``least`` finite scores count in nothing and are named in ``small``. NaN where fewer
    than two groups are left.
    """
    rows = []
    for cell, of_cell in _scores_by_cell(with_group(scores, by)):
        finite = of_cell[np.isfinite(of_cell["value"].to_numpy(dtype=np.float64))]
        samples = {name: rows["value"].to_numpy(dtype=np.float64) for name, rows in finite.groupby("group")}
        enough = {name: values for name, values in samples.items() if len(values) >= least}
        small = [str(name) for name in of_cell["group"].unique() if name not in enough]
        first = of_cell.iloc[0]
        gap = _group_gap(enough, first["better"], limits_in(first), seed)
        rows.append(
            {
                **cell,
                "groups": len(enough),
                "n": sum(map(len, enough.values())),
                "n_invalid": len(of_cell) - len(finite),
                **gap,
                "small": ", ".join(sorted(small)),
            }
        )
    return pd.DataFrame(rows)


def _group_gap(groups: dict[Hashable, np.ndarray], better: str | None, limits: Limits, seed: int) -> dict[str, object]:
    """Worst and best group, gap and ratio with their intervals, and the p-value."""
    numbers = ("worst_mean", "best_mean", "gap", "gap_low", "gap_high", "ratio", "ratio_low", "ratio_high", "p")
    if len(groups) < 2:
        return {"worst": None, "best": None, **dict.fromkeys(numbers, float("nan"))}
    means = np.array([values.mean() for values in groups.values()])
    names, order = list(groups), np.argsort(means)
    worst, best = (order[0], order[-1]) if better != "lower" else (order[-1], order[0])
    generator = np.random.default_rng(seed)
    resampled = _resampled_group_means(list(groups.values()), limits, generator)
    low, high = _simultaneous_interval(means, resampled)
    gap = {
        "worst": names[worst],
        "best": names[best],
        "worst_mean": means[worst],
        "best_mean": means[best],
    }
    if better not in ("higher", "lower"):
        gap = {"worst": None, "best": None, "worst_mean": float("nan"), "best_mean": float("nan")}
    gap |= {
        "gap": np.ptp(means),
        "gap_low": low,
        "gap_high": high,
        "p": _chance_of_gap(list(groups.values()), generator),
    }
    if (means <= 0).any() or (resampled <= 0).any():
        return gap | dict.fromkeys(("ratio", "ratio_low", "ratio_high"), float("nan"))
    low, high = _simultaneous_interval(np.log(means), np.log(resampled))
    return gap | {"ratio": means.min() / means.max(), "ratio_low": np.exp(-high), "ratio_high": np.exp(-low)}


def _simultaneous_interval(means: np.ndarray, resampled: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of the largest difference of means (G,), from resampled ones (R, G); NaN twice if one is NaN.

    The largest difference moves by no more than the difference that moves most, whose 95 % point is the margin.
    """
    moved = resampled - means
    margin = np.quantile(np.ptp(moved, axis=1), 0.95)
    return float(np.maximum(0.0, np.ptp(means) - margin)), np.ptp(means) + margin


def _resampled_group_means(groups: Sequence[np.ndarray], limits: Limits, generator: np.random.Generator) -> np.ndarray:
    """Means (R, G) of resamples drawn within each group."""
    return np.stack(
        [
            _means_around_one_number(values, limits, generator)
            if are_one_number(values)
            else _means_of_resamples(values, generator)
            for values in groups
        ],
        1,
    )


def _means_around_one_number(values: np.ndarray, limits: Limits, generator: np.random.Generator) -> np.ndarray:
    """Means (R,) for values that are all one number; NaN without a limit at both ends, or for values beyond them.

    Resamples would all have this number. The share of samples that have it is drawn as the interval for a share has it
    (Clopper and Pearson: Beta(n, 1)). The others lie at a limit, more often at the one that is farther away.
    """
    (least, most), value = limits, float(values[0])
    if not (np.isfinite(limits).all() and least <= value <= most):
        return np.full(RESAMPLES, np.nan)
    at_least = generator.random(RESAMPLES) * (most - least) < value - least
    others = np.where(at_least, least, most)
    return value + (others - value) * (1 - generator.beta(len(values), 1, RESAMPLES))


def _means_of_resamples(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Means (R,) of resamples, of which as many are drawn at once as make up ``MOST_NUMBERS``."""
    count = len(values)
    at_once = min(RESAMPLES, max(1, MOST_NUMBERS // count))
    blocks = [at_once] * (RESAMPLES // at_once) + [RESAMPLES % at_once]
    return np.concatenate([values[generator.integers(count, size=(rows, count))].mean(1) for rows in blocks])


def _chance_of_gap(groups: Sequence[np.ndarray], generator: np.random.Generator) -> float:
    """The share of permutations of the samples over groups of these sizes whose gap is at least the one observed."""
    everything, ends = np.concatenate(groups), np.cumsum([0, *map(len, groups)])[:-1]
    sizes = np.array([len(values) for values in groups])
    gap = lambda values: np.ptp(np.add.reduceat(values, ends) / sizes)
    observed = gap(everything) * (1 - 1e-12)
    as_large = sum(gap(generator.permutation(everything)) >= observed for _ in range(RESAMPLES))
    return (1 + as_large) / (1 + RESAMPLES)


def _own_divisions(scores: pd.DataFrame) -> set[str]:
    texts = scores["groups"].dropna().unique() if "groups" in scores else ()
    return {name for text in texts for name in _groups_in(text)}


def _groups_in(text: str) -> dict[str, Any]:
    """Division -> the sample's group, a text or a number; none where the text is no mapping of such."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    named = found if isinstance(found, dict) else {}
    return {name: str(each) if isinstance(each, dict | list) else each for name, each in named.items()}


def _accuracy_of_group(of_group: pd.DataFrame) -> float:
    if not {"label", "prediction"} <= set(of_group) or of_group[["label", "prediction"]].isna().any(axis=None):
        return float("nan")
    return float((of_group["label"] == of_group["prediction"]).mean())


def _scores_by_cell(scores: pd.DataFrame) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """The samples of each cell with its names; a table of one block need not name model and data set.

    The cell's own name is among them where others are the same, as under two protocols.
    """
    if "better" not in scores:
        raise UserError("the scores do not have a column better; take it from the cells")
    names = [name for name in CELL_NAMES if name in scores]
    if "cell" in scores and scores.groupby(names, observed=True)["cell"].nunique().max() > 1:
        names.append("cell")  # cells of several protocols are kept apart
    for key, of_cell in scores.groupby(names, observed=True, sort=False):
        yield dict(zip(names, key, strict=True)), of_cell
