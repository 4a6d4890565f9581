"""The one place that calls the model for work without gradients.

Callers number the perturbed inputs of all samples and draws, and give a function that builds the inputs for given row
numbers. The predictor calls it for one chunk at a time, on the device, and passes full batches through the model.
"""

from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError, unknown

# The tracked outputs: three numbers per input and target, from which every score follows without another pass.
LOGIT, LOG_PROBABILITY, LOG_ODDS = range(3)
SCORES = ("logit", "probability", "log_odds")

# Whether any output picked since the last reset was NaN or infinite; it gives the reason for a NaN score.
picked_not_finite: ContextVar[bool] = ContextVar("picked_not_finite", default=False)


def default_chunk(inputs: Tensor) -> int:
    """Rows per forward pass without calibration: as many as fit a CPU's cache, or enough to keep a GPU busy."""
    budget, least = (2**27, 128) if inputs.is_cuda else (2**18, 16)
    return max(least, min(4096, budget // max(inputs[0].nbytes, 1)))


def track(outputs: Tensor, targets: Tensor) -> Tensor:
    """Logit, log-probability and log-odds of each row's target: (N, 3) float32.

    ``outputs`` are logits (N, classes), (N, 1) or (N,). A single output has no class probability: its last two columns
    are NaN, and ``pick`` raises NotApplicable for them.
    """
    logits = outputs.float()
    logits = logits.unsqueeze(1) if logits.dim() == 1 else logits
    if logits.shape[1] == 1:
        return torch.cat([logits, torch.full_like(logits, float("nan")).expand(-1, 2)], dim=1)
    own = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], float("-inf")).logsumexp(1, keepdim=True)
    log_odds = own - others
    return torch.cat([own, nn.functional.logsigmoid(log_odds), log_odds], dim=1)


def target_logits(outputs: Tensor, targets: Tensor) -> Tensor:
    """The targets' logits (N,) from a model's outputs (N, classes), (N, 1) or (N,), with their autograd graph."""
    single = outputs.dim() == 1 or outputs.shape[1] == 1
    return outputs.reshape(-1) if single else outputs.gather(1, targets[:, None])[:, 0]


def pick(tracked: Tensor, score: str) -> Tensor:
    """The score (...) named ``logit``, ``probability`` or ``log_odds``, from tracked outputs (..., 3)."""
    if score not in SCORES:
        raise unknown("score", score, SCORES)
    if score != "logit" and tracked[..., LOG_ODDS].isnan().all() and not tracked[..., LOGIT].isnan().all():
        raise NotApplicable(f"a model with a single output has no class {score}; use score=logit")
    if not tracked[..., LOGIT].isfinite().all():
        picked_not_finite.set(True)
    if score == "logit":
        return tracked[..., LOGIT]
    return tracked[..., LOG_PROBABILITY].exp() if score == "probability" else tracked[..., LOG_ODDS]


def check_outputs(outputs: Any, count: int) -> Tensor:
    """The model's outputs, if they have a shape that is expected for ``count`` inputs; else UserError."""
    good = isinstance(outputs, Tensor) and outputs.dim() in (1, 2) and len(outputs) == count
    if not good:
        came = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError(f"model returned {came} for {count} inputs, expected logits ({count}, classes) or ({count},)")
    return outputs


@dataclass
class Predictor:
    """Calls a model on numbered rows, one chunk at a time, without gradients; halves the chunk when memory runs out.

    module         the model as the user gave it; randomisation tests change its weights for a while
    scoring        the scoring copy, which is faster and equivalent (``harness.engine.tuning``); None to use the module
    chunk          rows per forward pass
    autocast       the dtype of mixed precision, or None for full precision
    variant        which form of the model is called, and what its calibration measured
    forwards       number of rows passed so far
    halvings       how often the chunk was halved
    channels_last  whether inputs are laid out with channels last in memory
    """

    module: nn.Module
    scoring: nn.Module | None = None
    chunk: int = 32
    autocast: torch.dtype | None = None
    variant: dict[str, Any] = field(default_factory=lambda: {"variant": "eager"})
    forwards: int = 0
    halvings: int = 0
    channels_last: bool = False

    def live(self) -> "Predictor":
        """A predictor that calls the module itself and not its copy, so that a change of weights takes effect."""
        return replace(self, scoring=None, channels_last=False, variant={"variant": "eager"})

    def logits(self, inputs: Tensor) -> Tensor:
        """The model's outputs for inputs (N, ...): (N, classes) or (N,), float32."""
        return self._run(len(inputs), lambda rows: inputs[rows], lambda outputs, rows: outputs.float(), inputs.device)

    def track(self, count: int, build: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
        """Tracked outputs (count, 3) of the inputs that ``build(rows)`` makes for the row numbers 0 .. count - 1."""
        if not count:
            return torch.empty(0, len(SCORES), device=targets.device)
        return self._run(count, build, lambda outputs, rows: track(outputs, targets[rows]), targets.device)

    def _run(self, count: int, build: Callable, keep: Callable, device: torch.device) -> Tensor:
        results, start = [], 0
        while start < count:
            rows = torch.arange(start, min(start + self.chunk, count), device=device)
            try:
                results.append(keep(self._call(build(rows)), rows))
            except torch.OutOfMemoryError:
                self._halve(len(rows))
                continue
            start += len(rows)
        return torch.cat(results)

    def _call(self, inputs: Tensor) -> Tensor:
        if self.channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        context = torch.autocast(inputs.device.type, self.autocast) if self.autocast else nullcontext()
        with torch.no_grad(), context:
            outputs = check_outputs((self.scoring or self.module)(inputs), len(inputs))
        self.forwards += len(inputs)
        return outputs

    def _halve(self, rows: int) -> None:
        if rows <= 1:
            raise MemoryError(
                "the device's memory does not hold one forward pass of one input; use a smaller model or input"
            )
        self.chunk, self.halvings = max(1, min(self.chunk, rows) // 2), self.halvings + 1
        torch.cuda.empty_cache()
