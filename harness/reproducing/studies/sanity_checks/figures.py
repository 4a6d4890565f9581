"""The figures of sanity checks: similarity over layers as the paper draws it, labels, and what algebra expects."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reproducing.studies.sanity_checks.claims import layers_of
from harness.reproducing.studies.sanity_checks.nets import (
    DESIGNS,
    LABELS,
    METHODS,
    NOTHING,
    PAPERS_MEASURES,
    WITHOUT_MULTIPLIER,
)
from harness.reproducing.studies.sanity_checks.unrelated import LOG_VARIANCES, expected_correlation
from harness.results.figures import COLOURS, GREY, RULE, figure, looks, panels, tidy

SHOWN = {
    "gradient": "Gradient",
    "smoothgrad": "SmoothGrad",
    "vargrad": "VarGrad",
    "input_x_gradient": "Gradient*Input",
    "integrated_gradients": "Integrated Gradients",
    WITHOUT_MULTIPLIER: "Integrated Gradients without input",
    "guided_backprop": "Guided Backprop",
    "grad_cam": "Grad-CAM",
    "guided_grad_cam": "Guided Grad-CAM",
    "edge": "edge map, |x|, noise",
}
LINEAR = "unrelated linear models,\ntimes the input"
# Of the lines in SHOWN: dashed where the colours begin again; the last is that of the controls.
LOOKS = [
    {"color": colour, "marker": marker, "linestyle": "-" if at < len(COLOURS) else "--"}
    for at, (colour, marker) in enumerate(looks(len(SHOWN) - 1))
] + [{"color": GREY, "marker": "", "linestyle": ":"}]
BAND = {"color": RULE, "alpha": 0.45, "linewidth": 0}


def curves_over_layers(
    similarities: pd.DataFrame,
    chance: Mapping[str, tuple[float, float]],
    linear: Mapping[str, float],
    design: str,
    note: str,
) -> Figure:
    """A panel for each of the paper's measures: a curve for each explainer over the layers that are random.

    ``similarities`` are those of all nets; error bars are standard errors over nets. ``chance`` measure -> the band of
    unrelated maps, ``linear`` measure -> the level of two unrelated linear models times the input.
    """
    drawing = figure(7.2, f"Similarity to the map of the trained net: {design}", note)
    own = similarities[similarities["design"] == design]
    stages = (NOTHING, *layers_of(similarities))
    axes = panels(drawing, 2, 2, 4, sharex=True)
    for panel, measure in zip(axes, PAPERS_MEASURES, strict=True):
        panel.axhspan(*chance[measure], **BAND, label="95 % of unrelated maps")
        panel.axhline(linear[measure], color=GREY, linestyle="-.", linewidth=0.9, label=LINEAR)
        shown = own[own["measure"] == measure]
        for (name, words), look in zip(SHOWN.items(), LOOKS, strict=True):
            _draw_curve_over_layers(panel, shown[shown["explainer"] == name], stages, words, look)
        panel.set_xticks(range(len(stages)), [each.replace("convolution", "conv.") for each in stages], rotation=20)
        panel.set_ylim(min(-0.4, panel.get_ylim()[0]), 1.05)
        tidy(panel, measure, _words_of_layers(design) if panel in axes[2:] else "", "similarity")
    handles, words = axes[0].get_legend_handles_labels()
    drawing.legend(handles, words, loc="outside right center", fontsize=7, frameon=False)
    return drawing


def _words_of_layers(design: str) -> str:
    alone = DESIGNS[design]["mode"] == "independent"
    return "the layer that is random" if alone else "layers that are random, from the output"


def _draw_curve_over_layers(
    panel: Axes, rows: pd.DataFrame, stages: Sequence[str], words: str, look: Mapping[str, str]
) -> None:
    by_stage = rows.groupby("stage", sort=False)["mean"]
    means, errors = by_stage.mean().reindex(stages), by_stage.sem().reindex(stages)
    panel.errorbar(
        range(len(stages)), means, errors, **look, markersize=3.5, linewidth=1.1, elinewidth=0.8, label=words
    )


def bars_of_labels(labels: pd.DataFrame, chance: Mapping[str, tuple[float, float]], note: str) -> Figure:
    """A panel for each measure: two bars for each explainer, for the nets of permuted and of true labels."""
    drawing = figure(5.6, "Similarity to the map of a net that has learnt other labels", note)
    axes = panels(drawing, 2, 2, 4, sharex=True)
    for panel, measure in zip(axes, PAPERS_MEASURES, strict=True):
        panel.axhspan(*chance[measure], **BAND)
        for at, (each, colour) in enumerate(zip(LABELS, COLOURS[1::-1], strict=True)):
            rows = labels[(labels["measure"] == measure) & (labels["labels"] == each)]
            by_name = rows.groupby("explainer")["mean"]
            places = np.arange(len(METHODS)) + 0.4 * (at - 0.5)
            means, errors = by_name.mean().reindex(METHODS), by_name.sem().reindex(METHODS)
            panel.bar(places, means, 0.38, yerr=errors, color=colour, label=f"{each} labels", error_kw={"linewidth": 1})
        panel.set_xticks(range(len(METHODS)), [SHOWN[name] for name in METHODS], rotation=40, ha="right")
        panel.set_ylim(-0.4, 1.05)
        tidy(panel, measure, "", "similarity")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
    return drawing


def multiplier_drawn(magnitudes: pd.DataFrame, note: str) -> Figure:
    """The correlation of log-magnitudes of unrelated linear models over the variance of log|x|, with the formulas."""
    drawing = figure(3.4, "What unrelated linear models have in common through the multiplier", note)
    (panel,) = panels(drawing, 1, 1, 1)
    across = np.linspace(0, magnitudes["variance"].max() * 1.05, 200)
    words = {"normal": "normal weights: V/(V+π²/8)", "uniform": "uniform weights: V/(V+1)"}
    for weights, (colour, marker) in zip(LOG_VARIANCES, looks(len(LOG_VARIANCES)), strict=True):
        panel.plot(across, [expected_correlation(v, weights) for v in across], color=colour, label=words[weights])
        rows = magnitudes[magnitudes["weights"] == weights]
        panel.errorbar(
            rows["variance"],
            rows["mean"],
            1.96 * rows["error"],
            color=colour,
            marker=marker,
            linestyle="",
            markersize=4,
        )
    panel.legend(fontsize=7, frameon=False)
    tidy(panel, "", "V, the variance of log|x|", "correlation of log|a|")
    return drawing
