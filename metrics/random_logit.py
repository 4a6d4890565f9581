"""Sanity check by other classes: an explanation that is the same for every class does not explain the class."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._outputs import all_outputs, output_count
from harness.metrics._similarity import similarity_of, similarity_unit, ssim, with_reason
from harness.option_types import Count
from harness.randomness import permutations
from harness.registry import metric
from harness.samples import Samples


@metric(
    better="lower",
    unit=similarity_unit,
    span=(-1, 1),
    kind="sanity",
    needs=("explainer",),
    curve_across=None,
)
def random_logit(
    batch: Batch,
    *,
    other: Literal["uniform", "runner_up"] = "uniform",
    draws: Count = 3,
    similarity: Literal["spearman", "spearman_abs", "ssim"] = "spearman",
) -> Scores:
    """Similarity of the explanations of the target and of another class (Sixt et al. 2020, 1912.09818).

    ``other="uniform"``: mean over ``draws`` different classes drawn uniformly from the others, or all of them where
    there are fewer; ``runner_up``: only the class with the highest output beside the target. Curves (N, classes) are
    the similarities for each. ``similarity``: ``spearman`` correlation of the maps (channels summed) or of their
    absolute values (``spearman_abs``), or ``ssim`` of the maps scaled to [0, 1], the larger one of the map and of its
    negative, as in the paper. At most 1, lower is better; about 1 for methods whose products of matrices converge. For
    two classes whose outputs mirror each other maps are opposite, and only ``spearman`` distinguishes them. NaN where a
    map is constant or not finite. NotApplicable for attributions given without their explainer, for models with a
    single output, and where maps are too small for ``ssim``.

    A map that does not look at the class is the same for all:

    >>> options = {"explainer": "input_magnitude"}
    >>> similarity = harness.score("random_logit", classes, inputs[1:], targets[1:], inputs[1:], **options)
    >>> similarity.round(decimals=4).tolist()
    [1.0]
    """
    alike = similarity_of(similarity, batch.units.shape)
    alike = _either_sign if similarity == "ssim" else alike
    before = batch.reduced(batch.raw)
    after = other_class_maps(batch, other, draws)
    curve = torch.stack([alike(before, maps) for maps in after.unbind(1)], 1)
    reason = "the map of the target or of another class is constant or not finite"
    return with_reason(curve.mean(1), reason, curves=curve)


def other_class_maps(batch: Batch, other: str, draws: int) -> Tensor:
    """The explainer's maps of other classes than the target (N, classes, *units), made once per explainer.

    NaN where the runner-up is not known, because an output is not a number.
    """
    batch.need_explainer()
    classes = other_classes(batch, other, draws)

    def make() -> Tensor:
        rows = torch.arange(len(batch), device=classes.device).repeat_interleave(classes.shape[1])
        samples = replace(batch.samples.take(rows), targets=classes.flatten(), facts=None, output_cache=None)
        return batch.reduced(batch.explain(samples)).view(*classes.shape, *batch.units.shape)

    maps = batch.remember(("maps of other classes", other, classes.shape[1]), make)
    if other != "runner_up":
        return maps
    unknown = _beside_target(batch.samples).isnan().any(1)
    return maps.masked_fill(unknown.view(-1, *[1] * (maps.dim() - 1)), float("nan"))


def other_classes(batch: Batch, other: str, draws: int) -> Tensor:
    """Classes (N, M) that are not the target: M different ones drawn at random, or the one runner-up."""
    samples = batch.samples
    count = output_count(samples)
    if count < 2:
        raise NotApplicable("the model has a single output, so there is no other class")
    if other == "runner_up":
        return _beside_target(samples).argmax(1, keepdim=True)
    drawn = permutations(samples.stream("other class"), 1, count - 1)[:, 0, :draws]
    return drawn + (drawn >= samples.targets[:, None])


def _beside_target(samples: Samples) -> Tensor:
    """The outputs (N, classes) of the inputs, minus infinity at the targets."""
    return all_outputs(samples).scatter(1, samples.targets[:, None], float("-inf"))


def _either_sign(first: Tensor, second: Tensor) -> Tensor:
    return torch.maximum(ssim(first, second), ssim(first, -second))
