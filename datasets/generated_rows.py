"""Generated samples that are not held in memory."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor


class GeneratedRows(Sequence):
    """Generated samples, each made when it is accessed: one by an integer, several by a slice or a tensor of places.

    ``make`` takes sample numbers (k,) and gives what belongs to these samples, (k, ...). ``numbers`` are the numbers of
    the samples in this sequence.
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
