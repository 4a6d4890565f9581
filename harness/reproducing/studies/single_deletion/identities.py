"""Identities of the study single_deletion, and the protocol computed apart from the registered metric."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

import harness
from harness.explainers.cam import grad_cam, grad_cam_pp, xgrad_cam
from harness.explainers.controls import edge, random
from harness.explainers.gradient import input_x_gradient
from harness.explainers.paths import integrated_gradients
from harness.explainers.smooth_cam import smoothgrad_cam_pp
from harness.reproducing.studies.single_deletion.maps import (
    CELL,
    COPIES,
    GRID,
    TUNED,
    bag_evidence,
    constant_map,
    logits_without_cells,
    tuned_and_scored,
)
from harness.reproducing.studies.single_deletion.nets import (
    BASE,
    CELL_BAG,
    LINEAR,
    WITHOUT_BIAS,
    normalised_digits,
    trained_net,
)

# Numbers of one image that differ by less, as a share of the largest, have an order that rounding decides.
ROUNDING = 1e-5
COLUMNS = ("identity", "largest", "images", "left_out")
Row = tuple[str, float, int, int]
COMPARED = {
    "IxG": (input_x_gradient, {}),
    "IG": (integrated_gradients, {"baseline": "zero", "steps": 8}),
    "Grad-CAM": (grad_cam, {}),
    "edge": (edge, {}),
    "random": (random, {}),
}
GAPS = 10  # every tenth map of ``gappy_map`` is constant


def cell_sums(maps: Tensor) -> np.ndarray:
    """The sums (N, 16) of maps (N, 1, 8, 8) over cells, row by row, in double precision."""
    return maps.double().view(-1, GRID, CELL, GRID, CELL).sum((2, 4)).flatten(1).numpy()


def logit_drops(model: nn.Module, inputs: Tensor, targets: Tensor) -> np.ndarray:
    """How much the target's logit falls without each cell: (N, 16)."""
    with torch.no_grad():
        whole = model(inputs)[:, None]
    falls = whole - logits_without_cells(model, inputs)
    return falls[torch.arange(len(inputs)), :, targets].double().numpy()


def rank_correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman correlations (N,) of rows (N, K), ties at average ranks; NaN where a row is constant."""
    centred = [rankdata(each, axis=1) - (each.shape[1] + 1) / 2 for each in (first, second)]
    size = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return np.divide((centred[0] * centred[1]).sum(1), size, where=size > 0, out=np.full(len(size), np.nan))


def clearly_ordered(values: np.ndarray) -> np.ndarray:
    """Rows (N,) of values (N, K) in which no two differ only by rounding; equal ones do not differ at all."""
    gaps = np.diff(np.sort(values, axis=1), axis=1)
    return ((gaps == 0) | (gaps > ROUNDING * np.abs(values).max(1, keepdims=True))).all(1)


def drops_map(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The drops themselves as a map: each cell's, divided among its pixels."""
    drops = torch.from_numpy(logit_drops(model, inputs, targets)).float().view(-1, 1, GRID, GRID)
    return drops.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3) / CELL**2


