"""How images become a model's inputs: by a named preset, whose settings can be changed, or by the user's function."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor

from harness.datasets.own_files import read_class_names
from harness.errors import UserError, unknown
from harness.models.state import existing_file
from harness.option_types import Positive, Real, Size
from harness.options import import_object
from harness.photographs import upright

Preprocess = Callable[[Any], Tensor]
Range = tuple[Tensor, Tensor]
NumbersPerChannel = float | Sequence[float] | None


@dataclass(frozen=True)
class Preset:
    """Settings of a preprocessing: resize the shorter side, crop the middle, standardise the channels.

    size   side of the crop in pixels
    share  the shorter side is resized to ``size / share``
    mean   of each channel, for values 0 to 1; one number makes images grey, three are for RGB
    std    standard deviation of each channel, likewise
    """

    size: int
    share: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


PRESETS = {
    "imagenet": Preset(224, 0.875, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "plain": Preset(224, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


@dataclass(frozen=True)
class PreprocessingOptions:
    """Options of the models that the user brings.

    preprocess  how an item of the data set becomes an input: ``imagenet`` (shorter side to 256, the middle 224 pixels,
                the usual mean and standard deviation); ``plain`` (values 0 to 1); ``package.module:function``, the
                user's own function; or None, where the data set gives tensors
    size        side of the input in pixels, instead of the preset's
    mean        mean of the channels, instead of the preset's: one number, or a list with one per channel
    std         standard deviation of the channels, likewise
    classes     a text file with the name of one output a line
    """

    preprocess: str | None = None
    size: Size | None = None
    mean: Real | Sequence[Real] | None = None
    std: Positive | Sequence[Positive] | None = None
    classes: str | None = None


PREPROCESSING = PreprocessingOptions()


def preprocessing(options: PreprocessingOptions) -> tuple[Preprocess | None, Range | None]:
    """The preprocessing that the options ask for, and the value range of its results, None where it is not known."""
    name = options.preprocess
    own = {key: getattr(options, key) for key in ("size", "mean", "std") if getattr(options, key) is not None}
    if name is not None and ":" in name:
        function = import_object(name)
        if own or not callable(function):
            wrong = f"came with {', '.join(own)}, which only a preset has" if own else "is not a function"
            raise UserError(f"preprocess {name} {wrong}; expected package.module:function or {' or '.join(PRESETS)}")
        return function, None
    if name is None and own:
        raise UserError(
            f"{', '.join(own)} came without preprocess, expected preprocess={' or preprocess='.join(PRESETS)}"
        )
    if name is None:
        return None, None
    if name not in PRESETS:
        raise unknown("preprocess", name, PRESETS)
    function = partial(prepare, _preset_with(PRESETS[name], own))
    return function, black_and_white(function)


def _preset_with(preset: Preset, own: dict[str, Any]) -> Preset:
    size = own.get("size", preset.size)
    channels = next((len(own[key]) for key in ("mean", "std") if isinstance(own.get(key), Sequence)), 3)
    scales = {
        key: _per_channel(
            key, own.get(key, getattr(preset, key)[0] if channels == 1 else getattr(preset, key)), channels
        )
        for key in ("mean", "std")
    }
    return replace(preset, size=size, **scales)


def _per_channel(key: str, value: Any, channels: int) -> tuple[float, ...]:
    values = (value,) * channels if isinstance(value, int | float) else value
    good = isinstance(values, Sequence) and all(isinstance(each, int | float) for each in values)
    if not good or channels not in (1, 3) or len(values) != channels:
        raise UserError(
            f"{key} is {value!r}, expected a number, a list of three for RGB, or mean and std of one for grey"
        )
    return tuple(float(each) for each in values)


def prepare(preset: Preset, image: Image.Image) -> Tensor:
    """An image, upright as viewers show it, as an input (C, size, size), by the settings of a preset."""
    from torchvision.transforms import functional as F

    image = F.resize(upright(image).convert("L" if len(preset.mean) == 1 else "RGB"), round(preset.size / preset.share))
    cut = F.center_crop(image, [preset.size, preset.size])
    return F.normalize(F.to_tensor(cut), list(preset.mean), list(preset.std))


def black_and_white(preprocess: Preprocess) -> Range:
    """What black and white images become, (C, 1, 1) each: lowest and highest values of a model's input space."""
    black, white = (preprocess(Image.new("RGB", (64, 64), colour)) for colour in ("black", "white"))
    return black.amin((1, 2), keepdim=True), white.amax((1, 2), keepdim=True)


def output_names(classes: str | None) -> tuple[str, ...] | None:
    """The names of a model's outputs in the text file of the option ``classes``, one a line; None for None."""
    if classes is None:
        return None
    return read_class_names(existing_file(classes, "classes=FILE, a text file with the name of one output a line"))
