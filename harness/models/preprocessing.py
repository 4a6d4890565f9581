"""How images become a model's inputs: by named presets with settings of one's own, or by a function of the user's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor

from harness.errors import UserError, unknown
from harness.models.state import existing_file
from harness.registry import import_object

Preprocess = Callable[[Any], Tensor]
Range = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Preset:
    """The shorter side is resized to ``size / share``, the middle ``size`` x ``size`` cut out, and scaled.

    mean, std   of the channels, each 0 to 1: as many as there are channels, 1 (grey) or 3
    """

    size: int
    share: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


PRESETS = {
    "imagenet": Preset(224, 0.875, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "plain": Preset(224, 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def preprocessing(name: str | None, size: int | None, mean: Any, std: Any) -> tuple[Preprocess | None, Range | None]:
    """What the options of a model ask for, and what black and white become by it; None where nothing is known.

    ``name`` is a preset of PRESETS, whose size, mean and std may be given, or ``package.module:function``.
    """
    own = {key: value for key, value in (("size", size), ("mean", mean), ("std", std)) if value is not None}
    if name is not None and ":" in name:
        function = import_object(name)
        if own or not callable(function):
            wrong = f"came with {', '.join(own)}, which are of a preset" if own else "is not a function"
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
    function = partial(prepare, _checked(PRESETS[name], own))
    return function, black_and_white(function)


def _checked(preset: Preset, own: dict[str, Any]) -> Preset:
    size = own.get("size", preset.size)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UserError(f"size is {size!r}, expected a number of pixels")
    channels = next((len(own[key]) for key in ("mean", "std") if isinstance(own.get(key), Sequence)), 3)
    scales = {
        key: _per_channel(
            key, own.get(key, getattr(preset, key)[0] if channels == 1 else getattr(preset, key)), channels
        )
        for key in ("mean", "std")
    }
    if min(scales["std"]) <= 0:
        raise UserError(f"std is {own['std']!r}, expected numbers above 0")
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
    """An image as the input (C, size, size) that a preset makes of it."""
    from torchvision.transforms import functional as F

    image = F.resize(image.convert("L" if len(preset.mean) == 1 else "RGB"), round(preset.size / preset.share))
    cut = F.center_crop(image, [preset.size, preset.size])
    return F.normalize(F.to_tensor(cut), list(preset.mean), list(preset.std))


def black_and_white(preprocess: Preprocess) -> Range:
    """What black and white become, (C, 1, 1) each: the ends of the value range of a model of images."""
    black, white = (preprocess(Image.new("RGB", (64, 64), colour)) for colour in ("black", "white"))
    return black.amin((1, 2), keepdim=True), white.amax((1, 2), keepdim=True)


def read_names(path: str | None) -> tuple[str, ...] | None:
    """The names of a model's outputs, from a text file with one a line; None stays None."""
    if path is None:
        return None
    from harness.datasets import _own  # its other helpers need pandas, which models do not

    return _own.read_names(existing_file(path, "classes=FILE, a text file with the name of one output a line"))
