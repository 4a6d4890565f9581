"""The earth mover's distance of two distributions of mass on one grid, exact."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def earth_movers_distance(first: Tensor, second: Tensor) -> float:
    """Least cost of moving one mass (T,) or (H, W) to where another is; NaN where one has no mass.

    Both are scaled to a sum of 1; moving mass costs the Euclidean distance between units.
    """
    if not (first.sum() > 0 and second.sum() > 0):
        return math.nan
    surplus = first.double().cpu() / first.double().sum().cpu() - second.double().cpu() / second.double().sum().cpu()
    if surplus.dim() == 1:  # on a line, the sum of all surpluses so far must be carried one step further
        return float(surplus.cumsum(0).abs().sum())
    # The costs are a metric, so mass that is already in place need not move: only surpluses move to deficits.
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

    demand = demand * (supply.sum() / demand.sum())  # equal to the last digit, since otherwise no plan exists
    rows, columns = costs.shape
    out, into = kron(eye_array(rows), [[1.0] * columns]), kron([[1.0] * rows], eye_array(columns))
    # One equation follows from the others; it is left out, so that rounding cannot contradict it.
    equations, amounts = vstack([out, into]).tocsr()[:-1], torch.cat([supply, demand])[:-1]
    scale = float(supply.max())  # the solver's tolerances are absolute
    plan = linprog(costs.flatten().numpy(), A_eq=equations, b_eq=(amounts / scale).numpy(), method="highs")
    if not plan.success:
        raise ArithmeticError(f"the transport problem was not solved: {plan.message}")
    return float(plan.fun) * scale
