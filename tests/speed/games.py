"""Games whose exact Shapley values are known, as the worths of all coalitions are: of nets, and planted ones."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from harness.explainers.shapley import all_coalitions, values_from_worths
from harness.registry import DATASETS, MODELS

AT_ONCE = 8192  # coalitions
SAMPLES = 4  # of each data set, and planted games of each kind


@dataclass(frozen=True)
class Games:
    """Some games of one kind.

    name    what plays: a model and its data, or a planted game
    worths  (games, 2^K) float64, in the order of ``all_coalitions``
    """

    name: str
    worths: Tensor

    @property
    def players(self) -> int:
        """K."""
        return self.worths.shape[1].bit_length() - 1

    @property
    def exact(self) -> Tensor:
        """The Shapley values (games, K)."""
        return values_from_worths(all_coalitions(self.players), self.worths)


class TableGame(nn.Module):
    """A game as a model: a row of zeros and ones (K,) is a coalition, the output its worth; it counts its rows."""

    def __init__(self, worths: Tensor):
        super().__init__()
        self.register_buffer("worths", worths)
        self.register_buffer("powers", 2 ** torch.arange(worths.numel().bit_length() - 1))
        self.rows = 0

    def forward(self, rows: Tensor) -> Tensor:
        """The worths (N, 1) of rows (N, K)."""
        self.rows += len(rows)
        return self.worths[((rows > 0.5) * self.powers).sum(1)][:, None].float()


def all_games() -> Iterator[Games]:
    """Nets on images, tables and series, and planted games; each with SAMPLES games."""
    square = torch.arange(8)[:, None] // 2 * 4 + torch.arange(8) // 2
    yield _of_net("CNN, digits, 4 x 4 squares", "digits_cnn", "digits", square, 0.0)
    yield _of_net("CNN, XAI-TRIS, 4 x 4 squares", "xai_tris_cnn", "xai_tris", square, 0.0)
    for model, data, what in (
        ("adult_mlp", "adult", "MLP, Adult, 12 columns"),
        ("diabetes_mlp", "diabetes", "MLP, diabetes, 10 columns"),
    ):
        yield _of_net(what, model, data, None, None)
    yield _of_net("MLP, breast cancer, 15 pairs", "cancer_mlp", "breast_cancer", torch.arange(30) % 15, None)
    half_days = torch.arange(24)[None] // 2
    yield _of_net("CNN, power demand, 12 parts", "series_cnn", "italy_power_demand", half_days, None)
    draw = np.random.default_rng(0)
    for name, planted in (
        ("16 players, sum of 40 products", _products),
        ("16 players, weighted vote", _vote),
        ("16 players, largest number", _largest),
        ("16 players, tanh net", _tanh_net),
    ):
        yield Games(name, torch.from_numpy(np.stack([planted(draw) for _ in range(SAMPLES)])))


def _of_net(name: str, model: str, data: str, labels: Tensor | None, baseline: float | None) -> Games:
    """The logit of the predicted class of the first samples; removed segments become ``baseline``, None: the mean of
    the training inputs. ``labels`` say which units are a segment, None: those that the data count as one column."""
    net, given = MODELS[model].function().module.eval(), DATASETS[data].function()
    inputs = torch.stack([given.inputs[at] for at in range(SAMPLES)]).float()
    labels = torch.tensor(given.columns or range(inputs.shape[1])) if labels is None else labels
    absent = torch.tensor(baseline) if baseline is not None else _training_mean(given)
    return Games(name, torch.stack([_worths(net, each, absent, labels) for each in inputs]))


def _training_mean(given) -> Tensor:
    rows = given.train() if callable(given.train) else given.train
    return rows.float().mean(0) if rows.dim() == 2 else rows.float().mean((0, 2))[:, None]


def _worths(net: nn.Module, sample: Tensor, absent: Tensor, labels: Tensor) -> Tensor:
    labels = labels.expand(sample.shape[-labels.dim() :])
    with torch.no_grad():
        target = net(sample[None]).argmax()
        parts = []
        for coalitions in all_coalitions(int(labels.max()) + 1).split(AT_ONCE):
            present = coalitions[:, labels.flatten()].view(len(coalitions), *labels.shape)
            present = present.view(len(coalitions), *(1,) * (sample.dim() - labels.dim()), *labels.shape)
            parts.append(net(torch.where(present, sample, absent))[:, target])
    return torch.cat(parts).double()


def _coalitions() -> np.ndarray:
    return all_coalitions(16).numpy()


def _products(draw: np.random.Generator) -> np.ndarray:
    coalitions, worth = _coalitions(), np.zeros(2**16)
    for _ in range(40):
        members = draw.choice(16, draw.integers(1, 6), replace=False)
        worth += draw.normal() * coalitions[:, members].all(1)
    return worth


def _vote(draw: np.random.Generator) -> np.ndarray:
    weights = draw.exponential(size=16)
    return (_coalitions() @ weights >= weights.sum() / 2).astype(float)


def _largest(draw: np.random.Generator) -> np.ndarray:
    return np.where(_coalitions(), draw.normal(size=16), -np.inf).max(1).clip(0)


def _tanh_net(draw: np.random.Generator) -> np.ndarray:
    return np.tanh(_coalitions() @ draw.normal(size=(16, 8)) / 2 + draw.normal(size=8)).sum(1)
