"""Notices attributions that their explainer would not give: they were made with other options, for example."""

import torch
from torch import Tensor

from harness.engine.audit import relative_difference
from harness.engine.explain import Explaining
from harness.errors import NotApplicable, one_line
from harness.messages import say
from harness.samples import Samples

ALIKE = 1e-3  # share of the largest value: more than batches of different sizes and other devices make


def say_if_another_map(explaining: Explaining, samples: Samples, attributions: Tensor, reduction: str) -> None:
    """Explain the first sample again, and say so if that is not the first of ``attributions`` (N, ...), or fails.

    It is said and not refused: attributions may have been smoothed or scaled on purpose, and the metric may not need
    the explainer. A map that depends on its batch, as one of a function that draws from torch's global generator, is
    compared in the batch that ``harness.explain`` would make. Nothing is compared for stored maps.
    """
    if explaining.entry.stored or not len(samples):
        return
    try:
        difference = _difference(explaining, samples, attributions, reduction, 1)
        if difference > ALIKE:
            count = min(len(samples), explaining.batch_size)
            difference = _difference(explaining, samples, attributions, reduction, count)
    except (NotApplicable, RuntimeError) as error:
        name = explaining.entry.name
        reason = one_line(error)
        say(f"the attributions are not compared with those of {name}, which fails on the first sample: {reason}")
        return
    if difference > ALIKE:
        say(
            f"the first attribution differs by {difference:.1g} of its largest value from what {explaining.entry.name} "
            "gives with these options; the metric may explain again, so give explainer_options= as they were for it"
        )


def _difference(explaining: Explaining, samples: Samples, given: Tensor, reduction: str, count: int) -> float:
    """How much the first map differs when the first ``count`` samples are explained, reduced to one number per unit."""
    rows = torch.arange(count, device=samples.inputs.device)
    again = explaining(samples.live().take(rows))[:1]
    reduce = lambda raw: samples.units.reduce(raw, reduction)
    return relative_difference(reduce(given[:1]), reduce(again))
