"""Named baselines, the values that replace removed units, in the model's input space (after normalisation).

A baseline maps inputs to tensors of the inputs' shape. Random baselines (``uniform_noise``, ``gaussian_noise``,
``train_sample``, ``resampled``) depend on seed, sample and draw number, so that all explainers and metrics get the same
ones.
``typical`` is the default of all metrics that remove units, and ``typical_or_zero`` of explainers, unless their paper
fixes another: one baseline per kind of input, so that scores of different metrics can be compared.
Baselines that depend on the remaining units (``noisy_linear``, ``inpaint``, ``vae``, ``drop``) are in
``harness.removal.infilling``.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import NotApplicable, UserError, unknown
from harness.messages import say
from harness.randomness import integers, normal, uniform
from harness.removal.infilling import DRAWING, INFILLINGS, is_infilling
from harness.removal.originals import Originals
from harness.removal.scales import mean_and_deviation
from harness.removal.token_drop import filler

ZERO_FOR_TYPICAL = (
    "explainers replace removed units by zero, since there are no training inputs to take the mean of; give train=, or "
    "say baseline=zero"
)
NOISE_FOR_RESAMPLED = (
    "units are resampled uniformly from the data's range of values, since there are no training inputs to draw from; "
    "give train="
)
# The names of all baselines and in-fillings, and of the random baselines alone.
BaselineName = Literal[
    "typical",
    "typical_or_zero",
    "zero",
    "black",
    "mean",
    "train_mean",
    "blur",
    "uniform_noise",
    "gaussian_noise",
    "train_sample",
    "resampled",
    "pad",
    "mask",
    "inpaint",
    "noisy_linear",
    "vae",
    "drop",
]
RandomBaseline = Literal["uniform_noise", "gaussian_noise", "train_sample", "resampled"]
RANDOM = get_args(RandomBaseline)
BASELINES: dict[str, Callable[[Originals, int], Tensor]] = {}


def make_baseline(originals: Originals, chosen: str | Tensor, draw: int = 0) -> Tensor:
    """The baseline (N, ...) of ``originals``: a name of BASELINES, or a tensor of one input's shape."""
    if isinstance(chosen, Tensor):
        return _fixed_baseline(originals, chosen)
    if is_infilling(chosen):
        raise NotApplicable(f"baseline {chosen} depends on the units that remain; a fixed input is needed here")
    if chosen not in BASELINES:
        raise unknown("baseline", chosen, (*BASELINES, *INFILLINGS))
    return BASELINES[chosen](originals.joint(), draw)  # per channel, even if every channel is a unit


def is_random(chosen: str | Tensor) -> bool:
    """Whether this baseline or in-filling is random, so that another draw gives other values."""
    return isinstance(chosen, str) and chosen in (*RANDOM, *DRAWING)


def _baseline(function: Callable) -> Callable:
    BASELINES[function.__name__] = function
    return function


def _fixed_baseline(originals: Originals, baseline: Tensor) -> Tensor:
    inputs = originals.inputs
    if baseline.shape not in (inputs.shape[1:], torch.Size([])):
        raise UserError(f"baseline has shape {tuple(baseline.shape)}, expected one input's {tuple(inputs.shape[1:])}")
    return baseline.to(inputs).expand_as(inputs)


def meaning_of_typical(originals: Originals) -> str:
    """The baseline that ``typical`` is for these inputs: ``mean``, ``train_mean``, ``pad`` or ``zero``."""
    if originals.own_scales:
        return "train_mean"
    if originals.units.modality == "tokens":
        return "pad" if "pad" in (originals.fillers or {}) else "zero"
    return "mean"


@_baseline
def typical(originals: Originals, draw: int) -> Tensor:
    """What says least about the input, by its kind.

    ``mean`` for images and series; ``pad`` for tokens, or ``zero`` if the model has no padding token; ``train_mean``,
    number by number, for tables and inputs of unknown axes, where a mean over the input would mix quantities that have
    nothing in common. NotApplicable for these without training inputs.
    """
    meaning = meaning_of_typical(originals)
    if meaning == "train_mean" and originals.train is None:
        kind = "a table" if originals.units.modality == "table" else "inputs of unknown axes"
        raise NotApplicable(
            f"baseline typical is train_mean for {kind}, and the data has no training inputs (give train=)"
        )
    return BASELINES[meaning](originals, draw)


@_baseline
def typical_or_zero(originals: Originals, draw: int) -> Tensor:
    """``typical``, or ``zero`` for a table and inputs of unknown axes without training inputs, which is said.

    It is the default of explainers, whose maps a zero makes no wrong number: they explain the difference from zero.
    """
    if originals.train is None and meaning_of_typical(originals) == "train_mean":
        originals.for_block("zero for typical", lambda: say(ZERO_FOR_TYPICAL))
        return zero(originals, draw)
    return typical(originals, draw)


