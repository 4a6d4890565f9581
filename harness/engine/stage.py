"""Prepares model and data for a block: puts the model on the device, fixes the targets, cuts samples into chunks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.checks import (
    check_inputs,
    check_masks,
    check_model,
    check_segments,
    check_targets,
    check_truth,
    class_count,
)
from harness.engine.allocator import give_back_freed_memory
from harness.engine.class_names import with_labels_of_outputs
from harness.engine.clean_outputs import clean_outputs, first_outputs
from harness.engine.cut_texts import tell_cut_texts
from harness.engine.mask_images import PreprocessedMasks, with_preprocessed_masks
from harness.engine.memo import Memo, Shelf
from harness.engine.output_cache import OutputCache
from harness.engine.protocol import DTYPES, Protocol
from harness.engine.reading import check_data, check_part, read_inputs
from harness.engine.targets import chosen_targets
from harness.errors import UserError
from harness.identity import weights_of
from harness.predictor import Predictor, default_chunk
from harness.samples import Samples
from harness.sources import Data, LoadedModel
from harness.units import Units

CHUNK_BYTES = 16 * 2**20  # size of the inputs that are scored together
CACHE_BYTES = 64 * 2**20  # size of preprocessed inputs in memory; beyond it they go into temporary files


@dataclass
class Stage:
    """A model and data on a device, with the targets that the protocol fixes.

    count         number of samples
    chunk_size    number of samples that are scored together
    named         whether the data names its samples; if not, their ids are numbers
    class_count   number of classes in the model's outputs; 1 for a single output
    targets       (N,) int64 on the CPU, the explained class of each sample
    memos         results for each chunk; all use one memory budget, ``shelf``
    cache         preprocessed inputs, masks and word numbers of each chunk
    memo          results for all chunks together
    output_cache  disk cache of model outputs, or None
    """

    model: LoadedModel
    data: Data
    protocol: Protocol
    device: torch.device
    predictor: Predictor
    units: Units
    count: int
    chunk_size: int
    class_count: int
    named: bool
    targets: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    memos: dict[int, Memo] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    cache: Memo = field(default_factory=lambda: Memo(Shelf(CACHE_BYTES)))
    memo: Memo = field(default_factory=lambda: Memo(Shelf()))
    output_cache: OutputCache | None = None

    @property
    def module(self) -> nn.Module:
        """The model itself."""
        return self.model.module

    @cached_property
    def weights(self) -> str:
        """Fingerprint of the model's weights as they were loaded."""
        return weights_of(self.module)

    @cached_property
    def outputs(self) -> Tensor:
        """The model's outputs (N, classes) for the clean inputs, float32 on the CPU; UserError if one is not finite."""
        return torch.cat([clean_outputs(self.predictor, self._inputs(*place)) for place in self._places()])

    def compute_outputs(self) -> Tensor:
        """Compute ``outputs`` now rather than when they are first asked for, and return them."""
        return self.outputs

    @property
    def predictions(self) -> Tensor:
        """The predicted class of each sample (N,); 0 for a single output."""
        single = self.outputs.shape[1] == 1
        return torch.zeros(self.count, dtype=torch.long) if single else self.outputs.argmax(1)

    @property
    def labels(self) -> Tensor | None:
        """The labels of the data; if it has none, its targets."""
        return self.data.targets if self.data.labels is None else self.data.labels

    def _places(self) -> Iterator[tuple[int, slice]]:
        for number, start in enumerate(range(0, self.count, self.chunk_size)):
            yield number, slice(start, min(start + self.chunk_size, self.count))

    def chunks(self) -> Iterator[tuple[slice, Samples]]:
        """All samples, one chunk at a time, each with its slice of the data set."""
        for number, where in self._places():
            yield where, self._samples(number, where)
            if self.count > self.chunk_size:
                # Memory that one chunk has freed is fragmented: the blocks of the next chunk do not fit into it.
                give_back_freed_memory()

    def first(self) -> Tensor:
        """The inputs of the first chunk, on the device."""
        return self._inputs(0, slice(0, min(self.chunk_size, self.count)))

    def inputs(self, where: slice) -> Tensor:
        """The inputs of any samples, on the device of the data."""
        return read_inputs(self.model, self.data, where)

    def _samples(self, number: int, where: slice) -> Samples:
        data, wording = self.data, self.model.wording
        part = lambda values: None if values is None else values[where].to(self.device)
        part_of = lambda name, check: self._checked_part(getattr(data, name), where, check)
        segments = self._words(number, where) if wording else part_of("segments", check_segments)
        preprocessed = isinstance(data.masks, PreprocessedMasks)
        masks = self._masks(number, where) if preprocessed else part_of("masks", check_masks)
        return Samples(
            self._inputs(number, where),
            part(self.targets),
            self.predictor,
            units=self.units,
            seed=self.protocol.seed,
            labels=part(self.labels),
            train=data.train,
            train_labels=data.train_labels,
            unit_names=data.unit_names,
            value_range=self.model.value_range or data.value_range,
            masks=masks,
            truth=part_of("truth", check_truth),
            given_segments=segments,
            places=torch.arange(where.start, where.stop, device=self.device),
            ids=data.ids if self.named else None,
            fillers=(self.model.fillers or data.fillers) if wording is None else wording.fillers,
            memo=self.memos.setdefault(number, Memo(self.shelf)),
            block=self.memo,
            output_cache=self.output_cache,
        )

    def _checked_part(self, values: Any, where: slice, check: Callable[..., Tensor]) -> Tensor | None:
        """A chunk of values per sample, on the device; those that are read from a file are checked now."""
        if values is None or isinstance(values, Tensor):
            return None if values is None else values[where].to(self.device)
        part = check_part(values[where], check, where.stop - where.start, self.units, self.joint_units)
        return part.to(self.device)

    @cached_property
    def joint_units(self) -> Units:
        """The units with their channels together, also where the protocol makes every number a unit."""
        return Units.of(self.inputs(slice(0, 1)), self.units.modality, columns=self.data.columns)

    def _words(self, number: int, where: slice) -> Tensor:
        """The number of the word of each token, for the texts of a chunk; computed once."""
        key = ("words", number)
        if key not in self.cache:
            texts = [self.data.inputs[index] for index in range(where.start, where.stop)]
            self.cache[key] = torch.stack([self.model.wording.words(text) for text in texts])
        return self.cache[key].to(self.device)

    def _masks(self, number: int, where: slice) -> Tensor:
        """The preprocessed masks of a chunk's images; computed once."""
        key = ("masks", number)
        if key not in self.cache:
            self.cache[key] = self.data.masks[where]
        return self.cache[key].to(self.device)

    def _inputs(self, number: int, where: slice) -> Tensor:
        """Inputs of a chunk, on the device; read and preprocessed once, and cached within a memory budget."""
        layout = torch.channels_last if self.predictor.channels_last else torch.preserve_format
        if isinstance(self.data.inputs, Tensor) and self.model.preprocess is None:  # already in memory
            # A copy, so that a metric that changes its inputs does not change the user's tensor.
            return self.inputs(where).to(self.device, memory_format=layout, copy=True)
        if number not in self.cache:
            self.cache[number] = self.inputs(where)
        return self.cache[number].to(self.device, memory_format=layout)


