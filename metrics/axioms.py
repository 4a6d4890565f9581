"""Axioms: what some explainers promise, measured as the size of the breach."""

from torch import Tensor

from harness.batch import Batch, Scores
from harness.completeness import promised, relative_error, total
from harness.metrics._similarity import with_reason
from harness.registry import metric


@metric(better="lower", unit=lambda options: "ratio" if options["relative"] else "score", kind="axiom")
def completeness(batch: Batch, *, relative: bool = False, baseline: str | Tensor | None = None) -> Scores:
    """How far the attributions' sum is from the score they claim to add up to (Sundararajan et al. 2017, 1703.01365).

    |sum a - (f(x) - f(r))| over the raw map with all its channels, r being the explainer's own baseline (draw 0 of a
    random one) unless ``baseline`` is given; |sum a - f(x)| for explainers that distribute the output itself. In the
    explainer's own ``score``, logits where it has no such option; with ``relative`` divided by |f(x) - f(r)|, or
    |f(x)|. At least 0, lower is better. NaN where the divisor is 0. NotApplicable where nothing is claimed, or from
    a background that the explainer draws, and no baseline is given.
    """
    claim = batch.explainer.complete_to if batch.explainer else None
    sums, promise = total(batch.raw), promised(batch.samples, claim, batch.options, baseline)
    error = relative_error(sums, promise) if relative else (sums - promise).abs()
    return with_reason(error, "the output that the attributions should add up to is 0")
