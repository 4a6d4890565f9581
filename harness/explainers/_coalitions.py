"""What the explainers that remove whole segments share: the game they play, and its values spread over the units."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import UserError
from harness.predictor import pick
from harness.removal.segments import Segments
from harness.samples import Samples
from harness.units import gather_segments, segment_sizes


@dataclass(frozen=True)
class Game:
    """n samples with K segments each: the players are the segments, a coalition's worth is the score with only it
    present.

    baseline  what an absent segment becomes: a name or a tensor of one input's shape
    """

    samples: Samples
    segments: Segments
    baseline: str | Tensor
    score: str

    @property
    def full(self) -> Tensor:
        """The scores (n,) float64 of the unperturbed inputs: the worth of the grand coalition."""
        return self.samples.clean(self.score).double()

    @property
    def players(self) -> int:
        """K, the number of segments of every sample here."""
        return self.segments.most

    def worth(self, masks: Tensor) -> Tensor:
        """The scores (n, M) float64 of coalitions ``masks`` (n or 1, M, K) bool, True where a segment is present."""
        return pick(self.samples.coalitions(masks, self.segments, self.baseline), self.score).double()

    def worth_of_none(self) -> Tensor:
        """The scores (n,) float64 of the baseline alone."""
        return self.worth(torch.zeros(1, 1, self.players, dtype=torch.bool, device=self.samples.inputs.device))[:, 0]


def play(
    samples: Samples, segments: str | Tensor, baseline: str | Tensor, score: str, solve: Callable[[Game], Tensor]
) -> Tensor:
    """Attributions per unit, one channel, from what ``solve(game)`` gives each of the game's segments: (n, K).

    Samples with equally many segments are one game, so that no padded segment enters anybody's regression.
    """
    found = samples.segments(segments)
    answer = torch.empty(len(samples), *samples.units.shape, device=samples.inputs.device)
    for count in found.counts.unique().tolist():
        rows = (found.counts == count).nonzero()[:, 0]
        own = Segments(found.labels[rows], found.counts[rows])
        answer[rows] = spread(solve(Game(samples.take(rows), own, baseline, score)), own)
    return samples.units.as_map(answer)


def spread(values: Tensor, segments: Segments) -> Tensor:
    """Values per segment (N, K) as values per unit (N, *units), float32, that sum to the segment's over its units."""
    sizes = segment_sizes(segments.labels, values.shape[1]).clamp(min=1)  # 0 where a sample has fewer: never read
    return gather_segments(values / sizes, segments.labels).float()


def check_number(name: str, value: float, least: float, whole: bool = True) -> None:
    """Raise UserError unless an option is a number, whole where it must be, of at least ``least``."""
    kinds = int if whole else (int, float)
    if not isinstance(value, kinds) or isinstance(value, bool) or not value >= least:
        raise UserError(f"{name} is {value!r}, expected a {'whole ' if whole else ''}number of at least {least}")
