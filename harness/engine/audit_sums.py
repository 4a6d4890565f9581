"""Checks of explainers whose attributions are shares of a number: what they sum to, and how large they are."""

import torch
from torch import Tensor

from harness.completeness import promised, relative_error, total
from harness.engine.selection import Chosen
from harness.errors import NotApplicable
from harness.samples import Samples


def sums(samples: Samples, chosen: Chosen, raw: Tensor) -> dict[str, Tensor]:
    """The relative error (N,) of the sums of raw attributions, if their explainer promises a sum; else nothing.

    ``completeness_error`` is |sum - promised| / |promised|, as in the metric of that name. If the output itself is
    promised, ``relevance_over_output`` is sum / f(x).
    """
    claim = chosen.entry.complete_to
    try:
        promise, actual = promised(samples, claim, chosen.options), total(raw.to(samples.inputs.device))
    except NotApplicable:  # nothing is promised, or the promised sum is known to the explainer only
        return {}
    shares = {"relevance_over_output": actual / promise} if claim == "output" else {}
    return {"completeness_error": relative_error(actual, promise), **shares}


def largest_over_output(samples: Samples, chosen: Chosen, raw: Tensor) -> dict[str, Tensor]:
    """The largest absolute attribution of each sample over what its attributions share, (n,).

    That is the larger of |f(x)| and |sum|; the sum is f(x), or its change from a baseline, if the attributions add up.
    Where single values are far larger than both they cancel, and a sum that is right says little about them.
    """
    raw = raw.to(samples.inputs.device)
    try:
        output = samples.clean(chosen.options.get("score", "output")).double()
    except NotApplicable:  # a score that this model does not have
        return {}
    shared, largest = torch.maximum(output.abs(), total(raw).abs()), raw.flatten(1).abs().amax(1).double()
    return {"largest_over_output": (largest / shared).masked_fill(shared == 0, float("nan"))}
