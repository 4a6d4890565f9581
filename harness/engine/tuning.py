"""Chooses the scoring copy: a faster form of the model for forward passes, which equals it in full precision.

The choice is a rule over the model, its inputs and the device. It looks at no clock and no free memory, because forms
of a model round in different ways: if a timing chose among them, the same command would give other numbers from run to
run. The number of rows per pass is no matter of timing either: ``harness.predictor.default_chunk`` computes it from the
size of an input.

Forms are compared with the model in full precision, also where the predictor then computes in mixed precision: what
mixed precision changes is the protocol's choice, and the record says how much it is.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.engine.folding import fold_batch_norm
from harness.errors import one_line
from harness.predictor import Carried, Predictor

# The largest difference of a form's outputs from the model's, as a share of their range. Other orders of the same sums
# make up to 5e-6 (float32, models of torchvision and of this project). Outputs that are off by 1e-5 move mean scores by
# 1e-5, a hundredth of what separates the closest two of eight explainers (digits_cnn, five metrics, 140 pairs).
TOLERANCE = 1e-5
PROBED = 16  # inputs on which a form is compared with the model; more samples in a run do not change the choice


@dataclass
class Variant:
    """A form of the model: its module, whether inputs are laid out with channels last, and its difference.

    ``difference`` is the largest difference of its outputs from the original's, relative to their range.
    """

    name: str
    module: nn.Module
    channels_last: bool = False
    difference: float = 0.0


class Compiled(nn.Module):
    """A model that torch compiles when it is first called, once for all numbers of rows.

    torch would compile again for a single row, which is therefore passed twice.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = torch.compile(module, dynamic=True)

    def forward(self, inputs: Tensor, *carried: Carried) -> Any:
        """The outputs of the model for inputs (N, ...), with the carried inputs of the same rows."""
        if len(inputs) != 1:
            return self.module(inputs, *carried)
        twice = [{name: torch.cat([values, values]) for name, values in each.items()} for each in carried]
        return self.module(torch.cat([inputs, inputs]), *twice)[:1]


@dataclass(frozen=True)
class Work:
    """Inputs (N, ...) like those that will be passed, and what goes along with each."""

    inputs: Tensor
    carried: Carried

    def first(self, inputs: Tensor) -> "Work":
        """Other inputs (n, ...), with what goes along with the first of these."""
        return Work(inputs, {name: values[: len(inputs)] for name, values in self.carried.items()})

    def outputs(self, runner: Predictor) -> Tensor:
        """The runner's outputs."""
        return runner.logits(self.inputs, self.carried)


def tune(predictor: Predictor, inputs: Tensor, carried: Carried | None = None, *, compiled: bool = False) -> None:
    """Let the predictor use the fastest form of its model for inputs like these; ``predictor.variant`` records it.

    The same model, first inputs and device give the same form. A form that cannot be built, fails or differs from the
    model by more than TOLERANCE is left out; ``skipped`` in the record says why. With ``compiled`` the form is compiled
    by torch, which takes seconds to minutes; the record says how long, and the compiled form's time for the first
    inputs as a share of the form's own. In mixed precision it says how far outputs are from those in full precision.
    """
    skipped: dict[str, str] = {}
    work = Work(inputs, carried or {})
    probes = [work.first(probe) for probe in _probes(inputs[:PROBED])]
    full = replace(predictor, autocast=None)
    expected = cache(lambda: _probe_outputs(full.live(), probes))
    of_inputs = _outputs_in_full_precision(full, probes[0], skipped) if predictor.autocast or compiled else None
    if predictor.autocast and of_inputs is None:
        best = Variant("eager", predictor.module)
    else:
        best = next(_variants(full, work, probes, expected, skipped))
    use(predictor, best)
    record = {"variant": best.name, "difference": best.difference, "skipped": skipped}
    if predictor.autocast and of_inputs is not None:
        record["mixed_precision_difference"] = _share_of_range(probes[0].outputs(predictor), of_inputs)
    if compiled:
        record |= _compile(predictor, best, probes[0], of_inputs, skipped)
    predictor.variant = record
    predictor.forwards = 0


def _outputs_in_full_precision(predictor: Predictor, work: Work, skipped: dict[str, str]) -> Tensor | None:
    """The model's own outputs, or None if it cannot be called in full precision; then ``skipped`` gets the reason."""
    try:
        return work.outputs(predictor.live())
    except Exception as error:  # weights of half precision take no other inputs
        skipped["every other form"] = f"the model does not run in full precision: {one_line(error)}"
        return None


def use(predictor: Predictor, variant: Variant) -> None:
    """Let the predictor use this form of its model."""
    predictor.scoring = None if variant.module is predictor.module else variant.module
    predictor.channels_last = variant.channels_last


