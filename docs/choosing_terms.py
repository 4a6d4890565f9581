"""Functions whose exact attributions are known, and their data: what the tasks of ``choosing_tasks.py`` are made of.

Every function is a sum of *terms*, small functions of a few columns each. Shapley values add up over terms, so they are
exact for any number of columns: in each term all coalitions of its columns are enumerated. What is absent takes the
value of a reference, the one by which metrics replace what they remove: the mean of the training rows for a table, the
image's own mean for an image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

import harness

CALIBRATION_ROWS, TRAINING_ROWS = 1000, 200
EASY_SPREAD, HARD_SPREAD = 2.0, 1.0  # standard deviations of the log-odds
AT_ONCE = 25  # samples whose coalitions are evaluated together
Value = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Term:
    """G functions of k columns each, which are added: scale_g value(weights_g x[columns_g] + bias_g).

    columns   (G, k) int64
    weights   (G, J, k), or (1, J, k) for the same in all
    bias      (G, J) or (1, J)
    value     (..., J) -> (...)
    scale     (G,) or (1,)
    feature   the number of the feature that the term is part of
    """

    columns: Tensor
    weights: Tensor
    bias: Tensor
    value: Value
    scale: Tensor
    feature: int = 0


def of_columns(columns: Tensor, scale: Tensor, value: Value, feature: int = 0) -> Term:
    """scale_g value(x[columns_g]): the value takes the columns (..., k) as they are."""
    size = columns.shape[1]
    return Term(columns, torch.eye(size)[None], torch.zeros(1, size), value, scale, feature)


def alone(function: Value) -> Value:
    """The value of a term of one column."""
    return lambda given: function(given[..., 0])


def relu_sum(out: Tensor) -> Value:
    """The value out . relu(given)."""
    return lambda given: given.relu() @ out.to(given)


class SumOfTerms(nn.Module):
    """Terms as a model (N, D) -> (N, features)."""

    def __init__(self, terms: list[Term]) -> None:
        super().__init__()
        self.terms, self.features = terms, 1 + max(term.feature for term in terms)

    def forward(self, inputs: Tensor) -> Tensor:
        """The features (N, features)."""
        found = [inputs.new_zeros(len(inputs)) for _ in range(self.features)]
        for term in self.terms:
            given = torch.einsum("ngk,gjk->ngj", inputs[:, term.columns], _expanded(term).to(inputs))
            values = term.value(given + term.bias.to(inputs)) * term.scale.to(inputs)
            found[term.feature] = found[term.feature] + values.sum(1)
        return torch.stack(found, 1)


def relu_layers(terms: list[Term], outs: list[Tensor], columns: int) -> nn.Sequential:
    """Terms whose values are ``relu_sum(out)`` as a network (N, columns) -> (N, 1) with one hidden layer."""
    rows, biases, heads = [], [], []
    for term, out in zip(terms, outs, strict=True):
        groups, units = len(term.columns), term.weights.shape[1]
        places = term.columns[:, None, :].expand(groups, units, -1)
        rows.append(torch.zeros(groups, units, columns).scatter(2, places, _expanded(term)).flatten(0, 1))
        biases.append(term.bias.expand(groups, -1).flatten())
        heads.append((term.scale.expand(groups)[:, None] * out).flatten())
    return nn.Sequential(layer(torch.cat(rows), torch.cat(biases)), nn.ReLU(), layer(torch.cat(heads)[None]))


def layer(weights: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A linear layer with these weights (O, D)."""
    made = nn.Linear(weights.shape[1], weights.shape[0], bias=bias is not None)
    made.weight.data = weights.float()
    if bias is not None:
        made.bias.data = bias.float()
    return made


def shapley(terms: list[Term], inputs: Tensor, reference: Tensor) -> Tensor:
    """Shapley values (N, features, D) of each feature at ``inputs`` (N, D) against ``reference`` (N, D) or (D,)."""
    reference = reference.expand_as(inputs)
    found = inputs.new_zeros(1 + max(term.feature for term in terms), *inputs.shape)
    for term in terms:
        masks, shares = _coalitions(term.columns.shape[1])
        places = term.columns.flatten()
        for rows in torch.arange(len(inputs)).split(AT_ONCE):
            there = reference[rows][:, term.columns]
            change = (inputs[rows][:, term.columns] - there)[:, :, None] * _expanded(term)
            base = torch.einsum("ngk,gjk->ngj", there, _expanded(term)) + term.bias
            values = term.value((change @ masks.T).transpose(-1, -2) + base[:, :, None])
            earned = (values @ shares * term.scale[:, None]).flatten(1)
            found[term.feature, rows] = found[term.feature, rows].index_add(1, places, earned)
    return found.transpose(0, 1)


def _expanded(term: Term) -> Tensor:
    return term.weights.expand(len(term.columns), -1, -1)


def _coalitions(players: int) -> tuple[Tensor, Tensor]:
    """All coalitions (C, k) as 0 and 1, and by how much each one's value counts for each player (C, k)."""
    masks = (torch.arange(2**players)[:, None] >> torch.arange(players)) & 1
    weight = torch.tensor([1 / (players * math.comb(players - 1, size)) for size in range(players)] + [0.0])
    sizes = masks.sum(1, keepdim=True)
    return masks.float(), torch.where(masks == 1, weight[(sizes - 1).clamp(min=0)], -weight[sizes])


