"""A faster twin of the model for forward-only work, and the number of rows per pass, found by a short calibration.

The twin is used only if its outputs equal the original's, to TOLERANCE of the range of the logits, on this data as it
is and as metrics change it: blank, averaged and masked.
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
from harness.predictor import Predictor

TOLERANCE = 1e-4
WORTHWHILE = 1.05  # a variant or a larger chunk must gain this factor
FIRST_CHUNK = {"cpu": 8, "cuda": 64}
LARGEST_CHUNK = 8192
LARGEST_CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 4 * 2**30}
MEMORY_SHARE = 0.6
REPEATS = 3
SHORTEST_MEASUREMENT = 0.02  # seconds; below it a clock and a busy neighbour say more than the model
PATIENCE = 2  # doublings without gain before the search ends


@dataclass
class Variant:
    """A way to run the model: a module, whether inputs are laid out channels last, and what was measured of it."""

    name: str
    module: nn.Module
    channels_last: bool = False
    difference: float = 0.0


def tune(predictor: Predictor, inputs: Tensor) -> None:
    """Choose the predictor's scoring variant and chunk for inputs like these; records both in ``predictor.variant``.

    A variant that cannot be built, that differs or that fails is left out; ``skipped`` in the record says why.
    """
    started, skipped = time.perf_counter(), {}
    variants = {variant.name: variant for variant in _variants(predictor, inputs, skipped)}
    first = FIRST_CHUNK.get(inputs.device.type, 8)
    rates = _rates(predictor, variants, inputs, first, skipped)
    best, chunk = _fastest(predictor, variants, inputs, rates, first, skipped)
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


def reuse(predictor: Predictor, inputs: Tensor, record: dict[str, Any]) -> bool:
    """Set the predictor up as an earlier calibration found best; False if that variant no longer equals the model."""
    for variant in _variants(predictor, inputs, {}):
        if variant.name == record["variant"]:
            use(predictor, variant, record["chunk"])
            predictor.variant, predictor.forwards = dict(record), 0
            return True
    return False


def use(predictor: Predictor, variant: Variant, chunk: int) -> None:
    """Let the predictor score with this variant."""
    predictor.scoring = None if variant.module is predictor.module else variant.module
    predictor.channels_last, predictor.chunk = variant.channels_last, chunk


def _variants(predictor: Predictor, inputs: Tensor, skipped: dict[str, str]) -> Iterator[Variant]:
    """The model itself, then each variant that can be built and equals it; why not goes into ``skipped``."""
    model = base = predictor.module
    yield Variant("eager", model)
    probes = _probes(inputs)
    expected = cache(lambda: _probe_outputs(predictor.live(), probes))

    def attempt(name: str, build: Callable[[], nn.Module | None], channels_last: bool = False) -> Variant | None:
        try:
            module = build()
            variant = None if module is None else Variant(name, module, channels_last)
            return variant if variant and _equal(predictor, variant, probes, expected(), skipped) else None
        except Exception as error:  # a variant is a convenience: without it the model runs as it is
            skipped[name] = one_line(error)
            return None

    folded = attempt("folded", lambda: fold_batch_norm(model, inputs))
    if folded is not None:
        base = folded.module
        yield folded
    if inputs.dim() == 4:
        name = "channels_last" if folded is None else "folded channels_last"
        last = attempt(name, lambda: copy.deepcopy(base).to(memory_format=torch.channels_last), channels_last=True)
        if last is not None:
            yield last


def _probes(inputs: Tensor) -> list[Tensor]:
    """What metrics send through a model, each kind apart: inputs, zeros, each input's channel means, half-masked
    inputs."""
    places = tuple(range(2 if inputs.dim() > 2 else 1, inputs.dim()))
    steps = torch.meshgrid(*(torch.arange(inputs.shape[i], device=inputs.device) for i in places), indexing="ij")
    kept = sum(steps) % 2 == 0  # a checkerboard
    zeros = torch.zeros_like(inputs)
    return [inputs, zeros[:1], inputs.mean(places, keepdim=True).expand_as(inputs), torch.where(kept, inputs, zeros)]


def _probe_outputs(runner: Predictor, probes: list[Tensor]) -> Tensor:
    return torch.cat([runner.logits(probe) for probe in probes])


def _equal(
    predictor: Predictor, variant: Variant, probes: list[Tensor], expected: Tensor, skipped: dict[str, str]
) -> bool:
    """Whether the variant gives the original's outputs on these inputs; the difference is kept."""
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
    predictor: Predictor, variants: dict[str, Variant], inputs: Tensor, chunk: int, skipped: dict[str, str]
) -> dict[str, float]:
    """Rows per second of each variant, best of interleaved rounds, so that a noisy moment hits all alike."""
    runners = {name: _runner(predictor, variant, chunk) for name, variant in variants.items()}
    rates = dict.fromkeys(runners, 0.0)
    for turn in range(1 + REPEATS):
        for name in list(rates):
            try:
                if turn == 0:  # the first pass of a variant sets things up
                    runners[name].logits(inputs[:1])
                else:
                    rates[name] = max(rates[name], _rate(runners[name], inputs))
            except Exception as error:
                _leave_out(name, error, rates, skipped)
    return rates


