"""The convolutional network for the zeros and ones of MNIST that comes with dianna, with its published weights."""

from torch import Tensor, nn

from harness.assets import DIANNA, read_members
from harness.datasets.mnist_zeros_ones import CLASSES_01
from harness.models._onnx import initialisers
from harness.registry import model
from harness.sources import LoadedModel

NETWORK_01 = "dianna/data/mnist_model_tf.onnx"
# Of the flattened map: rows and columns come before channels there, and behind them here.
ROWS, CHANNELS, HIDDEN = 12, 64, 128


@model()
def mnist_cnn() -> LoadedModel:
    """A ReLU CNN without batch norm for zeros and ones, 1.20 M weights (of dianna 1.4.0, Apache-2.0): right for 99.7 %
    of the test part of the data set mnist_zeros_ones.

    Inputs (N, 1, 28, 28) in 0..1, outputs logits (N, 2). The published network ends in a softmax, which is left out.
    The weights are fetched once (23 MB); UserError where they cannot be.
    """
    module = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, CHANNELS, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(CHANNELS * ROWS**2, HIDDEN),
        nn.ReLU(),
        nn.Linear(HIDDEN, len(CLASSES_01)),
    )
    module.load_state_dict(_state_of_module())
    return LoadedModel(module.requires_grad_(False).eval(), value_range=(0.0, 1.0), classes=CLASSES_01)


def _state_of_module() -> dict[str, Tensor]:
    """The published weights under this module's names, with inputs behind outputs."""
    (content,) = read_members(DIANNA, NETWORK_01).values()
    published = initialisers(content)

    def weight(layer: str, operation: str) -> Tensor:
        (found,) = (value for name, value in published.items() if f"/{layer}/{operation}" in name)
        return found

    flattened = weight("dense", "MatMul").view(ROWS, ROWS, CHANNELS, HIDDEN).permute(3, 2, 0, 1)
    return {
        "0.weight": weight("conv2d", "Conv2D"),
        "0.bias": weight("conv2d", "BiasAdd"),
        "2.weight": weight("conv2d_1", "Conv2D"),
        "2.bias": weight("conv2d_1", "BiasAdd"),
        "6.weight": flattened.reshape(HIDDEN, -1),
        "6.bias": weight("dense", "BiasAdd"),
        "8.weight": weight("dense_1", "MatMul").T,
        "8.bias": weight("dense_1", "BiasAdd"),
    }
