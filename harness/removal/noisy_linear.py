"""Noisy linear in-filling: removed pixels become means of their neighbours (ROAD: Rong et al. 2022, 2202.00449).

For every removed pixel i, the sum over its eight neighbours j of w (z_j - z_i) is 0, with w = 1/6 for direct and 1/12
for diagonal neighbours; there are no neighbours beyond the border. The matrix is symmetric, and positive definite if at
least one pixel is kept. ``harness.removal.neighbour_systems`` solves it for all rows and channels, on their device.
"""

import torch
from torch import Tensor

from harness.randomness import normal
from harness.removal.neighbour_systems import Systems
from harness.removal.originals import Originals
from harness.removal.scales import power_of_two

NOISE = 0.01
# Numbers that are processed at once: as many as fit a CPU's cache, or enough to keep a GPU busy.
NUMBERS_AT_ONCE = {"cpu": 2**16, "other": 2**25}


def noisy_linear(originals: Originals, sample: Tensor, kept: Tensor, draw: int, noise: float = NOISE) -> Tensor:
    """Inputs (rows, C, H, W) of the samples with indices ``sample``; removed pixels are filled in, plus Gaussian noise.

    It works in the model's input space; ``noise`` is the standard deviation there. The noise depends on the sample, the
    pixel and ``draw``, and not on the mask. A channel without any kept pixel is filled with the input's mean. Raises
    NotApplicable for inputs that are not images.
    """
    originals.need("image")
    inputs = originals.inputs[sample]
    filled = fill_linearly(inputs, ~kept.expand(-1, inputs.shape[1] if kept.shape[1] > 1 else 1, -1, -1))
    return torch.where(kept, inputs, filled + noise * _noise_of_samples(originals, draw)[sample]) if noise else filled


@torch.no_grad()
def fill_linearly(images: Tensor, removed: Tensor) -> Tensor:
    """Images (N, C, H, W) filled in without noise where ``removed`` (N, 1 or C, H, W), bool, is True.

    Float32, or float64 for images in float64. An image's result does not depend on the other images. No gradient flows.
    """
    size, on_cpu = images.shape[2:], images.device.type == "cpu"
    masks = removed.reshape(-1, *size)
    values = images.to(torch.promote_types(images.dtype, torch.float32)).reshape(len(masks), -1, *size)
    if not on_cpu:  # all channels at once; on a CPU one after another, so that the vectors of one stay in its cache
        masks, values = masks.repeat_interleave(values.shape[1], 0), values.reshape(-1, 1, *size)
    at_once = max(1, NUMBERS_AT_ONCE["cpu" if on_cpu else "other"] // size.numel())
    filled, systems = torch.empty_like(values), None
    for some, where, target in zip(*(each.split(at_once) for each in (values, masks, filled)), strict=True):
        if systems is None or systems.rows != len(where):
            systems = Systems(where.shape, values.dtype, values.device)
        systems.load(where)
        for channel in range(values.shape[1]):
            target[:, channel] = _fill(some[:, channel], where, systems)
    return torch.where(removed, filled.view_as(images).to(images.dtype), images)


def _noise_of_samples(originals: Originals, draw: int) -> Tensor:
    key = ("noisy linear", draw)
    if key not in originals.scratch:
        stream = originals.stream(f"noisy linear {draw}")
        originals.scratch[key] = normal(stream, *originals.inputs.shape[1:]).to(originals.inputs)
    return originals.scratch[key]


def _fill(values: Tensor, removed: Tensor, systems: Systems) -> Tensor:
    """Values (S, H, W) filled in where ``removed`` (S, H, W); if no pixel is kept, with their mean."""
    gone = removed.flatten(1).all(1).view(-1, 1, 1)
    known = (~removed | gone).to(values.dtype)
    # A constant can be subtracted from all values. After subtracting the mean of known values, 0 is a good first guess.
    centre = (values * known).sum((-2, -1), keepdim=True) / known.sum((-2, -1), keepdim=True)
    centred = (values - centre) * known
    unit = power_of_two(centred, (-2, -1))  # the solver squares its numbers
    return torch.where(gone, centre, systems.solve(centred / unit) * unit + centre)
