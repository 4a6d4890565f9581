"""The claims of sanity checks: what has to hold exactly, simulations with a known answer, tendencies over nets."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from harness.reproducing.findings import IDENTITY, PATTERN, Claim
from harness.reproducing.studies.sanity_checks.nets import (
    CONTROLS_OF_SANITY,
    DESIGNS,
    LABELS,
    LAYERS,
    NOTHING,
    PAPERS_MEASURES,
    WITHOUT_MULTIPLIER,
)
from harness.reproducing.studies.sanity_checks.unrelated import MARGINS, expected_correlation, spearman_band
from harness.reproducing.studies.shared.tendencies import Bounded, Tendency

PAPER = "Adebayo et al. 2018, arXiv:1810.03292"
SAID = f"{PAPER}, second-hand"
OURS = "ours, beyond what is known of the paper"
OF_LABELS = f"ours, after the verdicts on random layers; the test is of {PAPER}"
HALF = 0.5  # half of the way from unrelated maps, about 0, to the same map, 1
SAME_MAP = 1e-9  # rounding of a similarity in 64-bit floats
SAME_NUMBER = 1e-5  # rounding of a map in 32-bit floats, as a share of its largest value
APART = 1e-3  # the smallest distance of two maps that are not the same, as a share of the norm
NEARLY_SAME = 0.99  # a map with this similarity has changed
CLOSE = 0.05  # two similarities that differ by less are alike
ENOUGH_ACCURACY = 0.95  # of a net on what it was trained on
ERRORS = 4  # standard errors; a normal mean is further off once in 16,000 simulations
MAGNITUDE, SIGNED = "Spearman of |a|", "signed Spearman"
CHANGING = ("gradient", "smoothgrad", "grad_cam")
MULTIPLIED = ("input_x_gradient", "integrated_gradients")
PLAIN_FORM = {"input_x_gradient": "gradient", "integrated_gradients": WITHOUT_MULTIPLIER}
FIXED, FOLLOWING, ALONE = DESIGNS
CASCADES = (FIXED, FOLLOWING)
HIGHER = LAYERS[:2]  # every net has them, and the first and the last
FIRST, LAST = LAYERS[0], LAYERS[-1]


def identities_of_nets(similarities: pd.DataFrame, exact: pd.DataFrame, labels: pd.DataFrame) -> Iterator[Claim]:
    """What holds exactly for every net, from ``similarities_of_net``, ``identities_of_net`` and the twins' tables."""
    algebra = {"kind": IDENTITY, "source": "algebra"}
    first = similarities[similarities["stage"] == NOTHING]
    compared = first.groupby("explainer")["images"].sum()
    yield Claim(
        name="the same weights give the same map",
        says="Before a layer is random, and after all weights are back, the similarity is 1 by every measure.",
        holds=bool(compared.min() > 0 and first["least"].min() >= 1 - SAME_MAP),
        measured=(
            f"largest distance from 1 {1 - first['least'].min():.1g}, at most {SAME_MAP:g}, in "
            f"{first['images'].sum():,} comparisons"
        ),
        why="rounding; constant maps have no similarity and do not count",
        **algebra,
    )
    controls = similarities[similarities["explainer"].isin(CONTROLS_OF_SANITY)]
    yield Claim(
        name="maps without a model never change",
        says="An edge map, |x| and fixed noise have similarity 1 at every layer, in every design, by every measure.",
        holds=bool(controls["images"].min() > 0 and controls["least"].min() >= 1 - SAME_MAP),
        measured=(
            f"largest distance from 1 {1 - controls['least'].min():.1g}, at most {SAME_MAP:g}, in "
            f"{controls['images'].sum():,} comparisons"
        ),
        why="rounding",
        **algebra,
    )
    of = lambda what: exact[exact["what"].isin([what] if isinstance(what, str) else what)]["value"]
    right, stages = of("stages as they should be"), 2 * len(layers_of(similarities))
    yield Claim(
        name="the right layers are random and all come back",
        says="At every stage exactly the chosen layers have other weights; afterwards every weight has its own bits.",
        holds=bool((right == stages).all() and (of("bits that stay") == 1).all()),
        measured=(
            f"stages with the right layers: {int(right.min())} of {stages} in the worst net; nets whose bits are the "
            f"same afterwards: {int(of('bits that stay').sum())} of {len(right)}"
        ),
        why="a cascade keeps what is random, one layer at a time does not",
        **algebra,
    )
    yield Claim(
        name="guided backprop is not the gradient",
        says="Guided Backprop differs from the gradient on every image: its rule has worked.",
        holds=bool(of("guided and plain").min(skipna=False) > APART),
        measured=f"smallest distance {of('guided and plain').min():.2g} of the gradient's norm, more than {APART:g}",
        why="where a rule is not applied the two maps are equal (defect D1)",
        **algebra,
    )
    gap = of(("gradient times input", "mean gradient times input")).max(skipna=False)
    yield Claim(
        name="the multiplier is the input",
        says="Gradient*Input is the input times the gradient, Integrated Gradients the input times the mean gradient.",
        holds=bool(gap <= SAME_NUMBER),
        measured=f"largest difference {gap:.1g} of the largest value, at most {SAME_NUMBER:g}",
        why="rounding in 32-bit floats; the paper's linear case has a wrong factor 1/2 (defect D17)",
        **algebra,
    )
    accuracy = labels.groupby("labels")["accuracy"].min()
    yield Claim(
        name="twins have learnt their labels",
        kind=IDENTITY,
        says="Every net of permuted and of true labels is right on more than 95 % of its training images.",
        holds=bool(accuracy.min() > ENOUGH_ACCURACY),
        measured=", ".join(f"smallest training accuracy with {each} labels {accuracy[each]:.3f}" for each in LABELS),
        why="the paper's condition for data randomisation; the accuracies are exact",
        source=SAID,
    )


