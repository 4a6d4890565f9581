"""Claims and figure of RISE (Petsiuk et al. 2018, 1806.07421): deletion and insertion on ImageNet."""

from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from harness.reproducing.findings import IDENTITY, PATTERN, Claim, Findings
from harness.reproducing.studies.image_protocol.comparisons import (
    CONTROLS,
    TEST,
    ImageComparison,
    claim_of_comparisons,
    paired_values,
    stacked_curves,
)
from harness.reproducing.studies.image_protocol.runs import MeasuredImages
from harness.reproducing.studies.shared.mean_tests import LEVEL, T_TEST, mean_above_p, means_differ
from harness.results.figures import figure, looks, panels, tidy
from harness.results.numbers import significant

DIRECTIONS = {"deletion": "lower", "insertion": "higher"}
RISE, RIVAL = "rise", "grad_cam"
PAPER = "Petsiuk et al. 2018, arXiv:1806.07421"
ENOUGH_MASKS = 2_000  # the fewest of the released configurations: maps of much fewer are mostly noise
PUBLISHED_SPREAD, VALIDATION_IMAGES = 0.0006, 50_000  # of insertion on ResNet-50 in Table 1, second-hand
ROUNDING = 1e-6


def rise_findings(measured: MeasuredImages) -> Findings:
    """What RISE's protocol finds: means, claims, and the mean curves."""
    claims = [
        *[_beats(measured, metric, ("random",), "a random map") for metric in DIRECTIONS],
        *[_beats(measured, metric, CONTROLS[1:], "the other controls") for metric in DIRECTIONS],
        _at_least_the_rival(measured),
        _area_is_the_published_one(measured),
        _curves_meet(measured),
        _blur_leaves_evidence(measured),
        _spread_is_of_masks(measured),
        _subset_matters(measured),
    ]
    return Findings(measured.numbers(), claims, {"curves": _mean_curves_drawn(measured)}, measured.notes)


def _beats(measured: MeasuredImages, metric: str, others: tuple[str, ...], named: str) -> Claim:
    comparisons = [ImageComparison(metric, DIRECTIONS[metric], RISE, other) for other in others]
    says = f"RISE is better than {named} by {metric}."
    return claim_of_comparisons(f"rise beats {named} by {metric}", says, measured.first, comparisons, PAPER)


def _at_least_the_rival(measured: MeasuredImages) -> Claim:
    comparisons = [ImageComparison(metric, better, RISE, RIVAL) for metric, better in DIRECTIONS.items()]
    found = claim_of_comparisons(
        "rise beats grad-cam",
        "RISE is better than Grad-CAM by deletion and by insertion.",
        measured.first,
        comparisons,
        f"{PAPER}, abstract: matches or exceeds other methods",
    )
    masks = measured.sizes["blocks"][0]["explainer"][RISE]["samples"]
    if masks >= ENOUGH_MASKS:
        return replace(found, why=f"{TEST}; {masks:,} masks")
    too_few = f"are too few to judge RISE, which has {ENOUGH_MASKS:,} or more"
    return replace(found, holds=None, why=f"{TEST}; {masks:,} masks {too_few}")


def _area_is_the_published_one(measured: MeasuredImages) -> Claim:
    """That the registered area is the sum of the curve, its ends halved, over the number of steps."""
    worst, points = 0.0, set()
    for metric in DIRECTIONS:
        own = measured.first[measured.first["metric"] == metric]
        curves = np.stack([np.asarray(each) for each in own["curve"]])
        areas = (curves.sum(1) - (curves[:, 0] + curves[:, -1]) / 2) / (curves.shape[1] - 1)
        worst = max(worst, float(np.abs(areas - own["value"].to_numpy()).max()))
        points.add(curves.shape[1])
    steps = measured.sizes["blocks"][0]["metric"]["deletion"]["steps"]
    return Claim(
        name="area",
        kind=IDENTITY,
        says="The area is the sum of the probabilities, the first and the last halved, over the number of steps.",
        holds=worst <= ROUNDING and points == {steps + 1},
        measured=f"largest difference {worst:.1e}, at most {ROUNDING:g}; {sorted(points)} points, {steps + 1} needed",
        why="the same sum in double precision; the steps divide the image evenly",
        source=f"{PAPER}, evaluation.py of eclique/RISE, seen",
    )


def _curves_meet(measured: MeasuredImages) -> Claim:
    ends = {metric: stacked_curves(measured.first, metric, RISE) for metric in DIRECTIONS}
    worst = float(np.abs(ends["deletion"][:, 0] - ends["insertion"][:, -1]).max())
    return Claim(
        name="curves meet",
        kind=IDENTITY,
        says="Deletion begins where insertion ends, at the probability of the whole image.",
        holds=worst <= ROUNDING,
        measured=f"largest difference {worst:.1e}, at most {ROUNDING:g}",
        why="the same input, evaluated once",
        source="algebra",
    )


