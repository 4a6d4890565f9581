"""Correlated Gaussian columns and a function of them whose Shapley values are known exactly."""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.datasets._gaussian_terms import VALUES, conditional, evaluate, interventional, terms_of
from harness.errors import UserError, unknown
from harness.registry import dataset
from harness.sources import Data

TRAIN = 1000


@dataset(
    modality="table",
    source="generated, after Liu et al. 2021 (2106.12543)",
    licence="none: drawn from a seed",
    samples="1,000 to train, as many to test as asked for (100)",
    classes="a number: the function's value",
)
def gaussian(
    *,
    function: str = "linear",
    rho: float = 0.5,
    features: int = 5,
    values: str = "conditional",
    samples: int = 100,
    seed: int = 0,
) -> Data:
    """Correlated Gaussian columns with a known function of them and its exact Shapley values (after Liu et al. 2021,
    2106.12543).

    Items (D,), D = ``features``: normal, mean 0, variance 1, correlation ``rho`` of every two. ``function`` is
    ``linear``, sum of (D - 1, ..., 1, 0) x; ``additive``, sin x1 + |x2| + x3^2 + exp(-x4); or ``piecewise``, the sum of
    sign(x1), a stair of x2 with values -2, -1, 1, 2 that steps at -0.5, 0 and 0.5, and floor(2 cos(pi x3)); other
    columns are no part of it. Labels are the function's values, without noise.

    The truth is, per column, the Shapley value of ``function`` under this distribution, by closed-form expectations
    over all 2^D coalitions: ``values=conditional`` draws absent columns given the present ones, so that a column
    outside the function that is correlated with one inside has a value too; ``interventional`` draws each for itself.
    They sum to f(x) - E f. They are of the model ``gaussian_function`` with equal ``function`` and ``features``; of
    ``gaussian_mlp``, which learns it, they are an approximation. ``masks`` are the columns in the function. ValueError
    for a ``rho`` for which there is no such distribution, outside -1 / (D - 1) < rho < 1.
    """
    if values not in VALUES:
        raise unknown("values", values, VALUES)
    terms = terms_of(function, features)
    train, test = draw(rho, features, samples, seed)
    truth = (
        interventional(terms, test)
        if values == "interventional"
        else conditional(terms, test, covariance(rho, features))
    )
    inside = torch.arange(features) < len(terms)
    return Data(
        ids=[f"sample_{number:04}" for number in range(samples)],
        items=test.float(),
        labels=evaluate(terms, test).float(),
        modality="table",
        train=train.float(),
        train_labels=evaluate(terms, train).float(),
        masks=inside.expand(samples, -1),
        truth=truth.float(),
        unit_names=tuple(f"x{number + 1}" for number in range(features)),
        function=name_of(function, features),
    )


def draw(rho: float, features: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Training rows (1000, D) and ``samples`` test rows, float64 numbers that float32 holds exactly."""
    if samples < 1:
        raise UserError(f"samples is {samples}, expected a whole number from 1")
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.linalg.cholesky(covariance(rho, features)).T
    # One after the other: how many test rows there are must not change the training rows.
    train, test = (
        torch.randn(count, features, generator=generator, dtype=torch.float64) @ mixing for count in (TRAIN, samples)
    )
    return train.float().double(), test.float().double()


def covariance(rho: float, features: int) -> Tensor:
    """Ones on the diagonal and ``rho`` beside it."""
    if not -1 / (features - 1) < rho < 1:
        least = -1 / (features - 1)
        raise UserError(f"rho is {rho}, expected a number above {least:.3g} and below 1 for {features} features")
    return torch.full((features, features), rho, dtype=torch.float64).fill_diagonal_(1.0)


def splitter(function: str, rho: float, features: int, seed: int) -> Callable[[], dict[str, tuple[Tensor, Tensor]]]:
    """What gives ``train`` -> (inputs, labels), for training."""

    def load_split() -> dict[str, tuple[Tensor, Tensor]]:
        rows, _ = draw(rho, features, 1, seed)
        return {"train": (rows.float(), evaluate(terms_of(function, features), rows).float())}

    return load_split


def name_of(function: str, features: int) -> str:
    """What data and model must agree on."""
    return f"gaussian function={function} features={features}"