def claims_of_unrelated_models(gradients: pd.DataFrame, magnitudes: pd.DataFrame) -> Iterator[Claim]:
    """Independent linear models against what algebra expects of them."""
    means, spreads = [], []
    for row in gradients.itertuples():
        sd = 1 / math.sqrt(row.units - 1)
        means.append((row.mean / sd * math.sqrt(row.pairs), f"{row.mean:.4f} for {row.units} units"))
        spreads.append(((row.sd / sd - 1) * math.sqrt(2 * row.pairs), f"{row.sd:.4f} (1/sqrt(d-1) = {sd:.4f})"))
    worst = max(abs(each) for each, _ in means + spreads)
    yield Claim(
        name="gradients of unrelated linear models",
        kind=PATTERN,
        says="Gradients of independently initialised linear models have Spearman mean 0 and sd 1/sqrt(d-1).",
        holds=bool(worst <= ERRORS),
        measured=(
            f"means {', '.join(text for _, text in means)}; sd {', '.join(text for _, text in spreads)}; at most "
            f"{worst:.1f} standard errors off, {ERRORS} allowed"
        ),
        why="all orders of the ranks are equally likely; standard errors of a mean, and of the sd of normal values",
        source="algebra",
        n=int(gradients["pairs"].sum()),
    )
    about = {
        "normal": ("V/(V+pi^2/8)", "normal weights", "algebra, for the paper's methods with an input multiplier"),
        "uniform": ("V/(V+1)", "torch's uniform weights", "algebra: -log|w| of a uniform w is exponential"),
    }
    for weights, (formula, words, source) in about.items():
        rows = magnitudes[magnitudes["weights"] == weights]
        wanted = np.array([expected_correlation(each, weights) for each in rows["variance"]])
        off = np.abs(rows["mean"] - wanted) / rows["error"]
        pairs = zip(rows["variance"], rows["mean"], wanted, strict=True)
        found = ", ".join(f"V = {v:g}: {mean:.3f} (expected {each:.3f})" for v, mean, each in pairs)
        yield Claim(
            name=f"the multiplier correlates log-magnitudes of unrelated models, {weights}",
            kind=PATTERN,
            says=(
                f"Log-magnitudes of Gradient*Input of unrelated linear models with {words} correlate by {formula}, "
                f"V = Var log|x|."
            ),
            holds=bool(off.max() <= ERRORS),
            measured=f"{found}; at most {off.max():.1f} standard errors off, {ERRORS} allowed",
            why="Var log|w| is the noise, V what both maps share; standard errors over pairs of models",
            source=source,
            n=int(rows["pairs"].sum()),
        )


