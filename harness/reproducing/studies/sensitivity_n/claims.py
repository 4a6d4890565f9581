"""The claims of sensitivity-n: what is exact, and orders of explainers (Ancona et al. 2018, arXiv:1711.06104)."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.studies.sensitivity_n.additive import DRAWN, ENUMERATED, EXACT_HERE
from harness.reproducing.studies.sensitivity_n.comparisons import (
    LEVEL,
    all_above,
    all_apart,
    all_within,
    both_answers,
    half_width,
)
from harness.reproducing.studies.sensitivity_n.curves import (
    ALL_FIVE,
    CONSTANT,
    DEEP_LIFT,
    INTEGRATED,
    LIMIT,
    LRP,
    OCCLUSION,
    OVER_ALL,
    PAPERS_EXPLAINERS,
    TIMES,
    WITHOUT_LRP,
)
from harness.reproducing.studies.sensitivity_n.exact import COMPLETE, EPSILONS, MAP_ROUNDING, OF_BOUND, lrp_at
from harness.reproducing.studies.sensitivity_n.nets import (
    FOUR_NETS,
    KIND_OF_NET,
    PIXELS,
    RELU,
    RELU_BARE,
    TANH,
    TANH_BARE,
)

PAPER = "Ancona et al. 2018, arXiv:1711.06104"
PROVED = f"algebra; an equality of {PAPER}"
RECALLED = f"{PAPER}, recalled from memory, not verified"
SAME_MAPS = 1e-5  # of the largest value: maps are in single precision, and LIMIT is not quite 0
SAME_SCORE = 1e-6  # of correlations of outputs in single precision
SAME_SUM = 1e-9  # of correlations in double precision
APART_MAPS = 0.01  # maps that differ by more of the largest value, on average, are not the same
NEAR_SCORE = 0.01  # scores that differ by less are alike
NEAR_CHANCE, NEAR_FLAT = 0.05, 0.02
# Explainers whose maps are the same on a kind of net, by algebra: none of them can be better than another.
SAME_BY_ALGEBRA = {
    RELU: {TIMES, LRP},
    RELU_BARE: {TIMES, LRP, DEEP_LIFT, INTEGRATED},
    TANH: set(),
    TANH_BARE: {LRP, DEEP_LIFT},
}
WORDS = {
    TIMES: "Gradient x Input",
    LRP: "epsilon-LRP",
    DEEP_LIFT: "DeepLIFT",
    INTEGRATED: "Integrated Gradients",
    OCCLUSION: "Occlusion-1",
}
AT_LEVEL = f"each at {100 * LEVEL:g} %: all must pass"
ABOVE = f"paired one-sided t-tests over images, {AT_LEVEL}"
WITHIN = f"two one-sided t-tests over images for each mean, {AT_LEVEL}"
# (claim, net) -> what was tried, for claims that do not hold at full scale.
Tried = Mapping[tuple[str, str], str]
NOT_HERE: Tried = {
    ("Occlusion-1 is worst at large n", TANH_BARE): (
        "three trainings, and the same net with biases, 1,000 images each: Occlusion-1 is lower than epsilon-LRP, "
        "DeepLIFT and Integrated Gradients in all, but Gradient x Input is lower still, by 0.011 to 0.032 in each "
        "training without biases and in two of three with them"
    ),
}


def equalities(gaps: pd.DataFrame) -> Iterator[Claim]:
    """What is equal by algebra, from the tables of ``gaps_of_net`` with the columns net and training."""
    limit = f"epsilon {LIMIT:g}; maps are stored in single precision; a share of the map's largest value"
    falling = ", ".join(
        f"{_of_pair(gaps, lrp_at(epsilon), LRP, RELU, RELU_BARE)['mean'].mean():.1g} at {epsilon:g}"
        for epsilon in EPSILONS
    )
    on_relu = _of_pair(gaps, TIMES, LRP, RELU, RELU_BARE)
    yield _equality(
        "epsilon-LRP is Gradient x Input on ReLU",
        "With ReLU, with biases or without, epsilon-LRP is Gradient x Input as epsilon goes to 0.",
        on_relu,
        f"{limit}; its mean distance from that limit is {falling}",
    )
    yield _equality(
        "epsilon-LRP is DeepLIFT without biases",
        "Without biases, with ReLU or tanh, epsilon-LRP is DeepLIFT (Rescale) from the baseline zero.",
        _of_pair(gaps, LRP, DEEP_LIFT, RELU_BARE, TANH_BARE),
        limit,
    )
    four = [TIMES, LRP, DEEP_LIFT, INTEGRATED]
    pairs = [_of_pair(gaps, a, b, RELU_BARE) for place, a in enumerate(four) for b in four[place + 1 :]]
    yield _equality(
        "all four are one on ReLU without biases",
        "With ReLU and no biases Gradient x Input, epsilon-LRP, DeepLIFT and Integrated Gradients are the same map.",
        pd.concat(pairs),
        limit,
    )
    yield from _whole_changes(gaps)
    yield _needed_conditions(gaps)


def _of_pair(gaps: pd.DataFrame, first: str, second: str, *kinds: str) -> pd.DataFrame:
    """The rows of a pair in either order, of these kinds of nets or of all."""
    pair = gaps["first"].isin((first, second)) & gaps["second"].isin((first, second))
    return gaps[pair & gaps["net"].map(KIND_OF_NET).isin(kinds or FOUR_NETS)]


def _equality(name: str, says: str, rows: pd.DataFrame, why: str) -> Claim:
    return Claim(
        name=name,
        kind=IDENTITY,
        says=says,
        holds=bool(rows["most"].max(skipna=False) <= SAME_MAPS),
        measured=f"largest difference {rows['most'].max():.1e}, at most {SAME_MAPS:g} of the largest value",
        why=f"{why}; {_most_images(rows):,} images",
        source=PROVED,
    )


def _most_images(rows: pd.DataFrame) -> int:
    return int(rows["images"].max())


def _whole_changes(gaps: pd.DataFrame) -> Iterator[Claim]:
    """Completeness, which is sensitivity-N for all N pixels."""
    deep, integrated, share = (
        _of_pair(gaps, DEEP_LIFT, COMPLETE),
        _of_pair(gaps, INTEGRATED, COMPLETE),
        _of_pair(gaps, INTEGRATED, OF_BOUND),
    )
    yield Claim(
        name="DeepLIFT is complete",
        kind=IDENTITY,
        says="On every net DeepLIFT's attributions of all pixels add up to f(x) - f(0): sensitivity-N.",
        holds=bool(deep["most"].max(skipna=False) <= MAP_ROUNDING),
        measured=f"misses at most {deep['most'].max():.1e} of the sum of magnitudes, at most {MAP_ROUNDING:g}",
        why=f"maps are stored in single precision; {_most_images(deep):,} images",
        source=PROVED,
    )
    worst = ", ".join(f"{net} {rows['most'].max():.1e}" for net, rows in integrated.groupby("net", sort=False))
    yield Claim(
        name="Integrated Gradients is complete",
        kind=IDENTITY,
        says="On every net Integrated Gradients of all pixels add up to f(x) - f(0), as far as 100 steps can.",
        holds=bool(share["most"].max(skipna=False) <= 1),
        measured=(
            f"misses at most {100 * share['most'].max():.0f} % of what the bound allows, at most 100 %; "
            f"of the sum of magnitudes: {worst}"
        ),
        why=(
            "bound: the largest weight of the Gauss-Legendre rule times the variation of the slope between 0 and x, "
            f"plus {MAP_ROUNDING:g} of the sum of magnitudes for single precision; {_most_images(share):,} images"
        ),
        source=PROVED,
    )


def _needed_conditions(gaps: pd.DataFrame) -> Claim:
    """That the equalities are no accident of the nets: where a condition is missing, the maps differ."""
    cases = [
        _of_pair(gaps, TIMES, LRP, TANH, TANH_BARE),
        _of_pair(gaps, DEEP_LIFT, LRP, RELU, TANH),
        _of_pair(gaps, TIMES, DEEP_LIFT, RELU, TANH, TANH_BARE),
        _of_pair(gaps, INTEGRATED, DEEP_LIFT, RELU, TANH, TANH_BARE),
    ]
    words = ", ".join(
        f"{WORDS[rows['first'].iloc[0]]} and {WORDS[rows['second'].iloc[0]]} {rows['mean'].min():.2f}" for rows in cases
    )
    rows = pd.concat(cases)
    return Claim(
        name="each condition is needed",
        kind=PATTERN,
        says="Where a condition is missing (tanh in place of ReLU, or biases), these explainers differ.",
        holds=all_above(rows, APART_MAPS),
        measured=f"smallest mean distance by net, as a share of the largest value: {words}; more than {APART_MAPS:g}",
        why=f"{len(rows)} one-sided t-tests over images, {AT_LEVEL}",
        source="follows from the equalities' proofs; not in the paper as recalled",
        n=_most_images(rows),
    )


def scores_that_are_exact(curves: pd.DataFrame) -> Iterator[Claim]:
    """What sensitivity-n has to be on any net, from the tables of ``sensitivity_of_net``."""
    alone = _scores_at(curves, OCCLUSION, 1)
    yield Claim(
        name="Occlusion-1 is exact at n = 1",
        kind=IDENTITY,
        says="On every net and image Occlusion-1 has the sensitivity-1 of 1: it is the fall of the score itself.",
        holds=bool(
            alone["least"].min() >= 1 - SAME_SCORE and (alone["images"] == _images_of_nets(curves, alone)).all()
        ),
        measured=f"smallest correlation 1 - {max(0.0, 1 - alone['least'].min()):.1e}, at least 1 - {SAME_SCORE:g}",
        why=f"outputs are in single precision; {_most_images(alone):,} images, random subsets of one pixel",
        source=PROVED,
    )
    constant = curves[curves["explainer"] == CONSTANT]
    yield Claim(
        name="a constant map has no sensitivity-n",
        kind=IDENTITY,
        says="A constant map has no correlation on any image, and that is counted: its sums do not vary.",
        holds=bool((constant["images"] == 0).all()),
        measured=f"defined on {constant['images'].max():.0f} of {curves['images'].max():,} images, 0 expected",
        why="all subsets of one size have the same sum",
        source="algebra",
    )
    guess = curves[(curves["explainer"] == "random") & (curves["n"] != OVER_ALL)]
    guess = guess[guess["images"] == guess["images"].max()]  # fewer would leave intervals that are too wide to tell
    yield Claim(
        name="guessing scores 0",
        kind=PATTERN,
        says="Random attributions have a mean sensitivity-n of 0 at every n, on every net with so many images.",
        holds=all_within(guess, NEAR_CHANCE),
        measured=f"largest mean {guess['mean'].abs().max():.3f}, less than {NEAR_CHANCE:g} with its interval",
        why=f"{WITHIN}; {len(guess)} means",
        source="algebra",
        n=_most_images(guess),
    )


def _images_of_nets(curves: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """For each of the rows, on how many images its net was measured."""
    return rows["net"].map(curves.groupby("net")["images"].max())


def _scores_at(curves: pd.DataFrame, explainer: str, n: int) -> pd.DataFrame:
    return curves[(curves["explainer"] == explainer) & (curves["against"] == "") & (curves["n"] == n)]


def additive_claims(additive: pd.DataFrame) -> Iterator[Claim]:
    """That a curve of an additive function is flat, from ``additive_correlations``."""
    every, drawn = (additive[additive["subsets"] == each] for each in (ENUMERATED, DRAWN))
    others = every[~every["explainer"].isin(EXACT_HERE)].drop_duplicates("explainer")
    words = ", ".join(f"{WORDS.get(row.explainer, row.explainer)} {row.truth:.3f}" for row in others.itertuples())
    exact = every[every["explainer"].isin(EXACT_HERE)]["truth"].min()
    yield Claim(
        name="an additive function has flat curves",
        kind=IDENTITY,
        says="On an additive function, over all subsets of n, sensitivity-n is Pearson(a, c) for every n below N.",
        holds=bool(every["most"].max(skipna=False) <= SAME_SUM and exact >= 1 - SAME_SCORE),
        measured=(
            f"largest difference {every['most'].max():.1e}, at most {SAME_SUM:g}; mean Pearson(a, c): {words}, and "
            f"1 - {max(0.0, 1 - exact):.0e} for the three whose maps are the contributions"
        ),
        why=f"double precision; c are g(x) - g(0) in closed form, a any map; {every['rows'].max():,} inputs",
        source="algebra",
    )
    means = drawn.rename(columns={"rows": "images"})
    yield Claim(
        name="the registered metric is flat on it",
        kind=PATTERN,
        says="With random subsets the registered metric has the same mean, Pearson(a, c), at every n: no curve bends.",
        holds=all_within(means, NEAR_FLAT),
        measured=f"largest mean difference {means['mean'].abs().max():.4f}, less than {NEAR_FLAT:g} with its interval",
        why=f"{WITHIN}; {len(means)} means",
        source="algebra",
        n=_most_images(means),
    )


def orders(curves: pd.DataFrame, pixels: int = PIXELS, tried: Tried = NOT_HERE) -> Iterator[Claim]:
    """Which explainer is best where, net by net; every training of a net has to show it.

    ``pixels`` is the number in an image; ``tried`` names the claims that do not hold.
    """
    small, largest = int(curves["n"][curves["n"] > 1].min()), int(curves["n"].max())  # at n = 1 occlusion is exact
    for net in curves["net"].unique():
        others = [each for each in PAPERS_EXPLAINERS if each != OCCLUSION]
        yield _place_claim(
            "Occlusion-1 is best at small n",
            net,
            f"On the net {net} Occlusion-1 has the highest sensitivity-n at {_place_of_n(small, pixels)}.",
            [_lead_over(curves, net, OCCLUSION, each, small) for each in others],
            tried,
        )
        yield _place_claim(
            "Occlusion-1 is worst at large n",
            net,
            f"On the net {net} Occlusion-1 has the lowest sensitivity-n at {_place_of_n(largest, pixels)}.",
            [_lead_over(curves, net, each, OCCLUSION, largest) for each in others],
            tried,
        )
        champions = (INTEGRATED, DEEP_LIFT)
        rivals = [
            each for each in (TIMES, LRP, OCCLUSION) if not {each, DEEP_LIFT} <= SAME_BY_ALGEBRA[KIND_OF_NET[net]]
        ]
        yield _place_claim(
            "Integrated Gradients and DeepLIFT are best at large n",
            net,
            f"On the net {net} Integrated Gradients and DeepLIFT have a higher sensitivity-n at "
            f"{_place_of_n(largest, pixels)} "
            f"than {' and '.join(WORDS[each] for each in rivals)}.",
            [_lead_over(curves, net, each, rival, largest) for each in champions for rival in rivals],
            tried,
        )
    for net in (TANH, TANH_BARE):
        yield _separation(curves, net, tried)


def _place_of_n(n: int, pixels: int) -> str:
    return f"n = {n} ({100 * n / pixels:.2g} % of the pixels)"


def _lead_over(curves: pd.DataFrame, net: str, first: str, second: str, n: int) -> pd.DataFrame:
    """The mean lead of the first explainer's scores over the second's at one n, a row for each training of a net."""
    own = curves[(curves["net"] == net) & (curves["n"] == n)]
    straight = own[(own["explainer"] == first) & (own["against"] == second)]
    turned = own[(own["explainer"] == second) & (own["against"] == first)]
    rows = pd.concat([straight, turned.assign(mean=-turned["mean"])])
    return rows.assign(explainer=first, against=second)


def _place_claim(name: str, net: str, says: str, differences: list[pd.DataFrame], tried: Tried) -> Claim:
    rows = pd.concat(differences)
    closest = rows.iloc[int(np.argmin(rows["mean"]))]
    return Claim(
        name=f"{name}: {net}",
        kind=PATTERN,
        says=says,
        holds=all_above(rows),
        measured=(
            f"smallest mean lead {_lead_with_reach(closest)}, of {WORDS[closest['explainer']]} over "
            f"{WORDS[closest['against']]}, more than 0; {_trainings(rows)}"
        ),
        why=ABOVE,
        source=RECALLED,
        n=_most_images(rows),
        **_whether_expected(name, net, tried),
    )


def _lead_with_reach(row: pd.Series) -> str:
    reach = float(half_width(pd.DataFrame([row]))[0])
    return f"{row['mean']:.4f} ± {reach:.4f}"


def _trainings(rows: pd.DataFrame) -> str:
    count = rows["training"].nunique()
    return f"{count} training{'s' if count > 1 else ''}, {len(rows)} test{'s' if len(rows) > 1 else ''}"


def _whether_expected(name: str, net: str, tried: Tried) -> dict[str, bool | str]:
    own = tried.get((name, net), "")
    return {"expected": not own, "tried": own}


def _separation(curves: pd.DataFrame, net: str, tried: Tried) -> Claim:
    rows = _lead_over(curves, net, LRP, TIMES, OVER_ALL)
    return Claim(
        name=f"epsilon-LRP and Gradient x Input separate: {net}",
        kind=PATTERN,
        says=f"On the net {net} the curves of epsilon-LRP and Gradient x Input separate.",
        holds=all_apart(rows, NEAR_SCORE),
        measured=(
            f"epsilon-LRP is higher by {', '.join(f'{each:.3f}' for each in rows['mean'])} on average over n, more "
            f"than {NEAR_SCORE:g}; "
            f"{_trainings(rows)}"
        ),
        why=f"paired two-sided t-tests over images, {AT_LEVEL}",
        source=RECALLED,
        n=_most_images(rows),
        **_whether_expected("separate", net, tried),
    )


def nearly_linear(spreads: pd.DataFrame, tried: Tried = NOT_HERE) -> Iterator[Claim]:
    """What becomes of the differences where tanh hardly bends, from the tables of ``spread_of_net``."""
    least = spreads["share"].min()
    for net, methods in ((TANH_BARE, ALL_FIVE), (TANH, WITHOUT_LRP)):
        spread, fall, score = (_of_spread(spreads, net, methods, what, least) for what in ("spread", "fall", "score"))
        before = _of_spread(spreads, net, methods, "spread", spreads["share"].max())["mean"].mean()
        yield Claim(
            name=f"a nearly linear net brings them together: {net}",
            kind=PATTERN,
            says=f"Where the net {net} is nearly linear, the scores of the explainers come together ({methods}).",
            holds=both_answers(all_within(spread, NEAR_SCORE), all_above(fall)),
            measured=(
                f"largest less smallest score of an image: {before:.3f} on the whole net, {spread['mean'].max():.1e} "
                f"on inputs 1/{round(1 / least)} as large, less than {NEAR_SCORE:g}; the lowest score is then "
                f"{score['mean'].min():.4f}"
            ),
            why=ABOVE,
            source=RECALLED,
            n=_most_images(spread),
            **_whether_expected("nearly linear", net, tried),
        )
    apart = _of_spread(spreads, TANH, ALL_FIVE, "spread", least)
    yield Claim(
        name="biases keep epsilon-LRP apart",
        kind=PATTERN,
        says=f"On the net {TANH} epsilon-LRP stays apart from the other four, however linear the net is.",
        holds=all_above(apart, NEAR_SCORE),
        measured=f"largest less smallest score of an image {apart['mean'].min():.3f}, more than {NEAR_SCORE:g}",
        why=f"one-sided t-tests over images, {AT_LEVEL}",
        source="follows from the algebra: tanh(z) / z is not the slope of tanh where z is a bias",
        n=_most_images(apart),
        **_whether_expected("apart", TANH, tried),
    )


def _of_spread(spreads: pd.DataFrame, net: str, methods: str, what: str, share: float) -> pd.DataFrame:
    chosen = (spreads["net"] == net) & (spreads["methods"] == methods)
    return spreads[chosen & (spreads["what"] == what) & (spreads["share"] == share)]