@_baseline
def zero(originals: Originals, draw: int) -> Tensor:
    """Zero in the model's input space: mean grey where inputs are normalised, not black."""
    return torch.zeros_like(originals.inputs)


@_baseline
def black(originals: Originals, draw: int) -> Tensor:
    """The lowest possible value of an image, per channel, in the model's input space; needs a declared value range."""
    originals.need("image")
    if originals.value_range is None:
        raise NotApplicable("black is the lowest value of the data's range, which is not declared (give value_range=)")
    return originals.input_range()[0].expand_as(originals.inputs)


@_baseline
def mean(originals: Originals, draw: int) -> Tensor:
    """The input's mean over its units, per channel; for tables, where this has no meaning, the training mean."""
    axis = originals.units.channel_axis
    if originals.units.modality == "table":
        return train_mean(originals, draw)
    over = [a for a in range(1, originals.inputs.dim()) if a != axis]
    return originals.inputs.mean(over, keepdim=True).expand_as(originals.inputs)


@_baseline
def train_mean(originals: Originals, draw: int) -> Tensor:
    """The mean of the training inputs: per channel for images, series and tokens, else per number."""
    train = _needed_train(originals).to(originals.inputs)
    over = [] if originals.own_scales else [a for a in range(1, train.dim()) if a != originals.units.channel_axis]
    return train.mean([0, *over], keepdim=True).expand_as(originals.inputs)


@_baseline
def blur(originals: Originals, draw: int) -> Tensor:
    """The image blurred as in RISE (1806.07421): 11 x 11 kernel of sigma 5, zero padding; less for small images."""
    inputs = originals.inputs
    if originals.units.modality != "image":
        raise NotApplicable(f"the blur baseline needs images, not {originals.units.modality} inputs")
    radius = max(1, min(5, min(inputs.shape[-2:]) // 4))
    kernel = _blur_kernel(radius).to(inputs).expand(inputs.shape[1], 1, -1, -1)
    return F.conv2d(inputs, kernel, padding=radius, groups=inputs.shape[1])


@_baseline
def uniform_noise(originals: Originals, draw: int) -> Tensor:
    """Uniform noise over the data's range of values, different for every sample and draw."""
    low, high = originals.input_range()
    noise = uniform(originals.stream(f"uniform baseline {draw}"), *originals.inputs.shape[1:])
    return (low + (high - low) * noise).to(originals.inputs)


@_baseline
def gaussian_noise(originals: Originals, draw: int) -> Tensor:
    """Gaussian noise with each channel's mean and standard deviation in the input.

    For tables and inputs of unknown axes it has those of each number in the training inputs.
    """
    source = _needed_train(originals).to(originals.inputs) if originals.own_scales else originals.inputs
    over = [0] if originals.own_scales else [a for a in range(1, source.dim()) if a != originals.units.channel_axis]
    centre, spread = mean_and_deviation(source, over)
    noise = normal(originals.stream(f"gaussian baseline {draw}"), *originals.inputs.shape[1:])
    return (centre + spread * noise).to(originals.inputs)


@_baseline
def train_sample(originals: Originals, draw: int) -> Tensor:
    """A random training input for every sample and draw (the marginal distribution of each unit)."""
    train = _needed_train(originals)
    drawn = integers(originals.stream(f"train_sample baseline {draw}"), len(train), 1)[:, 0]
    return train[drawn.to(train.device)].to(originals.inputs)


@_baseline
def resampled(originals: Originals, draw: int) -> Tensor:
    """``train_sample``, or ``uniform_noise`` where there are no training inputs, which is said.

    It is the default of metrics that are an expectation over the data.
    """
    if originals.train is not None:
        return train_sample(originals, draw)
    noise = uniform_noise(originals, draw)
    originals.for_block("noise for resampled", lambda: say(NOISE_FOR_RESAMPLED))
    return noise


@_baseline
def pad(originals: Originals, draw: int) -> Tensor:
    """The model's padding token in place of a removed token; other tokens stay at their positions."""
    return filler(originals, "pad").expand_as(originals.inputs)


@_baseline
def mask(originals: Originals, draw: int) -> Tensor:
    """The model's mask token in place of a removed token or, if the model has none, its token for unknown words."""
    return filler(originals, "mask").expand_as(originals.inputs)


def _needed_train(originals: Originals) -> Tensor:
    if originals.train is None:
        raise NotApplicable("this baseline needs training inputs; the data has none (give train=)")
    return originals.train


@lru_cache
def _blur_kernel(radius: int) -> Tensor:
    """The blur kernel of RISE's released code: a filtered unit impulse, reflected at its edges."""
    from scipy.ndimage import gaussian_filter  # here and not above: it takes half a second to import

    delta = np.zeros((2 * radius + 1,) * 2)
    delta[radius, radius] = 1
    return torch.from_numpy(gaussian_filter(delta, radius)).float()
