"""Where each method points, and whether that hits: the parts of the study."""

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional as F

import harness
from harness.code_version import code_of
from harness.registry import EXPLAINERS
from harness.reproducing.studies.pointing_game.coco import COCO_LABEL, coco_game
from harness.reproducing.studies.pointing_game.nets import (
    Player,
    averaging,
    pasted_player,
    photos_player,
    player_of_folder,
    shorter_side,
)
from harness.reproducing.studies.pointing_game.rules import Point, distance_to, near_region, points_at
from harness.reproducing.studies.pointing_game.scenes import PointingGame, PointingScene, pasted_game, photos_game
from harness.reproducing.studies.pointing_game.voc import VOC_LABEL, voc_game

SEED = 0  # of all draws
AT_ONCE = 8  # inputs that are explained together
KERNEL_END = 4.0  # standard deviations at which the Gaussian ends
CENTER, RANDOM, EDGE, ORACLE = CONTROLS = ("center", "random", "edge", "oracle")
RISE, EXTREMAL = "RISE", "Extremal Perturbation"
BUILDERS = {"pasted": pasted_game, "photos": photos_game, VOC_LABEL: voc_game, COCO_LABEL: coco_game}
PLAYERS = {"pasted": pasted_player, "photos": photos_player}


@dataclass(frozen=True)
class Method:
    """How a method makes its map.

    explainer  the registered one
    largest    whether the largest absolute value of the channels counts; their sum otherwise
    smoothing  deviation of the Gaussian that smooths the map in the image's size, as a share of a side
    longer     whether of the longer side, with the map continued beyond its edges; of the shorter one, with zeros
    """

    explainer: str
    largest: bool = False
    smoothing: float = 0.0
    longer: bool = True


AS_IT_IS = Method("grad_cam")
METHODS = {
    "Gradient": Method("gradient", largest=True, smoothing=0.02),
    "DeConvNet": Method("deconvnet", largest=True, smoothing=0.02),
    "Guided Backprop": Method("guided_backprop", largest=True, smoothing=0.02),
    "Grad-CAM": AS_IT_IS,
    RISE: Method("rise"),
    EXTREMAL: Method("extremal_perturbation", smoothing=0.09, longer=False),
}
OF_EDGES = Method("edge", largest=True, smoothing=0.02)


@lru_cache(maxsize=2)
def game_called(label: str, folder: str) -> PointingGame:
    """The game of this label; those of the user's data are in ``folder``."""
    return BUILDERS[label](Path(folder)) if folder else BUILDERS[label]()


@lru_cache(maxsize=1)
def player_called(label: str, folder: str) -> Player:
    """Who plays the game of this label, on the GPU where there is one."""
    player = player_of_folder(Path(folder), game_called(label, folder)) if folder else PLAYERS[label]()
    return player.on(device_of_players())


def device_of_players() -> str:
    """The device on which nets run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def code_of_method(method: str) -> str:
    """A fingerprint of the explainer's code, so that its part is measured again where it has changed."""
    return code_of(EXPLAINERS[METHODS[method].explainer].function)


def control_rows(label: str, folder: str, first: int, last: int, draws: int, data: str) -> pd.DataFrame:
    """Controls on the images ``first`` to ``last`` (exclusive): a row for each pair of image and class.

    ``area`` and ``near`` are the shares of the image that its region covers, and from which a point hits. ``center``,
    ``edge``, ``oracle`` and ``random`` are hits; of random points ``random_hits`` of ``draws`` hit, of which ``random``
    is the first. ``middle`` is the distance of the image's middle to the region. In ``points`` points three rules were
    compared, of which ``odd`` did not agree. ``data`` is a fingerprint of the data.
    """
    game, rows = game_called(label, folder), []
    prepare = shorter_side if folder else player_called(label, folder).prepare  # the user's weights are not needed
    for place, scene in enumerate(game.scenes[first:last], first):
        inputs = prepare(scene.picture())
        edges = _point_of_edges(inputs, scene.size)
        for wanted in scene.asked:
            region = scene.region(wanted)
            rows.append(
                {"scene": place, "name": scene.name, "class": wanted}
                | _controls_of(game, scene, region, edges, tuple(inputs.shape[1:]), (place, wanted), draws)
            )
    return pd.DataFrame(rows)


