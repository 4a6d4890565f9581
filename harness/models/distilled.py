"""A decision tree fitted to the outputs of a network, as a module that can replace the network."""

from typing import Any

import torch
from torch import Tensor, nn


class TreeModule(nn.Module):
    """A binary decision tree from inputs (N, ...) to outputs (N, K). Its gradient is zero, as that of any step
    function.

    feature     (nodes,) int64, the number of the flattened input that a node tests, -1 at a leaf
    threshold   (nodes,) inputs up to and including it go left
    left, right (nodes,) int64, the next nodes; at a leaf, the leaf itself
    values      (nodes, K) outputs
    depth       the largest number of decisions from the root to a leaf
    """

    def __init__(
        self, feature: Tensor, threshold: Tensor, left: Tensor, right: Tensor, values: Tensor, depth: int
    ) -> None:
        super().__init__()
        for name, tensor in (("feature", feature), ("threshold", threshold), ("left", left), ("right", right)):
            self.register_buffer(name, tensor)
        self.register_buffer("values", values)
        self.depth = depth

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, ...) to the values (N, K) of the leaves they fall into."""
        flat = inputs.flatten(1)
        node = torch.zeros(len(flat), dtype=torch.long, device=flat.device)
        for _ in range(self.depth):
            value = flat.gather(1, self.feature[node].clamp(min=0)[:, None])[:, 0]
            # In double precision, as in scikit-learn: a threshold can lie between two single-precision values.
            node = torch.where(value.double() <= self.threshold[node], self.left[node], self.right[node])
        # The derivative of a step function is zero wherever it exists. The last term gives autograd a graph with that
        # zero gradient; without it, explainers that take gradients would fail on the model.
        return self.values[node].to(flat) + 0 * flat.sum(1, keepdim=True)


def distil(module: nn.Module, inputs: Tensor, *, depth: int, seed: int) -> TreeModule:
    """A regression tree (CART) of depth ``depth`` at most, fitted to a module's outputs for ``inputs`` (N, ...)."""
    from sklearn.tree import DecisionTreeRegressor  # here and not above: scikit-learn takes seconds to import

    with torch.no_grad():
        outputs = module(inputs)
    outputs = outputs if outputs.dim() == 2 else outputs.unsqueeze(1)
    fitted = DecisionTreeRegressor(max_depth=depth, random_state=seed)
    return _tree_module(fitted.fit(inputs.flatten(1).numpy(), outputs.numpy()).tree_)


def _tree_module(tree: Any) -> TreeModule:
    left, right = (torch.from_numpy(nodes.copy()).long() for nodes in (tree.children_left, tree.children_right))
    leaf, own = left < 0, torch.arange(len(left))
    feature = torch.from_numpy(tree.feature.copy()).long().masked_fill(leaf, -1)
    values = torch.from_numpy(tree.value[:, :, 0].copy()).float()
    return TreeModule(
        feature,
        torch.from_numpy(tree.threshold.copy()).double(),
        torch.where(leaf, own, left),
        torch.where(leaf, own, right),
        values,
        int(tree.max_depth),
    )
