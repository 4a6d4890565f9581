"""Robustness: how much an explanation changes when its input hardly does. Constant maps are robust, and wrong.

Shared options: ``radius`` of the noise as a share of the range of the data's values, and ``samples`` draws. The noise
is not clipped, the same for all explainers, and of independent elements; the target stays, and stochastic explainers
keep their seed. Curves (N, 2) stand beside every value: the share of draws that kept the model's class, and the mean of
||h(x + e) - h(x)|| / ||h(x)|| of its outputs h. No draw is left out for changing the class.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._neighbours import Noise, explanations, surroundings
from harness.metrics._similarity import with_reason
from harness.registry import metric

REASON = "the explanation is 0 throughout or not finite under noise, or there is no range of values to scale noise by"


def _unit(options: Mapping[str, Any]) -> str:
    return "attribution" if options["absolute"] else "ratio"


@metric(better="lower", unit=_unit, kind="robustness", needs=("explainer",))
def max_sensitivity(batch: Batch, *, radius: float = 0.02, samples: int = 50, absolute: bool = False) -> Scores:
    """Largest relative change of the explanation under small uniform noise on the input (Yeh et al. 2019, 1901.09392).

    max over ``samples`` draws of ||a(x + e) - a(x)|| / ||a(x)||, Euclidean norms of the raw maps, e uniform in the
    L-infinity ball of ``radius`` times the range of the data's values, not clipped; with ``absolute`` not divided.
    The target stays, stochastic explainers keep their seed, and all explainers see the same noise. At least 0, lower is
    better, and the more draws, the larger it is. Curves (N, 2) as for all metrics here: the share of draws that kept
    the model's class, and the mean relative change of its outputs. NaN where a(x) is 0 throughout, or the range.
    NotApplicable for attributions given without their explainer; ValueError for maps that are given in another shape
    than the explainer's own.
    """
    return _sensitivity(batch, Noise("uniform", radius, samples), absolute, lambda change: change.amax(1))


@metric(better="lower", unit=_unit, kind="robustness", needs=("explainer",))
def avg_sensitivity(batch: Batch, *, radius: float = 0.02, samples: int = 50, absolute: bool = False) -> Scores:
    """Mean relative change of the explanation under small uniform noise on the input (Yeh et al. 2019, 1901.09392).

    mean over ``samples`` draws of ||a(x + e) - a(x)|| / ||a(x)||, of the same draws of which ``max_sensitivity`` takes
    the largest: it estimates an expectation, and more draws narrow it. At least 0, lower is better. All options,
    curves, and what is NaN or raises as for ``max_sensitivity``.
    """
    return _sensitivity(batch, Noise("uniform", radius, samples), absolute, lambda change: change.mean(1))


@metric(
    better="lower",
    kind="robustness",
    needs=("explainer",),
    unit=lambda options: "ratio per input unit" if options["relative"] else "attribution per input unit",
)
def local_lipschitz(
    batch: Batch, *, radius: float = 0.02, samples: int = 50, distribution: str = "gaussian", relative: bool = False
) -> Scores:
    """Largest change of the explanation per change of the input among random neighbours, a sampled lower bound of its
    local Lipschitz constant (Alvarez-Melis and Jaakkola 2018, 1806.08049).

    max over ``samples`` draws of ||a(x') - a(x)|| / ||x' - x||, Euclidean norms of raw maps and inputs, the target
    fixed. The paper maximises over a ball by optimisation; this is the cheaper variant by sampling, and so not larger.
    ``distribution``: ``gaussian``, of standard deviation ``radius`` times the range of the data's values, or
    ``uniform`` up to that size, the noise of ``max_sensitivity``. At least 0, lower is better; in attribution per unit
    of input, which has the scale of the map: compare explainers only with ``relative``, which divides each map by the
    root mean square of a(x). Curves (N, 2) as for ``max_sensitivity``. NaN where noise does not change the input or
    explanations are not finite, and with ``relative`` where a(x) is 0 throughout. NotApplicable and ValueError as for
    ``max_sensitivity``.
    """
    noise = Noise(distribution, radius, samples)
    change, around = explanations(batch, noise).plain, surroundings(batch.samples, noise)
    moved = around.inputs.plain
    steepest = (change / moved).masked_fill(moved == 0, float("-inf")).amax(1)  # what did not move tried nothing
    size = batch.raw.flatten(1).double().square().mean(1).sqrt()
    values = _ratio(steepest, size) if relative else steepest
    return with_reason(values.masked_fill(around.untouched, float("nan")), REASON, curves=around.columns)


def _sensitivity(batch: Batch, noise: Noise, absolute: bool, over_draws: Callable[[Tensor], Tensor]) -> Scores:
    change, around = over_draws(explanations(batch, noise).plain), surroundings(batch.samples, noise)
    values = change if absolute else _ratio(change, batch.raw.flatten(1).double().norm(dim=1))
    return with_reason(values.masked_fill(around.untouched, float("nan")), REASON, curves=around.columns)


def _ratio(change: Tensor, size: Tensor) -> Tensor:
    return (change / size).masked_fill(size == 0, float("nan"))