@dataclass
class World:
    """A function with inputs, before its outputs are made.

    net         (N, *units) -> (N, features)
    rows        the inputs: ``CALIBRATION_ROWS``, ``TRAINING_ROWS``, then the samples
    terms       the terms of the features, or None where no exact attribution is known
    mix         (outputs, features) weights of the outputs; one row is made two classes, or a number
    classes     the real class of each of the rows; None: a class that follows from the model
    masks       (rows, *units) bool, the object, or None
    keeps_head  whether the net's outputs stay as they are, the features being the outputs
    """

    net: nn.Module
    rows: Tensor
    terms: list[Term] | None
    mix: Tensor
    classes: Tensor | None = None
    masks: Tensor | None = None
    keeps_head: bool = False


def finished(world: World, draw: Generator, *, spread: float, regression: bool, noisy: bool) -> tuple[nn.Module, Any]:
    """The model and ``harness.Data`` of a world.

    ``spread`` is the standard deviation of the log-odds of two classes, or of each logit; a number has 1. ``noisy``
    draws the labels from the model's own probabilities, and adds noise to a number; else a label is the model's class.
    """
    calibration, train, inputs = world.rows.tensor_split([CALIBRATION_ROWS, CALIBRATION_ROWS + TRAINING_ROWS])
    with torch.no_grad():
        features = world.net(calibration)
        if world.keeps_head:
            head, model = world.mix, world.net
        else:
            head, bias = _head(features, world.mix, 1.0 if regression else spread, regression)
            layers = world.net if isinstance(world.net, nn.Sequential) else [world.net]
            model = nn.Sequential(*layers, layer(head, bias))
        model = model.eval().requires_grad_(False)
        outputs = model(inputs)
    labels = _labels(outputs, draw, regression, noisy)
    labels = labels if world.classes is None else world.classes[-len(inputs) :]
    truth = None
    if world.terms is not None:
        flat = inputs.flatten(1)
        values = shapley(world.terms, flat, train.mean(0) if inputs.dim() == 2 else flat.mean(1, keepdim=True))
        chosen = head[torch.zeros_like(labels).long() if regression else labels]
        units = inputs.shape[1:] if inputs.dim() == 2 else inputs.shape[2:]
        truth = torch.einsum("nf,nfd->nd", chosen, values).reshape(-1, *units)
    data = harness.Data(
        inputs,
        None if regression else labels,
        labels=labels,
        train=train,
        truth=truth,
        masks=None if world.masks is None else world.masks[-len(inputs) :],
        task="regression" if regression else "classes",
    )
    return model, data


def _head(features: Tensor, mix: Tensor, spread: float, regression: bool) -> tuple[Tensor, Tensor]:
    """Weights (outputs, features) and biases that give outputs of this spread and classes that are equally frequent."""
    raw = features @ mix.T
    if len(mix) > 1:
        mix = mix - mix.mean(0)
        scale = spread / (features @ mix.T).std()
        return scale * mix, -scale * (features @ mix.T).mean(0)
    scale, middle = spread / raw.std(), _middle(raw[:, 0])
    if regression:
        return scale * mix, -scale * middle[None]
    signs = torch.tensor([[-0.5], [0.5]])
    return signs * scale * mix, -signs[:, 0] * scale * middle


def _middle(values: Tensor) -> Tensor:
    """The threshold between two values for which the shares below and above are as equal as can be."""
    levels, counts = values.unique(return_counts=True)
    if len(levels) == 1:
        return levels[0]
    place = (counts.cumsum(0)[:-1] / len(values) - 0.5).abs().argmin()
    return (levels[place] + levels[place + 1]) / 2


def _labels(outputs: Tensor, draw: Generator, regression: bool, noisy: bool) -> Tensor:
    if regression:
        return outputs[:, 0] + 0.5 * noisy * torch.randn(len(outputs), generator=draw)
    if noisy:
        return torch.multinomial(outputs.softmax(1), 1, generator=draw)[:, 0]
    return outputs.argmax(1)


def normal(draw: Generator, *shape: int) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=draw)


def weights(draw: Generator, *shape: int, low: float = 0.5) -> Tensor:
    """Weights of random sign whose magnitudes are spread evenly between ``low`` and 2."""
    size = low + (2 - low) * torch.rand(*shape, generator=draw)
    return size * (2 * torch.randint(2, shape, generator=draw) - 1)


def uniform(draw: Generator, rows: int, units: int) -> Tensor:
    """Independent columns, uniform with mean 0 and variance 1."""
    return (2 * torch.rand(rows, units, generator=draw) - 1) * math.sqrt(3)


def independent(draw: Generator, rows: int, units: int) -> Tensor:
    """Independent standard normal columns."""
    return normal(draw, rows, units)


def correlated(draw: Generator, rows: int, units: int) -> Tensor:
    """Standard normal columns, each correlated by 0.8 with the next."""
    found, noise = [normal(draw, rows)], normal(draw, units, rows)
    for column in range(1, units):
        found.append(0.8 * found[-1] + 0.6 * noise[column])
    return torch.stack(found, 1)


def redundant(draw: Generator, rows: int, units: int) -> Tensor:
    """Columns of which the second half are nearly copies of the first."""
    first = normal(draw, rows, (units + 1) // 2)
    return torch.cat([first, first + 0.2 * normal(draw, *first.shape)], 1)[:, :units]


def shifted(draw: Generator, rows: int, units: int) -> Tensor:
    """Columns with heavy tails (Student, 4 degrees) and with means of their own."""
    tails = normal(draw, rows, units) / (normal(draw, 4, rows, units).square().mean(0)).sqrt()
    return tails + 2 * normal(draw, units)


def bits(draw: Generator, rows: int, units: int, share: float = 0.5) -> Tensor:
    """Independent columns of 0 and 1, of which ``share`` are 1."""
    return (torch.rand(rows, units, generator=draw) < share).float()
