"""Small models and data of each modality, and every registered item at a small budget."""

import torch
from torch import nn

from harness.registry import EXPLAINERS, METRICS


class TokenNet(nn.Module):
    """Tokens (N, T, D) to three logits."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, tokens):
        return self.out(torch.relu(self.hidden(tokens)).mean(1))


def _image_net():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)
    )


NETS = {
    "image": (_image_net, (3, 12, 12)),
    "grey image": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3)), (1, 9, 9)),
    "table": (lambda: nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 3)), (7,)),
    "tokens": (TokenNet, (6, 5)),
}

# Budgets that make hundreds of cases a matter of seconds; whatever an item promises, it promises at these too.
SMALL = {"samples": 24, "permutations": 6, "subsets": 12, "sizes": 3, "stages": 3}


def small_options(entry, modality):
    """The entry's options where they set a budget, and few segments on images."""
    options = {name: value for name, value in SMALL.items() if isinstance(entry.options.get(name), int)}
    if entry.options.get("segments") == "auto" and "image" in modality:
        options["segments"] = "grid:3"
    return options


class Case:
    """A model with samples of one modality, drawn from a seed."""

    def __init__(self, modality, seed):
        torch.manual_seed(seed)
        make, shape = NETS[modality]
        self.modality, self.model = modality, make().eval().requires_grad_(False)
        self.inputs, self.train = torch.randn(5, *shape), torch.randn(20, *shape)
        self.targets = torch.randint(3, (5,))
        self.train_labels = torch.randint(3, (20,))


def _pairs(registry, wanted=lambda entry, modality: True):
    """Every registered name with every kind of net that it is wanted for."""
    pairs = [(name, kind) for name, entry in registry.items() for kind in NETS if wanted(entry, kind.split()[-1])]
    return {"argvalues": pairs, "ids": ["-".join(pair) for pair in pairs]}


SERVED = _pairs(EXPLAINERS, lambda entry, modality: modality in entry.modalities)
DECLINED = _pairs(EXPLAINERS, lambda entry, modality: modality not in entry.modalities)
SCORED = _pairs(METRICS, lambda entry, modality: entry.kind != "cost")
LOOKING_AT_MAPS = _pairs(METRICS, lambda entry, modality: entry.kind in ("faithfulness", "complexity"))
