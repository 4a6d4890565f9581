"""How far maps are apart that algebra says are equal, and sums that it says are complete (Ancona et al. 2018)."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import explain
from harness.reproducing.studies.sensitivity_n.curves import DEEP_LIFT, INTEGRATED, LIMIT, LRP, OPTIONS, TIMES
from harness.reproducing.studies.sensitivity_n.nets import SENSITIVITY_BENCHES, explained_logits

EPSILONS = (1e-2, 1e-4, 1e-6)
MAP_ROUNDING = 1e-6  # maps are stored in single precision: of the sum of all magnitudes in a map
COMPLETE, OF_BOUND = "the whole change", "the bound of the whole change"
PARTS_OF_RAY = 200


def lrp_at(epsilon: float) -> str:
    """The name of LRP with another epsilon."""
    return f"{LRP} at {epsilon:g}"


def gaps_of_net(bench: str, net: str, training: int, epochs: int, images: int) -> pd.DataFrame:
    """Distances between maps of one net of a bench, and what sums of maps miss.

    Columns: first; second, another explainer, or COMPLETE or OF_BOUND; mean over images with its error, most, images. A
    distance is the largest difference of two maps, as a share of the largest value in both. What a sum misses is a
    share of the sum of all magnitudes (COMPLETE), or of what it may miss (OF_BOUND). LRP is at its LIMIT.
    """
    on = SENSITIVITY_BENCHES[bench]
    module, (shown, _) = on.net(net, training, epochs), on.images(images)
    targets = module(shown).argmax(1)
    maps_by = lambda name, **more: _maps(name, module, shown, targets, OPTIONS[name] | more)
    maps = {name: maps_by(name) for name in (TIMES, DEEP_LIFT, INTEGRATED)} | {LRP: maps_by(LRP, epsilon=LIMIT)}
    rows = [
        _row_of_gap(first, second, map_distance(maps[first], maps[second])) for first, second in combinations(maps, 2)
    ]
    for epsilon in EPSILONS:
        distance = map_distance(maps_by(LRP, epsilon=epsilon), maps[LRP])
        rows.append(_row_of_gap(lrp_at(epsilon), LRP, distance))
    change = explained_logits(module, shown, targets) - explained_logits(module, torch.zeros_like(shown), targets)
    for name in (DEEP_LIFT, INTEGRATED):
        magnitude, missed = maps[name].abs().sum(1), (maps[name].sum(1) - change).abs()
        rows.append(_row_of_gap(name, COMPLETE, missed / magnitude))
        if name == INTEGRATED:
            allowed = quadrature_bound(module, shown, targets, OPTIONS[name]["steps"]) + MAP_ROUNDING * magnitude
            rows.append(_row_of_gap(name, OF_BOUND, missed / allowed))
    return pd.DataFrame(rows)


def _maps(name: str, module: nn.Module, shown: Tensor, targets: Tensor, options: dict[str, Any]) -> Tensor:
    """The maps (images, pixels) of an explainer, in double precision."""
    return explain(name, module, shown, targets, modality="image", **options).double().flatten(1)


def map_distance(first: Tensor, second: Tensor) -> Tensor:
    """The largest difference of two maps (images, pixels) as a share of the largest magnitude in both, (images,)."""
    return (first - second).abs().amax(1) / torch.maximum(first.abs(), second.abs()).amax(1)


def quadrature_bound(module: nn.Module, shown: Tensor, targets: Tensor, steps: int) -> Tensor:
    """How much of f(x) - f(0) Integrated Gradients may miss, (images,): the largest weight of the Gauss-Legendre rule
    times the variation of the slope of f along the ray from 0 to x.

    The sums of the first weights lie between the nodes (Chebyshev, Markov, Stieltjes), so that a jump of the slope is
    misplaced by at most one weight (Koksma). The variation is that of the slopes of chords, which is at most the true
    one: the bound is not too large.
    """
    largest = float(np.polynomial.legendre.leggauss(steps)[1].max() / 2)  # on the ray, of length 1
    outputs = torch.stack(
        [explained_logits(module, shown * (part / PARTS_OF_RAY), targets) for part in range(PARTS_OF_RAY + 1)], 1
    )
    slopes = outputs.diff(dim=1) * PARTS_OF_RAY
    return largest * slopes.diff(dim=1).abs().sum(1)


def _row_of_gap(first: str, second: str, values: Tensor) -> dict[str, Any]:
    return {
        "first": first,
        "second": second,
        "mean": float(values.mean()),
        "error": float(values.std() / len(values) ** 0.5),
        "most": float(values.max()),
        "images": len(values),
    }
