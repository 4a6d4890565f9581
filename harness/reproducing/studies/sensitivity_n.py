"""Sensitivity-n on four small nets: which explainers are equal, which are exact, and in which order they come
(Ancona et al. 2018, Towards better understanding of gradient-based attribution methods, arXiv:1711.06104)."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies._sensitivity_additive import additive_correlations
from harness.reproducing.studies._sensitivity_claims import (
    WORDS,
    additive_claims,
    equalities,
    nearly_linear,
    orders,
    scores_that_are_exact,
)
from harness.reproducing.studies._sensitivity_curves import (
    DEEP_LIFT,
    INTEGRATED,
    LRP,
    OCCLUSION,
    OVER_ALL,
    TIMES,
    sensitivity_of_net,
    spread_of_net,
)
from harness.reproducing.studies._sensitivity_exact import gaps_of_net
from harness.reproducing.studies._sensitivity_nets import FOUR_NETS, PIXELS, TANH, TANH_BARE
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, figure, panels, tidy

DATA = "XAI-TRIS, rotation, white"
# Colour, width and dashes; wide lines are drawn first, so that lines of equal explainers are all seen.
LINES: dict[str, tuple[str, float, Any]] = {
    DEEP_LIFT: (COLOURS[5], 5.0, "-"),
    INTEGRATED: (COLOURS[4], 3.2, "-"),
    TIMES: (COLOURS[1], 1.6, "-"),
    LRP: (COLOURS[6], 1.2, (0, (2, 2))),
    OCCLUSION: (COLOURS[2], 1.6, "-"),
}
SHOWN_CONTROLS = {"input_magnitude": ("|x|", (0, (1, 1))), "random": ("random", "-")}
PERCENTS = (2, 5, 10, 20, 40, 80)


def study(setting: StudySetting) -> Findings:
    """Equal maps and complete sums, flat curves on an additive function, and sensitivity-n on four nets."""
    sizes = setting.sizes
    of_nets = {"epochs": sizes["epochs"], "images": sizes["images"]}
    subsets = {"sizes": sizes["sizes"], "draws": sizes["draws"]}
    few = {"epochs": sizes["epochs"], "images": sizes["spread_images"], **subsets}
    gaps = _of_all_nets(setting, "gaps", gaps_of_net, FOUR_NETS, **of_nets)
    curves = _of_all_nets(setting, "curves", sensitivity_of_net, FOUR_NETS, **of_nets, **subsets)
    spreads = _of_all_nets(setting, "spread", spread_of_net, (TANH, TANH_BARE), **few, shares=sizes["shares"])
    additive = setting.kept("additive", additive_correlations, **sizes["additive"])
    claims = [
        *equalities(gaps),
        *scores_that_are_exact(curves),
        *additive_claims(additive),
        *orders(curves),
        *nearly_linear(spreads),
    ]
    rows = [*_rows_of_curves(curves), *_rows_of_spreads(spreads)]
    return Findings(numbers_of(rows), claims, {"sensitivity_n": curves_drawn(curves)}, [_of_undefined_scores(curves)])


def _of_all_nets(
    setting: StudySetting, part: str, compute: Callable[..., pd.DataFrame], nets: Any, **given: Any
) -> pd.DataFrame:
    """The tables of a part for each net and each training of it, with the columns net and training."""
    return pd.concat(
        [
            setting.kept(f"{part} {net} {training}", compute, net=net, training=training, **given).assign(
                net=net, training=training
            )
            for net in nets
            for training in range(setting.sizes["trainings"])
        ],
        ignore_index=True,
    )


def _rows_of_curves(curves: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Means over images and trainings; the error is the mean of the trainings' errors, which is not too small."""
    own = curves[(curves["against"] == "") & (curves["images"] > 0)]
    for (net, explainer, n), rows in own.groupby(["net", "explainer", "n"], sort=False):
        accuracy = explainer == "labels"
        yield {
            "setting": "" if accuracy else _setting_of(n),
            "model": net,
            "dataset": DATA,
            "explainer": "" if accuracy else explainer,
            "metric": "accuracy" if accuracy else "sensitivity-n",
            **_mean_and_error(rows),
        }


def _setting_of(n: int) -> str:
    return "mean over n" if n == OVER_ALL else f"n = {n} of {PIXELS}"


def _rows_of_spreads(spreads: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for (net, share, methods, what), rows in spreads.groupby(["net", "share", "methods", "what"], sort=False):
        if what == "spread":
            yield {
                "setting": f"inputs times {share:g}, {methods}",
                "model": net,
                "dataset": DATA,
                "metric": "largest less smallest sensitivity-n of an image",
                **_mean_and_error(rows),
            }


def _mean_and_error(rows: pd.DataFrame) -> dict[str, Any]:
    error = {"spread": rows["error"].mean(), "spread_kind": "standard error"}
    return {"value": rows["mean"].mean(), **error, "n": int(rows["images"].min())}


def _of_undefined_scores(curves: pd.DataFrame) -> str:
    """A sentence on scores of the paper's explainers that do not exist, because nothing varies over the subsets."""
    own = curves[curves["explainer"].isin(WORDS) & (curves["against"] == "") & (curves["n"] != OVER_ALL)]
    lacking = int((curves["images"].max() - own["images"]).sum())
    return (
        f"Of {len(own) * int(curves['images'].max()):,} scores of the five explainers {lacking} are undefined and left "
        "out; the constant map has none at all."
    )


def curves_drawn(curves: pd.DataFrame) -> Figure:
    """Sensitivity-n over n, a panel for each net and a line for each explainer, as the paper draws it."""
    trainings, images = curves["training"].nunique(), int(curves["images"].max())
    drawing = figure(
        6.4,
        "Sensitivity-n of five explainers on four nets",
        f"Mean over {images:,} images and {trainings} training{'s' if trainings > 1 else ''} of each net; controls in "
        "grey. Explainers that are equal lie on one line,\nthe wider ones below.",
    )
    means = curves[(curves["against"] == "") & (curves["n"] != OVER_ALL)].groupby(["net", "explainer", "n"])["mean"]
    means = means.mean()
    for place, (axes, net) in enumerate(
        zip(panels(drawing, 2, 2, 4, sharex=True, sharey=True), FOUR_NETS, strict=True)
    ):
        _draw_net(axes, means[net])
        across = "n, % of the pixels" if place > 1 else ""
        tidy(axes, net, across, "correlation" if place % 2 == 0 else "")
    handles, labels = axes.get_legend_handles_labels()
    handles, labels = handles[::-1], labels[::-1]  # controls last
    drawing.legend(handles, labels, loc="outside right upper", fontsize=7.5, frameon=False, handlelength=3)
    return drawing


def _draw_net(axes: Axes, means: pd.Series) -> None:
    """One panel; ``means`` has the index explainer, n."""
    for explainer, (name, dashes) in SHOWN_CONTROLS.items():
        values = means[explainer]
        axes.plot(100 * values.index / PIXELS, values, color=GREY, linewidth=1, linestyle=dashes, label=name)
    for explainer, (colour, width, dashes) in LINES.items():
        values = means[explainer]
        axes.plot(
            100 * values.index / PIXELS, values, color=colour, linewidth=width, linestyle=dashes, label=WORDS[explainer]
        )
    axes.set_xscale("log")
    axes.set_xticks(PERCENTS, [str(each) for each in PERCENTS])
    axes.minorticks_off()
    axes.set_ylim(-0.05, 1.03)
