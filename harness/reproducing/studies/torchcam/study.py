"""Average drop and increase in confidence of class activation maps, as torch-cam measures them on Imagenette.

On the user's Imagenette with published weights; at small scale on twenty photographs with EfficientNet-Lite0.
"""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from harness.reproducing.findings import Findings, numbers_of
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.torchcam.claims import (
    README,
    RESULTS,
    TABLE,
    exact_claims_of_cams,
    published_tables_disagree,
    tendencies_of_cams,
    title_of,
)
from harness.reproducing.studies.torchcam.images import (
    CLASSES_OF_IMAGENETTE,
    IMAGENETTE,
    LITE0,
    NETS_OF_TOOL,
    PHOTOGRAPHS,
    NetOfTool,
    fingerprint_of_images,
    listed_images,
    nets_in,
    subject_of,
)
from harness.reproducing.studies.torchcam.maps import ALL_MAPS, CONTROL_MAPS, METHODS_OF_TOOL
from harness.reproducing.studies.torchcam.scores import BATCH, exact_checks_of_maps, scores_of_images
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, RULE, figure, panels, tidy

METRICS_OF_TOOL = {"average drop": "drop", "increase in confidence": "increase"}
DEFAULT_WEIGHTS = "default weights"
CHECKED_IMAGES = 4


def study(setting: StudySetting) -> Findings:
    """The two scores of four methods and of controls, with the tests that pair images."""
    nets, notes = _nets_of_setting(setting)
    claims, scores = [published_tables_disagree()], {}
    for net in nets:
        given = _given_of_net(setting, net)
        checks = setting.kept(f"{title_of(net)} checks", exact_checks_of_maps, count=CHECKED_IMAGES, seed=0, **given)
        scores[net] = _image_scores_of_net(setting, net, given)
        claims += [*exact_claims_of_cams(checks, net), *tendencies_of_cams(scores[net], net)]
        notes += _notes_on_net(scores[net], net)
    rows = [row for net, table in scores.items() for row in _rows_of_tool(net, table, _words_for_images(setting))]
    rows += _cells_not_measured(nets)
    return Findings(numbers_of(rows), claims, {"scores": _cam_scores_drawn(scores)}, notes)


def _nets_of_setting(setting: StudySetting) -> tuple[list[NetOfTool], list[str]]:
    """The nets, and notes; the user's folder is checked, and the time is said before it is spent."""
    if not setting.data:
        return [LITE0], []
    folder = str(setting.data.absolute())
    files, nets = listed_images(folder), nets_in(setting.data)
    seconds = sum(_seconds_for_a_batch(folder, net) for net in nets)
    setting.say(f"{len(files):,} images x {len(nets)} nets: about {seconds * len(files) / BATCH / 60:.0f} min")
    mapped = ", ".join(f"{wnid} {index} {name}" for wnid, (index, name) in CLASSES_OF_IMAGENETTE.items())
    return nets, [
        f"{len(files):,} images; 3,925 are imagenette2, 500 the first release. Class folders and classes of ImageNet: "
        f"{mapped}."
    ]


def _seconds_for_a_batch(folder: str, net: NetOfTool) -> float:
    """What a batch takes; weights that do not fit are told here."""
    started = time.perf_counter()
    scores_of_images(folder, net.architecture, net.weights, 0, 0, BATCH, 0)
    return time.perf_counter() - started


def _given_of_net(setting: StudySetting, net: NetOfTool) -> dict[str, Any]:
    """What the parts of a net are given."""
    folder = str(setting.data.absolute()) if setting.data else ""
    given = {"folder": folder, "architecture": net.architecture, "weights": net.weights}
    return given | {"side": setting.sizes["side"], "files": fingerprint_of_images(folder)}


def _image_scores_of_net(setting: StudySetting, net: NetOfTool, given: dict[str, Any]) -> pd.DataFrame:
    """The scores of all images; each chunk of images is kept by itself."""
    subject = subject_of(given["folder"], net.architecture, net.weights, given["side"])
    chunk = setting.sizes["chunk"]
    parts = [
        setting.kept(
            f"{title_of(net)} {first}",
            scores_of_images,
            first=first,
            last=min(first + chunk, subject.count),
            seed=0,
            **given,
        )
        for first in range(0, subject.count, chunk)
    ]
    return pd.concat(parts, ignore_index=True)


