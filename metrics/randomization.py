"""Sanity checks by random weights: an explanation that survives the loss of the weights does not explain the model."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._chance import chance
from harness.metrics._randomised import Randomisation, randomised_maps
from harness.metrics._similarity import similarity_of, with_reason
from harness.registry import metric

CONSTANT = "a map of the original or a randomised model is constant or not finite"


@metric(better="lower", unit=lambda options: options["similarity"], kind="sanity", needs=("explainer",))
def parameter_randomization(
    batch: Batch,
    *,
    mode: str = "cascading",
    similarity: str = "spearman",
    stages: int = 8,
    target: str = "fixed",
    weight_seed: int = 0,
    weight_seeds: int = 1,
    running_statistics: str = "keep",
) -> Scores:
    """Similarity of explanations before and after the weights are random (MPRT: Adebayo et al. 2018, 1810.03292).

    Mean over the randomised stages; curves (N, stages) hold each, averaged over ``weight_seeds`` sets of random weights
    from ``weight_seed`` up. ``cascading`` randomises from the output down and keeps what is random, ``bottom_up`` from
    the input up, ``independent`` one stage at a time, from the output down. Layers are taken in the order they run, in
    at most ``stages`` groups (0: one each). Every parameter is covered; ``running_statistics``: ``keep``, ``reset``.
    ``similarity``: ``spearman`` of the maps (channels summed), of their absolute values (``spearman_abs``), ``ssim`` or
    Spearman of ``hog`` vectors (cells of 1/14 of the shorter side, at least 2) of the maps scaled to [0, 1]; the last
    two need images. ``target`` stays ``fixed`` or is the random model's own (``reargmax``, as in the paper). At most 1,
    lower is better, and what unrelated maps have is ``chance_similarity``. NaN where a map is constant or not finite.
    The weights come back bit for bit. NotApplicable for attributions given without their explainer, for models without
    parameters, and where maps are too small for the similarity.
    """
    how = Randomisation(mode, stages, target, weight_seed, running_statistics)
    alike = similarity_of(similarity, batch.units.shape)
    return _over_stages(batch, how.seeds(weight_seeds), alike)


@metric(better=None, unit=lambda options: options["similarity"], kind="sanity", needs=("explainer",))
def chance_similarity(
    batch: Batch,
    *,
    mode: str = "cascading",
    similarity: str = "spearman",
    stages: int = 8,
    target: str = "fixed",
    weight_seed: int = 0,
    weight_seeds: int = 1,
    running_statistics: str = "keep",
    displacements: int = 19,
) -> Scores:
    """What ``parameter_randomization`` would be for unrelated maps: the original map is displaced at random first.

    Options, mean and curves as there, over ``displacements`` random shifts of the map around its edges (tables: random
    orders of the columns), which keep its values and, on a grid, their neighbourhoods: the toroidal shifts of spatial
    statistics (Lotwick and Silverman 1982). A similarity is no more than coincidence where it does not exceed this one;
    there is no direction. At most 1; NaN and NotApplicable as there.
    """
    how = Randomisation(mode, stages, target, weight_seed, running_statistics)
    alike = similarity_of(similarity, batch.units.shape)
    by_chance = lambda before, after: chance(batch.samples, before, after, alike, displacements).mean(1)
    return _over_stages(batch, how.seeds(weight_seeds), by_chance)


def _over_stages(batch: Batch, hows: list[Randomisation], alike: Callable[[Tensor, Tensor], Tensor]) -> Scores:
    """``alike(before, after)`` (N,) at every stage, averaged over the seeds; the mean over stages is the score."""
    before = batch.reduced(batch.raw)
    per_seed = [
        torch.stack([alike(before, after) for after in randomised_maps(batch, how).unbind(1)], 1) for how in hows
    ]
    curve = torch.stack(per_seed).mean(0)
    return with_reason(curve.mean(1), CONSTANT, curves=curve)
