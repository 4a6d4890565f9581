"""What a study finds: numbers that can stand beside published ones, claims that hold or fail, and figures."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from harness.errors import UserError

COLUMNS = ("setting", "model", "dataset", "explainer", "metric", "value", "spread", "spread_kind", "n")
# What the column ``spread`` may be. A standard error tells how well a mean is known, a deviation does not.
SPREADS = ("standard error", "sd over samples", "sd over seeds", "none")
IDENTITY, PATTERN = "identity", "pattern"


@dataclass(frozen=True)
class Claim:
    """Something that an experiment shows, with its test.

    name      a short name, unique in the study
    kind      ``identity``: exact but for rounding; ``pattern``: a tendency, shown by a test with a stated error
    says      the claim, in one sentence
    holds     whether the test says so; None where it cannot tell
    measured  the numbers, with what they would have to be: "largest difference 2e-7, at most 1e-5"
    why       why this bound, or which test at which level
    source    who says it: a paper with its table or figure and how that is known, or "algebra"
    n         on how many samples, data sets or nets the test rests; None where it is exact
    expected  False for a claim of a paper that does not hold here; then ``tried`` says what was tried to make it hold
    """

    name: str
    kind: str
    says: str
    holds: bool | None
    measured: str
    why: str
    source: str
    n: int | None = None
    expected: bool = True
    tried: str = ""

    def __post_init__(self) -> None:
        if self.holds is not None:
            object.__setattr__(self, "holds", bool(self.holds))  # a comparison of arrays gives np.bool
        if not self.measured:
            raise ValueError(f"{self.name} says nothing of what was measured")
        if self.kind not in (IDENTITY, PATTERN):
            raise ValueError(f"a claim is an identity or a pattern, got {self.kind!r}")
        if not self.expected and not self.tried:
            raise ValueError(f"{self.name} is not expected to hold: say what was tried")


@dataclass
class Findings:
    """All that a study finds.

    numbers   a row for each mean, with the columns COLUMNS; ``setting`` holds whatever else distinguishes rows
    claims    identities and patterns, each with its test
    figures   name -> figure in the form of the paper's own; the name is that of a file
    notes     sentences about what differs from the paper beyond what the protocol states
    """

    numbers: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    claims: list[Claim] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        lacking = [name for name in COLUMNS if name not in self.numbers]
        if lacking:
            raise ValueError(f"numbers lack the columns {', '.join(lacking)}")
        again = self.numbers.duplicated([*COLUMNS[:5]])
        if again.any():
            raise ValueError(f"several numbers for {self.numbers.loc[again, list(COLUMNS[:5])].iloc[0].to_dict()}")
        if not set(self.numbers["spread_kind"]) <= set(SPREADS):
            raise ValueError(f"spread_kind is one of {', '.join(SPREADS)}, got {set(self.numbers['spread_kind'])}")
        names = [each.name for each in self.claims]
        if len(set(names)) < len(names):
            raise ValueError("two claims have one name")


def numbers_of(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a table of numbers; what a row lacks is empty, and without a spread its kind is ``none``."""
    empty = {"setting": "", "model": "", "dataset": "", "explainer": "", "metric": ""}
    blank = {**empty, "value": float("nan"), "spread": float("nan"), "spread_kind": "none", "n": None}
    found = [{**blank, **row} for row in rows]
    extra = {name for row in found for name in row} - set(COLUMNS)
    if extra:
        raise UserError(f"a number has the columns {', '.join(COLUMNS)}, got also {', '.join(sorted(extra))}")
    return pd.DataFrame(found, columns=COLUMNS)
