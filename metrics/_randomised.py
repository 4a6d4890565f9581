"""Explanations of a model whose weights are random: made once per explainer, whatever similarity compares them."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch, ExplainsAgain
from harness.errors import NotApplicable
from harness.guards import ModelGuard
from harness.metrics._outputs import predicted_class
from harness.metrics._weights import grouped, layers, redrawn
from harness.option_types import Seed, SizeOrZero
from harness.samples import Samples

ExplainedClass = Literal["fixed", "reargmax"]
Explain = Callable[[Samples], Tensor]

# Former names of the options of ``Randomisation``.
RENAMED = {"target": "explained_class"}


@dataclass(frozen=True)
class RandomWeights:
    """Options of metrics that make the model's weights random.

    weight_seed          seed of the random weights
    running_statistics   ``keep``: those of batch normalisation stay as they are; ``reset``: they are initialised too
    """

    weight_seed: Seed = 0
    running_statistics: Literal["keep", "reset"] = "keep"


@dataclass(frozen=True)
class Randomisation(RandomWeights):
    """Options of metrics that make the model's weights random in stages, beside those of ``RandomWeights``.

    mode              ``cascading`` randomises from the output down and keeps what is random, ``bottom_up`` from the
                      input up; ``independent`` randomises one stage at a time, from the output down
    stages            the largest number of groups into which the layers are divided, in the order they run; 0: one per
                      layer
    explained_class   ``fixed``: the target; ``reargmax``: the class that the random model predicts
    """

    mode: Literal["cascading", "bottom_up", "independent"] = "cascading"
    stages: SizeOrZero = 1
    explained_class: ExplainedClass = "fixed"

    def with_seeds(self, count: int) -> list["Randomisation"]:
        """The same with ``count`` successive seeds, from ``weight_seed`` up."""
        return [replace(self, weight_seed=self.weight_seed + number) for number in range(count)]


def randomised_maps(batch: Batch, how: Randomisation) -> Tensor:
    """The explainer's maps at every stage (N, stages, *units); what it prepares is made anew for each model."""
    make = lambda explain, samples: batch.reduced(explain(samples))
    return batch.remember(("maps of random weights", how), lambda: at_each_stage(batch, how, make))


def at_each_stage(batch: Batch, how: Randomisation, compute: Callable[[Explain, Samples], Tensor]) -> Tensor:
    """What ``compute(explain, samples)`` gives (N, ...) with the weights of each stage: (N, stages, ...)."""
    batch.need_explainer()
    # Closed here even if an explanation fails: the weights are restored at once, not by the garbage collector.
    with closing(random_models(batch.samples, how)) as models:
        return torch.stack([_on_current_weights(batch, how.explained_class, compute) for _ in models], 1)


def explainer_on(batch: Batch, samples: Samples) -> Explain:
    """The explainer on the model of ``samples``; what it prepares is made anew for that model.

    NotApplicable for another module than that of ``batch`` where ``explain_again`` is a plain function, which always
    explains its own model.
    """
    again = batch.explain_again
    if not isinstance(again, ExplainsAgain):
        if samples.predictor.module is not batch.samples.predictor.module:
            raise NotApplicable("explains another model, which a function that explains this one cannot do")
        return batch.explain
    return again.afresh(samples)


def random_models(samples: Samples, how: Randomisation) -> Generator[None, None, None]:
    """Run through the stages with the model's own weights randomised in place; restore them at the end."""
    model = samples.predictor.module
    from_output = layers(samples.predictor, samples.inputs, samples.carried)
    todo = grouped(from_output[::-1] if how.mode == "bottom_up" else from_output, how.stages)
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


def _on_current_weights(batch: Batch, explained_class: str, compute: Callable[[Explain, Samples], Tensor]) -> Tensor:
    """What ``compute(explain, samples)`` gives (N, ...) on the model with its present weights.

    NaN for samples of which the class is explained that the model predicts, but it predicts none: an output is not a
    number, or all are the same.
    """
    live = batch.samples.live()
    if explained_class == "fixed":
        return compute(explainer_on(batch, live), live)
    predicted = predicted_class(live.model_outputs().view(len(live), -1))
    live = replace(live, targets=predicted.clamp(min=0))
    found = compute(explainer_on(batch, live), live)
    return found.masked_fill((predicted < 0).view(-1, *[1] * (found.dim() - 1)), float("nan"))
