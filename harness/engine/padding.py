"""Padding of texts and series: positions that are no units, as far as the data says so, and what is said where it may.

A model that computes its own mask from its inputs, such as ``(x != 0).any(-1)``, takes padding for words as soon as
noise or a baseline moves it. So whoever knows which positions are padding has to say it before anything moves.
"""

from dataclasses import replace

from torch import Tensor

from harness.messages import say
from harness.sources import Data
from harness.units import CHANNEL_AXIS, POSITION_AXIS

MASK = "attention_mask"  # the one name of a mask whose meaning is certain: 0 at padding, 1 elsewhere


def with_padding(data: Data, count: int) -> Data:
    """The data with ``present`` from its attention mask, if it has embeddings or series with one; else unchanged.

    Of the first ``count`` samples of any others it is said what may be padding and counts as units, in one line each.
    """
    if data.modality not in POSITION_AXIS or data.present is not None or not isinstance(data.inputs, Tensor):
        return data
    masks = {name: each for name, each in data.carried.items() if _is_mask(each, data)}
    if MASK in masks:
        say(f"{MASK} says which positions are padding and no units (others: harness.Data(..., present=...))")
        return replace(data, present=masks[MASK].bool())
    for name, mask in masks.items():
        say(
            f"input {name!r} may be a mask of padding; padding counts as units unless the data says otherwise: "
            f"harness.Data(..., present={'~' if _marks_the_end(mask) else ''}{name}.bool())"
        )
    if not masks:
        tell_zeros(data, count)
    return data


def tell_zeros(data: Data, count: int) -> int:
    """Say how to mark padding if positions of the first ``count`` samples are 0 throughout; returns how many have any.

    An embedding of zeros may be a token or padding, and zeros at the end of a series too. They count as units unless
    the data says otherwise. Zeros in the midst of a series are values like others.
    """
    zero = (data.inputs[:count] == 0).all(CHANNEL_AXIS[data.modality])
    if data.modality == "series":
        zero = zero.flip(1).long().cumprod(1).bool()
    samples = int(zero.any(1).sum())
    if samples and data.modality == "tokens":
        say(
            f"{int(zero.sum())} tokens of {samples} texts have an embedding of zeros and count as tokens; if they are "
            "padding, say so: harness.Data(..., present=(inputs != 0).any(-1))"
        )
    elif samples and int(zero.sum(1).max()) > 1:
        say(
            f"{samples} series end in zeros, {int(zero.sum())} time steps that count as units; if they are padding, "
            "say so: harness.Data(..., present=...), a tensor (N, T) that is False there"
        )
    return samples


def _is_mask(values: Tensor, data: Data) -> bool:
    """Whether these are zeros and ones for each position, some of either, and a unit in every sample."""
    length = data.inputs.shape[POSITION_AXIS[data.modality]]
    if values.shape != (len(data.inputs), length) or not ((values == 0) | (values == 1)).all():
        return False
    kept = values.bool()
    return bool((~kept).any()) and bool(kept.any(1).all())


def _marks_the_end(mask: Tensor) -> bool:
    """Whether the mask is True at the last positions and not at the first, as that of torch's transformers is."""
    mask = mask.bool()
    return bool(mask[:, -1].any()) and not bool(mask[:, 0].any())
