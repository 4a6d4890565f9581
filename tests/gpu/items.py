"""Every registered item at a small budget on small nets, whose tensors a function moves to where they are tried."""

import torch
from torch import nn

import harness
from pairs import Case, explainer_of, small_options

SEED = 0
# Their scores come from training, in which two devices go apart.
TRAINING = ("f_fidelity", "idsds", "label_randomization", "roar")
# They show images of several classes.
MOSAICS = ("grid_pointing", "focus", "difull", "dipart")
# What makes them apply to nets with random weights.
OWN = {
    "completeness": {"baseline": "zero"},
    **dict.fromkeys(MOSAICS, {"confidence": 0.0}),
    "selectivity": {"patch": 2},
    "label_randomization": {"epochs": 10, "least_accuracy": 0.0},
}


class ManyClasses(Case):
    """Images of eight classes, of which a mosaic can be made, that the net tells apart."""

    def __init__(self, modality, seed):
        super().__init__(modality, seed)
        self.model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.model.eval().requires_grad_(False)


def stay(given):
    """Moves nothing."""
    return given


def case_of(entry, kind):
    """The net and data that an item is tried on."""
    return (ManyClasses if entry.name in MOSAICS and kind == "image" else Case)(kind, SEED)


def data_of(case, move, move_train=None, rows=slice(None), **more):
    """The net's samples with what goes with them, all moved by ``move`` before."""
    move_train = move_train or move
    return harness.Data(
        move(case.inputs[rows]),
        move(case.targets[rows]),
        modality=case.modality,
        truth=move(case.truth[rows]),
        train=move_train(case.train),
        train_labels=move_train(case.train_labels),
        **more,
    )


def explained(entry, kind, move, move_train=None, rows=slice(None)):
    """The explainer's maps of the net's samples."""
    case = case_of(entry, kind)
    data = data_of(case, move, move_train, rows)
    return harness.explain(entry.function, move(case.model), data, **small_options(entry, case.modality))


def scored(entry, kind, maps, move, move_train=None, rows=slice(None), **options):
    """The metric's scores of given maps of the net's samples."""
    case = case_of(entry, kind)
    data = data_of(case, move, move_train, rows, value_range=(-4.0, 4.0), masks=move(case.masks[rows]))
    return harness.score(
        entry.function,
        move(case.model),
        data,
        attributions=move(maps[rows]),
        explainer=explainer_of(entry),
        **small_options(entry, case.modality) | OWN.get(entry.name, {}) | options,
    )


def maps_of(kind):
    """Maps of the net's samples, on the CPU: noise, in which no rank is a near tie."""
    return torch.randn(Case(kind, SEED).inputs.shape, generator=torch.Generator().manual_seed(SEED))
