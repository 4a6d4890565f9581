"""The claims of the study road_cifar10, and the rank correlations of its settings."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.studies.road_cifar10.maps import (
    BLURRED_IG,
    FILLS,
    FIXED_FILL,
    IG_BASE,
    LERF_ORDER,
    LINEAR_FILL,
    MORF_ORDER,
    RANDOM_ORDER,
    ROAD_METHODS,
)
from harness.reproducing.studies.shared.mean_tests import LEVEL, NOT_CORRECTED, SIGNS_AND_T, means_all_above

PAPER_OF_ROAD = "Rong et al. 2022, arXiv:2202.00449"
# Order and fill, in the order in which the paper's notebook prints its matrix.
SETTINGS_OF_MATRIX = tuple((order, fill) for order in (MORF_ORDER, LERF_ORDER) for fill in FILLS)
DRAWS_OF_IMAGES = 500
EXACT_OF_ROAD = {
    "dense solver": (
        "Noisy linear imputation, without noise, solves the paper's equations: a dense solver, written apart, gives "
        "the same pixels.",
        1e-4,
        "rounding and the tolerance of the iterative solver, in units of 0..1",
    ),
    "one pixel": (
        "A single removed pixel becomes 1/6 of each direct and 1/12 of each diagonal neighbour; in a corner with the "
        "weights 2, 2 and 1 over 5.",
        1e-5,
        "rounding",
    ),
    "ramp": ("A linear slope is filled in as it was.", 1e-4, "linear functions are the means of their neighbours"),
    "LeRF of the negated map": (
        "LeRF at the share kept 70 % removes what MoRF of the negated map removes at 30 %.",
        0.0,
        "the same pixels, but for one that is lost where shares are rounded",
    ),
    "registered road": (
        "The accuracies are those of the registered metric road, image by image.",
        0.0,
        "without noise, the same images are filled in",
    ),
}


def exact_claims_of_road(checks: pd.DataFrame) -> list[Claim]:
    """What ``exact_checks_of_road`` found."""
    found = checks.set_index("check")["largest"]
    return [
        Claim(
            name=name,
            kind=IDENTITY,
            says=says,
            holds=found[name] <= bound,
            measured=f"largest difference {found[name]:.1e}, at most {bound:g}, on {checks['images'][0]} images",
            why=why,
            source="algebra",
        )
        for name, (says, bound, why) in EXACT_OF_ROAD.items()
    ]


def right_by_setting(scores: pd.DataFrame) -> dict[tuple[str, str, str], np.ndarray]:
    """Map, order and fill -> whether the net is right (images, shares)."""
    return {
        (name, order, fill): np.array([list(map(int, text)) for text in own[f"{order} {fill}"]], dtype=float)
        for name, own in scores.groupby("map", sort=False)
        for order, fill in SETTINGS_OF_MATRIX
    }


def spearman_of(first: np.ndarray, second: np.ndarray) -> float:
    """The rank correlation of two rankings; NaN where one is constant."""
    first, second = (rankdata(each) - (len(each) + 1) / 2 for each in (first, second))
    below = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / below) if below else float("nan")


def accuracies_of_methods(right: dict[tuple[str, str, str], np.ndarray], rows: np.ndarray | None = None) -> np.ndarray:
    """The accuracies (settings, methods, shares) on these images, or on all."""
    chosen = slice(None) if rows is None else rows
    return np.array(
        [[right[name, order, fill][chosen].mean(0) for name in ROAD_METHODS] for order, fill in SETTINGS_OF_MATRIX]
    )


def raw_correlations(accuracies: np.ndarray) -> dict[tuple[int, int], float]:
    """Two settings -> the mean over shares of the rank correlation of the methods' accuracies; no sign is inverted."""
    shares = range(accuracies.shape[2])
    of_pair = lambda first, second: [spearman_of(accuracies[first, :, at], accuracies[second, :, at]) for at in shares]
    return {pair: float(np.mean(of_pair(*pair))) for pair in combinations(range(len(SETTINGS_OF_MATRIX)), 2)}


def consistencies(accuracies: np.ndarray) -> dict[str, float]:
    """Fill -> the rank correlation of MoRF and LeRF by mean accuracies, positive where they agree."""
    mean = accuracies.mean(2)
    at = {setting: place for place, setting in enumerate(SETTINGS_OF_MATRIX)}
    return {fill: spearman_of(-mean[at[MORF_ORDER, fill]], mean[at[LERF_ORDER, fill]]) for fill in FILLS}


def drawn_images(count: int) -> list[np.ndarray]:
    """Bootstrap samples of images."""
    draw = np.random.default_rng(0)
    return [draw.integers(count, size=count) for _ in range(DRAWS_OF_IMAGES)]


