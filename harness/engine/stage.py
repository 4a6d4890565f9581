"""Model and data made ready for a block: loaded once, targets fixed, cut into chunks of samples."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness.checks import check_inputs, check_model, check_targets, class_count, first_line, settings
from harness.engine.allocator import give_back_freed_memory
from harness.engine.mask_images import SeenMasks, with_masks_seen
from harness.engine.memo import Memo, Shelf
from harness.engine.output_cache import OutputCache
from harness.errors import NotApplicable, UserError, one_line, unknown
from harness.identity import weights_of
from harness.predictor import Predictor, default_chunk
from harness.samples import Samples
from harness.sources import Data, LoadedModel
from harness.units import REDUCTIONS, Units

DTYPES = {"float32": None, "tf32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
CHUNK_BYTES = 16 * 2**20  # of the inputs that are scored together
CACHE_BYTES = 64 * 2**20  # of inputs kept in memory; beyond it they lie, preprocessed, in a temporary file


@dataclass(frozen=True)
class Protocol:
    """Everything that changes a score and is neither model, data, explainer nor metric option.

    samples         how many samples, the first ones of the data set; None for all
    seed            of every random draw
    target          the explained class: ``predicted``, ``label``, or a class index
    dtype           ``float32``, ``tf32`` (matrix units of a GPU), or mixed precision ``bfloat16`` or ``float16``
    reduction       of channels to one number per unit: ``sum`` (signed), ``abs_sum``, ``max_abs``, ``l2``, or ``none``
    explain_batch   samples per call of an explainer
    """

    samples: int | None = None
    seed: int = 0
    target: str | int = "predicted"
    dtype: str = "float32"
    reduction: str = "sum"
    explain_batch: int = 10

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("protocol.dtype", self.dtype, DTYPES)
        if self.reduction not in (*REDUCTIONS, "none"):
            raise unknown("protocol.reduction", self.reduction, (*REDUCTIONS, "none"))
        if self.target not in ("predicted", "label") and not isinstance(self.target, int):
            raise UserError(f"protocol.target is {self.target!r}, expected predicted, label or a class index")
        for name, least in (("samples", 1), ("explain_batch", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise UserError(f"protocol.{name} is {value!r}, expected a whole number from {least}")

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Protocol":
        """A protocol from a mapping of its settings."""
        return settings(cls, "protocol", given)


@dataclass
class Stage:
    """A model and data on a device, with the targets that the protocol fixes.

    predictions   (N,) the class the model gives each sample
    targets       (N,) the class that is explained
    """

    model: LoadedModel
    data: Data
    protocol: Protocol
    device: torch.device
    predictor: Predictor
    units: Units
    count: int
    chunk_size: int
    predictions: Tensor
    targets: Tensor
    outputs: Tensor
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

    def chunks(self) -> Iterator[tuple[slice, Samples]]:
        """All samples, a chunk at a time, with which of them it holds."""
        for number, start in enumerate(range(0, self.count, self.chunk_size)):
            where = slice(start, min(start + self.chunk_size, self.count))
            yield where, self._samples(number, where)
            if self.count > self.chunk_size:
                # What one chunk leaves behind in the heap is in pieces into which the next one's blocks do not fit.
                give_back_freed_memory()

    def first(self) -> Tensor:
        """The inputs of the first chunk, on the device."""
        return self._inputs(0, slice(0, min(self.chunk_size, self.count)))

    def inputs(self, where: slice) -> Tensor:
        """The inputs of any samples, on the CPU."""
        return read_inputs(self.model, self.data, where)

    def _samples(self, number: int, where: slice) -> Samples:
        data, wording = self.data, self.model.wording
        mine = lambda values: None if values is None else values[where].to(self.device)
        segments = self._words(number, where) if wording else mine(data.segments)
        return Samples(
            self._inputs(number, where),
            mine(self.targets),
            self.predictor,
            units=self.units,
            seed=self.protocol.seed,
            labels=mine(data.labels),
            train=data.train,
            train_labels=data.train_labels,
            unit_names=data.unit_names,
            value_range=self.model.value_range or data.value_range,
            masks=self._seen_masks(number, where) if isinstance(data.masks, SeenMasks) else mine(data.masks),
            truth=mine(data.truth),
            given_segments=segments,
            places=torch.arange(where.start, where.stop, device=self.device),
            ids=data.ids,
            fillers=self.model.fillers if wording is None else wording.fillers,
            memo=self.memos.setdefault(number, Memo(self.shelf)),
            block=self.memo,
            output_cache=self.output_cache,
        )

    def _words(self, number: int, where: slice) -> Tensor:
        """Which word each token of a chunk's texts belongs to, read once."""
        key = ("words", number)
        if key not in self.cache:
            texts = [self.data.items[index] for index in range(where.start, where.stop)]
            self.cache[key] = torch.stack([self.model.wording.words(text) for text in texts])
        return self.cache[key].to(self.device)

    def _seen_masks(self, number: int, where: slice) -> Tensor:
        """The masks of a chunk's images as the model sees them, preprocessed once."""
        key = ("masks", number)
        if key not in self.cache:
            self.cache[key] = self.data.masks[where]
        return self.cache[key].to(self.device)

    def _inputs(self, number: int, where: slice) -> Tensor:
        """Inputs of a chunk, on the device; read and preprocessed once, and kept without growing in memory."""
        if number not in self.cache:
            self.cache[number] = read_inputs(self.model, self.data, where)
        layout = torch.channels_last if self.predictor.channels_last else torch.preserve_format
        return self.cache[number].to(self.device, memory_format=layout)


