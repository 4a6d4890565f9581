"""Small functions written down as ReLU networks by hand, and their inputs, with exact Shapley values."""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from harness.datasets._shapley import shapley_against
from harness.errors import UserError, unknown
from harness.registry import dataset
from harness.sources import Data

Numbers = tuple[float, ...]
CORNERS, LEVELS = (0.0, 1.0), (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Gate:
    """out . relu(weights x + biases) + bias: a layer of hidden units, ``levels`` being the values that inputs take."""

    weights: tuple[Numbers, ...]
    biases: Numbers
    out: Numbers
    bias: float = 0.0
    levels: Numbers = CORNERS


GATES = {
    "and": Gate(((1, 1),), (-1,), (1,)),
    "or": Gate(((-1, -1),), (1,), (-1,), bias=1),
    "xor": Gate(((1, 1), (1, 1)), (0, -1), (1, -2)),
    "interaction": Gate(((1, 0, 0), (1, -1, 0), (0, 0, 1)), (0, 0, 0), (1, -1, 1), levels=LEVELS),
    "cancellation": Gate(((1, 0), (0, 1), (0, 1)), (0, 0, 0), (1, 1, -1), levels=LEVELS),
    "max": Gate(((1, 0), (-1, 1)), (0, 0), (1, 1), levels=LEVELS),
}


@dataset(
    modality="table",
    source="generated: every combination of input levels",
    licence="none: enumerated",
    samples="every combination, repeated with other noise",
    classes="a number: the function's value",
)
def logic(*, gate: str = "xor", noise: int = 3, repeats: int = 8, seed: int = 0) -> Data:
    """Inputs of small hand-made ReLU networks (and, or, xor, interaction, cancellation, max) with exact Shapley values.

    Items (K + ``noise``,): the gate's K inputs take every combination of their levels, 0 and 1 for ``and``, ``or`` and
    ``xor`` of two, and 0, 0.5, 1 for ``interaction``, min(x1, x2) + x3; ``cancellation``, x1 + x2 - x2, in which x2
    goes through two hidden units that cancel; and ``max`` of two. ``noise`` more columns, drawn from the same levels so
    that their size tells nothing, are no part of it; every combination comes ``repeats`` times, each with noise of its
    own. Labels are the network's values.

    The truth is, per column, the Shapley value of the network against the input of zeros, exactly, by enumeration: on
    (1, 1) 1/2 each for ``and`` and ``or``, 0 for ``xor``. Where it is 0 throughout there is nothing to attribute, and
    most scores against it are undefined. It is of the model ``logic_net`` with equal ``gate`` and ``noise``. ``masks``
    are the columns that the function depends on.
    """
    chosen = gate_of(gate)
    for name, value, least in (("noise", noise, 0), ("repeats", repeats, 1)):
        if value < least:
            raise UserError(f"{name} is {value}, expected a whole number from {least}")
    columns = tuple(range(len(chosen.weights[0])))
    levels = torch.tensor(list(product(chosen.levels, repeat=len(columns)))).repeat(repeats, 1)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(chosen.levels), (len(levels), noise), generator=generator)
    inputs = torch.cat([levels, torch.tensor(chosen.levels)[drawn]], 1)
    net = net_of(gate, noise).double()
    truth = shapley_against(lambda rows: net(rows)[:, 0], inputs, torch.zeros(inputs.shape[1]), columns)
    labels = net(inputs.double())[:, 0].float()
    return Data(
        ids=[_id(row, number) for number, row in enumerate(levels)],
        items=inputs,
        labels=labels,
        modality="table",
        value_range=(0.0, 1.0),
        train=inputs,
        train_labels=labels,
        masks=(truth != 0).any(0).expand(len(inputs), -1),
        truth=truth.float(),
        unit_names=tuple(f"x{column + 1}" for column in columns) + tuple(f"noise{each + 1}" for each in range(noise)),
        function=name_of(gate, noise),
    )


def gate_of(name: str) -> Gate:
    """The gate of that name."""
    if name not in GATES:
        raise unknown("gate", name, GATES)
    return GATES[name]


def net_of(name: str, noise: int) -> nn.Sequential:
    """The gate as a network (N, K + noise) -> (N, 1), in eval mode and frozen."""
    gate = gate_of(name)
    hidden, out = nn.Linear(len(gate.weights[0]) + noise, len(gate.weights)), nn.Linear(len(gate.weights), 1)
    hidden.weight.data = torch.cat([torch.tensor(gate.weights).float(), torch.zeros(len(gate.weights), noise)], 1)
    hidden.bias.data, out.weight.data = torch.tensor(gate.biases).float(), torch.tensor([gate.out]).float()
    out.bias.data = torch.tensor([float(gate.bias)])
    return nn.Sequential(hidden, nn.ReLU(), out).eval().requires_grad_(False)


def name_of(gate: str, noise: int) -> str:
    """What data and model must agree on."""
    return f"logic gate={gate} noise={noise}"


def _id(levels: Tensor, number: int) -> str:
    return f"{'_'.join(f'{level:g}' for level in levels.tolist())}_{number:03}"