def negated_drops_map(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The drops with the opposite sign."""
    return -drops_map(model, inputs, targets)


def gappy_map(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The inputs as maps, but a constant for the first of every GAPS images; it expects all images in one call."""
    maps = inputs.clone()
    maps[::GAPS] = 1.0
    return maps


def plain_map(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The inputs as maps."""
    return inputs.clone()


def measured_identities(seed: int, images: int, rows: int, epochs: int, tuning: int) -> pd.DataFrame:
    """A row for each identity: its largest deviation, the number of images, and how many are left out because rounding
    decides the order of their cells."""
    given = {"images": images, "rows": rows, "tuning": tuning, "seed": seed}
    linear, bag, base, free = (trained_net(net, seed, rows, epochs) for net in (LINEAR, CELL_BAG, BASE, WITHOUT_BIAS))
    return pd.DataFrame(
        [
            _away_from(1, LINEAR, *_tuned_scores(linear, {LINEAR: {"name": input_x_gradient}}, given)),
            _away_from(1, CELL_BAG, *_tuned_scores(bag, {CELL_BAG: {"name": bag_evidence}}, given)),
            *_identities_of_base(base, given),
            _apart_as_maps("IxG is IG", free, COMPARED["IxG"], COMPARED["IG"], images),
            _apart_as_maps("XGrad-CAM is Grad-CAM", base, (xgrad_cam, {}), COMPARED["Grad-CAM"], images),
            _apart_as_maps(
                "SG-CAM++ is Grad-CAM++",
                base,
                (smoothgrad_cam_pp, {"samples": COPIES}),
                (grad_cam_pp, {}),
                images,
            ),
        ],
        columns=COLUMNS,
    )


def _identities_of_base(model: nn.Module, given: Mapping[str, int]) -> list[Row]:
    """The drops as maps, the registered metric against what is computed here, and constant maps, on one copy."""
    explainers = {
        "drops": {"name": drops_map},
        "negated drops": {"name": negated_drops_map},
        **{label: {"name": function, **options} for label, (function, options) in COMPARED.items()},
        **{each.__name__: {"name": each} for each in (constant_map, gappy_map, plain_map)},
    }
    copy, scores = _tuned_scores(model, explainers, given)
    return [
        _away_from(1, "drops", copy, scores),
        _away_from(-1, "negated drops", copy, scores),
        *_computed_apart(copy, scores, given["seed"]),
        *_constant_maps(scores),
    ]


def _tuned_scores(
    model: nn.Module, explainers: Mapping[str, object], given: Mapping[str, int]
) -> tuple[nn.Module, pd.DataFrame]:
    """The copy that ``idsds`` fine-tunes, and its scores: a row per image and a column per explainer."""
    copy, scores = tuned_and_scored(model, explainers, **given)
    return copy, scores[scores["stage"] == TUNED].set_index("image")


def _test_images(count: int) -> tuple[Tensor, Tensor]:
    inputs, labels = normalised_digits()["test"]
    return inputs[:count], labels[:count]


def _away_from(expected: float, label: str, copy: nn.Module, scores: pd.DataFrame) -> Row:
    """How far scores of an explainer by the registered metric are from the expected one."""
    clear = clearly_ordered(logit_drops(copy, *_test_images(len(scores))))
    away = np.abs(scores[label].to_numpy() - expected)
    return label, float(away[clear].max()), int(clear.sum()), int((~clear).sum())


def _computed_apart(copy: nn.Module, scores: pd.DataFrame, seed: int) -> Iterator[Row]:
    """How far the registered metric's scores are from those computed here, on the copy that it has fine-tuned."""
    inputs, labels = _test_images(len(scores))
    drops = logit_drops(copy, inputs, labels)
    for label, (function, options) in COMPARED.items():
        sums = cell_sums(harness.explain(function, copy, inputs, labels, seed=seed, **options))
        clear = clearly_ordered(drops) & clearly_ordered(sums)
        apart = score_gaps(scores[label].to_numpy(), rank_correlations(sums, drops))[clear]
        yield f"apart: {label}", float(apart.max()), int(clear.sum()), int((~clear).sum())


def score_gaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How far scores (N,) are apart: 0 where neither exists, NaN where one does not."""
    return np.where(np.isnan(first) & np.isnan(second), 0.0, np.abs(first - second))


def _constant_maps(scores: pd.DataFrame) -> Iterator[Row]:
    """For constant maps, and for maps of which one in GAPS is constant, how many images have no score: ``left_out``.

    ``largest`` is how far the other scores are from those without constant maps.
    """
    apart = (scores["gappy_map"] - scores["plain_map"]).abs().max()
    for label, largest in (("constant_map", 0.0), ("gappy_map", float(apart))):
        yield label, largest, len(scores), int(scores[label].isna().sum())


def _apart_as_maps(name: str, model: nn.Module, first: Sequence[object], second: Sequence[object], images: int) -> Row:
    """The largest difference of two explainers' maps, as a share of the largest number of the image's map."""
    inputs, labels = _test_images(images)
    maps = [harness.explain(function, model, inputs, labels, **options) for function, options in (first, second)]
    largest = maps[1].abs().flatten(1).amax(1).clamp(min=1e-30)
    return name, float(((maps[0] - maps[1]).abs().flatten(1).amax(1) / largest).max()), images, 0