def _variants(
    predictor: Predictor, work: Work, probes: list[Work], expected: Callable[[], Tensor], skipped: dict[str, str]
) -> Iterator[Variant]:
    """Each form that can be built and equals the model, the fastest first and the model itself last.

    ``skipped`` gets the reasons of the others. A form is built and compared when it is asked for. Measured on one core
    of a CPU with 13 models of torchvision and of this project, channels last, folded where possible, take 0.58 to 1.01
    of the model's time, and a fold alone takes 0.86 to 0.98.
    """
    model = predictor.module
    for name, build in _forms(model, work):
        try:  # forms are optional: without them the model is used as it is
            module = build()
        except Exception as error:
            skipped[name] = one_line(error)
            continue
        if module is None:
            continue
        variant = Variant(name, module, "channels_last" in name)
        reason = _why_unequal(predictor, variant, probes, expected(), TOLERANCE)
        if reason:
            skipped[name] = reason
        else:
            yield variant
    yield Variant("eager", model)


def _compile(
    predictor: Predictor, form: Variant, work: Work, expected: Tensor | None, skipped: dict[str, str]
) -> dict[str, Any]:
    """Let the predictor use the form compiled, if its outputs equal the ``expected`` ones; what the record says of it.

    In mixed precision they may differ by at most twice the difference of the form that is not compiled, since rounding
    happens in other places.
    """
    name = f"{form.name} compiled"
    if expected is None:
        skipped[name] = skipped["every other form"]
        return {}
    own = _share_of_range(work.outputs(predictor), expected) if predictor.autocast else 0.0
    slow = _seconds_for(predictor, work)
    torch.compiler.reset()  # it compiles a class a few times only, and then runs it as it is
    started = time.perf_counter()
    try:  # a copy, as explainers put hooks on the model itself
        variant = Variant(name, Compiled(copy.deepcopy(form.module)), form.channels_last)
        reason = _why_unequal(predictor, variant, [work], expected, max(TOLERANCE, 2 * own))
    except Exception as error:
        reason = one_line(error)
    if reason:
        skipped[name] = reason
        return {}
    took = time.perf_counter() - started
    use(predictor, variant)
    share = _seconds_for(predictor, work) / slow
    found = {"variant": name, "compile_seconds": round(took, 1), "compiled_time": round(share, 3)}
    key = "mixed_precision_difference" if predictor.autocast else "difference"
    return found | {key: variant.difference}


def _seconds_for(predictor: Predictor, work: Work) -> float:
    """The least of three times that the outputs for this work take."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        work.outputs(predictor).sum().item()  # waits for the device
        times.append(time.perf_counter() - started)
    return max(min(times), 1e-9)


def _forms(model: nn.Module, work: Work) -> list[tuple[str, Callable[[], nn.Module | None]]]:
    """The forms of the model and how each is built, the fastest first; a build gives None where it changes nothing."""
    folded = cache(lambda: fold_batch_norm(model, work.inputs, work.carried))
    last = lambda module: None if module is None else copy.deepcopy(module).to(memory_format=torch.channels_last)
    if not _gains_from_channels_last(model, work.inputs):
        return [("folded", folded)]
    return [
        ("folded channels_last", lambda: last(folded())),
        ("folded", folded),
        ("channels_last", lambda: last(model)),
    ]


def _gains_from_channels_last(model: nn.Module, inputs: Tensor) -> bool:
    """Whether a model of images has weights of 2D convolutions, which a CPU applies faster with channels last."""
    return inputs.dim() == 4 and inputs.device.type == "cpu" and any(each.dim() == 4 for each in model.parameters())


def _probes(inputs: Tensor) -> list[Tensor]:
    """Inputs like those of metrics, one batch of each kind: the inputs, zeros, channel means, half-masked inputs."""
    places = tuple(range(2 if inputs.dim() > 2 else 1, inputs.dim()))
    steps = torch.meshgrid(*(torch.arange(inputs.shape[i], device=inputs.device) for i in places), indexing="ij")
    checkerboard = sum(steps) % 2 == 0
    zeros = torch.zeros_like(inputs)
    return [
        inputs,
        zeros[:1],
        inputs.mean(places, keepdim=True).expand_as(inputs),
        torch.where(checkerboard, inputs, zeros),
    ]


def _probe_outputs(runner: Predictor, probes: list[Work]) -> Tensor:
    return torch.cat([probe.outputs(runner) for probe in probes])


def _why_unequal(predictor: Predictor, variant: Variant, probes: list[Work], expected: Tensor, tolerance: float) -> str:
    """Why the variant's outputs do not equal the original's on these inputs, or ""; records their difference."""
    runner = predictor.live()
    use(runner, variant)
    try:
        outputs = _probe_outputs(runner, probes)
    except Exception as error:  # for example a view that another layout does not allow
        return one_line(error)
    variant.difference = _share_of_range(outputs, expected)
    if variant.difference <= tolerance:
        return ""
    return f"outputs differ by {variant.difference:.1e} of their range, allowed are {tolerance:.0e}"


def _share_of_range(outputs: Tensor, expected: Tensor) -> float:
    """The largest difference of outputs from the expected ones, as a share of the range of these."""
    spread = float(expected.max() - expected.min()) or 1.0
    return float((outputs - expected).abs().max()) / spread
