"""Structural causal models with known graphs: columns that cause an outcome, and columns that merely go with it."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from harness.datasets._shapley import shapley_against
from harness.errors import UserError, unknown
from harness.registry import dataset
from harness.sources import Data

TRAIN, NOISE, OUTCOME = 1000, 0.5, "y"

# Graph -> node -> its parents with their weights, causes before effects; every node but the outcome is a column.
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


@dataset(
    modality="table",
    source="generated: structural causal models",
    licence="none: drawn from a seed",
    samples="1,000 to train, as many to test as asked for (100)",
    classes="a number: the outcome",
)
def causal(
    *, graph: str = "network", mechanism: str = "nonlinear", samples: int = 100, seed: int = 0, truth: bool = True
) -> Data:
    """Tables from structural causal models with known graphs, in which few columns cause the outcome and the others are
    correlated with it.

    ``graph`` is ``chain`` a -> b -> y -> c, ``fork`` y <- a -> b, a -> c, ``collider`` a -> y -> c <- b, or
    ``network`` of eight nodes: c, d and b cause y; a is a cause of causes, e is confounded, f and g are effects. Roots
    are standard normal; another node is the weighted sum of its parents, or of tanh(2 parent) under
    ``mechanism=nonlinear``, plus noise of standard deviation 0.5. The nonlinear outcome has products of its causes
    besides. Items (D,), D columns, are all nodes but y; labels are y, with its noise.

    ``masks`` are the direct causes. The truth is, per column, the Shapley value of the outcome's mechanism against the
    mean of the training rows, by enumeration: it is that of the model ``causal_function`` with equal ``graph`` and
    ``mechanism``, and 0 on all columns that are no direct causes. An explainer explains a model, not the world: another
    model, like ``causal_mlp``, may well use the correlates, and an explainer that says so is right. Set ``truth`` to
    false there, and let metrics of the masks say how much goes to the causes.
    """
    columns = columns_of(graph)
    train, test = draw(graph, mechanism, samples, seed)
    causes = tuple(columns.index(parent) for parent in GRAPHS[graph][OUTCOME])
    inside = torch.zeros(samples, len(columns), dtype=torch.bool)
    inside[:, list(causes)] = True
    rows, reference = inputs_of(test, graph), inputs_of(train, graph).mean(0)
    known = shapley_against(lambda inputs: outcome(inputs, graph, mechanism), rows, reference, causes).float()
    return Data(
        ids=[f"sample_{number:04}" for number in range(samples)],
        items=rows,
        labels=test[OUTCOME].float(),
        modality="table",
        train=inputs_of(train, graph),
        train_labels=train[OUTCOME].float(),
        masks=inside,
        truth=known if truth else None,
        unit_names=columns,
        function=name_of(graph, mechanism) if truth else None,
    )


def columns_of(graph: str) -> tuple[str, ...]:
    """The names of a graph's columns."""
    if graph not in GRAPHS:
        raise unknown("graph", graph, GRAPHS)
    return tuple(node for node in GRAPHS[graph] if node != OUTCOME)


def outcome(inputs: Tensor, graph: str, mechanism: str) -> Tensor:
    """The outcome (N,) without its noise, from the columns (N, D): what ``causal_function`` computes."""
    columns = columns_of(graph)
    return _from_parents(GRAPHS[graph][OUTCOME], lambda node: inputs[:, columns.index(node)], mechanism, products=True)


def draw(graph: str, mechanism: str, samples: int, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Training rows (1000) and ``samples`` test rows: node -> values (rows,) float64."""
    if mechanism not in MECHANISMS:
        raise unknown("mechanism", mechanism, MECHANISMS)
    if samples < 1:
        raise UserError(f"samples is {samples}, expected a whole number from 1")
    generator = torch.Generator().manual_seed(seed)
    # One after the other: how many test rows there are must not change the training rows.
    train, test = (_drawn(GRAPHS[graph], mechanism, count, generator) for count in (TRAIN, samples))
    return train, test


def inputs_of(nodes: dict[str, Tensor], graph: str) -> Tensor:
    """The columns (N, D) float32 of drawn nodes."""
    return torch.stack([nodes[column] for column in columns_of(graph)], 1).float()


def splitter(graph: str, mechanism: str, seed: int) -> Callable[[], dict[str, tuple[Tensor, Tensor]]]:
    """What gives ``train`` and ``test`` -> (inputs, labels), for training."""

    def load_split() -> dict[str, tuple[Tensor, Tensor]]:
        train, test = draw(graph, mechanism, TRAIN, seed)
        parts = {"train": train, "test": test}
        return {name: (inputs_of(nodes, graph), nodes[OUTCOME].float()) for name, nodes in parts.items()}

    return load_split


def name_of(graph: str, mechanism: str) -> str:
    """What data and model must agree on."""
    return f"causal graph={graph} mechanism={mechanism}"


def _drawn(
    nodes: dict[str, dict[str, float]], mechanism: str, count: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """Values (count,) of all nodes, causes first."""
    values: dict[str, Tensor] = {}
    for node, parents in nodes.items():
        own = torch.randn(count, generator=generator, dtype=torch.float64)
        found = _from_parents(parents, values.get, mechanism, products=node == OUTCOME) if parents else None
        values[node] = own if found is None else found + NOISE * own
    return values


def _from_parents(
    parents: dict[str, float], value: Callable[[str], Tensor], mechanism: str, *, products: bool
) -> Tensor:
    """The weighted sum of what a node's parents do; of a nonlinear outcome with products of neighbouring causes."""
    found = sum(weight * MECHANISMS[mechanism](value(parent)) for parent, weight in parents.items())
    if products and mechanism == "nonlinear":
        found = found + sum(value(first) * value(second) for first, second in pairwise(parents))
    return found
