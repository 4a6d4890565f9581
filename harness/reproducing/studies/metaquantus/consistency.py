"""How consistent a metric's scores are under noise, as Hedström et al. 2023 (arXiv:2302.07265) define it.

Scores are (explainers, images), before the noise and after it. Minor noise asks for resilience (NR) and disruptive
noise for a reaction (AR). IAC compares the scores of one explainer, IEC the explainers with each other.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import stats

MINOR, DISRUPTIVE = "NR", "AR"
COMPONENTS = ("IAC_NR", "IAC_AR", "IEC_NR", "IEC_AR")
EXACT_UP_TO = 25  # differences, from which on the signed-rank test has its normal approximation, as scipy 1.7 had it
QUARTERS = 4
ALL_EXPLAINERS = -1  # in the column ``explainer`` of what concerns no single one


def signed_rank_p(changes: np.ndarray) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test that changes (n,) have no direction; NaN for none.

    Changes of 0 give half of their ranks to each sign. The test is exact for few changes that all differ from 0 and
    from each other in size, else a normal approximation without correction for continuity.
    """
    sizes = np.abs(changes)
    if not sizes.any():
        return 1.0 if len(sizes) else float("nan")
    exact = len(sizes) <= EXACT_UP_TO and sizes.all() and len(np.unique(sizes)) == len(sizes)
    found = stats.wilcoxon(changes, zero_method="zsplit", method="exact" if exact else "asymptotic")
    return float(found.pvalue)


def unchanged_p(before: np.ndarray, after: np.ndarray, released: bool = False) -> float:
    """The p-value that scores (n,) have not changed, without those that are undefined.

    ``released``: 0 if any change is no number, such as one from -inf to -inf. The published numbers have it so, and
    the authors' code sets 0 where the test fails.
    """
    with np.errstate(invalid="ignore"):
        changes = after - before
    defined = ~np.isnan(changes)
    if released and not defined.all():
        return 0.0
    return signed_rank_p(changes[defined])


def agreeing_places(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """For each image the share of the places at which both rankings have the same explainer, (images,).

    Equal scores keep the order of the list. NaN where a score is undefined.
    """
    same = np.argsort(before, axis=0, kind="stable") == np.argsort(after, axis=0, kind="stable")
    undefined = np.isnan(before).any(0) | np.isnan(after).any(0)
    return np.where(undefined, np.nan, same.mean(0))


def shares_of_changes(before: np.ndarray, after: np.ndarray, better: str) -> dict[str, float]:
    """The shares of the defined scores that became ``worse`` or better or stayed ``equal``; NaN where there are none.

    ``better`` is ``higher`` or ``lower``.
    """
    sign = {"higher": -1, "lower": 1}[better]
    defined = ~(np.isnan(before) | np.isnan(after))
    old, new = sign * before[defined], sign * after[defined]
    if not len(old):
        return dict.fromkeys(("worse", "equal", "improved"), float("nan"))
    return {"worse": (new > old).mean(), "equal": (new == old).mean(), "improved": (new < old).mean()}


def rows_of_consistency(
    before: np.ndarray, after: np.ndarray, chosen: np.ndarray, better: str, failing: str, released: bool = False
) -> Iterator[dict[str, Any]]:
    """The parts of the consistency under one draw of noise: ``part``, ``explainer`` (its place), ``images``, ``value``.

    ``chosen`` (images,) are the images that count: those whose prediction has stayed (NR) or has changed (AR). Parts:
    ``IAC`` of each explainer, ``IAC of a quarter`` as the mean over explainers and quarters of the images, ``IEC``,
    and for AR the shares ``equal`` and ``improved``.
    """
    old, new = before[:, chosen], after[:, chosen]
    images = int(chosen.sum())
    about = {"explainer": ALL_EXPLAINERS, "images": images}
    as_score = lambda p: p if failing == MINOR else 1 - p
    for place, (own_old, own_new) in enumerate(zip(old, new, strict=True)):
        score = as_score(unchanged_p(own_old, own_new, released))
        yield {**about, "part": "IAC", "explainer": place, "value": score}
    if images >= QUARTERS:
        quarters = np.array_split(np.arange(images), QUARTERS)
        scores = [
            as_score(unchanged_p(own_old[each], own_new[each], released))
            for own_old, own_new in zip(old, new, strict=True)
            for each in quarters
        ]
        yield {**about, "part": "IAC of a quarter", "value": mean_of_defined(scores)}
    if failing == MINOR:
        yield {**about, "part": "IEC", "value": mean_of_defined(agreeing_places(old, new))}
    else:
        shares = shares_of_changes(old, new, better)
        yield {**about, "part": "IEC", "value": shares["worse"]}
        yield {**about, "part": "equal", "value": shares["equal"]}
        yield {**about, "part": "improved", "value": shares["improved"]}


def mean_of_defined(values: Any) -> float:
    """The mean of those values that are numbers; NaN where there are none."""
    values = np.asarray(values, dtype=float)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def meta_consistency(components: Mapping[str, float]) -> float:
    """MC: the mean of the four components."""
    return float(np.mean([components[each] for each in COMPONENTS]))


def components_of(
    before: np.ndarray,
    minor: np.ndarray,
    disruptive: np.ndarray,
    better: str,
    released: bool = False,
) -> dict[str, float]:
    """The four components of given scores (explainers, images), of which all images count."""
    every = np.ones(before.shape[1], dtype=bool)
    found = {}
    for failing, after in ((MINOR, minor), (DISRUPTIVE, disruptive)):
        rows = list(rows_of_consistency(before, after, every, better, failing, released))
        for part in ("IAC", "IEC"):
            found[f"{part}_{failing}"] = mean_of_defined([row["value"] for row in rows if row["part"] == part])
    return found