def tendencies_of_road(right: dict[tuple[str, str, str], np.ndarray], words: str) -> list[Claim]:
    """Paired tests over images, and intervals of the consistency of MoRF and LeRF."""
    accuracies = accuracies_of_methods(right)
    samples = [accuracies_of_methods(right, rows) for rows in drawn_images(len(next(iter(right.values()))))]
    known = consistencies(accuracies)
    each = [consistencies(sample) for sample in samples]
    gap = lambda found: found[LINEAR_FILL] - found[FIXED_FILL]
    return [
        _less_right(
            right,
            (RANDOM_ORDER, LINEAR_FILL),
            (IG_BASE, LINEAR_FILL),
            words,
            "control",
            "IG points at pixels that matter: accuracy falls further than for a random map",
        ),
        _less_right(
            right,
            (RANDOM_ORDER, LINEAR_FILL),
            (RANDOM_ORDER, FIXED_FILL),
            words,
            PAPER_OF_ROAD,
            "Removed at random, pixels that are filled in by their neighbours leave a higher accuracy than the "
            "channel's mean",
        ),
        _less_right(
            right,
            (IG_BASE, LINEAR_FILL),
            (BLURRED_IG, LINEAR_FILL),
            words,
            "Song 2023, arXiv:2304.13836, abstract: smoothing that knows nothing of the model improves ROAD",
            "Blurring the map of IG improves its ROAD",
        ),
        _interval_claim(
            "consistency",
            f"MoRF and LeRF rank the eight methods alike with noisy linear imputation ({words}).",
            known[LINEAR_FILL],
            [found[LINEAR_FILL] for found in each],
            f"{PAPER_OF_ROAD}, consistency table (.58)",
            len(right[IG_BASE, MORF_ORDER, LINEAR_FILL]),
        ),
        _interval_claim(
            "more consistent",
            f"MoRF and LeRF agree more with noisy linear imputation than with a fixed value ({words}).",
            gap(known),
            [gap(found) for found in each],
            f"{PAPER_OF_ROAD}, consistency table (.58 and .01)",
            len(right[IG_BASE, MORF_ORDER, LINEAR_FILL]),
        ),
        _inverted_signs(accuracies),
    ]


def _less_right(
    right: dict[tuple[str, str, str], np.ndarray],
    more: tuple[str, str],
    less: tuple[str, str],
    words: str,
    source: str,
    says: str,
) -> Claim:
    """That under MoRF the second map and fill leave fewer images right, on average over shares."""
    values = [right[name, MORF_ORDER, fill].mean(1) for name, fill in (more, less)]
    gap = values[0] - values[1]
    holds, p = means_all_above([gap])
    return Claim(
        name=says,
        kind=PATTERN,
        says=f"{says} ({words}).",
        holds=holds,
        measured=f"mean accuracy under MoRF {values[0].mean():.3f} and {values[1].mean():.3f}; difference "
        f"{gap.mean():+.3f}, more than 0; p {p:.2g}",
        why=f"{SIGNS_AND_T} over images at {LEVEL:g}, one-sided; {NOT_CORRECTED}",
        source=source,
        n=len(gap),
    )


def _interval_claim(name: str, says: str, value: float, drawn: Sequence[float], source: str, n: int) -> Claim:
    """That a number is above 0, by the interval of bootstrap samples of images."""
    known = [each for each in drawn if np.isfinite(each)]  # none where all methods have one accuracy
    low, high = np.quantile(known, [0.025, 0.975]) if known else (np.nan, np.nan)
    return Claim(
        name=name,
        kind=PATTERN,
        says=says,
        holds=None if len(known) < len(drawn) else True if low > 0 else False if high < 0 else None,
        measured=f"{value:+.2f} [{low:+.2f}, {high:+.2f}], needed: more than 0; undefined in "
        f"{len(drawn) - len(known)} of {len(drawn)} draws",
        why=f"95 % interval of {DRAWS_OF_IMAGES} bootstrap samples of images; methods and net stay as they are; "
        f"{NOT_CORRECTED}",
        source=source,
        n=n,
    )


def _inverted_signs(accuracies: np.ndarray) -> Claim:
    """Defect D6: what the notebook does to the order of methods changes no correlation; inverting one side does."""
    pairs = combinations(range(len(SETTINGS_OF_MATRIX)), 2)
    mean = accuracies.mean(2)
    both, one = [], []
    for first, second in pairs:
        plain = spearman_of(mean[first], mean[second])
        both.append(abs(spearman_of(mean[first][::-1], mean[second][::-1]) - plain))
        one.append(abs(spearman_of(-mean[first], mean[second]) + plain))
    known = [each for each in (*both, *one) if np.isfinite(each)]  # none where all methods have one accuracy
    largest = max(known, default=np.nan)
    return Claim(
        name="inverted signs",
        kind=IDENTITY,
        says="Reversing the order of methods in both settings, as the notebook does, changes no rank correlation; "
        "inverting the ranks of one inverts its sign.",
        holds=largest <= 1e-12 if known else None,
        measured=f"largest difference {largest:.1e}, at most 1e-12, in {len(known)} of {len(both + one)} pairs",
        why="rounding of double precision; so the printed matrix has agreement of MoRF and LeRF as negative numbers",
        source=f"{PAPER_OF_ROAD}, rank-correlation notebook (defect D6)",
    )
