"""Claims and figure of the entropy test by random weights on ImageNet (Hedström et al. 2024, 2405.02383)."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reproducing.findings import IDENTITY, PATTERN, Claim, Findings
from harness.reproducing.studies.image_protocol.comparisons import ImageComparison, claim_of_comparisons, paired_values
from harness.reproducing.studies.image_protocol.runs import MeasuredImages
from harness.results.figures import figure, looks, panels, tidy
from harness.results.numbers import significant
from harness.results.statistics import interval

ENTROPY, ENTROPY_UNSIGNED = "eMPRT signed", "eMPRT unsigned"
SIMILARITY, SIMILARITY_UNSIGNED = "MPRT signed", "MPRT unsigned"
GUIDED, GRADIENT, FRESH = "guided_backprop", "gradient", "fresh_noise"
BLIND = ("random", "edge", "blurred_random")  # controls whose maps are the same for any weights, and not constant
NOT_RANKED = (*BLIND, "constant", FRESH)
PAPER = "Hedström et al. 2024, arXiv:2405.02383"
ROUNDING = 1e-6
NO_MAP_LEFT = -1.0  # the entropy's rise where random weights leave a map of zeros
NEAR_ZERO = 0.001  # a share of the entropy of uniform noise


def emprt_findings(measured: MeasuredImages) -> Findings:
    """What the protocol finds: means of both scores, signed and unsigned, claims, and the means drawn."""
    scores = measured.first
    claims = [
        _blind_maps_stay(scores),
        _fresh_noise_is_not_zero(scores),
        _constant_is_undefined(scores),
        _guided_is_no_gradient(scores),
        _guided_comes_first(scores),
        _guided_is_kept(scores),
        *_draws_of_weights(scores),
    ]
    return Findings(measured.numbers(), claims, {"means": _means_drawn(measured)}, measured.notes)


def _blind_maps_stay(scores: pd.DataFrame) -> Claim:
    """That maps which do not look at the model have an eMPRT of 0 and an MPRT of 1."""
    own = scores[scores["explainer"].isin(BLIND)]
    expected = own["metric"].map({ENTROPY: 0.0, ENTROPY_UNSIGNED: 0.0, SIMILARITY: 1.0, SIMILARITY_UNSIGNED: 1.0})
    worst = float((own["value"] - expected).abs().max())
    return Claim(
        name="blind maps stay",
        kind=IDENTITY,
        says="Maps that do not look at the model have an eMPRT of 0 and an MPRT of 1, noise included.",
        holds=bool(worst <= ROUNDING),
        measured=f"largest difference {worst:.1e}, at most {ROUNDING:g}, of {', '.join(BLIND)}",
        why="the same map before and after; the published control of exactly 0 is this case (defect D2)",
        source="algebra",
    )


def _fresh_noise_is_not_zero(scores: pd.DataFrame) -> Claim:
    values = paired_values(scores, ENTROPY)[FRESH].dropna().to_numpy()
    (low, high), varies = interval(values), bool((values != 0).all())
    near, far = max(-low, high) <= NEAR_ZERO, max(low, -high) > NEAR_ZERO
    return Claim(
        name="fresh noise varies",
        kind=PATTERN,
        says="Noise that is fresh for every image and every set of weights has an eMPRT near 0, never exactly 0.",
        holds=False if far or not varies else True if near else None,
        measured=f"{values.mean():.1e} [{low:.1e}, {high:.1e}], within {NEAR_ZERO:g} of 0; exactly 0 for "
        f"{int((values == 0).sum())} images",
        why="95 % interval of the mean",
        source=f"{PAPER}: the published control is 0 ± 0 on all nets, seen (defect D2)",
        n=len(values),
    )


def _constant_is_undefined(scores: pd.DataFrame) -> Claim:
    own = scores[scores["explainer"] == "constant"]
    defined = int(own["value"].notna().sum())
    return Claim(
        name="constant maps are undefined",
        kind=IDENTITY,
        says="Constant maps have no eMPRT and no MPRT, and no number is made up for them.",
        holds=len(own) > 0 and defined == 0,
        measured=f"{defined} of {len(own)} scores are defined, 0 needed",
        why="their entropy is 0 and their ranks do not vary",
        source="algebra",
    )


def _guided_is_no_gradient(scores: pd.DataFrame) -> Claim:
    """That the two differ in every image but those in which random weights let no gradient through, for both alike."""
    values = paired_values(scores, ENTROPY)[[GUIDED, GRADIENT]].dropna()
    blank = (values == NO_MAP_LEFT).all(axis=1)
    gaps = (values[GUIDED] - values[GRADIENT]).abs()[~blank]
    return Claim(
        name="guided backprop is no gradient",
        kind=IDENTITY,
        says="Guided Backprop has other scores than Gradient for every image: its rule is applied.",
        holds=len(gaps) > 0 and bool((gaps > ROUNDING).all()),
        measured=f"smallest difference {gaps.min():.1e}, above {ROUNDING:g}, in {len(gaps)} images; in {blank.sum()} "
        "no gradient passes the random weights, so that both maps are 0",
        why="two maps of the same bins have the same entropy only by coincidence",
        source=f"{PAPER}: equal on the LeNets, where a hook never fired, seen (defect D1)",
    )


def _guided_comes_first(scores: pd.DataFrame) -> Claim:
    others = [name for name in dict.fromkeys(scores["explainer"]) if name not in (GUIDED, *NOT_RANKED)]
    return claim_of_comparisons(
        "guided backprop comes first",
        "By eMPRT Guided Backprop is better than all other explainers.",
        scores,
        [ImageComparison(ENTROPY, "higher", GUIDED, each) for each in others],
        f"{PAPER}, eMPRT table: .79 on ResNet-18 and 1.56 on VGG-16, the largest of 11, seen",
    )


def _guided_is_kept(scores: pd.DataFrame) -> Claim:
    return claim_of_comparisons(
        "guided backprop is kept",
        "Guided Backprop changes less with the weights than Gradient, by MPRT: the two scores contradict.",
        scores,
        [ImageComparison(SIMILARITY_UNSIGNED, "higher", GUIDED, GRADIENT)],
        f"{PAPER}, MPRT table: .47 and .20 on ResNet-18, .07 and .04 on VGG-16, seen",
    )


def _draws_of_weights(scores: pd.DataFrame) -> list[Claim]:
    """That the draw of random weights moves means more than the images do, where several draws are measured."""
    shares, words = [], []
    for name in dict.fromkeys(scores["explainer"]):
        own = scores[(scores["explainer"] == name) & (scores["metric"] == ENTROPY)]
        rises = np.stack([np.asarray(each, dtype=np.float64) for each in own["curve"]])
        if name in NOT_RANKED or rises.shape[1] < 2:
            continue
        over_draws = float(rises.mean(0).std(ddof=1))
        over_images = float(rises.mean(1).std(ddof=1) / np.sqrt(len(rises)))
        shares.append(over_draws / over_images)
        words.append(f"{name} {significant(over_draws)} and {significant(over_images)}")
    if not shares:
        return []
    return [
        Claim(
            name="draws of weights",
            kind=PATTERN,
            says="Means differ more between draws of the random weights than a standard error over images tells.",
            holds=True if np.median(shares) > 1 else None,
            measured=f"deviation over draws and standard error over images: {'; '.join(words)}; the median ratio is "
            f"{np.median(shares):.2f}, above 1",
            why="median over explainers; no test, since the draws are few",
            source="algebra",
            n=int(scores["image"].nunique()),
        )
    ]


def _means_drawn(measured: MeasuredImages) -> Figure:
    """Means with 95 % intervals of the explainers, for both scores and each network."""
    numbers = measured.numbers()
    settings = measured.blocks
    names = [name for name in dict.fromkeys(numbers["explainer"]) if name != "constant"]
    drawing = figure(
        1.4 + 0.22 * len(names),
        "Two tests by random weights",
        "Means with 95 % intervals over images; random weights are the same for all explainers.",
    )
    titles = {ENTROPY: "eMPRT, higher is better", SIMILARITY_UNSIGNED: "MPRT of |map|, lower is better"}
    for axes, (metric, title) in zip(panels(drawing, 1, 2, 2, sharey=True), titles.items(), strict=True):
        for shift, (setting, (colour, marker)) in enumerate(zip(settings, looks(len(settings)), strict=True)):
            own = numbers[(numbers["setting"] == setting) & (numbers["metric"] == metric)].set_index("explainer")
            places = np.arange(len(names)) + 0.2 * shift
            values, spread = own["value"].reindex(names), 1.96 * own["spread"].reindex(names)
            axes.errorbar(values, places, xerr=spread, fmt=marker, color=colour, markersize=4, label=setting)
        axes.set_yticks(range(len(names)), names)
        tidy(axes, title, metric.split()[0], "")
    axes.invert_yaxis()
    if len(settings) > 1:
        axes.legend(fontsize=7, frameon=False)
    return drawing