def _blur_leaves_evidence(measured: MeasuredImages) -> Claim:
    """That the blurred image keeps probability which the grey one has not: the two substrates are no substitutes."""
    blurred = stacked_curves(measured.first, "insertion", RISE)[:, 0]
    grey = stacked_curves(measured.first, "deletion", RISE)[:, -1]
    p, p_below = mean_above_p(blurred - grey), mean_above_p(grey - blurred)
    return Claim(
        name="blur leaves evidence",
        kind=PATTERN,
        says="The blurred image, from which insertion starts, has more probability than the grey one of deletion.",
        holds=True if p < 0.01 else False if p_below < 0.01 else None,
        measured=f"mean {blurred.mean():.4f} against {grey.mean():.4f}; p = {significant(p)}, below 0.01",
        why=f"{T_TEST} of paired differences at 1 %",
        source="the kernel of 11 x 11 pixels in evaluation.py of eclique/RISE, seen",
        n=len(blurred),
    )


def _spread_is_of_masks(measured: MeasuredImages) -> Claim:
    """That the published spread is smaller than the sampling error over all images of the validation set."""
    values = paired_values(measured.first, "insertion")[RISE].dropna()
    # The lower end of the 95 % interval of the deviation, for normal scores.
    least = float(values.std(ddof=1) * np.sqrt((len(values) - 1) / stats.chi2.ppf(0.975, len(values) - 1)))
    error = least / np.sqrt(VALIDATION_IMAGES)
    return Claim(
        name="the published spread",
        kind=PATTERN,
        says="The spread printed beside RISE's insertion is no sampling error over images: that is larger.",
        holds=True if error > PUBLISHED_SPREAD else None,
        measured=f"at least {significant(error)} with all {VALIDATION_IMAGES:,} images, above {PUBLISHED_SPREAD:g}",
        why="lower end of the 95 % interval of the deviation over images, over the root of 50,000",
        source=f"{PAPER}, Table 1, second-hand",
        n=len(values),
    )


def _subset_matters(measured: MeasuredImages) -> Claim:
    """That RISE's scores of the first images, all of animals, differ from those of images of all classes."""
    settings = measured.sizes.get("subsets")
    about = {
        "name": "the subset matters",
        "kind": PATTERN,
        "says": "The first 10,000 images, of 200 classes of animals, have other scores than images of all classes.",
        "source": f"{PAPER}: the notebook and Table 1 differ by .045 in insertion, seen and second-hand",
    }
    if not settings:
        return Claim(**about, holds=None, measured="one set of images", why="there is nothing to compare", n=1)
    first, other = (measured.scores[measured.scores["setting"] == each] for each in settings)
    differ, words = [], []
    for metric in DIRECTIONS:
        pair = [paired_values(each, metric)[RISE].dropna().to_numpy() for each in (first, other)]
        differ.append(means_differ(*pair, LEVEL / len(DIRECTIONS)))
        words.append(f"{metric} {pair[0].mean():.3f} and {pair[1].mean():.3f}, {'' if differ[-1] else 'not '}apart")
    return Claim(
        **about,
        holds=True if any(differ) else None,
        measured="; ".join(words),
        why="apart: their intervals, corrected for skewness, do not overlap; both scores together at 5 %",
        n=min(first["image"].nunique(), other["image"].nunique()),
    )


def _mean_curves_drawn(measured: MeasuredImages) -> Figure:
    """The mean curves, as in the paper's figures of deletion and insertion."""
    names = list(dict.fromkeys(measured.first["explainer"]))
    images = measured.first["image"].nunique()
    drawing = figure(3.4, "Probability while pixels are deleted or inserted", f"Means over {images:,} images.")
    for axes, metric in zip(panels(drawing, 1, 2, 2), DIRECTIONS, strict=True):
        for name, (colour, marker) in zip(names, looks(len(names)), strict=True):
            curve = stacked_curves(measured.first, metric, name).mean(0)
            places = np.linspace(0, 1, len(curve))
            axes.plot(places, curve, color=colour, marker=marker, markersize=3, linewidth=1, label=name)
        share = "deleted" if metric == "deletion" else "inserted"
        tidy(axes, f"{metric}, {DIRECTIONS[metric]} is better", f"share of pixels {share}", "probability")
    axes.legend(fontsize=7, frameon=False)
    return drawing
