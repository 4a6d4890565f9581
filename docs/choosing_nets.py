"""More worlds of ``choosing_tasks.py``: nets that were trained, that were not, and that nothing explains."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from choosing_terms import (
    CALIBRATION_ROWS,
    TRAINING_ROWS,
    SumOfTerms,
    Term,
    World,
    alone,
    bits,
    independent,
    layer,
    normal,
    of_columns,
    weights,
)
from choosing_worlds import ONE, Plan, cnn, columns_of, filter_bank, linear, pattern_images, patterns
from torch import Generator, Tensor, nn

from harness.datasets.gaussian_terms import Square

MOST_ENUMERATED = 10  # columns of one term


def trained(plan: Plan, draw: Generator) -> World:
    """An MLP that was trained for a moment; the classes are those of the function that it learns."""
    rows = columns_of(plan, draw)
    wanted = _target(plan, draw, rows)
    few = 60 if plan.variant == "overfitted" else CALIBRATION_ROWS
    net = mlp(
        plan.units, 1, draw, hidden=(16, 16) if plan.variant == "deep" else (16,), smooth=plan.variant == "smooth"
    )
    fit(net, rows[:few], wanted[:few, None], steps=150)
    classes = (wanted > wanted[:CALIBRATION_ROWS].median()).long()
    return World(net, rows, terms_of(net, plan.units), ONE[None], None if plan.outputs == 1 else classes)


def _target(plan: Plan, draw: Generator, rows: Tensor) -> Tensor:
    """A standardised function of the rows: linear, or with products for the variant ``products``, with some noise."""
    found = rows @ weights(draw, plan.units)
    if plan.variant in ("products", "deep"):
        found = 0.5 * found + 2 * rows[:, 0] * rows[:, 1] + 2 * rows[:, 2].abs()
    found = (found - found.mean()) / found.std()
    return found + (1.0 if plan.variant == "overfitted" else 0.2) * normal(draw, len(rows))


def mlp(
    units: int, outputs: int, draw: Generator, *, hidden: tuple[int, ...], smooth: bool = False, size: float = 1.0
) -> nn.Sequential:
    """An MLP with random weights, drawn as torch draws those of ``nn.Linear``, times ``size``."""
    layers: list[nn.Module] = []
    for before, after in zip((units, *hidden), (*hidden, outputs), strict=True):
        drawn = size * (2 * torch.rand(after, before + 1, generator=draw) - 1) / before**0.5
        layers += [layer(drawn[:, :-1], drawn[:, -1]), nn.Tanh() if smooth else nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def fit(net: nn.Module, rows: Tensor, wanted: Tensor, steps: int) -> None:
    """Train on all rows at once, by squared error."""
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            (net(rows) - wanted).square().mean().backward()
            optimizer.step()
    net.requires_grad_(False)


def terms_of(net: nn.Sequential, units: int) -> list[Term] | None:
    """An MLP's outputs as terms of all columns, if these are few enough to enumerate."""
    if units > MOST_ENUMERATED:
        return None
    first, rest, columns = net[0], net[1:], torch.arange(units)[None]
    value = lambda feature: lambda given: rest(given)[..., feature]
    return [
        Term(columns, first.weight.data[None], first.bias.data[None], value(feature), ONE, feature)
        for feature in range(net[-1].out_features)
    ]


def opaque(plan: Plan, draw: Generator) -> World:
    """Functions that no map of single units explains (parity, hash, copies), and others that only look like these.

    ``parity`` is lost as soon as any unit is removed; a ``hash`` is another at random; of ``copies`` of one number with
    equal weights none matters more than another, and differences are those of rounding, 1e-9. ``chaotic`` and
    ``magnitude`` have good explainers.
    """
    if plan.variant == "magnitude":
        term = of_columns(torch.arange(plan.units)[:, None], ONE, alone(Square()))
        return World(SumOfTerms([term]), independent(draw, plan.rows, plan.units), [term], ONE[None])
    rows = normal(draw, plan.rows, plan.units)
    if plan.variant == "chaotic":  # a deep random net with large weights
        net = mlp(plan.units, 1, draw, hidden=(32, 32, 32), smooth=True, size=8.0).requires_grad_(False)
        return World(net, rows, terms_of(net, plan.units), ONE[None])
    if plan.variant == "parity":
        rows = 2 * bits(draw, plan.rows, plan.units) - 1
        train = slice(CALIBRATION_ROWS, CALIBRATION_ROWS + TRAINING_ROWS)
        rows[train][1::2] = -rows[train][::2]  # their mean is 0, so that nothing is left of a removed unit
        return World(Parity(), rows, None, ONE[None])
    if plan.variant == "copies":
        net = nn.Sequential(layer(torch.ones(1, plan.units) / plan.units))
        return World(net, rows[:, :1].repeat(1, plan.units), None, ONE[None])
    if plan.variant == "image_hash":
        side = round(plan.units**0.5)
        rows = rows.view(-1, 1, side, side)
    return World(Hash(plan.units, draw), rows, None, ONE[None])


