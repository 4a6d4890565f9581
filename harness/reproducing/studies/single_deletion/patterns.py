"""Patterns of the poster and controls of the study single_deletion, tested over images and nets."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from harness.reproducing.findings import PATTERN, Claim
from harness.reproducing.studies.single_deletion.crossed_means import (
    CrossedMean,
    all_on_one_side,
    crossed_mean,
    kept_order,
    lies_within,
    mean_in_words,
)
from harness.reproducing.studies.single_deletion.maps import (
    COPIES,
    EVIDENCE,
    LOCAL,
    MANY_COPIES,
    METHODS,
    NOISE,
    TRAINED,
    TUNED,
    WEAK_NOISE,
)
from harness.reproducing.studies.single_deletion.nets import BASE, DEEP, SHALLOW, WITHOUT_BIAS, WITHOUT_NORM
from harness.reproducing.studies.single_deletion.poster import POSTER

CHANCE = 1 / np.sqrt(15)  # the deviation of a rank correlation of 16 cells without ties, by chance
MEAN_MARGIN, DEVIATION_MARGIN = 0.03, 0.02
FAR_BELOW = 0.9  # a score that an exact explanation of an additive net is far above
ABSOLUTE_ON_POSTER = ("IxG", "IxG-SG", "IG", "IG-U")
WITH_GRADIENTS = ("IxG", "IxG-SG", "IG", "IG-SG", "IG-U")  # gradients times the input or its change
OTHERS = tuple(each for each in METHODS if each not in WITH_GRADIENTS)
SPLIT = "; the poster says it of all explainers, and these two groups were made after the scores were seen"
ASKED_HERE = "not of the poster: asked here"
TEST = (
    "95 % intervals from the variances over nets and over images, both paired, by Student's t with one degree of "
    "freedom less than nets; all have to be on this side, so that nothing is corrected; the pattern fails where one, "
    "corrected for their number, is on the other side"
)

Scores = Mapping[str, pd.DataFrame]


def crossed(scores: pd.DataFrame, column: str, stage: str = TUNED) -> np.ndarray:
    """The scores (images, nets) of one explainer."""
    own = scores[scores["stage"] == stage]
    return own.pivot(index="image", columns="seed", values=column).to_numpy(dtype=float)


def pattern_claims(scores: Scores) -> list[Claim]:
    """All patterns: net -> its scores with the columns of ``scores_of_net`` and ``seed``."""
    return [
        *_absolute_claims(scores[BASE]),
        *_smooth_claims(scores[BASE]),
        *_norm_claims(scores),
        _depth_claim(scores),
        *_tuning_claims(scores[BASE]),
        *_random_claims(scores),
        _edge_claim(scores[BASE]),
    ]


def overlap_claim(bag: pd.DataFrame) -> Claim:
    """That evidence which is exact for the logits scores far below 1 where patches reach into other cells."""
    mean = crossed_mean(crossed(bag, EVIDENCE) - FAR_BELOW)
    return Claim(
        name="overlapping patches",
        kind=PATTERN,
        says="Where patches reach into other cells, the evidence by which a bag of patches computes its logit scores "
        f"less than {FAR_BELOW:g}, though it is exact.",
        holds=all_on_one_side([mean], above=False),
        measured=f"the score less {FAR_BELOW:g} is {mean_in_words(mean)}, below 0",
        why="95 % interval from the variances over nets and over images",
        source=f"{POSTER}: BagNet-33 has about 0.8, patches of 33 pixels and cells of 56; here 3 and 2 pixels",
        n=mean.count,
    )


def _paired_differences(
    first: Callable[[str], np.ndarray], second: Callable[[str], np.ndarray], labels: Sequence[str]
) -> dict[str, CrossedMean]:
    """Label -> the mean of the second scores less the first ones, of the nets with the same image and seed."""
    found = {}
    for each in labels:
        before, after = first(each), second(each)
        seeds = min(before.shape[1], after.shape[1])
        found[each] = crossed_mean(after[:, :seeds] - before[:, :seeds])
    return found


def _side_claim(
    name: str,
    says: str,
    found: Mapping[str, CrossedMean],
    above: bool,
    tried: str = "",
    more: str = "",
    source: str = POSTER,
) -> Claim:
    """A claim that all differences are above zero, or below it; with ``tried`` it is not expected to hold."""
    return Claim(
        name=name,
        kind=PATTERN,
        says=says,
        holds=all_on_one_side(list(found.values()), above),
        measured=f"{', '.join(f'{each} {mean_in_words(mean)}' for each, mean in found.items())}; "
        f"needed: each {'above' if above else 'below'} 0{more}",
        why=TEST,
        source=source,
        n=min(each.count for each in found.values()),
        expected=not tried,
        tried=tried,
    )


def _absolute_claims(base: pd.DataFrame) -> list[Claim]:
    plain, absolute = lambda each: crossed(base, each), lambda each: crossed(base, f"{each} abs")
    return [
        _side_claim(
            "absolute values lower",
            f"Absolute values lower the scores of {', '.join(ABSOLUTE_ON_POSTER)}.",
            _paired_differences(plain, absolute, ABSOLUTE_ON_POSTER),
            above=False,
        ),
        _side_claim(
            "absolute values of local maps",
            f"Absolute values also lower the scores of maps without the factor x: {', '.join(LOCAL)}.",
            _paired_differences(plain, absolute, LOCAL),
            above=False,
            tried="nets of 2 blocks with and without batch norm, and 4 convolutions in a row: signed maps score about 0"
            " and 0.2 in all, their sizes 0.3 to 0.6; the sign of a gradient does not say what a zero takes away",
            source=ASKED_HERE,
        ),
    ]


def _smooth_claims(base: pd.DataFrame) -> list[Claim]:
    plain, smooth = lambda each: crossed(base, each), lambda each: crossed(base, f"{each}-SG")
    weak = {"IxG": crossed_mean(crossed(base, "IxG, weak SG") - plain("IxG"))}
    return [
        _side_claim(
            "smoothgrad lowers",
            f"SmoothGrad as released, {COPIES} copies with noise of deviation {NOISE:g}, lowers the scores of IxG and "
            "IG.",
            _paired_differences(plain, smooth, ("IxG", "IG")),
            above=False,
        ),
        _side_claim(
            "weak smoothgrad lowers",
            f"SmoothGrad with {MANY_COPIES} copies and noise of deviation {WEAK_NOISE:g} also lowers the score of IxG.",
            weak,
            above=False,
            tried="noise of 0.3, 0.5 and 1 with 20 copies, 0.5 and 1 with 4 copies: with 20 copies the score rises at "
            "0.3 and falls at 1, so that noise as strong as the image itself, as released, makes the pattern",
            source=ASKED_HERE,
        ),
    ]


def _norm_claims(scores: Scores) -> list[Claim]:
    of = lambda net: lambda each: crossed(scores[net], each)
    both = lambda labels: _paired_differences(of(BASE), of(WITHOUT_BIAS), labels)
    more = "; accuracies " + ", ".join(
        f"{net} {crossed_mean(crossed(scores[net], 'right')).value:.3f}" for net in (BASE, WITHOUT_NORM, WITHOUT_BIAS)
    )
    return [
        _side_claim(
            "batch norm and biases, gradients",
            f"Removing batch norm and biases raises the scores of {', '.join(WITH_GRADIENTS)}.",
            both(WITH_GRADIENTS),
            above=True,
            more=more,
            source=f"{POSTER}{SPLIT}",
        ),
        _side_claim(
            "batch norm and biases, others",
            f"Removing batch norm and biases also raises the scores of {', '.join(OTHERS)}.",
            both(OTHERS),
            above=True,
            tried="nets with and without residual connections, 2, 4 and 8 convolutions in a row, 15 and 20 epochs at "
            "rates of 0.005 and 0.01, so that accuracies are about equal: Grad-CAM falls in all",
            source=f"{POSTER}{SPLIT}",
        ),
        _side_claim(
            "biases alone",
            "Removing biases from the net without batch norm raises the scores of all explainers.",
            _paired_differences(of(WITHOUT_NORM), of(WITHOUT_BIAS), METHODS),
            above=True,
            tried="nets with residual connections, and 4 and 8 convolutions in a row without them: differences are "
            "small and of both signs, as in the poster's numbers for IG",
        ),
    ]


def _depth_claim(scores: Scores) -> Claim:
    of = lambda net: lambda each: crossed(scores[net], each)
    return _side_claim(
        "deeper is lower",
        "A deeper net (4 blocks for 1) has lower scores by all explainers.",
        _paired_differences(of(SHALLOW), of(DEEP), METHODS),
        above=False,
        tried="residual nets of 1, 2 and 4 blocks, and 2, 4 and 8 convolutions in a row with and without batch norm: "
        "the nets of 8 convolutions in a row have lower scores of most, but residual nets, as in the paper, do not",
    )


def _tuning_claims(base: pd.DataFrame) -> list[Claim]:
    pairs = list(combinations(METHODS, 2))
    of = lambda stage: [
        crossed_mean(crossed(base, first, stage) - crossed(base, second, stage)) for first, second in pairs
    ]
    kept, told, reversed_ones = kept_order(of(TRAINED), of(TUNED))
    means = {stage: [crossed_mean(crossed(base, each, stage)).value for each in METHODS] for stage in (TRAINED, TUNED)}
    moved = {each: crossed_mean(crossed(base, each) - crossed(base, each, TRAINED)) for each in METHODS}
    most = max(moved, key=lambda each: abs(moved[each].value))
    words = "; ".join(" and ".join(pairs[number]) for number in reversed_ones) or "none"
    right = crossed_mean(crossed(base, "right_without") - crossed(base, "right_without", TRAINED))
    return [
        Claim(
            name="fine-tuning keeps the order",
            kind=PATTERN,
            says="Fine-tuning does not change the ranking: explainers that are told apart before are so after, in the "
            "same order.",
            holds=kept,
            measured=f"{told} of {len(pairs)} pairs are told apart before; reversed after: {words}; Kendall tau of the "
            f"mean scores {kendalltau(means[TRAINED], means[TUNED]).statistic:.2f}; {most} moves most, "
            f"{mean_in_words(moved[most])}",
            why="before: 95 % intervals corrected for the number of pairs; after: a one-sided 95 % test of each pair, "
            "all of which have to pass, so that nothing is corrected",
            source="the paper fine-tunes since deletions are else out of the domain; whether the ranking changes is "
            "asked here",
            n=len(base[base["stage"] == TUNED]),
        ),
        Claim(
            name="fine-tuning helps without a cell",
            kind=PATTERN,
            says="After fine-tuning the net is right in more of the images without a cell.",
            holds=all_on_one_side([right], above=True),
            measured=f"the share of right classes changes by {mean_in_words(right)}, needed: more than 0",
            why="95 % interval from the variances over nets and over images, paired",
            source=POSTER,
            n=right.count,
        ),
    ]


def _random_claims(scores: Scores) -> list[Claim]:
    values = np.concatenate([crossed(each, "random").ravel() for each in scores.values()])
    count = len(values)
    mean = CrossedMean(float(values.mean()), float(values.std(ddof=1) / np.sqrt(count)), count, count)
    spread = deviation_of(values)
    source = "algebra: a permutation of 16 different ranks has mean 0 and variance 1/15"
    return [
        Claim(
            name="random has mean 0",
            kind=PATTERN,
            says="The control random has the mean score 0.",
            holds=lies_within(mean, 0, MEAN_MARGIN),
            measured=f"{mean_in_words(mean)}, within {MEAN_MARGIN:g} of 0",
            why="95 % interval inside the margin; the noise is drawn anew for each net and image, so that scores are "
            "independent",
            source=source,
            n=count,
        ),
        Claim(
            name="random has the deviation of chance",
            kind=PATTERN,
            says="The deviation of its score over images is 1/sqrt(15).",
            holds=lies_within(spread, CHANCE, DEVIATION_MARGIN),
            measured=f"{mean_in_words(spread)}, within {DEVIATION_MARGIN:g} of {CHANCE:.3f}",
            why="95 % interval, from the fourth moment, inside the margin",
            source=source,
            n=count,
        ),
    ]


def deviation_of(values: np.ndarray) -> CrossedMean:
    """The standard deviation of independent values (n,) with its standard error, from their fourth moment."""
    count, centred = len(values), values - values.mean()
    deviation = float(values.std(ddof=1))
    error = np.sqrt(max((centred**4).mean() - deviation**4, 0) / count) / (2 * deviation)
    return CrossedMean(deviation, float(error), count, count)


def _edge_claim(base: pd.DataFrame) -> Claim:
    return _side_claim(
        "explainers beat edges",
        "All explainers of the poster that are measured here score higher than the control edge.",
        _paired_differences(lambda each: crossed(base, "edge"), lambda each: crossed(base, each), METHODS),
        above=True,
        source=ASKED_HERE,
    )