def layers_of(similarities: pd.DataFrame) -> tuple[str, ...]:
    """The layers in the order in which they become random, from a table of similarities."""
    return tuple(each for each in similarities["stage"].unique() if each != NOTHING)


@dataclass(frozen=True)
class NetValues:
    """Looks up the values of all nets, (nets,), in the tables of the study."""

    similarities: pd.DataFrame
    labels: pd.DataFrame
    unrelated: pd.DataFrame
    layers: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", layers_of(self.similarities))
        keys = {
            "similarities": ["design", "explainer", "measure", "stage"],
            "labels": ["labels", "explainer", "measure"],
            "unrelated": ["margin", "measure"],
        }
        for table, names in keys.items():
            by_net = getattr(self, table).set_index([*names, "net"])["mean"].unstack("net")
            object.__setattr__(self, table, by_net)

    def at(self, design: str, explainer: str, measure: str, stage: str) -> np.ndarray:
        """The similarity of a net's map to that with random weights."""
        return self.similarities.loc[(design, explainer, measure, stage)].to_numpy()

    def twin(self, labels: str, explainer: str, measure: str) -> np.ndarray:
        """The similarity of a net's map to that of its twin of permuted or true labels."""
        return self.labels.loc[(labels, explainer, measure)].to_numpy()

    def linear(self, measure: str, margin: int = 0) -> np.ndarray:
        """The similarity of input x gradient of two unrelated linear models on the net's images."""
        return self.unrelated.loc[(margin, measure)].to_numpy()


def tendencies_of_nets(of: NetValues, units: int, black: bool = False) -> list[Tendency]:
    """What is claimed of the nets: of random layers, of the input as a multiplier, of permuted labels.

    ``black`` says whether the images have a black margin of their own.
    """
    ssim = [_ssim_stays_high(of, black), *([] if black else [_margin_raises_ssim(of)])]
    return [*_about_random_layers(of), *_about_multipliers(of, units), *ssim, *_about_labels(of, units)]


def _about_random_layers(of: NetValues) -> Iterator[Tendency]:
    yield Tendency(
        "gradient, smoothgrad and grad-cam change",
        "When all layers are random, gradient, SmoothGrad and Grad-CAM have similarities below 1/2 by all four "
        "measures, for a fixed class and for the random net's own.",
        _all_below(of, CHANGING, CASCADES, (LAST,)),
        SAID,
    )
    yield Tendency(
        "they change at the first layer",
        "Of a fixed class, random logits alone bring gradient, SmoothGrad and Grad-CAM below 1/2 by all four measures.",
        _all_below(of, CHANGING, (FIXED,), (FIRST,)),
        OURS,
    )
    yield Tendency(
        "guided backprop reacts less to the higher layers",
        "While logits and dense layer become random, Guided Backprop stays more similar than the gradient, by all four "
        "measures, for a fixed class and for the random net's own.",
        _above_another(of, "guided_backprop", ("gradient",)),
        SAID,
    )
    yield Tendency(
        "guided grad-cam reacts less to the higher layers",
        "While logits and dense layer become random, Guided Grad-CAM stays more similar than the gradient and than "
        "Grad-CAM, by all four measures, for a fixed class and for the random net's own.",
        _above_another(of, "guided_grad_cam", ("gradient", "grad_cam")),
        SAID,
    )
    guided = ("guided_backprop", "guided_grad_cam")
    yield Tendency(
        "the guided methods are not invariant",
        "Random logits change Guided Backprop and Guided Grad-CAM by all four measures.",
        _all_below(of, guided, CASCADES, (FIRST,), NEARLY_SAME),
        f"{PAPER}: the authors withdrew the word invariant, seen in their repository",
    )
    yield Tendency(
        "guided backprop reacts more to the lowest layer",
        "A random first convolution alone changes Guided Backprop more than random logits alone, by all four measures.",
        [
            Bounded(
                f"similarity at {FIRST} less that at {LAST}, {measure}",
                of.at(ALONE, "guided_backprop", measure, FIRST) - of.at(ALONE, "guided_backprop", measure, LAST),
                above=0,
            )
            for measure in PAPERS_MEASURES
        ],
        OURS,
    )
    yield Tendency(
        "the random net's own class is more alike",
        "With random logits, signed maps of the class that the random net predicts are more similar than those of the "
        "fixed class: that class is chosen because its random weights agree with the active units.",
        [
            Bounded(
                f"{name}, {measure}, re-argmax less fixed",
                of.at(FOLLOWING, name, measure, FIRST) - of.at(FIXED, name, measure, FIRST),
                above=0,
            )
            for name in ("gradient", "smoothgrad", *MULTIPLIED)
            for measure in (SIGNED, "SSIM")
        ],
        OURS,
    )


