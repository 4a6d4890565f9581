"""Small nets for each kind of input, as people bring them, and inputs for them."""

import torch
from torch import nn

from harness.registry import EXPLAINERS

CONVOLUTIONS = {"series": nn.Conv1d, "image": nn.Conv2d, "volume": nn.Conv3d}
POOLING = {"series": nn.AdaptiveAvgPool1d, "image": nn.AdaptiveAvgPool2d, "volume": nn.AdaptiveAvgPool3d}
SHAPES = {
    "image": (2, 12, 12),
    "series": (2, 20),
    "volume": (2, 6, 10, 10),
    "tokens": (18, 8),
    "table": (10,),
    "other": (3, 4, 5, 2),
}


class TokensNet(nn.Module):
    """One layer of a transformer, and the mean over its tokens."""

    def __init__(self, outputs):
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, outputs)

    def forward(self, tokens):
        return self.head(self.layer(tokens).mean(1))


def few_steps(name):
    """Few steps for an explainer that takes hundreds by default; that it runs does not depend on their number."""
    return {"steps": 5} if EXPLAINERS[name].options.get("steps", 0) > 100 else {}


def small_net(modality, outputs=3):
    """A net from inputs of ``SHAPES[modality]`` to so many outputs."""
    torch.manual_seed(0)
    if modality == "tokens":
        return TokensNet(outputs).eval()
    if modality in CONVOLUTIONS:
        conv = CONVOLUTIONS[modality]
        features = [conv(2, 4, 3, padding=1), nn.ReLU(), conv(4, 6, 3, stride=2, padding=1), nn.ReLU()]
        return nn.Sequential(*features, POOLING[modality](1), nn.Flatten(), nn.Linear(6, outputs)).eval()
    numbers = torch.Size(SHAPES[modality]).numel()
    net = nn.Sequential(nn.Flatten(), nn.Linear(numbers, 16), nn.ReLU(), nn.Linear(16, outputs)).eval()
    with torch.no_grad():  # so that not all inputs are of one class
        net[1].weight.mul_(6)
        net[1].bias.copy_(-net[1].weight.sum(1) / 2)
    return net


def inputs_of(modality, count=2):
    """Random inputs, the same whenever they are asked for."""
    return torch.rand(count, *SHAPES[modality], generator=torch.Generator().manual_seed(1))
