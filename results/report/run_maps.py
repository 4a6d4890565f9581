"""The maps that a run saved for some samples, in the form that the gallery shows; unreadable files are listed.

``maps/<block>.json`` names a model, a data set, a protocol and a modality, its samples, and a file of maps for each
explainer; files of numbers lie beside it.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.places import is_file_name
from harness.results.run_files import RunFiles, name_damage
from harness.seals import Damaged

KEPT_MODALITIES = ("image", "tokens", "series", "table")
# The numbers of axes, the first of which is that of the samples, of maps and of inputs.
AXES = {"image": ((3, 4), (4,)), "tokens": ((2,), ()), "series": ((2, 3), (3,)), "table": ((2,), (2,))}
MOST_SIDE = 8192  # of the map of an image, whose pixels are averaged


@dataclass(frozen=True)
class RunMaps:
    """Maps of one block.

    samples     per sample id, label, prediction, target, confidence
    inputs      (S, H, W, 3) images, (S, C, T) series or (S, U) tables; None where they were not kept
    tokens      per text its tokens, else None
    unit_names  names of a table's columns, else None
    maps        explainer to (S, *units), largest magnitude 1
    signed      explainers whose sign means something
    unread      what could not be read, and why
    """

    modality: str
    samples: list[dict[str, Any]]
    inputs: np.ndarray | None
    tokens: list[list[str]] | None
    unit_names: list[str] | None
    maps: dict[str, np.ndarray]
    signed: frozenset[str]
    unread: list[str] = field(default_factory=list)


def maps_of_block(directory: Path, model: str, dataset: str, protocol: str) -> RunMaps | None:
    """The maps that a run kept of a block; None where it kept none."""
    files = RunFiles(directory)
    for path in sorted((directory / "maps").glob("*.json")):
        about = _read_index(files, path)
        if (
            about
            and about.get("model") == model
            and about.get("dataset") == dataset
            and _same_protocol(about, protocol)
        ):
            return _kept_maps(files, about)
    return None


def _read_index(files: RunFiles, path: Path) -> dict[str, Any] | None:
    try:
        content = files.json(path)
    except Damaged as error:
        name_damage(path, error, "the maps that it names are not shown")
        return None
    return content if isinstance(content.get("samples"), list) else None


def _same_protocol(about: Mapping[str, Any], protocol: str) -> bool:
    """Whether maps were made under a protocol (a mapping or JSON text); maps that name none count as such."""
    their_protocol = about.get("protocol")
    try:
        their_protocol = json.loads(their_protocol) if isinstance(their_protocol, str) else their_protocol
    except ValueError:
        return False
    return not their_protocol or their_protocol == json.loads(protocol)


def _kept_maps(files: RunFiles, about: Mapping[str, Any]) -> RunMaps:
    samples = [each for each in about["samples"] if isinstance(each, dict)]
    modality = about.get("modality") if about.get("modality") in KEPT_MODALITIES else "table"
    unread: list[str] = []
    maps, signed = {}, set()
    for label, entry in _mapping_or_empty(about.get("explainers")).items():
        entry = _mapping_or_empty(entry)
        values = _kept_array(files, entry.get("file"), len(samples), f"maps of {label}", AXES[modality][0], unread)
        if values is not None:
            maps[str(label)] = values.astype(np.float32)
            signed |= {str(label)} if entry.get("signed", True) else set()
    inputs = about.get("inputs") or None
    if inputs is not None:
        inputs = _kept_array(files, inputs, len(samples), "inputs", AXES[modality][1], unread)
    if modality == "image" and inputs is not None and inputs.shape[3] != 3:
        unread.append(f"inputs could not be read: {inputs.shape[3]} colours, expected 3")
        inputs = None
    tokens, names = about.get("tokens"), about.get("unit_names")
    if modality == "tokens" and not (_is_list_of_lists(tokens) and len(tokens) == len(samples)):
        unread.append("tokens could not be read: expected a list of texts for each sample")
        tokens = None
    tokens = [list(map(str, each)) for each in tokens] if modality == "tokens" and tokens else None
    names = names if isinstance(names, list) else None
    return RunMaps(modality, samples, inputs, tokens, names, maps, frozenset(signed), unread)


def _mapping_or_empty(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_list_of_lists(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, list) and each for each in value)


def _kept_array(
    files: RunFiles, name: Any, count: int, what: str, axes: Collection[int], unread: list[str]
) -> np.ndarray | None:
    """An array of a file beside the description; a path to another folder is refused, and a shape that is no map's."""
    try:
        if not is_file_name(name):
            raise ValueError("its file is not named")
        path = files.directory / "maps" / name
        values = files.array(path)
        if values.ndim not in axes or len(values) != count or not values.size or values.dtype.kind not in "fiub":
            raise ValueError(f"{values.dtype} of shape {values.shape}, expected numbers for {count} samples")
        if max(axes) > 2 and max(values.shape[1:]) > MOST_SIDE:
            raise ValueError(f"shape {values.shape}, expected at most {MOST_SIDE} along an axis")
    except (Damaged, ValueError) as error:
        if isinstance(error, Damaged):
            name_damage(path, error, f"the report lacks the {what}")
        unread.append(f"{what} could not be read: {str(error).splitlines()[0]}")
        return None
    return values
