"""Sums of functions of single columns, with closed-form expectations under a Gaussian.

The functions are those of Liu et al. 2021 (2106.12543). A step function is stored as the places where it jumps. For
floor(2 cos(pi x)) these are the jumps within |x| < 12; samples do not lie outside.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from harness.datasets._shapley import Coalition, exact_shapley_values
from harness.errors import UserError
from harness.option_types import Range

PERIODS = range(-6, 7)  # of the cosine, each of length 2
MOST_PLANTED_COLUMNS = 12  # more would have more than 2^12 coalitions


class Term:
    """A function of one column, with its expectation for a normal column in closed form."""

    def __call__(self, x: Tensor) -> Tensor:
        """The function's values (N,) at ``x`` (N,)."""
        raise NotImplementedError

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        """The expectations (N,) for normal ``x`` with the means ``mean`` (N,) and one ``variance``."""
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
    """A step function: the constant ``start`` on the far left, plus ``jumps[i]`` from the place ``at[i]`` on."""

    start: float
    at: tuple[float, ...]
    jumps: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        reached = x[..., None] >= torch.tensor(self.at, dtype=x.dtype, device=x.device)
        # The term 0 * x gives the function a gradient, which is 0; a comparison alone has none.
        return self.start + 0 * x + reached.to(x.dtype) @ torch.tensor(self.jumps, dtype=x.dtype, device=x.device)

    def mean(self, mean: Tensor, variance: float) -> Tensor:
        if variance == 0:
            return self(mean)
        above = torch.special.ndtr((mean[..., None] - torch.tensor(self.at, dtype=mean.dtype)) / math.sqrt(variance))
        return self.start + above @ torch.tensor(self.jumps, dtype=mean.dtype)


def sum_of_terms(terms: tuple[Term, ...], x: Tensor) -> Tensor:
    """The function's values (N,) at ``x`` (N, D)."""
    return sum(term(x[:, column]) for column, term in enumerate(terms))


def interventional_values(terms: tuple[Term, ...], x: Tensor) -> Tensor:
    """Shapley values (N, D) where each absent column is drawn from its own distribution: each term less its mean."""
    values, nothing = torch.zeros_like(x), torch.zeros((), dtype=x.dtype)
    for column, term in enumerate(terms):
        values[:, column] = term(x[:, column]) - term.mean(nothing, 1.0)
    return values


def conditional_values(terms: tuple[Term, ...], x: Tensor, covariance: Tensor) -> Tensor:
    """Shapley values (N, D) under N(0, covariance), where absent columns are drawn given the present ones."""

    def value(present: Coalition) -> Tensor:
        """E[f(X) | the present columns of x] (N,). For a sum it is enough that each absent column alone is normal."""
        known, total = list(present), torch.zeros(len(x), dtype=x.dtype)
        for column, term in enumerate(terms):
            if column in present:
                total = total + term(x[:, column])
                continue
            weights = torch.linalg.solve(covariance[known][:, known], covariance[known, column])
            variance = float(covariance[column, column] - weights @ covariance[known, column])
            total = total + term.mean(x[:, known] @ weights, max(variance, 0.0))
        return total

    return exact_shapley_values(value, x.shape[1])


def _cosine_steps() -> Steps:
    """floor(2 cos(pi x)): it is 1 within 1/3 of every even number, and then falls to 0, -1 and -2."""
    rising = [(2 * k - distance, 1.0) for k in PERIODS for distance in (2 / 3, 1 / 2, 1 / 3)]
    falling = [(2 * k + distance, -1.0) for k in PERIODS for distance in (1 / 3, 1 / 2, 2 / 3)]
    at, jumps = zip(*sorted(rising + falling), strict=True)
    return Steps(-2.0, at, jumps)


# Function -> number of columns -> its terms, one for each of the first columns.
GAUSSIAN_FUNCTIONS: dict[str, Callable[[int], tuple[Term, ...]]] = {
    "linear": lambda features: tuple(Linear(float(weight)) for weight in range(features - 1, 0, -1)),
    "additive": lambda features: (Sine(), Magnitude(), Square(), Decay()),
    "piecewise": lambda features: (
        Steps(-1.0, (0.0,), (2.0,)),
        Steps(-2.0, (-0.5, 0.0, 0.5), (1.0, 2.0, 1.0)),
        _cosine_steps(),
    ),
}
FEWEST_COLUMNS = {"linear": 2, "additive": 4, "piecewise": 3}


@dataclass(frozen=True)
class GaussianFunction:
    """The options that the data set ``gaussian`` and its models share; a model must have those of its data.

    function  of the columns x1, x2, ...:
              ``linear``, (D - 1) x1 + (D - 2) x2 + ... with weight 0 for the last column;
              ``additive``, sin x1 + |x2| + x3^2 + exp(-x4);
              ``piecewise``, sign(x1), plus a step function of x2 with values -2, -1, 1, 2 and steps at -0.5, 0 and 0.5,
              plus floor(2 cos(pi x3)).
              The function does not depend on further columns
    features  D, the number of columns: at least 2, 4 or 3 for these functions, and at most 12
    """

    function: Literal["linear", "additive", "piecewise"] = "linear"
    features: Annotated[int, Range(2, MOST_PLANTED_COLUMNS)] = 5

    def __post_init__(self) -> None:
        least = FEWEST_COLUMNS[self.function]
        if self.features < least:
            raise UserError(f"features is {self.features}, expected at least {least} for function={self.function}")

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of the function, one for each of the first columns."""
        return GAUSSIAN_FUNCTIONS[self.function](self.features)

    @property
    def function_name(self) -> str:
        """What the truth of data is about, and what a model with this function is recognised by."""
        return f"gaussian function={self.function} features={self.features}"


GAUSSIAN_FUNCTION = GaussianFunction()
