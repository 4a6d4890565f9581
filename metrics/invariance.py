"""Invariance to a shift of the input that the model does not see."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.errors import UserError
from harness.metrics._randomised import explainer_on
from harness.metrics._similarity import with_reason
from harness.option_types import Range
from harness.randomness import stream, uniform
from harness.registry import metric
from harness.samples import Samples


@metric(
    better="lower", unit="ratio", span=(0, None), kind="check", needs=("explainer",), renamed={"size": "shift_size"}
)
def input_invariance(
    batch: Batch,
    *,
    shift: Literal["constant", "texture"] = "constant",
    shift_size: Annotated[float, Range(1e-6, 1e6)] | Annotated[float, Range(-1e6, -1e-6)] = 1.0,
) -> Scores:
    """Relative change of the explanation when inputs are shifted and the model subtracts the shift again (input
    invariance: Kindermans et al. 2019, 1711.00867).

    ||a_f(x) - a_f2(x + m)|| / ||a_f(x)|| with f2(x + m) = f(x), Euclidean norms of the raw maps. The shift m is the
    same for all samples, in units of the inputs: ``constant``, the number ``shift_size`` everywhere, or ``texture``,
    drawn for each element uniformly from [-shift_size, shift_size] by the seed. f2 subtracts m from its input before
    all else. This is the function that one gets by moving m into the first bias, but it works for any f, and padding
    makes no difference. For explainers with a rule for each operation it adds a subtraction: those that pass relevance
    through it, like ``lrp``, come out invariant, which they would not with m in a bias.

    The explainer's options decide the outcome: the data's range of values and training inputs are shifted by m too, and
    so are baselines made from them or from the input, like ``mean``; fixed ones, like ``zero`` or a given tensor, are
    not. At least 0, lower is better; rounding in x + m leaves about 1e-6. NaN where a_f(x) is 0 throughout, or an
    explanation is not finite. NotApplicable for attributions given without their explainer; ValueError for a
    ``shift_size`` of 0, and for given maps of another shape than the explainer's own.

    For f = 2 x_0 - x_1 the gradient does not change. Gradient times input changes by (2, -1), as much as it was for the
    input (1, 1), and for (2, 0) by sqrt(5) / 4:

    >>> maps = linear.weight.expand(2, 2)
    >>> harness.score("input_invariance", linear, inputs, targets, maps, explainer="gradient").tolist()
    [0.0, 0.0]
    >>> maps, options = inputs * linear.weight, {"explainer": "input_x_gradient"}
    >>> harness.score("input_invariance", linear, inputs, targets, maps, **options).round(decimals=3).tolist()
    [1.0, 0.559]
    """
    batch.need_explainer()
    moved_by = _shift_of_inputs(batch.samples, shift, shift_size)
    moved = _shifted_samples(batch.samples, moved_by)
    with _subtracting(moved.predictor.module, moved_by):
        maps = explainer_on(batch, moved)(moved)
    if maps.shape != batch.raw.shape:
        came, own = (("N", *each.shape[1:]) for each in (batch.raw, maps))
        raise UserError(f"attributions have shape {came}, expected {own} as the explainer gives them")
    before = batch.raw.flatten(1).double()
    change, length = (maps.flatten(1).double() - before).norm(dim=1), before.norm(dim=1)
    values = change.where(change.isfinite(), float("nan")) / length.where(length > 0, float("nan"))
    return with_reason(values, "the explanation is 0 throughout, or not finite for the shifted input")


def _shift_of_inputs(samples: Samples, shift: str, size: float) -> Tensor:
    """The shift, of one input's shape: the same for all samples, since otherwise each would have another model f2."""
    shape = samples.inputs.shape[1:]
    if shift == "constant":
        return torch.full(shape, size).to(samples.inputs)
    key = stream(torch.zeros(1, dtype=torch.int64, device=samples.inputs.device), samples.seed, "input_invariance")
    return (size * (2 * uniform(key, *shape)[0] - 1)).to(samples.inputs)


def _shifted_samples(samples: Samples, by: Tensor) -> Samples:
    """The samples with all data shifted: inputs, training inputs and range; their randomness stays the same."""
    every = torch.arange(len(samples), device=samples.inputs.device)
    moved = samples.live().with_inputs(samples.inputs + by, every)
    train = None if samples.train is None else samples.train + by.to(samples.train)
    declared = None
    if samples.value_range is not None:
        declared = tuple(bound + by for bound in samples.input_range())
    return replace(moved, train=train, value_range=declared, block={})


@contextmanager
def _subtracting(model: nn.Module, shift: Tensor) -> Iterator[None]:
    """Inside, the model subtracts the shift from its inputs: by a hook and not a wrapping module, so that layers keep
    their names."""
    handle = model.register_forward_pre_hook(lambda module, arguments: _less(arguments, shift))
    try:
        yield
    finally:
        handle.remove()


def _less(value: Any, shift: Tensor) -> Any:
    """Every tensor less the shift: some libraries pass baselines beside the inputs, which their own hooks join."""
    if isinstance(value, tuple):
        return tuple(_less(each, shift) for each in value)
    return value - shift if isinstance(value, Tensor) else value
