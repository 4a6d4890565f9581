"""Measures explainers for the first time, on the samples that test the metrics: which can be used, what they take."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.choosing.candidates import CHEAPER, COSTS, REFERENCE_NAMES, Candidate, heed_audit, mark_dear
from harness.choosing.headline import Headline
from harness.choosing.measuring import Measured, Measuring, Part
from harness.choosing.prices import Prices
from harness.engine.selection import Chosen, choose_one
from harness.registry import EXPLAINERS, METRICS

OF_DEAR = 4  # samples on which a dear explainer is looked at


@dataclass
class FirstLook:
    """What the first measurement of the candidates finds; those that something speaks against are left out.

    headline  the metrics that dear explainers are looked at with too: once it is known which are used, these
    rows    the samples that test the metrics
    limit   the most seconds that one sample may take
    prices  what explaining and scoring takes: measured, once ``take`` has been called
    seen    scores, costs and self-checks of the candidates that are not dear, and of references
    """

    measuring: Measuring
    headline: Headline
    candidates: Mapping[str, Candidate]
    rows: Sequence[int]
    limit: float
    prices: Prices
    say: Callable[[str], None]
    seen: Measured = field(default_factory=Measured)

    def take(self) -> None:
        """Look at all that are not dear; where nothing but dear ones and controls is left, at the cheapest of them."""
        self._look_at_all([each for each in self._taking_part() if not each.dear])
        while self._dear() and not [each for each in self._taking_part() if not (each.control or each.dear)]:
            bar = CHEAPER * min(each.estimate for each in self._dear())
            now = [each for each in self._dear() if each.estimate <= bar]
            for each in now:
                each.dear = False
            self._look_at_all([*(each for each in self._taking_part() if each.control), *now])

    def look_at_dear(self, candidate: Candidate) -> None:
        """The first measurement of a dear explainer, on few samples."""
        rows = self.rows[:OF_DEAR]
        self._measure([candidate], Part(f"first look 1-{len(rows)}", tuple(rows)))

    @property
    def part(self) -> Part:
        """The samples that test the metrics."""
        return Part(f"trust 1-{len(self.rows)}", tuple(self.rows))

    @property
    def looked_at(self) -> list[Candidate]:
        """Those that take part and have scores here."""
        names = {name for name, _ in self.seen.values}
        return [each for each in self._taking_part() if each.label in names]

    def references(self) -> dict[str, Chosen]:
        """Explainers that may be the source of a ladder beside the candidates: so a metric is not blamed for them."""
        there = {each.chosen.entry.name for each in self.looked_at}
        known = [choose_one(EXPLAINERS, name) for name in REFERENCE_NAMES if name not in there]
        chosen = [replace(each, label=f"{each.label} (reference)") for each in known]
        chosen = [each for each in chosen if self.measuring.stage.units.modality in each.entry.modalities]
        found = self.measuring.measure(self.part, chosen, self.headline.metrics) if chosen else Measured()
        self.seen.values.update(found.values)
        return {each.label: each for each in chosen if any(name == each.label for name, _ in found.values)}

    def leave_out_without_scores(self, used: Headline) -> None:
        """Leave out candidates that lack a score by one of the metrics that are used."""
        for each in self._taking_part():
            if not each.dear and used.whole_scores(self.seen, each.label) is None:
                each.reason = self.seen.problem_of(each.label) or "samples have no score by a metric that is used"

    def _look_at_all(self, candidates: Sequence[Candidate]) -> None:
        before = self.measuring.keeper.spent()
        self.seen = self._measure(candidates, self.part)
        spent = np.subtract(self.measuring.keeper.spent(), before)
        if spent.any():
            self.prices = replace(self.prices, scoring=self._scoring_price(candidates, spent))
        mark_dear(self._taking_part())

    def _measure(self, candidates: Sequence[Candidate], part: Part) -> Measured:
        costs = [choose_one(METRICS, name) for name in COSTS]
        chosen = [each.chosen for each in candidates]
        measured = self.measuring.measure(part, chosen, [*self.headline.metrics, *costs], audited=True)
        for each in candidates:
            others = {one.label for one in candidates if one.takes_part and one is not each}
            heed_audit(each, measured, self.headline.labels, self.limit, others)
            if not each.takes_part:
                self.say(f"{'':>9}{each.label} is left out: {each.reason}")
        return measured

    def _scoring_price(self, candidates: Sequence[Candidate], spent: np.ndarray) -> tuple[float, float]:
        """Seconds and evaluations of scoring one sample of one explainer: what was spent less what explaining took."""
        explaining = np.nansum([(each.seconds, each.evaluations) for each in candidates], axis=0) * len(self.rows)
        found = np.maximum(spent - explaining, 0) / max(1, len(candidates) * len(self.rows))
        return float(found[0]), float(found[1])

    def _taking_part(self) -> list[Candidate]:
        return [each for each in self.candidates.values() if each.takes_part]

    def _dear(self) -> list[Candidate]:
        return [each for each in self._taking_part() if each.dear]
