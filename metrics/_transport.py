"""The earth mover's distance of two distributions of mass on one grid, exact."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def earth_movers_distance(first: Tensor, second: Tensor) -> float:
    """Least cost of turning one mass (T,) or (H, W), scaled to a sum of 1, into another; NaN where one has no mass.

    Moving mass costs the Euclidean distance between units.
    """
    if not (first.sum() > 0 and second.sum() > 0):
        return math.nan
    surplus = first.double().cpu() / first.double().sum().cpu() - second.double().cpu() / second.double().sum().cpu()
    if surplus.dim() == 1:  # along a line everything that is left over so far must be carried one step
        return float(surplus.cumsum(0).abs().sum())
    # The costs are a metric: what lies where it is wanted need not move, so that only surpluses go to what lacks.
    sources, sinks = (surplus > 0).nonzero(), (surplus < 0).nonzero()
    if not len(sources) or not len(sinks):
        return 0.0
    return _least_cost(surplus[surplus > 0], -surplus[surplus < 0], torch.cdist(sources.double(), sinks.double()))


def pooled(mass: Tensor, pool: int) -> Tensor:
    """Sums of mass (N, T) or (N, H, W) over blocks of ``pool`` units a side, the last ones cut off at the edge."""
    missing = [amount for side in reversed(mass.shape[1:]) for amount in (0, -side % pool)]
    padded, axes = F.pad(mass, missing), mass.dim() - 1
    for axis in range(1, axes + 1):
        padded = padded.unflatten(axis, (-1, pool)).sum(axis + 1)
    return padded


def _least_cost(supply: Tensor, demand: Tensor, costs: Tensor) -> float:
    """The cost of the best plan that carries ``supply`` (S,) to ``demand`` (D,) at ``costs`` (S, D) per mass."""
    from scipy.optimize import linprog  # here and not above: it takes long to import
    from scipy.sparse import eye_array, kron, vstack

    demand = demand * (supply.sum() / demand.sum())  # to the last digit, or no plan would exist
    rows, columns = costs.shape
    out, into = kron(eye_array(rows), [[1.0] * columns]), kron([[1.0] * rows], eye_array(columns))
    # One equation follows from the others; left out, rounding cannot contradict it.
    equations, amounts = vstack([out, into]).tocsr()[:-1], torch.cat([supply, demand])[:-1]
    scale = float(supply.max())  # the solver's tolerances are absolute
    found = linprog(costs.flatten().numpy(), A_eq=equations, b_eq=(amounts / scale).numpy(), method="highs")
    if not found.success:
        raise ArithmeticError(f"the transport problem was not solved: {found.message}")
    return float(found.fun) * scale
