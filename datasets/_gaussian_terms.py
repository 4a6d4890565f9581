"""Sums of functions of single columns, with closed-form expectations under a Gaussian.

The functions are those of Liu et al. 2021 (2106.12543). Step functions are told by where they jump, floor(2 cos(pi x))
for all |x| < 12, beyond which no sample lies.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.datasets._shapley import Coalition, shapley_values
from harness.errors import UserError, unknown

VALUES = ("conditional", "interventional")
PERIODS = range(-6, 7)
MOST = 12  # columns: there are 2^12 coalitions of them


class Term:
    """A function of one column: ``at`` its values and its mean under N(mean, variance)."""

    def __call__(self, x: Tensor) -> Tensor:
        """The function's values at ``x``."""
        raise NotImplementedError

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        """Its expectation for normal ``x`` of these means, all of one variance."""
        raise NotImplementedError


@dataclass(frozen=True)
class Linear(Term):
    """w x"""

    weight: float

    def __call__(self, x: Tensor) -> Tensor:
        return self.weight * x

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        return self.weight * mean


class Sine(Term):
    """sin x"""

    def __call__(self, x: Tensor) -> Tensor:
        return x.sin()

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        return mean.sin() * math.exp(-variance / 2)


class Magnitude(Term):
    """|x|"""

    def __call__(self, x: Tensor) -> Tensor:
        return x.abs()

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        if variance == 0:
            return mean.abs()
        spread = math.sqrt(variance)
        bell = torch.exp(-mean.square() / (2 * variance)) * spread * math.sqrt(2 / math.pi)
        return bell + mean * torch.erf(mean / (spread * math.sqrt(2)))


class Square(Term):
    """x^2"""

    def __call__(self, x: Tensor) -> Tensor:
        return x.square()

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        return mean.square() + variance


class Decay(Term):
    """exp(-x)"""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.exp(-x)

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        return torch.exp(-mean + variance / 2)


@dataclass(frozen=True)
class Steps(Term):
    """A constant ``start`` on the left, which changes by each of ``jumps`` from its place ``at`` on."""

    start: float
    at: tuple[float, ...]
    jumps: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        reached = x[..., None] >= torch.tensor(self.at, dtype=x.dtype, device=x.device)
        # Its gradient is 0, and is said to be 0: comparisons alone would have none.
        return self.start + 0 * x + reached.to(x.dtype) @ torch.tensor(self.jumps, dtype=x.dtype, device=x.device)

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        if variance == 0:
            return self(mean)
        above = torch.special.ndtr((mean[..., None] - torch.tensor(self.at, dtype=mean.dtype)) / math.sqrt(variance))
        return self.start + above @ torch.tensor(self.jumps, dtype=mean.dtype)


def terms_of(function: str, features: int) -> tuple[Term, ...]:
    """The terms of the first columns; what comes after them is no part of the function."""
    if function not in FUNCTIONS:
        raise unknown("function", function, FUNCTIONS)
    least = {"linear": 2, "additive": 4, "piecewise": 3}[function]
    if not least <= features <= MOST:
        raise UserError(f"features is {features}, expected a whole number from {least} to {MOST} for {function}")
    return FUNCTIONS[function](features)


def evaluate(terms: tuple[Term, ...], x: Tensor) -> Tensor:
    """The function's values (N,) at ``x`` (N, D)."""
    return sum(term(x[:, column]) for column, term in enumerate(terms))


def interventional(terms: tuple[Term, ...], x: Tensor) -> Tensor:
    """Shapley values (N, D) where absent columns are drawn for themselves: each term less its mean."""
    found, nothing = torch.zeros_like(x), torch.zeros((), dtype=x.dtype)
    for column, term in enumerate(terms):
        found[:, column] = term(x[:, column]) - term.mean(nothing, 1.0)
    return found


def conditional(terms: tuple[Term, ...], x: Tensor, covariance: Tensor) -> Tensor:
    """Shapley values (N, D) where absent columns are drawn given those that are present, of N(0, covariance)."""

    def value(present: Coalition) -> Tensor:
        """E[f(X) | the present columns of x]; each absent one is normal by itself, which is all a sum asks."""
        known, total = list(present), torch.zeros(len(x), dtype=x.dtype)
        for column, term in enumerate(terms):
            if column in present:
                total = total + term(x[:, column])
                continue
            weights = torch.linalg.solve(covariance[known][:, known], covariance[known, column])
            variance = float(covariance[column, column] - weights @ covariance[known, column])
            total = total + term.mean(x[:, known] @ weights, max(variance, 0.0))
        return total

    return shapley_values(value, x.shape[1])


def _cosine_steps() -> Steps:
    """floor(2 cos(pi x)): 1 up to 1/3 from every even number, then 0, -1 and -2."""
    rising = [(2 * k - distance, 1.0) for k in PERIODS for distance in (2 / 3, 1 / 2, 1 / 3)]
    falling = [(2 * k + distance, -1.0) for k in PERIODS for distance in (1 / 3, 1 / 2, 2 / 3)]
    at, jumps = zip(*sorted(rising + falling), strict=True)
    return Steps(-2.0, at, jumps)


FUNCTIONS = {
    "linear": lambda features: tuple(Linear(float(weight)) for weight in range(features - 1, 0, -1)),
    "additive": lambda features: (Sine(), Magnitude(), Square(), Decay()),
    "piecewise": lambda features: (
        Steps(-1.0, (0.0,), (2.0,)),
        Steps(-2.0, (-0.5, 0.0, 0.5), (1.0, 2.0, 1.0)),
        _cosine_steps(),
    ),
}
