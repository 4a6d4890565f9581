"""Prepares model and data for a block: puts the model on the device, fixes the targets, cuts samples into chunks."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.checks import (
    check_masks,
    check_model,
    check_present,
    check_segments,
    check_truth,
)
from harness.engine.allocator import give_back_freed_memory
from harness.engine.class_names import with_labels_of_outputs
from harness.engine.clean_outputs import clean_outputs, random_difference
from harness.engine.cut_texts import tell_cut_texts
from harness.engine.mask_images import PreprocessedMasks, with_preprocessed_masks
from harness.engine.memo import Memo, Shelf
from harness.engine.model_for_task import model_for_task
from harness.engine.model_wrapping import ModelAndData, carried_for_task, wrap_for_explaining
from harness.engine.output_cache import OutputCache
from harness.engine.padding import with_padding
from harness.engine.pairing import check_pair, names_of_outputs, on_device, same_for_all, units_of_inputs
from harness.engine.present_units import groups_of_units
from harness.engine.protocol import DTYPES, Protocol
from harness.engine.reading import check_data, check_part, read_inputs
from harness.engine.several_inputs import split_inputs
from harness.engine.targets import check_labels, chosen_targets, labels_of_targets, separate_labels, with_target_tensors
from harness.engine.tuning import tune
from harness.identity import weights_of
from harness.predictor import Carried, Predictor, default_chunk, predicted_class
from harness.randomness import sample_keys
from harness.samples import Samples
from harness.sources import Data, LoadedModel
from harness.task import Task
from harness.units import Units

CHUNK_BYTES = 16 * 2**20  # size of the inputs that are scored together
FEW = 4  # inputs of which the model is asked twice
ROUNDING = 1e-4  # share of the largest output: up to it, two calls on a GPU can differ
CACHE_BYTES = 64 * 2**20  # size of preprocessed inputs in memory; beyond it they go into temporary files


@dataclass
class Stage:
    """A model and data on a device, with the targets that the protocol fixes.

    count         number of samples
    chunk_size    number of samples that are scored together
    output_count  number of canonical outputs: classes, labels or numbers
    named         whether the data names its samples; if not, their ids are numbers
    target        which output is explained, as the protocol says it for this model
    targets       (N,) int64 on the CPU, the explained class of each sample
    memos         results for each chunk and pattern of units; all use one memory budget, ``shelf``
    cache         preprocessed inputs, masks and word numbers of each chunk
    memo          results for all chunks together
    output_cache  disk cache of model outputs, or None
    whole_count   number of samples of the stage of which this is a part, or None
    probe         inputs, with what goes along, on which a faster form of the model is tried; by default the first chunk
    """

    model: LoadedModel
    data: Data
    protocol: Protocol
    device: torch.device
    predictor: Predictor
    units: Units
    count: int
    chunk_size: int
    output_count: int
    named: bool
    target: str | int
    targets: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    memos: dict[Hashable, Memo] = field(default_factory=dict)
    shelf: Shelf = field(default_factory=Shelf)
    cache: Memo = field(default_factory=lambda: Memo(Shelf(CACHE_BYTES)))
    memo: Memo = field(default_factory=lambda: Memo(Shelf()))
    output_cache: OutputCache | None = None
    whole_count: int | None = None
    probe: tuple[Tensor, Carried] | None = None

    @property
    def partial(self) -> bool:
        """Whether these are some samples of a larger stage, whose other scores may be defined where none is here."""
        return self.whole_count is not None

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
        run = lambda number, where: clean_outputs(self.predictor, self._inputs(number, where), self._carried(where))
        return torch.cat([run(number, where) for number, where in self._places()])

    @cached_property
    def flags(self) -> list[str]:
        """Warnings about the model, in words, that concern every score."""
        return self._undecided_in_words() + self._randomness_in_words()

    def _undecided_in_words(self) -> list[str]:
        """A warning if classes are explained that the model predicts, and for some samples it predicts none."""
        count = int((self.decisions < 0).sum()) if self.target == "predicted" and self.task.exclusive else 0
        if not count:
            return []
        return [f"the model decides for no class on {count} of {self.count} samples: all outputs are the same there"]

    def _randomness_in_words(self) -> list[str]:
        """A warning if the model's outputs are random; at full precision only."""
        if self.protocol.dtype != "float32":
            return []
        inputs = self.first()[:FEW]
        carried = {name: values[:FEW] for name, values in self.first_carried().items()}
        difference = random_difference(self.predictor, inputs, carried)
        if difference <= ROUNDING:
            return []
        return [
            f"the model's outputs are random: two calls on the same inputs differ by {difference:.1g} of the largest "
            "output (is there a dropout that model.eval() does not stop?)"
        ]

    def fix_targets(self) -> None:
        """Choose the explained output of each sample, as ``target`` says."""
        predictions = lambda: self.predictions
        self.targets = chosen_targets(self.target, self.count, self.output_count, self.data, self.task, predictions)

    def make_ready(self, *, tuned: bool = True, compiled: bool = False) -> None:
        """Compute the outputs by the model itself; if ``tuned``, a faster form with equal outputs scores from then.

        With ``compiled`` torch compiles that form.
        """
        self.compute_outputs()
        if tuned:
            tune(self.predictor, *(self.probe or (self.first(), self.first_carried())), compiled=compiled)

    def compute_outputs(self) -> Tensor:
        """Compute ``outputs`` now rather than when they are first asked for, and return them."""
        return self.outputs

    @property
    def predictions(self) -> Tensor:
        """The predicted class of each sample (N,), or its most likely label; 0 for a single output."""
        single = self.outputs.shape[1] == 1
        return torch.zeros(self.count, dtype=torch.long) if single else self.outputs.argmax(1)

    @property
    def decisions(self) -> Tensor:
        """The class (N,) that the outputs decide for, below 0 where all are the same; one output decides for 0."""
        return predicted_class(self.outputs)

    @property
    def confidences(self) -> Tensor | None:
        """The probability (N,) of each predicted class; None where the model's outputs have none."""
        probabilities = self.task.probabilities(self.outputs)
        return None if probabilities is None else probabilities.amax(1)

    @property
    def task(self) -> Task:
        """The task of the model."""
        return self.predictor.task

    @property
    def ragged(self) -> bool:
        """Whether samples differ in which positions are units, as texts of different length do."""
        return self.model.wording is not None or self.data.present is not None

    @cached_property
    def labels(self) -> Tensor | None:
        """The label (N,) of each sample: a class, or a number for the explained output; None without labels.

        The targets of a classifier without labels count as its labels.
        """
        given = self.data.labels
        if given is None:
            return self.data.targets if self.task.exclusive else None
        return labels_of_targets(given[: self.count].cpu(), self.targets, self.task)

    def _carried(self, where: slice) -> Carried:
        return {name: self._own_copy(values[where]) for name, values in self.data.carried.items()}

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

    def first_carried(self) -> Carried:
        """What goes to the model with the inputs of the first chunk."""
        return self._carried(slice(0, min(self.chunk_size, self.count)))

    def inputs(self, where: slice) -> Tensor:
        """The inputs of any samples, on the device of the data."""
        return read_inputs(self.model, self.data, where)

    def _samples(self, number: int, where: slice) -> Samples:
        data, wording = self.data, self.model.wording
        part = lambda values: None if values is None else self._own_copy(values[where])
        part_of = lambda name, check: self._checked_part(getattr(data, name), where, check)
        segments = self._of_texts("words", number, where) if wording else part_of("segments", check_segments)
        preprocessed = isinstance(data.masks, PreprocessedMasks)
        masks = self._masks(number, where) if preprocessed else part_of("masks", check_masks)
        present = self._of_texts("present", number, where) if wording else part_of("present", check_present)
        inputs = self._inputs(number, where)
        return Samples(
            inputs,
            part(self.targets),
            self.predictor,
            units=self.units,
            seed=self.protocol.seed,
            # Hashes of the inputs: once for all explainers and metrics.
            keys=self._once(("keys", number), lambda: sample_keys(inputs)).to(self.device, copy=True),
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
            present=present,
            carried=self._carried(where),
        )

    def _checked_part(self, values: Any, where: slice, check: Callable[..., Tensor]) -> Tensor | None:
        """A chunk of values per sample, on the device; those that are read from a file are checked now."""
        if values is None or isinstance(values, Tensor):
            return None if values is None else self._own_copy(values[where])
        part = check_part(values[where], check, where.stop - where.start, self.units, self.joint_units)
        return part.to(self.device)

    @cached_property
    def joint_units(self) -> Units:
        """The units with their channels together, also where the protocol makes every number a unit."""
        return Units.of(self.inputs(slice(0, 1)), self.units.modality, columns=self.data.columns)

    def _of_texts(self, what: str, number: int, where: slice) -> Tensor:
        """A fact of each token, a field of ``Wording``, for the texts of a chunk; computed once."""
        read, texts = getattr(self.model.wording, what), (self.data.inputs[i] for i in range(where.start, where.stop))
        return self._own_copy(self._once((what, number), lambda: torch.stack([read(text) for text in texts])))

    def groups(self, number: int, samples: Samples) -> list[tuple[Tensor, Samples]]:
        """The samples of a chunk as rows (n,) and samples of their units alone, for each pattern of units."""
        memo = lambda pattern: self.memos.setdefault((number, pattern), Memo(self.shelf))
        block = lambda pattern: self.memos.setdefault(pattern, Memo(self.shelf))
        return groups_of_units(samples, lambda pattern: (memo(pattern), block(pattern)))

    def _masks(self, number: int, where: slice) -> Tensor:
        """The preprocessed masks of a chunk's images; computed once."""
        return self._own_copy(self._once(("masks", number), lambda: self.data.masks[where]))

    def _inputs(self, number: int, where: slice) -> Tensor:
        """Inputs of a chunk, on the device; read and preprocessed once, and cached within a memory budget."""
        layout = torch.channels_last if self.predictor.channels_last else torch.preserve_format
        in_memory = isinstance(self.data.inputs, Tensor) and self.model.preprocess is None
        inputs = self.inputs(where) if in_memory else self._once(number, lambda: self.inputs(where))
        return inputs.to(self.device, memory_format=layout, copy=True)

    def _own_copy(self, values: Tensor) -> Tensor:
        """Values on the device, in memory of their own: a metric may change its inputs, and these are kept."""
        return values.to(self.device, copy=True)

    def _once(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        """The result of ``compute()``, which is called once per key; cached within a memory budget."""
        if key not in self.cache:
            self.cache[key] = compute()
        return self.cache[key]


def set_stage(
    model: LoadedModel,
    data: Data,
    protocol: Protocol,
    device: torch.device,
    chunk: int | None = None,
    together: bool = False,
    undecided: bool = False,
    whole: bool = True,
) -> Stage:
    """Put the model on the device, check the data and fix the targets; UserError if they do not fit together.

    ``chunk`` is the number of inputs per forward pass. With ``together`` all samples are one chunk, for data that is in
    memory already. With ``undecided``, axes that can mean several things are no error before something depends on it.
    Without ``whole`` the targets are not fixed: of a stage that is cut, those of other samples are never needed.
    """
    check_pair(model, data)
    model = replace(model, module=on_device(check_model(model.module), device))
    data, call = split_inputs(data, model.module, carried_for_task(model, data))
    data = with_preprocessed_masks(with_target_tensors(data), model.preprocess)
    count = min(len(data), protocol.samples or len(data))
    wrapped = wrap_for_explaining(ModelAndData(model, data, call, protocol.target), count, device)
    model, data, target = wrapped.model, wrapped.data, wrapped.target
    first = read_inputs(model, data, slice(0, 1))
    units = units_of_inputs(first, data, protocol.reduction == "none", undecided)
    named = data.ids is not None
    data = with_padding(check_data(separate_labels(data), first, units), count)
    tell_cut_texts(model, data, count, first.shape[1])
    size = count if together else max(1, min(1024, CHUNK_BYTES // max(first.nbytes, 1)))
    read = lambda number: first if number == 1 else read_inputs(model, data, slice(0, number))
    adapted = model_for_task(model, data, wrapped.call, read, device)
    model, task, outputs = replace(model, module=adapted.module), adapted.task, adapted.output_count
    if task.exclusive or task.independent:
        data = with_labels_of_outputs(data, names_of_outputs(model, outputs), outputs)
    data = check_labels(data, task, outputs, one_output=same_for_all(target, data.targets))
    rows = chunk or default_chunk(first.to(device))
    predictor = Predictor(model.module, chunk=rows, autocast=DTYPES[protocol.dtype], task=task)
    stage = Stage(model, data, protocol, device, predictor, units, count, size, outputs, named, target)
    if whole:
        stage.fix_targets()
    return stage
