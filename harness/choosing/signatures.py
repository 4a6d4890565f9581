"""Which explainers have the same maps, although different processes measured them: a few numbers tell maps apart."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

SIGNATURE = "signature"  # the name among the results of self-checks
SAMPLES, DRAWS = 4, 4
SAME = 2e-5  # of the largest value of a map: differences up to it come from rounding


def signature_of(maps: Tensor) -> list[list[float]] | None:
    """Numbers that are the same for equal maps (N, ...), whatever their scale, and for no others: projections of the
    first maps on random directions. None for maps that hold no finite numbers, or one number only."""
    flat = maps[:SAMPLES].detach().double().cpu().flatten(1)
    largest = flat.abs().amax(1, keepdim=True)
    if not flat.isfinite().all() or (flat.amax(1) == flat.amin(1)).any():
        return None
    directions = torch.randn(flat.shape[1], DRAWS, generator=torch.Generator().manual_seed(0), dtype=flat.dtype)
    projections = flat / largest @ directions / flat.shape[1] ** 0.5
    return [[round(value, 8) for value in row] for row in projections.tolist()]


def with_twins(audits: Mapping[str, Any]) -> dict[str, Any]:
    """The results of the self-checks of several explainers, by label and in order, each with its twin in ``equal_to``:
    the first explainer before it that has the same maps.

    A process compares the explainers that it measures itself. So what it has told of earlier ones is found again here,
    where all are known, and is the same however the measurements were spread over processes.
    """
    found: dict[str, Any] = {}
    twins: dict[str, str] = {}
    for label, audit in audits.items():
        told = (audit.get("equal_to") or {}).get("explainer")
        kept = {name: value for name, value in audit.items() if name != "equal_to" or told not in found}
        if "equal_to" in kept:  # a gradient, with which every explainer is compared
            twins[label] = told
        else:
            others = [each for each in found if twins.get(each) != label and _same_maps(audit, audits[each])]
            if others:
                twins[label] = others[0]
                kept["equal_to"] = {"explainer": others[0]}
        found[label] = kept
    return found


def _same_maps(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    mine, its = first.get(SIGNATURE), second.get(SIGNATURE)
    if not mine or not its or len(mine) != len(its):
        return False
    return bool((torch.tensor(mine) - torch.tensor(its)).abs().max() <= SAME)
