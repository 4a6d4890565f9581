"""Efficient and smooth sanity checks by random weights on a LeNet for digits (Hedström et al. 2024, arXiv:2405.02383).

On zeros and ones of MNIST, or on the user's MNIST with all ten digits. The net is trained here, so that published
numbers stand beside ours without being comparable.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reproducing.findings import IDENTITY, Claim, Findings, numbers_of
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.emprt_lenet.scores import (
    BINS,
    BLIND_CONTROLS,
    EXPLAINERS_OF_EMPRT,
    FRESH_NOISE,
    KEPT,
    MULTIPLYING,
    RISE,
    SIGNED,
    SMOOTH,
    UNSIGNED,
    facts_of_lenet,
    planted_rises,
    scores_by_random_weights,
)
from harness.reproducing.studies.shared.mnist_nets import digits_of
from harness.reproducing.studies.shared.tendencies import Bounded, Tendency, claims_of_tendencies, with_what_was_tried
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, figure, panels, tidy

PAPER = "Hedström et al. 2024, arXiv:2405.02383"
SEEN_RISES, SEEN_KEPT = f"{PAPER}, eMPRT table of the notebook, seen", f"{PAPER}, MPRT table of the notebook, seen"
ROUNDED = 1e-9  # of entropies and correlations in double precision
DIFFERENT = 1e-3  # of the gradient's norm
NEAR_NOTHING = 0.01  # a share of the entropy of noise
ALIKE = 0.05
METHODS_OF_EMPRT = tuple(EXPLAINERS_OF_EMPRT)[:10]
# Tendency -> what was tried, for those of the paper that do not show here.
NOT_ON_OUR_LENET: dict[str, str] = {}


def study(setting: StudySetting) -> Findings:
    """eMPRT, MPRT and sMPRT of the paper's methods and of controls, what holds on any net, and the paper's orders."""
    sizes, folder = setting.sizes, "" if setting.data is None else str(setting.data.absolute())
    digits = digits_of(folder)  # first, so that files that are missing are told before anything is measured
    of_net = {"folder": folder, "epochs": sizes["epochs"], "images": sizes["images"]}
    scores = setting.kept("scores", scores_by_random_weights, **of_net, draws=sizes["draws"])
    facts = setting.kept("facts", facts_of_lenet, **of_net)
    planted = setting.kept("planted", planted_rises, pairs=sizes["planted"])
    tendencies = with_what_was_tried(list(orders_of_random_weights(scores)), NOT_ON_OUR_LENET)
    claims = [
        *exact_claims_of_emprt(scores, facts, planted),
        *claims_of_tendencies(tendencies, sizes["images"], "images, of one net and one set of random weights"),
    ]
    rows = list(_rows_of_emprt(scores, digits.words))
    accuracy = float(facts[facts["what"] == "accuracy"]["value"].iloc[0])
    notes = [f"The net classifies {accuracy:.1%} of the test images right.", *_undefined_by_method(scores)]
    return Findings(numbers_of(rows), claims, {"emprt": _means_beside_published(rows)}, notes)


def values_by_image(scores: pd.DataFrame, score: str, sign: str) -> pd.DataFrame:
    """A score with a row for each image and a column for each explainer."""
    own = scores[(scores["score"] == score) & (scores["sign"] == sign)]
    return own.pivot(index="image", columns="explainer", values="value")


def exact_claims_of_emprt(scores: pd.DataFrame, facts: pd.DataFrame, planted: pd.DataFrame) -> Iterator[Claim]:
    """What holds on any net."""
    algebra = {"kind": IDENTITY, "source": "algebra"}
    of = lambda what: facts[facts["what"] == what]["value"]
    cases = ", ".join(f"{row.before} to {row.after} bins {row.expected:.3f}" for row in planted.itertuples())
    yield Claim(
        name="planted histograms have the rise in closed form",
        says="Maps with k equally full bins before and m after have an eMPRT of log m / log k - 1.",
        holds=bool(planted["gap"].max() <= ROUNDED),
        measured=f"{cases}; largest difference {planted['gap'].max():.1g}, at most {ROUNDED:g}",
        why="the entropy of k equal shares is log k; the registered metric, double precision",
        **algebra,
    )
    yield Claim(
        name="the size of a map does not count",
        says="A map and four times the map have the same entropy, so that no normalisation changes eMPRT.",
        holds=bool(of("size").max() <= ROUNDED),
        measured=f"largest difference {of('size').max():.1g} nats, at most {ROUNDED:g}",
        why=f"{BINS} bins over the map's own range; a power of two moves no value to another bin",
        **algebra,
    )
    blind = scores[scores["explainer"].isin(BLIND_CONTROLS)]
    gap = (blind["value"] - blind["score"].map({RISE: 0.0, KEPT: 1.0, SMOOTH: 1.0})).abs()
    yield Claim(
        name="maps without a model stay",
        says="Frozen noise, edges and blurred noise have an eMPRT of 0 and an MPRT of 1.",
        holds=bool((gap[blind["score"] != SMOOTH] <= ROUNDED).all()),
        measured=f"largest difference {gap[blind['score'] != SMOOTH].max():.1g}, at most {ROUNDED:g}",
        why="the same map before and after; the published control of exactly 0 is this case (defect D2)",
        **algebra,
    )
    level = scores[scores["explainer"] == "constant"]["value"]
    yield Claim(
        name="a constant map is undefined",
        says="A constant map has no score on any image, and no number is made up for it.",
        holds=bool(level.isna().all()),
        measured=f"{int(level.notna().sum())} of {len(level)} scores are defined, 0 needed",
        why="its entropy is 0 and its ranks do not vary",
        **algebra,
    )
    yield Claim(
        name="guided backprop is not the gradient here",
        says="Guided Backprop differs from the gradient on every image: its rule has worked.",
        holds=bool(of("guided and plain").min() > DIFFERENT),
        measured=f"smallest distance {of('guided and plain').min():.2g} of the norm, above {DIFFERENT:g}",
        why="in the paper's tables for LeNet both rows agree to six digits: its net calls ReLU as a function (D1)",
        kind=IDENTITY,
        source=f"{SEEN_RISES}: .216 for both",
    )
    fresh = values_by_image(scores, RISE, SIGNED)[FRESH_NOISE]
    yield Claim(
        name="fresh noise is never exactly 0",
        says="Noise that is drawn anew for every image and for every set of weights has no eMPRT of exactly 0.",
        holds=bool((fresh != 0).all() and fresh.notna().all()),
        measured=f"exactly 0 on {int((fresh == 0).sum())} of {len(fresh)} images, 0 needed; mean {fresh.mean():.1e}",
        why="two draws have the same entropy only by coincidence; the published control is 0 on every image (D2)",
        kind=IDENTITY,
        source=f"{SEEN_RISES}: 0 with a deviation of 0",
    )


def _above_by_image(scores: pd.DataFrame, score: str, sign: str, first: str, second: str) -> Bounded:
    values = values_by_image(scores, score, sign)
    return Bounded(f"{first} less {second}, {score} {sign}", (values[first] - values[second]).to_numpy(), above=0)


def orders_of_random_weights(scores: pd.DataFrame) -> Iterator[Tendency]:
    """The orders of the paper's tables for LeNet, and of controls."""
    rises, kept = values_by_image(scores, RISE, SIGNED), values_by_image(scores, KEPT, UNSIGNED)
    yield Tendency(
        "fresh noise is near 0",
        "Fresh noise has a mean eMPRT near 0.",
        [Bounded("mean eMPRT", rises[FRESH_NOISE].to_numpy(), above=-NEAR_NOTHING, below=NEAR_NOTHING)],
        "algebra: both maps have the same distribution",
    )
    yield Tendency(
        "the gradient rises more than what contains the input",
        "By eMPRT the gradient is above IG, LRP-epsilon, GradientSHAP and InputXGradient.",
        [_above_by_image(scores, RISE, SIGNED, "Gradient", name) for name in MULTIPLYING],
        f"{SEEN_RISES}: .216 beside .020 to .022",
    )
    yield Tendency(
        "smoothgrad rises like the gradient",
        "By eMPRT SmoothGrad is above IG, LRP-epsilon, GradientSHAP and InputXGradient, too.",
        [_above_by_image(scores, RISE, SIGNED, "SmoothGrad", name) for name in MULTIPLYING],
        f"{SEEN_RISES}: .200 beside .020 to .022",
    )
    yield Tendency(
        "what contains the input is kept",
        "By MPRT of magnitudes IG, LRP-epsilon, GradientSHAP and InputXGradient stay more similar than the gradient.",
        [_above_by_image(scores, KEPT, UNSIGNED, name, "Gradient") for name in MULTIPLYING],
        f"{SEEN_KEPT}: .75 beside .04",
    )
    yield Tendency(
        "what contains the input is alike",
        "By MPRT of magnitudes IG, LRP-epsilon and GradientSHAP differ from InputXGradient by less than 0.05.",
        [
            Bounded(
                f"{name} less InputXGradient, {KEPT} {UNSIGNED}",
                (kept[name] - kept["InputXGradient"]).to_numpy(),
                above=-ALIKE,
                below=ALIKE,
            )
            for name in MULTIPLYING[:3]
        ],
        f"{SEEN_KEPT}: .751 to .752",
    )
    yield Tendency(
        "lrp-z+ is kept most",
        "By MPRT of magnitudes LRP-z+ stays more similar than every other method.",
        [
            _above_by_image(scores, KEPT, UNSIGNED, "LRP-z+", name)
            for name in METHODS_OF_EMPRT
            if name not in ("LRP-z+", "Grad-CAM")
        ],
        f"{SEEN_KEPT}: .91, the next .75; without Grad-CAM, whose map is constant on some images",
    )
    yield Tendency(
        "guided backprop is kept more than the gradient",
        "By MPRT of magnitudes Guided Backprop stays more similar than the gradient.",
        [_above_by_image(scores, KEPT, UNSIGNED, "Guided Backprop", "Gradient")],
        "ours: the paper's row is the gradient's on this net (D1); .47 beside .20 on its ResNet-18",
    )


