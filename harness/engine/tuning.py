"""Calibration of forward-only work: chooses a faster variant of the model and the number of rows per pass.

A variant is used only if its outputs equal those of the original model, up to TOLERANCE times the range of the logits.
They are compared on this data and on perturbations like those of metrics: zeros, means, and half-masked inputs.
"""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from harness.engine.folding import fold_batch_norm
from harness.errors import one_line
from harness.predictor import Carried, Predictor

TOLERANCE = 1e-4
WORTHWHILE = 1.05  # the factor in speed that a variant must gain over the original model
FIRST_CHUNK = {"cpu": 8, "cuda": 64}
LARGEST_CHUNK = 8192
LARGEST_CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}
MEMORY_SHARE = 0.6
REPEATS = 3
SHORTEST_MEASUREMENT = 0.02  # seconds; shorter ones are dominated by the clock and by other processes
PATIENCE = 2  # doublings without gain before the search ends


@dataclass
class Variant:
    """A variant of the model: its module, whether inputs are laid out with channels last, and its difference.

    ``difference`` is the largest difference of its outputs from the original's, relative to their range.
    """

    name: str
    module: nn.Module
    channels_last: bool = False
    difference: float = 0.0


@dataclass(frozen=True)
class Work:
    """Inputs (N, ...) like those that will be passed, and what goes along with each."""

    inputs: Tensor
    carried: Carried

    def first(self, inputs: Tensor) -> "Work":
        """Other inputs (n, ...), with what goes along with the first of these."""
        return Work(inputs, {name: values[: len(inputs)] for name, values in self.carried.items()})

    def repeated(self, count: int) -> "Work":
        """``count`` rows of this work, over and over."""
        rows = torch.arange(count, device=self.inputs.device) % len(self.inputs)
        return Work(self.inputs[rows], {name: values[rows] for name, values in self.carried.items()})

    def outputs(self, runner: Predictor) -> Tensor:
        """The runner's outputs."""
        return runner.logits(self.inputs, self.carried)


def tune(predictor: Predictor, inputs: Tensor, carried: Carried | None = None) -> None:
    """Choose the predictor's variant and chunk for inputs like these; ``predictor.variant`` records the result.

    A variant that cannot be built, differs from the original or fails is left out; ``skipped`` in the record says why.
    """
    started, skipped, work = time.perf_counter(), {}, Work(inputs, carried or {})
    variants = {variant.name: variant for variant in _variants(predictor, work, skipped)}
    first = FIRST_CHUNK.get(inputs.device.type, 8)
    rates = _rates(predictor, variants, work, first, skipped)
    best, chunk = _fastest(predictor, variants, work, rates, first, skipped)
    use(predictor, best, chunk)
    predictor.variant = {
        "variant": best.name,
        "chunk": chunk,
        "gain": round(rates[best.name] / rates["eager"], 3),
        "difference": best.difference,
        "skipped": skipped,
        "calibration_seconds": round(time.perf_counter() - started, 2),
    }
    predictor.forwards = 0


def reuse(predictor: Predictor, inputs: Tensor, record: dict[str, Any], carried: Carried | None = None) -> bool:
    """Use the variant and chunk of an earlier calibration; False if that variant no longer equals the model."""
    for variant in _variants(predictor, Work(inputs, carried or {}), {}):
        if variant.name == record["variant"]:
            use(predictor, variant, record["chunk"])
            predictor.variant, predictor.forwards = dict(record), 0
            return True
    return False


def use(predictor: Predictor, variant: Variant, chunk: int) -> None:
    """Let the predictor use this variant and this number of rows per pass."""
    predictor.scoring = None if variant.module is predictor.module else variant.module
    predictor.channels_last, predictor.chunk = variant.channels_last, chunk


def _variants(predictor: Predictor, work: Work, skipped: dict[str, str]) -> Iterator[Variant]:
    """The model itself, then each variant that can be built and equals it; ``skipped`` gets the reasons of others."""
    model = base = predictor.module
    yield Variant("eager", model)
    probes = [work.first(probe) for probe in _probes(work.inputs)]
    expected = cache(lambda: _probe_outputs(predictor.live(), probes))

    def attempt(name: str, build: Callable[[], nn.Module | None], channels_last: bool = False) -> Variant | None:
        try:
            module = build()
            variant = None if module is None else Variant(name, module, channels_last)
            return variant if variant and _equal(predictor, variant, probes, expected(), skipped) else None
        except Exception as error:  # variants are optional: without them the model is used as it is
            skipped[name] = one_line(error)
            return None

    folded = attempt("folded", lambda: fold_batch_norm(model, work.inputs, work.carried))
    if folded is not None:
        base = folded.module
        yield folded
    if work.inputs.dim() == 4:
        name = "channels_last" if folded is None else "folded channels_last"
        last = attempt(name, lambda: copy.deepcopy(base).to(memory_format=torch.channels_last), channels_last=True)
        if last is not None:
            yield last


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


