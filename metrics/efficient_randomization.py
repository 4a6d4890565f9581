"""Efficient and smooth forms of the sanity check by random weights, after Hedström et al. 2024 (2405.02383)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._randomised import RENAMED, ExplainedClass, Randomisation, RandomWeights, randomised_maps
from harness.metrics._similarity import SimilarityName, similarity_of, similarity_unit, with_reason
from harness.metrics._smooth_maps import smooth_maps
from harness.option_types import ChangeOrNone, Count, Repeats, Several
from harness.registry import metric

OVER_SEEDS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda rises: rises.mean(1),
    "median": lambda rises: rises.quantile(0.5, 1),
}


@metric(
    better="higher",
    unit="relative change",
    span=(-1, None),
    kind="sanity",
    needs=("explainer",),
    renamed=RENAMED,
    curve_across=None,
)
def efficient_parameter_randomization(
    batch: Batch,
    *,
    bins: Several = 100,
    weights: RandomWeights = RandomWeights(),
    weight_seeds: Repeats = 3,
    over_seeds: Literal["mean", "median"] = "mean",
    explained_class: ExplainedClass = "fixed",
) -> Scores:
    """Relative rise of an explanation's entropy when all weights become random (eMPRT: Hedström et al. 2024,
    2405.02383).

    (H(a_random) - H(a)) / H(a), H being the entropy in nats of a histogram of the signed map in ``bins`` equal bins
    over its own range. A positive factor does not change it, so that the paper's normalisation by the second moment is
    implied. ``over_seeds`` is the ``mean`` or the ``median`` over ``weight_seeds`` sets of random weights from
    ``weight_seed`` up; curves (N, weight_seeds) are the rises of each. At least -1, unbounded above; higher is better.
    The score rewards noise: Guided Backprop comes first in the paper, although it fails the test that this one
    replaces. ``explained_class`` as in ``parameter_randomization``. NaN where a map is not finite or H(a) is 0, as for
    a constant map. NotApplicable for attributions given without their explainer, and for models without parameters.

    The entropy of a map that does not look at the model stays the same:

    >>> name, options = "efficient_parameter_randomization", {"explainer": "input_magnitude"}
    >>> harness.score(name, linear, inputs[1:], targets[1:], inputs[1:], **options).tolist()
    [0.0]
    """
    randomisation = Randomisation(**vars(weights), explained_class=explained_class)
    before = histogram_entropy(batch.reduced(batch.raw), bins)
    each_map = [randomised_maps(batch, each)[:, 0] for each in randomisation.with_seeds(weight_seeds)]
    after = torch.stack([histogram_entropy(maps, bins) for maps in each_map], 1)
    rises = (after - before[:, None]) / before.masked_fill(before == 0, float("nan"))[:, None]
    reason = "the explanation has an entropy of 0, like a constant map, or a map is not finite"
    return with_reason(OVER_SEEDS[over_seeds](rises), reason, curves=rises)


@metric(
    better="lower",
    unit=similarity_unit,
    span=(-1, 1),
    kind="sanity",
    needs=("explainer",),
    renamed=RENAMED | {"samples": "draws"},
    curve_across=lambda options: f"stages made random ({options['mode']})",
    curve_height="similarity to the original map",
)
def smooth_parameter_randomization(
    batch: Batch,
    *,
    draws: Count = 50,
    noise: ChangeOrNone = 0.1,
    randomisation: Randomisation = Randomisation(),
    similarity: SimilarityName = "ssim",
) -> Scores:
    """Similarity of explanations averaged over noisy inputs, before and after the weights are random (sMPRT: Hedström
    et al. 2024, 2405.02383).

    ``parameter_randomization`` with the same options, but on means of the explainer's maps over ``draws`` draws of
    Gaussian noise on the input, with a standard deviation of ``noise`` times the range of the data's values; the draws
    are the same for every model and explainer. With ``stages`` 1, as published, the only stage is a model in which all
    weights are random; with more, the score is the mean over stages, and curves (N, stages) are the similarities at
    each. At most 1, lower is better. It judges the smoothed version of every explainer, at ``draws`` times the cost.
    NaN where a mean map is constant or not finite. NotApplicable as for ``parameter_randomization``: ``ssim`` needs
    images (``similarity="spearman"`` serves all inputs), and noise on a table needs training inputs or a declared range
    of its columns.

    A map that does not look at the model stays the same:

    >>> name, options = "smooth_parameter_randomization", {"similarity": "spearman", "draws": 2}
    >>> data = harness.Data(inputs[1:], targets[1:], value_range=(0, 2))
    >>> similarity = harness.score(name, linear, data, inputs[1:], explainer="input_magnitude", **options)
    >>> similarity.round(decimals=4).tolist()
    [1.0]
    """
    alike = similarity_of(similarity, batch.units.shape)
    batch.need_explainer()
    before, after = smooth_maps(batch, randomisation, draws, noise)
    curve = torch.stack([alike(before, maps) for maps in after.unbind(1)], 1)
    reason = "a mean map of the original or a randomised model is constant or not finite"
    return with_reason(curve.mean(1), reason, curves=curve)


def histogram_entropy(maps: Tensor, bins: int) -> Tensor:
    """Entropy (N,) in nats of a histogram of each map's values in equal bins over its own range.

    The largest value belongs to the last bin. 0 for a constant map, NaN for a map that is not finite.
    """
    values = maps.flatten(1).double()
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    edges = low + torch.arange(bins, device=values.device) * ((high - low) / bins)
    place = torch.searchsorted(edges, values, right=True).sub(1).clamp(0, bins - 1)
    counts = torch.zeros(len(values), bins, dtype=torch.float64, device=values.device)
    counts.scatter_add_(1, place, torch.ones_like(values))
    entropy = torch.special.entr(counts / values.shape[1]).sum(1)
    return entropy.masked_fill(~values.isfinite().all(1), float("nan"))
