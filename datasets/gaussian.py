"""Correlated Gaussian columns and a function of them whose Shapley values are known exactly."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor

from harness.datasets._parts import PLANTED_TRAINING_ROWS
from harness.datasets.gaussian_terms import (
    GAUSSIAN_FUNCTION,
    GaussianFunction,
    conditional_values,
    interventional_values,
    sum_of_terms,
)
from harness.errors import UserError
from harness.option_types import Count, Range, Seed
from harness.registry import dataset
from harness.sources import Data


@dataset(
    modality="table",
    source="generated, after Liu et al. 2021 (2106.12543)",
    licence="none needed: drawn from a seed",
    samples="1,000 to train, 100 to test by default (option count)",
    renamed={"samples": "count"},
    classes="a number: the function's value",
)
def gaussian(
    *,
    planted: GaussianFunction = GAUSSIAN_FUNCTION,
    rho: Annotated[float, Range(-1, 1, without="ends")] = 0.5,
    values: Literal["conditional", "interventional"] = "conditional",
    count: Count = 100,
    seed: Seed = 0,
) -> Data:
    """Correlated Gaussian columns with a known function of them and its exact Shapley values (after Liu et al. 2021,
    2106.12543).

    Items (D,): every column is normal with mean 0 and variance 1, and every two columns have the correlation ``rho``.
    ``GaussianFunction`` describes ``function`` (linear, additive, piecewise) and ``features``, which is D. Labels are
    the function's values, without noise. ``count`` test rows are drawn from ``seed``.

    The truth is, per column, the Shapley value of the function under this distribution, from closed-form expectations
    over all 2^D coalitions. With ``values=conditional`` absent columns are drawn given the present ones, so that a
    column which the function ignores still has a value if it is correlated with one that it uses. With
    ``values=interventional`` absent columns are drawn independently of the present ones. The values sum to f(x) - E f.
    The truth is about the model ``gaussian_function`` with the same options; for ``gaussian_mlp``, which learns the
    function, it is an approximation. ``masks`` are the columns that the function uses. UserError for a ``rho`` outside
    -1 / (D - 1) < rho < 1, for which there is no such distribution.
    """
    terms, features = planted.terms, planted.features
    train, test = draw_gaussian(rho, features, count, seed)
    truth = (
        interventional_values(terms, test)
        if values == "interventional"
        else conditional_values(terms, test, covariance(rho, features))
    )
    inside = torch.arange(features) < len(terms)
    return Data(
        ids=[f"sample_{number:04}" for number in range(count)],
        inputs=test.float(),
        labels=sum_of_terms(terms, test).float(),
        modality="table",
        train=train.float(),
        train_labels=sum_of_terms(terms, train).float(),
        masks=inside.expand(count, -1),
        truth=truth.float(),
        unit_names=tuple(f"x{number + 1}" for number in range(features)),
        function=planted.function_name,
    )


def draw_gaussian(rho: float, features: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Training rows (1000, D) and ``samples`` test rows, float64 numbers that float32 represents exactly."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.linalg.cholesky(covariance(rho, features)).T
    # Training rows first, so that they do not depend on the number of test rows.
    train, test = (
        torch.randn(count, features, generator=generator, dtype=torch.float64) @ mixing
        for count in (PLANTED_TRAINING_ROWS, samples)
    )
    return train.float().double(), test.float().double()


def covariance(rho: float, features: int) -> Tensor:
    """The matrix (D, D) with ones on the diagonal and ``rho`` elsewhere; UserError where it is no covariance."""
    if not -1 / (features - 1) < rho < 1:
        least = -1 / (features - 1)
        raise UserError(f"rho is {rho}, expected a number above {least:.3g} and below 1 for {features} features")
    return torch.full((features, features), rho, dtype=torch.float64).fill_diagonal_(1.0)


def gaussian_splitter(
    planted: GaussianFunction, rho: float, seed: int
) -> Callable[[], dict[str, tuple[Tensor, Tensor]]]:
    """A function that gives ``train`` -> (inputs, labels), for training."""

    def load_split() -> dict[str, tuple[Tensor, Tensor]]:
        rows, _ = draw_gaussian(rho, planted.features, 1, seed)
        return {"train": (rows.float(), sum_of_terms(planted.terms, rows).float())}

    return load_split
