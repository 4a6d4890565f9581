"""Random layers and permuted labels: which explanations notice, by which similarity (Adebayo et al. 2018, 1810.03292).

Nets for digits of 8 x 8 pixels are trained here. Their layers get new weights from their own initialisers, from the
logits down or one at a time, and each explainer's map is compared with that of the trained net.
"""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies._sanity_claims import (
    FIXED,
    NetValues,
    claims_of_unrelated_models,
    identities_of_nets,
    tendencies_of_nets,
)
from harness.reproducing.studies._sanity_figures import bars_of_labels, curves_over_layers, multiplier_drawn
from harness.reproducing.studies._sanity_nets import (
    DESIGNS,
    LAYERS,
    identities_of_net,
    label_similarities_of_net,
    similarities_of_net,
)
from harness.reproducing.studies._sanity_tests import claims_of_tendencies
from harness.reproducing.studies._sanity_unrelated import (
    LOG_VARIANCES,
    correlation_of_log_magnitudes,
    similarities_of_noise,
    similarities_of_unrelated_models,
    spearman_band,
    spearman_of_unrelated_gradients,
)
from harness.reproducing.study import StudySetting

SIDE = 8  # of the images in pixels
UNITS_OF_MODELS = (16, SIDE * SIDE, 256)  # of the linear models whose gradients are compared
VARIANCES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of log|x|
NET, DATA = "digits_cnn", "digits"
FILES = ("cascading", "re_argmax", "one_layer")  # of the figures of DESIGNS


def study(setting: StudySetting) -> Findings:
    """Cascades, single layers and permuted labels over several nets, and unrelated linear models beside them."""
    nets, pairs = range(setting.sizes["nets"]), setting.sizes["pairs"]
    images = {name: setting.sizes[name] for name in ("images", "epochs")}
    maps = images | {name: setting.sizes[name] for name in ("smoothgrad", "vargrad", "steps")}
    twins = maps | {name: setting.sizes[name] for name in ("labelled", "twin_epochs", "twin_batch")}

    def of_all_nets(name: str, compute: Any, given: dict[str, int]) -> pd.DataFrame:
        return pd.concat([setting.kept(f"{name} {net}", compute, net=net, **given) for net in nets])

    similarities = of_all_nets("random layers of net", similarities_of_net, maps)
    labels = of_all_nets("permuted labels of net", label_similarities_of_net, twins)
    exact = of_all_nets("identities of net", identities_of_net, maps)
    unrelated = of_all_nets("unrelated models on the images of net", similarities_of_unrelated_models, images)
    noise = setting.kept("noise", similarities_of_noise, side=SIDE, pairs=pairs, seed=0)
    gradients = pd.concat(
        setting.kept(f"gradients of {units}", spearman_of_unrelated_gradients, units=units, pairs=pairs, seed=units)
        for units in UNITS_OF_MODELS
    )
    magnitudes = pd.concat(
        setting.kept(
            f"magnitudes {weights} {variance}",
            correlation_of_log_magnitudes,
            variance=variance,
            weights=weights,
            units=setting.sizes["units"],
            pairs=setting.sizes["magnitude_pairs"],
            seed=number,
        )
        for weights in LOG_VARIANCES
        for number, variance in enumerate(VARIANCES)
    )

    of = NetValues(similarities, labels, unrelated)
    claims = [
        *identities_of_nets(similarities, exact, labels),
        *claims_of_unrelated_models(gradients, magnitudes),
        *claims_of_tendencies(tendencies_of_nets(of, SIDE * SIDE), len(nets)),
    ]
    rows = [*_rows_of_layers(similarities), *_rows_of_labels(labels), *_rows_of_unrelated(unrelated, noise, magnitudes)]
    return Findings(
        numbers_of(rows),
        claims,
        _sanity_drawings(similarities, labels, unrelated, noise, magnitudes, images["images"]),
        list(_notes_on_random_layers(similarities, exact, images["images"])),
    )


def _mean_over_replicates(values: pd.Series) -> dict[str, Any]:
    known = values.dropna()
    spread = {"spread": float(known.sem()), "spread_kind": "standard error"}
    return {"value": float(known.mean()), **spread, "n": len(known)}


