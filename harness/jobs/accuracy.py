"""How often the model is right on a block's samples, compared with chance."""

from collections.abc import Sequence

import torch
from scipy import special

from harness.engine.stage import Stage

ALPHA_OF_CHANCE = 0.05


def accuracy_lines(stage: Stage) -> list[str]:
    """Lines that say how often the model's class is the label, what chance is, and whether it is shown to be better.

    Chance is the share of the most frequent label among these samples: what a model is right on that always answers
    with it. One over the number of classes would be too low where labels are unequally frequent. The model is *not
    shown to be better than chance* if a model of that chance is as often right with a probability above 0.05 (binomial
    test, one-sided). No lines where labels are not known or are no classes.
    """
    labels = stage.labels
    if (
        labels is None
        or labels.dim() != 1
        or labels.is_floating_point()
        or not stage.task.exclusive
        or stage.output_count < 2
    ):
        return []
    labels = labels[: stage.count].cpu()
    right, count = int((stage.decisions.cpu() == labels).sum()), stage.count
    values, counts = torch.unique(labels, return_counts=True)
    most, chance = int(values[counts.argmax()]), int(counts.max()) / count
    name = _class_name(most, stage.model.classes or stage.data.classes)
    said = (
        f"the model is right on {right} of {count} samples ({right / count:.0%}); chance is {chance:.0%} "
        f"(always answering {name}, the most frequent label)"
    )
    if len(values) == 1:
        return [said, f"warning: all samples have the label {name}: whether the model has learned anything stays open"]
    if chance_of_as_many(right, count, chance) > ALPHA_OF_CHANCE:
        return [
            said,
            "warning: the model is not shown to be better than chance; explanations of one that guesses mean little",
        ]
    return [said]


def chance_of_as_many(right: int, count: int, chance: float) -> float:
    """The probability of ``right`` or more right answers of ``count``, each of which is right with ``chance``."""
    return 1.0 if right == 0 else float(special.bdtrc(right - 1, count, chance))


def _class_name(index: int, names: Sequence[str] | None) -> str:
    return repr(str(names[index])) if names is not None and 0 <= index < len(names) else f"class {index}"
