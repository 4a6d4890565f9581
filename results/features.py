"""A map of samples by the model's features: t-SNE of penultimate features, coloured by class and by a score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.errors import NotApplicable
from harness.results.figures import GREY, SEQUENTIAL, figure, looks, save, tidy
from harness.results.fonts import shortened

LEAST, PERPLEXITY = 8, 30.0
MOST_NAMED = 14


def embed(features: np.ndarray, *, seed: int) -> tuple[np.ndarray, float]:
    """Places (N, 2) of features (N, D) by t-SNE (van der Maaten and Hinton 2008), and the perplexity used.

    The perplexity is 30, or a third of the samples where they are few. NotApplicable for fewer than eight samples and
    for features that do not differ.
    """
    from sklearn.manifold import TSNE  # here and not above: scikit-learn takes seconds to import

    if len(features) < LEAST:
        raise NotApplicable(f"t-SNE needs at least {LEAST} samples, there are {len(features)}")
    if np.ptp(features, axis=0).max() == 0:
        raise NotApplicable("the features of all samples are the same")
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    drawing = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(features)
    return drawing.astype(np.float64), perplexity


def draw_features(
    path: Path,
    places: np.ndarray,
    samples: Sequence[str],
    classes: Sequence[str],
    *,
    predictions: Sequence[str],
    score: pd.Series | None,
    score_name: str,
    title: str,
    note: str,
) -> list[Path]:
    """Places (N, 2) coloured by class, and beside it by a score per sample where there is one."""
    drawing = figure(4.6 if score is not None else 6.0, title, note)
    axes = np.atleast_1d(drawing.subplots(1, 1 + (score is not None)))
    _by_class(axes[0], places, np.asarray(classes), np.asarray(predictions))
    if score is not None:
        _by_score(drawing, axes[1], places, score.to_numpy(), score_name)
    columns: dict[str, Any] = {
        "sample": list(samples),
        "x": places[:, 0],
        "y": places[:, 1],
        "class": list(classes),
        "prediction": list(predictions),
    }
    return save(drawing, path, pd.DataFrame(columns | ({} if score is None else {score_name: score.to_numpy()})))


def _by_class(axis: Any, places: np.ndarray, classes: np.ndarray, predictions: np.ndarray) -> None:
    names, counts = np.unique(classes, return_counts=True)
    named = set(names[np.argsort(-counts, kind="stable")[:MOST_NAMED]])
    for name, (colour, marker) in zip(names, looks(len(names)), strict=True):
        mine = classes == name
        axis.scatter(
            *places[mine].T,
            s=14,
            color=colour,
            marker=marker,
            linewidths=0,
            label=shortened(name, 18) if name in named else None,
        )
    wrong = classes != predictions
    if wrong.any():
        axis.scatter(*places[wrong].T, s=60, facecolors="none", edgecolors="#1d1d1f", linewidths=0.8, label="wrong")
    left_out = len(names) - len(named)
    legend = axis.legend(
        fontsize=6.5,
        ncols=min(6, len(named) + 1),
        loc="upper center",
        bbox_to_anchor=(0.5, -0.02),
        frameon=False,
        handletextpad=0.2,
        columnspacing=0.9,
        title=f"and {left_out} classes more" if left_out else None,
    )
    legend.get_title().set_fontsize(6.5)
    _without_frame(tidy(axis, "by class"))


def _by_score(drawing: Any, axis: Any, places: np.ndarray, score: np.ndarray, name: str) -> None:
    known = np.isfinite(score)
    axis.scatter(*places[~known].T, s=12, color="#c7c7cc", marker="x", linewidths=0.8)
    dots = axis.scatter(*places[known].T, s=14, c=score[known], cmap=SEQUENTIAL, linewidths=0)
    bar = drawing.colorbar(dots, ax=axis, orientation="horizontal", fraction=0.05, pad=0.02)
    bar.ax.tick_params(labelsize=7)
    bar.set_label(
        f"{(~known).sum()} samples without a score: grey crosses" if (~known).any() else "", fontsize=7, color=GREY
    )
    _without_frame(tidy(axis, f"by {name}"))


def _without_frame(axis: Any) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)
