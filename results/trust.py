"""Whether the metrics of a run are reliable: agreement of samples, stability, and how many samples would be enough."""

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from harness.results.family import ALPHA, all_pairs
from harness.results.matrices import Matrix
from harness.results.reliability import RELIABLE_ALPHA, krippendorff_alpha, samples_needed, split_half, stability


def reliability(matrices: Iterable[Matrix], controls: Collection[str] = ()) -> pd.DataFrame:
    """One row per metric with a direction: ``explainers n alpha split_half enough needed separated reading``.

    alpha       Krippendorff's alpha of the samples' rankings
    split_half  correlation of the rankings by two halves of the samples
    enough      the smallest number of samples from which on the best explainer stays the best in 95 % of random
                subsamples; missing if the run has too few samples for that; without controls
    needed      the number of samples that would separate the two best explainers (power 0.8), if the observed effect is
                the true one; without controls
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
        "enough": stability(own).enough if len(own.values.columns) > 1 else None,
        "needed": _samples_to_separate(own.complete),
        "separated": _share_separated(p),
        "reading": "samples rank alike" if alpha >= RELIABLE_ALPHA else "only the mean over the data can be read",
    }


def _share_separated(p: np.ndarray) -> float:
    """The share of pairs that are shown to differ; NaN where there is none, or nothing is tested."""
    of_pairs = p[np.triu_indices(len(p), 1)]
    return float((of_pairs <= ALPHA).mean()) if np.isfinite(of_pairs).any() else float("nan")


def _samples_to_separate(values: pd.DataFrame) -> float:
    """The number of samples that would separate the two explainers with the best means."""
    order = values.mean().sort_values(ascending=False).index
    if len(order) < 2 or len(values) < 2:
        return float("nan")
    differences = values[order[0]] - values[order[1]]
    spread = differences.std(ddof=1)
    return samples_needed(differences.mean() / spread) if spread > 0 else float("nan")
