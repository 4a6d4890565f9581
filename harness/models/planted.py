"""Models of planted tables: the generating functions themselves, for which the truth is exact, and nets that learn."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from harness.datasets.causal import CAUSAL_GRAPH, CausalGraph, causal_splitter
from harness.datasets.gaussian import gaussian_splitter
from harness.datasets.gaussian_terms import GAUSSIAN_FUNCTION, GaussianFunction, sum_of_terms
from harness.datasets.logic import LOGIC_GATE, LogicGate
from harness.errors import UserError
from harness.models.training import TrainingOptions, TrainingRecipe, trained
from harness.option_types import Range, Seed
from harness.registry import model
from harness.sources import LoadedModel

PLANTED_TRAINING = TrainingOptions(epochs=60)


class FunctionModule(nn.Module):
    """A function of ``width`` columns (N, D) -> (N,) as a model (N, D) -> (N, 1), computed in double precision."""

    def __init__(self, compute: Callable[[Tensor], Tensor], width: int, data: str) -> None:
        super().__init__()
        self.compute, self.width, self.data = compute, width, data

    def forward(self, inputs: Tensor) -> Tensor:
        """The function's values (N, 1), float32; UserError for another number of columns."""
        if inputs.dim() != 2 or inputs.shape[1] != self.width:
            came = ("N", *inputs.shape[1:])
            raise UserError(
                f"the inputs are {came}, expected ('N', {self.width}); give dataset {self.data} and its model the same "
                "options"
            )
        return self.compute(inputs.double()).float()[:, None]


@model()
def gaussian_function(*, planted: GaussianFunction = GAUSSIAN_FUNCTION) -> LoadedModel:
    """The function of the data set ``gaussian`` itself as a model with one output, for which the truth is exact.

    Inputs (N, D). ``GaussianFunction`` describes ``function`` and ``features``, which is D; both must have the values
    that they have in the data set. The gradient of the function ``piecewise`` is 0 wherever it exists.
    """
    terms = planted.terms
    module = FunctionModule(lambda inputs: sum_of_terms(terms, inputs), planted.features, "gaussian").eval()
    return LoadedModel(module, function=planted.function_name, task="regression")


@model()
def gaussian_mlp(
    *,
    planted: GaussianFunction = GAUSSIAN_FUNCTION,
    rho: Annotated[float, Range(-1, 1, without="ends")] = 0.5,
    data_seed: Seed = 0,
    training: TrainingOptions = PLANTED_TRAINING,
) -> LoadedModel:
    """An MLP with ReLU that learns the function of the data set ``gaussian``; for it the truth is an approximation.

    Two hidden layers of 64, one output; trained in seconds by squared error on the 1,000 training rows that the data
    set has with the same ``function``, ``rho`` and ``features`` and with the seed ``data_seed``. ``GaussianFunction``
    describes ``function`` and ``features``, which must have the values that they have in the data set. ``seed`` and
    ``epochs`` are those of ``TrainingOptions``.
    """
    recipe = TrainingRecipe(
        f"gaussian_mlp_{planted.function}_{rho}_{planted.features}_{data_seed}",
        _two_hidden_layers(planted.features),
        gaussian_splitter(planted, rho, data_seed),
        epochs=PLANTED_TRAINING.epochs,
        reads=(sum_of_terms,),
    )
    return LoadedModel(trained(recipe, training), function=planted.function_name, task="regression")


@model()
def causal_function(*, planted: CausalGraph = CAUSAL_GRAPH) -> LoadedModel:
    """The mechanism of the outcome in the data set ``causal`` itself as a model with one output, which uses only the
    direct causes.

    Inputs (N, D), all D columns. ``CausalGraph`` describes ``graph`` and ``mechanism``, which must have the values that
    they have in the data set.
    """
    module = FunctionModule(planted.outcome, len(planted.columns), "causal").eval()
    return LoadedModel(module, function=planted.function_name, task="regression")


@model()
def causal_mlp(
    *,
    planted: CausalGraph = CAUSAL_GRAPH,
    columns: Literal["all", "correlates"] = "correlates",
    data_seed: Seed = 0,
    training: TrainingOptions = PLANTED_TRAINING,
) -> LoadedModel:
    """An MLP with ReLU that predicts the outcome of the data set ``causal`` from its correlates, or from all columns.

    With ``columns=correlates`` the direct causes have weight 0: the model predicts from columns that do not cause the
    outcome, and a right explanation attributes everything to these. With ``columns=all`` it may use any column. Two
    hidden layers of 64, one output; trained in seconds on the training rows that the data set has with the same
    ``graph`` and ``mechanism`` (see ``CausalGraph``) and with the seed ``data_seed``. ``seed`` and ``epochs`` are those
    of ``TrainingOptions``. The data set's truth is not about this model and is refused: use ``dataset.truth=false``.
    """
    names = planted.columns
    visible = [columns == "all" or column not in planted.causes for column in range(len(names))]
    name = f"causal_mlp_{planted.graph}_{planted.mechanism}_{columns}_{data_seed}"
    build, split = _two_hidden_layers(len(names), visible), causal_splitter(planted, data_seed)
    module = trained(TrainingRecipe(name, build, split, epochs=PLANTED_TRAINING.epochs), training)
    return LoadedModel(module, function=name, task="regression")  # a name that no data set's truth has


@model(renamed={"noise": "noise_columns"})
def logic_net(*, planted: LogicGate = LOGIC_GATE) -> LoadedModel:
    """A ReLU network with one hidden layer and weights set by hand: and, or, xor, interaction, cancellation or max.

    Inputs (N, K + noise_columns) of the data set ``logic``, one output; noise columns have weight 0. ``LogicGate``
    describes ``gate`` and ``noise_columns``, which must have the values that they have in the data set.
    """
    return LoadedModel(planted.network(), value_range=(0.0, 1.0), function=planted.function_name, task="regression")


class VisibleColumns(nn.Module):
    """Sets the columns to 0 that a model must not use."""

    def __init__(self, visible: list[bool]) -> None:
        super().__init__()
        self.register_buffer("visible", torch.tensor(visible).float())

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs (N, D), each column times 1 or 0."""
        return inputs * self.visible


def _two_hidden_layers(width: int, visible: list[bool] | None = None) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        """The network, with first weights from torch's generator."""
        first = [] if visible is None or all(visible) else [VisibleColumns(visible)]
        layers = nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        return nn.Sequential(*first, *layers)

    return build
