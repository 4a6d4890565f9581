"""Stands in for models and data where a test plants the scores, and measures where it does not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from scipy import stats

from harness.choosing.candidates import Candidate
from harness.choosing.headline import Headline
from harness.choosing.measuring import InMemory, Measured, Measuring
from harness.choosing.settings import Budget
from harness.engine.protocol import Protocol
from harness.engine.selection import Chosen, choose_one
from harness.engine.stage import set_stage
from harness.models.black_box import loaded_model
from harness.registry import EXPLAINERS, METRICS, Explainer

SRG = choose_one(METRICS, {"name": "srg", "label": "srg"})
DELETION = choose_one(METRICS, {"name": "deletion", "label": "deletion"})
HEADLINE = Headline((SRG,), (-1.0, 1.0), "probability")


def most_by_chance(runs, share):
    """As many of ``runs`` as a share of ``share`` exceeds with a probability of one in a thousand."""
    return stats.binom.isf(1e-3, runs, share)


def explainer_called(label, *, options: Mapping = {}, **capabilities):
    """An explainer that is never called, since its scores are planted."""
    entry = Explainer(capabilities.pop("name", label), lambda *given: None, dict(options), **capabilities)
    return Chosen(label, entry, dict(options))


def candidate_called(label, *, seconds=float("nan"), **more):
    """The same as a candidate."""
    return Candidate(explainer_called(label, **more), 1, seconds=seconds, evaluations=1.0)


@dataclass
class PlantedScores:
    """Stands in for ``Measuring``: what ``score`` (explainer, metric, rows) says, and what was asked for."""

    score: Callable[[Chosen, Chosen, np.ndarray], np.ndarray]
    asked: list = field(default_factory=list)

    def measure(self, part, explainers, metrics, *, audited=False):
        """Scores of a part."""
        self.asked.append((part, [each.label for each in explainers]))
        found = Measured()
        for explainer in explainers:
            for metric in metrics:
                scores = self.score(explainer, metric, np.array(part.rows))
                if isinstance(scores, str):
                    found.problems[explainer.label, metric.label] = scores
                else:
                    found.values[explainer.label, metric.label] = scores
        return found


def measuring_of(model, data, **protocol):
    """What measures explainers on a model and data for real."""
    protocol = Protocol.of({"target": "predicted", **protocol})
    stage = set_stage(loaded_model(model), data, protocol, torch.device("cpu"))
    stage.compute_outputs()
    return Measuring(stage, InMemory(), Budget())


def real_candidate(function, label=None, **capabilities):
    """A function of the test's own as a candidate."""
    entry = EXPLAINERS.resolve(function)
    entry = type(entry)(**{**vars(entry), **capabilities}) if capabilities else entry
    return Candidate(Chosen(label or entry.name, entry, dict(entry.options)), 1)


def stage_with(labels, outputs, *, regression=False):
    """What ``why_not_learnt`` reads of a stage."""
    outputs = torch.as_tensor(np.asarray(outputs)).float()
    outputs = outputs if outputs.dim() == 2 else outputs[:, None]
    task = SimpleNamespace(
        name="regression" if regression else "classes",
        exclusive=not regression,
        probabilities=lambda given: None if regression else given.softmax(1),
    )
    return SimpleNamespace(
        labels=torch.as_tensor(np.asarray(labels)),
        count=len(labels),
        task=task,
        outputs=outputs,
        output_count=outputs.shape[1],
        predictions=outputs.argmax(1),
    )
