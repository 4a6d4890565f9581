"""In-filling by Telea's fast marching method (2004, doi 10.1080/10867651.2004.10487596), as OpenCV computes it."""

from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError
from harness.removal.originals import Originals

RADIUS = 3  # in pixels, of the neighbourhood that a removed pixel is computed from
SCALE = 255.0  # OpenCV expects values in 0 .. 255, because its formula adds terms of order 1 to them


def inpaint(originals: Originals, sample: Tensor, kept: Tensor, draw: int) -> Tensor:
    """Inputs (rows, C, H, W) of the samples with indices ``sample``, with removed pixels filled in from their border.

    It works in the model's input space, on the CPU and on each channel separately; the range of the kept pixels is
    scaled to 0 .. 255. A channel without any kept pixel is filled with the input's mean. Raises NotApplicable for
    inputs that are not images.
    """
    originals.need("image")
    inputs = originals.inputs[sample]
    planes, masks = inputs.flatten(0, 1).float().cpu().numpy(), (~kept).expand_as(inputs).flatten(0, 1).cpu().numpy()
    library = _opencv()
    channels = [_inpainted_channel(library, plane, removed) for plane, removed in zip(planes, masks, strict=True)]
    return torch.from_numpy(np.stack(channels)).view(inputs.shape).to(inputs)


def _inpainted_channel(library: ModuleType, plane: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """One channel (H, W) with the removed pixels filled in."""
    if removed.all():
        return np.full_like(plane, plane.mean())
    known = plane[~removed]
    low, high = known.min(), known.max()
    if low == high or not removed.any():
        return np.where(removed, low, plane)
    scaled = np.where(removed, 0, (plane - low) * (SCALE / (high - low))).astype(np.float32)
    filled = library.inpaint(scaled, removed.astype(np.uint8), RADIUS, library.INPAINT_TELEA)
    return filled * ((high - low) / SCALE) + low


def _opencv() -> ModuleType:
    try:
        import cv2  # an extra, and slow to import
    except ImportError:
        raise UserError(
            "baseline inpaint needs OpenCV, which is not installed; pip install 'harness[inpainting]'"
        ) from None
    return cv2
