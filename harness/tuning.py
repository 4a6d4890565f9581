"""A faster twin of the model for forward-only work, and the number of rows per pass, found by a short calibration.

The twin is used only if its outputs equal the original's on this data, to TOLERANCE of the range of the logits.
"""

import copy
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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
    """Choose the predictor's scoring variant and chunk for inputs like these; records both in ``predictor.variant``."""
    started = time.perf_counter()
    variants = [v for v in _variants(predictor.module, inputs) if _equal(predictor, v, inputs)]
    first = FIRST_CHUNK.get(inputs.device.type, 8)
    rates = _rates(predictor, variants, inputs, first)
    best = max(range(len(variants)), key=lambda i: rates[i] * (1 if i else WORTHWHILE))
    chunk = _tuned_chunk(predictor, variants[best], inputs, first)
    use(predictor, variants[best], chunk)
    predictor.variant = {
        "variant": variants[best].name, "chunk": chunk, "gain": round(rates[best] / rates[0], 3),
        "difference": variants[best].difference, "calibration_seconds": round(time.perf_counter() - started, 2),
    }  # fmt: skip
    predictor.forwards = 0


def reuse(predictor: Predictor, inputs: Tensor, record: dict[str, Any]) -> bool:
    """Set the predictor up as an earlier calibration found best; False if that variant no longer equals the model."""
    for variant in _variants(predictor.module, inputs):
        if variant.name == record["variant"] and _equal(predictor, variant, inputs):
            use(predictor, variant, record["chunk"])
            predictor.variant, predictor.forwards = dict(record), 0
            return True
    return False


def use(predictor: Predictor, variant: Variant, chunk: int) -> None:
    """Let the predictor score with this variant."""
    predictor.scoring = None if variant.module is predictor.module else variant.module
    predictor.channels_last, predictor.chunk = variant.channels_last, chunk


def fold_batch_norm(model: nn.Module, example: Tensor) -> nn.Module | None:
    """A copy of the model with each BatchNorm folded into the convolution that feeds it, or None if there is none.

    Which convolution feeds which is seen in one forward pass, so it does not matter how the model was written. A
    convolution whose output is used elsewhere too gives a wrong copy; the caller's comparison catches that.
    """
    pairs = _conv_norm_pairs(model, example)
    if not pairs:
        return None
    twin = copy.deepcopy(model)
    for conv_name, norm_name in pairs:
        conv, norm = twin.get_submodule(conv_name), twin.get_submodule(norm_name)
        scale = (norm.weight if norm.affine else 1.0) / (norm.running_var + norm.eps).sqrt()
        shift = (norm.bias if norm.affine else 0.0) - norm.running_mean * scale
        bias = shift if conv.bias is None else conv.bias * scale + shift
        conv.weight = nn.Parameter((conv.weight * scale.view(-1, *[1] * (conv.weight.dim() - 1))).detach(), False)
        conv.bias = nn.Parameter(bias.detach(), False)
        parent, _, child = norm_name.rpartition(".")
        setattr(twin.get_submodule(parent), child, nn.Identity())
    return twin


def _conv_norm_pairs(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and the BatchNorms that receive their very output, each called once."""
    convs = {m: name for name, m in model.named_modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)}
    norms = {m: name for name, m in model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    made: dict[int, nn.Module] = {}
    kept, pairs, calls = [], [], []

    def after_conv(module: nn.Module, inputs: Any, output: Tensor) -> None:
        kept.append(output)  # alive, so that no later tensor gets its id
        made[id(output)] = module
        calls.append(module)

    def before_norm(module: nn.Module, inputs: Any) -> None:
        calls.append(module)
        if id(inputs[0]) in made and module.running_mean is not None:
            pairs.append((made[id(inputs[0])], module))

    with ExitStack() as hooks, torch.no_grad():
        for conv in convs:
            hooks.callback(conv.register_forward_hook(after_conv).remove)
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(before_norm).remove)
        model(example[:1])
    return [(convs[c], norms[n]) for c, n in pairs if calls.count(c) == calls.count(n) == 1]


def _variants(model: nn.Module, inputs: Tensor) -> Iterator[Variant]:
    yield Variant("eager", model)
    try:
        twin = fold_batch_norm(model, inputs)
        last = copy.deepcopy(twin or model).to(memory_format=torch.channels_last) if inputs.dim() == 4 else None
    except (RuntimeError, TypeError, NotImplementedError):  # a model that cannot be copied is run as it is
        return
    if twin is not None:
        yield Variant("folded", twin)
    if last is not None:
        yield Variant("folded channels_last" if twin is not None else "channels_last", last, channels_last=True)


def _equal(predictor: Predictor, variant: Variant, inputs: Tensor) -> bool:
    """Whether the variant gives the original's outputs on these inputs; the difference is kept."""
    original = predictor.live()
    candidate = predictor.live()
    use(candidate, variant, candidate.chunk)
    expected, got = original.logits(inputs), candidate.logits(inputs)
    spread = float(expected.max() - expected.min()) or 1.0
    variant.difference = float((got - expected).abs().max()) / spread
    return variant.difference <= TOLERANCE


def _rates(predictor: Predictor, variants: list[Variant], inputs: Tensor, chunk: int) -> list[float]:
    """Rows per second of each variant, best of interleaved rounds, so that a noisy moment hits all alike."""
    runners = [predictor.live() for _ in variants]
    for runner, variant in zip(runners, variants, strict=True):
        use(runner, variant, chunk)
    for runner in runners:  # the first pass of a variant sets things up
        runner.logits(inputs[:1])
    rounds = [[_rate(runner, inputs) for runner in runners] for _ in range(REPEATS)]
    return [max(column) for column in zip(*rounds, strict=True)]


def _tuned_chunk(predictor: Predictor, variant: Variant, inputs: Tensor, first: int) -> int:
    """The fewest rows per pass that run at the best rate, to 3 %: doubled from ``first`` until that has twice not
    helped."""
    runner = predictor.live()
    use(runner, variant, first)
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
