"""The grounds that a degradation ladder stands on: data, a two-class model and an explainer whose maps are degraded.

On three grounds the maps are exact contributions: what each unit adds to the log-odds of the explained class, against
an input of zeros. On the fourth they are those of Integrated Gradients.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.datasets.gaussian import draw_gaussian
from harness.datasets.tetrominoes import TetrominoOptions
from harness.datasets.xai_tris import TETROMINO_RANGE, xai_tris
from harness.models.xai_tris_models import xai_tris_linear, xai_tris_mlp
from harness.sources import Data

DATA_SEED = 0
NET_SEED = 1  # the first one whose net predicts both classes about equally often
COLUMNS = 10  # of the tables, so that all 2^10 coalitions are few
WIDTH = 16  # of the two hidden layers of the net without biases
SPREAD = 4.0  # standard deviation of the log-odds on the tables


class TwoSided(nn.Module):
    """A function g (N, ...) -> (N, 1) as a model of two classes with the logits -g / 2 and g / 2.

    So what a unit adds to a logit is half of what it adds to the log-odds, and the order of the units is the same by
    logits, probabilities and log-odds.
    """

    def __init__(self, log_odds: nn.Module) -> None:
        super().__init__()
        self.log_odds = log_odds

    def forward(self, inputs: Tensor) -> Tensor:
        """The two logits (N, 2)."""
        half = self.log_odds(inputs) / 2
        return torch.cat([-half, half], 1)


@dataclass(frozen=True)
class Ground:
    """Where a ladder stands.

    model      a module with two logits
    data       inputs, explained classes (those that are predicted), labels, and training inputs with labels
    explainer  the registered explainer whose maps are degraded, and its options
    linear     whether the model is linear, so that a contribution does not depend on the other units
    """

    model: nn.Module
    data: Data
    explainer: str
    options: dict[str, Any] = field(default_factory=dict)
    linear: bool = False

    @property
    def image(self) -> bool:
        """Whether the inputs are images, whose units have neighbours."""
        return self.data.modality == "image"


def linear_table(samples: int, train: int) -> Ground:
    """Ten independent Gaussian columns with the weights 9, 8, ..., 0, on the scale of SPREAD; contributions w x."""
    weights = torch.arange(COLUMNS - 1, -1, -1).float()
    log_odds = nn.Linear(COLUMNS, 1, bias=False)
    log_odds.weight.data = (weights / weights.norm() * SPREAD)[None]
    model = _frozen(TwoSided(log_odds))
    return Ground(model, _table_of_columns(model, samples, train), "input_x_gradient", linear=True)


def net_table(samples: int, train: int) -> Ground:
    """The same columns and a ReLU net without biases, whose weights are drawn; exact Shapley values against zeros."""
    model = _frozen(TwoSided(bias_free_net()))
    return Ground(
        model, _table_of_columns(model, samples, train), "exact_shapley", {"segments": "unit", "baseline": "zero"}
    )


def linear_images(samples: int, train: int) -> Ground:
    """XAI-TRIS images of the linear scenario and the linear model that is trained on them; contributions w x."""
    planted = TetrominoOptions("linear")
    outputs = xai_tris_linear(planted=planted).module[-1]
    log_odds = nn.Linear(outputs.in_features, 1)
    log_odds.weight.data = (outputs.weight[1:] - outputs.weight[:1]).clone()
    log_odds.bias.data = (outputs.bias[1:] - outputs.bias[:1]).clone()
    model = _frozen(TwoSided(nn.Sequential(nn.Flatten(), log_odds)))
    return Ground(model, _first_images(model, planted, samples, train), "input_x_gradient", linear=True)


def net_images(samples: int, train: int) -> Ground:
    """XAI-TRIS images of the scenario xor and the dense net that is trained on them; Integrated Gradients."""
    planted = TetrominoOptions("xor")
    model = xai_tris_mlp(planted=planted).module
    data = _first_images(model, planted, samples, train)
    return Ground(model, data, "integrated_gradients", {"baseline": "zero"})


_MAKERS: dict[str, Callable[[int, int], Ground]] = {
    "linear table": linear_table,
    "net table": net_table,
    "linear images": linear_images,
    "net images": net_images,
}
GROUNDS = tuple(_MAKERS)
EXACT_GROUNDS = ("linear table", "net table", "linear images")
IMAGE_GROUNDS = ("linear images", "net images")
SOURCES = ("input_x_gradient", "exact_shapley", "integrated_gradients")  # the explainers whose maps are degraded
# What the model and the data of a ground are called in tables.
NAMES = {
    "linear table": ("linear classifier", "gaussian, rho 0"),
    "net table": ("ReLU net without biases", "gaussian, rho 0"),
    "linear images": ("xai_tris_linear", "xai_tris linear"),
    "net images": ("xai_tris_mlp", "xai_tris xor"),
}


@cache
def ground_of(name: str, samples: int, train: int) -> Ground:
    """The ground of this name with so many samples and training inputs, made once."""
    return _MAKERS[name](samples, train)


def bias_free_net() -> nn.Sequential:
    """Two hidden layers of ReLU without biases (N, COLUMNS) -> (N, 1), with weights from a seed.

    The columns matter less and less from the first to the last, which the net ignores. The standard deviation of the
    output is SPREAD, for inputs that are independent and standard normal.
    """
    generator = torch.Generator().manual_seed(NET_SEED)
    widths = (COLUMNS, WIDTH, WIDTH, 1)
    layers = [nn.Linear(*pair, bias=False) for pair in zip(widths, widths[1:], strict=False)]
    for layer in layers:
        layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
    layers[0].weight.data *= torch.linspace(1, 0, COLUMNS)
    net = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    with torch.no_grad():
        layers[2].weight.data *= SPREAD / net(torch.randn(4096, COLUMNS, generator=generator)).std()
    return net


def _frozen(model: nn.Module) -> nn.Module:
    return model.requires_grad_(False).eval()


def _table_of_columns(model: nn.Module, samples: int, train: int) -> Data:
    """Independent Gaussian columns, with the model's own decisions for labels."""
    rows, inputs = (part.float() for part in draw_gaussian(0.0, COLUMNS, samples, DATA_SEED))
    classes = model(inputs).argmax(1)
    return Data(
        inputs,
        classes,
        labels=classes,
        modality="table",
        train=rows[:train],
        train_labels=model(rows[:train]).argmax(1),
    )


def _first_images(model: nn.Module, planted: TetrominoOptions, samples: int, train: int) -> Data:
    """The first test images with the data's labels; explained is the class that the model predicts."""
    data = xai_tris(planted=planted)
    inputs = torch.stack([data.inputs[row] for row in range(samples)])
    with torch.no_grad():
        classes = model(inputs).argmax(1)
    return Data(
        inputs,
        classes,
        labels=data.labels[:samples],
        modality="image",
        value_range=TETROMINO_RANGE,
        train=data.train[:train],
        train_labels=data.train_labels[:train],
    )
