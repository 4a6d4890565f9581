"""Models and data in the form that the engine takes: ``LoadedModel`` and ``Data``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

# One entry per sample, (N, *units): a tensor, or an object whose slices are tensors, such as a file on disk.
PerSample = Any


@dataclass
class LoadedModel:
    """A module in eval mode that maps float batches to logits, and how raw items become its inputs.

    preprocess    raw item (a PIL image, ...) -> float tensor of one input; None if data are tensors already
    value_range   lowest and highest value of its input space, numbers or tensors (C, 1, 1); None if not known
    classes       the names of its outputs, or None
    wording       how texts become its inputs, for a model of texts
    fillers       embeddings that can replace a removed token if inputs are embeddings already: name -> (D,); else None
    function      name and options of the function that generates the synthetic data, for a model that is this function
                  or was trained to fit it; else None
    """

    module: nn.Module
    preprocess: Callable[[Any], Tensor] | None = None
    value_range: tuple[Any, Any] | None = None
    classes: tuple[str, ...] | None = None
    wording: "Wording | None" = None
    fillers: Mapping[str, Tensor] | None = None
    function: str | None = None


@dataclass(frozen=True)
class Wording:
    """How a model reads a text that ``preprocess`` turns into embeddings (T, D).

    tokens    text -> its tokens for display, at most T; the remaining positions are padding
    words     text -> the number of the word that each of the T tokens belongs to, int64 from 0; padding and the special
              tokens of every text share the last number
    fillers   embeddings that can replace a removed token: name (``pad``, ``mask``) -> (D,)
    """

    tokens: Callable[[Any], Sequence[str]]
    words: Callable[[Any], Tensor]
    fillers: Mapping[str, Tensor]


@dataclass
class Data:
    """Samples and what goes with them: the result of a registered data set, and ``harness.Data`` for users.

    inputs        (N, ...) a float tensor; or a sequence that is read one sample at a time, of float tensors or of raw
                  items (images, texts) for the model's ``preprocess``
    targets       (N,) int64, the outputs to explain; None if the protocol's ``target`` chooses them
    labels        (N,) the label of each sample: an int64 class index, or a float number if the model has a single
                  output; or None. Without labels, the targets are used as labels
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
    """

    inputs: Sequence[Any]
    targets: Tensor | None = None
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

    def __len__(self) -> int:
        return len(self.inputs)


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
    """A sequence of images; each is decoded when it is indexed, from a file or from its encoded bytes."""

    def __init__(self, sources: Sequence[Path | bytes]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Image.Image:
        source = self.sources[index]
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return image
