"""Generated samples, none of which is kept."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor


class Rows(Sequence):
    """Generated samples of some numbers, made when they are asked for: one by its place, more by a slice or a tensor.

    ``make`` takes numbers (k,) and gives what belongs to these samples, (k, ...).
    """

    def __init__(self, make: Callable[[np.ndarray], Tensor], numbers: range) -> None:
        self.make, self.numbers = make, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, which: Any) -> Tensor:
        if isinstance(which, int):
            return self.make(np.array([self.numbers[which]]))[0]
        if isinstance(which, slice):
            return self.make(np.array(self.numbers[which], dtype=np.int64))
        return self.make(np.array(self.numbers, dtype=np.int64)[np.asarray(which)])
