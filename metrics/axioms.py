"""Axioms: what some explainers promise, measured as the size of the breach."""

from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._similarity import with_reason
from harness.predictor import pick
from harness.registry import metric


@metric(better="lower", unit=lambda options: "ratio" if options["relative"] else "score", kind="axiom")
def completeness(batch: Batch, *, relative: bool = False, baseline: str | Tensor | None = None) -> Scores:
    """How far the attributions' sum is from the score they claim to add up to (Sundararajan et al. 2017, 1703.01365).

    |sum a - (f(x) - f(r))| over the raw map with all its channels, r being the explainer's own baseline (draw 0 of a
    random one) unless ``baseline`` is given; |sum a - f(x)| for explainers that distribute the output itself. In the
    explainer's own ``score``, logits where it has no such option; with ``relative`` divided by |f(x) - f(r)|, or
    |f(x)|. At least 0, lower is better. NaN where the divisor is 0. NotApplicable where nothing is claimed and no
    baseline given.
    """
    score = batch.options.get("score", "logit")
    promised = batch.samples.clean(score).double()
    removed = _own_baseline(batch) if baseline is None else baseline
    if removed is not None:
        promised = promised - pick(batch.samples.emptied(removed), score).double()
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
