"""In-fillings: baselines that compute the replacement of a removed unit from the units that remain.

Each is a function ``fill(originals, sample, kept, draw)`` that returns inputs (rows, ...) of the samples with indices
``sample`` (rows,). ``kept`` is bool, broadcasts to these inputs and is True where a number stays. The returned values
are used only where ``kept`` is False, except for those in MOVING, which also move what stays. All work in the model's
input space.
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
DRAWING = ("noisy_linear", "vae")  # random ones: another draw gives other values
MOVING = ("drop",)  # those that move the tokens that stay


def is_infilling(chosen: str | Tensor) -> bool:
    """Whether a baseline is an in-filling."""
    return isinstance(chosen, str) and chosen in INFILLINGS


def infill(originals: Originals, chosen: str, sample: Tensor, kept: Tensor, draw: int = 0) -> Tensor:
    """Inputs (rows, ...) of the samples with indices ``sample``, filled in by ``chosen`` where ``kept`` is False."""
    if kept.dtype != torch.bool:
        raise NotApplicable(f"baseline {chosen} fills in whole units, and these masks are weights between 0 and 1")
    filled = INFILLINGS[chosen](originals, sample, kept, draw)
    return filled if chosen in MOVING else torch.where(kept, originals.inputs[sample], filled)
