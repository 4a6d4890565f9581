"""ROAD on CIFAR-10: accuracy while pixels are replaced by what their neighbours say (Rong et al. 2022, 2202.00449).

On the user's test part of CIFAR-10 and ResNet-18; at small scale on shapes pasted on photographs with a small CNN.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.studies.road_cifar10.claims import (
    SETTINGS_OF_MATRIX,
    accuracies_of_methods,
    consistencies,
    drawn_images,
    exact_claims_of_road,
    raw_correlations,
    right_by_setting,
    tendencies_of_road,
)
from harness.reproducing.studies.road_cifar10.images import (
    CIFAR,
    RESNET_OF_PAPER,
    SHAPES_ON_PHOTOGRAPHS,
    SMALL_CNN,
    fingerprint_of_cifar,
    road_subject,
)
from harness.reproducing.studies.road_cifar10.maps import (
    FILLS,
    IG_BASE,
    LINEAR_FILL,
    MORF_ORDER,
    ROAD_CONTROLS,
    ROAD_METHODS,
    ROAD_ORDERS,
    SHARES,
)
from harness.reproducing.studies.road_cifar10.scores import BATCH_OF_IMAGES, exact_checks_of_road, road_curves
from harness.reproducing.study import StudySetting
from harness.results.figures import GREY, RULE, figure, looks, panels, tidy

RANKING = "ranking of {IG, GB} x {base, SG, SQ, Var}"
CHECKED = 6


def study(setting: StudySetting) -> Findings:
    """Curves of eight methods and of controls in four settings, and how alike the settings rank the methods."""
    folder = str(setting.data.absolute()) if setting.data else ""
    model, dataset = (RESNET_OF_PAPER, CIFAR) if folder else (SMALL_CNN, SHAPES_ON_PHOTOGRAPHS)
    sizes, files = setting.sizes, fingerprint_of_cifar(folder)
    given = {"folder": folder, "steps": sizes["steps"], "copies": sizes["copies"], "files": files}
    count = min(sizes["images"], len(road_subject(folder).images))  # the user's files are checked here
    if folder:
        _say_the_time(setting, given, count)
    checks = setting.kept("checks", exact_checks_of_road, count=CHECKED, **given)
    scores = pd.concat(
        [
            setting.kept(f"images {first}", road_curves, first=first, last=min(first + sizes["chunk"], count), **given)
            for first in range(0, count, sizes["chunk"])
        ],
        ignore_index=True,
    )
    right = right_by_setting(scores)
    whole = scores.loc[scores["map"] == IG_BASE, "whole"].mean()
    claims = [*exact_claims_of_road(checks), *tendencies_of_road(right, f"{model}, {dataset}")]
    rows = [*_accuracy_rows_of_road(right, model, dataset), *_rank_rows_of_road(right, model, dataset)]
    if not folder:
        rows += _published_cells_left_out(rows)
    notes = [f"{model} is right for {100 * whole:.1f} % of {count:,} whole images of {dataset}."]
    return Findings(numbers_of(rows), claims, {"curves": _road_curves_drawn(right, whole)}, notes)


def _say_the_time(setting: StudySetting, given: dict[str, Any], count: int) -> None:
    """The time, by one batch."""
    started = time.perf_counter()
    batch = min(BATCH_OF_IMAGES, count)
    road_curves(first=0, last=batch, **given)
    hours = (time.perf_counter() - started) * count / batch / 3600
    setting.say(
        f"{count:,} images: about {hours:.1f} h; what is measured is kept, so that it can be done in several runs"
    )


def _accuracy_rows_of_road(
    right: dict[tuple[str, str, str], np.ndarray], model: str, dataset: str
) -> Iterator[dict[str, Any]]:
    """The accuracy in per cent of each map at each share in each setting."""
    for (name, order, fill), values in right.items():
        for place, share in enumerate(SHARES):
            own = 100 * values[:, place]
            words = f"{share} % {'removed' if order == MORF_ORDER else 'kept'}"
            yield {
                "model": model,
                "dataset": dataset,
                "explainer": name,
                "metric": f"accuracy (%), {order} no-retrain, {fill}, {words}",
                "value": own.mean(),
                "spread": own.std(ddof=1) / np.sqrt(len(own)),
                "spread_kind": "standard error",
                "n": len(own),
            }


def _rank_rows_of_road(
    right: dict[tuple[str, str, str], np.ndarray], model: str, dataset: str
) -> Iterator[dict[str, Any]]:
    """The rank correlations of settings, with standard errors by bootstrap samples of images."""
    count = len(next(iter(right.values())))
    samples = [accuracies_of_methods(right, rows) for rows in drawn_images(count)[:100]]
    found = _named_correlations(accuracies_of_methods(right))
    drawn = pd.DataFrame([_named_correlations(sample) for sample in samples])
    for metric, value in found.items():
        row = {"model": model, "dataset": dataset, "explainer": RANKING, "metric": metric, "value": value, "n": count}
        yield {**row, "spread": drawn[metric].std(), "spread_kind": "standard error"}


def _named_correlations(accuracies: np.ndarray) -> dict[str, float]:
    """Correlations by the words of the table of published numbers."""
    words = [f"{order} no-retrain {fill}" for order, fill in SETTINGS_OF_MATRIX]
    pairs = raw_correlations(accuracies).items()
    found = {f"Spearman: {words[first]} vs {words[second]}": value for (first, second), value in pairs}
    for fill, value in consistencies(accuracies).items():
        found[f"MoRF-LeRF consistency (Spearman), no-retrain, {fill}"] = value
    return found


def _published_cells_left_out(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells of ResNet-18 on CIFAR-10 without a number, where other images were measured."""
    return [
        {"model": RESNET_OF_PAPER, "dataset": CIFAR, "explainer": row["explainer"], "metric": row["metric"]}
        for row in rows
        if row["explainer"] in (RANKING, IG_BASE)
    ]


def _road_curves_drawn(right: dict[tuple[str, str, str], np.ndarray], whole: float) -> Figure:
    """Accuracy over the share that is removed, or kept, for each method; a panel for each setting."""
    drawing = figure(
        6.4,
        "ROAD: accuracy while pixels are replaced",
        "MoRF: the most important pixels are removed; lower is better. LeRF: they alone are kept; higher is better.\n"
        "Grey: controls (solid random, dashed edge, dotted blurred IG). Thin line: whole images.",
    )
    shown = [(order, fill) for fill in FILLS for order in ROAD_ORDERS]
    for axes, (order, fill) in zip(panels(drawing, 2, 2, 4, sharey=True), shown, strict=True):
        for name, (colour, marker) in zip(ROAD_METHODS, looks(len(ROAD_METHODS)), strict=True):
            values = right[name, order, fill].mean(0)
            axes.plot(SHARES, values, marker=marker, markersize=4, color=colour, linewidth=1, label=name)
        for name, style in zip(ROAD_CONTROLS, ("-", "--", ":"), strict=True):
            axes.plot(SHARES, right[name, order, fill].mean(0), style, color=GREY, linewidth=1.2)
        axes.axhline(whole, color=RULE, linewidth=0.8)
        axes.set_ylim(0, 1.02)
        filled = "noisy linear" if fill == LINEAR_FILL else "channel's mean"
        tidy(axes, f"{order}, {filled}", f"% of pixels {'removed' if order == MORF_ORDER else 'kept'}", "accuracy")
    drawing.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
    return drawing
