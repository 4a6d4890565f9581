"""Axioms: properties that some explainers promise, measured by how far they are violated."""

from torch import Tensor

from harness.batch import Batch, Scores
from harness.completeness import promised, relative_error, total
from harness.metrics._similarity import with_reason
from harness.registry import metric
from harness.removal.baselines import BaselineName


@metric(better="lower", unit=lambda options: "ratio" if options["relative"] else "score", span=(0, None), kind="check")
def completeness(batch: Batch, *, relative: bool = False, baseline: BaselineName | Tensor | None = None) -> Scores:
    """How far the attributions' sum is from the score they claim to add up to (Sundararajan et al. 2017, 1703.01365).

    |sum a - (f(x) - f(r))| over the raw map with all its channels, where r is the explainer's own baseline (draw 0 of a
    random one) unless ``baseline`` is given; |sum a - f(x)| for explainers that distribute the output itself. f is the
    explainer's own ``score``, the logit where it has no such option; with ``relative`` the value is divided by
    |f(x) - f(r)|, or |f(x)|. At least 0, lower is better. NaN where the divisor is 0. NotApplicable, unless a baseline
    is given, for explainers that claim no sum, or one that depends on a background that they draw themselves.

    f = 2 x_0 - x_1 is 1 for the first input, 4 for the second and 0 for the baseline; the maps add up to 1 and 3:

    >>> maps, options = torch.tensor([[2.0, -1.0], [3.0, 0.0]]), {"baseline": "zero"}
    >>> harness.score("completeness", linear, inputs, targets, maps, **options).tolist()
    [0.0, 1.0]
    """
    claim = batch.explainer.complete_to if batch.explainer else None
    sums, promise = total(batch.raw), promised(batch.samples, claim, batch.options, baseline)
    error = relative_error(sums, promise) if relative else (sums - promise).abs()
    return with_reason(error, "the output that the attributions should add up to is 0")
