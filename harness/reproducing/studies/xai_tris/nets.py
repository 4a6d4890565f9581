"""Data and nets of XAI-TRIS for one scenario, background and seed (Clark et al. 2023, 2306.12816)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.init import kaiming_normal_

from harness.datasets.tetrominoes import TetrominoFamily
from harness.models.training import reproducible
from harness.models.xai_tris_models import build_cnn, build_linear, build_mlp

LINEAR, MLP, CNN = "linear net", "MLP", "CNN"
# Training ends when the validation loss has not fallen for so many epochs, or is so small that all is learnt.
PATIENCE, LEARNT = 100, 0.02


@dataclass(frozen=True)
class TetrominoTraining:
    """How a net is built and trained by Adam; the weights of the epoch with the least validation loss are kept.

    build   makes the net, with first weights from torch's generator
    rate, batch_size, epochs  of Adam; those of the linear net and the MLP are the authors', but for fewer epochs
    gain    factor of the first layer's first weights; those of all layers are drawn from He's normal distribution
    """

    build: Callable[[], nn.Module]
    rate: float
    batch_size: int
    epochs: int
    gain: float = 1.0


TRAININGS = {
    LINEAR: TetrominoTraining(build_linear, rate=5e-4, batch_size=512, epochs=200),
    MLP: TetrominoTraining(build_mlp, rate=5e-4, batch_size=512, epochs=200),
    # The authors' 4 filters and 8,000 small steps take too long here. Inputs have a deviation of about 0.2, so that
    # first weights that are 5 times as large act as if it were 1; without them correlated backgrounds are not learnt.
    CNN: TetrominoTraining(build_cnn, rate=5e-3, batch_size=128, epochs=15, gain=5.0),
}


def nets_of(scenario: str, names: Sequence[str]) -> list[str]:
    """Those of the nets that are trained in a scenario: a linear one learns the scenario ``linear`` alone."""
    return [name for name in names if name != LINEAR or scenario == "linear"]


@dataclass(frozen=True)
class LabelledImages:
    """One part of a data set: images (k, 1, 8, 8), labels (k,), and where the class is, bool (k, 8, 8)."""

    inputs: Tensor
    labels: Tensor
    masks: Tensor

    def __getitem__(self, rows: slice | Tensor) -> "LabelledImages":
        return LabelledImages(self.inputs[rows], self.labels[rows], self.masks[rows])


def parts_of(family: TetrominoFamily) -> dict[str, LabelledImages]:
    """Part -> all its images."""
    found = {}
    for part, numbers in family.parts.items():
        chosen = np.array(numbers)
        found[part] = LabelledImages(family.inputs(chosen), family.labels(chosen), family.masks(chosen))
    return found


def trained_tetromino_net(name: str, parts: dict[str, LabelledImages], seed: int) -> nn.Module:
    """A net that has learnt the part ``train``, in eval mode and frozen."""
    training = TRAININGS[name]
    with reproducible(seed):
        net = _first_net(training)
    with _on_one_thread():
        net.load_state_dict(_best_weights(net, training, parts, torch.Generator().manual_seed(seed)))
    return net.requires_grad_(False).eval()


@contextmanager
def _on_one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread: the order of sums, and with it the last digits, depend on the number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _best_weights(
    net: nn.Module, training: TetrominoTraining, parts: dict[str, LabelledImages], orders: torch.Generator
) -> dict[str, Tensor]:
    """The weights of the epoch with the least validation loss; ``orders`` draws the orders of the training images."""
    least, best, waited = float("inf"), net.state_dict(), 0
    train, validation = ((parts[name].inputs, parts[name].labels) for name in ("train", "validation"))
    optimiser = torch.optim.Adam(net.parameters(), lr=training.rate, fused=True)
    for _ in range(training.epochs):
        for rows in torch.randperm(len(train[1]), generator=orders).split(training.batch_size):
            optimiser.zero_grad()
            _error_of_classes(net, *(each[rows] for each in train)).backward()
            optimiser.step()
        with torch.no_grad():
            loss = float(_error_of_classes(net, *validation))
        waited += 1
        if loss < least:
            least, best, waited = loss, deepcopy(net.state_dict()), 0
        if least < LEARNT or waited == PATIENCE:
            break
    return best


def _error_of_classes(net: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(net(inputs), labels)


def _first_net(training: TetrominoTraining) -> nn.Module:
    net = training.build().train()
    layers = [layer for layer in net if hasattr(layer, "weight")]
    with torch.no_grad():
        for layer in layers:
            kaiming_normal_(layer.weight)
        layers[0].weight.mul_(training.gain)
    return net


def are_right(net: nn.Module, part: LabelledImages) -> Tensor:
    """Which images (k,) of a part the net classifies correctly."""
    with torch.no_grad():
        return net(part.inputs).argmax(1) == part.labels


def with_softmax(net: nn.Sequential) -> nn.Sequential:
    """The net with a softmax behind it; its layers keep their names."""
    return nn.Sequential(*net, nn.Softmax(dim=1)).eval()
