"""Sanity checks by randomisation: an explanation that survives the loss of the weights does not explain the model."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError, unknown
from harness.explaining import Explaining
from harness.guards import ModelGuard
from harness.metrics._similarity import spearman, ssim, with_reason
from harness.metrics._weights import RUNNING_STATISTICS, grouped, layers, redrawn
from harness.registry import metric
from harness.samples import Samples

MODES = ("cascading", "independent")
SIMILARITIES = ("spearman", "spearman_abs", "ssim")
TARGETS = ("fixed", "reargmax")


@metric(better="lower", unit="similarity", kind="sanity")
def parameter_randomization(
    batch: Batch, *, mode: str = "cascading", similarity: str = "spearman", stages: int = 8, target: str = "fixed",
    weight_seed: int = 0, running_statistics: str = "keep",
) -> Scores:  # fmt: skip
    """Similarity of explanations before and after the weights are random (MPRT: Adebayo et al. 2018, 1810.03292).

    Mean over the randomised stages; curves (N, stages) hold each. ``cascading`` randomises from the output down and
    keeps what is random, ``independent`` randomises one stage at a time. Layers are taken in the order they run, in at
    most ``stages`` groups (0: one each). Every parameter is covered; ``running_statistics``: ``keep``, ``reset``.
    ``similarity``: Spearman of the maps (channels summed), of their absolute values (``spearman_abs``), or ``ssim`` of
    the maps scaled to [0, 1], which needs images. ``target`` stays ``fixed`` or is the random model's own
    (``reargmax``, as in the paper). At most 1, lower is better. NaN where a map is constant or not finite. The weights
    come back bit for bit. NotApplicable for attributions given without their explainer, and for models without
    parameters.
    """
    for what, given, choices in (
        ("mode", mode, MODES), ("similarity", similarity, SIMILARITIES), ("target", target, TARGETS),
        ("running_statistics", running_statistics, RUNNING_STATISTICS),
    ):  # fmt: skip
        if given not in choices:
            raise unknown(what, given, choices)
    if stages < 0:
        raise UserError(f"stages is {stages}, expected a number of groups of layers, or 0 for one per layer")
    key = ("randomised", mode, stages, target, weight_seed, running_statistics)
    found = batch.remember(key, lambda: _similarities(batch, mode, stages, target, weight_seed, running_statistics))
    if similarity not in found:
        raise NotApplicable(f"SSIM needs image maps of at least 3 x 3 units, these are {batch.units.shape}")
    curve = found[similarity]
    return with_reason(
        curve.mean(1), "a map of the original or a randomised model is constant or not finite", curves=curve
    )


def _similarities(
    batch: Batch, mode: str, stages: int, target: str, seed: int, running_statistics: str,
) -> dict[str, Tensor]:  # fmt: skip
    """Every similarity that applies, (N, stages), from one explanation of each randomised model."""
    batch.need_explainer()
    original = batch.reduced(batch.raw)
    # Closed here even if an explanation fails: the weights must not wait for the garbage collector to come back.
    with closing(_randomised(batch.samples, mode, stages, seed, running_statistics)) as models:
        compared = [_compare(original, batch.reduced(_explain(batch, target))) for _ in models]
    return {name: torch.stack([stage[name] for stage in compared], 1) for name in compared[0]}


def _randomised(
    samples: Samples, mode: str, most: int, seed: int, running_statistics: str
) -> Generator[None, None, None]:
    """Run through the stages with the model's own weights randomised in place; put them back at the end."""
    model = samples.predictor.module
    todo = grouped(layers(samples.predictor, samples.inputs), most)
    guard = ModelGuard(model)
    done: set[int] = set()  # a tensor that two layers share is randomised with the upper one
    try:
        for stage in todo:
            pairs = [(old, new) for old, new in redrawn(model, stage, seed, running_statistics) if id(old) not in done]
            done.update(id(old) for old, _ in pairs)
            with torch.no_grad():
                for old, new in pairs:
                    old.copy_(new)
            yield
            if mode == "independent":
                guard.restore()
                done.clear()
    finally:
        guard.restore()


def _explain(batch: Batch, target: str) -> Tensor:
    """The explainer's maps of the model as it is now, by whatever it prepares made afresh."""
    live = batch.samples.live()
    if target == "reargmax":
        logits = live.predictor.logits(live.inputs)
        live = replace(live, targets=logits.view(len(live), -1).argmax(1))
    if isinstance(batch.explain_again, Explaining) and batch.explain_again.entry.prepare is not None:
        afresh = replace(batch.explain_again)
        afresh.prepare(live)
        return afresh(live)
    return batch.explain(live)


def _compare(before: Tensor, after: Tensor) -> dict[str, Tensor]:
    first, second = before.flatten(1), after.flatten(1)
    found = {"spearman": spearman(first, second), "spearman_abs": spearman(first.abs(), second.abs())}
    if before.dim() == 3 and min(before.shape[1:]) >= 3:
        found["ssim"] = ssim(before, after)
    return found
