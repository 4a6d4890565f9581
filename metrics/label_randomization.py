"""Sanity check by random labels: a model that learnt and one that only memorised must have different explanations."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.guards import guarded, own_changes_noted
from harness.metrics._outputs import predicted_class
from harness.metrics._randomised import explainer_on
from harness.metrics._similarity import SimilarityName, similarity_of, similarity_unit, with_reason
from harness.metrics._training import (
    RENAMED,
    Training,
    TwinTraining,
    seed_of,
    train_model,
    training_samples,
    with_fresh_weights,
)
from harness.option_types import Seed, Share
from harness.registry import metric
from harness.samples import Samples


@dataclass(frozen=True)
class Twin:
    """A model of the same architecture trained on other labels, and its accuracy on what it was trained on."""

    module: nn.Module
    accuracy: float


@metric(
    better="lower",
    unit=similarity_unit,
    span=(-1, 1),
    kind="sanity",
    needs=("explainer", "train", "train_labels"),
    renamed=RENAMED,
    curve_across=None,
)
def label_randomization(
    batch: Batch,
    *,
    similarity: SimilarityName = "spearman",
    training: TwinTraining = TwinTraining(epochs=150),
    weight_seed: Seed = 0,
    least_accuracy: Share = 0.95,
) -> Scores:
    """Similarity of the explanation and that of a twin model trained on permuted labels (data randomisation: Adebayo et
    al. 2018, 1810.03292).

    Two twins of the model's architecture are trained on the training data from the same random weights in the same
    order of batches, one on permuted labels and one on the true ones; weights, order and permutation depend on
    ``weight_seed``. All are explained for the same class. The score is the similarity of the model's map and that of
    the twin of permuted labels. Curves (N, 4) are: this similarity; that of the twin of true labels, which is what
    training again alone would leave; and both twins' training accuracies, permuted labels first. ``similarity`` as in
    ``parameter_randomization``. At most 1, lower is better. NaN where a map is constant or not finite. NotApplicable
    without labelled training inputs and classes, for attributions given without their explainer, beyond ``most_work``,
    where maps are too small for the similarity, and where a twin's training accuracy is under ``least_accuracy`` (the
    paper's is over 95 %): more ``epochs`` may help.

    A map that does not look at the model is the same for the twin:

    >>> data = harness.Data(inputs[1:], targets[1:], train=inputs, train_labels=torch.tensor([0, 1]))
    >>> options = {"explainer": "input_magnitude", "epochs": 1, "least_accuracy": 0}
    >>> similarity = harness.score("label_randomization", classes, data, inputs[1:], **options)
    >>> similarity.round(decimals=4).tolist()
    [1.0]
    """
    alike = similarity_of(similarity, batch.units.shape)
    batch.need_explainer()
    twins = _twins(batch.samples, training, weight_seed)
    for labels, twin in zip(("permuted", "true"), twins, strict=True):
        if twin.accuracy < least_accuracy:
            raise NotApplicable(
                f"the twin of {labels} labels has a training accuracy of {twin.accuracy:.3f}, under "
                f"least_accuracy={least_accuracy:g} (give more epochs=)"
            )
    key = ("maps of label twins", training, weight_seed)
    after = batch.remember(key, lambda: torch.stack([_maps_of_twin(batch, twin.module) for twin in twins], 1))
    before = batch.reduced(batch.raw)
    similarities = torch.stack([alike(before, maps) for maps in after.unbind(1)], 1)
    accuracies = similarities.new_tensor([twin.accuracy for twin in twins]).expand(len(batch), 2)
    reason = "the map of the model or of its twin is constant or not finite"
    return with_reason(similarities[:, 0], reason, curves=torch.cat([similarities, accuracies], 1))


def _twins(samples: Samples, training: Training, seed: int) -> tuple[Twin, Twin]:
    """The twins of permuted and of true labels, trained once per block."""
    train = training_samples(samples, training.most_work)
    return samples.for_block(("label twins", training, seed), lambda: _trained_twins(train, training, seed))


def _trained_twins(train: Samples, training: Training, seed: int) -> tuple[Twin, Twin]:
    generator = torch.Generator().manual_seed(seed_of(seed, "permuted labels") % 2**63)
    order = torch.randperm(len(train), generator=generator).to(train.targets.device)
    return tuple(_twin(train, labels, training, seed) for labels in (train.targets[order], train.targets))


def _twin(train: Samples, labels: Tensor, training: Training, seed: int) -> Twin:
    module = with_fresh_weights(train.predictor.module, seed)
    train_model(module, train.task, lambda rows, _: train.inputs[rows], labels, training, seed)
    logits = replace(train.predictor.live(), module=module).logits(train.inputs)
    return Twin(module, (predicted_class(logits) == labels).double().mean().item())


def _maps_of_twin(batch: Batch, twin: nn.Module) -> Tensor:
    """The explainer's maps (N, *units) of a twin for the same samples and classes."""
    predictor = replace(batch.samples.predictor.live(), module=twin)
    samples = replace(batch.samples, predictor=predictor, memo={}, block={}, facts=None, output_cache=None)
    with own_changes_noted(twin):
        predictor.logits(batch.inputs[:1])
    with guarded(twin):  # the next explainer needs it unchanged
        return batch.reduced(explainer_on(batch, samples)(samples))
