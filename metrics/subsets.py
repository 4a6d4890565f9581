"""Faithfulness by correlation: attributions against drops of the score over random subsets of units.

A patch's or a segment's attribution is the sum over its units. Subsets and the model's outputs without them do not
depend on the attributions: they are made once for all explainers. NaN where over the subsets of a size the output, or
the attribution, does not vary. The options are those of ``SubsetDraws`` and ``harness.metrics._groups.Grouping``.

In the examples f = 2 x_0 - x_1, and the baseline is 0.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._groups import Grouping, Groups, make_groups
from harness.metrics._sets import draw_sets, flat, outputs_without, set_sums
from harness.metrics._similarity import pearson, with_reason
from harness.metrics._subset_surrogate import Subsets, fit_surrogate
from harness.option_types import InnerShare, Several
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.removal.segments import Segmentation
from harness.samples import Samples
from harness.task import Score

NO_VARIATION = "over random subsets the output or the attribution does not vary"

# Former names of the options of ``SubsetDraws``.
RENAMED = {"subsets": "draws"}
ADDED = {"surrogate": False}  # an option that came later, and the value with which nothing changes


@dataclass(frozen=True)
class SubsetDraws:
    """Options of metrics that remove random subsets of units.

    draws      number of subsets drawn for each size, at least 2
    surrogate  whether the correlation over all subsets of a size is estimated with a surrogate of the output that is
               fitted to the drawn ones (``harness.metrics._subset_surrogate``), with a smaller error where the draws of
               all sizes are more than the groups
    baseline   what a removed unit becomes (draw 0 of a random one), as in ``harness.metrics._curve.Stepwise``
    score      of the explained class: ``logit``, ``probability`` or ``log_odds``
    """

    draws: Several = 100
    baseline: BaselineName | Tensor = "typical"
    score: Score = "logit"
    surrogate: bool = False


@metric(
    better="higher",
    unit="correlation",
    span=(-1, 1),
    chance=0,
    expects="contribution",
    renamed=RENAMED | {"share": "largest_share"},
    added=ADDED,
    curve_across=lambda options: f"step of n, from 1 to {100 * options['largest_share']:g} % of the units",
    curve_height="correlation over subsets of n",
)
def sensitivity_n(
    batch: Batch,
    *,
    sizes: Several = 10,
    largest_share: InnerShare = 0.8,
    subsets: SubsetDraws = SubsetDraws(),
    grouping: Grouping = Grouping(),
) -> Scores:
    """Correlation of a random subset's attribution and the drop of the score without it, over subsets of n units, mean
    over n (Ancona et al. 2018, 1711.06104).

    Pearson correlation per sample and per n. The values of n are ``sizes`` numbers from 1 to ``largest_share`` of the
    units, evenly spaced on a logarithmic scale and rounded: n_i = round((largest_share d)^(i / (sizes - 1))). A number
    that rounding repeats counts once, so that small inputs have fewer. Curves (N, number of n) are the correlations at
    each n. Where samples differ in their number of segments, n follows each sample's own number, and its curve repeats
    the correlation of a repeated n. In [-1, 1], higher is better. NaN for a sample of a single segment. NotApplicable
    for inputs of a single unit, and for a table without training inputs. Expects contributions; local maps, like
    gradients, are flagged.

    With two units the subsets are single units, whose drops are 2 and -1, and 4 and 0:

    >>> maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> harness.score("sensitivity_n", linear, inputs, targets, maps, baseline="zero").round(decimals=4).tolist()
    [1.0, -1.0]
    """
    groups = make_groups(batch.samples, grouping)
    counts = _log_spaced(groups, sizes, largest_share)
    curve = _correlations(batch.samples, groups, grouping, groups.sums(batch.attributions), counts, subsets)
    return _mean_over_sizes(curve, counts)


@metric(
    better="higher",
    unit="correlation",
    span=(-1, 1),
    chance=0,
    expects="contribution",
    renamed=RENAMED | {"share": "largest_share"},
    added=ADDED,
    curve_across=lambda options: f"step of n, from 1 to {100 * options['largest_share']:g} % of the segments",
    curve_height="correlation over subsets of n",
)
def seg_sensitivity_n(
    batch: Batch,
    *,
    sizes: Several = 10,
    largest_share: InnerShare = 0.8,
    subsets: SubsetDraws = SubsetDraws(),
    segments: Segmentation | Tensor = "regions",
    segment_reduce: Literal["mean", "sum"] = "sum",
) -> Scores:
    """Correlation of a random subset's attribution and the drop of the score without it, over subsets of n segments,
    mean over n (Gevaert et al. 2024, 2202.12270).

    ``sensitivity_n`` with segments in place of units, with which it shares the model's outputs. n runs to
    ``largest_share`` of the segments that a sample has. ``segment_reduce``: a segment's attribution is the ``sum`` over
    its units, which is what it contributes, or their ``mean``, as in the authors' code; with segments of equal size
    both give the same. In [-1, 1], higher is better; curves as for ``sensitivity_n``. NaN where over the subsets of a
    size the output, or the attribution, does not vary, as with a single segment. ``segments`` are superpixels of an
    image, the words of a text, and else up to 100 parts. NotApplicable for ``slic`` segments of inputs that are no
    images.

    f is the sum of the upper left of four squares; removing it, or not, is all that matters:

    >>> options = {"segments": "grid:2", "largest_share": 0.25, "baseline": "zero"}
    >>> scores = harness.score("seg_sensitivity_n", image_model, images, targets[:1], corner.float(), **options)
    >>> scores.round(decimals=4).tolist()
    [1.0]
    """
    grouping = Grouping("segment", segments=segments)
    groups = make_groups(batch.samples, grouping)
    counts, values = _log_spaced(groups, sizes, largest_share), groups.sums(batch.attributions)
    if segment_reduce == "mean":
        values = values / groups.sizes.clamp(min=1)
    return _mean_over_sizes(_correlations(batch.samples, groups, grouping, values, counts, subsets), counts)


@metric(
    better="higher", unit="correlation", span=(-1, 1), chance=0, expects="contribution", renamed=RENAMED, added=ADDED
)
def faithfulness_correlation(
    batch: Batch,
    *,
    share: InnerShare = 0.2,
    subsets: SubsetDraws = SubsetDraws(),
    grouping: Grouping = Grouping(),
) -> Scores:
    """Correlation of a random subset's attribution and the drop of the score without it, over subsets of one size
    (Bhatt et al. 2020, 2005.00631).

    Pearson correlation per sample over ``draws`` subsets of ``share`` of the units. In [-1, 1], higher is better; for
    attributions that have nothing to do with the model it spreads around 0 with standard deviation
    1 / sqrt(draws - 1). The paper removes to the training mean, which is ``baseline="train_mean"``, the default on
    tables. NotApplicable for inputs of a single unit, and for a table without training inputs. Expects contributions;
    local maps, like gradients, are flagged.

    With two units the subsets are single units, whose drops are 2 and -1, and 4 and 0:

    >>> maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> scores = harness.score("faithfulness_correlation", linear, inputs, targets, maps, baseline="zero")
    >>> scores.round(decimals=4).tolist()
    [1.0, -1.0]
    """
    groups = make_groups(batch.samples, grouping)
    counts = _at_most_all_but_one(share * groups.totals.double()[:, None], groups, share)
    values = _correlations(batch.samples, groups, grouping, groups.sums(batch.attributions), counts, subsets)
    return with_reason(values[:, 0], NO_VARIATION)


def _mean_over_sizes(curve: Tensor, counts: Tensor) -> Scores:
    """The mean of correlations (N, S) over each sample's different sizes ``counts`` (N, S), which ascend."""
    fresh = counts.diff(dim=1, prepend=counts[:, :1] - 1) > 0
    first = torch.arange(counts.shape[1], device=counts.device).where(fresh, 0).cummax(1).values
    mean = curve.masked_fill(~fresh, 0).sum(1) / fresh.sum(1)
    return with_reason(mean, NO_VARIATION, curves=curve.gather(1, first))


