"""Robustness: how much an explanation changes when its input hardly does. Constant maps are robust, and wrong.

The options are those of ``harness.metrics._neighbours``. The noise is the same for all explainers, and independent for
each element; the target stays the same, and stochastic explainers keep their seed. Every score has curves (N, 2): the
share of draws with the same class of the model, and the mean of ||h(x + e) - h(x)|| / ||h(x)|| of its outputs h. Draws
that change the class count like all others.

In the examples f = 2 x_0 - x_1: its gradient is the same everywhere, and gradient times input changes with the input.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._neighbours import RENAMED, Neighbourhood, Noise, explanations, surroundings
from harness.metrics._similarity import with_reason
from harness.registry import metric

UNSTABLE = "the explanation is 0 throughout or not finite under noise, or there is no range of values to scale noise by"


def _attribution_or_ratio(options: Mapping[str, Any]) -> str:
    return "attribution" if options["absolute"] else "ratio"


@metric(
    better="lower",
    unit=_attribution_or_ratio,
    span=(0, None),
    kind="robustness",
    needs=("explainer",),
    renamed=RENAMED,
    curve_across=None,
)
def max_sensitivity(batch: Batch, *, neighbourhood: Neighbourhood = Neighbourhood(), absolute: bool = False) -> Scores:
    """Largest relative change of the explanation under small uniform noise on the input (Yeh et al. 2019, 1901.09392).

    max over ``draws`` draws of ||a(x + e) - a(x)|| / ||a(x)||, Euclidean norms of the raw maps, with each element of
    e uniform in [-r, r], r being ``radius`` times the range of the data's values; with ``absolute`` not divided by
    ||a(x)||. At least 0, lower is better; more draws give larger values. Curves (N, 2) as for all metrics of this
    module: the share of draws with the same class, and the mean relative change of the model's outputs. NaN where a(x),
    or the range, is 0 throughout. NotApplicable for attributions given without their explainer, and for a table with
    neither training inputs nor a declared range; ValueError for given maps of another shape than the explainer's own.

    >>> data, maps = harness.Data(inputs, targets, value_range=(0, 2)), linear.weight.expand(2, 2)
    >>> harness.score("max_sensitivity", linear, data, maps, explainer="gradient").tolist()
    [0.0, 0.0]
    """
    return _sensitivity(batch, neighbourhood, absolute, lambda change: change.amax(1))


@metric(
    better="lower",
    unit=_attribution_or_ratio,
    span=(0, None),
    kind="robustness",
    needs=("explainer",),
    renamed=RENAMED,
    curve_across=None,
)
def avg_sensitivity(batch: Batch, *, neighbourhood: Neighbourhood = Neighbourhood(), absolute: bool = False) -> Scores:
    """Mean relative change of the explanation under small uniform noise on the input (Yeh et al. 2019, 1901.09392).

    mean over ``draws`` draws of ||a(x + e) - a(x)|| / ||a(x)||, over the same draws of which ``max_sensitivity``
    takes the largest: an estimate of an expectation, which more draws make more precise. At least 0, lower is better.
    Options, curves, NaN and errors as for ``max_sensitivity``.

    >>> data, maps = harness.Data(inputs, targets, value_range=(0, 2)), linear.weight.expand(2, 2)
    >>> harness.score("avg_sensitivity", linear, data, maps, explainer="gradient").tolist()
    [0.0, 0.0]
    """
    return _sensitivity(batch, neighbourhood, absolute, lambda change: change.mean(1))


@metric(
    better="lower",
    kind="robustness",
    needs=("explainer",),
    renamed=RENAMED,
    unit=lambda options: "ratio per input unit" if options["relative"] else "attribution per input unit",
    span=(0, None),
    curve_across=None,
)
def local_lipschitz(batch: Batch, *, noise: Noise = Noise(), relative: bool = False) -> Scores:
    """Largest change of the explanation per change of the input among random neighbours, a sampled lower bound of its
    local Lipschitz constant (Alvarez-Melis and Jaakkola 2018, 1806.08049).

    max over ``draws`` draws of ||a(x') - a(x)|| / ||x' - x||, Euclidean norms of raw maps and inputs, the target
    fixed. The paper maximises over a ball by optimisation; this is the cheaper variant by sampling, whose values are
    not larger. ``distribution="uniform"`` is the noise of ``max_sensitivity``. At least 0, lower is better. The value
    is in attribution per unit of input (on a table per range of each column) and depends on the scale of the map:
    compare explainers only with ``relative``, which divides each map by the root mean square of a(x). Curves (N, 2) as
    for ``max_sensitivity``. NaN where noise does not change the input or explanations are not finite, and with
    ``relative`` where a(x) is 0 throughout.
    NotApplicable and ValueError as for ``max_sensitivity``.

    Gradient times input is (2 x_0, -x_1), which grows by at most 2 per unit of input:

    >>> data, maps = harness.Data(inputs, targets, value_range=(0, 2)), inputs * linear.weight
    >>> harness.score("local_lipschitz", linear, data, maps, explainer="input_x_gradient").round(decimals=2).tolist()
    [2.0, 2.0]
    """
    change, around = explanations(batch, noise).plain, surroundings(batch.samples, noise)
    moved = around.inputs.plain
    steepest = (change / moved).masked_fill(moved == 0, float("-inf")).amax(1)  # draws that do not move say nothing
    size = batch.raw.flatten(1).double().square().mean(1).sqrt()
    values = _divided(steepest, size) if relative else steepest
    return with_reason(values.masked_fill(around.untouched, float("nan")), UNSTABLE, curves=around.columns)


def _sensitivity(
    batch: Batch, neighbourhood: Neighbourhood, absolute: bool, over_draws: Callable[[Tensor], Tensor]
) -> Scores:
    noise = Noise(**vars(neighbourhood), distribution="uniform")
    change, around = over_draws(explanations(batch, noise).plain), surroundings(batch.samples, noise)
    values = change if absolute else _divided(change, batch.raw.flatten(1).double().norm(dim=1))
    return with_reason(values.masked_fill(around.untouched, float("nan")), UNSTABLE, curves=around.columns)


def _divided(change: Tensor, size: Tensor) -> Tensor:
    """Changes (N,) by sizes (N,); NaN where the size is 0."""
    return (change / size).masked_fill(size == 0, float("nan"))
