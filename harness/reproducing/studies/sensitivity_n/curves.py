"""Sensitivity-n of explainers on one net, and how it differs between them, image by image (Ancona et al. 2018)."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import evaluate
from harness.reproducing.studies.sensitivity_n.nets import SENSITIVITY_BENCHES, shrunk

LARGEST_SHARE = 0.8  # of the pixels, in the largest subsets
AT_ONCE = 200  # images that are explained together
OVER_ALL = 0  # in the place of n: the mean over all n
TIMES, LRP, DEEP_LIFT, INTEGRATED, OCCLUSION = PAPERS_EXPLAINERS = (
    "input_x_gradient",
    "lrp",
    "deep_lift",
    "integrated_gradients",
    "occlusion",
)
EPSILON, LIMIT = 1e-4, 1e-12  # of epsilon-LRP: in the curves, and where it stands for its limit
OPTIONS: dict[str, dict[str, Any]] = {
    TIMES: {},
    LRP: {
        "rule": "epsilon",
        "first": "same",
        "epsilon": EPSILON,
    },  # a convolution that sees the input has no rule of its own
    DEEP_LIFT: {"baseline": "zero"},
    INTEGRATED: {"baseline": "zero", "steps": 100},
    OCCLUSION: {"window": 1, "stride": 1, "baseline": "zero"},
}


def even_map(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """A control: every pixel has the same attribution."""
    return torch.ones_like(inputs)


CONSTANT = "constant"
CONTROLS_OF_CURVES: dict[str, dict[str, Any]] = {
    "random": {},
    "blurred_random": {},
    "edge": {},
    "input_magnitude": {},
    CONSTANT: {"name": even_map},
}


def subset_sizes(units: int, sizes: int, largest_share: float = LARGEST_SHARE) -> list[int]:
    """The numbers n of units that the metric ``sensitivity_n`` removes, evenly spaced on a logarithmic scale."""
    spaced = (largest_share * units) ** np.linspace(0, 1, sizes)
    return sorted({min(max(1, round(each)), units - 1) for each in spaced.tolist()})


def sensitivity_of_net(
    bench: str, net: str, training: int, epochs: int, images: int, sizes: int, draws: int
) -> pd.DataFrame:
    """Sensitivity-n of the paper's explainers and of controls on one net of a bench: its mean over images for each n.

    Columns: explainer; against, another of the paper's explainers whose score is subtracted on every image, or ``""``;
    n, or OVER_ALL; and those of ``_over_images``. The row ``labels`` holds the share of images whose class is right.
    """
    on = SENSITIVITY_BENCHES[bench]
    module, (shown, labels) = on.net(net, training, epochs), on.images(images)
    targets = module(shown).argmax(1)
    curves = _curves(module, shown, targets, OPTIONS | CONTROLS_OF_CURVES, sizes, draws)
    columns = [*subset_sizes(on.pixels, sizes), OVER_ALL]
    right = (targets == labels).double().numpy()
    rows = [{"explainer": "labels", "against": "", "n": OVER_ALL, **_over_images(right)}]
    for explainer, scores in curves.items():
        rows += _rows_of_curve(explainer, "", columns, scores)
    for first, second in combinations(PAPERS_EXPLAINERS, 2):
        rows += _rows_of_curve(first, second, columns, curves[first] - curves[second])
    return pd.DataFrame(rows)


def _rows_of_curve(explainer: str, against: str, columns: Sequence[int], scores: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"explainer": explainer, "against": against, "n": n, **_over_images(values)}
        for n, values in zip(columns, scores.T, strict=True)
    ]


def _curves(
    module: nn.Module, shown: Tensor, targets: Tensor, explainers: dict[str, dict[str, Any]], sizes: int, draws: int
) -> dict[str, np.ndarray]:
    """Explainer -> correlations (images, number of n + 1) by the metric ``sensitivity_n``; the last column is their
    mean over n. Subsets are the same for all explainers."""
    metric = {"sizes": sizes, "largest_share": LARGEST_SHARE, "draws": draws, "baseline": "zero", "score": "logit"}
    how = {"modality": "image", "explain_batch": AT_ONCE}
    frame = evaluate(module, shown, targets, explainers=explainers, metrics={"sensitivity_n": metric}, **how)
    failed = frame[frame["status"] == "failed"]
    if len(failed):
        raise RuntimeError(f"{failed['explainer'].iloc[0]}: {failed['error'].iloc[0]}")
    blank = [float("nan")] * len(subset_sizes(shown[0].numel(), sizes))  # of a control that has no score on any image
    return {
        name: np.array(
            [[*(blank if curve is None else curve), value] for curve, value in own[["curve", "value"]].values]
        )
        for name, own in frame.groupby("explainer", sort=False)
    }


def _over_images(values: np.ndarray) -> dict[str, float]:
    """The mean over images, its standard error, the least value, and of how many images; undefined ones are left out,
    and ``images`` tells that."""
    defined = values[np.isfinite(values)]
    nothing = float("nan")
    return {
        "mean": float(defined.mean()) if len(defined) else nothing,
        "error": float(defined.std(ddof=1) / np.sqrt(len(defined))) if len(defined) > 1 else nothing,
        "least": float(defined.min()) if len(defined) else nothing,
        "images": len(defined),
    }


ALL_FIVE, WITHOUT_LRP = "all five", "all but epsilon-LRP"


def spread_of_net(
    bench: str, net: str, training: int, epochs: int, images: int, sizes: int, draws: int, shares: list[float]
) -> pd.DataFrame:
    """How far the paper's explainers are apart on a net that is made more and more linear, see ``shrunk``.

    Columns: share; methods, ALL_FIVE or WITHOUT_LRP; what, ``spread`` for the difference between the largest and the
    smallest score of an image, ``fall`` for how much less that is than at the first share, ``score`` for the smallest
    score itself; and those of ``_over_images``. A score is the mean over n. The class is that of the whole net.
    """
    on = SENSITIVITY_BENCHES[bench]
    module, (shown, _) = on.net(net, training, epochs), on.images(images)
    targets = module(shown).argmax(1)
    explainers = OPTIONS | {LRP: {**OPTIONS[LRP], "epsilon": LIMIT}}  # hidden sums shrink, EPSILON would not
    rows, first = [], {}
    for share in shares:
        curves = _curves(shrunk(module, share), shown, targets, explainers, sizes, draws)
        scores = pd.DataFrame({name: values[:, -1] for name, values in curves.items()})
        rows += _rows_of_spread(share, scores, first)
    return pd.DataFrame(rows)


def _rows_of_spread(
    share: float, scores: pd.DataFrame, first: dict[str, np.ndarray]
) -> Iterator[dict[str, float | str]]:
    """The rows of one share; ``first`` is filled with the spreads at the first share."""
    for methods, own in ((ALL_FIVE, scores), (WITHOUT_LRP, scores.drop(columns=LRP))):
        least = own.min(axis=1, skipna=False).to_numpy()
        spread = own.max(axis=1, skipna=False).to_numpy() - least
        fall = first.setdefault(methods, spread) - spread
        for what, values in (("spread", spread), ("fall", fall), ("score", least)):
            yield {"share": share, "methods": methods, "what": what, **_over_images(values)}
