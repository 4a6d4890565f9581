"""The pointing game as TorchRay plays it (Zhang et al. 2016, 1608.00507; Fong et al. 2019, 1910.08485).

A method points at the largest place of its map for a class. It hits if that place is nearer than 15 pixels to the class
in the image. On the user's VOC2007 test or COCO val2014 at full scale; on images with known objects at small scale.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from harness.engine.protocol import precision
from harness.errors import UserError
from harness.identity import files_of
from harness.models.torchvision_models import torchvision_classifier
from harness.reproducing.findings import Claim, Findings, numbers_of
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.pointing_game.claims import Play, exact_claims, pointing_tendencies, same_net
from harness.reproducing.studies.pointing_game.coco import COCO_FILE, COCO_LABEL, coco_file
from harness.reproducing.studies.pointing_game.nets import ARCHITECTURES, SHORT_SIDE, VGG, WEIGHTS
from harness.reproducing.studies.pointing_game.points import (
    CENTER,
    CONTROLS,
    EDGE,
    EXTREMAL,
    METHODS,
    ORACLE,
    RANDOM,
    RISE,
    code_of_method,
    control_rows,
    device_of_players,
    game_called,
    knowledge_rows,
    method_rows,
    player_called,
    seconds_for_a_pair,
)
from harness.reproducing.studies.pointing_game.scenes import PointingGame
from harness.reproducing.studies.pointing_game.voc import VOC_FOLDER, VOC_LABEL
from harness.reproducing.study import StudySetting
from harness.results.figures import COLOURS, GREY, INK, RULE, figure, panels, tidy

METRIC, CHANCE = "pointing-game accuracy (%)", "random, exact"
TABLE, PUBLISHED_ON = "torchray_pointing", (VOC_LABEL, COCO_LABEL)
SMALL_GAMES = ("pasted", "photos")  # the first is large enough for tests
NEED_A_GPU = (RISE, EXTREMAL)  # thousands of passes for each pair
MOST_SHOWN = 400  # points of a method in the figure


def study(setting: StudySetting) -> Findings:
    """How often each method points at the class, beside controls; and that the rules of the game are exact."""
    with precision("float32"):  # a GPU would round the factors of convolutions to 10 bits
        plays, claims, notes = _small_games(setting) if setting.scale == "small" else _game_of_the_user(setting)
    claims = [*exact_claims(plays), *claims, *pointing_tendencies(plays[0])]
    drawings = {"accuracy": _accuracy_drawn(plays)} | ({"points": _points_drawn(plays[0])} if plays[0].methods else {})
    return Findings(numbers_of(_accuracy_rows(plays)), claims, drawings, [*notes, *_flat_maps(plays)])


def _small_games(setting: StudySetting) -> tuple[list[Play], list[Claim], list[str]]:
    """The games that need no data."""
    return [_played(setting, label, "", list(METHODS)) for label in SMALL_GAMES], [], []


def _game_of_the_user(setting: StudySetting) -> tuple[list[Play], list[Claim], list[str]]:
    """The game on the user's data, which are checked first; a claim of its own about the net, and notes."""
    folder = setting.data.absolute()
    label = _label_of(folder)
    game = _checked_game(label, str(folder), setting.sizes["expected"][label])
    methods, notes = _methods_that_can_play(setting, game, folder)
    claims = [_net_is_the_same(label, str(folder))] if methods else []
    return [_played(setting, label, str(folder), methods)], claims, notes


def _label_of(folder: Path) -> str:
    """Which data the user's folder holds; UserError for none and for both."""
    found = {VOC_LABEL: (folder / VOC_FOLDER).is_dir(), COCO_LABEL: coco_file(folder) is not None}
    labels = [label for label, there in found.items() if there]
    if len(labels) != 1:
        raise UserError(
            f"{folder} holds {'both of' if labels else 'neither'} {VOC_FOLDER} and {COCO_FILE}, expected one of them"
        )
    return labels[0]


def _checked_game(label: str, folder: str, expected: Mapping[str, int]) -> PointingGame:
    """The game of the user's folder; UserError where it has another number of images or of annotated objects."""
    game = game_called(label, folder)
    came = {"images": game.listed, "objects": sum(each.objects for each in game.scenes)}
    for what, number in expected.items():
        if came[what] != number:
            raise UserError(f"{folder} has {came[what]:,} {what}, but {label} has {number:,}: all of them are needed")
    return game


