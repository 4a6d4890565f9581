"""The task of a model: what its outputs are, what a target is, which scores exist and which of them is the default.

The engine works with *canonical outputs* (N, K), which have one column for each possible target. ``Task.canonical``
computes them from the model's own outputs. A task says how the scores of a target follow from them:

    classes         K logits, of which one class is right; probability by softmax
    probabilities   K probabilities that sum to 1: the model ends in a softmax, which is not applied again
    binary          one output for the classes 0 and 1, a logit z or a probability p of class 1: made the columns
                    (-z, z), with a probability by sigmoid, or (1 - p, p)
    labels          K logits or probabilities of labels that do not exclude each other; probability by sigmoid, each by
                    itself
    regression      K numbers, which have no probability; the score is the output itself, with its sign
    segmentation    K classes; each column is the mean logit of the class over a region of the image
    detection       one column: the score of a box's class, times the overlap with the box

``binary`` and ``labels`` become the form with logits or the one with probabilities, whichever is certain from the
outputs. ``binary_logit``, ``binary_probability``, ``labels_logit`` and ``labels_probability`` are these forms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from harness.errors import NotApplicable, UserError, unknown

# The tracked outputs: three numbers per input and target, from which every score follows without another pass.
OUTPUT, LOG_PROBABILITY, LOG_ODDS = range(3)
TRACKED = 3
# ``output`` is the explained output as the model gives it; it exists for every task.
Score = Literal["logit", "probability", "log_odds", "output"]
SCORES = get_args(Score)
# Whether the prediction is right: a score of the tasks in which exactly one class is.
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Task:
    """What the outputs of a model are.

    name      as the user says it: a key of ``TASKS``
    link      how a probability follows from a column: ``softmax`` over all columns, ``sigmoid`` of each by itself,
              ``given`` (the columns are probabilities that sum to 1), ``given_each`` (each is one by itself), or None
    scores    the scores that exist
    default   the score where a metric's own default does not exist for this task
    one       whether the model has one output, which becomes two canonical columns, for the classes 0 and 1
    classed   whether a target is a class or a label and not a number, so that there are predicted classes
    presumed  whether only the number of outputs shows that they are classes; then a probability is refused until the
              user sets the task
    """

    name: str
    link: str | None
    scores: tuple[str, ...]
    default: str
    one: bool = False
    classed: bool = True
    presumed: bool = False

    @property
    def exclusive(self) -> bool:
        """Whether exactly one column is right for each sample, so that labels are one class index per sample."""
        return self.classed and self.link in ("softmax", "given") or self.one

    @property
    def independent(self) -> bool:
        """Whether the columns are labels that do not exclude each other, so that labels are 0 or 1 for each column."""
        return self.link in ("sigmoid", "given_each") and not self.one

    def in_words(self, columns: int) -> str:
        """The task and what the outputs are, in one line."""
        return f"task {self.name}: {MEANINGS[self.name].format(columns)}"

    def canonical(self, outputs: Tensor) -> Tensor:
        """The canonical outputs (N, K) of the model's outputs (N, K), (N, 1) or (N,), with their autograd graph."""
        if not self.one:
            return outputs
        column = outputs.reshape(-1, 1)
        return torch.cat([-column if self.link == "sigmoid" else 1 - column, column], 1)

    def track(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The explained output, its log-probability and its log-odds, (N, 3) float32, from canonical outputs.

        ``targets`` (N,) are columns. Where a task has no probability, or classes are only presumed, the last two are
        NaN, and ``harness.predictor.pick`` refuses them.
        """
        outputs = outputs.float()
        outputs = outputs.unsqueeze(1) if outputs.dim() == 1 else outputs
        if self.presumed or not self._has_probability(outputs):
            own = outputs[:, :1] if outputs.shape[1] == 1 else outputs.gather(1, targets[:, None])
            return torch.cat([own, torch.full_like(own, float("nan")).expand(-1, 2)], dim=1)
        own = outputs.gather(1, targets[:, None])
        if self.link == "softmax":
            log_odds = own - outputs.scatter(1, targets[:, None], float("-inf")).logsumexp(1, keepdim=True)
        elif self.link == "sigmoid":
            log_odds = own
        elif self.link == "given":  # the others' sum is more precise than 1 - p where p is close to 1
            others = outputs.scatter(1, targets[:, None], 0.0).sum(1, keepdim=True)
            return torch.cat([own, own.log(), own.log() - others.log()], dim=1)
        else:
            return torch.cat([own, own.log(), own.log() - torch.log1p(-own)], dim=1)
        return torch.cat([own, logsigmoid(log_odds), log_odds], dim=1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean negative log-likelihood of the targets (N,), to train a classifier by; from canonical outputs."""
        if self.link == "softmax":
            return cross_entropy(outputs, targets)
        return -self.track(outputs, targets)[:, LOG_PROBABILITY].mean()

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """The probability of each column (N, K) of canonical outputs; None where the task has none."""
        if not self._has_probability(outputs):
            return None
        if self.link == "softmax":
            return outputs.softmax(1)
        return outputs.sigmoid() if self.link == "sigmoid" else outputs

    def _has_probability(self, outputs: Tensor) -> bool:
        """Whether canonical outputs (N, K) have probabilities; one column alone has none among several classes."""
        among_several = self.link in ("softmax", "given")
        return self.link is not None and not (among_several and outputs.shape[1] == 1)

    def with_score(self, defaults: Mapping[str, Any], options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options of an item, with this task's default score in place of the item's own, if that does not exist.

        NotApplicable for another score that does not exist.
        """
        score = options.get("score")
        if self._has(score):
            return options
        if score == defaults.get("score"):
            return {**options, "score": self.default}
        raise NotApplicable(self._lacks(score))

    def check_score(self, options: Mapping[str, Any]) -> None:
        """NotApplicable if the user's own options name a score that this task does not have."""
        if not self._has(options.get("score")):
            raise NotApplicable(self._lacks(options["score"]))

    def _has(self, score: Any) -> bool:
        """Whether the score exists; so does one that is of an item's own kind, such as the loss of a forest."""
        own = not isinstance(score, str) or score not in (*SCORES, ACCURACY)
        return own or score in self.scores or (score == ACCURACY and self.exclusive)

    def _lacks(self, score: str) -> str:
        return f"a model with task={self.name} has no {score.replace('_', ' ')}; use score={self.default}"


MEANINGS = {
    "classes": "{} outputs are logits of classes",
    "probabilities": "{} outputs are probabilities of classes",
    "binary": "one output is the logit of class 1 against class 0",
    "binary_logit": "one output is the logit of class 1 against class 0",
    "binary_probability": "one output is the probability of class 1",
    "labels": "{} outputs are logits of independent labels",
    "labels_logit": "{} outputs are logits of independent labels",
    "labels_probability": "{} outputs are probabilities of independent labels",
    "regression": "{} output(s) are numbers to predict",
    "segmentation": "{} classes, each by its mean logit over a region of the image",
    "detection": "the score of a box and its class",
}
OF_PROBABILITIES = ("probability", "log_odds", "output")  # scores of outputs that are probabilities already
TASKS = {
    task.name: task
    for task in (
        Task("classes", "softmax", SCORES, "probability"),
        Task("probabilities", "given", OF_PROBABILITIES, "probability"),
        Task("binary", "sigmoid", SCORES, "probability", one=True),
        Task("binary_logit", "sigmoid", SCORES, "probability", one=True),
        Task("binary_probability", "given", OF_PROBABILITIES, "probability", one=True),
        Task("labels", "sigmoid", SCORES, "probability"),
        Task("labels_logit", "sigmoid", SCORES, "probability"),
        Task("labels_probability", "given_each", OF_PROBABILITIES, "probability"),
        Task("regression", None, ("output", "logit"), "output", classed=False),
        Task("segmentation", None, ("output", "logit"), "output"),
        Task("detection", None, ("output",), "output"),
    )
}
OTHER_TASK_NAMES = {  # what they are called elsewhere
    "classes": ("class", "classification", "classifier", "multiclass", "logits"),
    "probabilities": ("softmax", "probability", "probs"),
    "binary": ("binary_classification", "logit"),
    "binary_probability": ("sigmoid",),
    "labels": ("multilabel", "multi_label", "label"),
    "regression": ("regressor", "number", "numbers"),
    "segmentation": ("semantic_segmentation", "segment"),
    "detection": ("object_detection", "detector", "boxes"),
}
CLASSES, REGRESSION = TASKS["classes"], TASKS["regression"]


def task_named(name: Any) -> Task:
    """The task of this name, or the task itself; UserError for a name of no task."""
    if isinstance(name, Task):
        return name
    if not isinstance(name, str) or name not in TASKS:
        meant = [task for task, words in OTHER_TASK_NAMES.items() if str(name).lower() in words]
        raise unknown("task", name, TASKS, meant=meant)
    return TASKS[name]


def one_task(of_model: Any, of_data: Any) -> Task | None:
    """The task that the model or the data names, or None; UserError if they name different ones."""
    told = [task_named(name) for name in (of_model, of_data) if name is not None]
    if len(set(told)) > 1:
        raise UserError(f"the model says task={told[0].name}, the data says task={told[1].name}; give one of them")
    return told[0] if told else None
