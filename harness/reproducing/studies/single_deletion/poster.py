"""What the poster says of its own scores, tested on the numbers that were read off its plots: no net is run."""

from collections.abc import Iterable

import pandas as pd

from harness.reproducing.findings import PATTERN, Claim
from harness.reproducing.published import published_numbers

TABLE = "idsds2024"
POSTER = "Hesse et al. 2024, arXiv:2407.11910, NeurIPS poster"
DEPTHS = ("ResNet-18", "ResNet-50", "ResNet-101", "ResNet-152")
NO_NORM, NO_BIAS = "ResNet-50 w/o BatchNorm", "ResNet-50 w/o BatchNorm w/o bias"
SMOOTH = {"IxG": "IxG-SG", "IG": "IG-SG", "Grad-CAM++": "SG-CAM++"}
ABSOLUTE = {"IG-U": "IG-U abs"}


def poster_scores() -> pd.DataFrame:
    """A row for each net and explainer: value and reading error; the mean where it is in several plots."""
    rows = published_numbers(TABLE, {"spread_kind": "reading error"})
    return rows.groupby(["model", "explainer"])[["value", "spread"]].mean()


def poster_claims() -> list[Claim]:
    """Whether the digitised scores have the poster's patterns, pair by pair."""
    scores = poster_scores()
    explainers = scores.index.get_level_values("explainer").unique()
    across = lambda before, after: [((before, each), (after, each)) for each in explainers]
    forms = lambda pairs: [((net, a), (net, b)) for net in scores.index.levels[0] for a, b in pairs.items()]
    deeper = [pair for step in zip(DEPTHS, DEPTHS[1:], strict=False) for pair in across(*step)]
    return [
        _poster_claim(scores, "poster, absolute values", "absolute values lower a score", forms(ABSOLUTE), -1),
        _poster_claim(scores, "poster, SmoothGrad", "SmoothGrad lowers a score", forms(SMOOTH), -1),
        _poster_claim(scores, "poster, depth", "a deeper ResNet has lower scores", deeper, -1),
        _poster_claim(scores, "poster, batch norm", "removing batch norm raises scores", across(DEPTHS[1], NO_NORM), 1),
        _poster_claim(scores, "poster, biases", "removing biases too raises scores", across(NO_NORM, NO_BIAS), 1),
    ]


def _poster_claim(
    scores: pd.DataFrame, name: str, says: str, pairs: Iterable[tuple[tuple[str, str], tuple[str, str]]], sign: int
) -> Claim:
    """A claim about pairs of (net, explainer) that both have a score: the second is higher for sign 1, else lower."""
    known = [pair for pair in pairs if pair[0] in scores.index and pair[1] in scores.index]
    steps = [
        (
            sign * (scores["value"][second] - scores["value"][first]),
            scores["spread"][first] + scores["spread"][second],
            f"{first[1]} ({first[0]} {scores['value'][first]:.3f}, {second[0]} {scores['value'][second]:.3f})",
        )
        for first, second in known
    ]
    clear = [size > error for size, error, _ in steps]
    against = [words for size, error, words in steps if size < -error]
    unclear = len(steps) - sum(clear) - len(against)
    return Claim(
        name=name,
        kind=PATTERN,
        says=f"In the poster's own numbers {says}, in each of {len(steps)} pairs.",
        holds=False if against else (True if all(clear) else None),
        measured=f"{sum(clear)} pairs agree, {unclear} differ by no more than the errors of reading, "
        f"{len(against)} disagree{': ' if against else ''}{'; '.join(against)}",
        why="a pair agrees or disagrees where it differs by more than both errors of reading; each net is one alone, "
        "so that nothing is said of others",
        source=f"{POSTER}, digitised",
        n=len(steps),
        expected=not against,
        tried="nothing can be tried: these are the published plots, and the difference is beyond the errors of reading"
        if against
        else "",
    )
