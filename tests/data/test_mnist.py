"""The zeros and ones of MNIST, and the published network for them."""

import torch

import harness
from harness.datasets.mnist_zeros_ones import mnist_zeros_ones
from harness.models.mnist_cnn import mnist_cnn


def test_the_published_network_is_right_on_nearly_all_digits_of_the_test_part():
    data, model = mnist_zeros_ones(), mnist_cnn()
    assert data.inputs.shape == (2115, 1, 28, 28) and len(data.train) == 12_665
    assert (float(data.inputs.min()), float(data.inputs.max())) == (0, 1)
    with torch.no_grad():
        right = model.module(data.inputs).argmax(1) == data.labels
    assert int(right.sum()) == 2108  # 99.67 %
    shares = torch.bincount(data.labels) / len(data.labels)
    assert float(shares.max()) < 0.55
    # A one has ink in the middle, a zero has none.
    middle = data.inputs[:, 0, 12:16, 12:16].mean((1, 2))
    assert float(middle[data.labels == 1].mean()) > 0.4 > 0.1 > float(middle[data.labels == 0].mean())


def test_both_parts_are_there_and_an_explainer_explains():
    train = mnist_zeros_ones(split="train")
    assert len(train.inputs) == 12_665 and not set(train.ids) & set(mnist_zeros_ones().ids)
    maps = harness.explain("input_x_gradient", mnist_cnn().module, train.inputs[:4], train.labels[:4])
    assert maps.shape == (4, 1, 28, 28) and float(maps.abs().sum()) > 0