def _log_spaced(groups: Groups, sizes: int, share: float) -> Tensor:
    """Sizes (N, S) from 1 to ``share`` of each sample's groups; each once where all samples have equally many."""
    largest = (share * groups.totals.double()[:, None]).clamp(min=1)
    # On the CPU, so that powers are rounded the same way wherever the samples are.
    spaced = largest.cpu() ** torch.linspace(0, 1, sizes, dtype=torch.float64)
    counts = _at_most_all_but_one(spaced.to(largest.device), groups, share)
    return counts[:, counts[0].diff(prepend=counts[0, :1] - 1) > 0] if groups.everyone else counts


def _at_most_all_but_one(sizes: Tensor, groups: Groups, share: float) -> Tensor:
    """Sizes (N, S) as whole numbers from 1 to one less than all: there is only one subset of all units."""
    return torch.minimum(sizes.round().long().clamp(min=1), groups.totals[:, None] - 1)


def _correlations(
    samples: Samples, groups: Groups, grouping: Grouping, values: Tensor, counts: Tensor, subsets: SubsetDraws
) -> Tensor:
    """Pearson correlation (N, S) of the values (N, G) of random subsets of each size and the drop without them."""
    shape = (len(samples), counts.shape[1], subsets.draws)
    key = ("subsets", grouping.key, tuple(map(tuple, counts.tolist())), subsets.draws)
    packed = samples.shared(key, lambda: _draw_subsets(samples, groups, counts, subsets.draws))
    without = lambda: outputs_without(samples, groups, packed, subsets.baseline)
    outputs = pick(samples.outputs((*key, subsets.baseline), without), subsets.score).view(shape)
    drops = -outputs  # f(x) - f(x without S) and -f(x without S) have the same correlation with everything
    if subsets.surrogate:
        drawn = Subsets(samples, groups, counts, packed)
        key = ("subset surrogate", *key, subsets.baseline, subsets.score)
        found = samples.shared(key, lambda: fit_surrogate(drawn, drops)).correlations(drawn, values)
    else:
        found = pearson(set_sums(values, packed).view(shape), drops)
    return found.masked_fill(flat(outputs), float("nan"))


def _draw_subsets(samples: Samples, groups: Groups, counts: Tensor, draws: int) -> Tensor:
    """Packed subsets (N, S * draws, bytes), size by size."""
    drawn = [draw_sets(samples, groups, f"subsets {i}", draws, counts[:, i]) for i in range(counts.shape[1])]
    return torch.cat(drawn, 1)