def _words_for_images(setting: StudySetting) -> str:
    return IMAGENETTE if setting.data else PHOTOGRAPHS


def _weights_in_words(net: NetOfTool) -> str:
    return DEFAULT_WEIGHTS if net.default else net.weights


def _rows_of_tool(net: NetOfTool, scores: pd.DataFrame, images: str) -> Iterator[dict[str, Any]]:
    """The mean of each score over images, for each map."""
    for name, own in scores.groupby("map", sort=False):
        for metric, column in METRICS_OF_TOOL.items():
            yield {
                "setting": _weights_in_words(net),
                "model": net.label,
                "dataset": images,
                "explainer": name,
                "metric": metric,
                "value": own[column].mean(),
                "spread": own[column].std(ddof=1) / np.sqrt(len(own)),
                "spread_kind": "standard error",
                "n": len(own),
            }


def _cells_not_measured(nets: list[NetOfTool]) -> list[dict[str, Any]]:
    """Published cells that this run does not measure, without a number."""
    return [
        {"setting": DEFAULT_WEIGHTS, "model": net.label, "dataset": IMAGENETTE, "explainer": name, "metric": metric}
        for net in NETS_OF_TOOL
        if net.default and net not in nets
        for name in METHODS_OF_TOOL
        for metric in METRICS_OF_TOOL
    ]


def _notes_on_net(scores: pd.DataFrame, net: NetOfTool) -> list[str]:
    """The accuracy, which says whether classes and preprocessing are right, and the number of flat maps."""
    once = scores[scores["map"] == METHODS_OF_TOOL[0]]
    right = (once["label"] == once["predicted"]).mean()
    flat = scores[scores["flat"] & ~scores["map"].isin(CONTROL_MAPS)].groupby("map", sort=False).size()
    words = ", ".join(f"{name} {count}" for name, count in flat.items())
    return [
        f"{title_of(net)} is right for {100 * right:.1f} % of {len(once):,} images.",
        *([f"Flat maps, which leave an image of zeros as in torch-cam ({title_of(net)}): {words}."] if words else []),
    ]


def _cam_scores_drawn(scores: dict[NetOfTool, pd.DataFrame]) -> Figure:
    """The table as a figure: each score of each map with its 95 % interval, published ones beside them."""
    published = {net: _published_of_net(net) for net in scores}
    known = any(len(each) for each in published.values())
    drawing = figure(
        0.9 + 2.7 * len(scores),
        "Class activation maps: what the net says of the image times its map",
        "Dots: means over images with 1.96 standard errors; grey: controls. A map of ones loses nothing and raises "
        "nothing." + ("\nRings: README. Crosses: scripts/results.csv." if known else ""),
    )
    every = panels(drawing, len(scores), 2, 2 * len(scores), sharey=True)
    for row, (net, table) in enumerate(scores.items()):
        for axes, (metric, column) in zip(every[2 * row : 2 * row + 2], METRICS_OF_TOOL.items(), strict=True):
            for height, name in enumerate(reversed(ALL_MAPS)):
                own = table.loc[table["map"] == name, column]
                error = 1.96 * own.std(ddof=1) / np.sqrt(len(own))
                colour = GREY if name in CONTROL_MAPS else COLOURS[0]
                axes.plot([own.mean() - error, own.mean() + error], [height, height], color=colour)
                axes.plot(own.mean(), height, "o", color=colour, markersize=4)
                for source, marker in ((README, "o"), (RESULTS, "x")):
                    value = published[net].get((source, name, metric))
                    if value is not None:
                        axes.plot(
                            value, height, marker, markersize=7, markerfacecolor="none", markeredgecolor=COLOURS[1]
                        )
            axes.set_yticks(range(len(ALL_MAPS)), list(reversed(ALL_MAPS)))
            axes.set_xlim(left=-0.03)
            axes.grid(axis="x", color=RULE, linewidth=0.4)
            tidy(axes, f"{title_of(net)}: {metric}", "mean over images")
    return drawing


def _published_of_net(net: NetOfTool) -> dict[tuple[str, str, str], float]:
    """Table, method and score -> published number of a net with default weights."""
    rows = published_numbers(TABLE, {"table_or_figure": [README, RESULTS]})
    rows = rows[rows["model"] == (net.label if net.default else "")]
    return {(row["table_or_figure"], row["explainer"], row["metric"]): row["value"] for row in rows.to_dict("records")}
