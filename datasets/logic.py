"""Small functions as ReLU networks with weights set by hand, and their inputs with exact Shapley values."""

from dataclasses import dataclass
from itertools import product
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from harness.datasets._shapley import shapley_against
from harness.option_types import Count, Range, Seed
from harness.registry import dataset
from harness.sources import Data

Numbers = tuple[float, ...]
TWO_LEVELS, THREE_LEVELS = (0.0, 1.0), (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Gate:
    """A function out . relu(weights x + biases) + bias with one hidden layer; inputs take the values ``levels``."""

    weights: tuple[Numbers, ...]
    biases: Numbers
    out: Numbers
    bias: float = 0.0
    levels: Numbers = TWO_LEVELS


GATES = {
    "and": Gate(((1, 1),), (-1,), (1,)),
    "or": Gate(((-1, -1),), (1,), (-1,), bias=1),
    "xor": Gate(((1, 1), (1, 1)), (0, -1), (1, -2)),
    "interaction": Gate(((1, 0, 0), (1, -1, 0), (0, 0, 1)), (0, 0, 0), (1, -1, 1), levels=THREE_LEVELS),
    "cancellation": Gate(((1, 0), (0, 1), (0, 1)), (0, 0, 0), (1, 1, -1), levels=THREE_LEVELS),
    "max": Gate(((1, 0), (-1, 1)), (0, 0), (1, 1), levels=THREE_LEVELS),
}


@dataclass(frozen=True)
class LogicGate:
    """The options that the data set ``logic`` and the model ``logic_net`` share; both must have the same values.

    gate            the function of K inputs: ``and``, ``or``, ``xor`` of two inputs with levels 0 and 1; and with
                    levels 0, 0.5 and 1 ``interaction``, min(x1, x2) + x3; ``cancellation``, x1 + x2 - x2, in which x2
                    passes through two hidden units that cancel; and ``max`` of two inputs
    noise_columns   the number of further columns, which the function ignores
    """

    gate: Literal["and", "or", "xor", "interaction", "cancellation", "max"] = "xor"
    noise_columns: Annotated[int, Range(0, 1000)] = 3

    @property
    def function_name(self) -> str:
        """What the truth of data is about, and what a model with this function is recognised by."""
        return f"logic gate={self.gate} noise={self.noise_columns}"

    def network(self) -> nn.Sequential:
        """The gate as a network (N, K + noise_columns) -> (N, 1), in eval mode and frozen."""
        gate = GATES[self.gate]
        width, inputs = len(gate.weights), len(gate.weights[0]) + self.noise_columns
        hidden, out = nn.Linear(inputs, width), nn.Linear(width, 1)
        hidden.weight.data = torch.cat([torch.tensor(gate.weights).float(), torch.zeros(width, self.noise_columns)], 1)
        hidden.bias.data, out.weight.data = torch.tensor(gate.biases).float(), torch.tensor([gate.out]).float()
        out.bias.data = torch.tensor([float(gate.bias)])
        return nn.Sequential(hidden, nn.ReLU(), out).eval().requires_grad_(False)


LOGIC_GATE = LogicGate()


@dataset(
    modality="table",
    source="generated: every combination of input levels",
    licence="none needed: enumerated",
    samples="every combination of levels, 8 times by default (option copies)",
    classes="a number: the function's value",
    renamed={"noise": "noise_columns", "repeats": "copies"},
)
def logic(*, planted: LogicGate = LOGIC_GATE, copies: Count = 8, seed: Seed = 0) -> Data:
    """Inputs of small hand-made ReLU networks (and, or, xor, interaction, cancellation, max) with exact Shapley values.

    Items (K + noise_columns,). ``LogicGate`` describes ``gate`` and ``noise_columns``. The K inputs of the gate take
    every combination of their levels, each ``copies`` times. The noise columns are drawn from ``seed``, from the same
    levels, so that they cannot be told from the others by their size. Labels are the network's values.

    The truth is, per column, the exact Shapley value of the network against the input of zeros, by enumeration: at
    (1, 1) it is 1/2 for each input of ``and`` and ``or``, and 0 for ``xor``. Where it is 0 in every column, most scores
    against it are undefined. It is about the model ``logic_net`` with the same options. ``masks`` are the columns that
    the function depends on.
    """
    gate = GATES[planted.gate]
    columns = tuple(range(len(gate.weights[0])))
    levels = torch.tensor(list(product(gate.levels, repeat=len(columns)))).repeat(copies, 1)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(gate.levels), (len(levels), planted.noise_columns), generator=generator)
    inputs = torch.cat([levels, torch.tensor(gate.levels)[drawn]], 1)
    net = planted.network().double()
    truth = shapley_against(lambda rows: net(rows)[:, 0], inputs, torch.zeros(inputs.shape[1]), columns)
    labels = net(inputs.double())[:, 0].float()
    names = [f"x{column + 1}" for column in columns] + [f"noise{number + 1}" for number in range(planted.noise_columns)]
    return Data(
        ids=[_sample_name(row, number) for number, row in enumerate(levels)],
        inputs=inputs,
        labels=labels,
        modality="table",
        value_range=(0.0, 1.0),
        train=inputs,
        train_labels=labels,
        masks=(truth != 0).any(0).expand(len(inputs), -1),
        truth=truth.float(),
        unit_names=tuple(names),
        function=planted.function_name,
    )


def _sample_name(levels: Tensor, number: int) -> str:
    return f"{'_'.join(f'{level:g}' for level in levels.tolist())}_{number:03}"
