"""Whether the metrics of a run are reliable: agreement of samples, stability, and how many samples would be enough."""

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from harness.results.family import all_pairs
from harness.results.level import ALPHA
from harness.results.matrices import Matrix
from harness.results.numbers import one_figure
from harness.results.reliability import RELIABLE_ALPHA, krippendorff_alpha, split_half
from harness.results.sample_size import enough_samples, samples_range


def reliability(matrices: Iterable[Matrix], controls: Collection[str] = ()) -> pd.DataFrame:
    """One row per metric with a direction: ``explainers n alpha split_half enough needed needed_low needed_high
    separated reading``.

    alpha       Krippendorff's alpha of the samples' rankings
    split_half  correlation of the rankings by two halves of the samples
    enough      an upper limit of the number of samples with which the best explainer comes first in 95 % of data sets;
                missing if these samples do not show which explainer is the best; without controls
    needed      the number of samples that would separate the two best explainers (power 0.8), if the observed effect is
                the true one, with its range: ``needed_high`` is below what is needed in at most 5 % of cases, and
                infinite where the two may be equal; without controls
    The numbers of samples have one significant figure, ``enough``, ``needed`` and ``needed_high`` rounded up.
    separated   the share of pairs of explainers that are shown to differ
    """
    return pd.DataFrame(
        [_reliability_row(matrix, controls) for matrix in matrices if matrix.better in ("higher", "lower")]
    )


def _reliability_row(matrix: Matrix, controls: Collection[str]) -> dict[str, object]:
    matrix = matrix.compared
    values, p = matrix.complete, all_pairs(matrix).p
    alpha = krippendorff_alpha(values.to_numpy())
    own = Matrix(matrix.names, matrix.values[[n for n in matrix.values if n not in controls]], matrix.better)
    return {
        **matrix.names,
        "explainers": values.shape[1],
        "n": len(values),
        "alpha": alpha,
        "split_half": split_half(matrix),
        "enough": one_figure(enough) if (enough := enough_samples(own.complete.to_numpy())) else None,
        **_samples_to_separate(own.complete),
        "separated": _share_separated(p),
        "reading": "samples rank alike" if alpha >= RELIABLE_ALPHA else "only the mean over the data can be read",
    }


def _share_separated(p: np.ndarray) -> float:
    """The share of pairs that are shown to differ; NaN where there is none, or nothing is tested."""
    of_pairs = p[np.triu_indices(len(p), 1)]
    return float((of_pairs <= ALPHA).mean()) if np.isfinite(of_pairs).any() else float("nan")


def _samples_to_separate(values: pd.DataFrame) -> dict[str, float]:
    """The number of samples that would separate the two explainers with the best means, and its range."""
    names, order = ("needed", "needed_low", "needed_high"), values.mean().sort_values(ascending=False).index
    if len(order) < 2 or len(values) < 2:
        return dict.fromkeys(names, float("nan"))
    differences = values[order[0]] - values[order[1]]
    if not np.ptp(differences) > 0:
        return dict.fromkeys(names, float("nan"))
    found = samples_range(differences.to_numpy())
    rounded = one_figure(found.about), one_figure(found.low, up=False), one_figure(found.high)
    return dict(zip(names, rounded, strict=True))
