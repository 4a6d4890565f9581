"""The worlds of the tasks of ``choosing_tasks.py``: builders of models and their inputs, from seeds."""

from dataclasses import dataclass

import torch
from choosing_terms import (
    SumOfTerms,
    Term,
    World,
    alone,
    bits,
    correlated,
    independent,
    layer,
    normal,
    of_columns,
    redundant,
    relu_layers,
    relu_sum,
    shifted,
    uniform,
    weights,
)
from torch import Generator, Tensor, nn

from harness.datasets.causal import OUTCOME, CausalGraph
from harness.datasets.gaussian_terms import Decay, Linear, Magnitude, Sine, Square, Steps
from harness.datasets.logic import GATES

COLUMNS = {"correlated": correlated, "redundant": redundant, "shifted": shifted, "uniform": uniform}
ONE = torch.ones(1)
STEPS = (Steps(-1.0, (0.0,), (2.0,)), Steps(-2.0, (-0.7, 0.2, 0.9), (1.5, 2.0, -1.0)))


@dataclass(frozen=True)
class Plan:
    """What a builder makes: its variant, the number of units, of rows and of outputs."""

    variant: str
    units: int
    rows: int
    outputs: int


def in_use(plan: Plan) -> int:
    """How many of the first columns a function uses; the others are noise or copies."""
    share = {"noise_columns": 8, "redundant": 2}.get(plan.variant, 1)
    return max(min(4, plan.units // 2), plan.units // share)


def columns_of(plan: Plan, draw: Generator) -> Tensor:
    """The rows (rows, units) of a table, as the variant says."""
    return COLUMNS.get(plan.variant, independent)(draw, plan.rows, plan.units)


def linear(plan: Plan, draw: Generator) -> World:
    """w x."""
    used = in_use(plan)
    row = torch.zeros(plan.units)
    row[:used] = weights(draw, used)
    term = of_columns(torch.arange(plan.units)[:, None], row, alone(Linear(1.0)))
    return World(nn.Sequential(layer(row[None])), columns_of(plan, draw), [term], ONE[None])


def additive(plan: Plan, draw: Generator) -> World:
    """A sum of functions of single columns, of three kinds in turn."""
    smooth = (lambda x: torch.tanh(1.5 * x), Sine(), Linear(1.0))
    kinds = {
        "curved": (Square(), Magnitude(), Decay()),
        "steps": STEPS,
        "saturated": (lambda x: torch.tanh(5 * x), lambda x: torch.tanh(5 * x - 3)),
        "correlated": (*smooth, Square()),
        "redundant": (*smooth, Magnitude()),
    }.get(plan.variant, smooth)
    used, terms = in_use(plan), []
    for place, function in enumerate(kinds):
        if place < used:
            columns = torch.arange(place, used, len(kinds))[:, None]
            terms.append(of_columns(columns, weights(draw, len(columns)), alone(function)))
    return World(SumOfTerms(terms), columns_of(plan, draw), terms, ONE[None])


def interactions(plan: Plan, draw: Generator) -> World:
    """Products and minima of two or three columns."""
    used, rows = in_use(plan), columns_of(plan, draw)
    if plan.variant == "minima":  # min(x, y) = relu(x) - relu(-x) - relu(x - y), a ReLU network
        out = torch.tensor([1.0, -1.0, -1.0])
        columns = torch.arange(used).view(-1, 2)
        first = torch.tensor([[[1.0, 0], [-1, 0], [1, -1]]])
        term = Term(columns, first, torch.zeros(1, 3), relu_sum(out), weights(draw, len(columns)))
        return World(relu_layers([term], [out], plan.units), rows, [term], ONE[None])
    size = 3 if plan.variant == "triples" else 2
    starts = torch.arange(0, used - size + 1, 1 if plan.variant == "chain" else size)
    columns = starts[:, None] + torch.arange(size)
    rows = rows + 0.7 if plan.variant == "triples" else rows  # with a mean of 0 nothing is left without one of three
    terms = [of_columns(columns, weights(draw, len(columns)), lambda given: given.prod(-1))]
    if plan.variant == "main_effects":
        terms.append(of_columns(torch.arange(used)[:, None], weights(draw, used), alone(Linear(1.0))))
    return World(SumOfTerms(terms), rows, terms, ONE[None])


def logic(plan: Plan, draw: Generator) -> World:
    """Weighted gates of bits, or of columns with three levels, as a ReLU network with one hidden layer."""
    gates = {"xor": ("xor",), "levels": ("interaction", "max", "cancellation")}.get(plan.variant, ("and", "or", "xor"))
    gates = ("and", "or") if plan.variant in ("and_or", "noise_columns") else gates
    used, terms, outs, start = in_use(plan), [], [], 0
    while start < used - 1:
        if plan.variant == "wide_or":  # min(1, x1 + ... + x4) = 1 - relu(1 - x1 - ... - x4)
            first, bias, out = torch.full((1, min(4, used - start)), -1.0), torch.ones(1), -torch.ones(1)
        else:
            gate = GATES[gates[len(terms) % len(gates)]]
            first, bias, out = (torch.tensor(part).float() for part in (gate.weights, gate.biases, gate.out))
            if first.shape[1] > used - start:
                break
        columns = torch.arange(start, start + first.shape[1])[None]
        terms.append(Term(columns, first[None], bias[None], relu_sum(out), weights(draw, 1)))
        outs.append(out)
        start += first.shape[1]
    rows = bits(draw, plan.rows, plan.units, 0.2 if plan.variant == "wide_or" else 0.5)
    if plan.variant == "levels":
        rows = torch.randint(3, rows.shape, generator=draw) / 2
    return World(relu_layers(terms, outs, plan.units), rows, terms, ONE[None])


def causal(plan: Plan, draw: Generator) -> World:
    """The mechanism of an outcome that few columns cause, among columns that cause these or are effects of it."""
    steep, plain = (lambda x: torch.tanh(2 * x)), Linear(1.0)
    mechanism = plain if plan.variant == "linear" else steep
    graph = CausalGraph("network").nodes if plan.variant == "network" else _graph(plan.units, draw)
    values: dict[str, Tensor] = {}
    for node, parents in graph.items():
        noise = normal(draw, plan.rows)
        caused = sum(weight * mechanism(values[parent]) for parent, weight in parents.items())
        values[node] = caused + 0.5 * noise if parents else noise
    names = [node for node in graph if node != OUTCOME]
    causes = torch.tensor([names.index(parent) for parent in graph[OUTCOME]])
    effects = torch.tensor([float(weight) for weight in graph[OUTCOME].values()])
    terms = [of_columns(causes[:, None], effects, alone(mechanism))]
    if plan.variant != "linear":
        terms.append(of_columns(torch.stack([causes[:-1], causes[1:]], 1), ONE, lambda given: given.prod(-1)))
    return World(SumOfTerms(terms), torch.stack([values[name] for name in names], 1), terms, ONE[None])


def _graph(units: int, draw: Generator) -> dict[str, dict[str, float]]:
    """A random graph of ``units`` columns and an outcome; the last quarter of the columns are its effects."""
    before = units - units // 4
    graph: dict[str, dict[str, float]] = {}
    for node in range(before):
        chosen = torch.randperm(node, generator=draw)[: min(node // 2, 2)].tolist()
        graph[f"x{node}"] = dict(zip((f"x{parent}" for parent in chosen), weights(draw, 2).tolist(), strict=False))
    causes = torch.randperm(before, generator=draw)[: max(2, min(6, before // 2))].tolist()
    graph[OUTCOME] = dict(zip((f"x{cause}" for cause in causes), weights(draw, len(causes)).tolist(), strict=True))
    return graph | {f"x{node}": {OUTCOME: 1.0} for node in range(before, units)}


def cnn(plan: Plan, draw: Generator) -> World:
    """Filters that are the planted patterns, a ReLU, a mean over places or over largest of two places, and a head."""
    filters = max(2, plan.outputs)
    size = 2 if plan.variant == "max_pooled" else 3
    drawn = patterns(draw, filters, size)
    images, classes, inside = pattern_images(plan, draw, drawn)
    threshold = torch.full((filters,), -1.0)
    net, terms = filter_bank(plan, drawn / drawn.flatten(1).norm(dim=1)[:, None, None], threshold)
    mix = torch.tensor([[-1.0, 1.0]]) if plan.outputs < 3 else torch.eye(filters)
    return World(net, images, terms, mix, None if plan.outputs == 1 else classes, inside)


def patterns(draw: Generator, count: int, size: int) -> Tensor:
    """Patterns (count, size, size) of mean 0, no two alike."""
    if size == 2:
        return torch.tensor([[[1.0, -1], [1, -1]], [[1, 1], [-1, -1]]])[:count]
    base = torch.tensor([1.0, 1, 1, 1, 0, -1, -1, -1, -1])
    found: list[Tensor] = []
    while len(found) < count:
        drawn = base[torch.randperm(9, generator=draw)]
        if all(float((drawn * other).sum()) < 3 for other in found):
            found.append(drawn)
    return torch.stack(found).view(-1, 3, 3)


def pattern_images(plan: Plan, draw: Generator, patterns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noise (rows, 1, S, S) with copies of the class's pattern, the classes, and where these copies lie.

    The variant ``distractors`` also has copies of another class's pattern, ``max_pooled`` bright squares.
    """
    side, size, count = round(plan.units**0.5), patterns.shape[1], len(patterns)
    height, noise = {"faint": (0.5, 0.4), "distractors": (1.0, 0.3)}.get(plan.variant, (1.0, 0.2))
    images = noise * normal(draw, plan.rows, side, side)
    classes, inside = torch.randint(count, (plan.rows,), generator=draw), torch.zeros(images.shape, dtype=torch.bool)
    stride = 1 if size == 3 and side == 8 else 2
    others = (classes + torch.randint(1, count, (plan.rows,), generator=draw)) % count
    bright = torch.full((1, size, size), 1.5)  # of mean 1.5: a filter of mean 0 does not see it
    copies = [(patterns, classes)] * (side // 4)
    copies += [(patterns, others)] * (side // 8 if plan.variant == "distractors" else 0)
    copies += [(bright, torch.zeros_like(classes))] * (side // 2 if plan.variant == "max_pooled" else 0)
    for kinds, shown in copies:
        corner = stride * torch.randint((side - size) // stride + 1, (plan.rows, 2), generator=draw)
        rows = corner[:, :1, None] + torch.arange(size)[:, None]
        columns = corner[:, 1:, None] + torch.arange(size)
        place = torch.arange(plan.rows)[:, None, None]
        images[place, rows, columns] = images[place, rows, columns] + height * kinds[shown]
        if shown is classes:
            inside[place, rows, columns] = True
    return images[:, None], classes, inside


def filter_bank(plan: Plan, kernels: Tensor, bias: Tensor) -> tuple[nn.Sequential, list[Term]]:
    """A convolution with a ReLU and pooling, (N, 1, S, S) -> (N, filters), and its terms."""
    side, size = round(plan.units**0.5), kernels.shape[1]
    pooled, stride = plan.variant == "max_pooled", 1 if size == 3 and side == 8 else 2
    convolution = nn.Conv2d(1, len(kernels), size, stride=stride)
    convolution.weight.data, convolution.bias.data = kernels[:, None].clone(), bias.clone()
    pools = [nn.MaxPool2d((1, 2))] if pooled else []
    net = nn.Sequential(convolution, nn.ReLU(), *pools, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    pixels = torch.arange(side**2).view(1, 1, side, side).float()
    window, step = ((size, 2 * size), (size, 2 * size)) if pooled else (size, stride)
    columns = nn.functional.unfold(pixels, window, stride=step)[0].T.long()
    terms = []
    for feature, kernel in enumerate(kernels):
        blank = torch.zeros_like(kernel)
        seen = [torch.cat([kernel, blank], 1), torch.cat([blank, kernel], 1)] if pooled else [kernel]
        first = torch.stack(seen).flatten(1)[None]
        terms.append(
            Term(columns, first, bias[feature].expand(1, len(seen)), _largest, torch.ones(1) / len(columns), feature)
        )
    return net, terms


def _largest(given: Tensor) -> Tensor:
    return given.relu().amax(-1)
