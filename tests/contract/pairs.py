"""Small models and data of each modality, and every registered item at a small budget."""

import torch
from torch import nn

from budgets import small
from harness.randomness import seed_torch
from harness.registry import EXPLAINERS, METRICS
from harness.units import Units


class TokenNet(nn.Module):
    """Tokens (N, T, D) to three logits."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(5, 6), nn.Linear(6, 3)

    def forward(self, tokens):
        return self.out(torch.relu(self.hidden(tokens)).mean(1))


class SeriesNet(nn.Module):
    """Series (N, C, T) to three logits."""

    def __init__(self):
        super().__init__()
        self.steps, self.out = nn.Conv1d(2, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, series):
        return self.out(torch.relu(self.steps(series)).mean(2))


class AttentionNet(nn.Module):
    """Tokens (N, T, D), or images cut into patches, through two layers of attention to three logits."""

    def __init__(self, enter):
        super().__init__()
        self.enter, self.out = enter, nn.Linear(8, 3)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(2))

    def forward(self, inputs):
        tokens = self.enter(inputs)
        tokens = tokens.flatten(2).mT if tokens.dim() == 4 else tokens
        for layer in self.layers:
            tokens = layer(tokens)
        return self.out(tokens.mean(1))


def _image_net():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)
    )


NETS = {
    "image": (_image_net, (3, 12, 12)),
    "grey image": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3)), (1, 9, 9)),
    "table": (lambda: nn.Sequential(nn.Linear(7, 8), nn.ReLU(), nn.Linear(8, 3)), (7,)),
    "tokens": (TokenNet, (6, 5)),
    "series": (SeriesNet, (2, 9)),
    "attention tokens": (lambda: AttentionNet(nn.Linear(5, 8)), (6, 5)),
    "attention image": (lambda: AttentionNet(nn.Conv2d(3, 8, 4, 4)), (3, 12, 12)),
}


def _with_large_logits(make):
    """A net whose classes are as far apart as those of a trained one."""

    def larger():
        net = make()
        (net.out if hasattr(net, "out") else net[-1]).weight.data *= 10
        return net

    return larger


# Several dense layers, among whose many numbers a rule can lose the class.
DENSE = {
    "image": (
        _with_large_logits(
            lambda: nn.Sequential(
                nn.Conv2d(3, 16, 3),
                nn.ReLU(),
                nn.Conv2d(16, 16, 3),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(1024, 32),
                nn.ReLU(),
                nn.Linear(32, 3),
            )
        ),
        (3, 12, 12),
    ),
    "table": (
        _with_large_logits(
            lambda: nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
        ),
        (12,),
    ),
    "attention tokens": (_with_large_logits(NETS["attention tokens"][0]), (6, 5)),
}


def small_options(entry, modality):
    """The entry's options where they set a budget, and few segments on images."""
    options = small(entry, rows=12) if modality == "image" else small(entry)  # rows to rank concepts of images on
    if entry.options.get("segments") in ("auto", "felzenszwalb") and modality == "image":
        options["segments"] = "grid:3"
    if "beta" in entry.options:
        options |= {"beta": 10.0, "steps": 8}  # these nets have ReLUs
    if modality not in ("image", "tokens", "series") and "margin" in entry.options:
        options["margin"] = 0.0  # the columns of a table have no distance
    if entry.options.get("steps", 0) > 300:  # learned masks
        options["steps"] = 10
    return options


# Kinds of metrics that look at nothing but maps, model and data, unless they say that they need an explainer.
OF_MAPS_ALONE = ("faithfulness", "complexity", "localisation")


def explainer_of(entry):
    """The explainer that a metric is given: it explains again, which takes long, so only those that may ask get one."""
    return None if "explainer" not in entry.needs and entry.kind in OF_MAPS_ALONE else "input_x_gradient"


class Case:
    """A model with samples of one modality, drawn from a seed."""

    def __init__(self, modality, seed, nets=NETS):
        seed_torch(seed)
        make, shape = nets[modality]
        self.kind, self.modality, self.seed = modality, modality.split()[-1], seed  # a grey image is an image
        self.model = make().eval().requires_grad_(False)
        rows = 120 if self.modality == "table" else 60  # more than the usual background
        self.inputs, self.train = torch.randn(5, *shape), torch.randn(rows, *shape)
        self.targets = torch.randint(3, (5,))
        self.train_labels = torch.randint(3, (rows,))
        self.units = Units.of(self.inputs, self.modality)
        self.masks = torch.rand(5, *self.units.shape) < 0.4
        self.masks.flatten(1)[:, :2] = torch.tensor([True, False])  # neither empty nor full
        self.truth = torch.randn(self.masks.shape) * self.masks


def _pairs(registry, wanted=lambda entry, modality: True, nets=NETS):
    """Every registered name with every kind of net that it is wanted for."""
    pairs = [(name, kind) for name, entry in registry.items() for kind in nets if wanted(entry, kind.split()[-1])]
    return {"argvalues": pairs, "ids": ["-".join(pair) for pair in pairs]}


SERVED = _pairs(EXPLAINERS, lambda entry, modality: modality in entry.modalities)
SERVED_DENSE = _pairs(EXPLAINERS, lambda entry, modality: modality in entry.modalities, DENSE)
WITH_PAIRS = _pairs(EXPLAINERS, lambda entry, modality: entry.pairs and modality in entry.modalities)
DECLINED = _pairs(EXPLAINERS, lambda entry, modality: modality not in entry.modalities)
SCORED = _pairs(METRICS, lambda entry, modality: entry.kind != "cost")
_kinds = lambda *kinds: {kind: NETS[kind] for kind in kinds}
# Whichever model looks at the inputs, a map may have the shapes that these have, and an explainer is missing alike.
LOOKING_AT_MAPS = _pairs(
    METRICS,
    lambda entry, modality: entry.kind in ("faithfulness", "complexity"),
    _kinds("image", "grey image", "tokens", "series"),
)
WITHOUT_EXPLAINER = _pairs(METRICS, lambda entry, modality: entry.kind != "cost", _kinds("image", "tokens"))
