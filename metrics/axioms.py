"""Axioms: what some explainers promise, measured as the size of the breach."""

from torch import Tensor

from harness.baselines import is_random
from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._similarity import with_reason
from harness.predictor import pick
from harness.registry import metric


@metric(better="lower", unit=lambda options: "ratio" if options["relative"] else "logit", kind="axiom")
def completeness(batch: Batch, *, relative: bool = False, baseline: str | Tensor | None = None) -> Scores:
    """How far the attributions' sum is from the logit they claim to add up to (Sundararajan et al. 2017, 1703.01365).

    |sum a - (f(x) - f(r))| over the raw map with all its channels, r being the explainer's own baseline unless
    ``baseline`` is given; |sum a - f(x)| for explainers that distribute the output itself. In logits; with ``relative``
    divided by |f(x) - f(r)|, or |f(x)|. At least 0, lower is better. NaN where the divisor is 0. NotApplicable where
    nothing is claimed and no baseline given, and for baselines drawn at random.
    """
    promised = batch.samples.clean("logit").double()
    removed = _own_baseline(batch) if baseline is None else baseline
    if removed is not None:
        promised = promised - _at_baseline(batch, removed)
    error = (batch.raw.flatten(1).double().sum(1) - promised).abs()
    if relative:
        error = (error / promised.abs()).masked_fill(promised == 0, float("nan"))
    return with_reason(error, "the output that the attributions should add up to is 0")


def _own_baseline(batch: Batch) -> str | Tensor | None:
    """The baseline of the explainer's promise; None where it promises the output itself."""
    claim = batch.explainer.complete_to if batch.explainer else None
    if claim is None:
        raise NotApplicable("the explainer does not claim that its attributions add up to anything (give baseline=)")
    if claim == "output":
        return None
    if batch.options.get("baseline") is None:
        raise NotApplicable(
            "the explainer has no baseline option to say from where its attributions add up (give baseline=)"
        )
    return batch.options["baseline"]


def _at_baseline(batch: Batch, baseline: str | Tensor) -> Tensor:
    if is_random(baseline):
        raise NotApplicable("the explainer's baseline is drawn at random, so its own draws are not known")
    return pick(batch.samples.emptied(baseline), "logit").double()
