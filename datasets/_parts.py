"""The parts that a data set is divided into."""

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from harness.errors import unknown

TRAIN_AND_TEST = ("train", "test")
PLANTED_TRAINING_ROWS = 1000  # of the tables that are drawn from a seed
AnyPart = TypeVar("AnyPart")


def part_of(name: str, parts: Mapping[str, AnyPart], split: str) -> AnyPart:
    """The part ``split`` of the data set ``name``; UserError with the names of the parts for an unknown one."""
    if split not in parts:
        raise unknown(f"split of {name}", split, parts)
    return parts[split]


def stratified_rows(strata: Tensor, test: int, seed: int = 0) -> dict[str, Tensor]:
    """``train`` and ``test`` -> row numbers in a random order; ``test`` rows in the latter, stratified by ``strata``
    (N,).

    Such a split belongs to the data set and is not an option, because models are trained on its training part.
    """
    from sklearn.model_selection import train_test_split  # here and not above: scikit-learn takes seconds to import

    halves = train_test_split(range(len(strata)), test_size=test, stratify=strata, random_state=seed)
    return dict(zip(TRAIN_AND_TEST, map(torch.tensor, halves), strict=True))
