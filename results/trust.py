"""Whether the metrics of a run are reliable: agreement of samples, stability, and how many samples would be enough."""

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from harness.results.family import all_pairs
from harness.results.level import ALPHA
from harness.results.matrices import Matrix
from harness.results.numbers import one_figure
from harness.results.one_vote import rank_as
from harness.results.reliability import RELIABLE_ALPHA, krippendorff_alpha, split_half
from harness.results.sample_size import enough_samples, samples_range
from harness.results.ties import differences_on_samples


def reliability(matrices: Iterable[Matrix], controls: Collection[str] = ()) -> pd.DataFrame:
    """One row per metric with a direction: ``explainers n alpha split_half enough needed needed_low needed_high
    separated reading ranks_as``.

    No number counts controls: a control that is far behind all others is behind on every sample, so that agreement
    looks high even if the explainers that one would choose from are ordered by chance.

    explainers  how many were compared, on ``n`` samples
    alpha       Krippendorff's alpha of the samples' rankings
    split_half  correlation of the rankings by two halves of the samples
    enough      an upper limit of the number of samples with which the best explainer comes first in 95 % of data sets;
                missing if these samples do not show which explainer is the best
    needed      the number of samples that would separate the two best explainers (power 0.8), if the observed effect is
                the true one, with its range: ``needed_high`` is below what is needed in at most 5 % of cases, and
                infinite where the two may be equal
    The numbers of samples have one significant figure, ``enough``, ``needed`` and ``needed_high`` rounded up.
    separated   the share of pairs of explainers that are shown to differ, by the tests that also give the letters
    ranks_as    an earlier metric of the table that ranks explainers identically, "" for none: both are one vote
    """
    directed = [matrix for matrix in matrices if matrix.better in ("higher", "lower")]
    same = rank_as([matrix.without(controls) for matrix in directed])
    rows = [_reliability_row(matrix, controls) for matrix in directed]
    return pd.DataFrame([{**row, "ranks_as": metric} for row, metric in zip(rows, same, strict=True)])


def _reliability_row(matrix: Matrix, controls: Collection[str]) -> dict[str, object]:
    own = matrix.without(controls).compared
    values, alpha = own.complete, krippendorff_alpha(own.complete.to_numpy())
    return {
        **matrix.names,
        "explainers": values.shape[1],
        "n": len(values),
        "alpha": alpha,
        "split_half": split_half(own),
        "enough": one_figure(enough) if (enough := enough_samples(values.to_numpy())) else None,
        **_samples_to_separate(values),
        "separated": _share_separated(matrix, controls),
        "reading": _reading(alpha),
    }


def _reading(alpha: float) -> str:
    if not np.isfinite(alpha):
        return "no agreement: it needs two samples and two explainers that are no controls and differ"
    return "samples rank alike" if alpha >= RELIABLE_ALPHA else "only the mean over the data can be read"


def _share_separated(matrix: Matrix, controls: Collection[str]) -> float:
    """The share of pairs of explainers that are shown to differ; NaN where there is none, or nothing is tested.

    All explainers, controls too, are one family of tests, as for the letters.
    """
    family = all_pairs(matrix.compared)
    own = [place for place, name in enumerate(family.names) if name not in controls]
    of_pairs = family.p[np.ix_(own, own)][np.triu_indices(len(own), 1)]
    return float((of_pairs <= ALPHA).mean()) if np.isfinite(of_pairs).any() else float("nan")


def _samples_to_separate(values: pd.DataFrame) -> dict[str, float]:
    """The number of samples that would separate the two explainers with the best means, and its range."""
    names, order = ("needed", "needed_low", "needed_high"), values.mean().sort_values(ascending=False).index
    if len(order) < 2 or len(values) < 2:
        return dict.fromkeys(names, float("nan"))
    differences = differences_on_samples(values[order[0]].to_numpy(), values[order[1]].to_numpy())
    if not np.ptp(differences) > 0:
        return dict.fromkeys(names, float("nan"))
    found = samples_range(differences)
    rounded = one_figure(found.about), one_figure(found.low, up=False), one_figure(found.high)
    return dict(zip(names, rounded, strict=True))
