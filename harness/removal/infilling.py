"""Baselines that fill in: what a removed unit becomes follows from the units that are left, not from the place alone.

Each is a function ``fill(originals, sample, kept, draw)`` that gives inputs (rows, ...) of the samples numbered
``sample`` (rows,); ``kept`` broadcasts to them, bool, True where a number stays: what it gives there does not count,
save of those in MOVING, which move what stays. All work in the model's own input space.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from harness.errors import NotApplicable
from harness.removal.inpainting import inpaint
from harness.removal.noisy_linear import noisy_linear
from harness.removal.originals import Originals
from harness.removal.token_drop import drop
from harness.removal.vae import vae

Fill = Callable[[Originals, Tensor, Tensor, int], Tensor]
INFILLINGS: dict[str, Fill] = {"inpaint": inpaint, "noisy_linear": noisy_linear, "vae": vae, "drop": drop}
DRAWING = ("noisy_linear", "vae")  # those of which another draw fills in otherwise
MOVING = ("drop",)


def is_infilling(chosen: str | Tensor) -> bool:
    """Whether a baseline fills in from the units that are left."""
    return isinstance(chosen, str) and chosen in INFILLINGS


def infill(originals: Originals, chosen: str, sample: Tensor, kept: Tensor, draw: int = 0) -> Tensor:
    """Inputs (rows, ...) of the samples numbered ``sample`` with what is not ``kept`` filled in by ``chosen``."""
    if kept.dtype != torch.bool:
        raise NotApplicable(f"baseline {chosen} fills in whole units, and these masks are weights between 0 and 1")
    filled = INFILLINGS[chosen](originals, sample, kept, draw)
    return filled if chosen in MOVING else torch.where(kept, originals.inputs[sample], filled)
