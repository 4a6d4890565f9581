"""Structural causal models with known graphs: columns that cause an outcome, and columns only correlated with it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from harness.datasets._parts import PLANTED_TRAINING_ROWS
from harness.datasets._shapley import shapley_against
from harness.option_types import Count, Seed
from harness.registry import dataset
from harness.sources import Data

CAUSAL_NOISE, OUTCOME = 0.5, "y"

# Graph -> node -> its parents with their weights, causes before effects. Every node but the outcome is a column.
GRAPHS: dict[str, dict[str, dict[str, float]]] = {
    "chain": {"a": {}, "b": {"a": 1.0}, "y": {"b": 1.0}, "c": {"y": 1.0}},
    "fork": {"a": {}, "b": {"a": 1.0}, "c": {"a": -1.0}, "y": {"a": 1.0}},
    "collider": {"a": {}, "b": {}, "y": {"a": 1.0}, "c": {"y": 1.0, "b": 1.0}},
    "network": {
        "a": {},
        "b": {},
        "c": {"a": 1.0},
        "d": {"a": 0.7, "b": 0.7},
        "e": {"b": 1.0},
        "y": {"b": 0.5, "c": 1.0, "d": -0.8},
        "f": {"y": 1.0},
        "g": {"y": 0.7, "e": 0.7},
    },
}
MECHANISMS = {"linear": lambda values: values, "nonlinear": lambda values: torch.tanh(2 * values)}


@dataclass(frozen=True)
class CausalGraph:
    """The options that the data set ``causal`` and its models share; a model must have those of its data.

    graph      ``chain`` a -> b -> y -> c; ``fork`` y <- a -> b, a -> c; ``collider`` a -> y -> c <- b; or ``network``
    of
               eight nodes, in which b, c and d cause y, a causes these causes, e shares a cause with y, and f and g are
               effects of y
    mechanism  ``linear``: a node is the weighted sum of its parents plus noise; ``nonlinear``: of tanh(2 parent), and
               the outcome also has products of its causes
    """

    graph: Literal["chain", "collider", "fork", "network"] = "network"
    mechanism: Literal["linear", "nonlinear"] = "nonlinear"

    @property
    def nodes(self) -> dict[str, dict[str, float]]:
        """Node -> its parents with their weights."""
        return GRAPHS[self.graph]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns: all nodes but the outcome."""
        return tuple(node for node in self.nodes if node != OUTCOME)

    @property
    def causes(self) -> tuple[int, ...]:
        """The numbers of the columns that directly cause the outcome."""
        return tuple(self.columns.index(parent) for parent in self.nodes[OUTCOME])

    @property
    def function_name(self) -> str:
        """What the truth of data is about, and what a model with this function is recognised by."""
        return f"causal graph={self.graph} mechanism={self.mechanism}"

    def outcome(self, inputs: Tensor) -> Tensor:
        """The outcome (N,) without its noise, from the columns (N, D): what ``causal_function`` computes."""
        columns = self.columns
        return _from_parents(
            self.nodes[OUTCOME], lambda node: inputs[:, columns.index(node)], self.mechanism, products=True
        )


CAUSAL_GRAPH = CausalGraph()


@dataset(
    modality="table",
    source="generated: structural causal models",
    licence="none needed: drawn from a seed",
    samples="1,000 to train, 100 to test by default (option count)",
    renamed={"samples": "count"},
    classes="a number: the outcome",
)
def causal(*, planted: CausalGraph = CAUSAL_GRAPH, count: Count = 100, seed: Seed = 0, truth: bool = True) -> Data:
    """Tables from structural causal models with known graphs, in which few columns cause the outcome and the others are
    correlated with it.

    ``CausalGraph`` describes ``graph`` (chain, fork, collider, network) and ``mechanism`` (linear, nonlinear). Nodes
    without parents are standard normal; the noise of the others has standard deviation 0.5. Items (D,): the D columns
    are all nodes but y. Labels are y with its noise. ``count`` test rows are drawn from ``seed``.

    ``masks`` are the direct causes. The truth is, per column, the Shapley value of the outcome's mechanism against the
    mean of the training rows, by enumeration, and 0 on all columns that are no direct causes. It is about the model
    ``causal_function`` with the same ``graph`` and ``mechanism``. An explainer explains a model, not the world: another
    model, such as ``causal_mlp``, may use the correlated columns, and an explainer that shows this is right. Set
    ``truth`` to false for such a model, and measure with metrics of the masks how much is attributed to the causes.
    """
    train, test = draw_nodes(planted, count, seed)
    inside = torch.zeros(count, len(planted.columns), dtype=torch.bool)
    inside[:, list(planted.causes)] = True
    rows, reference = inputs_of(test, planted), inputs_of(train, planted).mean(0)
    return Data(
        ids=[f"sample_{number:04}" for number in range(count)],
        inputs=rows,
        labels=test[OUTCOME].float(),
        modality="table",
        train=inputs_of(train, planted),
        train_labels=train[OUTCOME].float(),
        masks=inside,
        truth=shapley_against(planted.outcome, rows, reference, planted.causes).float() if truth else None,
        unit_names=planted.columns,
        function=planted.function_name if truth else None,
    )


def draw_nodes(planted: CausalGraph, samples: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """1,000 training rows and ``samples`` test rows, each as node -> values (rows,) float64."""
    generator = torch.Generator().manual_seed(seed)
    # Training rows first, so that they do not depend on the number of test rows.
    train, test = (_node_values(planted, count, generator) for count in (PLANTED_TRAINING_ROWS, samples))
    return train, test


def inputs_of(nodes: dict[str, Tensor], planted: CausalGraph) -> Tensor:
    """The columns (N, D) float32, from the values of the nodes."""
    return torch.stack([nodes[column] for column in planted.columns], 1).float()


def causal_splitter(planted: CausalGraph, seed: int) -> Callable[[], dict[str, tuple[Tensor, Tensor]]]:
    """A function that gives ``train`` and ``test`` -> (inputs, labels), for training."""

    def load_split() -> dict[str, tuple[Tensor, Tensor]]:
        train, test = draw_nodes(planted, PLANTED_TRAINING_ROWS, seed)
        parts = {"train": train, "test": test}
        return {name: (inputs_of(nodes, planted), nodes[OUTCOME].float()) for name, nodes in parts.items()}

    return load_split


def _node_values(planted: CausalGraph, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Values (count,) of all nodes, causes first."""
    values: dict[str, Tensor] = {}
    for node, parents in planted.nodes.items():
        noise = torch.randn(count, generator=generator, dtype=torch.float64)
        if parents:
            caused = _from_parents(parents, values.get, planted.mechanism, products=node == OUTCOME)
            values[node] = caused + CAUSAL_NOISE * noise
        else:
            values[node] = noise
    return values


def _from_parents(
    parents: dict[str, float], value: Callable[[str], Tensor], mechanism: str, *, products: bool
) -> Tensor:
    """The weighted sum of a node's parents; with ``products``, a nonlinear one plus products of successive parents."""
    total = sum(weight * MECHANISMS[mechanism](value(parent)) for parent, weight in parents.items())
    if products and mechanism == "nonlinear":
        total = total + sum(value(first) * value(second) for first, second in pairwise(parents))
    return total