def set_stage(
    model: LoadedModel,
    data: Data,
    protocol: Protocol,
    device: torch.device,
    chunk: int | None = None,
    together: bool = False,
) -> Stage:
    """Put the model on the device, check the data and fix the targets; UserError if they do not fit together.

    ``chunk`` is the number of inputs per forward pass. With ``together`` all samples are one chunk, for data that is in
    memory already.
    """
    if len(data) == 0:
        raise UserError("the data set is empty, expected at least one sample")
    if None not in (model.function, data.function) and model.function != data.function:
        raise UserError(
            f"the data's truth is of {data.function!r}, the model is {model.function!r}; give both the same options, "
            "or take data without its truth (dataset.truth=false, where it has this option)"
        )
    if isinstance(data.inputs, Tensor) and model.preprocess is None:
        check_inputs(data.inputs)
    module = _on_device(check_model(model.module), device)
    first = read_inputs(model, data, slice(0, 1))
    units = Units.of(first, data.modality, elements=protocol.reduction == "none", columns=data.columns)
    named = data.ids is not None
    data = check_data(with_preprocessed_masks(data, model.preprocess), first, units)
    count = min(len(data), protocol.samples or len(data))
    tell_cut_texts(model, data, count, first.shape[1])
    size = count if together else max(1, min(1024, CHUNK_BYTES // max(first.nbytes, 1)))
    predictor = Predictor(module, chunk=chunk or default_chunk(first.to(device)), autocast=DTYPES[protocol.dtype])
    classes = class_count(first_outputs(predictor, first.to(device)))
    data = with_labels_of_outputs(data, model.classes, classes)
    stage = Stage(model, data, protocol, device, predictor, units, count, size, classes, named)
    if stage.labels is not None and classes > 1:
        check_targets(stage.labels[:count], count, classes, what="labels")
    stage.targets = chosen_targets(protocol.target, count, classes, data, lambda: stage.predictions)
    return stage


def _on_device(module: nn.Module, device: torch.device) -> nn.Module:
    """The model on the device; one whose weights its owner has spread over several devices stays as it is."""
    spread = len({parameter.device for parameter in module.parameters()}) > 1
    return module if spread else module.to(device)
