"""Facts about a model and data together that a stage is made of: their units, output names and device."""

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.sources import Data, LoadedModel
from harness.units import UndecidedUnits, Units


def units_of_inputs(first: Tensor, data: Data, elements: bool, undecided: bool) -> Units | UndecidedUnits:
    """The units of inputs like ``first`` (1, ...); with ``undecided`` also where their axes can mean several things."""
    try:
        return Units.of(first, data.modality, elements=elements, columns=data.columns)
    except UserError as question:
        if not undecided or data.modality is not None:
            raise
        return UndecidedUnits(tuple(first.shape[1:]), question)


def check_pair(model: LoadedModel, data: Data) -> None:
    """UserError for no samples, and for data whose truth is that of another function than the model."""
    if len(data) == 0:
        raise UserError("the data set is empty, expected at least one sample")
    if None not in (model.function, data.function) and model.function != data.function:
        raise UserError(
            f"the data's truth is of {data.function!r}, the model is {model.function!r}; give both the same options, "
            "or take data without its truth (dataset.truth=false, where it has this option)"
        )


def names_of_outputs(model: LoadedModel, outputs: int) -> tuple[str, ...] | None:
    """The names of the canonical outputs; None for a name of the one output that has become two."""
    one_of_two = outputs == 2 and model.classes is not None and len(model.classes) == 1
    return None if one_of_two else model.classes


def same_for_all(choice: str | int, targets: Tensor | None) -> bool:
    """Whether the same output is explained for all samples."""
    return isinstance(choice, int) or (choice == "given" and targets is not None and len(targets.unique()) == 1)


def on_device(module: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device; one whose weights its owner has spread over several devices stays as it is."""
    spread = len({parameter.device for parameter in module.parameters()}) > 1
    return module if spread else module.to(device)
