"""Claims and figure of the single deletion score on fine-tuned networks (Hesse et al. 2024, 2407.11910)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from harness.reproducing.findings import IDENTITY, PATTERN, Claim, Findings
from harness.reproducing.studies.image_protocol.comparisons import (
    TEST,
    ImageComparison,
    claim_of_comparisons,
    compared_images,
    paired_values,
)
from harness.reproducing.studies.image_protocol.runs import MeasuredImages
from harness.reproducing.studies.shared.mean_tests import T_TEST, mean_differs_p
from harness.results.figures import GREY, figure, looks, panels, tidy
from harness.results.numbers import significant

IDSDS = "IDSDS"
DROPS = "drops"  # the deletions themselves as an explainer
PAPER = "Hesse et al. 2024, arXiv:2407.11910"
PATCHES = 16
NULL_DEVIATION = 1 / np.sqrt(PATCHES - 1)  # of a Spearman correlation of 16 independent numbers
ROUNDING = 1e-6
# That the first is lower than the second.
ABSOLUTE = (("IxG abs", "IxG"), ("IG-U abs", "IG-U"))
SMOOTHED = (("IxG-SG", "IxG"), ("IG-SG", "IG"))
DEPTHS = ("ResNet-18", "ResNet-50", "ResNet-101", "ResNet-152")
COMPARED_BY_DEPTH = ("IG", "XGrad-CAM", "RISE")
BETTER = ("IG", "Grad-CAM")


def idsds_findings(measured: MeasuredImages) -> Findings:
    """What the protocol finds: mean correlations with counts of undefined ones, claims, and the means drawn."""
    scores = measured.first
    claims = [
        _drops_score_one(scores),
        _random_is_null(scores),
        _constants_are_counted(scores),
        _lower(scores, ABSOLUTE, "absolute values lower", "Taking the absolute value of a map lowers its score"),
        _lower(scores, SMOOTHED, "noise lowers", "Averaging maps over noisy inputs lowers their score"),
        _beats_random(scores),
        _deeper_is_lower(measured),
    ]
    return Findings(measured.numbers(), claims, {"scores": _scores_drawn(measured)}, measured.notes)


def _drops_score_one(scores: pd.DataFrame) -> Claim:
    values = paired_values(scores, IDSDS)[DROPS].dropna()
    worst = float((values - 1).abs().max()) if len(values) else float("nan")
    return Claim(
        name="drops score one",
        kind=IDENTITY,
        says="The drops of the logit themselves, as a map, score 1 for every image.",
        holds=bool(worst <= 1e-2) and float((values - 1).abs().median()) <= ROUNDING,
        measured=f"largest difference {worst:.1e}, at most 0.01, and {ROUNDING:g} for half of the images",
        why="occlusion by the same 4 x 4 patches; drops that differ by rounding alone may change places",
        source="algebra",
    )


def _random_is_null(scores: pd.DataFrame) -> Claim:
    """That random maps have the mean 0 and the deviation of independent ranks."""
    values = paired_values(scores, IDSDS)["random"].dropna().to_numpy()
    count = len(values)
    p_mean = mean_differs_p(values)
    ratio = (count - 1) * values.var(ddof=1) / NULL_DEVIATION**2
    p_deviation = float(2 * min(stats.chi2.cdf(ratio, count - 1), stats.chi2.sf(ratio, count - 1)))
    least = min(p_mean, p_deviation)
    return Claim(
        name="random is null",
        kind=PATTERN,
        says="Random maps score 0 on average, with the deviation of independent ranks, .258, between images.",
        holds=least >= 0.005,
        measured=f"mean {values.mean():.3f} (p = {significant(p_mean)}), deviation {values.std(ddof=1):.3f} "
        f"(p = {significant(p_deviation)}); both p at least 0.005",
        why=f"{T_TEST} and chi-squared test, together at 1 %",
        source="algebra: the variance of Spearman's correlation of 16 numbers is 1/15",
        n=count,
    )


def _constants_are_counted(scores: pd.DataFrame) -> Claim:
    values = scores[(scores["explainer"] == "constant") & (scores["metric"] == IDSDS)]["value"]
    defined = int(values.notna().sum())
    return Claim(
        name="constants are counted",
        kind=IDENTITY,
        says="A constant map has no rank correlation: it is counted as undefined, and enters no mean.",
        holds=len(values) > 0 and defined == 0,
        measured=f"{len(values) - defined} of {len(values)} images are counted as undefined, all needed",
        why="ranks of equal numbers do not vary; in the released code one makes the mean NaN (defect D7)",
        source="algebra",
    )


def _lower(scores: pd.DataFrame, pairs: tuple[tuple[str, str], ...], name: str, says: str) -> Claim:
    """That in each pair that is measured the first explainer has a lower score than the second."""
    measured = set(scores["explainer"])
    known = [pair for pair in pairs if set(pair) <= measured]
    shown = ", ".join(f"{first} and {second}" for first, second in known)
    comparisons = [ImageComparison(IDSDS, "lower", *pair) for pair in known]
    return claim_of_comparisons(name, f"{says} ({shown}).", scores, comparisons, f"{PAPER}, poster, digitised")


def _beats_random(scores: pd.DataFrame) -> Claim:
    known = [each for each in BETTER if each in set(scores["explainer"])]
    return claim_of_comparisons(
        "explainers beat random",
        f"{' and '.join(known)} score higher than random maps.",
        scores,
        [ImageComparison(IDSDS, "higher", each, "random") for each in known],
        f"{PAPER}, poster: .20 and .24 on ResNet-50, seen",
    )


def _deeper_is_lower(measured: MeasuredImages) -> Claim:
    """That scores fall with the depth of a ResNet, where several depths are measured."""
    about = {
        "name": "deeper is lower",
        "kind": PATTERN,
        "says": "The deeper a ResNet, the lower its explainers score.",
        "source": f"{PAPER}, poster, digitised",
    }
    images = int(measured.first["image"].nunique())
    scores = measured.scores
    models = scores.loc[scores["setting"].isin(DEPTHS), "model"].unique()
    if len(models) < len(DEPTHS):
        return Claim(**about, holds=None, measured="one network", why="there is no other depth", n=images)
    verdicts, words = [], []
    for name in COMPARED_BY_DEPTH:
        own = scores[(scores["explainer"] == name) & (scores["metric"] == IDSDS) & scores["setting"].isin(DEPTHS)]
        # The depths stand where explainers usually do: their scores of one image are a pair.
        by_depth = own.assign(explainer=own["setting"])
        pairs = zip(DEPTHS[1:], DEPTHS, strict=False)
        holds, told, images = compared_images(by_depth, [ImageComparison(IDSDS, "lower", *pair) for pair in pairs])
        verdicts.append(holds)
        words.append(f"{name}: {told}")
    holds = False if False in verdicts else None if None in verdicts else True
    return Claim(**about, holds=holds, measured="; ".join(words), why=f"{TEST}, for each explainer", n=images)


def _scores_drawn(measured: MeasuredImages) -> Figure:
    """Mean scores with 95 % intervals, an explainer a row and a network a mark, as on the poster."""
    numbers = measured.numbers()
    numbers = numbers[(numbers["metric"] == IDSDS) & numbers["value"].notna()]
    settings = measured.blocks
    order = numbers[numbers["setting"] == settings[0]].sort_values("value", ascending=False)["explainer"]
    names = list(order)
    drawing = figure(
        1.4 + 0.24 * len(names),
        "Rank correlation with single deletions",
        f"Means with 95 % intervals over images; {DROPS} are the deletions themselves.",
    )
    (axes,) = panels(drawing, 1, 1, 1)
    axes.axvline(0, color=GREY, linewidth=0.6)
    for shift, (setting, (colour, marker)) in enumerate(zip(settings, looks(len(settings)), strict=True)):
        own = numbers[numbers["setting"] == setting].set_index("explainer")
        places = np.arange(len(names)) + 0.6 * shift / len(settings)
        values, spread = own["value"].reindex(names), 1.96 * own["spread"].reindex(names)
        axes.errorbar(values, places, xerr=spread, fmt=marker, color=colour, markersize=4, label=setting)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    tidy(axes, "", "mean Spearman correlation over 16 patches", "")
    if len(settings) > 1:
        axes.legend(fontsize=7, frameon=False)
    return drawing
