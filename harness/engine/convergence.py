"""How far the maps of a stochastic explainer have converged: the correlation of its maps under two seeds.

The first samples are explained again under the next seed, with the same budget. Over many units, the correlation of the
two maps estimates their *reliability*: the share of a map's variance over the units that is not from the draws. By the
formula of Spearman (1910) and Brown (1910), k times as many independent draws raise it from r to k r / (1 + (k - 1) r),
which gives the budget that is missing. A map's correlation with the one of infinitely many draws is the root of r.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harness.engine.explain import Explaining
from harness.engine.present_units import groups_of_units, units_of_maps
from harness.engine.stage import Stage
from harness.errors import NotApplicable
from harness.metrics._similarity import pearson
from harness.registry import Explainer

CONVERGED = 0.9  # mean correlation of two seeds below which an explainer is flagged
FEWEST_SAMPLES, MOST_SAMPLES = 4, 16  # samples that are explained under two seeds
ENOUGH_NUMBERS = 400  # of units of all these samples together; where each has few, more samples are explained
BUDGETS = ("samples", "permutations", "draws", "repeats")  # options that are numbers of random draws


def convergence(stage: Stage, explaining: Explaining, first: Tensor) -> dict[str, float] | None:
    """The correlation of an explainer's maps under two seeds: ``mean`` and ``lowest`` of the number of ``samples``.

    ``first`` (n, ...) are its attributions of the first chunk of samples. These are the first 4 samples, or up to 16 if
    samples have few units, and never more than half of the samples; of a global explainer it is one map. None if the
    explainer is deterministic or a control, or no map under either seed varies over its units. A sample whose map
    varies under one of the seeds alone counts 0; one whose map varies under neither is left out. The mean's standard
    error over the draws is about (1 - r^2) / sqrt(samples x units) for independent units.
    """
    count = samples_compared(explaining.entry, stage.units.count, stage.count, stage.chunk_size)
    if not count:
        return None
    _, samples = next(stage.chunks())
    chosen = samples.take(torch.arange(count, device=samples.inputs.device))
    under_next_seed = replace(chosen, seed=chosen.seed + 1)
    try:
        again = replace(explaining)
        again.prepare(under_next_seed)
        maps = again(under_next_seed)
    except NotApplicable:  # that the method cannot serve may depend on its draws
        return None
    found = []
    for rows, units_only in groups_of_units(chosen):
        joint = units_only.joint()
        values = [
            joint.units.reduce(units_of_maps(each.to(stage.device)[rows], joint)).flatten(1) for each in (first, maps)
        ]
        found.append(_agreement(*values))
    correlations = torch.cat(found)
    correlations = correlations[correlations.isfinite()]
    if not len(correlations):
        return None
    return {"mean": float(correlations.mean()), "lowest": float(correlations.min()), "samples": len(correlations)}


def samples_compared(entry: Explainer, units: int, count: int, in_chunk: int) -> int:
    """How many samples are explained under two seeds, of ``count`` with so many units each; 0 for a deterministic map.

    ``in_chunk`` is the number of samples that are scored together.
    """
    if not entry.stochastic or entry.control or entry.stored:
        return 0
    if entry.scope == "global":
        return 1
    wanted = max(FEWEST_SAMPLES, min(-(-ENOUGH_NUMBERS // units), MOST_SAMPLES))
    return min(wanted, max(1, count // 2), in_chunk)


def convergence_flags(found: Mapping[str, float], options: Mapping[str, Any], what: str = "maps") -> list[str]:
    """A warning if two seeds correlate by less than CONVERGED on average, with the budget that it takes.

    ``what`` names what was compared, in the message.
    """
    if found["mean"] >= CONVERGED:
        return []
    words = f"{what} under two seeds correlate by {found['mean']:.2f} (lowest {found['lowest']:.2f}): not converged"
    budget = next((name for name in BUDGETS if isinstance(options.get(name), int)), None)
    if budget is None or found["mean"] <= 0:
        return [words]
    needed = options[budget] * budget_factor(found["mean"])
    return [f"{words}; {CONVERGED} takes about {budget}={float(f'{needed:.2g}'):.0f}"]


def budget_factor(correlation: float, wanted: float = CONVERGED) -> float:
    """How many times as many independent draws raise the correlation of two seeds to ``wanted`` (Spearman-Brown)."""
    return wanted / (1 - wanted) * (1 - correlation) / correlation


def _agreement(first: Tensor, second: Tensor) -> Tensor:
    """The correlations (n,) of maps (n, units); 0 where exactly one of two varies, NaN where neither does."""
    one_varies = (first.amax(1) > first.amin(1)) ^ (second.amax(1) > second.amin(1))
    finite = first.isfinite().all(1) & second.isfinite().all(1)
    return pearson(first, second).masked_fill(one_varies & finite, 0.0)