def _controls_of(
    game: PointingGame,
    scene: PointingScene,
    region: np.ndarray,
    edges: Point,
    seen: tuple[int, ...],
    pair: tuple[int, int],
    draws: int,
) -> dict[str, Any]:
    near, (width, height) = near_region(region, game.margin), scene.size
    drawn = _random_points(game.label, pair, scene.size, draws)
    points = {CENTER: (width / 2, height / 2), EDGE: edges, ORACLE: _point_of_oracle(region, seen)}
    points |= {f"{RANDOM} {draw}": point for draw, point in enumerate(drawn)}
    hits = {name: points_at(region, point, game.margin) for name, point in points.items()}
    distances = {name: distance_to(region, point) for name, point in points.items()}
    # Distances to all pixels, and the metric's grown region, which has a value at whole pixels alone.
    others = {name: {distances[name] < game.margin} for name in points}
    for name in points.keys() - {CENTER}:
        x, y = map(int, points[name])
        others[name].add(bool(near[y, x]))
    return {
        "area": float(region.mean()),
        "near": float(near.mean()),
        "middle": distances[CENTER],
        **{name: hits[name] for name in (CENTER, EDGE, ORACLE)},
        RANDOM: hits[f"{RANDOM} 0"],
        "random_hits": sum(hits[f"{RANDOM} {draw}"] for draw in range(draws)),
        "points": len(points),
        "odd": sum(others[name] != {hits[name]} for name in points),
    }


def _random_points(label: str, pair: tuple[int, int], size: tuple[int, int], draws: int) -> list[Point]:
    """Points that are drawn uniformly from the pixels of an image, as the largest place of a map of noise is."""
    generator = np.random.default_rng((SEED, crc32(label.encode()), *pair))
    return list(map(tuple, generator.integers(size, size=(draws, 2)).tolist()))


def _point_of_oracle(region: np.ndarray, seen: tuple[int, ...]) -> Point:
    """The point of a map that is known to be right: the region as the net sees it, on the way of all maps."""
    mask = torch.from_numpy(region)[None, None].float()
    return point_of(F.interpolate(mask, seen, mode="area")[0, 0], region.shape[::-1])


def _point_of_edges(inputs: Tensor, size: tuple[int, int]) -> Point:
    """The point of an edge detector, which needs no net."""
    nothing = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    maps = harness.explain(OF_EDGES.explainer, nothing, inputs[None], torch.zeros(1, dtype=torch.long))
    return point_of(one_channel(maps, OF_EDGES)[0], size, OF_EDGES)


def method_rows(
    label: str, folder: str, method: str, first: int, last: int, budget: Mapping[str, int], data: str, code: str
) -> pd.DataFrame:
    """Where a method points on the images ``first`` to ``last`` (exclusive): a row for each pair of image and class.

    ``x`` and ``y`` are in pixels of the image, ``hit`` follows from them, ``odd`` is whether another rule disagrees,
    and ``flat`` whether the map is the same everywhere. ``budget`` holds the numbers of masks and steps; ``data`` and
    ``code`` are fingerprints.
    """
    game, player = game_called(label, folder), player_called(label, folder)
    pairs = [(place, game.scenes[place], wanted) for place in range(first, last) for wanted in game.scenes[place].asked]
    rows = []
    for some, inputs in _batches(pairs, player, method):
        targets = torch.tensor([wanted for _, _, wanted in some], device=inputs.device)
        maps = maps_of_method(game, player, method, inputs, targets, budget)
        for (place, scene, wanted), values in zip(some, maps, strict=True):
            point, region = point_of(values, scene.size, METHODS[method]), scene.region(wanted)
            hit = points_at(region, point, game.margin)
            rows.append(
                {
                    "scene": place,
                    "class": wanted,
                    "x": point[0],
                    "y": point[1],
                    "hit": hit,
                    "odd": (distance_to(region, point) < game.margin) != hit,
                    "flat": bool(values.max() == values.min()),
                }
            )
    return pd.DataFrame(rows)


