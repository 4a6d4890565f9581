"""Orders of units by attribution; the order among equal attributions is drawn at random."""

import torch
from torch import Tensor

from harness.randomness import uniform


def ranks(values: Tensor, lots: Tensor) -> Tensor:
    """The place of each of K values (N, K) in descending order, 0 for the highest.

    Equal values are ordered at random, by the keys ``lots`` (N,) of ``harness.randomness``. ``K - 1 - ranks`` is the
    exact reverse order, ties included.
    """
    shuffled = uniform(lots, values.shape[1], dtype=torch.float64).argsort(dim=1)
    order = values.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(values.shape[1], device=values.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, shuffled.gather(1, order), places)


def tied_share(values: Tensor, counts: Tensor | None = None) -> Tensor:
    """The share of values that are equal to another one, (N,) in [0, 1].

    It is taken over the K values (N, K), or over the ``counts`` (N,) highest values of each row.
    """
    ordered = values.sort(dim=1, descending=True).values
    same = ordered[:, 1:] == ordered[:, :-1]
    edge = torch.zeros_like(same[:, :1])
    counts = torch.full_like(values[:, 0], values.shape[1]) if counts is None else counts
    among = torch.arange(values.shape[1], device=values.device) < counts[:, None]
    tied = (torch.cat([edge, same], 1) | torch.cat([same & among[:, 1:], edge], 1)) & among
    return tied.sum(1) / counts.double()
