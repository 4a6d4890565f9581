"""XAI-TRIS: tetrominoes in noise, where it is known which pixels tell the class."""

from collections.abc import Callable

from harness.datasets._parts import part_of
from harness.datasets._rows import Rows
from harness.datasets._xai_tris import ALPHA, BACKGROUNDS, MOST, SAMPLES, SCENARIOS, SIZES, Family
from harness.errors import UserError, unknown
from harness.registry import dataset
from harness.sources import Data

CLASSES = {"xor": ("equal signs", "opposite signs")}
SHAPES = ("T", "L")
VALUE_RANGE = (-1.0, 1.0)
TRAIN_SHOWN = {8: 8_000, 64: 1_000}  # training samples at most that are held in memory, for baselines
FEWEST = 40  # samples of all parts that leave every part some of both classes


@dataset(
    modality="image",
    source="generated, as Clark, Wilming and Haufe 2023 (2306.12816) describe it",
    licence="none needed; natural backgrounds: public domain, CC0 and CC BY 2.0",
    samples="8x8: 8,000 to train, 1,000 to test; 64x64: 36,000 and 2,000",
    classes="T and L, or equal and opposite signs",
)
def xai_tris(
    *,
    scenario: str = "linear",
    background: str = "white",
    size: int = 8,
    alpha: float | None = None,
    n: int | None = None,
    split: str = "test",
    seed: int = 0,
) -> Data:
    """Generated images of a T or an L tetromino in a background, with the pixels that tell the class (2306.12816).

    Items (1, size, size) in -1..1, of ``size`` 8 or 64 pixels, made when they are asked for, from ``seed`` and their
    own number; classes alternate. ``scenario``:

    - ``linear``          the shape, at a place of its own, is added
    - ``multiplicative``  it darkens the background instead
    - ``rotation``        turned by right angles, at any place, and of half the size in 64 pixels
    - ``xor``             both shapes are there, added or subtracted; the class is whether their signs are equal

    ``background`` is ``white`` noise, the same noise ``correlated`` by a Gaussian, or ``natural``: grey crops of 13
    photographs that come with scikit-image and scikit-learn, in place of the paper's ImageNet. Crops of the training
    and the test part come from the same photographs. ``alpha`` in (0, 1) is the weight of the shape, None the authors'
    setting, or ours for natural backgrounds of 8 pixels, which they do not have.

    ``n`` samples in all, None for the paper's 10,000 (64 pixels: 40,000), of which ``split`` is ``train`` (80 %; 90 %),
    ``validation`` or ``test`` (10 % each; 5 %). Parts have numbers of their own: with no n does the test part hold an
    image that a model was trained on. Norms and the largest value are those of all n. ``masks`` and ``truth``
    hold the pixels of the shape of each sample under ``rotation``, else of both shapes: the absence of one tells the
    class as much as the presence of the other. That is what tells the class, which a model need not use.
    """
    family = family_of(scenario, background, size, alpha=alpha, n=n, seed=seed)
    chosen = part_of("xai_tris", family.parts, split)
    shown = family.parts["train"][: TRAIN_SHOWN[size]]
    return Data(
        ids=[f"{scenario}_{background}_{number:05}" for number in chosen],
        items=Rows(family.inputs, chosen),
        labels=Rows(family.labels, chosen)[:],
        modality="image",
        value_range=VALUE_RANGE,
        classes=classes_of(scenario),
        train=Rows(family.inputs, shown)[:],
        train_labels=Rows(family.labels, shown)[:],
        masks=Rows(family.masks, chosen),
        truth=Rows(family.truth, chosen),
        function=name_of(scenario, background),
    )


def name_of(scenario: str, background: str) -> str:
    """What images are told apart by, which a model must have learnt for their truth to be about it."""
    return f"{scenario} tetrominoes in {background} noise"


def family_of(
    scenario: str, background: str, size: int, *, alpha: float | None = None, n: int | None = None, seed: int = 0
) -> Family:
    """The data set of these settings; UserError, with one line, where there is none."""
    for what, value, choices in (("scenario", scenario, SCENARIOS), ("background", background, BACKGROUNDS)):
        if value not in choices:
            raise unknown(f"{what} of xai_tris", value, choices)
    if size not in SIZES:
        raise UserError(f"size of xai_tris is {size}, expected 8 or 64")
    alpha = ALPHA[size][scenario][BACKGROUNDS.index(background)] if alpha is None else alpha
    if not 0 < alpha < 1:
        raise UserError(f"alpha of xai_tris is {alpha}, expected a number between 0 and 1")
    count = SAMPLES[size] if n is None else n
    if not FEWEST <= count <= MOST:
        raise UserError(f"n of xai_tris is {count}, expected at least {FEWEST} samples for its parts, at most {MOST:,}")
    if seed < 0:
        raise UserError(f"seed of xai_tris is {seed}, expected a whole number from 0")
    return Family(scenario, background, size, alpha, count, seed)


def reader(scenario: str, background: str, size: int) -> Callable[[], dict[str, tuple]]:
    """What gives ``train`` and ``test`` -> inputs, labels (k,): tensors of 8x8 images, and ``Rows`` of 64x64 ones."""

    def load_split() -> dict[str, tuple]:
        family = family_of(scenario, background, size)
        parts = {}
        for name in ("train", "test"):
            inputs, labels = (Rows(make, family.parts[name]) for make in (family.inputs, family.labels))
            parts[name] = (inputs[:] if size == min(SIZES) else inputs, labels[:])
        return parts

    return load_split


def classes_of(scenario: str) -> tuple[str, str]:
    """The names of the two classes."""
    return CLASSES.get(scenario, SHAPES)
