"""Types of options with the values that make sense: an option is declared by one of them, or by a range of its own.

``steps: Count = 32`` is a whole number for a type checker. The harness reads the range as well: it refuses every other
value before anything runs (``harness.options``), and ``harness list`` shows it. The upper ends are generous: what takes
hours on images of 28 x 28 is allowed, what never ends is not.
"""

from dataclasses import dataclass
from math import inf
from typing import Annotated, Literal


@dataclass(frozen=True)
class Range:
    """The numbers from ``least`` to ``most``, without NaN; ``without`` leaves out one end, or both.

    An end of infinity stands for all finite numbers.
    """

    least: float = -inf
    most: float = inf
    without: Literal["", "least", "most", "ends"] = ""

    def __contains__(self, number: float) -> bool:
        low = self.least < number if self.without in ("least", "ends") else self.least <= number
        high = number < self.most if self.without in ("most", "ends") else number <= self.most
        return low and high and -inf < number < inf

    def __str__(self) -> str:
        low = "above" if self.without in ("least", "ends") else "from"
        high = {"most": "to below", "ends": "and below", "least": "and up to"}.get(self.without, "to")
        parts = [(low, self.least), (high, self.most)]
        return " ".join(f"{word} {_number(end)}" for word, end in parts if abs(end) != inf)


@dataclass(frozen=True)
class Sized:
    """Texts: one of the words ``plain``, or a word of ``sized`` with a whole number from 1, as in ``grid:7``."""

    plain: tuple[str, ...]
    sized: tuple[str, ...]
    most: int = 1_000_000

    def __contains__(self, text: str) -> bool:
        word, colon, number = text.partition(":")
        if not colon:
            return text in self.plain
        whole = number.isascii() and number.isdigit() and len(number) <= len(str(self.most))
        return word in self.sized and whole and 1 <= int(number) <= self.most

    def __str__(self) -> str:
        return ", ".join(sorted((*self.plain, *(f"{word}:N" for word in self.sized))))


def _number(end: float) -> str:
    return f"{int(end):,}" if end == int(end) and abs(end) < 1e16 else f"{end:g}"


# Numbers of random draws, steps, rows: the work is proportional to them. At 28 x 28 a network has 10^4 outputs a
# second, so that 10^6 are minutes for one sample and hours for a hundred.
Count = Annotated[int, Range(1, 1_000_000)]
# The same where one alone makes no score, curve or spread.
Several = Annotated[int, Range(2, 1_000_000)]
# How often a whole measurement, a training or an explanation is repeated.
Repeats = Annotated[int, Range(1, 1000)]
# Passes over training inputs: seconds each for the models of this package.
Epochs = Annotated[int, Range(1, 10_000)]
# Lengths along one axis, in pixels, units, tokens or cells; larger ones fit into no memory.
Size = Annotated[int, Range(1, 10_000)]
# The same where 0 has a meaning of its own, such as "choose one".
SizeOrZero = Annotated[int, Range(0, 10_000)]
# What numpy, scikit-learn and torch all take as a seed.
Seed = Annotated[int, Range(0, 2**32 - 1)]
# Parts of a whole: with both ends; not empty; neither empty nor whole; not whole.
Share = Annotated[float, Range(0, 1)]
SomeShare = Annotated[float, Range(0, 1, without="least")]
InnerShare = Annotated[float, Range(0, 1, without="ends")]
ShareBelowOne = Annotated[float, Range(0, 1, without="most")]
Percent = Annotated[float, Range(0, 100, without="least")]
# The same where the whole is the same for every map, so that it says nothing of any.
InnerPercent = Annotated[float, Range(0, 100, without="ends")]
# Sizes, weights and factors. Products of three numbers below 10^9 are finite in float32, whose largest is 3 x 10^38;
# a number below 10^-12 that divides, or is added to what it keeps away from 0, is none.
Positive = Annotated[float, Range(1e-12, 1e9)]
NotNegative = Annotated[float, Range(0, 1e9)]
# Values of inputs as the user measured them; float32 ends at 3 x 10^38.
Real = Annotated[float, Range(-1e30, 1e30)]
# Standard deviations of a blur, in pixels, and widths of a blur or a bell, as a share of the shortest side: with less
# than this nothing is blurred, and beyond it kernels fill the memory.
Sigma = Annotated[float, Range(0.01, 1000)]
Width = Annotated[float, Range(0.001, 10)]
# Sizes of a change of the input as a share of its range. Below 10^-5 the rounding of float32 counts: local_lipschitz of
# occlusion on a small network was 1.5 times too large at 10^-6, and 3,000 times at 10^-10. With noise of ten times the
# range, less than a hundredth of the variance is the input's, so that a map for it explains the noise.
ChangeOfInput = Annotated[float, Range(1e-5, 10)]
# The same where 0 is the method without noise.
ChangeOrNone = Annotated[float, Range(0, 10)]

# Values that tuning tries beside the default (``Explainer.tunable``), where several explainers have the same option.
# Coarse and fine ones that each kind of input has, at most 196: the 14 x 14 of vision transformers' patches.
TRIED_SEGMENTS = ("parts:16", "parts:196", "slic:100")
# What removed units become, beside what is typical: each where it exists.
TRIED_FILLS = ("zero", "blur", "mask")
# Where paths and differences begin, beside zero.
TRIED_STARTS = ("typical_or_zero", "black", "blur")
# Of noisy copies: SmoothGrad's paper has 10 to 20 % of the range, and less is enough for inputs of few colours.
TRIED_NOISE = (0.02, 0.05, 0.1, 0.3)
