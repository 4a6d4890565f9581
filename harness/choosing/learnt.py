"""Whether the model has learnt anything, as far as labels tell: explanations of one that guesses explain nothing."""

import numpy as np
import torch
from scipy import stats

from harness.engine.stage import Stage
from harness.jobs.accuracy import chance_of_as_many

MISTAKES = 0.05
LEAST_LABELS = 10
SHUFFLES, MOST_SHUFFLED = 1_999, 5_000  # random orders of labels, and the most labels of which they are taken


def why_not_learnt(stage: Stage) -> str:
    """Why nothing shows that the model has learnt its labels; "" if something does, or if labels do not tell.

    A classifier has learnt something if it is right more often than one that always answers the most frequent label
    (binomial test), or gives the labels a larger probability than their shares do (paired t-test of log-probabilities);
    a regression if outputs and labels correlate more than labels in a random order would (permutation test: outputs and
    labels with long tails correlate by chance more often than a t-test knows). All one-sided, at 5 % together.
    """
    if not labels_tell(stage):
        return ""
    labels = stage.labels[: stage.count].cpu()
    if _is_of_numbers(stage):
        return _of_numbers(stage.outputs[:, 0].double().numpy(), labels.double().numpy())
    return _of_classes(stage, labels)


def labels_tell(stage: Stage) -> bool:
    """Whether there are labels by which it can be tested: one for each of enough samples, of a kind that is known."""
    labels = stage.labels
    if labels is None or labels.dim() != 1 or stage.count < LEAST_LABELS:
        return False
    of_classes = not labels.is_floating_point() and stage.task.exclusive and stage.output_count > 1
    return of_classes or _is_of_numbers(stage)


def _is_of_numbers(stage: Stage) -> bool:
    return stage.task.name == "regression" and stage.output_count == 1


def _of_numbers(outputs: np.ndarray, labels: np.ndarray) -> str:
    if not np.ptp(labels) > 0:
        return ""
    varies = np.ptp(outputs) > 0
    if varies and _chance_to_correlate(outputs[:MOST_SHUFFLED], labels[:MOST_SHUFFLED]) <= MISTAKES:
        return ""
    correlation = float(np.corrcoef(outputs, labels)[0, 1]) if varies else 0.0
    return (
        f"the model's outputs and the labels of these {len(labels)} samples correlate by {correlation:.2f}, which "
        "chance explains"
    )


def _chance_to_correlate(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of random orders of the labels, these among them, that correlate as much or more with the outputs."""
    outputs, labels = ((each - each.mean()) / (np.abs(each - each.mean()).max() or 1.0) for each in (outputs, labels))
    draw, observed = np.random.default_rng(0), outputs @ labels
    rounding = 1e-9 * np.sqrt((outputs @ outputs) * (labels @ labels))
    as_much = sum(draw.permutation(labels) @ outputs >= observed - rounding for _ in range(SHUFFLES))
    return (1 + int(as_much)) / (1 + SHUFFLES)


def _of_classes(stage: Stage, labels: torch.Tensor) -> str:
    values, counts = torch.unique(labels, return_counts=True)
    if len(values) == 1:
        return ""
    right, n, chance = int((stage.predictions.cpu() == labels).sum()), len(labels), float(counts.max()) / len(labels)
    if chance_of_as_many(right, n, chance) <= MISTAKES / 2:
        return ""
    probabilities = stage.task.probabilities(stage.outputs)
    if probabilities is not None and int(labels.max()) < probabilities.shape[1]:
        given = probabilities.double().gather(1, labels[:, None].long())[:, 0].clamp_min(1e-300).log()
        shares = (counts.double() / n)[torch.searchsorted(values, labels)].log()
        gain = (given - shares).numpy()
        if np.ptp(gain) > 0 and stats.ttest_1samp(gain, 0, alternative="greater").pvalue <= MISTAKES / 2:
            return ""
    return (
        f"the model is right on {right} of these {n} samples ({right / n:.0%}), and one that always answers the most "
        f"frequent label on {chance:.0%}"
    )
