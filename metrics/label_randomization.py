"""Sanity check by random labels: an explanation must tell a model that learnt from one that could only memorise."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError
from harness.guards import guarded
from harness.metrics._randomised import explainer_on
from harness.metrics._similarity import similarity_of, with_reason
from harness.metrics._training import Recipe, fit, fresh, seed_of, training_samples
from harness.registry import metric
from harness.samples import Samples


@dataclass(frozen=True)
class Twin:
    """A model of the same architecture trained on other labels, and its accuracy on what it was trained on."""

    module: nn.Module
    accuracy: float


@metric(
    better="lower",
    unit=lambda options: options["similarity"],
    kind="sanity",
    needs=("explainer", "train", "train_labels"),
)
def label_randomization(
    batch: Batch,
    *,
    similarity: str = "spearman",
    epochs: int = 150,
    rate: float = 0.003,
    batch_size: int = 64,
    weight_seed: int = 0,
    least_accuracy: float = 0.95,
    largest: int = 10**8,
) -> Scores:
    """Similarity of the explanation and the one of a twin trained on permuted labels (data randomisation: Adebayo et
    al. 2018, 1810.03292).

    Two twins of the model's architecture are trained on the training data from the same random weights in the same
    order of batches, one on the labels permuted and one on the true ones: Adam, ``epochs`` passes in steps of
    ``batch_size`` inputs, a rate that rises to ``rate`` and falls to nought; weights, order and permutation hang on
    ``weight_seed``. All are explained for the same class. The score is the similarity of the model's map and that of
    the twin of permuted labels; curves (N, 4) hold it, the one of the twin of true labels, which training again alone
    would leave, and both twins' training accuracies, permuted labels first. ``similarity`` as in
    ``parameter_randomization``. At most 1, lower is better. NaN where a map is constant or not finite. NotApplicable
    without labelled training inputs and classes, for attributions given without their explainer, where the number of
    parameters times that of training inputs is beyond ``largest``, where maps are too small for the similarity, and
    where a twin's training accuracy is under ``least_accuracy`` (the paper's is over 95 %): more ``epochs`` may help.
    """
    alike = similarity_of(similarity, batch.units.shape)
    batch.need_explainer()
    recipe = Recipe(epochs, rate, batch_size)
    twins = _twins(batch.samples, recipe, weight_seed, largest)
    for labels, twin in zip(("permuted", "true"), twins, strict=True):
        if twin.accuracy < least_accuracy:
            raise NotApplicable(
                f"the twin of {labels} labels has a training accuracy of {twin.accuracy:.3f}, under "
                f"least_accuracy={least_accuracy:g}"
            )
    key = ("maps of label twins", recipe, weight_seed)
    after = batch.remember(key, lambda: torch.stack([_maps_of(batch, twin.module) for twin in twins], 1))
    before = batch.reduced(batch.raw)
    found = torch.stack([alike(before, maps) for maps in after.unbind(1)], 1)
    reached = found.new_tensor([twin.accuracy for twin in twins]).expand(len(batch), 2)
    reason = "the map of the model or of its twin is constant or not finite"
    return with_reason(found[:, 0], reason, curves=torch.cat([found, reached], 1))


def _twins(samples: Samples, recipe: Recipe, seed: int, largest: int) -> tuple[Twin, Twin]:
    """The twins of permuted and of true labels, trained once per block."""
    if recipe.epochs < 1 or recipe.rate <= 0:
        raise UserError(f"epochs is {recipe.epochs} and rate {recipe.rate}, expected at least 1 and more than 0")
    train = training_samples(samples, largest)
    return samples.for_block(("label twins", recipe, seed), lambda: _trained(train, recipe, seed))


def _trained(train: Samples, recipe: Recipe, seed: int) -> tuple[Twin, Twin]:
    generator = torch.Generator().manual_seed(seed_of(seed, "permuted labels") % 2**63)
    order = torch.randperm(len(train), generator=generator).to(train.targets.device)
    return tuple(_twin(train, labels, recipe, seed) for labels in (train.targets[order], train.targets))


def _twin(train: Samples, labels: Tensor, recipe: Recipe, seed: int) -> Twin:
    module = fresh(train.predictor.module, seed)
    fit(module, lambda rows, _: train.inputs[rows], labels, recipe, seed)
    logits = replace(train.predictor.live(), module=module).logits(train.inputs)
    return Twin(module, (logits.argmax(1) == labels).double().mean().item())


def _maps_of(batch: Batch, twin: nn.Module) -> Tensor:
    """The explainer's maps (N, *units) of another model for the same samples and classes."""
    predictor = replace(batch.samples.predictor.live(), module=twin)
    samples = replace(batch.samples, predictor=predictor, memo={}, block={}, facts=None, output_cache=None)
    with guarded(twin):  # the next explainer needs it as it is
        return batch.reduced(explainer_on(batch, samples)(samples))
