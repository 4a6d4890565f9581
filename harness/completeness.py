"""Completeness: some explainers promise what the attributions of a sample add up to; this computes sum and error."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from harness.errors import NotApplicable
from harness.predictor import pick
from harness.removal.background import Background, replacement
from harness.samples import Samples

# What attributions add up to, for each ``complete_to`` of an explainer; r are baselines, f is the explained logit.
SUMS_TO = {"baseline": "f(x) - f(r)", "background": "f(x) - mean f(r)", "output": "f(x)", None: ""}

INCOMPLETE = 0.05  # relative error of a sum above which it is flagged (Sundararajan et al. 2017, 1703.01365)


def promised(
    samples: Samples, complete_to: str | None, options: Mapping[str, Any], baseline: str | Tensor | None = None
) -> Tensor:
    """What the raw attributions of each sample should add up to: (N,) float64, in units of the explainer's ``score``.

    This is f(x) for explainers that distribute the output itself, and else f(x) - f(r). r is ``baseline`` if given, and
    else the explainer's own baseline (of a random one, draw 0), or its background, over which f is averaged. Raises
    NotApplicable if no baseline is given and the explainer promises nothing or draws its background itself.
    """
    score = options.get("score", "output")
    removed = _own_baseline(samples, complete_to, options) if baseline is None else baseline
    full = samples.clean(score).double()
    return full if removed is None else full - pick(samples.emptied(removed), score).double()


def total(raw: Tensor) -> Tensor:
    """The sums (N,) float64 of raw attributions (N, ...) over all their channels and units."""
    return raw.flatten(1).double().sum(1)


def relative_error(sums: Tensor, promise: Tensor) -> Tensor:
    """|sum - promised| / |promised|, (N,); NaN where the promised sum is 0."""
    return ((sums - promise).abs() / promise.abs()).masked_fill(promise == 0, float("nan"))


def missed_sum(error: float | None) -> list[str]:
    """A warning if the median relative error of the sums is above INCOMPLETE; none without an error."""
    if error is None or error <= INCOMPLETE:
        return []
    return [f"the sum of the attributions differs from what it should be by {error:.0%} of it (median)"]


def _own_baseline(
    samples: Samples, complete_to: str | None, options: Mapping[str, Any]
) -> str | Tensor | Background | None:
    """The baseline or background of the explainer's promise; None if it promises the output itself."""
    if complete_to is None:
        raise NotApplicable("the explainer does not claim that its attributions add up to anything (give baseline=)")
    if complete_to == "output":
        return None
    if complete_to == "background":
        raise NotApplicable(
            "the attributions add up to f(x) less the mean of f over training inputs that only the explainer knows "
            "(give baseline=)"
        )
    if options.get("baseline") is None:
        raise NotApplicable(
            "the explainer has no baseline option to say from where its attributions add up (give baseline=)"
        )
    return replacement(samples, options["baseline"], options.get("background", 0))