def _about_multipliers(of: NetValues, units: int) -> Iterator[Tendency]:
    yield Tendency(
        "with the multiplier magnitudes look insensitive",
        "The Spearman correlation of |a| of Gradient*Input and Integrated Gradients stays above 1/2, and above that of "
        "the same method without the multiplier, at every layer of both cascades.",
        [
            bounded
            for name in MULTIPLIED
            for design in CASCADES
            for layer in of.layers
            for values in [of.at(design, name, MAGNITUDE, layer)]
            for bounded in (
                Bounded(f"{name}, {design}, {layer}", values, above=HALF),
                Bounded(
                    f"{name} less {PLAIN_FORM[name]}, {design}, {layer}",
                    values - of.at(design, PLAIN_FORM[name], MAGNITUDE, layer),
                    above=0,
                ),
            )
        ],
        SAID,
    )
    yield Tendency(
        "their signs are lost at once",
        "With random logits, the signed Spearman correlation of Gradient*Input and Integrated Gradients is within the "
        "band of unrelated maps.",
        [
            Bounded(f"{name}, {FIXED}, {FIRST}", of.at(FIXED, name, SIGNED, FIRST), *_in_band(units))
            for name in MULTIPLIED
        ],
        SAID,
    )
    yield Tendency(
        "without the multiplier they change",
        "Without the multiplier, the Spearman correlation of |a| is below 1/2 at every layer, for a fixed class.",
        [
            Bounded(f"{name}, {layer}", of.at(FIXED, name, MAGNITUDE, layer), below=HALF)
            for name in PLAIN_FORM.values()
            for layer in of.layers
        ],
        "the other setting of the factor multiplier in the protocol",
    )
    yield Tendency(
        "what is left is the multiplier",
        "When all layers are random, the Spearman correlation of |a| of Gradient*Input and Integrated Gradients is "
        "that of two unrelated linear models times the same images.",
        [
            Bounded(
                f"{name} less unrelated linear models, {design}",
                of.at(design, name, MAGNITUDE, LAST) - of.linear(MAGNITUDE),
                above=-CLOSE,
                below=CLOSE,
            )
            for name in MULTIPLIED
            for design in CASCADES
        ],
        OURS,
    )


def _margin_raises_ssim(of: NetValues) -> Tendency:
    return Tendency(
        "a black margin raises SSIM",
        "A black margin, as images of MNIST have, raises the SSIM of unrelated linear models times the input above "
        "1/2, signed and of |a|.",
        [
            bounded
            for measure in ("SSIM", "SSIM of |a|")
            for wide in [of.linear(measure, MARGINS[1])]
            for bounded in (
                Bounded(f"{measure}, 28 x 28 pixels", wide, above=HALF),
                Bounded(f"{measure}, 28 x 28 less 8 x 8 pixels", wide - of.linear(measure), above=0),
            )
        ],
        OURS,
    )


