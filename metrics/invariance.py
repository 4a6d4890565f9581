"""Invariance to a shift of the input that the model does not see."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.errors import UserError, unknown
from harness.metrics._randomised import explainer_on
from harness.metrics._similarity import with_reason
from harness.randomness import stream, uniform
from harness.registry import metric
from harness.samples import Samples

SHIFTS = ("constant", "texture")


@metric(better="lower", unit="ratio", kind="axiom", needs=("explainer",))
def input_invariance(batch: Batch, *, shift: str = "constant", size: float = 1.0) -> Scores:
    """Relative change of the explanation when inputs are shifted and the model takes the shift off again (input
    invariance: Kindermans et al. 2019, 1711.00867).

    ||a_f(x) - a_f2(x + m)|| / ||a_f(x)|| with f2(x + m) = f(x), Euclidean norms of the raw maps. The shift m is the
    same for all samples, in units of the inputs: ``constant``, the number ``size`` everywhere, or ``texture``, drawn
    for each element from [-size, size] by the seed. f2 subtracts m from its input before all else: the very
    function that one has by taking m up in the first bias, for any f and without a seam where layers pad. Explainers
    with rules for operations meet a subtraction; those that hand relevance through it, like ``lrp``, come out
    invariant, which they would not with m in a bias.

    The explainer's options decide the outcome: the data's range of values and training inputs move along with m, and so
    do baselines made from them or from the input, like ``mean``; fixed ones, like ``zero`` or a given tensor, stay.
    At least 0, lower is better; rounding in x + m leaves about 1e-6. NaN where a_f(x) is 0 throughout, or an
    explanation is not finite. NotApplicable for attributions given without their explainer; ValueError for a ``size``
    of 0, and for maps that are given in another shape than the explainer's own.
    """
    if shift not in SHIFTS:
        raise unknown("shift", shift, SHIFTS)
    if not size:
        raise UserError("size is 0, expected the size of a shift, other than 0")
    batch.need_explainer()
    moved_by = _shift(batch.samples, shift, size)
    moved = _shifted(batch.samples, moved_by)
    with _subtracting(moved.predictor.module, moved_by):
        maps = explainer_on(batch, moved)(moved)
    if maps.shape != batch.raw.shape:
        came, own = (("N", *found.shape[1:]) for found in (batch.raw, maps))
        raise UserError(f"attributions have shape {came}, expected {own} as the explainer gives them")
    before = batch.raw.flatten(1).double()
    change, length = (maps.flatten(1).double() - before).norm(dim=1), before.norm(dim=1)
    values = change.where(change.isfinite(), float("nan")) / length.where(length > 0, float("nan"))
    return with_reason(values, "the explanation is 0 throughout, or not finite for the shifted input")


def _shift(samples: Samples, shift: str, size: float) -> Tensor:
    """The shift, of one input's shape: the same whatever the samples, or f2 would be another model for each."""
    shape = samples.inputs.shape[1:]
    if shift == "constant":
        return torch.full(shape, size).to(samples.inputs)
    key = stream(torch.zeros(1, dtype=torch.int64, device=samples.inputs.device), samples.seed, "input_invariance")
    return (size * (2 * uniform(key, *shape)[0] - 1)).to(samples.inputs)


def _shifted(samples: Samples, by: Tensor) -> Samples:
    """The samples in a world in which all data lies elsewhere; their randomness stays."""
    every = torch.arange(len(samples), device=samples.inputs.device)
    moved = samples.live().with_inputs(samples.inputs + by, every)
    train = None if samples.train is None else samples.train + by.to(samples.train)
    declared = None
    if samples.value_range is not None:
        declared = tuple(bound + by for bound in samples.input_range())
    return replace(moved, train=train, value_range=declared, block={})


@contextmanager
def _subtracting(model: nn.Module, shift: Tensor) -> Iterator[None]:
    """The model takes the shift off its inputs inside: a hook rather than a module around it, so that layers keep their
    names."""

    handle = model.register_forward_pre_hook(lambda module, arguments: _less(arguments, shift))
    try:
        yield
    finally:
        handle.remove()


def _less(value: Any, shift: Tensor) -> Any:
    """Every tensor less the shift: libraries hand in baselines beside the inputs, for hooks of their own to join."""
    if isinstance(value, tuple):
        return tuple(_less(each, shift) for each in value)
    return value - shift if isinstance(value, Tensor) else value
