"""What measuring explainers takes, so that a choice keeps to its budget."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.choosing.candidates import Candidate
from harness.choosing.measuring import Keeper, Measuring
from harness.choosing.noise_ladder import LEVELS
from harness.choosing.settings import Settings
from harness.choosing.split import FIRST_ROUND, Split
from harness.engine.stage import Stage
from harness.errors import UserError
from harness.results.family import least_samples
from harness.results.numbers import significant

NOTE = "seconds per pass"


@dataclass(frozen=True)
class Prices:
    """Prices in seconds and in evaluations of the model.

    seconds_per_pass  the time that one input takes forward; used until a candidate's own time has been measured
    scoring           seconds and evaluations of scoring one sample of one explainer
    """

    measuring: Measuring
    seconds_per_pass: float
    scoring: tuple[float, float]

    def of(self, candidates: Sequence[Candidate], samples: int) -> tuple[float, float]:
        """What explaining and scoring so many samples takes by these candidates."""
        seconds = sum(self._seconds(each) + self.scoring[0] for each in candidates)
        evaluations = sum(_known_or(each.evaluations, each.estimate) + self.scoring[1] for each in candidates)
        return seconds * samples, evaluations * samples

    def affords(self, candidates: Sequence[Candidate], samples: int, kept: float) -> bool:
        """Whether the budget suffices for these candidates on so many samples, with a share ``kept`` of it left."""
        return self.measuring.share_of_budget(*self.of(candidates, samples)) <= self.measuring.left - kept

    def _seconds(self, candidate: Candidate) -> float:
        return _known_or(candidate.seconds, candidate.estimate * self.seconds_per_pass)


def check_budget(prices: Prices, candidates: Sequence[Candidate], split: Split, settings: Settings) -> None:
    """UserError if the budget does not suffice for the explainers that are not dear: for the test of the metrics, the
    first round, and the fewest samples that can confirm."""
    own = [each for each in candidates if each.takes_part and not each.dear]
    samples = len(split.trust) + FIRST_ROUND + least_samples(settings.alpha / 2)
    known = zip(prices.of(own, samples), prices.of([own[0]] * len(LEVELS), len(split.trust)), strict=True)
    seconds, evaluations = map(sum, known)
    budget = prices.measuring.budget
    if seconds > budget.seconds or evaluations > budget.evaluations:
        about = f"{significant(seconds)} s" if budget.in_seconds else f"{evaluations:,.0f} model evaluations"
        raise UserError(
            f"budget is {settings.budget}, which is too small to say anything: {len(own)} explainers need at least "
            f"about {about} to be tested, to race one round and to be confirmed; give more, or fewer candidates, such "
            "as candidates=[saliency,occlusion]"
        )


def seconds_per_pass(stage: Stage, keeper: Keeper) -> float:
    """The time that one input takes forward, in full batches; the same for all processes of a choice."""
    known = keeper.noted(NOTE)
    if known is not None:
        return float(known)
    predictor = stage.predictor
    rows = stage.first()[: predictor.chunk]
    carried = {name: values[: len(rows)] for name, values in stage.first_carried().items()}
    predictor.logits(rows, carried)  # the first call takes longer
    started = time.perf_counter()
    predictor.logits(rows, carried)
    taken = (time.perf_counter() - started) / len(rows)
    keeper.note(NOTE, taken)
    return taken


def _known_or(value: float, otherwise: float) -> float:
    return float(value) if np.isfinite(value) else otherwise
