"""Writes the index of saved maps for a report: names, predictions and small copies of the samples."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.engine.sample_words import describe_samples
from harness.engine.stage import Stage
from harness.jobs.plan import Plan
from harness.results.run_files import RunFiles

LONGEST_SIDE = 112  # pixels of an image's longer side, at most


def index_path(plan: Plan) -> Path:
    """The index of a block's maps."""
    return plan.directory / "maps" / f"{plan.name}.json"


def inputs_path(index: Path) -> Path:
    """The small copies of the samples that an index names."""
    return index.with_name(f"{index.stem}-inputs.npy")


def write_index(files: RunFiles, plan: Plan, stage: Stage, count: int, maps: Mapping[str, Path]) -> Path:
    """Write ``maps/<block>.json``: the block, its first samples with their predictions, each explainer's map file."""
    path = index_path(plan)
    entries, names = {each.label: each.entry for each in plan.explainers}, stage.data.unit_names
    files.write_json(
        path,
        {
            "model": plan.model.label,
            "dataset": plan.dataset.label,
            "protocol": plan.protocol.identity,
            "modality": stage.units.modality,
            "samples": describe_samples(stage, count),
            "inputs": _write_inputs(files, inputs_path(path), stage, count),
            "tokens": _token_texts(stage, count),
            "unit_names": None if names is None else [*names],
            "explainers": {
                label: {"file": file.name, "signed": entries[label].signed, "control": entries[label].control}
                for label, file in maps.items()
            },
        },
    )
    return path


def _token_texts(stage: Stage, count: int) -> list[list[str]] | None:
    wording = stage.model.wording
    return None if wording is None else [list(map(str, wording.tokens(stage.data.inputs[i]))) for i in range(count)]


def _write_inputs(files: RunFiles, path: Path, stage: Stage, count: int) -> str | None:
    """Write small copies of the samples into a file and return its name; None for inputs that cannot be displayed."""
    inputs = stage.inputs(slice(0, count))
    displayed = {"image": _image_pixels, "series": _series_values, "table": _column_values}.get(stage.units.modality)
    if displayed is None:
        return None
    files.write_array(path, displayed(stage, inputs))
    return path.name


def _image_pixels(stage: Stage, inputs: Tensor) -> np.ndarray:
    """(S, H, W, 3) in 0..255; channels beyond three are averaged to grey."""
    shown = brightness(stage, inputs)
    shown = shown if shown.shape[1] in (1, 3) else shown.mean(1, keepdim=True)
    scale = min(1.0, LONGEST_SIDE / max(shown.shape[-2:]))
    if scale < 1:
        shown = F.interpolate(shown, scale_factor=scale, mode="bilinear", antialias=True)
    return (shown.clamp(0, 1) * 255).round().byte().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def brightness(stage: Stage, inputs: Tensor) -> Tensor:
    """Images scaled to 0..1 for display, from the declared range of values or, without one, their own range."""
    bounds = stage.model.value_range or stage.data.value_range or (inputs.min(), inputs.max())
    low, high = (torch.as_tensor(bound) for bound in bounds)
    return ((inputs - low) / (high - low)).clamp(0, 1)


def _series_values(stage: Stage, inputs: Tensor) -> np.ndarray:
    return inputs.half().numpy()


def _column_values(stage: Stage, inputs: Tensor) -> np.ndarray:
    """The value of each column (S, U); NaN for columns that several numbers encode."""
    places = stage.data.columns
    if places is None:
        return inputs.half().numpy()
    counts = torch.bincount(torch.tensor(places))
    values = torch.full((len(inputs), len(counts)), float("nan"))
    for place, unit in enumerate(places):
        if counts[unit] == 1:
            values[:, unit] = inputs[:, place]
    return values.half().numpy()
