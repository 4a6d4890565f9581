"""Settings of ``harness choose``: what may be spent, what the explainer is for, and how sure the answer has to be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from harness.errors import UserError
from harness.option_kinds import check_fields, settings
from harness.option_types import Positive, Range

UNITS_OF_TIME = {"s": 1.0, "m": 60.0, "h": 3600.0}
REALTIME_SECONDS = 0.1


@dataclass(frozen=True)
class Budget:
    """What may be spent: seconds, or evaluations of the model (inputs that pass forward or backward)."""

    seconds: float = float("inf")
    evaluations: float = float("inf")

    @classmethod
    def of(cls, given: str | int | None) -> "Budget":
        """The budget that a setting describes; UserError for what is neither a time nor a number of evaluations."""
        if given is None:
            return cls()
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smh]?)\s*", str(given))
        number, unit = (float(found[1]), found[2]) if found else (0.0, "")
        if number <= 0 or (not unit and number != int(number)):
            raise UserError(
                f"budget is {given!r}, expected a time such as budget=90s, 10m or 2h, or a number of model evaluations "
                "such as budget=50000"
            )
        return cls(seconds=number * UNITS_OF_TIME[unit]) if unit else cls(evaluations=number)

    @property
    def in_seconds(self) -> bool:
        """Whether the budget is a time."""
        return self.seconds < float("inf")


@dataclass(frozen=True)
class Settings:
    """How an explainer is chosen.

    budget                  what may be spent: a time (``90s``, ``10m``, ``2h``) or a number of model evaluations; None
                            for all samples
    purpose                 ``debug`` prefers signed and complete maps, ``report`` maps that depend on the class and are
                            stable, ``realtime`` maps within a time; None: the cheapest of the best
    max_seconds_per_sample  no explainer that takes longer; for ``realtime`` 0.1 by default
    alpha                   the probability with which the best candidate may be missing from the answer
    tune                    whether options of the best candidates are tuned
    """

    budget: str | int | None = None
    purpose: Literal["debug", "report", "realtime"] | None = None
    max_seconds_per_sample: Positive | None = None
    alpha: Annotated[float, Range(0.0001, 0.5)] = 0.05
    tune: bool = True

    def __post_init__(self) -> None:
        Budget.of(self.budget)
        check_fields("choose", self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """Settings from a mapping of those that are given."""
        return settings(cls, "choose", values)

    @property
    def time_limit(self) -> float:
        """The most seconds that explaining one sample may take; infinite without a limit."""
        if self.max_seconds_per_sample is not None:
            return float(self.max_seconds_per_sample)
        return REALTIME_SECONDS if self.purpose == "realtime" else float("inf")
