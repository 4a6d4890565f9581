"""Games of segments: how segments are removed, what coalitions of them are worth, and values per unit from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from harness.option_types import Range
from harness.predictor import pick
from harness.removal.background import DEFAULT_BASELINE, Background, replacement
from harness.removal.baselines import BaselineName
from harness.removal.segments import Segmentation, Segments
from harness.samples import Samples
from harness.task import Score
from harness.units import gather_segments, segment_sizes

Estimator = Literal["process", "least_squares"]


@dataclass(frozen=True)
class SegmentRemoval:
    """Options of explainers that remove segments of the input and watch the score.

    segments   which units go together: a name (``harness.removal.segments``) or a tensor (N, *units)
    baseline   what a removed segment becomes: a name (``harness.removal.baselines``) or a tensor of one input's shape.
               ``typical``, also the default of metrics, is the mean of an image or a series per channel, a text's
               padding (or zero), and the training mean of a table, for which it needs training inputs
    background how many training inputs, the same for all samples and seeds, take the place of what is removed; the
               score is averaged over them, which costs as many evaluations as one baseline does for each of them. 0:
               the baseline. None: 100 for a table with training inputs whose ``baseline`` is left at its default, else
               the baseline
    score      the watched output of the model: ``logit``, ``probability`` or ``log_odds``
    """

    segments: Segmentation | Tensor = "auto"
    baseline: BaselineName | Tensor = DEFAULT_BASELINE
    background: Annotated[int, Range(0, 1_000_000)] | None = 0
    score: Score = "logit"

    def replacement(self, samples: Samples) -> str | Tensor | Background:
        """What removed segments become: the baseline, or a background."""
        return replacement(samples, self.baseline, self.background)


TO_TYPICAL = SegmentRemoval()


@dataclass(frozen=True)
class Game:
    """A game for each of n samples with K segments: the segments are the players, and a coalition of them is worth the
    score of the input in which only it is present.

    baseline   what an absent segment becomes: a name, a tensor of one input's shape, or a background
    score      the watched output: ``logit``, ``probability`` or ``log_odds``
    """

    samples: Samples
    segments: Segments
    baseline: str | Tensor | Background
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


def play(samples: Samples, removal: SegmentRemoval, solve: Callable[[Game], Tensor]) -> Tensor:
    """Attributions per unit, one channel, from the values (n, K) of the segments that ``solve(game)`` computes.

    Samples with equally many segments are one game, so that no padded segment enters a regression.
    """
    segments, baseline = samples.segments(removal.segments), removal.replacement(samples)
    answer = torch.empty(len(samples), *samples.units.shape, device=samples.inputs.device)
    for count in segments.counts.unique().tolist():
        rows = (segments.counts == count).nonzero()[:, 0]
        own = Segments(segments.labels[rows], segments.counts[rows])
        answer[rows] = spread(solve(Game(samples.take(rows), own, baseline, removal.score)), own)
    return samples.units.as_map(answer)


def spread(values: Tensor, segments: Segments) -> Tensor:
    """Values per segment (N, K) as values per unit (N, *units), float32: each segment's value in equal shares."""
    sizes = segment_sizes(segments.labels, values.shape[1]).clamp(min=1)  # 0 for a segment that a sample does not have
    return gather_segments(values / sizes, segments.labels).float()
