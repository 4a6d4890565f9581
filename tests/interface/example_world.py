"""The names that examples in docstrings may use: small models with a known answer, and inputs for them."""

import math

import torch
from torch import nn

import harness


class Product(nn.Module):
    """f(x) = x1 x2."""

    def forward(self, inputs):
        return inputs[:, :1] * inputs[:, 1:]


class FirstTokenAttends(nn.Module):
    """Self-attention of tokens x (N, T, 1), read at the first: f(x) = sum_j a_j x_j with a = softmax(x_1 x)."""

    def forward(self, tokens):
        return ((tokens @ tokens.mT).softmax(-1) @ tokens)[:, 0]


def _linear(*rows, bias=None):
    """A linear layer with these weights, one row for each output."""
    layer = nn.Linear(len(rows[0]), len(rows), bias=bias is not None)
    layer.weight.data = torch.tensor(rows, dtype=torch.float32)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def _pooled():
    """f(x) = sum x - sum relu(x - 2) over the pixels of a 2 x 2 image: two channels, averaged."""
    convolution = nn.Conv2d(1, 2, 1)
    convolution.weight.data = torch.ones(2, 1, 1, 1)
    convolution.bias.data = torch.tensor([0.0, -2.0])
    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), _linear([4, -4]))


def _redness():
    """The mean of the red channel of an image, after a layer that passes all channels on."""
    convolution = nn.Conv2d(3, 3, 1, bias=False)
    convolution.weight.data = torch.eye(3).view(3, 3, 1, 1)
    return nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), _linear([1, 0, 0]))


def names():
    """Names to objects, made anew at each call.

    linear      f(x) = 2 x1 - x2
    product     f(x) = x1 x2
    relu_net    f(x) = relu(x1 + x2) - relu(x2) + relu(x1 - x2)
    classes     two classes with the logits 0 and x1: class 1 is where x1 is above 0
    x, target   the point (1, 3) of the class 0
    train       a grid of 10 x 10 rows, from -1 to 1 in both columns
    pooled      f(image) = sum of the pixels less the sum of relu(pixel - 2)
    image       the pixels 1, 2 over 3, 4
    redness     the mean of the red channel of an image (N, 3, H, W)
    attending   f(x) = sum_j a_j x_j over the tokens x, with the attention a = softmax(x_1 x) of the first one
    projected   attending behind a linear layer that passes each token on
    text        ``harness.Data`` of the tokens 1 and 1 + ln 3, to which attending gives the attention 1/4 and 3/4
    """
    side = torch.linspace(-1, 1, 10)
    hidden = _linear([1, 1], [0, 1], [1, -1])
    return {
        "torch": torch,
        "harness": harness,
        "linear": _linear([2, -1]).eval(),
        "product": Product().eval(),
        "relu_net": nn.Sequential(hidden, nn.ReLU(), _linear([1, -1, 1])).eval(),
        "classes": _linear([0, 0], [1, 0]).eval(),
        "x": torch.tensor([[1.0, 3.0]]),
        "target": torch.tensor([0]),
        "train": torch.cartesian_prod(side, side),
        "pooled": _pooled().eval(),
        "image": torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]),
        "redness": _redness().eval(),
        "attending": FirstTokenAttends().eval(),
        "projected": nn.Sequential(_linear([1]), FirstTokenAttends()).eval(),
        "text": harness.Data(torch.tensor([[[1.0], [1 + math.log(3)]]]), torch.tensor([0]), modality="tokens"),
    }