def set_stage(
    model: LoadedModel, data: Data, protocol: Protocol, device: torch.device, chunk: int | None = None
) -> Stage:
    """Put model and data on the device and fix the targets; raises one line on what does not fit."""
    if len(data) == 0:
        raise UserError("the data set is empty, expected at least one sample")
    if None not in (model.function, data.function) and model.function != data.function:
        raise UserError(
            f"the data's truth is of {data.function!r}, the model is {model.function!r}; give both the same options, "
            "or take data without its truth (dataset.truth=false, where it has this option)"
        )
    data = with_masks_seen(data, model.preprocess)
    module = check_model(model.module).to(device)
    count = min(len(data), protocol.samples or len(data))
    first = read_inputs(model, data, slice(0, 1))
    size = max(1, min(1024, CHUNK_BYTES // max(first.nbytes, 1)))
    predictor = Predictor(module, chunk=chunk or default_chunk(first.to(device)), autocast=DTYPES[protocol.dtype])
    units = Units.of(first, data.modality, elements=protocol.reduction == "none", columns=data.columns)
    nothing = torch.empty(0, dtype=torch.long)
    stage = Stage(model, data, protocol, device, predictor, units, count, size, nothing, nothing, nothing)
    first_outputs(predictor, first.to(device))
    stage.outputs = torch.cat([_outputs(stage, samples) for _, samples in _untargeted(stage)])
    stage.predictions = stage.outputs.argmax(1) if stage.outputs.shape[1] > 1 else torch.zeros(count, dtype=torch.long)
    stage.targets = _targets(stage)
    return stage


def read_inputs(model: LoadedModel, data: Data, where: slice) -> Tensor:
    """Inputs of some samples, as the model takes them, on the CPU."""
    tensors = [_read_one(model, data, index) for index in range(where.start, where.stop)]
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        raise UserError(
            f"inputs have different shapes, {' and '.join(map(str, sorted(shapes)[:2]))}, expected one shape"
        )
    return check_inputs(torch.stack(tensors))


def _read_one(model: LoadedModel, data: Data, index: int) -> Tensor:
    try:
        item = data.items[index]
        tensor = model.preprocess(item) if model.preprocess else item
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"sample {data.ids[index]!r} cannot be read or preprocessed: {one_line(error)}") from error
    if not isinstance(tensor, Tensor):
        raise NotApplicable(f"the data holds {type(item).__name__} and the model has no preprocessing for it")
    return tensor


def first_outputs(predictor: Predictor, one: Tensor) -> Tensor:
    """The outputs for a single input, or NotApplicable where the model does not take its shape.

    On one input little else can go wrong: what fails later, for want of memory say, is a failure.
    """
    try:
        return predictor.logits(one)
    except UserError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        shape = tuple(one.shape[1:])
        raise NotApplicable(f"the model does not take inputs of shape {shape}: {first_line(error)}") from None


def _untargeted(stage: Stage) -> Iterator[tuple[slice, Samples]]:
    stage.targets = torch.zeros(stage.count, dtype=torch.long)
    yield from stage.chunks()


def _outputs(stage: Stage, samples: Samples) -> Tensor:
    outputs = stage.predictor.logits(samples.inputs).cpu()
    if not outputs.isfinite().all():
        raise UserError("the model's outputs for clean inputs hold NaN or infinite values")
    return outputs if outputs.dim() == 2 else outputs.unsqueeze(1)


def _targets(stage: Stage) -> Tensor:
    classes, wanted = class_count(stage.outputs), stage.protocol.target
    if stage.data.labels is not None and stage.outputs.shape[1] > 1:
        check_targets(stage.data.labels[: stage.count], stage.count, classes, what="labels")
    if wanted == "predicted" or (wanted == "label" and classes == 1):  # a single output is all there is to explain
        return stage.predictions
    if wanted == "label":
        if stage.data.labels is None:
            raise UserError("protocol.target is label, but the data has no labels; use target=predicted")
        return check_targets(stage.data.labels[: stage.count], stage.count, classes, what="labels")
    return check_targets(torch.full((stage.count,), wanted), stage.count, classes, what="protocol.target")


@contextmanager
def precision(dtype: str) -> Iterator[None]:
    """Full float32 on the GPU unless the protocol asks for TF32; the user's own setting comes back afterwards."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32" if dtype == "tf32" else "ieee"
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.fp32_precision = value