def _fastest(
    predictor: Predictor,
    variants: dict[str, Variant],
    inputs: Tensor,
    rates: dict[str, float],
    first: int,
    skipped: dict[str, str],
) -> tuple[Variant, int]:
    """The fastest variant and its chunk; a variant other than eager must be worth its while, and run at every chunk."""
    while True:
        name = max(rates, key=lambda name: rates[name] * (WORTHWHILE if name == "eager" else 1))
        try:
            return variants[name], _tuned_chunk(predictor, variants[name], inputs, first)
        except Exception as error:
            _leave_out(name, error, rates, skipped)


def _leave_out(name: str, error: Exception, rates: dict[str, float], skipped: dict[str, str]) -> None:
    """Go on without a variant that failed; a failure of the model itself is the user's to know."""
    if name == "eager":
        raise error
    del rates[name]
    skipped[name] = one_line(error)


def _tuned_chunk(predictor: Predictor, variant: Variant, inputs: Tensor, first: int) -> int:
    """The fewest rows per pass that run at the best rate, to 3 %: doubled from ``first`` until that has twice not
    helped."""
    runner = _runner(predictor, variant, first)
    largest = min(LARGEST_CHUNK, LARGEST_CHUNK_BYTES.get(inputs.device.type, 2**26) // inputs[0].nbytes)
    rates: dict[int, float] = {}
    for chunk in (first * 2**power for power in range(32)):
        if chunk > largest or not _has_room(inputs.device):
            break
        runner.chunk = chunk
        rates[chunk] = _rate(runner, inputs)
        halved = runner.chunk < chunk  # it ran out of memory
        if halved or len(rates) - list(rates).index(max(rates, key=rates.__getitem__)) > PATIENCE:
            break
    for chunk in list(rates) * (REPEATS - 1):  # again in turns, so that a noisy moment hits all alike
        runner.chunk = chunk
        rates[chunk] = max(rates[chunk], _rate(runner, inputs))
    return min((chunk for chunk in rates if rates[chunk] >= 0.97 * max(rates.values())), default=first)


def _rate(runner: Predictor, inputs: Tensor) -> float:
    """Rows per second of full passes, repeated until the clock has something to measure."""
    rows = inputs[torch.arange(runner.chunk, device=inputs.device) % len(inputs)]
    synchronize(inputs.device)
    started, done, seconds = time.perf_counter(), 0, 0.0
    while seconds < SHORTEST_MEASUREMENT:
        runner.logits(rows)
        synchronize(inputs.device)
        done, seconds = done + len(rows), time.perf_counter() - started
    return done / seconds


def _has_room(device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    return 1 - free / total < MEMORY_SHARE


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was asked, so that a clock reads the work and not the asking."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
