"""Removes tokens from a text: the remaining tokens move together, and padding fills the end."""

import torch
from torch import Tensor

from harness.errors import NotApplicable
from harness.removal.originals import Originals


def filler(originals: Originals, name: str) -> Tensor:
    """The embedding (D,) of the model's ``pad`` or ``mask`` token; NotApplicable if there is none, or no text."""
    originals.need("tokens")
    if name not in (originals.fillers or {}):
        known = ", ".join(originals.fillers or ()) or "none"
        raise NotApplicable(f"the model has no embedding for a {name} token (it has: {known})")
    return originals.fillers[name].to(originals.inputs)


def drop(originals: Originals, sample: Tensor, kept: Tensor, draw: int) -> Tensor:
    """Texts (rows, T, D) of the tokens that are ``kept`` (rows, T, 1), in their order, followed by padding.

    Without any kept token, a text is all padding. Kept tokens may move to other positions.
    """
    padding = filler(originals, "pad")
    if kept.shape[2] != 1:
        raise NotApplicable("drop leaves out whole tokens; reduction=none removes single numbers of them")
    stays = kept[..., 0]
    order = (~stays).to(torch.uint8).argsort(dim=1, stable=True)  # kept tokens first, in their order
    moved = originals.inputs[sample].gather(1, order[..., None].expand(-1, -1, originals.inputs.shape[2]))
    return torch.where(stays.gather(1, order)[..., None], moved, padding)
