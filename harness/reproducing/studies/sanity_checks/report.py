"""The parts of a study of sanity checks, its rows of numbers, figures and notes, for any nets and images."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from harness.reproducing.studies.sanity_checks.claims import FIXED, LAST
from harness.reproducing.studies.sanity_checks.figures import bars_of_labels, curves_over_layers
from harness.reproducing.studies.sanity_checks.nets import DESIGNS, NOTHING, SanityBench
from harness.reproducing.studies.sanity_checks.unrelated import (
    LOG_VARIANCES,
    correlation_of_log_magnitudes,
    spearman_band,
    spearman_of_unrelated_gradients,
)
from harness.reproducing.study import StudySetting

UNITS_OF_MODELS = (16, 64, 256)  # of the linear models whose gradients are compared
VARIANCES = (0.25, 0.5, 1.0, 2.0, 4.0)  # of log|x|
FILES = ("cascading", "re_argmax", "one_layer")  # of the figures of DESIGNS


def of_numbered_nets(
    setting: StudySetting, name: str, compute: Callable[..., pd.DataFrame], nets: int, **given: Any
) -> pd.DataFrame:
    """The tables of a part for each net by its number."""
    return pd.concat([setting.kept(f"{name} {net}", compute, net=net, **given) for net in range(nets)])


def simulated_models(setting: StudySetting) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What unrelated linear models have in common, drawn at random: gradients, and log-magnitudes times the input."""
    sizes = setting.sizes
    gradients = pd.concat(
        setting.kept(
            f"gradients of {units}", spearman_of_unrelated_gradients, units=units, pairs=sizes["pairs"], seed=units
        )
        for units in UNITS_OF_MODELS
    )
    magnitudes = pd.concat(
        setting.kept(
            f"magnitudes {weights} {variance}",
            correlation_of_log_magnitudes,
            variance=variance,
            weights=weights,
            units=sizes["units"],
            pairs=sizes["magnitude_pairs"],
            seed=number,
        )
        for weights in LOG_VARIANCES
        for number, variance in enumerate(VARIANCES)
    )
    return gradients, magnitudes


def _mean_over_replicates(values: pd.Series) -> dict[str, Any]:
    known = values.dropna()
    spread = {"spread": float(known.sem()), "spread_kind": "standard error"}
    return {"value": float(known.mean()), **spread, "n": len(known)}


def rows_of_random_layers(similarities: pd.DataFrame, bench: SanityBench) -> Iterator[dict[str, Any]]:
    for (design, name, measure, stage), cell in similarities.groupby(
        ["design", "explainer", "measure", "stage"], sort=False
    ):
        about = {"model": bench.model, "dataset": bench.data, "explainer": name, "metric": measure}
        yield {"setting": f"{design}: {stage}", **about, **_mean_over_replicates(cell["mean"])}


def rows_of_label_twins(labels: pd.DataFrame, bench: SanityBench) -> Iterator[dict[str, Any]]:
    for (each, name, measure), cell in labels.groupby(["labels", "explainer", "measure"], sort=False):
        about = {"model": bench.model, "dataset": bench.data, "explainer": name, "metric": measure}
        yield {"setting": f"net of {each} labels", **about, **_mean_over_replicates(cell["mean"])}


def rows_of_unrelated_models(
    unrelated: pd.DataFrame, noise: pd.DataFrame, bench: SanityBench
) -> Iterator[dict[str, Any]]:
    for (margin, measure), cell in unrelated.groupby(["margin", "measure"], sort=False):
        about = {"model": "unrelated linear models", "dataset": bench.data, "explainer": "input_x_gradient"}
        about |= {"setting": f"black margin of {margin} pixels", "metric": measure}
        yield {**about, **_mean_over_replicates(cell["mean"])}
    for row in noise.itertuples():
        about = {
            "setting": "two maps of normal noise",
            "dataset": f"{bench.side} x {bench.side} noise",
            "explainer": "random",
        }
        spread = {"spread": row.error, "spread_kind": "standard error", "n": row.pairs}
        yield {**about, "metric": row.measure, "value": row.mean, **spread}


def rows_of_magnitudes(magnitudes: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Correlations of log-magnitudes of unrelated linear models."""
    for row in magnitudes.itertuples():
        about = {"setting": f"V = {row.variance:g}", "explainer": "input_x_gradient", "metric": "correlation of log|a|"}
        spread = {"spread": row.error, "spread_kind": "standard error", "n": row.pairs}
        yield {**about, "model": f"unrelated linear models, {row.weights} weights", "value": row.mean, **spread}


def sanity_drawings(
    similarities: pd.DataFrame,
    labels: pd.DataFrame,
    unrelated: pd.DataFrame,
    noise: pd.DataFrame,
    images: int,
    bench: SanityBench,
) -> dict[str, Any]:
    chance = {row.measure: (row.low, row.high) for row in noise.itertuples()}
    band = spearman_band(bench.side**2)
    chance |= {measure: (-band, band) for measure in ("Spearman of |a|", "signed Spearman")}
    nets = similarities["net"].nunique()
    note = (
        f"Means over {nets} nets with {images} images each; bars are standard errors over nets. Grey: 95 % of "
        f"unrelated maps, by\nSpearman ±1.96/sqrt({bench.side**2 - 1}), by SSIM and HOG of two maps of noise. none: "
        f"the map made again with the trained weights."
    )
    linear = unrelated[unrelated["margin"] == 0].groupby("measure")["mean"].mean()
    return {
        **{
            file: curves_over_layers(similarities, chance, linear, design, note)
            for file, design in zip(FILES, DESIGNS, strict=True)
        },
        "labels": bars_of_labels(labels, chance, note.partition(" none:")[0]),
    }


def notes_on_random_layers(similarities: pd.DataFrame, exact: pd.DataFrame, images: int) -> Iterator[str]:
    accuracy = exact[exact["what"] == "test accuracy"]["value"]
    yield f"The nets classify {accuracy.mean():.1%} of the test images right, the worst {accuracy.min():.1%}."
    cam = similarities[(similarities["explainer"] == "grad_cam") & (similarities["measure"] == "signed Spearman")]
    cam = cam[cam["stage"] != NOTHING]
    constant = 1 - cam["images"].sum() / (images * len(cam))
    yield (
        f"With random layers, {constant:.0%} of Grad-CAM's maps, and so of Guided Grad-CAM's, have no similarity, as "
        f"Grad-CAM is zero everywhere or the map was so before; they are left out of means and stated here."
    )
    own = similarities[(similarities["design"] == FIXED) & (similarities["stage"] == LAST)]
    left = own[(own["explainer"] == "vargrad") & (own["measure"] == "Spearman of |a|")]["mean"]
    yield (
        f"VarGrad, of which the paper's verdict is not known to us, keeps a Spearman correlation of {left.mean():.2f} "
        f"when all layers are random."
    )
