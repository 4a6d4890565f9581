"""Which samples are for which step of a choice: no sample tests a metric, ranks explainers and confirms them."""

from dataclasses import dataclass

import numpy as np

from harness.errors import UserError

LEAST_FOR_TRUST, LEAST_FOR_RACE, LEAST_FOR_CONFIRMATION = 6, 6, 8
LEAST_SAMPLES = LEAST_FOR_TRUST + LEAST_FOR_RACE + LEAST_FOR_CONFIRMATION
FIRST_ROUND = 8  # samples of the race; each further round has half as many as all before it, and at least these
TRUST_SHARE, CONFIRMATION_SHARE = 0.2, 0.3
MOST_FOR_TRUST = 32
FEW = 30  # samples that confirm, where they are no more than one half of all: fewer show next to nothing
ENOUGH = 100  # samples confirm well: beyond them, and up to MOST_FOR_CONFIRMATION, a tenth of all samples confirms
MOST_FOR_CONFIRMATION = 400


@dataclass(frozen=True)
class Split:
    """The samples by what they are for; no sample is for two things."""

    trust: tuple[int, ...]
    race: tuple[int, ...]
    confirmation: tuple[int, ...]

    @classmethod
    def of(cls, count: int, seed: int) -> "Split":
        """A random split of ``count`` samples; UserError for too few."""
        if count < LEAST_SAMPLES:
            raise UserError(
                f"{count} {'sample' if count == 1 else 'samples'} came, choosing an explainer needs at least "
                f"{LEAST_SAMPLES}: {LEAST_FOR_TRUST} to test the metrics, {LEAST_FOR_RACE} for the race and "
                f"{LEAST_FOR_CONFIRMATION} to confirm"
            )
        order = tuple(map(int, np.random.default_rng([seed, count]).permutation(count)))
        trust = min(max(LEAST_FOR_TRUST, round(TRUST_SHARE * count)), MOST_FOR_TRUST)
        confirmation = min(max(round(CONFIRMATION_SHARE * count), min(FEW, count // 2)), ENOUGH)
        confirmation = min(max(confirmation, count // 10), MOST_FOR_CONFIRMATION, count - trust - LEAST_FOR_RACE)
        return cls(order[:trust], order[trust : count - confirmation], order[count - confirmation :])

    def fresh(self, raced: int) -> tuple[int, ...]:
        """The samples that confirm, when the race has used ``raced`` of its own: where they are fewer than ENOUGH, the
        samples that the race has left over are added."""
        more = max(0, ENOUGH - len(self.confirmation))
        return self.confirmation + self.race[raced : raced + more]

    @property
    def sizes(self) -> dict[str, int]:
        """The number of samples for each step."""
        return {"trust": len(self.trust), "race": len(self.race), "confirmation": len(self.confirmation)}
