"""Models and data in the form that the engine takes: ``LoadedModel`` and ``Data``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor, nn

from harness.photographs import open_upright

# One entry per sample, (N, *units): a tensor, or an object whose slices are tensors, such as a file on disk.
PerSample = Any


@dataclass
class LoadedModel:
    """A model with what the engine has to know about it: how raw items become inputs, and what its outputs are.

    module        a module in eval mode that is called with float batches (N, ...); an estimator or a function on NumPy
                  arrays becomes one (``harness.models.black_box``)
    preprocess    raw item (a PIL image, ...) -> float tensor of one input; None if data are tensors already
    value_range   lowest and highest value of its input space, numbers or tensors (C, 1, 1); None if not known
    classes       the names of its outputs, or None
    wording       how texts become its inputs, for a model of texts
    fillers       embeddings that can replace a removed token if inputs are embeddings already: name -> (D,); else None
    function      name and options of the function that generates the synthetic data, for a model that is this function
                  or was trained to fit it; else None
    task          what the outputs are (``harness.task``), or None if that follows from outputs and labels
    output        which of several outputs is explained: a key, an attribute or an index; None if there is one, or one
                  called ``logits`` or ``out``
    embedding     the name of the layer that embeds token ids, for a model of token ids; None if there is only one
    """

    module: nn.Module
    preprocess: Callable[[Any], Tensor] | None = None
    value_range: tuple[Any, Any] | None = None
    classes: tuple[str, ...] | None = None
    wording: "Wording | None" = None
    fillers: Mapping[str, Tensor] | None = None
    function: str | None = None
    task: str | None = None
    output: str | int | None = None
    embedding: str | None = None


@dataclass(frozen=True)
class Wording:
    """How a model reads a text that ``preprocess`` turns into embeddings (T, D).

    tokens    text -> its tokens for display, at most T; the remaining positions are padding
    words     text -> the number of the word that each of the T tokens belongs to, int64 from 0; padding and the special
              tokens of every text share the last number
    present   text -> which of the T positions are units, bool: tokens of the text, no special tokens and no padding
    fillers   embeddings that can replace a removed token: name (``pad``, ``mask``) -> (D,)
    length    text -> the number of its tokens before it is cut to T, special tokens included; None if it is not known
    carried   text -> what goes to the module with its embeddings, name -> (T,): the token ids, called ``ids``, and the
              attention mask; None for a module of embeddings alone
    """

    tokens: Callable[[Any], Sequence[str]]
    words: Callable[[Any], Tensor]
    present: Callable[[Any], Tensor]
    fillers: Mapping[str, Tensor]
    length: Callable[[Any], int] | None = None
    carried: Callable[[Any], Mapping[str, Tensor]] | None = None


@dataclass
class Data:
    """Samples and what goes with them: the result of a registered data set, and ``harness.Data`` for users.

    inputs        (N, ...) a float tensor or NumPy array; a sequence that is read one sample at a time, of float tensors
                  or of raw items (images, texts) for the model's ``preprocess``; or several inputs of the model, a
                  tuple or dict of tensors, of which ``explained`` says which one is explained
    targets       (N,) int64, the output to explain for each sample, or one number for all; None if the protocol's
                  ``target`` chooses them, or if the model has one output. Float numbers (N,) or (N, K), and rows of 0
                  and 1 (N, K), are labels
    labels        (N,) the label of each sample: a class index, or a float number of a regression; (N, K) for a model of
                  several labels or numbers; or None. Without labels, the targets of a classifier are used as labels
    ids           a readable, unique name per sample; by default its number
    modality      ``image``, ``table``, ``tokens``, ``series``, ``volume`` or ``other`` (``harness.modalities``); by
                  default (N, C, H, W) is an image and (N, D) a table; other shapes have several meanings and need it
    value_range   lowest and highest value an input can have, numbers or tensors (C, 1, 1), as in LoadedModel
    classes       the names of the classes, in the order of the class indices, or None
    train         training inputs (R, ...) as tensors, for baselines and background sets, or None
    train_labels  labels (R,) of the training inputs, or None
    masks         (N, *units) bool, True on the object, or None; ``MaskImages`` for masks of raw images
    truth         (N, *units) the true attribution for each sample's label, or for a single output; None if not known
    segments      (N, *units) or (*units) int64, the data's own segments, numbered from 0, or None
    unit_names    names of the units (columns of a table), or None
    columns       for a table with columns of several numbers (one-hot): the column of each number; else None
    fillers       embeddings that can replace a removed token of texts (N, T, D): ``pad``, ``mask`` -> (D,); None if the
                  model has its own, or there are none
    groups        groupings of the samples whose scores are compared, such as a sensitive attribute: name -> (N,)
    skipped       one line for each sample that could not be read
    function      the function that ``truth`` holds for, as in ``LoadedModel.function``; None if it holds for any model
    task          what the model's outputs are (``harness.task``), or None if that follows from outputs and labels
    explained     which of several inputs is explained, a key or an index of them; the others are carried
    carried       what goes to the model with each sample and is not explained: a keyword of the model's ``forward``, or
                  a position among its arguments -> (N, ...)
    present       (N, *units) bool, False where a position is no unit of the input: padding and special tokens of texts.
                  Such positions stay as they are and have no attribution; None if all are units
    special       for inputs of token ids, the ids of tokens that are no units, such as those of start, end and padding;
                  None for those that the model names, in its configuration or its embedding layer
    region        for segmentation, where the logit of a class is averaged: ``prediction``, where the class is predicted
                  (the default), ``masks``, points (N, 2) as row and column, or (N, H, W) bool
    """

    inputs: Any
    targets: Any = None
    _: KW_ONLY
    labels: Tensor | None = None
    ids: Sequence[str] | None = None
    modality: str | None = None
    value_range: tuple[Any, Any] | None = None
    classes: tuple[str, ...] | None = None
    train: Tensor | None = None
    train_labels: Tensor | None = None
    masks: PerSample | None = None
    truth: PerSample | None = None
    segments: PerSample | None = None
    unit_names: tuple[str, ...] | None = None
    columns: tuple[int, ...] | None = None
    fillers: Mapping[str, Tensor] | None = None
    groups: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    function: str | None = None
    task: str | None = None
    explained: str | int | None = None
    carried: Mapping[str | int, Tensor] = field(default_factory=dict)
    present: PerSample | None = None
    special: tuple[int, ...] | None = None
    region: Any = None

    def __len__(self) -> int:
        if isinstance(self.inputs, Mapping):
            return len(next(iter(self.inputs.values())))
        return len(self.inputs[0]) if several_tensors(self.inputs) else len(self.inputs)


def several_tensors(inputs: Any) -> bool:
    """Whether these are several inputs of a model, a tuple of tensors or arrays, and no sequence of samples."""
    return isinstance(inputs, tuple) and bool(inputs) and all(isinstance(each, Tensor | np.ndarray) for each in inputs)


@dataclass(frozen=True)
class MaskImages:
    """Masks as images of the items' sizes, white (255) on the object and black elsewhere.

    The engine preprocesses a mask as the model preprocesses the image, and does the same with a black and a white image
    of that size. A unit is part of the object if the result is closer to that of white than to that of black. This is
    right for any preprocessing that moves pixels and maps their values by a fixed rule; edges are right to half a unit.
    """

    images: Sequence[Image.Image]

    def __len__(self) -> int:
        return len(self.images)


class Images(Sequence):
    """A sequence of images, from files or from encoded bytes; each is decoded and stands upright when it is indexed."""

    def __init__(self, sources: Sequence[Path | bytes]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Image.Image:
        return open_upright(self.sources[index])
