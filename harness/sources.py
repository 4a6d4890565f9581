"""Models and data as the engine takes them: what registered items give, and what users hand in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

# What is one entry per sample, (N, *units), and may lie on disk: a tensor, or anything whose slices are tensors.
PerSample = Any


@dataclass
class LoadedModel:
    """A module in eval mode, from float batches to logits, and how raw items become its input.

    preprocess    raw item (a PIL image, ...) -> float tensor of one input; None where data are tensors already
    value_range   lowest and highest value of its input space, numbers or tensors (C, 1, 1); None if not known
    classes       the names of its outputs, or None
    wording       how texts become its inputs, for a model of texts
    fillers       what a removed token can become where inputs are embeddings already: name -> (D,); else None
    function      of a model that is, or has learnt, the function which planted data is made with: which one, with its
                  options
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
    """How a model reads a text that ``preprocess`` makes into embeddings (T, D).

    tokens    text -> its tokens as they can be shown, at most T; what follows is padding
    words     text -> which word each of the T tokens belongs to, int64 from 0; all padding, and tokens that no text
              is without, are one last word
    fillers   what a removed token can become: name (``pad``, ``mask``) -> its embedding (D,)
    """

    tokens: Callable[[Any], Sequence[str]]
    words: Callable[[Any], Tensor]
    fillers: Mapping[str, Tensor]


@dataclass
class Data:
    """Samples and what goes with them: what a registered data set gives, and what a user hands in as ``harness.Data``.

    inputs        (N, ...) a float tensor; or any sequence, read one sample at a time: float tensors of one input, or
                  raw items (images, texts) for the model's ``preprocess``
    targets       (N,) int64, the outputs to be explained; None where the protocol's ``target`` chooses them
    labels        (N,) what the data says each sample is: int64 class indices, or float numbers where a single output
                  is to be predicted; None where it says nothing. Without labels, given targets are taken for them
    ids           a readable, unique name per sample; by default its number
    modality      ``image``, ``table``, ``tokens``, ``series`` or ``other``; of a tensor it is told by its axes:
                  (N, C, H, W) is an image, (N, D) a table, (N, T, D) tokens, anything else other
    value_range   lowest and highest value an input can have, numbers or tensors (C, 1, 1), as in LoadedModel
    classes       the names of the classes that labels count, or None
    train         training inputs (R, ...) as tensors, for baselines and background sets, or None
    train_labels  their labels (R,), or None
    masks         (N, *units) bool, where the object is, or None; ``MaskImages`` for masks of raw images
    truth         (N, *units), the known right attribution of each sample's label (of a single output, of the output),
                  or None where nobody knows it
    segments      (N, *units) or (*units) int64, segments of the data's own, numbered from 0, or None
    unit_names    names of the units (columns of a table), or None
    columns       of a table whose columns are several numbers (one-hot): the unit of each number, or None
    fillers       what a removed token of texts (N, T, D) can become: ``pad``, ``mask`` -> (D,); None where the model
                  itself names them, or there are none
    groups        divisions of the samples whose scores are to be compared, like a sensitive attribute: name -> (N,)
    skipped       what could not be read, one line each
    function      the function that ``truth`` is of, as ``LoadedModel.function`` names it; None where it is of any
                  model
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
    """Masks as images of the items' sizes, white (255) where the object is and black elsewhere.

    The engine sends a mask through the model's own preprocessing, as it sends the image, and so a black and a white
    image of that size: a unit is part of the object where the mask lies more than half of the way from black to white.
    That is right for any preprocessing that moves pixels and changes their values by a fixed rule; edges are right to
    half a unit.
    """

    images: Sequence[Image.Image]

    def __len__(self) -> int:
        return len(self.images)


class Images(Sequence):
    """Images as items: each is decoded when it is asked for, from a file or from its encoded bytes."""

    def __init__(self, sources: Sequence[Path | bytes]) -> None:
        self.sources = sources

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Image.Image:
        source = self.sources[index]
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return image