def _equal(
    predictor: Predictor, variant: Variant, probes: list[Work], expected: Tensor, skipped: dict[str, str]
) -> bool:
    """Whether the variant's outputs equal the original's on these inputs; records the difference in the variant."""
    spread = float(expected.max() - expected.min()) or 1.0
    got = _probe_outputs(_runner(predictor, variant, predictor.chunk), probes)
    variant.difference = float((got - expected).abs().max()) / spread
    if variant.difference <= TOLERANCE:
        return True
    skipped[variant.name] = f"outputs differ by {variant.difference:.1e} of their range, allowed are {TOLERANCE:.0e}"
    return False


def _runner(predictor: Predictor, variant: Variant, chunk: int) -> Predictor:
    runner = predictor.live()
    use(runner, variant, chunk)
    return runner


def _rates(
    predictor: Predictor, variants: dict[str, Variant], work: Work, chunk: int, skipped: dict[str, str]
) -> dict[str, float]:
    """Rows per second of each variant: the best of several interleaved rounds, so that noise affects all alike."""
    runners = {name: _runner(predictor, variant, chunk) for name, variant in variants.items()}
    rates = dict.fromkeys(runners, 0.0)
    for turn in range(1 + REPEATS):
        for name in list(rates):
            try:
                if turn == 0:  # the first pass of a variant includes one-time initialisation
                    work.first(work.inputs[:1]).outputs(runners[name])
                else:
                    rates[name] = max(rates[name], _rate(runners[name], work))
            except Exception as error:
                _leave_out(name, error, rates, skipped)
    return rates


def _fastest(
    predictor: Predictor,
    variants: dict[str, Variant],
    work: Work,
    rates: dict[str, float],
    first: int,
    skipped: dict[str, str],
) -> tuple[Variant, int]:
    """The fastest variant that runs without error, and its chunk; the model itself, unless another is WORTHWHILE."""
    while True:
        name = max(rates, key=lambda name: rates[name] * (WORTHWHILE if name == "eager" else 1))
        try:
            return variants[name], _tuned_chunk(predictor, variants[name], work, first)
        except Exception as error:
            _leave_out(name, error, rates, skipped)


def _leave_out(name: str, error: Exception, rates: dict[str, float], skipped: dict[str, str]) -> None:
    """Leave out a variant that failed; an error of the model itself is raised."""
    if name == "eager":
        raise error
    del rates[name]
    skipped[name] = one_line(error)


def _tuned_chunk(predictor: Predictor, variant: Variant, work: Work, first: int) -> int:
    """The smallest number of rows per pass whose rate is within 3 % of the best.

    Numbers are doubled from ``first``; the search ends after PATIENCE doublings without gain.
    """
    runner = _runner(predictor, variant, first)
    largest = min(LARGEST_CHUNK, LARGEST_CHUNK_BYTES.get(work.inputs.device.type, 2**26) // work.inputs[0].nbytes)
    rates: dict[int, float] = {}
    for chunk in (first * 2**power for power in range(32)):
        if chunk > largest or not _has_room(work.inputs.device):
            break
        runner.chunk = chunk
        rates[chunk] = _rate(runner, work)
        halved = runner.chunk < chunk  # by the predictor, when memory ran out
        if halved or len(rates) - list(rates).index(max(rates, key=rates.__getitem__)) > PATIENCE:
            break
    for chunk in list(rates) * (REPEATS - 1):  # further rounds over all numbers, so that noise affects all alike
        runner.chunk = chunk
        rates[chunk] = max(rates[chunk], _rate(runner, work))
    return min((chunk for chunk in rates if rates[chunk] >= 0.97 * max(rates.values())), default=first)


def _rate(runner: Predictor, work: Work) -> float:
    """Rows per second of full passes, repeated for at least SHORTEST_MEASUREMENT."""
    rows, device = work.repeated(runner.chunk), work.inputs.device
    synchronize(device)
    started, done, seconds = time.perf_counter(), 0, 0.0
    while seconds < SHORTEST_MEASUREMENT:
        rows.outputs(runner)
        synchronize(device)
        done, seconds = done + len(rows.inputs), time.perf_counter() - started
    return done / seconds


def _has_room(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    return 1 - free / total < MEMORY_SHARE


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work, so that a timing includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