def _methods_that_can_play(setting: StudySetting, game: PointingGame, folder: Path) -> tuple[list[str], list[str]]:
    """The methods that are measured on the user's data, and notes on those that are left out; the times are said."""
    if not (folder / WEIGHTS).exists():
        return [], [f"{WEIGHTS} is not in the folder, so that the controls alone were measured."]
    player_called(game.label, str(folder))  # weights that do not fit are told before anything is measured
    device = device_of_players()
    methods = [name for name in METHODS if device == "cuda" or name not in NEED_A_GPU]
    pairs, hours = sum(len(each.asked) for each in game.scenes), 0.0
    for name in methods:
        own = seconds_for_a_pair(game.label, str(folder), name, setting.sizes["budget"]) * pairs / 3600
        hours += own
        setting.say(f"{name}: about {own:.1f} h for {pairs:,} pairs of image and class on {device}")
    setting.say(f"together about {hours:.1f} h; what is measured is kept, so that it can be done in several runs")
    left = [name for name in METHODS if name not in methods]
    return methods, [f"{' and '.join(left)} are left out: without a GPU they take months."] if left else []


def _net_is_the_same(label: str, folder: str) -> Claim:
    """Compares the net at all places with torchvision's own, on noise."""
    player = player_called(label, folder)
    architecture = ARCHITECTURES[player.label][0]
    path, classes = str(Path(folder, WEIGHTS).absolute()), len(game_called(label, folder).classes)
    own = torchvision_classifier(architecture=architecture, weights=path, classes=classes).module
    noise = torch.randn(2, 3, SHORT_SIDE, SHORT_SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = own(noise)
        came = player.module(noise.to(next(player.module.parameters()).device)).cpu()
    return same_net(float(expected.abs().max()), float((came - expected).abs().max()), player.label)


def _played(setting: StudySetting, label: str, folder: str, methods: list[str]) -> Play:
    """A game with its controls and methods."""
    game, images = game_called(label, folder), setting.sizes.get("images", {}).get(label, {})
    chosen = [name for name in methods if images.get(name, 1)]
    data, weights = _fingerprints(folder)

    def measured(part: str, compute: Callable[..., pd.DataFrame], **given: Any) -> pd.DataFrame:
        count = min(len(game.scenes), images.get(part, len(game.scenes)))
        return _in_chunks(setting, f"{label} {part}", count, compute, label=label, folder=folder, **given)

    controls = measured("controls", control_rows, draws=setting.sizes["draws"], data=data)
    if not len(controls):
        raise UserError(f"{folder} asks for no class in any image, expected images with objects")
    budget, known = dict(setting.sizes["budget"]), data + weights
    points = {
        name: measured(name, method_rows, method=name, budget=budget, data=known, code=code_of_method(name))
        for name in chosen
    }
    if not chosen:
        return Play(game, "", controls, draws=setting.sizes["draws"])
    knowledge = measured("net", knowledge_rows, data=known)
    return Play(game, player_called(label, folder).label, controls, points, knowledge, setting.sizes["draws"])


def _in_chunks(
    setting: StudySetting, name: str, count: int, compute: Callable[..., pd.DataFrame], **given: Any
) -> pd.DataFrame:
    """The rows of ``count`` images; each chunk of images is kept by itself."""
    tables = []
    for first in range(0, count, setting.sizes["chunk"]):
        last = min(first + setting.sizes["chunk"], count)
        tables.append(setting.kept(f"{name} {first}", compute, first=first, last=last, **given))
    tables = [each for each in tables if len(each)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _fingerprints(folder: str) -> tuple[str, str]:
    """Of the user's annotations and weights; empty for the small games."""
    if not folder:
        return "", ""
    base = Path(folder)
    annotations = coco_file(base) or base / VOC_FOLDER / "Annotations"
    named = {"path": str(annotations), "list_path": str(base / VOC_FOLDER / "ImageSets" / "Main" / "test.txt")}
    return files_of(named), files_of({"path": str(base / WEIGHTS)})


def _accuracy_rows(plays: list[Play]) -> Iterator[dict[str, Any]]:
    """A row for each game, control and method; and for published cells that this run does not measure, one without a
    number."""
    measured = set()
    for play in plays:
        for split in ("all", "difficult") if play.game.easy is not None else ("all",):
            dataset = f"{play.game.label} {split}"
            for name in (*CONTROLS, *play.methods):
                found = play.accuracy(name, split == "difficult")
                if found is None:
                    continue
                model = play.player if name in play.methods else ""
                measured.add((dataset, model, name))
                # On the published images the control center has a single value, whatever other images would give.
                error = np.nan if name == CENTER and play.game.label in PUBLISHED_ON else found.error
                yield _accuracy_row(dataset, model, name, found.value, error, found.n)
            pairs = play.controls[play.in_difficult(play.controls)] if split == "difficult" else play.controls
            if len(pairs):
                yield _accuracy_row(dataset, "", CHANCE, _exact_chance(pairs), np.nan, len(pairs))
    yield from _cells_without_numbers(plays[0], measured)


def _exact_chance(pairs: pd.DataFrame) -> float:
    """The expected accuracy of random points: the mean over classes of the share of the image that hits."""
    return float(pairs.groupby("class")["near"].mean().mean())


def _accuracy_row(dataset: str, model: str, name: str, value: float, error: float, n: int | None) -> dict[str, Any]:
    kind = "standard error" if np.isfinite(error) else "none"
    row = {"dataset": dataset, "model": model, "explainer": name, "metric": METRIC, "value": 100 * value}
    return {**row, "spread": 100 * error, "spread_kind": kind, "n": n}


def _cells_without_numbers(play: Play, measured: set[tuple[str, str, str]]) -> Iterator[dict[str, Any]]:
    """Published cells of the whole data of this run, or of VOC2007 at small scale, that have no number of ours."""
    label = play.game.label if play.game.label in PUBLISHED_ON else VOC_LABEL
    player = play.player if play.player in ARCHITECTURES else VGG
    for name in (CENTER, *METHODS):
        cell = (f"{label} all", "" if name == CENTER else player, name)
        if cell not in measured:
            yield _accuracy_row(*cell, np.nan, np.nan, None)


def _flat_maps(plays: list[Play]) -> list[str]:
    """A note for each method with maps that are the same everywhere: they point at the first pixel."""
    return [
        f"{int(rows['flat'].sum()):,} of {len(rows):,} maps of {name} are the same everywhere ({play.place}): they "
        "point at the first pixel, which counts as any other."
        for play in plays
        for name, rows in play.methods.items()
        if rows["flat"].any()
    ]


def _accuracy_drawn(plays: list[Play]) -> Figure:
    """The table as a figure: accuracies with their 95 % intervals, published ones beside them."""
    known = {play.place: _published_accuracies(play) for play in plays}
    rings = "\nRings: published, with the Caffe weights of Excitation Backprop." if any(known.values()) else ""
    drawing = figure(
        4.6,
        "The pointing game",
        "Dots: mean over classes of hits / (hits + misses), with 1.96 standard errors (jackknife over images). "
        f"Dashed: random points, exactly.{rings}",
    )
    for axes, play in zip(panels(drawing, 1, len(plays), len(plays)), plays, strict=True):
        names = [*play.methods, CENTER, EDGE, RANDOM, ORACLE]
        for height, name in enumerate(reversed(names)):
            found, colour = play.accuracy(name), COLOURS[0] if name in play.methods else GREY
            error = 1.96 * found.error if np.isfinite(found.error) else 0.0
            around = np.clip([found.value - error, found.value + error], 0, 1)
            axes.plot(100 * around, [height, height], color=colour)
            axes.plot(100 * found.value, height, "o", color=colour, markersize=4)
            if name in known[play.place]:
                axes.plot(known[play.place][name], height, "o", markersize=8, markerfacecolor="none", color=COLOURS[1])
        axes.axvline(100 * _exact_chance(play.controls), color=INK, linestyle="--", linewidth=0.8)
        axes.set_yticks(range(len(names)), [f"{name} ({len(play.hits(name)):,})" for name in reversed(names)])
        axes.set_xlim(-2, 102)
        axes.grid(axis="x", color=RULE, linewidth=0.4)
        tidy(axes, play.place, "accuracy (%), number of pairs in brackets")
    return drawing


def _published_accuracies(play: Play) -> dict[str, float]:
    """Control or method -> the published accuracy on the same data; empty where the data are others."""
    if play.game.label not in PUBLISHED_ON:
        return {}
    rows = published_numbers(TABLE, {"dataset": f"{play.game.label} all"})
    rows = rows[rows["model"].str.startswith(play.player or VGG)]
    return dict(zip(rows["explainer"], rows["value"], strict=True))


def _points_drawn(play: Play) -> Figure:
    """Where each method points in the image, hits and misses."""
    columns = min(3, len(play.methods))
    rows = -(-len(play.methods) // columns)
    drawing = figure(
        0.9 + 2.5 * rows,
        f"Where methods point ({play.place})",
        f"Places in the image, whose sides are 1; at most {MOST_SHOWN} pairs of image and class for each method. "
        "Dots: hits. Crosses: misses.",
    )
    for axes, (name, found) in zip(
        panels(drawing, rows, columns, len(play.methods)), play.methods.items(), strict=True
    ):
        shown = found.head(MOST_SHOWN)
        width, height = np.array([play.game.scenes[scene].size for scene in shown["scene"]]).T
        across, down, hit = (shown["x"] + 0.5) / width, (shown["y"] + 0.5) / height, shown["hit"].astype(bool)
        for wanted, colour, marker in ((True, COLOURS[0], "o"), (False, COLOURS[1], "x")):
            axes.plot(across[hit == wanted], down[hit == wanted], marker, color=colour, markersize=3, alpha=0.6)
        axes.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        tidy(axes, f"{name}: {hit.sum()} of {len(shown)} hit")
    return drawing
