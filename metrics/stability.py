"""Relative stability: the relative change of an explanation over that of the input, the output or a hidden layer.

max over draws x' that the model gives the same class as x of ||(a(x') - a(x)) / a(x)|| / max(moved, ``eps``), all norms
Euclidean over the raw maps' elements (p = 2 of the paper), each element divided by its own. That explodes where an
element is near 0, so no element counts as smaller than ``floor`` times the root mean square of its map (input, layer);
with ``floor`` 0, as in the paper, elements that are exactly 0 count as ``eps``. Agarwal et al. 2022, 2203.06877.

Shared options: ``radius``, ``samples``, ``distribution`` of the noise as for ``local_lipschitz``, which shares its
explanations with the metrics here; ``log10`` gives the logarithm. The target stays the explained class. Heavy tails
remain: compare medians. Curves (N, 2) stand beside every value: the share of draws that kept the model's class, and the
mean over all draws of ||h(x') - h(x)|| / ||h(x)|| of its outputs h.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError
from harness.metrics._neighbours import (
    Floor,
    Measure,
    Noise,
    Surroundings,
    by_draw,
    explanations,
    neighbours,
    pairs,
    surroundings,
)
from harness.metrics._representation import representation
from harness.metrics._similarity import with_reason
from harness.registry import metric
from harness.samples import Samples

REASON = (
    "no draw keeps the model's class, noise changes nothing, outputs or explanations are not finite, what is divided "
    "by is 0 throughout, or a ratio of 0 has no logarithm"
)


def _unit(ratio: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda options: f"log10 {ratio}" if options["log10"] else ratio


@metric(better="lower", unit=_unit("ratio"), kind="robustness", needs=("explainer",))
def relative_input_stability(
    batch: Batch,
    *,
    radius: float = 0.02,
    samples: int = 50,
    distribution: str = "gaussian",
    floor: float = 0.01,
    eps: float = 1e-6,
    log10: bool = False,
) -> Scores:
    """Largest relative change of the explanation over that of the input, among neighbours that the model gives the
    same class (RIS: Agarwal et al. 2022, 2203.06877).

    max over draws x' of ||(a(x') - a(x)) / a(x)|| / max(||(x' - x) / x||, ``eps``), divided element by element with
    ``floor``; see the module for the options. At least 0, of any sign with ``log10``; lower is better. Draws that
    change the class are left out one by one. NaN where all do, where noise changes nothing, where a(x) or x is 0
    throughout, where outputs or explanations are not finite, and for the logarithm of 0. NotApplicable for
    attributions given without their explainer; ValueError for maps in another shape than the explainer's own.
    """
    noise = Noise(distribution, radius, samples)
    return _stability(batch, noise, floor, eps, log10, lambda around, least: around.inputs.relative)


@metric(better="lower", unit=_unit("ratio per logit"), kind="robustness", needs=("explainer",))
def relative_output_stability(
    batch: Batch,
    *,
    radius: float = 0.02,
    samples: int = 50,
    distribution: str = "gaussian",
    floor: float = 0.01,
    eps: float = 1e-6,
    log10: bool = False,
) -> Scores:
    """Largest relative change of the explanation over the change of the logits, among neighbours that the model gives
    the same class (ROS: Agarwal et al. 2022, 2203.06877).

    max over draws x' of ||(a(x') - a(x)) / a(x)|| / max(||h(x') - h(x)||, ``eps``), h all the model's logits; the
    explanation divided element by element with ``floor``. Everything else as for ``relative_input_stability``, but that
    the input may be 0. A model that answers the same divides by ``eps``.
    """
    noise = Noise(distribution, radius, samples)
    return _stability(batch, noise, floor, eps, log10, lambda around, least: around.outputs)


@metric(better="lower", unit=_unit("ratio"), kind="robustness", needs=("explainer",))
def relative_representation_stability(
    batch: Batch,
    *,
    radius: float = 0.02,
    samples: int = 50,
    distribution: str = "gaussian",
    floor: float = 0.01,
    eps: float = 1e-6,
    log10: bool = False,
    layer: str | None = None,
) -> Scores:
    """Largest relative change of the explanation over that of a hidden representation, among neighbours that the model
    gives the same class (RRS: Agarwal et al. 2022, 2203.06877).

    max over draws x' of ||(a(x') - a(x)) / a(x)|| / max(||(L(x') - L(x)) / L(x)||, ``eps``), both divided element by
    element with ``floor``. L is the last hidden layer, which is what is given to the module with weights that is called
    last (of a model with one layer, the input), or the output of the module named ``layer``; flattened. Everything else
    as for ``relative_input_stability``, NaN where L(x) rather than x is 0 throughout. NotApplicable also where the
    layer is not called, or gives no tensor with a row for each input; ValueError for a name the model does not have.
    """
    noise = Noise(distribution, radius, samples)
    return _stability(
        batch, noise, floor, eps, log10, lambda around, least: _represented(batch.samples, noise, least, layer)
    )


def _stability(
    batch: Batch, noise: Noise, floor: float, eps: float, log10: bool, moved: Callable[[Surroundings, Floor], Tensor]
) -> Scores:
    least = _least(floor, eps)
    change, around = explanations(batch, noise, least).relative, surroundings(batch.samples, noise, least)
    ratio = (change / moved(around, least).clamp(min=eps)).masked_fill(~around.outputs.isfinite(), float("nan"))
    largest = ratio.masked_fill(~around.kept, float("-inf")).amax(1)
    values = largest.masked_fill(around.untouched | ~around.kept.any(1), float("nan"))
    return with_reason(_logarithm(values) if log10 else values, REASON, curves=around.columns)


def _least(floor: float, eps: float) -> Floor:
    """The floor under what is divided by; ``eps`` has a part in it only where there is none."""
    if not floor >= 0:
        raise UserError(f"floor is {floor}, expected a share of at least 0")
    if not eps > 0:
        raise UserError(f"eps is {eps}, expected a number above 0")
    return Floor(floor) if floor else Floor(0.0, eps)


def _represented(samples: Samples, noise: Noise, least: Floor, layer: str | None) -> Tensor:
    """||(L(x') - L(x)) / L(x)|| (N, draws), computed once for all explainers."""

    def compute() -> Tensor:
        hidden = representation(samples, layer)
        measure = Measure(hidden.logits(samples.inputs), least)
        parts = [
            measure(hidden.logits(neighbours(samples, noise, sample, draw)), sample)
            for sample, draw in pairs(samples, noise, hidden.chunk)
        ]
        return by_draw(parts, noise)[1]

    return samples.shared(("represented", noise, least, layer), compute)


def _logarithm(values: Tensor) -> Tensor:
    return torch.log10(values.masked_fill(values == 0, float("nan")))
