"""What is removed together: single units, square patches or segments."""

from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.errors import NotApplicable, unknown
from harness.removal.segments import Segments
from harness.samples import Samples
from harness.units import gather_segments, segment_sizes, segment_sums

GRANULARITIES = ("patch", "segment", "unit")


@dataclass(frozen=True)
class Groups:
    """A partition of each sample's units into groups, numbered from 0.

    labels    (N, *units) int64, the group of each unit; None where every unit is a group by itself
    sizes     (N, G) float64, how many units a group holds; 0 for numbers that a sample does not use
    shape     of the units
    alike     whether the partition is the same for every sample by construction
    """

    labels: Tensor | None
    sizes: Tensor
    shape: tuple[int, ...]
    alike: bool

    @property
    def present(self) -> Tensor:
        """Which of the numbers 0 .. G a sample uses: (N, G) bool."""
        return self.sizes > 0

    @property
    def totals(self) -> Tensor:
        """How many groups each sample has: (N,) int64."""
        return self.present.sum(1)

    def sums(self, per_unit: Tensor) -> Tensor:
        """Sums (N, G) of values (N, *units) within the groups, float64."""
        if self.labels is None:
            return per_unit.flatten(1).double()
        return segment_sums(per_unit.double(), self.labels, self.sizes.shape[1])

    def means(self, per_unit: Tensor) -> Tensor:
        """Means (N, G) of values (N, *units) within the groups, float64; -inf where there is no group."""
        return (self.sums(per_unit) / self.sizes).masked_fill(~self.present, float("-inf"))

    def spread(self, per_group: Tensor, sample: Tensor) -> Tensor:
        """Values per group (rows, G) of samples numbered ``sample`` (rows,), given to their units: (rows, *units)."""
        if self.labels is None:
            return per_group.view(len(per_group), *self.shape)
        return gather_segments(per_group, self.labels[sample])


def groups(samples: Samples, granularity: str, patch: int, segments: str | Tensor) -> Groups:
    """The groups that the options of the same names describe; NotApplicable where all samples are of one group."""
    if granularity not in GRANULARITIES:
        raise unknown("granularity", granularity, GRANULARITIES)
    spec: Hashable = {"unit": "unit", "patch": f"patch:{patch}", "segment": segments}[granularity]
    found = samples.shared(("groups", granularity, spec), lambda: _make(samples, spec, granularity))
    if found.alike and found.sizes.shape[1] < 2:
        raise NotApplicable(f"the inputs have a single {granularity}, of which there is nothing to order or to choose")
    return found


def _make(samples: Samples, spec: str | Tensor, granularity: str) -> Groups:
    shape = samples.units.shape
    if granularity == "unit":
        ones = torch.ones((), dtype=torch.float64, device=samples.inputs.device)
        return Groups(None, ones.expand(len(samples), samples.units.count), shape, alike=True)
    return _of_segments(samples.segments(spec), shape, alike=granularity == "patch")


def _of_segments(segments: Segments, shape: tuple[int, ...], alike: bool) -> Groups:
    return Groups(segments.labels, segment_sizes(segments.labels, segments.most).double(), shape, alike)
