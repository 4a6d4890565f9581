"""XAI-TRIS: tetrominoes in noise, where it is known which pixels carry the class."""

from collections.abc import Callable
from typing import Annotated, Literal

from harness.datasets._parts import part_of
from harness.datasets.generated_rows import GeneratedRows
from harness.datasets.photo_crops import PHOTOGRAPH_LICENCES
from harness.datasets.tetrominoes import (
    BACKGROUNDS,
    MOST_IMAGES,
    PUBLISHED_SAMPLES,
    RENAMED,
    SIGNAL_WEIGHT,
    SIZES,
    TETROMINO_OPTIONS,
    TetrominoFamily,
    TetrominoOptions,
)
from harness.option_types import InnerShare, Range, Seed
from harness.registry import dataset
from harness.sources import Data

TETROMINO_RANGE = (-1.0, 1.0)
MOST_TRAINING_SAMPLES = {8: 8_000, 64: 1_000}  # that are held in memory, for baselines
FEWEST_IMAGES = 40  # with fewer a part could lack a class


@dataset(
    modality="image",
    source="generated, as Clark, Wilming and Haufe 2023 (2306.12816) describe it",
    licence=f"none needed; natural backgrounds are crops of {PHOTOGRAPH_LICENCES}",
    samples="8x8: 8,000 to train, 1,000 to test; 64x64: 36,000 and 2,000",
    classes="T and L, or equal and opposite signs",
    renamed={**RENAMED, "alpha": "signal", "n": "count"},
)
def xai_tris(
    *,
    planted: TetrominoOptions = TETROMINO_OPTIONS,
    size: Literal[8, 64] = 8,
    signal: InnerShare | None = None,
    count: Annotated[int, Range(FEWEST_IMAGES, MOST_IMAGES)] | None = None,
    split: Literal["test", "train", "validation"] = "test",
    seed: Seed = 0,
) -> Data:
    """Generated images of a T or an L tetromino in a background, with the pixels that carry the class (2306.12816).

    Items (1, size, size) in -1..1 with ``size`` 8 or 64, made when they are accessed from ``seed`` and their own
    number; classes alternate. ``TetrominoOptions`` describes ``scenario`` (linear, multiplicative, rotation, xor) and
    ``backdrop`` (white, correlated, natural). ``signal`` in (0, 1) is the weight of the shape; None is the authors'
    setting, or ours for natural backgrounds of 8 pixels, for which they have none.

    ``count`` is the number of samples in all parts, None for the paper's 10,000 (64 pixels: 40,000). ``split`` is
    ``train`` (80 %; 90 %), ``validation`` or ``test`` (10 % each; 5 %). No image is in two parts, whatever ``count``
    is; natural backgrounds of all parts are crops of the same photographs. Norms and the largest value are those of all
    ``count`` samples.

    ``masks`` and ``truth`` hold the pixels of the shape of each sample under ``rotation``, else those of both shapes:
    the absence of one shape tells the class as well as the presence of the other. They are the pixels that carry the
    class; a model need not use all of them.
    """
    family = family_of(planted, size, signal=signal, count=count, seed=seed)
    chosen = part_of("xai_tris", family.parts, split)
    shown = family.parts["train"][: MOST_TRAINING_SAMPLES[size]]
    return Data(
        ids=[f"{planted.scenario}_{planted.backdrop}_{number:05}" for number in chosen],
        inputs=GeneratedRows(family.inputs, chosen),
        labels=GeneratedRows(family.labels, chosen)[:],
        modality="image",
        value_range=TETROMINO_RANGE,
        classes=planted.classes,
        train=GeneratedRows(family.inputs, shown)[:],
        train_labels=GeneratedRows(family.labels, shown)[:],
        masks=GeneratedRows(family.masks, chosen),
        truth=GeneratedRows(family.truth, chosen),
        function=planted.function_name,
    )


def family_of(
    planted: TetrominoOptions, size: int, *, signal: float | None = None, count: int | None = None, seed: int = 0
) -> TetrominoFamily:
    """The data set with these settings."""
    published = SIGNAL_WEIGHT[size][planted.scenario][BACKGROUNDS.index(planted.backdrop)]
    signal = published if signal is None else signal
    count = PUBLISHED_SAMPLES[size] if count is None else count
    return TetrominoFamily(planted.scenario, planted.backdrop, size, signal, count, seed)


def xai_tris_splitter(planted: TetrominoOptions, size: int) -> Callable[[], dict[str, tuple]]:
    """A function that gives ``train`` and ``test`` -> inputs, labels (k,), for training.

    Inputs of 8x8 images are tensors (k, 1, 8, 8); those of 64x64 images are ``GeneratedRows``.
    """

    def load_split() -> dict[str, tuple]:
        family = family_of(planted, size)
        parts = {}
        for name in ("train", "test"):
            inputs, labels = (GeneratedRows(make, family.parts[name]) for make in (family.inputs, family.labels))
            parts[name] = (inputs[:] if size == min(SIZES) else inputs, labels[:])
        return parts

    return load_split
