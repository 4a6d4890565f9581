"""Measures the cost of explaining: seconds, forward and backward passes, and peak memory."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.engine.allocator import give_back_freed_memory
from harness.engine.explain import Explaining
from harness.predictor import Predictor
from harness.samples import Samples

UNCOUNTED = "passes outside the module's own call cannot be counted"


@dataclass
class Cost:
    """The cost of explaining, one number per sample (N,), float64 on the CPU.

    ``alone`` says whether no other run used the device meanwhile, so that the timings are valid.
    """

    seconds: Tensor
    setup_seconds: Tensor
    forwards: Tensor
    backwards: Tensor
    peak_memory_mb: Tensor
    alone: bool = True

    @property
    def reason(self) -> str:
        """Why the numbers of passes are NaN, or ""."""
        return UNCOUNTED if self.forwards.isnan().any() else ""

    def take(self, rows: Tensor) -> "Cost":
        """The cost of some of the samples."""
        rows = rows.cpu()
        parts = {n: v[rows] for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **parts)


def cut_costs(costs: Sequence[Cost], sizes: Sequence[int]) -> list[Cost]:
    """Costs of consecutive batches, joined and cut into parts of these sizes."""
    names = [name for name, value in vars(costs[0]).items() if isinstance(value, Tensor)]
    columns = {name: torch.cat([getattr(cost, name) for cost in costs]).split(list(sizes)) for name in names}
    alone = all(cost.alone for cost in costs)
    return [Cost(**{name: columns[name][i] for name in names}, alone=alone) for i in range(len(sizes))]


class PassCounter:
    """Counts the inputs that pass forward and backward through a module, by hooks that it removes again.

    Work without gradients goes through the predictor. If the predictor runs a copy of the module, which has no hooks,
    its own count of rows is added.

    exact   whether all passes could be counted; False if a layer was called outside a call of the whole module, or
            under ``vmap`` and similar transforms, which hide the number of inputs
    """

    def __init__(self, module: nn.Module, predictor: Predictor) -> None:
        self.module, self.predictor = module, predictor
        self.observed = self.forwards = self.backwards = self._open_calls = 0
        self.exact = True
        self._before = predictor.forwards

    def __deepcopy__(self, memo: dict[int, Any]) -> "PassCounter":
        return self  # a deep copy of the module copies its hooks, and these count here too

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the passes inside."""
        self._before = self.predictor.forwards
        with ExitStack() as hooks:
            for layer in _layers(self.module):
                hooks.callback(layer.register_forward_pre_hook(self._before_layer).remove)
            hooks.callback(self.module.register_forward_pre_hook(self._before_forward).remove)
            hooks.callback(self.module.register_forward_hook(self._after_forward, always_call=True).remove)
            yield
        self.forwards = self.forwards_so_far

    @property
    def forwards_so_far(self) -> int:
        """The inputs that have passed forward since counting began, also while it goes on."""
        own = self.predictor.forwards - self._before
        return self.observed + (0 if self.predictor.scoring is None else own)

    def _before_layer(self, module: nn.Module, inputs: Any) -> None:
        self.exact &= self._open_calls > 0

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        self._open_calls += 1

    def _after_forward(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._open_calls = max(0, self._open_calls - 1)  # called after errors too, even those of earlier hooks
        if not isinstance(output, Tensor):
            return
        self.exact &= not _hides_rows(output)
        self.observed += len(output)
        if output.requires_grad:
            output.register_hook(self._after_backward)

    def _after_backward(self, gradient: Tensor) -> None:
        self.exact &= not _hides_rows(gradient)
        self.backwards += len(gradient)


def _layers(module: nn.Module) -> list[nn.Module]:
    """The submodules that have weights of their own.

    Transformer layers are left out, because they do not use their fused path if they have a hook. Scripted modules are
    left out, because they do not call hooks.
    """
    opaque = (nn.TransformerEncoderLayer, torch.jit.ScriptModule)
    hidden = {part for outer in module.modules() if isinstance(outer, opaque) for part in outer.modules()}
    weighted = (part for part in module.modules() if next(part.parameters(recurse=False), None) is not None)
    return [part for part in weighted if part is not module and part not in hidden]


def _hides_rows(values: Tensor) -> bool:
    """Whether a function transform wraps the tensor, so that its length is not the number of inputs."""
    functorch = torch._C._functorch
    return functorch.is_functorch_wrapped_tensor(values) or functorch.is_legacy_batchedtensor(values)


def explain_measured(
    explaining: Explaining, samples: Samples, setup_seconds: float, alone: bool
) -> tuple[Tensor, Cost]:
    """Explain the samples in one call; returns raw attributions and the cost per sample."""
    count, device = len(samples), samples.inputs.device
    counter = PassCounter(explaining.model, samples.predictor)
    with counter.counting(), PeakMemory(device) as memory:
        synchronize(device)
        started = time.perf_counter()
        raw = explaining.explain(samples)
        synchronize(device)
        seconds = time.perf_counter() - started
    fill = lambda value: torch.full((count,), float(value), dtype=torch.float64)
    share = (1 if _counts_are_complete(counter, explaining, samples) else float("nan")) / count
    cost = Cost(
        fill(seconds / count),
        fill(setup_seconds),
        fill(counter.forwards * share),
        fill(counter.backwards * share),
        fill(memory.megabytes),
        alone,
    )
    return raw, cost


def _counts_are_complete(counter: PassCounter, explaining: Explaining, samples: Samples) -> bool:
    """Whether all passes were counted; a local explainer for which none was counted must not have used the model."""
    may_call = explaining.entry.access != "none" and explaining.entry.scope == "local"
    if not counter.exact or not may_call or counter.forwards > 0:
        return counter.exact
    if explaining.reads_weights is None:  # one more call, of one sample and once for all batches
        one = samples.take(torch.arange(1, device=samples.inputs.device))
        with WeightWatch(explaining.model) as watch:
            explaining.explain(replace(one, facts=None))  # facts are those of the measured calls
        explaining.reads_weights = not watch.unused
    return not explaining.reads_weights


class WeightWatch(TorchDispatchMode):
    """Inside it, notes whether an operation reads a weight of the module, whatever way the module is called.

    unused   True if the module has weights and no operation has read one
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.weights = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
        self.unused = bool(self.weights)

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        for value in tree_leaves((arguments, keywords or {})):
            if isinstance(value, Tensor) and value.untyped_storage().data_ptr() in self.weights:
                self.unused = False
        return function(*arguments, **(keywords or {}))


def timed_setup(explaining: Explaining, samples: Samples) -> float:
    """Seconds that the explainer's preparation takes; 0 if it prepares nothing."""
    if explaining.entry.prepare is None:
        explaining.prepare(samples)  # still checks whether the explainer is applicable
        return 0.0
    synchronize(samples.inputs.device)
    started = time.perf_counter()
    explaining.prepare(samples)
    synchronize(samples.inputs.device)
    return time.perf_counter() - started


class PeakMemory:
    """Peak memory inside the ``with`` above the memory in use at its start, in MB: of the GPU, or of this process.

    For a process it is the peak resident size that Linux records and lets a process reset; on other systems it is NaN.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.megabytes = float("nan")

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            self.before = self._reset()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.megabytes = (torch.cuda.max_memory_allocated(self.device) - self.before) / 2**20
        elif self.before is not None:
            self.megabytes = max(0.0, (_status("VmHWM") - self.before) / 2**10)

    @staticmethod
    def _reset() -> int | None:
        give_back_freed_memory()
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
            return _status("VmRSS")
        except OSError:
            return None


def _status(name: str) -> int:
    """A number in kB from Linux's status of this process."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its queued work, so that a timing includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