def _rows_of_layers(similarities: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for (design, name, measure, stage), cell in similarities.groupby(
        ["design", "explainer", "measure", "stage"], sort=False
    ):
        about = {"model": NET, "dataset": DATA, "explainer": name, "metric": measure}
        yield {"setting": f"{design}: {stage}", **about, **_mean_over_replicates(cell["mean"])}


def _rows_of_labels(labels: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for (each, name, measure), cell in labels.groupby(["labels", "explainer", "measure"], sort=False):
        about = {"model": NET, "dataset": DATA, "explainer": name, "metric": measure}
        yield {"setting": f"net of {each} labels", **about, **_mean_over_replicates(cell["mean"])}


def _rows_of_unrelated(
    unrelated: pd.DataFrame, noise: pd.DataFrame, magnitudes: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    for (margin, measure), cell in unrelated.groupby(["margin", "measure"], sort=False):
        about = {"model": "unrelated linear models", "dataset": DATA, "explainer": "input_x_gradient"}
        about |= {"setting": f"black margin of {margin} pixels", "metric": measure}
        yield {**about, **_mean_over_replicates(cell["mean"])}
    for row in noise.itertuples():
        about = {"setting": "two maps of normal noise", "dataset": "8 x 8 noise", "explainer": "random"}
        spread = {"spread": row.error, "spread_kind": "standard error", "n": row.pairs}
        yield {**about, "metric": row.measure, "value": row.mean, **spread}
    for row in magnitudes.itertuples():
        about = {"setting": f"V = {row.variance:g}", "explainer": "input_x_gradient", "metric": "correlation of log|a|"}
        spread = {"spread": row.error, "spread_kind": "standard error", "n": row.pairs}
        yield {**about, "model": f"unrelated linear models, {row.weights} weights", "value": row.mean, **spread}


def _sanity_drawings(
    similarities: pd.DataFrame,
    labels: pd.DataFrame,
    unrelated: pd.DataFrame,
    noise: pd.DataFrame,
    magnitudes: pd.DataFrame,
    images: int,
) -> dict[str, Any]:
    chance = {row.measure: (row.low, row.high) for row in noise.itertuples()}
    band = spearman_band(SIDE * SIDE)
    chance |= {measure: (-band, band) for measure in ("Spearman of |a|", "signed Spearman")}
    nets = similarities["net"].nunique()
    note = (
        f"Means over {nets} nets with {images} images each; bars are standard errors over nets. Grey: 95 % of "
        f"unrelated maps, by\nSpearman ±1.96/sqrt(63), by SSIM and HOG of two maps of noise. none: the map made again "
        f"with the trained weights."
    )
    linear = unrelated[unrelated["margin"] == 0].groupby("measure")["mean"].mean()
    return {
        **{
            file: curves_over_layers(similarities, chance, linear, design, note)
            for file, design in zip(FILES, DESIGNS, strict=True)
        },
        "labels": bars_of_labels(labels, chance, note.partition(" none:")[0]),
        "multiplier": multiplier_drawn(magnitudes, "Dots: mean over pairs of models with 95 % intervals."),
    }


def _notes_on_random_layers(similarities: pd.DataFrame, exact: pd.DataFrame, images: int) -> Iterator[str]:
    accuracy = exact[exact["what"] == "test accuracy"]["value"]
    yield f"The nets classify {accuracy.mean():.1%} of the test digits right, the worst {accuracy.min():.1%}."
    cam = similarities[(similarities["explainer"] == "grad_cam") & (similarities["measure"] == "signed Spearman")]
    cam = cam[cam["stage"].isin(LAYERS)]
    constant = 1 - cam["images"].sum() / (images * len(cam))
    yield (
        f"With random layers, {constant:.0%} of Grad-CAM's maps, and so of Guided Grad-CAM's, have no similarity, as "
        f"Grad-CAM is zero everywhere or the map was so before; they are left out of means and stated here."
    )
    own = similarities[(similarities["design"] == FIXED) & (similarities["stage"] == LAYERS[-1])]
    left = own[(own["explainer"] == "vargrad") & (own["measure"] == "Spearman of |a|")]["mean"]
    yield (
        f"VarGrad, of which the paper's verdict is not known to us, keeps a Spearman correlation of {left.mean():.2f} "
        f"when all layers are random."
    )
