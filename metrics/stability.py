"""Relative stability: the relative change of an explanation over that of the input, the output or a hidden layer.

max over draws x' that the model gives the same class as x of ||(a(x') - a(x)) / a(x)|| / max(moved, ``eps``), with
Euclidean norms over the elements of the raw maps (p = 2 of the paper) and each element divided by its own size. The
ratio explodes where an element is near 0, so that ``floor`` sets a least size. Agarwal et al. 2022, 2203.06877.

The options are those of ``harness.metrics._neighbours.Noise`` and of ``RelativeChange``. Explanations are shared with
``local_lipschitz``. The target stays the explained class. The scores have heavy tails: compare medians. Every score has
curves (N, 2): the share of draws with the same class of the model, and the mean over all draws of
||h(x') - h(x)|| / ||h(x)|| of its outputs h.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._neighbours import (
    RENAMED,
    DistanceFrom,
    Floor,
    Noise,
    Surroundings,
    by_draw,
    explanations,
    neighbours,
    pairs,
    surroundings,
)
from harness.metrics._outputs import noted_if_not_finite
from harness.metrics._representation import representation
from harness.metrics._similarity import with_reason
from harness.option_types import Positive, Share
from harness.registry import metric
from harness.samples import Samples

NO_RATIO = (
    "no draw keeps the model's class, noise changes nothing, outputs or explanations are not finite, what is divided "
    "by is 0 throughout, or a ratio of 0 has no logarithm"
)


@dataclass(frozen=True)
class RelativeChange:
    """Options of metrics that divide one relative change by another.

    floor   least size of an element that a change is divided by, as a share of the root mean square of its map, input
            (series: channel; tables: column of the training inputs) or layer; with 0, as in the paper, elements that
            are exactly 0 count as ``eps``
    eps     least size of the whole divisor, above 0
    log10   gives the logarithm of the ratio
    """

    floor: Share = 0.01
    eps: Positive = 1e-6
    log10: bool = False

    @property
    def least(self) -> Floor:
        """The least size of an element; ``eps`` matters only where ``floor`` is 0."""
        return Floor(self.floor) if self.floor else Floor(0.0, self.eps)


def _ratio_unit(ratio: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda options: f"log10 {ratio}" if options["log10"] else ratio


@metric(
    better="lower",
    unit=_ratio_unit("ratio"),
    span={"ratio": (0, None)},
    kind="robustness",
    needs=("explainer",),
    renamed=RENAMED,
    curve_across=None,
)
def relative_input_stability(
    batch: Batch, *, noise: Noise = Noise(), change: RelativeChange = RelativeChange()
) -> Scores:
    """Largest relative change of the explanation over that of the input, among neighbours of the same class (RIS:
    Agarwal et al. 2022, 2203.06877).

    max over draws x' of ||(a(x') - a(x)) / a(x)|| / max(||(x' - x) / x||, ``eps``), divided element by element with
    ``floor``. At least 0, of any sign with ``log10``; lower is better. A draw that changes the model's class is left
    out. NaN where all draws do, where noise changes nothing, where a(x) or x is 0 throughout, where outputs or
    explanations are not finite, and for the logarithm of 0. NotApplicable for attributions given without their
    explainer; ValueError for given maps of another shape than the explainer's own.

    Gradient times input is (2 x_0, -x_1): relative to itself it moves exactly as far as the input.

    >>> data, maps = harness.Data(inputs[:1], targets[:1], value_range=(0, 2)), inputs * linear.weight
    >>> ratios = harness.score("relative_input_stability", linear, data, maps[:1], explainer="input_x_gradient")
    >>> ratios.round(decimals=4).tolist()
    [1.0]
    """
    return _stability(batch, noise, change, lambda around: around.inputs.relative)


@metric(
    better="lower",
    unit=_ratio_unit("ratio per logit"),
    span={"ratio per logit": (0, None)},
    kind="robustness",
    needs=("explainer",),
    renamed=RENAMED,
    curve_across=None,
)
def relative_output_stability(
    batch: Batch, *, noise: Noise = Noise(), change: RelativeChange = RelativeChange()
) -> Scores:
    """Largest relative change of the explanation over the change of the logits, among neighbours of the same class
    (ROS: Agarwal et al. 2022, 2203.06877).

    max over draws x' of ||(a(x') - a(x)) / a(x)|| / max(||h(x') - h(x)||, ``eps``), h being all the model's logits; the
    explanation is divided element by element with ``floor``. Everything else as for ``relative_input_stability``,
    except that the input may be 0. Where the outputs stay the same the divisor is ``eps``.

    A gradient that is the same everywhere does not change:

    >>> data, maps = harness.Data(inputs, targets, value_range=(0, 2)), linear.weight.expand(2, 2)
    >>> harness.score("relative_output_stability", linear, data, maps, explainer="gradient").tolist()
    [0.0, 0.0]
    """
    return _stability(batch, noise, change, lambda around: around.outputs)


@metric(
    better="lower",
    unit=_ratio_unit("ratio"),
    span={"ratio": (0, None)},
    kind="robustness",
    needs=("explainer",),
    renamed=RENAMED,
    curve_across=None,
)
def relative_representation_stability(
    batch: Batch,
    *,
    noise: Noise = Noise(),
    change: RelativeChange = RelativeChange(),
    layer: str | None = None,
) -> Scores:
    """Largest relative change of the explanation over that of a hidden representation, among neighbours of the same
    class (RRS: Agarwal et al. 2022, 2203.06877).

    max over draws x' of ||(a(x') - a(x)) / a(x)|| / max(||(L(x') - L(x)) / L(x)||, ``eps``), both divided element by
    element with ``floor``. L is the output of the module named ``layer``, flattened; without a name it is the last
    hidden layer, which is the input of the module with weights that is called last (of a model with one layer, the
    model's input). Everything else as for ``relative_input_stability``; NaN where L(x), rather than x, is 0 throughout.
    NotApplicable also where the layer is not called, or gives no tensor with a row for each input; ValueError for a
    name that the model does not have.

    The representation of a model of one layer is its input, relative to which gradient times input moves as far:

    >>> model, name = torch.nn.Sequential(linear).eval(), "relative_representation_stability"
    >>> data, maps = harness.Data(inputs[:1], targets[:1], value_range=(0, 2)), inputs * linear.weight
    >>> ratios = harness.score(name, model, data, maps[:1], explainer="input_x_gradient")
    >>> ratios.round(decimals=4).tolist()
    [1.0]
    """
    return _stability(batch, noise, change, lambda _: _moves_of_layer(batch.samples, noise, change.least, layer))


def _stability(batch: Batch, noise: Noise, change: RelativeChange, moved: Callable[[Surroundings], Tensor]) -> Scores:
    explained = explanations(batch, noise, change.least).relative
    around = surroundings(batch.samples, noise, change.least)
    ratio = (explained / moved(around).clamp(min=change.eps)).masked_fill(around.same_class == 0, float("-inf"))
    known = noted_if_not_finite(around.outputs).isfinite()
    # Last, as outputs that are not finite are of no class, which a draw could have changed.
    largest = ratio.masked_fill(~known, float("nan")).amax(1)
    values = largest.masked_fill(around.untouched | largest.isneginf(), float("nan"))
    return with_reason(_logarithm(values) if change.log10 else values, NO_RATIO, curves=around.columns)


def _moves_of_layer(samples: Samples, noise: Noise, least: Floor, layer: str | None) -> Tensor:
    """||(L(x') - L(x)) / L(x)|| (N, draws), computed once for all explainers."""

    def compute() -> Tensor:
        hidden = representation(samples, layer)
        measure = DistanceFrom(hidden.model_outputs(), least)
        parts = [
            measure(hidden.model_outputs(neighbours(samples, noise, sample, draw), sample), sample)
            for sample, draw in pairs(samples, noise, hidden.predictor.chunk)
        ]
        return by_draw(parts, noise)[1]

    return samples.shared(("represented", noise, least, layer), compute)


def _logarithm(values: Tensor) -> Tensor:
    return torch.log10(values.masked_fill(values == 0, float("nan")))
