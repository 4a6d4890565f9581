"""What is removed together: single units, square patches or segments."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from harness.errors import NotApplicable
from harness.option_types import SizeOrZero
from harness.removal.segments import Segmentation, Segments
from harness.samples import Samples
from harness.units import gather_segments, segment_sizes, segment_sums

Granularity = Literal["auto", "patch", "segment", "unit"]


@dataclass(frozen=True)
class Grouping:
    """Options of metrics that remove or draw several units at once.

    granularity   what is removed at once: ``unit``, a single unit; ``patch``, a square (on a sequence, a window);
                  ``segment``, a segment; ``auto``, a patch where units have neighbours (not in
                  a table), else a unit
    patch         side of a square in units; 0: a fourteenth of the input's shortest axis, rounded, and at least 2 on
                  axes of 4 or more, which is 16 at 224 px and 2 at 28 px; not for ``unit`` and ``segment``
    segments      the segmentation, by name (``harness.removal.segments``) or as labels (N, *units); only for
                  ``granularity="segment"``. ``regions`` are about 100 superpixels of an image, and the words of a text
    """

    granularity: Granularity = "unit"
    patch: SizeOrZero = 0
    segments: Segmentation | Tensor = "regions"

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What distinguishes one partition from another: the granularity and the option that belongs to it."""
        own = {"auto": self.patch, "patch": self.patch, "segment": self.segments}
        return self.granularity, own.get(self.granularity)


@dataclass(frozen=True)
class Groups:
    """A partition of each sample's units into groups, numbered from 0.

    labels    (N, *units) int64, the group of each unit; None where every unit is a group by itself
    sizes     (N, G) float64, how many units a group holds; 0 for numbers that a sample does not use
    shape     of the units
    alike     whether the partition is the same for each of these samples by construction
    everyone  whether it is also that of all other samples of the data, which may be texts of other lengths
    """

    labels: Tensor | None
    sizes: Tensor
    shape: tuple[int, ...]
    alike: bool
    everyone: bool

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


def make_groups(samples: Samples, grouping: Grouping) -> Groups:
    """The groups that the options describe; NotApplicable where every sample has a single group by construction."""
    groups = samples.shared(("groups", *grouping.key), lambda: _partition(samples, grouping))
    if groups.everyone and groups.sizes.shape[1] < 2:
        what = "unit" if grouping.granularity == "auto" else grouping.granularity
        raise NotApplicable(f"the inputs have a single {what}: there is nothing to order or to choose")
    return groups


def _partition(samples: Samples, grouping: Grouping) -> Groups:
    shape = samples.units.shape
    if grouping.granularity == "patch" and samples.units.modality == "table":
        raise NotApplicable("a table's columns have no neighbours, which patches need (give granularity=unit)")
    if grouping.granularity == "unit" or (grouping.granularity == "auto" and samples.own_scales):
        ones = torch.ones((), dtype=torch.float64, device=samples.inputs.device)
        return Groups(None, ones.expand(len(samples), samples.units.count), shape, True, not samples.ragged)
    if grouping.granularity in ("auto", "patch"):
        size = f":{grouping.patch}" if grouping.patch else ""
        return _of_segments(samples.segments(f"patch{size}"), shape, True, not samples.ragged)
    return _of_segments(samples.segments(grouping.segments), shape, False, False)


def _of_segments(segments: Segments, shape: tuple[int, ...], alike: bool, everyone: bool) -> Groups:
    return Groups(segments.labels, segment_sizes(segments.labels, segments.most).double(), shape, alike, everyone)
