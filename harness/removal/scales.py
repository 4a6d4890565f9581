"""Arithmetic of numbers of any size: squares of 1e-20 and of 1e20 leave the range of single precision.

Numbers are divided by a power of two before they are squared, and results are multiplied by it. That is exact: where
nothing leaves the range, results are the same to the bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def power_of_two(values: Tensor, over: Sequence[int]) -> Tensor:
    """The power of two up to the largest size of values over some axes, which are kept; 1 where that is 0 or not
    finite."""
    largest = values.detach().abs().amax(tuple(over), keepdim=True)
    exponent = torch.frexp(largest).exponent - 1
    scaled = torch.ldexp(torch.ones_like(largest), exponent)
    return scaled.where((largest > 0) & largest.isfinite(), 1)


def mean_and_deviation(values: Tensor, over: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The mean and the standard deviation (of the population) of values over some axes, which are kept."""
    unit = power_of_two(values, over)
    scaled = values / unit
    return scaled.mean(over, keepdim=True) * unit, scaled.std(over, keepdim=True, correction=0) * unit