def _rows_of_emprt(scores: pd.DataFrame, words: str) -> Iterator[dict[str, Any]]:
    for (name, score, sign), rows in scores.groupby(["explainer", "score", "sign"], sort=False):
        values = rows["value"].dropna()
        yield {
            "setting": sign,
            "model": "LeNet, trained here",
            "dataset": words,
            "explainer": name,
            "metric": score,
            "value": float(values.mean()),
            "spread": float(values.std(ddof=1)),
            "spread_kind": "sd over samples",
            "n": len(values),
        }


def _undefined_by_method(scores: pd.DataFrame) -> Iterator[str]:
    own = scores[scores["explainer"].isin(METHODS_OF_EMPRT) & scores["value"].isna()]
    for (name, score, sign), rows in own.groupby(["explainer", "score", "sign"], sort=False):
        yield f"{name} has no {score} ({sign}) on {len(rows)} images, where it is not defined, as for a constant map."


def _means_beside_published(rows: list[dict[str, Any]]) -> Figure:
    """A panel for each score: our mean with its deviation for each method, beside the paper's."""
    drawing = figure(
        4.6,
        "Scores by random weights on a LeNet",
        "Bars: ours with standard deviations over images, by sign. Hollow dots: the paper's, of other weights.\n"
        "Its Guided Backprop is the gradient (D1), its control the same noise twice (D2).",
    )
    ours = pd.DataFrame(rows).set_index(["metric", "setting", "explainer"])[["value", "spread"]].sort_index()
    names = [*METHODS_OF_EMPRT, FRESH_NOISE]
    places = np.arange(len(names))
    for axes, score in zip(panels(drawing, 1, 2, 2, sharey=True), (RISE, KEPT), strict=True):
        for at, sign in enumerate((SIGNED, UNSIGNED)):
            own = ours.loc[(score, sign)].reindex(names)
            axes.barh(places + 0.4 * (at - 0.5), own["value"], 0.38, xerr=own["spread"], color=COLOURS[at], label=sign)
        theirs = published_numbers("emprt2024", {"dataset": "MNIST test", "metric": score}).set_index("explainer")
        points = theirs["value"].reindex(names)
        axes.scatter(points, places, s=26, facecolor="none", edgecolor="black", zorder=3, label="published")
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_yticks(places, names)
        axes.set_ylim(len(names) - 0.4, -0.6)  # the first one on top
        tidy(axes, score, score.partition(" (")[0], "")
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside right upper", fontsize=7.5, frameon=False)
    return drawing
