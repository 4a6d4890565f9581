"""Efficient and smooth forms of the test by random weights, after Hedström et al. 2024 (2405.02383)."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError, unknown
from harness.metrics._randomised import Explain, Randomisation, at_each_stage, randomised_maps
from harness.metrics._similarity import similarity_of, with_reason
from harness.randomness import normal, skip
from harness.registry import metric
from harness.samples import Samples

OVER_SEEDS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda rises: rises.mean(1),
    "median": lambda rises: rises.quantile(0.5, 1),
}
ROWS = 256  # noisy inputs explained at a time: full batches for the explainer, whatever the number of samples


@metric(better="higher", unit="relative change", kind="sanity", needs=("explainer",))
def efficient_parameter_randomization(
    batch: Batch,
    *,
    bins: int = 100,
    weight_seed: int = 0,
    weight_seeds: int = 3,
    over_seeds: str = "mean",
    target: str = "fixed",
    running_statistics: str = "keep",
) -> Scores:
    """Relative rise of an explanation's entropy when all weights become random (eMPRT: Hedström et al. 2024,
    2405.02383).

    (H(a_random) - H(a)) / H(a), H the entropy in nats of a histogram of the signed map in ``bins`` even bins over its
    own range, which no positive factor changes: the paper's normalisation by the second moment is implied. ``mean`` or
    ``median`` over ``weight_seeds`` sets of random weights from ``weight_seed`` up; curves (N, weight_seeds) hold each.
    From -1 up, unbounded; higher is better. What it rewards is noise: Guided Backprop comes first in the paper, which
    fails the test it replaces. ``target`` and ``running_statistics`` as in ``parameter_randomization``. NaN where a map
    is not finite or H(a) is 0, as of a constant map. NotApplicable for attributions given without their explainer, and
    for models without parameters.
    """
    if over_seeds not in OVER_SEEDS:
        raise unknown("over_seeds", over_seeds, OVER_SEEDS)
    if bins < 2:
        raise UserError(f"bins is {bins}, expected a number of bins of a histogram from 2")
    hows = Randomisation(target=target, weight_seed=weight_seed, running_statistics=running_statistics)
    before = histogram_entropy(batch.reduced(batch.raw), bins)
    after = [histogram_entropy(randomised_maps(batch, how)[:, 0], bins) for how in hows.seeds(weight_seeds)]
    rises = (torch.stack(after, 1) - before[:, None]) / before.masked_fill(before == 0, float("nan"))[:, None]
    reason = "the explanation has no entropy to rise, as of a constant map, or a map is not finite"
    return with_reason(OVER_SEEDS[over_seeds](rises), reason, curves=rises)


@metric(better="lower", unit=lambda options: options["similarity"], kind="sanity", needs=("explainer",))
def smooth_parameter_randomization(
    batch: Batch,
    *,
    samples: int = 50,
    noise: float = 0.1,
    stages: int = 1,
    mode: str = "cascading",
    similarity: str = "ssim",
    target: str = "fixed",
    weight_seed: int = 0,
    running_statistics: str = "keep",
) -> Scores:
    """Similarity of explanations averaged over noisy inputs, before and after the weights are random (sMPRT: Hedström
    et al. 2024, 2405.02383).

    As ``parameter_randomization`` with the same options, but on means of the explainer's own maps over ``samples``
    draws of Gaussian noise on the input with a standard deviation of ``noise`` times the range of the data's values,
    the same draws for every model and explainer. With ``stages`` 1, as published, the one stage is a model that is
    random throughout; with more, the mean over stages, which curves (N, stages) hold. At most 1, lower is better. It
    judges every explainer by its smoothed version, at ``samples`` times the cost. NaN where a mean map is constant or
    not finite. NotApplicable as in ``parameter_randomization``: ``ssim`` needs images.
    """
    how = Randomisation(mode, stages, target, weight_seed, running_statistics)
    alike = similarity_of(similarity, batch.units.shape)
    if samples < 1 or noise < 0:
        raise UserError(
            f"samples is {samples} and noise {noise}, expected draws from 1 and a share of the range from 0"
        )
    batch.need_explainer()
    smooth = lambda explain, inputs: _smooth_maps(batch, explain, inputs, samples, noise)
    before = batch.remember(("smooth maps", samples, noise), lambda: smooth(batch.explain, batch.samples))
    key = ("smooth maps of random weights", samples, noise, how)
    after = batch.remember(key, lambda: at_each_stage(batch, how, smooth))
    curve = torch.stack([alike(before, maps) for maps in after.unbind(1)], 1)
    reason = "a mean map of the original or a randomised model is constant or not finite"
    return with_reason(curve.mean(1), reason, curves=curve)


def histogram_entropy(maps: Tensor, bins: int) -> Tensor:
    """Entropy (N,) in nats of a histogram of each map's values in even bins over its own range; a constant map has 0.

    The largest value belongs to the last bin. NaN for a map that is not finite.
    """
    values = maps.flatten(1).double()
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    edges = low + torch.arange(bins, device=values.device) * ((high - low) / bins)
    place = torch.searchsorted(edges, values, right=True).sub(1).clamp(0, bins - 1)
    counts = torch.zeros(len(values), bins, dtype=torch.float64, device=values.device)
    counts.scatter_add_(1, place, torch.ones_like(values))
    entropy = torch.special.entr(counts / values.shape[1]).sum(1)
    return entropy.masked_fill(~values.isfinite().all(1), float("nan"))


def _smooth_maps(batch: Batch, explain: Explain, samples: Samples, draws: int, noise: float) -> Tensor:
    """Mean map (N, *units) over the noisy inputs, float64; some rows at a time."""
    sums = torch.zeros(len(samples), *batch.units.shape, dtype=torch.float64, device=samples.inputs.device)
    # Nobody will ask again what the model says of noisy inputs: nothing of theirs is kept from run to run.
    for noisy, rows in _noisy(replace(samples, output_cache=None), draws, noise):
        sums.index_add_(0, rows, batch.reduced(explain(noisy)).double())
    return sums / draws


def _noisy(samples: Samples, draws: int, noise: float) -> Iterator[tuple[Samples, Tensor]]:
    """Every sample with each of its draws of noise, some rows at a time, and each row's sample number."""
    low, high = (bound.expand_as(samples.inputs) for bound in samples.input_range())
    keys, shape = samples.stream("smooth_parameter_randomization"), samples.inputs.shape[1:]
    for rows in torch.arange(len(samples) * draws, device=samples.inputs.device).split(ROWS):
        sample, draw = rows // draws, rows % draws
        # A normal draw takes two words of the stream.
        added = normal(skip(keys[sample], 2 * shape.numel() * draw), *shape)
        inputs = samples.inputs[sample] + noise * (high - low)[sample] * added
        yield samples.with_inputs(inputs, sample), sample
