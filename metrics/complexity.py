"""Complexity of attributions: how few units hold most of them. A compact map is not necessarily a true one."""

import math

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._similarity import with_reason
from harness.registry import metric

ALL_ZERO = "the attribution is 0 throughout"


@metric(
    better="lower",
    unit=lambda options: "share" if options["normalised"] else "nats",
    span={"nats": (0, None), "share": (0, 1)},
    kind="complexity",
)
def complexity(batch: Batch, *, normalised: bool = False) -> Scores:
    """Entropy of the attribution's magnitude over the units (Bhatt et al. 2020, 2005.00631).

    In nats, from 0 (one unit holds everything) to ln d (all d units are equal); with ``normalised`` divided by ln d.
    Lower is better. NaN where all attributions are 0, and for the normalised form with a single unit.

    Two equal units have ln 2, one of two units has 0:

    >>> maps = torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    >>> harness.score("complexity", linear, inputs, targets, maps).round(decimals=4).tolist()
    [0.6931, 0.0]
    """
    shares = _absolute_shares(batch.attributions)
    entropy = torch.special.entr(shares).sum(1)
    values = entropy / math.log(shares.shape[1]) if normalised and shares.shape[1] > 1 else entropy
    if normalised and shares.shape[1] == 1:
        return with_reason(values.fill_(float("nan")), "a single unit has no entropy to normalise by")
    return with_reason(values, ALL_ZERO)


@metric(better="higher", unit="gini", span=(0, 1), kind="complexity")
def sparseness(batch: Batch) -> Scores:
    """Gini index of the attribution's magnitude: how few units hold most of it (Chalasani et al. 2020, 1810.06583).

    sum over i of (2 i - d - 1) |a|_(i) / (d sum |a|), in ascending order: from 0 (all d units are equal) to 1 - 1 / d
    (one unit holds everything). Higher is better. NaN where all attributions are 0.

    Two equal units have 0, one of two units has 1 - 1/2:

    >>> maps = torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    >>> harness.score("sparseness", linear, inputs, targets, maps).tolist()
    [0.0, 0.5]
    """
    shares = _absolute_shares(batch.attributions).sort(1).values
    count = shares.shape[1]
    place = torch.arange(1, count + 1, device=shares.device)
    return with_reason(((2 * place - count - 1) * shares).sum(1) / count, ALL_ZERO)


def _absolute_shares(attributions: Tensor) -> Tensor:
    """Each unit's share of the absolute attributions: (N, units) float64, NaN where all are 0."""
    sizes = attributions.flatten(1).double().abs()
    return sizes / sizes.sum(1, keepdim=True)