class Parity(nn.Module):
    """The product of all columns, each of which is 1 or -1: without any one of them nothing is left."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The product (N, 1)."""
        return inputs.prod(1, keepdim=True)


class Hash(nn.Module):
    """A sine whose phase is a sum of all units and goes around hundreds of times within the data."""

    def __init__(self, units: int, draw: Generator) -> None:
        super().__init__()
        self.register_buffer("phases", 300 * weights(draw, units, low=1.0).double())

    def forward(self, inputs: Tensor) -> Tensor:
        """The sine (N, 1)."""
        return (inputs.flatten(1).double() @ self.phases).sin().float()[:, None]


def untrained(plan: Plan, draw: Generator) -> World:
    """A net with its first random weights, on data with real labels, of which it knows no more than a guess."""
    classes, keep = plan.outputs, {"keeps_head": True}
    if plan.variant == "cnn":
        images, labels, _ = pattern_images(plan, draw, patterns(draw, classes, 3))
        return _at_chance(lambda: World(*_random_cnn(plan, images, draw), labels, **keep), classes)
    rows = independent(draw, plan.rows, plan.units)
    wanted = _target(replace(plan, variant="products"), draw, rows)
    labels = torch.bucketize(wanted, wanted[:CALIBRATION_ROWS].quantile(torch.arange(1, classes) / classes))
    hidden = (16, 16, 16) if plan.variant == "deep_mlp" else (32,)

    def one() -> World:
        net = mlp(plan.units, classes, draw, hidden=hidden).requires_grad_(False)
        return World(net, rows, terms_of(net, plan.units), torch.eye(classes), labels, **keep)

    return _at_chance(one, classes)


def _random_cnn(plan: Plan, images: Tensor, draw: Generator) -> tuple[Any, ...]:
    """A net with 3 random filters and a random head, its images, terms and the weights of the head."""
    drawn = (2 * torch.rand(3, 10, generator=draw) - 1) / 3
    net, terms = filter_bank(plan, drawn[:, :9].reshape(3, 3, 3), drawn[:, 9])
    head = (2 * torch.rand(plan.outputs, 4, generator=draw) - 1) / 3**0.5
    return nn.Sequential(*net, layer(head[:, :3], head[:, 3])).requires_grad_(False), images, terms, head[:, :3]


def _at_chance(one: Callable[[], World], classes: int) -> World:
    """The first world whose net is about as often right as a guess, on rows that are no samples of the task."""
    for _ in range(500):
        world = one()
        right = world.net(world.rows[:CALIBRATION_ROWS]).argmax(1) == world.classes[:CALIBRATION_ROWS]
        if abs(float(right.float().mean()) - 1 / classes) < 0.015:
            return world
    raise RuntimeError("no net at chance among 500")


def noise(plan: Plan, draw: Generator) -> World:
    """Labels that are coin flips, and a model that has learnt some of them by heart, or nothing."""
    if plan.variant == "filters":
        world = cnn(replace(plan, variant="faint"), draw)
        images = normal(draw, *world.rows.shape)
        return replace(world, rows=images, classes=_flips(plan, draw), masks=None)
    rows, flips = independent(draw, plan.rows, plan.units), _flips(plan, draw)
    if plan.variant == "linear":
        return replace(linear(plan, draw), rows=rows, classes=flips)
    net = mlp(plan.units, 1, draw, hidden=(16,))
    if plan.variant == "memorised":
        fit(net, rows[:60], 2.0 * flips[:60, None] - 1, steps=100)
    return World(net.requires_grad_(False), rows, terms_of(net, plan.units), ONE[None], flips)


def _flips(plan: Plan, draw: Generator) -> Tensor:
    return torch.randint(2, (plan.rows,), generator=draw)
