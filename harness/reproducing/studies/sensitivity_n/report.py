"""The parts of a study of sensitivity-n, its rows of numbers and its figure, for any nets and images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reproducing.studies.sensitivity_n.claims import WORDS
from harness.reproducing.studies.sensitivity_n.curves import (
    DEEP_LIFT,
    INTEGRATED,
    LRP,
    OCCLUSION,
    OVER_ALL,
    TIMES,
)
from harness.reproducing.studies.sensitivity_n.nets import SENSITIVITY_BENCHES, SensitivityBench
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, figure, panels, tidy

# Colour, width and dashes; wide lines are drawn first, so that lines of equal explainers are all seen.
LINES: dict[str, tuple[str, float, Any]] = {
    DEEP_LIFT: (COLOURS[5], 5.0, "-"),
    INTEGRATED: (COLOURS[4], 3.2, "-"),
    TIMES: (COLOURS[1], 1.6, "-"),
    LRP: (COLOURS[6], 1.2, (0, (2, 2))),
    OCCLUSION: (COLOURS[2], 1.6, "-"),
}
SHOWN_CONTROLS = {"input_magnitude": ("|x|", (0, (1, 1))), "random": ("random", "-")}
PERCENTS = (0.2, 1, 2, 5, 10, 20, 40, 80)
NUMBER_WORDS = {4: "four", 5: "five"}


def of_all_nets(
    setting: StudySetting,
    part: str,
    compute: Callable[..., pd.DataFrame],
    bench: str,
    nets: Sequence[str],
    **given: Any,
) -> pd.DataFrame:
    """The tables of a part for each net and each training of it, with the columns net and training.

    Nets with published weights have one training; where the sizes have ``given_images``, they explain so many images.
    """
    known, sizes = SENSITIVITY_BENCHES[bench].given, setting.sizes
    own = lambda net: {"images": sizes.get("given_images", given["images"])} if net in known else {}
    return pd.concat(
        [
            setting.kept(
                f"{part} {net} {training}",
                compute,
                **{"bench": bench, "net": net, "training": training, **given, **own(net)},
            ).assign(net=net, training=training)
            for net in nets
            for training in range(1 if net in known else sizes["trainings"])
        ],
        ignore_index=True,
    )


def rows_of_curves(curves: pd.DataFrame, bench: SensitivityBench) -> Iterator[dict[str, Any]]:
    """Means over images and trainings; the error is the mean of the trainings' errors, which is not too small."""
    own = curves[(curves["against"] == "") & (curves["images"] > 0)]
    for (net, explainer, n), rows in own.groupby(["net", "explainer", "n"], sort=False):
        accuracy = explainer == "labels"
        yield {
            "setting": "" if accuracy else _setting_of(n, bench.pixels),
            "model": net,
            "dataset": bench.words,
            "explainer": "" if accuracy else explainer,
            "metric": "accuracy" if accuracy else "sensitivity-n",
            **_mean_and_error(rows),
        }


def _setting_of(n: int, pixels: int) -> str:
    return "mean over n" if n == OVER_ALL else f"n = {n} of {pixels}"


def rows_of_spreads(spreads: pd.DataFrame, bench: SensitivityBench) -> Iterator[dict[str, Any]]:
    for (net, share, methods, what), rows in spreads.groupby(["net", "share", "methods", "what"], sort=False):
        if what == "spread":
            yield {
                "setting": f"inputs times {share:g}, {methods}",
                "model": net,
                "dataset": bench.words,
                "metric": "largest less smallest sensitivity-n of an image",
                **_mean_and_error(rows),
            }


def _mean_and_error(rows: pd.DataFrame) -> dict[str, Any]:
    error = {"spread": rows["error"].mean(), "spread_kind": "standard error"}
    return {"value": rows["mean"].mean(), **error, "n": int(rows["images"].min())}


def of_undefined_scores(curves: pd.DataFrame) -> str:
    """A sentence on scores of the paper's explainers that do not exist, because nothing varies over the subsets."""
    own = curves[curves["explainer"].isin(WORDS) & (curves["against"] == "") & (curves["n"] != OVER_ALL)]
    every = own["net"].map(curves.groupby("net")["images"].max())
    lacking = int((every - own["images"]).sum())
    return (
        f"Of {int(every.sum()):,} scores of the five explainers {lacking} are undefined and left "
        "out; the constant map has none at all."
    )


def curves_drawn(curves: pd.DataFrame, bench: SensitivityBench) -> Figure:
    """Sensitivity-n over n, a panel for each net and a line for each explainer, as the paper draws it."""
    trainings, nets = curves["training"].nunique(), curves["net"].unique()
    numbers = sorted({int(each) for each in curves.groupby("net")["images"].max()}, reverse=True)
    count, of_images = NUMBER_WORDS[len(nets)], " or ".join(f"{each:,}" for each in numbers)
    columns = -(-len(nets) // 2)
    drawing = figure(
        6.4,
        f"Sensitivity-n of five explainers on {count} nets",
        f"Mean over {of_images} images and {trainings} training{'s' if trainings > 1 else ''} of each net; controls in "
        "grey. Explainers that are equal lie on one line,\nthe wider ones below.",
    )
    means = curves[(curves["against"] == "") & (curves["n"] != OVER_ALL)].groupby(["net", "explainer", "n"])["mean"]
    means = means.mean()
    for place, (axes, net) in enumerate(
        zip(panels(drawing, 2, columns, len(nets), sharex=True, sharey=True), nets, strict=True)
    ):
        _draw_net(axes, means[net], bench.pixels)
        lowest = place >= len(nets) - columns
        axes.tick_params(labelbottom=lowest)  # below the last panel of every column
        across = "n, % of the pixels" if lowest else ""
        tidy(axes, net, across, "correlation" if place % columns == 0 else "")
    handles, labels = axes.get_legend_handles_labels()
    handles, labels = handles[::-1], labels[::-1]  # controls last
    drawing.legend(handles, labels, loc="outside right upper", fontsize=7.5, frameon=False, handlelength=3)
    return drawing


def _draw_net(axes: Axes, means: pd.Series, pixels: int) -> None:
    """One panel; ``means`` has the index explainer, n."""
    for explainer, (name, dashes) in SHOWN_CONTROLS.items():
        values = means[explainer]
        axes.plot(100 * values.index / pixels, values, color=GREY, linewidth=1, linestyle=dashes, label=name)
    for explainer, (colour, width, dashes) in LINES.items():
        values = means[explainer]
        axes.plot(
            100 * values.index / pixels, values, color=colour, linewidth=width, linestyle=dashes, label=WORDS[explainer]
        )
    axes.set_xscale("log")
    least = 100 * min(means["random"].index) / pixels
    shown = [each for each in PERCENTS if each >= least]
    axes.set_xticks(shown, [str(each) for each in shown])
    axes.minorticks_off()
    axes.set_ylim(-0.05, 1.03)