def _batches(
    pairs: Sequence[tuple[int, PointingScene, int]], player: Player, method: str
) -> Iterator[tuple[list[tuple[int, PointingScene, int]], Tensor]]:
    """Pairs that follow one another and whose inputs have one size, with these inputs (N, 3, H, W)."""
    prepare = player.square if method == RISE else player.prepare
    device = next(player.module.parameters()).device
    some, inputs = [], []
    for pair in pairs:
        shown = inputs[-1] if some and some[-1][0] == pair[0] else prepare(pair[1].picture())
        if some and (len(some) == AT_ONCE or shown.shape != inputs[0].shape):
            yield some, torch.stack(inputs).to(device)
            some, inputs = [], []
        some.append(pair)
        inputs.append(shown)
    if some:
        yield some, torch.stack(inputs).to(device)


def maps_of_method(
    game: PointingGame, player: Player, method: str, inputs: Tensor, targets: Tensor, budget: Mapping[str, int]
) -> Tensor:
    """Maps (N, H, W) of inputs (N, 3, H, W) by a method of the table, on the CPU."""
    options: dict[str, Any] = {}
    if method == "Grad-CAM":
        options = {"layer": player.layer}
    elif method == RISE:
        options = {"samples": budget["masks"], "cells": 7, "keep_probability": 0.5, "centred": False}
    elif method == EXTREMAL:
        options = {"areas": list(game.areas), "steps": budget["steps"], "mirrored": True}
    module = averaging(player.module) if method == EXTREMAL else player.module
    own = METHODS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels without names
        maps = harness.explain(own.explainer, module, inputs, targets, seed=SEED, task=player.task, **options)
    return one_channel(maps, own).cpu()


def one_channel(maps: Tensor, method: Method) -> Tensor:
    """Maps (N, C, H, W) with one number for each pixel: (N, H, W)."""
    return maps.abs().amax(1) if method.largest else maps.sum(1)


def point_of(values: Tensor, size: tuple[int, int], method: Method = AS_IT_IS) -> Point:
    """The largest place of a map (h, w) in an image of this width and height: enlarged linearly, then smoothed.

    The first one row by row where several are the largest.
    """
    width, height = size
    large = F.interpolate(values[None, None].float(), (height, width), mode="bilinear", align_corners=False)
    large = large[0, 0].numpy()
    if method.smoothing:
        sigma = method.smoothing * (max if method.longer else min)(size)
        beyond = "nearest" if method.longer else "constant"
        large = gaussian_filter(large, sigma, mode=beyond, truncate=KERNEL_END)
    y, x = np.unravel_index(int(large.argmax()), large.shape)
    return float(x), float(y)


def knowledge_rows(label: str, folder: str, first: int, last: int, data: str) -> pd.DataFrame:
    """How well the net knows what is in the images ``first`` to ``last`` (exclusive): a row for each.

    ``right`` is the share of pairs of a class that is there and one that is not whose logits are in this order; equal
    ones count half. NaN where all classes are there.
    """
    game, player, rows = game_called(label, folder), player_called(label, folder), []
    pairs = [(place, game.scenes[place], 0) for place in range(first, last)]
    for some, inputs in _batches(pairs, player, "Gradient"):
        with torch.no_grad():
            logits = player.module(inputs).cpu().numpy()
        for (place, scene, _), own in zip(some, logits, strict=True):
            there = np.isin(np.arange(len(own)), scene.present)
            apart = own[there][:, None] - own[~there]
            right = float(((apart > 0) + 0.5 * (apart == 0)).mean()) if apart.size else np.nan
            rows.append({"scene": place, "right": right})
    return pd.DataFrame(rows)


def seconds_for_a_pair(label: str, folder: str, method: str, budget: Mapping[str, int]) -> float:
    """About how long a method takes for a pair of image and class on this machine: a part of its work is timed."""
    game, player = game_called(label, folder), player_called(label, folder)
    part = {"masks": min(64, budget["masks"]), "steps": min(8, budget["steps"])}
    scale = {RISE: budget["masks"] / part["masks"], EXTREMAL: budget["steps"] / part["steps"]}.get(method, 1.0)
    pair = next((0, each, each.asked[0]) for each in game.scenes if each.asked)
    (_, inputs), *_ = _batches([pair], player, method)
    for _ in range(2):  # the first time is longer
        started = time.perf_counter()
        maps_of_method(game, player, method, inputs, torch.tensor([pair[2]], device=inputs.device), part)
    return scale * (time.perf_counter() - started)
