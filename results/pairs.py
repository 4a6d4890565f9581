"""Is one explainer better than another on the same samples? Paired tests, corrected for how many there are.

The test is the sign-flip permutation test of the mean difference: under the hypothesis that two explainers are alike,
the sign of every sample's difference is random. All pairs get the same flips. Holm's step-down correction (1979)
keeps the chance of any false claim in one table below 5 %.
"""

from collections.abc import Collection
from functools import lru_cache
from itertools import combinations, product

import numpy as np
import pandas as pd

from harness.results.matrices import Matrix
from harness.results.statistics import interval

FLIPS = 10_000
MOST_ENUMERATED = 13  # 2^13 sign patterns are fewer than the draws, so up to here all patterns are used
ALPHA = 0.05
MOST_AT_ONCE = 1 << 22  # numbers at once


def flip_test(differences: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Two-sided p-values (k,) of the mean of differences (n, k) by flipping signs of samples.

    Exact for at most 13 samples, else from 10,000 draws. The observed signs count as one of them, so that no p-value is
    0. 1 where all differences are 0. The draws depend on n and the seed alone.
    """
    differences = np.asarray(differences, dtype=np.float64).reshape(len(differences), -1)
    if not len(differences):
        return np.ones(differences.shape[1])
    scale = np.abs(differences).max(0)
    differences = differences / np.where(scale > 0, scale, 1)
    observed = np.abs(differences.sum(0)) * (1 - 1e-9)  # so that sums which are equal but for rounding count as equal
    flips, drawn = _sign_patterns(len(differences), seed)
    as_large = np.zeros(differences.shape[1])
    for rows in np.array_split(flips, -(-flips.shape[0] * max(differences.shape) // MOST_AT_ONCE)):
        as_large += (np.abs(rows.astype(np.float64) @ differences) >= observed).sum(0)
    return (1 + as_large) / (1 + len(flips)) if drawn else as_large / len(flips)


@lru_cache(maxsize=4)
def _sign_patterns(n: int, seed: int) -> tuple[np.ndarray, bool]:
    """Sign patterns (draws, n), and whether they are a random draw rather than all patterns."""
    if n <= MOST_ENUMERATED:
        return np.array(list(product((-1, 1), repeat=n)), dtype=np.int8), False
    generator = np.random.default_rng([seed, n, 2])
    return generator.integers(0, 2, size=(FLIPS, n), dtype=np.int8) * 2 - 1, True


def holm(p: np.ndarray) -> np.ndarray:
    """p-values (k,) corrected for their number by Holm's step-down procedure. NaN stay NaN and do not count."""
    p = np.asarray(p, dtype=np.float64)
    corrected, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


def against(matrix: Matrix, reference: str, *, seed: int = 0) -> pd.DataFrame:
    """Every other explainer against a reference, one row each, on the samples that both have.

    ``difference`` mean of explainer less reference, positive where the explainer is better, in the metric's unit, with
    its 95 % BCa interval ``low high``; ``effect`` the mean over the standard deviation of the differences;
    ``share_better`` of the samples, ties half; ``p`` of the flip test and ``p_holm``; ``n`` common samples.
    """
    differences = _differences(matrix, reference)
    ends = [interval(differences[name].dropna().to_numpy(), seed=seed) for name in differences]
    low, high = zip(*ends, strict=True) if ends else ((), ())
    frame = _differences_in_rows(differences, seed).assign(low=low, high=high)
    return frame[["explainer", "difference", "low", "high", "effect", "share_better", "n", "p", "p_holm"]]


def _differences_in_rows(differences: pd.DataFrame, seed: int) -> pd.DataFrame:
    """One row per explainer: its differences to the reference, as in ``against``, without the interval."""
    rows = [{"explainer": name, **_size_of(differences[name].dropna().to_numpy())} for name in differences]
    frame = pd.DataFrame(rows, columns=["explainer", *DIFFERENCE_COLUMNS])
    p = _flip_tests(differences, seed).to_numpy()
    return frame.assign(p=p, p_holm=holm(p))


def _differences(matrix: Matrix, reference: str) -> pd.DataFrame:
    """Every other explainer less the reference, NaN where either has no score."""
    others = [name for name in matrix.signed if name != reference]
    return matrix.signed[others].sub(matrix.signed[reference], axis=0)


def _flip_tests(differences: pd.DataFrame, seed: int) -> pd.Series:
    """p-values of the columns, NaN for fewer than two samples; columns that lack the same samples share one test."""
    p = pd.Series(np.nan, differences.columns, dtype=np.float64)
    patterns = {name: differences[name].notna().to_numpy() for name in differences}
    for pattern in {mask.tobytes() for mask in patterns.values()}:
        alike = [name for name, mask in patterns.items() if mask.tobytes() == pattern]
        if patterns[alike[0]].sum() > 1:
            p[alike] = flip_test(differences.loc[patterns[alike[0]], alike].to_numpy(), seed=seed)
    return p


DIFFERENCE_COLUMNS = ("difference", "effect", "share_better", "n")


def _size_of(differences: np.ndarray) -> dict[str, float]:
    """Mean and effect of one explainer's differences (n,), and the share of the samples on which it is better."""
    if len(differences) < 2:
        return {**dict.fromkeys(DIFFERENCE_COLUMNS, float("nan")), "n": len(differences)}
    spread, mean = differences.std(ddof=1), differences.mean()
    return {
        "difference": mean,
        "effect": mean / spread if spread > 0 else (0.0 if mean == 0 else float(np.copysign(np.inf, mean))),
        "share_better": float((differences > 0).mean() + (differences == 0).mean() / 2),
        "n": len(differences),
    }


def all_pairs(matrix: Matrix, *, seed: int = 0) -> pd.DataFrame:
    """p-values of every pair of explainers, Holm over all of them: ``first second difference p p_holm``.

    On the samples that all explainers have. ``difference`` is positive where the first is better.
    """
    values = matrix.complete
    pairs = list(combinations(values.columns, 2))
    frame = pd.DataFrame(pairs, columns=["first", "second"])
    if not len(values) or not pairs:
        return frame.assign(difference=np.nan, p=np.nan, p_holm=np.nan)
    places = {name: place for place, name in enumerate(values.columns)}
    first, second = (frame[name].map(places).to_numpy() for name in ("first", "second"))
    numbers = values.to_numpy()
    differences = numbers[:, first] - numbers[:, second]
    p = flip_test(differences, seed=seed) if len(values) > 1 else np.full(len(pairs), np.nan)
    return frame.assign(difference=differences.mean(0), p=p, p_holm=holm(p))


def letters(matrix: Matrix, *, seed: int = 0, alpha: float = ALPHA) -> dict[str, str]:
    """Explainer -> letters: two that share a letter do not differ significantly (Piepho 2004, insert and absorb).

    The best mean has ``a``. Empty where fewer than two samples are common to all.
    """
    pairs, values = all_pairs(matrix, seed=seed), matrix.complete
    if len(values) < 2:
        return dict.fromkeys(matrix.signed, "")
    order = list(values.mean().sort_values(ascending=False, kind="stable").index)
    differ = [{row.first, row.second} for row in pairs.itertuples() if row.p_holm < alpha]
    groups = _maximal(order, differ)
    marks = {name: "" for name in order}
    for letter, group in zip(_alphabet(len(groups)), groups, strict=True):
        for name in group:
            marks[name] += letter
    return marks


def _maximal(order: list[str], differ: Collection[set[str]]) -> list[list[str]]:
    """The largest groups of explainers of which no two differ significantly; the best explainer's group is first."""
    groups = [set(order)]
    for pair in differ:
        first, second = pair
        split = [part for group in groups if pair <= group for part in (group - {first}, group - {second})]
        groups = [group for group in groups if not pair <= group] + split
        groups = [group for i, group in enumerate(groups) if not _absorbed(group, groups[:i], groups[i + 1 :])]
    ordered = [[name for name in order if name in group] for group in groups]
    return sorted(ordered, key=lambda group: [order.index(name) for name in group])


def _absorbed(group: set[str], before: list[set[str]], after: list[set[str]]) -> bool:
    """Whether another group contains this one; of equal groups the first stays."""
    return any(group <= other for other in before) or any(group < other for other in after)


def _alphabet(count: int) -> list[str]:
    names = [chr(ord("a") + number) for number in range(26)]
    return (names + [f"{a}{b}" for a in names for b in names])[:count]


def standing(matrix: Matrix, controls: Collection[str] = (), *, seed: int = 0) -> pd.DataFrame:
    """One row per explainer: how it compares with the best explainer and with the best control on the metric.

    ``mean`` over its samples, signed so that higher is better; ``letters``; ``vs_best`` and ``vs_control`` with
    ``p_..`` (Holm), ``effect_..`` and ``share_..``: missing for the best itself, and for controls. ``best`` marks
    those not shown to be worse than the best.
    """
    signed = matrix.signed
    best = best_of(signed, [name for name in signed if name not in controls] or list(signed))
    control = best_of(signed, [name for name in signed if name in controls])
    rows = pd.DataFrame({"explainer": list(signed), "mean": signed.mean().to_numpy()})
    rows["letters"] = rows["explainer"].map(letters(matrix, seed=seed))
    rows = rows.merge(_against_one(matrix, best, "best", list(signed), seed), how="left")
    rows = rows.merge(
        _against_one(matrix, control, "control", [n for n in signed if n not in controls], seed), how="left"
    )
    return rows.assign(best=(rows["explainer"] == best) | ~((rows["p_best"] < ALPHA) & (rows["vs_best"] < 0)))


def best_of(signed: pd.DataFrame, names: list[str]) -> str | None:
    """The explainer with the best mean among ``names``; None if ``names`` is empty."""
    return str(signed[names].mean().idxmax()) if names else None


def _against_one(matrix: Matrix, reference: str | None, word: str, names: list[str], seed: int) -> pd.DataFrame:
    """Some explainers against one reference, in columns named after it; no row where there is no reference."""
    columns = {
        "difference": f"vs_{word}",
        "p_holm": f"p_{word}",
        "effect": f"effect_{word}",
        "share_better": f"share_{word}",
    }
    if reference is None:
        return pd.DataFrame(columns=["explainer", *columns.values()]).astype({"explainer": str})
    some = Matrix(matrix.names, matrix.values[[n for n in matrix.values if n in {*names, reference}]], matrix.better)
    frame = _differences_in_rows(_differences(some, reference), seed)
    return frame.rename(columns=columns)[["explainer", *columns.values()]]
