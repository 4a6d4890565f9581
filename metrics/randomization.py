"""Sanity checks by random weights: an explanation that does not change with the weights does not explain the model.

The options are those of ``harness.metrics._randomised.Randomisation``, and:

similarity     compares two maps: ``spearman`` correlation of the maps (channels summed) or of their absolute values
               (``spearman_abs``), ``ssim``, or Spearman correlation of ``hog`` vectors (cells of 1/14 of the shorter
               side, at least 2) of the maps scaled to [0, 1]; the last two need images
weight_seeds   number of sets of random weights, from ``weight_seed`` up, over which the score is averaged
"""

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._chance import chance
from harness.metrics._randomised import RENAMED, Randomisation, randomised_maps
from harness.metrics._similarity import SimilarityName, similarity_of, similarity_unit, with_reason
from harness.metrics._smooth_maps import smooth_maps
from harness.option_types import ChangeOrNone, Range, Repeats, SizeOrZero
from harness.registry import metric

CONSTANT_MAP = "a map of the original or a randomised model is constant or not finite"


@metric(
    better="lower",
    unit=similarity_unit,
    span=(-1, 1),
    kind="sanity",
    needs=("explainer",),
    renamed=RENAMED,
    curve_across=lambda options: f"stages made random ({options['mode']})",
    curve_height="similarity to the original map",
)
def parameter_randomization(
    batch: Batch,
    *,
    randomisation: Randomisation = Randomisation(stages=8),
    similarity: SimilarityName = "spearman",
    weight_seeds: Repeats = 1,
) -> Scores:
    """Similarity of explanations before and after the weights are random (MPRT: Adebayo et al. 2018, 1810.03292).

    Mean over the randomised stages; curves (N, stages) are the similarities at each, averaged over ``weight_seeds``.
    Every parameter is randomised. With ``explained_class="reargmax"``, as in the paper, the random model's own class
    is explained. At most 1, lower is better; ``chance_similarity`` is what unrelated maps have. NaN where a map is
    constant or not finite. The weights are restored bit for bit. NotApplicable for attributions given without their
    explainer, for models without parameters, and where maps are too small for the similarity.

    A map that does not look at the model stays the same:

    >>> options = {"explainer": "input_magnitude"}
    >>> similarity = harness.score("parameter_randomization", linear, inputs[1:], targets[1:], inputs[1:], **options)
    >>> similarity.round(decimals=4).tolist()
    [1.0]
    """
    alike = similarity_of(similarity, batch.units.shape)
    return _over_stages(batch, randomisation.with_seeds(weight_seeds), alike)


@metric(
    better=None,
    unit=similarity_unit,
    span=(-1, 1),
    kind="sanity",
    needs=("explainer",),
    renamed=RENAMED,
    added={"draws": 0, "noise": 0.1},
    curve_across=lambda options: f"stages made random ({options['mode']})",
    curve_height="similarity to the displaced map",
    version=2,
)
def chance_similarity(
    batch: Batch,
    *,
    randomisation: Randomisation = Randomisation(stages=8),
    similarity: SimilarityName = "spearman",
    weight_seeds: Repeats = 1,
    displacements: Annotated[int, Range(1, 10_000)] = 19,
    draws: SizeOrZero = 0,
    noise: ChangeOrNone = 0.1,
) -> Scores:
    """Chance level of ``parameter_randomization``: its similarity if the original map is first displaced at random.

    Options, mean and curves as for ``parameter_randomization``, averaged over ``displacements`` random shifts of the
    map around its edges (of a table: random orders of the columns), none of them twice: over all where there are fewer.
    These keep the map's values and, on a grid, their neighbourhoods: the toroidal shifts of spatial statistics (Lotwick
    and Silverman 1982). A similarity is no more than coincidence where it does not exceed this one; there is no
    direction. With ``draws`` above 0 it is the chance level of ``smooth_parameter_randomization`` with the same
    options: maps are means over so many draws of ``noise``. At most 1; NaN and NotApplicable as for these two, and
    NotApplicable for a single unit.

    Of two columns the only displacement is an exchange, which turns a map around:

    >>> options = {"explainer": "input_magnitude"}
    >>> similarity = harness.score("chance_similarity", linear, inputs[1:], targets[1:], inputs[1:], **options)
    >>> similarity.round(decimals=4).tolist()
    [-1.0]
    """
    alike = similarity_of(similarity, batch.units.shape)
    by_chance = lambda before, after: chance(batch.samples, before, after, alike, displacements).mean(1)
    smoothed = lambda how: smooth_maps(batch, how, draws, noise)
    return _over_stages(batch, randomisation.with_seeds(weight_seeds), by_chance, smoothed if draws else None)


def _over_stages(
    batch: Batch,
    randomisations: list[Randomisation],
    alike: Callable[[Tensor, Tensor], Tensor],
    maps: Callable[[Randomisation], tuple[Tensor, Tensor]] | None = None,
) -> Scores:
    """``alike(before, after)`` (N,) at every stage, averaged over the seeds; the mean over stages is the score.

    ``maps`` gives the maps of the model and those of every stage; by default they are the explainer's own.
    """
    maps = maps or (lambda how: (batch.reduced(batch.raw), randomised_maps(batch, how)))
    per_seed = []
    for before, after in map(maps, randomisations):
        per_seed.append(torch.stack([alike(before, each) for each in after.unbind(1)], 1))
    curve = torch.stack(per_seed).mean(0)
    return with_reason(curve.mean(1), CONSTANT_MAP, curves=curve)
