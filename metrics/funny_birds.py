"""Parts of the input and interventions on them, after FunnyBirds (Hesse et al. 2023, 2308.06248).

The published data are rendered birds whose parts, and objects in the background, are really taken away. Here a part is
a segment, and to take it away is to replace it by the baseline. The model's outputs without each part are computed once
for all explainers. The options are those of ``PartRemoval``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._groups import Grouping, Groups, make_groups
from harness.metrics._masks import object_masks
from harness.metrics._outputs import all_outputs, noted_if_not_finite, outputs_of_draws
from harness.metrics._removal import changes, outputs_without_each
from harness.metrics._similarity import with_reason
from harness.metrics.random_logit import other_class_maps, other_classes
from harness.option_types import Positive
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.removal.segments import Segmentation
from harness.samples import Samples
from harness.task import Score

# Shares of the whole attribution above which a part counts as important: those of the authors' code.
SAME_MAP = 1e-5  # of the largest sum over a part: by so much two explanations of the same map differ
IMPORTANT_SHARES = torch.linspace(0.01, 0.5, 80, dtype=torch.float64)


@dataclass(frozen=True)
class PartRemoval:
    """Options of metrics that take parts of the input away.

    segments        the parts, by name (``harness.removal.segments``) or as labels (N, *units); ``regions`` are about
                    100 superpixels of an image, and the words of a text
    baseline        what a part becomes that is taken away, as in ``harness.metrics._curve.Stepwise``
    score           of the explained class: ``logit``, ``probability`` or ``log_odds``
    relevant_drop   the drop of the score from which a part counts as relevant to the model, as a share of the score's
                    magnitude; above 0
    """

    segments: Segmentation | Tensor = "regions"
    baseline: BaselineName | Tensor = "typical"
    score: Score = "logit"
    relevant_drop: Positive = 0.05


@metric(
    better="higher",
    unit="share",
    span=(0, 1),
    kind="check",
    expects="contribution",
    curve_across="share of the attribution from which a part is called important",
    curve_places=(0.01, 0.5),
    curve_height="share of the irrelevant parts not called important",
)
def distractibility(batch: Batch, *, removal: PartRemoval = PartRemoval()) -> Scores:
    """Share of the parts that do not matter to the model which the explanation does not call important either
    (distractibility of FunnyBirds: Hesse et al. 2023, 2308.06248).

    A part is irrelevant if the score drops by less than ``relevant_drop`` of its magnitude without it, or rises. It is
    called important if its summed attribution is above a share of the sum of the whole map. The score is 1 less the
    share of the irrelevant parts that are called important, mean over the 80 shares from 0.01 to 0.5 of the authors'
    code, which takes the best one for each explainer instead; curves (N, 80) are the values at each. In [0, 1], higher
    is better. It ranks no explainers: a map that is the same everywhere calls none of many parts important, and so can
    have a better score than the right map. For a map with a negative sum the code, and this, call parts of small
    negative attribution important too. NaN where every part is relevant, and where a sample has a single part. Expects
    contributions; local maps, like gradients, are flagged.

    f is the sum of the upper left of four parts. The first map is right, the second calls all parts important up to a
    share of a quarter:

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4)])
    >>> same = images.expand(2, 1, 4, 4), torch.zeros(2, dtype=torch.long), maps
    >>> shares = harness.score("distractibility", image_model, *same, segments="grid:2", baseline="zero")
    >>> shares.round(decimals=2).tolist()
    [1.0, 0.51]
    """
    groups, drops = _drops(batch.samples, removal)
    irrelevant = groups.present & ~_relevant(batch.samples, drops, removal)
    sums, whole = groups.sums(batch.attributions), batch.attributions.flatten(1).double().sum(1)
    least = IMPORTANT_SHARES.to(whole.device) * whole[:, None]
    called = (sums[:, None] > least[..., None]) & irrelevant[:, None]
    curves = 1 - called.sum(2) / irrelevant.sum(1, keepdim=True)
    undefined = (drops.isnan() & groups.present).any(1) | (groups.totals < 2)
    values = curves.mean(1).masked_fill(undefined, float("nan"))
    reason = "every part is relevant, there is a single part, or the output without a part is not a number"
    return with_reason(values, reason, curves=curves)


@metric(better=None, unit="share", span=(0, 1), kind="reference", needs=("masks",))
def background_independence(batch: Batch, *, removal: PartRemoval = PartRemoval()) -> Scores:
    """Share of the parts of the background that do not matter to the model (background independence of FunnyBirds:
    Hesse et al. 2023, 2308.06248).

    It is about the model and the same for every explainer: where it is low, an explanation that shows the background
    may be right, and localisation misleads. A part of the background has no unit in the object's mask; it matters if
    the score drops by at least ``relevant_drop`` of its magnitude without it. In [0, 1]; no direction. The paper's
    value is over the parts of all samples together. NaN where no part is background. NotApplicable without masks.

    f looks at the upper left of four parts only, which is the object, or is background:

    >>> same, options = (images, targets[:1], images[:, 0]), {"segments": "grid:2", "baseline": "zero"}
    >>> harness.score("background_independence", image_model, *same, masks=corner, **options).tolist()
    [1.0]
    >>> found = harness.score("background_independence", image_model, *same, masks=corner.flip(1), **options)
    >>> found.round(decimals=4).tolist()
    [0.6667]
    """
    groups, drops = _drops(batch.samples, removal)
    background = groups.present & (groups.sums(object_masks(batch)) == 0)
    relevant = background & _relevant(batch.samples, drops, removal)
    values = 1 - relevant.sum(1) / background.sum(1).double()
    undefined = (drops.isnan() & background).any(1)
    reason = "no part is background, or the output without a part is not a number"
    return with_reason(values.masked_fill(undefined, float("nan")), reason)


@metric(better="higher", unit="share", span=(0, 1), kind="sanity", needs=("explainer",))
def target_sensitivity(
    batch: Batch, *, segments: Segmentation | Tensor = "regions", baseline: BaselineName | Tensor = "typical"
) -> Scores:
    """Whether explanations of two classes differ where the model's evidence for them differs (target sensitivity of
    FunnyBirds: Hesse et al. 2023, 2308.06248).

    The classes are the explained one and the one with the highest output beside it. The first part is that without
    which the output of the first class drops most, compared with that of the second; the second part likewise. In the
    paper the two parts are known from how the classes are made. The score is the mean of two answers: whether the first
    part has more attribution in the map of the first class than in that of the second, and the second part less. 0, 0.5
    or 1, higher is better; a map that ignores the class scores 0. NaN, as in the paper, where the parts do not tell the
    classes apart: each must lower the output of its own class more than the other part does. NotApplicable for
    attributions given without their explainer, and for models with a single output.

    The upper left part speaks for class 0 and the lower right for class 1:

    >>> halves = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2, bias=False)).eval()
    >>> halves[1].weight.data = torch.cat([corner, corner.flip(1, 2)]).flatten(1).float()
    >>> given, options = (images, targets[:1], corner.float()), {"segments": "grid:2", "baseline": "zero"}
    >>> harness.score("target_sensitivity", halves, *given, explainer="input_x_gradient", **options).tolist()
    [1.0]
    """
    samples, grouping = batch.samples, Grouping("segment", segments=segments)
    groups = make_groups(samples, grouping)
    classes = torch.cat([samples.targets[:, None], other_classes(batch, "runner_up", 1)], 1)
    drops = _drops_of_classes(samples, groups, (*grouping.key, baseline), baseline, classes)
    gap = drops[..., 0] - drops[..., 1]
    first = gap.masked_fill(~groups.present, float("-inf")).argmax(1)
    second = gap.masked_fill(~groups.present, float("inf")).argmin(1)
    maps = [batch.attributions, other_class_maps(batch, "runner_up", 1)[:, 0]]
    lead = difference_of_maps(*(groups.sums(each) for each in maps))
    at = lambda values, part: values.gather(1, part[:, None])[:, 0]
    values = ((at(lead, first) > 0).double() + (at(lead, second) < 0).double()) / 2
    apart = (at(drops[..., 0], first) > at(drops[..., 0], second)) & (
        at(drops[..., 1], second) > at(drops[..., 1], first)
    )
    usable = apart & ~(drops.isnan().any(2) & groups.present).any(1) & lead.isfinite().all(1)
    reason = "no two parts tell the classes apart, or an output or a map is not finite"
    return with_reason(values.masked_fill(~usable, float("nan")), reason)


def difference_of_maps(first: Tensor, second: Tensor) -> Tensor:
    """The sums over parts (N, G) of one map less those of another; 0 where they are within ``SAME_MAP`` of the largest.

    A map that ignores the class is the same for both but for rounding, since the two are explained in other batches.
    """
    lead, largest = first - second, torch.maximum(first.abs(), second.abs()).amax(1, keepdim=True)
    return lead.masked_fill(lead.abs() <= SAME_MAP * largest, 0)


def _drops(samples: Samples, removal: PartRemoval) -> tuple[Groups, Tensor]:
    """The parts, and how much the score drops without each: (N, G) float64."""
    grouping = Grouping("segment", segments=removal.segments)
    groups = make_groups(samples, grouping)
    tracked = outputs_without_each(samples, groups, grouping.key, removal.baseline)
    return groups, changes(samples, tracked[:, 0], removal.score)


def _relevant(samples: Samples, drops: Tensor, removal: PartRemoval) -> Tensor:
    """Which parts (N, G) matter to the model."""
    least = removal.relevant_drop * samples.clean(removal.score).double().abs()
    return (drops >= least[:, None]) & (drops > 0)


def _drops_of_classes(samples: Samples, groups: Groups, key: tuple, baseline: str | Tensor, classes: Tensor) -> Tensor:
    """How much the outputs of classes (N, 2) drop without each part: (N, G, 2) float64."""

    def compute() -> Tensor:
        number, remove = torch.arange(groups.sizes.shape[1], device=classes.device), samples.remover(baseline)
        without = lambda sample, part: remove(sample, groups.spread(number != part[:, None], sample))
        of_classes = lambda outputs, sample: outputs.gather(1, classes[sample])
        return outputs_of_draws(samples, len(number), without, of_classes).double()

    without = samples.shared(("classes without each", *key), compute)
    return all_outputs(samples).gather(1, classes).double()[:, None] - noted_if_not_finite(without)
