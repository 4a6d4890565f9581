"""Explanations of a model whose weights are random: made once per explainer, whatever they are compared by."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.batch import Batch, ExplainsAgain
from harness.errors import NotApplicable, UserError, unknown
from harness.guards import ModelGuard
from harness.metrics._weights import RUNNING_STATISTICS, grouped, layers, redrawn
from harness.samples import Samples

MODES = ("cascading", "bottom_up", "independent")
TARGETS = ("fixed", "reargmax")
Explain = Callable[[Samples], Tensor]


@dataclass(frozen=True)
class Randomisation:
    """Which weights become random, in which order, and which class is explained: options of the same names.

    As it stands, everything at once: ``stages`` 1.
    """

    mode: str = "cascading"
    stages: int = 1
    target: str = "fixed"
    weight_seed: int = 0
    running_statistics: str = "keep"

    def __post_init__(self) -> None:
        for what, choices in (("mode", MODES), ("target", TARGETS), ("running_statistics", RUNNING_STATISTICS)):
            if getattr(self, what) not in choices:
                raise unknown(what, getattr(self, what), choices)
        if self.stages < 0:
            raise UserError(f"stages is {self.stages}, expected a number of groups of layers, or 0 for one per layer")

    def seeds(self, count: int) -> list["Randomisation"]:
        """The same with ``count`` seeds, from this one up."""
        if count < 1:
            raise UserError(f"weight_seeds is {count}, expected a number of sets of random weights from 1")
        return [replace(self, weight_seed=self.weight_seed + number) for number in range(count)]


def randomised_maps(batch: Batch, how: Randomisation) -> Tensor:
    """The explainer's maps at every stage (N, stages, *units), by whatever it prepares made afresh."""
    make = lambda explain, samples: batch.reduced(explain(samples))
    return batch.remember(("maps of random weights", how), lambda: at_each_stage(batch, how, make))


def at_each_stage(batch: Batch, how: Randomisation, compute: Callable[[Explain, Samples], Tensor]) -> Tensor:
    """What ``compute(explain, samples)`` gives (N, ...) with the weights of each stage: (N, stages, ...)."""
    batch.need_explainer()
    # Closed here even if an explanation fails: the weights must not wait for the garbage collector to come back.
    with closing(_stages(batch.samples, how)) as models:
        return torch.stack([compute(*_as_it_is(batch, how.target)) for _ in models], 1)


def explainer_on(batch: Batch, samples: Samples) -> Explain:
    """The explainer at work on the model of ``samples``, by whatever it prepares made afresh.

    NotApplicable for another module than that of ``batch`` where ``explain_again`` is a function of its own, which
    would explain its own model again.
    """
    again = batch.explain_again
    if not isinstance(again, ExplainsAgain):
        if samples.predictor.module is not batch.samples.predictor.module:
            raise NotApplicable("explains another model, which a function that explains this one cannot do")
        return batch.explain
    return again.afresh(samples)


def _stages(samples: Samples, how: Randomisation) -> Generator[None, None, None]:
    """Run through the stages with the model's own weights randomised in place; put them back at the end."""
    model = samples.predictor.module
    found = layers(samples.predictor, samples.inputs)
    todo = grouped(found[::-1] if how.mode == "bottom_up" else found, how.stages)
    guard = ModelGuard(model)
    done: set[int] = set()  # a tensor that two layers share is randomised with the one that comes first
    try:
        for stage in todo:
            drawn = redrawn(model, stage, how.weight_seed, how.running_statistics)
            pairs = [(old, new) for old, new in drawn if id(old) not in done]
            done.update(id(old) for old, _ in pairs)
            with torch.no_grad():
                for old, new in pairs:
                    old.copy_(new)
            yield
            if how.mode == "independent":
                guard.restore()
                done.clear()
    finally:
        guard.restore()


def _as_it_is(batch: Batch, target: str) -> tuple[Explain, Samples]:
    """The explainer and the samples on the model as it is now."""
    live = batch.samples.live()
    if target == "reargmax":
        logits = live.predictor.logits(live.inputs)
        live = replace(live, targets=logits.view(len(live), -1).argmax(1))
    return explainer_on(batch, live), live
