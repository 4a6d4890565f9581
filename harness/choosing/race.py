"""A race of candidates on growing numbers of samples: who is shown to be worse is dropped, however often one looks.

The claim tested of each candidate is that it is the best, or one of several best. Its opponent at each sample is the
candidate with the largest mean over the samples before (``harness.results.betting``). The probability that any best
candidate is dropped is at most ``alpha``, whatever the number of candidates and of looks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.errors import UserError
from harness.results.betting import MOST_LOG, BoundedBets, SymmetricBets, rejected, within
from harness.results.ties import difference


@dataclass(frozen=True)
class Drop:
    """A candidate that is shown not to be the best.

    by          the leader at that look
    samples     on how many samples both have scores
    difference  mean score of the leader less its own, on these samples
    """

    name: str
    by: str
    samples: int
    difference: float


@dataclass
class _Block:
    """One round: the scores (n, K) of those that took part, and each sample's leader and runner-up (n,)."""

    scores: np.ndarray
    leaders: np.ndarray
    runners_up: np.ndarray


class Race:
    """The race of ``names``, of which those ``late`` enter later.

    bounds   the least and the largest score that is possible; None for bets that need differences to be symmetric
    alpha    the probability that any best candidate is dropped
    """

    def __init__(
        self, names: Sequence[str], *, bounds: tuple[float, float] | None, alpha: float, late: Collection[str] = ()
    ) -> None:
        self.names, self.bounds, self.alpha = list(names), bounds, alpha
        self._states = {name: "late" if name in late else "in" for name in names}
        self._bets = SymmetricBets(len(names)) if bounds is None else BoundedBets(len(names))
        self._blocks: list[_Block] = []
        self._caught_up = dict.fromkeys(names, 0)
        self._sums = np.zeros(len(names))
        self._looks = 0

    @property
    def taking_part(self) -> list[str]:
        """Those that have scores on all blocks so far, and are neither dropped nor withdrawn."""
        return [name for name in self.names if self._states[name] == "in"]

    @property
    def blocks(self) -> list[int]:
        """The number of samples of each block so far."""
        return [len(block.scores) for block in self._blocks]

    @property
    def leader(self) -> str | None:
        """The one with the largest mean over all samples so far, of those that take part."""
        names = self.taking_part
        return max(names, key=lambda name: self._sums[self._place(name)]) if names and self._blocks else None

    def play(self, scores: Mapping[str, np.ndarray]) -> None:
        """Bet on the next block: scores (n,) of exactly those that take part. UserError for others."""
        names = self.taking_part
        if set(scores) != set(names):
            raise UserError(f"scores came of {', '.join(sorted(scores))}, expected those of {', '.join(sorted(names))}")
        lengths = {len(each) for each in scores.values()}
        if len(lengths) != 1:
            raise UserError(f"scores of {' and '.join(map(str, sorted(lengths)))} samples came, expected one number")
        places = np.array([self._place(name) for name in names])
        matrix = np.full((lengths.pop(), len(self.names)), np.nan)
        for name, place in zip(names, places, strict=True):
            matrix[:, place] = self._checked(name, scores[name])
        leaders, runners_up = self._opponents(matrix, places)
        self._blocks.append(_Block(matrix, leaders, runners_up))
        for name in names:
            self._caught_up[name] += 1
        if len(places) < 2:
            return
        for row, leader, second in zip(matrix, leaders, runners_up, strict=True):
            opponents = np.where(places == leader, second, leader)
            self._bets.bet(places, self._scaled(difference(row[opponents], row[places])))

    def catch_up(self, name: str, scores: np.ndarray) -> None:
        """Bet on the next block that a late candidate lacks, against the recorded leader of each of its samples."""
        if self._states[name] != "late" or self._caught_up[name] >= len(self._blocks):
            raise UserError(f"{name} has no block to catch up with")
        block, place = self._blocks[self._caught_up[name]], self._place(name)
        if len(scores) != len(block.scores):
            raise UserError(f"{len(scores)} scores of {name} came, its next block has {len(block.scores)} samples")
        block.scores[:, place] = self._checked(name, scores)
        best = block.scores[np.arange(len(scores)), block.leaders]
        for d in self._scaled(difference(best, block.scores[:, place])):
            self._bets.bet(np.array([place]), np.array([d]))
        self._sums[place] += block.scores[:, place].sum()
        self._caught_up[name] += 1
        if self._caught_up[name] == len(self._blocks):
            self._states[name] = "in"

    def withdraw(self, name: str) -> None:
        """A candidate leaves for a reason that is no score; it is no opponent any more."""
        self._states[name] = "withdrawn"

    def drop(self) -> list[Drop]:
        """Look: drop those that are shown not to be the best; the last one is never dropped."""
        self._looks += 1
        shown, leader = rejected(self._log_wealth_at_one_time(), self.alpha), self.leader
        names = [name for name in self.taking_part if shown[self._place(name)] and name != leader]
        return self._dropped(names, leader)

    def drop_late(self, name: str) -> list[Drop]:
        """Look at a late candidate that has not caught up: drop it if its wealth alone shows that it is not the best.

        Others have seen more samples, so that their wealth cannot be averaged with its. By itself it has to reach the
        number of candidates over alpha; then the mean at that sample had reached 1 / alpha, whatever the others had.
        """
        self._looks += 1
        shown = self._bets.log_wealth[self._place(name)] >= np.log(len(self.names) / self.alpha)
        return self._dropped([name] if shown and self._states[name] == "late" else [], self.leader)

    def _dropped(self, names: Sequence[str], leader: str | None) -> list[Drop]:
        found = [self._drop_of(name, leader) for name in names if leader is not None]
        for each in found:
            self._states[each.name] = "dropped"
        return found

    def _log_wealth_at_one_time(self) -> np.ndarray:
        """The log wealth of all at the present sample; of late ones, which have not seen it, the least that can be."""
        late = np.array([self._states[name] == "late" for name in self.names])
        return np.where(late, -np.inf, self._bets.log_wealth)

    def foreseen(self, samples: int) -> list[str]:
        """Those that would be dropped after ``samples`` samples if the evidence against each grew as it has so far."""
        seen = np.array([self._standing(name, self.leader)[0] for name in self.names])
        now = self._log_wealth_at_one_time()
        grown = np.maximum(now, 0) * samples / np.maximum(seen, 1)
        shown = rejected(np.where(grown > 0, grown, now), self.alpha)
        return [name for name in self.taking_part if shown[self._place(name)] and name != self.leader]

    def table(self) -> list[dict]:
        """A row for each candidate as it stands: look, samples, mean, difference to the leader, wealth and state."""
        leader = self.leader
        rows = []
        for name in self.names:
            samples, mean, behind = self._standing(name, leader)
            state = self._states[name]
            rows.append(
                {
                    "look": self._looks,
                    "samples": sum(self.blocks),
                    "explainer": name,
                    "measured": samples,
                    "mean": mean,
                    "behind_leader": behind,
                    "wealth": self._wealth(name),
                    "state": state,
                    "leader": leader or "",
                }
            )
        return rows

    def _place(self, name: str) -> int:
        return self.names.index(name)

    def _wealth(self, name: str) -> float:
        return float(np.exp(np.clip(self._bets.log_wealth[self._place(name)], -MOST_LOG, MOST_LOG)))

    def _checked(self, name: str, scores: np.ndarray) -> np.ndarray:
        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise UserError(f"scores of {name} hold NaN or infinite values, expected numbers")
        return scores if self.bounds is None else within(self.bounds, scores, name)

    def _scaled(self, differences: np.ndarray) -> np.ndarray:
        """Differences in [-1, 1] where scores are bounded; else as they are."""
        return differences if self.bounds is None else differences / (self.bounds[1] - self.bounds[0])

    def _opponents(self, matrix: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each sample the candidate with the largest mean over all samples before it, and the second."""
        before = self._sums[places] + np.vstack([np.zeros(len(places)), np.cumsum(matrix[:, places], 0)])
        self._sums[places] = before[-1]
        order = np.argsort(-before[:-1], axis=1, kind="stable")
        return places[order[:, 0]], places[order[:, min(1, len(places) - 1)]]

    def _drop_of(self, name: str, leader: str) -> Drop:
        samples, _, behind = self._standing(name, leader)
        return Drop(name, leader, samples, behind)

    def _standing(self, name: str, leader: str | None) -> tuple[int, float, float]:
        """On how many samples a candidate has scores, its mean, and the mean by which it is behind the leader."""
        nan = float("nan")
        if not self._blocks or leader is None:
            return 0, nan, nan
        scores = np.concatenate([block.scores for block in self._blocks])
        own, best = scores[:, self._place(name)], scores[:, self._place(leader)]
        seen, both = np.isfinite(own), np.isfinite(own) & np.isfinite(best)
        if not both.any():
            return int(seen.sum()), float(own[seen].mean()) if seen.any() else nan, nan
        return int(seen.sum()), float(own[seen].mean()), float((best - own)[both].mean())
