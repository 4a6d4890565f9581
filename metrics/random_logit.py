"""Sanity check by another class: an explanation that is the same for every class does not explain the class."""

from dataclasses import replace

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError, unknown
from harness.metrics._similarity import similarity_of, ssim, with_reason
from harness.randomness import permutations
from harness.registry import metric
from harness.samples import Samples

OTHERS = ("uniform", "runner_up")
SIMILARITIES = ("spearman", "spearman_abs", "ssim")


@metric(better="lower", unit=lambda options: options["similarity"], kind="sanity", needs=("explainer",))
def random_logit(batch: Batch, *, other: str = "uniform", draws: int = 3, similarity: str = "spearman") -> Scores:
    """Similarity of the explanations of the target and of another class (Sixt et al. 2020, 1912.09818).

    Mean over ``draws`` different classes drawn evenly from the others, all of them where there are fewer; or the class
    with the highest output beside the target (``runner_up``, a single one). Curves (N, classes) hold each.
    ``similarity``: ``spearman`` of the maps (channels summed), of their absolute values (``spearman_abs``), or ``ssim``
    of the maps scaled to [0, 1], the larger one of the map and of its negative, as in the paper. At most 1, lower is
    better; methods whose products of matrices converge have about 1. Of two classes whose outputs mirror each other,
    maps are opposite, and only ``spearman`` tells them apart. NaN where a map is constant or not finite. NotApplicable
    for attributions given without their explainer, for models with a single output, and where maps are too small for
    ``ssim``.
    """
    if similarity not in SIMILARITIES:
        raise unknown("similarity", similarity, SIMILARITIES)
    alike = similarity_of(similarity, batch.units.shape)
    alike = _either_sign if similarity == "ssim" else alike
    before = batch.reduced(batch.raw)
    after = other_class_maps(batch, other, draws)
    curve = torch.stack([alike(before, maps) for maps in after.unbind(1)], 1)
    reason = "the map of the target or of another class is constant or not finite"
    return with_reason(curve.mean(1), reason, curves=curve)


def other_class_maps(batch: Batch, other: str, draws: int) -> Tensor:
    """The explainer's maps of other classes than the target (N, classes, *units), made once per explainer."""
    batch.need_explainer()
    classes = other_classes(batch, other, draws)

    def make() -> Tensor:
        rows = torch.arange(len(batch), device=classes.device).repeat_interleave(classes.shape[1])
        samples = replace(batch.samples.take(rows), targets=classes.flatten(), facts=None, output_cache=None)
        return batch.reduced(batch.explain(samples)).view(*classes.shape, *batch.units.shape)

    return batch.remember(("maps of other classes", other, classes.shape[1]), make)


def other_classes(batch: Batch, other: str, draws: int) -> Tensor:
    """Classes (N, M) that are not the target: M different ones drawn by lot, or the one runner-up."""
    if other not in OTHERS:
        raise unknown("other", other, OTHERS)
    if draws < 1:
        raise UserError(f"draws is {draws}, expected a number of other classes from 1")
    samples = batch.samples
    count = class_count(samples)
    if count < 2:
        raise NotApplicable("the model has a single output, beside which there is no other class")
    if other == "runner_up":
        return _outputs(samples).scatter(1, samples.targets[:, None], float("-inf")).argmax(1, keepdim=True)
    drawn = permutations(samples.stream("other class"), 1, count - 1)[:, 0, :draws]
    return drawn + (drawn >= samples.targets[:, None])


def class_count(samples: Samples) -> int:
    """How many outputs the model has, 1 for outputs (N,)."""
    outputs = _outputs(samples)
    return outputs.shape[1] if outputs.dim() == 2 else 1


def _outputs(samples: Samples) -> Tensor:
    return samples.shared("all outputs", lambda: samples.predictor.logits(samples.inputs))


def _either_sign(first: Tensor, second: Tensor) -> Tensor:
    return torch.maximum(ssim(first, second), ssim(first, -second))
