"""Binary trees of segments: neighbours in space, or columns of a table that vary together, go together."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.errors import NotApplicable
from harness.samples import Samples
from harness.units import segment_sizes


@dataclass(frozen=True)
class Hierarchy:
    """A binary tree over K segments.

    children  (2 K - 1, 2) int64, the two children of each node; -1 twice for a leaf
    members   (2 K - 1, K) bool, the segments below each node; node 0 is the root, with all of them
    """

    children: np.ndarray
    members: np.ndarray

    def is_leaf(self, node: int) -> bool:
        """Whether the node is a single segment."""
        return self.children[node, 0] < 0


def hierarchies_of(samples: Samples, labels: Tensor, count: int) -> list[Hierarchy]:
    """A tree for each sample over its ``count`` segments ``labels`` (n, *units); the samples of a table share one."""
    if samples.units.modality == "table":
        return [_of_columns(samples, labels[0], count)] * len(labels)
    return [_halved(places) for places in _centres(labels, count).cpu().numpy()]


def _centres(labels: Tensor, count: int) -> Tensor:
    """The mean coordinates (n, count, axes) of the units of each segment."""
    flat, shape = labels.flatten(1), labels.shape[1:]
    axes = torch.meshgrid(*[torch.arange(length, dtype=torch.float64) for length in shape], indexing="ij")
    sizes = segment_sizes(labels, count).double()
    sums = [
        torch.zeros_like(sizes).scatter_add_(1, flat, axis.flatten().to(labels.device).expand(len(flat), -1))
        for axis in axes
    ]
    return torch.stack([each / sizes for each in sums], 2)


def _halved(places: np.ndarray) -> Hierarchy:
    """The tree that halves the segments at ``places`` (K, axes) again and again, across their longest extent."""
    children, members = [], []

    def grow(segments: np.ndarray) -> int:
        node = len(members)
        children.append((-1, -1))
        members.append(np.isin(np.arange(len(places)), segments))
        if len(segments) > 1:
            children[node] = tuple(map(grow, _halves(segments, places[segments])))
        return node

    grow(np.arange(len(places)))
    return Hierarchy(np.array(children), np.array(members))


def _halves(segments: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Several segments on either side of the middle of their longest extent; in two parts where they share a place."""
    along = places[:, np.ptp(places, axis=0).argmax()]
    first = along <= (along.min() + along.max()) / 2
    if first.all():
        first = np.arange(len(segments)) < len(segments) // 2
    return segments[first], segments[~first]


def _of_columns(samples: Samples, labels: Tensor, count: int) -> Hierarchy:
    """The tree that joins the segments of columns that are correlated most: single linkage of 1 - |correlation|."""
    if count == 1:
        return _halved(np.zeros((1, 1)))
    if samples.train is None:
        raise NotApplicable("training inputs tell which columns go together, and there are none (give train=)")
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    rows = samples.train.flatten(1).double().cpu().numpy()
    with np.errstate(invalid="ignore", divide="ignore"):  # of a constant column, which goes with no other
        distance = 1 - np.abs(np.nan_to_num(np.atleast_2d(np.corrcoef(rows, rowvar=False))))
    owner = samples.units.expand(labels[None])[0].flatten().cpu().numpy()
    between = np.array(
        [[distance[np.ix_(owner == one, owner == other)].min() for other in range(count)] for one in range(count)]
    )
    np.fill_diagonal(between, 0)
    return _joined(linkage(squareform(between, checks=False), "single"), count)


def _joined(merges: np.ndarray, count: int) -> Hierarchy:
    """The tree of scipy's merges (K - 1, 4), whose node K + i joins two earlier ones; the root comes first here."""
    last = 2 * count - 2
    children, members = np.full((2 * count - 1, 2), -1), np.zeros((2 * count - 1, count), dtype=bool)
    members[last - np.arange(count), np.arange(count)] = True
    for merge, (one, other) in enumerate(merges[:, :2].astype(int)):
        node = last - count - merge
        children[node] = last - one, last - other
        members[node] = members[last - one] | members[last - other]
    return Hierarchy(children, members)