def _ssim_stays_high(of: NetValues, black: bool) -> Tendency:
    """What the paper says of SSIM, which does not show here; ``black`` as in ``tendencies_of_nets``."""

    def range_of(design: str, measure: str) -> str:
        means = [of.at(design, name, measure, layer).mean() for name in MULTIPLIED for layer in of.layers]
        return f"{min(means):.2f} to {max(means):.2f}"

    margin = of.linear("SSIM", MARGINS[1]).mean(), of.linear("SSIM of |a|", MARGINS[1]).mean()
    fills, wider = (
        ("Nine of ten windows of 11 x 11 pixels touch the digit", "48 x 48")
        if black
        else ("A digit fills 8 x 8 pixels, so that no window of SSIM lies in black", "28 x 28")
    )
    return Tendency(
        "ssim stays high with the multiplier",
        "The SSIM of Gradient*Input and Integrated Gradients stays above 1/2 at every layer, for a fixed class.",
        [
            Bounded(f"{name}, {layer}", of.at(FIXED, name, "SSIM", layer), above=HALF)
            for name in MULTIPLIED
            for layer in of.layers
        ],
        SAID,
        expected=False,
        tried=(
            f"the random net's own class: {range_of(FOLLOWING, 'SSIM')}; |a|: {range_of(FIXED, 'SSIM of |a|')}. "
            f"{fills}. In a black margin, {wider} pixels, unrelated linear models times the input have an SSIM of "
            f"{margin[0]:.2f}, and of {margin[1]:.2f} for |a|."
        ),
    )


def _about_labels(of: NetValues, units: int) -> Iterator[Tendency]:
    yield Tendency(
        "gradient, smoothgrad and grad-cam depend on the labels",
        "The maps of gradient, SmoothGrad and Grad-CAM are less similar to those of a net of permuted labels than to "
        "those of a net of true labels from the same first weights, by all four measures.",
        [
            Bounded(
                f"{name}, {measure}, true less permuted",
                of.twin("true", name, measure) - of.twin("permuted", name, measure),
                above=0,
            )
            for name in CHANGING
            for measure in PAPERS_MEASURES
        ],
        OF_LABELS,
    )
    yield Tendency(
        "with the multiplier permuted labels look harmless",
        "To the net of permuted labels, Gradient*Input and Integrated Gradients have a Spearman correlation of |a| "
        "above 1/2, while the signed one is within the band of unrelated maps.",
        [
            bounded
            for name in MULTIPLIED
            for bounded in (
                Bounded(f"{name}, {MAGNITUDE}", of.twin("permuted", name, MAGNITUDE), above=HALF),
                Bounded(f"{name}, {SIGNED}", of.twin("permuted", name, SIGNED), *_in_band(units)),
            )
        ],
        OF_LABELS,
    )
    yield Tendency(
        "guided backprop depends less on the labels",
        "Guided Backprop is more similar to the net of permuted labels than the gradient is, by all four measures.",
        [
            Bounded(
                f"guided_backprop less gradient, {measure}",
                of.twin("permuted", "guided_backprop", measure) - of.twin("permuted", "gradient", measure),
                above=0,
            )
            for measure in PAPERS_MEASURES
        ],
        OF_LABELS,
    )


def _in_band(units: int) -> tuple[float, float]:
    return -spearman_band(units), spearman_band(units)


def _all_below(
    of: NetValues, names: Sequence[str], designs: Sequence[str], layers: Sequence[str], bound: float = HALF
) -> list[Bounded]:
    return [
        Bounded(f"{name}, {measure}, {design}, {layer}", of.at(design, name, measure, layer), below=bound)
        for name in names
        for measure in PAPERS_MEASURES
        for design in designs
        for layer in layers
    ]


def _above_another(of: NetValues, name: str, others: Sequence[str]) -> list[Bounded]:
    return [
        Bounded(
            f"{name} less {other}, {measure}, {design}, {layer}",
            of.at(design, name, measure, layer) - of.at(design, other, measure, layer),
            above=0,
        )
        for other in others
        for measure in PAPERS_MEASURES
        for design in CASCADES
        for layer in HIGHER
    ]
