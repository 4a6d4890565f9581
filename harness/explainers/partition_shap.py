"""Owen values: Shapley values in which segments join in groups along a tree, so that few evaluations are enough."""

import heapq
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from harness.explainers._coalitions import Game, SegmentRemoval, play
from harness.explainers._hierarchy import Hierarchy, hierarchies_of
from harness.option_types import TRIED_FILLS, Several
from harness.registry import explainer
from harness.samples import Samples

AT_ONCE = 8  # splits of a sample between two looks at which split is the most important one
FINE = SegmentRemoval(segments="parts:256")  # 16 x 16, as the tree halves an image


@explainer(
    access="forward",
    complete_to="baseline",
    cost="samples + 1 F",
    tunable={"samples": (256, 4096), "segments": ("parts:64", "parts:1024"), "baseline": TRIED_FILLS},
)
def partition_shap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Several = 1024,
    removal: SegmentRemoval = FINE,
) -> Tensor:
    """PartitionSHAP: Owen values of segments in a binary tree, the most important branches first (Owen 1977,
    10.1007/978-3-642-45494-3_7; the algorithm is that of the library shap, ``PartitionExplainer``).

    One channel, in units of ``score``: a segment's value is shared equally by its units; the sum is f(x) - f(baseline).
    The tree halves the segments of an image, text or series across their longest extent. It joins the columns of a
    table by the correlation of the training inputs, the most correlated ones first. A branch's value is its mean gain,
    with the branch beside it present and absent, over the same choices for all branches above it. At most ``samples``
    evaluations split the branches, those of the largest gain first; a branch that is left whole shares its value
    equally among its segments. With enough evaluations these are the Owen values, which are the Shapley values if all
    segments interact only along the tree. Deterministic. Not applicable to a table without training inputs.

    Example: of f(x) = x1 x2 at (1, 3), which is 0 as soon as one column is removed: f(x) = 3 is shared equally.

    >>> train = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 2.0]])
    >>> harness.explain("partition_shap", product, x, target, baseline="zero", train=train)
    tensor([[1.5000, 1.5000]])
    """
    return play(context, removal, lambda game: _owen(game, samples))


@dataclass(order=True)
class Branch:
    """A branch of the tree in one context, with what is known of its gain there.

    rank     less the size of the weighted gain, then the order of discovery: the smallest is split first
    node     of the tree
    context  (K,) bool, the segments that are present beside the branch
    without  the worth of the context
    joined   the worth of the context and the branch
    weight   the share of this context among all contexts of the branch
    """

    rank: tuple[float, int]
    node: int = field(compare=False)
    context: np.ndarray = field(compare=False)
    without: float = field(compare=False)
    joined: float = field(compare=False)
    weight: float = field(compare=False)


class Splitting:
    """The tree of one sample while its branches are split."""

    def __init__(self, tree: Hierarchy, none: float, full: float) -> None:
        self.tree, self.found = tree, 0
        self.values = np.zeros(tree.members.shape[1])
        self.branches: list[Branch] = []
        self.put(0, np.zeros(tree.members.shape[1], dtype=bool), none, full, 1.0)

    def put(self, node: int, context: np.ndarray, without: float, joined: float, weight: float) -> None:
        """Keep a branch for a later split; the gain of a single segment is settled."""
        gain = (joined - without) * weight
        if self.tree.is_leaf(node):
            self.settle(node, gain)
            return
        self.found += 1
        heapq.heappush(self.branches, Branch((-abs(gain), self.found), node, context, without, joined, weight))

    def settle(self, node: int, gain: float) -> None:
        """Share the gain of a branch equally among its segments."""
        own = self.tree.members[node]
        self.values[own] += gain / own.sum()

    def asked(self, branch: Branch) -> list[np.ndarray]:
        """The two coalitions whose worths split a branch: the context with either half of it."""
        return [branch.context | self.tree.members[half] for half in self.tree.children[branch.node]]

    def split(self, branch: Branch, first: float, second: float) -> None:
        """Put the halves of a branch, each without and with the other half, in the place of the branch."""
        one, other = self.tree.children[branch.node]
        with_one, with_other = self.asked(branch)
        half = branch.weight / 2
        self.put(one, branch.context, branch.without, first, half)
        self.put(one, with_other, second, branch.joined, half)
        self.put(other, branch.context, branch.without, second, half)
        self.put(other, with_one, first, branch.joined, half)


def _owen(game: Game, budget: int) -> Tensor:
    """The Owen values (n, K) float64 by at most ``budget`` evaluations of each sample, that of none among them."""
    none, full = game.worth_of_none(), game.full
    trees = hierarchies_of(game.samples, game.segments.labels, game.players)
    splittings = [Splitting(*each) for each in zip(trees, none.tolist(), full.tolist(), strict=True)]
    left = (budget - 1) // 2
    while left and any(each.branches for each in splittings):
        chosen = [_next_branches(each, min(left, AT_ONCE)) for each in splittings]
        left -= max(map(len, chosen))
        for splitting, branches, worths in zip(splittings, chosen, _worths(game, splittings, chosen), strict=True):
            for branch, (first, second) in zip(branches, worths, strict=False):
                splitting.split(branch, first, second)
    for each in splittings:
        for branch in each.branches:
            each.settle(branch.node, (branch.joined - branch.without) * branch.weight)
    return torch.tensor(np.stack([each.values for each in splittings]), device=full.device)


def _next_branches(splitting: Splitting, most: int) -> list[Branch]:
    return [heapq.heappop(splitting.branches) for _ in range(min(most, len(splitting.branches)))]


def _worths(game: Game, splittings: list[Splitting], chosen: list[list[Branch]]) -> list[list[list[float]]]:
    """The worths of the two coalitions of each chosen branch, and unread ones of samples with fewer branches."""
    masks = np.zeros((len(chosen), max(map(len, chosen)), 2, game.players), dtype=bool)
    for sample, (splitting, branches) in enumerate(zip(splittings, chosen, strict=True)):
        for place, branch in enumerate(branches):
            masks[sample, place] = splitting.asked(branch)
    worths = game.worth(torch.from_numpy(masks).flatten(1, 2).to(game.full.device))
    return worths.unflatten(1, (-1, 2)).tolist()
