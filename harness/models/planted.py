"""Models of planted tables: the generating functions themselves, of which the truth is exact, and nets that learn."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from harness.datasets import causal as causal_data
from harness.datasets import gaussian as gaussian_data
from harness.datasets import logic as logic_data
from harness.datasets._gaussian_terms import evaluate, terms_of
from harness.errors import UserError, unknown
from harness.models.training import Recipe, trained
from harness.registry import model
from harness.sources import LoadedModel

COLUMNS = ("all", "correlates")


class Function(nn.Module):
    """A function of ``width`` columns (N, D) -> (N,) as a model (N, D) -> (N, 1), computed in double precision."""

    def __init__(self, compute: Callable[[Tensor], Tensor], width: int, data: str) -> None:
        super().__init__()
        self.compute, self.width, self.data = compute, width, data

    def forward(self, inputs: Tensor) -> Tensor:
        """The function's values, float32."""
        if inputs.dim() != 2 or inputs.shape[1] != self.width:
            came = ("N", *inputs.shape[1:])
            raise UserError(
                f"the inputs are {came}, expected ('N', {self.width}); give dataset {self.data} and its model the same "
                "options"
            )
        return self.compute(inputs.double()).float()[:, None]


@model()
def gaussian_function(*, function: str = "linear", features: int = 5) -> LoadedModel:
    """The function that the data set ``gaussian`` gives the Shapley values of, itself, as a model with one output.

    Inputs (N, ``features``). ``function`` is ``linear``, ``additive`` or ``piecewise``, whose gradient is 0 wherever it
    exists. Both options must be the data set's.
    """
    terms = terms_of(function, features)
    module = Function(lambda inputs: evaluate(terms, inputs), features, "gaussian").eval()
    return LoadedModel(module, function=gaussian_data.name_of(function, features))


@model()
def gaussian_mlp(
    *,
    function: str = "linear",
    rho: float = 0.5,
    features: int = 5,
    data_seed: int = 0,
    seed: int = 0,
    epochs: int = 60,
) -> LoadedModel:
    """An MLP with ReLU that learns the function of the data set ``gaussian``, of which that truth is an approximation.

    Two hidden layers of 64, one output, squared error; trained in seconds from ``seed`` on the 1,000 training rows that
    the data set has with equal ``function``, ``rho``, ``features`` and seed (``data_seed``); the weights are cached.
    ``function`` and ``features`` must be the data set's.
    """
    split = gaussian_data.splitter(function, rho, features, data_seed)
    name = f"gaussian_mlp_{function}_{rho}_{features}_{data_seed}"
    module = trained(Recipe(name, _mlp(features), split, epochs=epochs, reads=(evaluate,)), seed=seed)
    return LoadedModel(module, function=gaussian_data.name_of(function, features))


@model()
def causal_function(*, graph: str = "network", mechanism: str = "nonlinear") -> LoadedModel:
    """The mechanism of the outcome in the data set ``causal``, itself, as a model with one output: it uses the direct
    causes and nothing else.

    Inputs (N, D) of all columns. Both options must be the data set's.
    """
    width = len(causal_data.columns_of(graph))
    if mechanism not in causal_data.MECHANISMS:
        raise unknown("mechanism", mechanism, causal_data.MECHANISMS)
    module = Function(lambda inputs: causal_data.outcome(inputs, graph, mechanism), width, "causal").eval()
    return LoadedModel(module, function=causal_data.name_of(graph, mechanism))


@model()
def causal_mlp(
    *,
    graph: str = "network",
    mechanism: str = "nonlinear",
    columns: str = "correlates",
    data_seed: int = 0,
    seed: int = 0,
    epochs: int = 60,
) -> LoadedModel:
    """An MLP with ReLU that predicts the outcome of the data set ``causal`` from its correlates, or from all columns.

    ``columns=correlates`` gives weight 0 to the direct causes: whatever it knows it has from columns that do not cause
    the outcome, and a right explanation lies wholly on them. ``all`` may use any. Two hidden layers of 64, one output;
    trained in seconds from ``seed`` on the training rows that the data set has with equal ``graph``, ``mechanism`` and
    seed (``data_seed``); the weights are cached. The data set's truth is not about this model, and is refused: use
    ``dataset.truth=false``.
    """
    if columns not in COLUMNS:
        raise unknown("columns", columns, COLUMNS)
    names, causes = causal_data.columns_of(graph), causal_data.GRAPHS[graph][causal_data.OUTCOME]
    seen = [columns == "all" or name not in causes for name in names]
    split = causal_data.splitter(graph, mechanism, data_seed)
    name = f"causal_mlp_{graph}_{mechanism}_{columns}_{data_seed}"
    module = trained(Recipe(name, _mlp(len(names), seen), split, epochs=epochs), seed=seed)
    return LoadedModel(module, function=name)  # no data set's truth is of it


@model()
def logic_net(*, gate: str = "xor", noise: int = 3) -> LoadedModel:
    """A ReLU network with one hidden layer and weights set by hand: and, or, xor, interaction, cancellation or max.

    Inputs (N, K + ``noise``) of the data set ``logic``, one output; noise columns have weight 0. Both options must be
    the data set's.
    """
    if noise < 0:
        raise UserError(f"noise is {noise}, expected a whole number from 0")
    return LoadedModel(logic_data.net_of(gate, noise), value_range=(0.0, 1.0), function=logic_data.name_of(gate, noise))


class Seen(nn.Module):
    """Inputs with the columns set to 0 that a model is not to see."""

    def __init__(self, seen: list[bool]) -> None:
        super().__init__()
        self.register_buffer("seen", torch.tensor(seen).float())

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs times 1 or 0."""
        return inputs * self.seen


def _mlp(width: int, seen: list[bool] | None = None) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        """The network with its first weights drawn from torch's generator."""
        first = [] if seen is None or all(seen) else [Seen(seen)]
        layers = nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        return nn.Sequential(*first, *layers)

    return build
