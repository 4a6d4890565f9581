"""Faithfulness by correlation: attribution against drop of the score over random subsets of units.

Shared options: ``subsets`` drawn per size, ``baseline`` what a removed unit becomes (draw 0 of a random one), ``score``
of the explained class, ``granularity`` what is drawn: units, ``patch``es (side in units) or ``segments``, whose
attribution is the sum over their units. Subsets and the model's outputs without them do not depend on the
attributions: they are made once for all explainers. NaN where over the subsets of a size the output, or the
attribution, does not vary.
"""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError, unknown
from harness.metrics._groups import Groups, groups
from harness.metrics._sets import draw_sets, flat, outputs_without, set_sums
from harness.metrics._similarity import pearson, with_reason
from harness.predictor import pick
from harness.registry import metric
from harness.samples import Samples

REDUCTIONS = ("mean", "sum")
REASON = "over random subsets the output or the attribution does not vary"


@metric(better="higher", unit="correlation", kind="faithfulness", expects="contribution")
def sensitivity_n(
    batch: Batch,
    *,
    sizes: int = 10,
    share: float = 0.8,
    subsets: int = 100,
    baseline: str | Tensor = "zero",
    score: str = "logit",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
) -> Scores:
    """Correlation of attribution and drop over random subsets of n units, mean over n (Ancona et al. 2018, 1711.06104).

    Pearson per sample and per n, for ``sizes`` log-spaced n from 1 to ``share`` of the units, each n once; curves
    (N, number of n) hold the correlation at each n. In [-1, 1], higher is better. Where samples differ in their number
    of segments, n follows each sample's own number. NotApplicable with a single unit. Expects contributions; for
    local maps, like gradients, a flag says so.
    """
    found = groups(batch.samples, granularity, patch, segments)
    counts = _log_spaced(found, sizes, share)
    sums = found.sums(batch.attributions)
    curve = _correlations(
        batch.samples, found, _key(granularity, patch, segments), sums, counts, subsets, baseline, score
    )
    return with_reason(curve.mean(1), REASON, curves=curve)


@metric(better="higher", unit="correlation", kind="faithfulness", expects="contribution")
def seg_sensitivity_n(
    batch: Batch,
    *,
    sizes: int = 10,
    share: float = 0.8,
    subsets: int = 100,
    baseline: str | Tensor = "zero",
    score: str = "logit",
    segments: str | Tensor = "slic:100",
    segment_reduce: str = "sum",
) -> Scores:
    """Correlation of attribution and drop over random subsets of n segments, mean over n (Gevaert et al. 2024,
    2202.12270).

    ``sensitivity_n`` with segments for units, with which it shares the model's outputs. n runs to ``share`` of the
    segments that a sample really has. ``segment_reduce``: a segment's attribution is the ``sum`` over its units, what
    it contributes, or their ``mean``, as in the authors' code; with segments of equal size both give the same. In
    [-1, 1], higher is better; curves as there. NaN where over the subsets of a size the output, or the attribution,
    does not vary, as with a single segment. NotApplicable for slic segments of what is not an image.
    """
    if segment_reduce not in REDUCTIONS:
        raise unknown("segment_reduce", segment_reduce, REDUCTIONS)
    found = groups(batch.samples, "segment", patch=1, segments=segments)
    counts, values = _log_spaced(found, sizes, share), found.sums(batch.attributions)
    if segment_reduce == "mean":
        values = values / found.sizes.clamp(min=1)
    curve = _correlations(batch.samples, found, _key("segment", 1, segments), values, counts, subsets, baseline, score)
    return with_reason(curve.mean(1), REASON, curves=curve)


@metric(better="higher", unit="correlation", kind="faithfulness", expects="contribution")
def faithfulness_correlation(
    batch: Batch,
    *,
    share: float = 0.2,
    subsets: int = 100,
    baseline: str | Tensor = "mean",
    score: str = "logit",
    granularity: str = "unit",
    patch: int = 16,
    segments: str | Tensor = "slic:100",
) -> Scores:
    """Correlation of attribution and drop over random subsets of one size (Bhatt et al. 2020, 2005.00631).

    Pearson per sample over ``subsets`` subsets of ``share`` of the units. In [-1, 1], higher is better; for
    attributions that have nothing to do with the model it spreads around 0 with sd 1 / sqrt(subsets - 1). The paper
    removes to the training mean: that is ``baseline="train_mean"``; the default needs no training data.
    NotApplicable with a single unit. Expects contributions; for local maps, like
    gradients, a flag says so.
    """
    found = groups(batch.samples, granularity, patch, segments)
    counts = _at_most_all_but_one(share * found.totals.double()[:, None], found, share)
    sums = found.sums(batch.attributions)
    values = _correlations(
        batch.samples, found, _key(granularity, patch, segments), sums, counts, subsets, baseline, score
    )
    return with_reason(values[:, 0], REASON)


def _key(granularity: str, patch: int, segments: str | Tensor) -> tuple:
    """What stands for the groups: of the options those that decide them."""
    return granularity, {"patch": patch, "segment": segments}.get(granularity)


def _log_spaced(found: Groups, sizes: int, share: float) -> Tensor:
    """Sizes (N, S) from 1 to ``share`` of each sample's groups; each once where all samples are alike."""
    if sizes < 2:
        raise UserError(f"sizes is {sizes}, expected at least 2")
    largest = (share * found.totals.double()[:, None]).clamp(min=1)
    # On the CPU, whose powers round the same way wherever the samples are.
    spaced = largest.cpu() ** torch.linspace(0, 1, sizes, dtype=torch.float64)
    counts = _at_most_all_but_one(spaced.to(largest.device), found, share)
    return counts[:, counts[0].diff(prepend=counts[0, :1] - 1) > 0] if found.alike else counts


def _at_most_all_but_one(sizes: Tensor, found: Groups, share: float) -> Tensor:
    """Sizes (N, S) as whole numbers from 1 to one less than all: over all units there is a single subset."""
    if not 0 < share < 1:
        raise UserError(f"share is {share}, expected a number between 0 and 1")
    return torch.minimum(sizes.round().long().clamp(min=1), found.totals[:, None] - 1)


def _correlations(
    samples: Samples,
    found: Groups,
    partition: tuple,
    values: Tensor,
    counts: Tensor,
    subsets: int,
    baseline: str | Tensor,
    score: str,
) -> Tensor:
    """Pearson (N, S) between the values (N, G) of random subsets of each size and the drop of the score without."""
    if subsets < 2:
        raise UserError(f"subsets is {subsets}, expected at least 2")
    shape = (len(samples), counts.shape[1], subsets)
    key = ("subsets", partition, tuple(map(tuple, counts.tolist())), subsets)
    packed = samples.shared(key, lambda: _draw(samples, found, counts, subsets))
    tracked = samples.outputs((*key, baseline), lambda: outputs_without(samples, found, packed, baseline))
    outputs = pick(tracked, score).view(shape)
    sums = set_sums(values, packed).view(shape)
    # f(x) - f(x without S) and -f(x without S) correlate alike with everything.
    return pearson(sums, -outputs).masked_fill(flat(outputs), float("nan"))


def _draw(samples: Samples, found: Groups, counts: Tensor, subsets: int) -> Tensor:
    """Packed subsets (N, S * subsets, bytes), size by size."""
    drawn = [draw_sets(samples, found, f"subsets {i}", subsets, counts[:, i]) for i in range(counts.shape[1])]
    return torch.cat(drawn, 1)
