"""Faithfulness by retraining: what removal takes from a model that has learnt to do without the removed units.

For small models only. The options of training are those of ``harness.metrics._training.Training``. The order of
training, the initial weights and what is deleted depend only on the seed, so that they are the same for all explainers.
The model itself is never changed: copies are trained, on the inputs' device.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.checks import check_finite
from harness.errors import NotApplicable
from harness.metrics._groups import Grouping, make_groups
from harness.metrics._outputs import all_outputs, is_predicted, predicted_class, predicted_for_training
from harness.metrics._randomised import explainer_on
from harness.metrics._removal import SegmentDeletion, deletion_correlation
from harness.metrics._similarity import with_reason
from harness.metrics._training import (
    RENAMED,
    Training,
    TwinTraining,
    copied,
    on_model,
    predictor_of,
    seed_of,
    train_model,
    training_samples,
    with_fresh_weights,
)
from harness.option_types import InnerPercent, Repeats
from harness.ordering import ranks, tied_share
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.samples import Samples

NEEDS = ("explainer", "train", "train_labels")
AT_CHANCE = (
    "models retrained on whole inputs are right on no more of these than the most frequent class has, so that removal "
    "takes nothing from them (give more epochs= or another rate=)"
)
NO_NUMBER = "an output of a retrained model is not a number"


@metric(
    better=lambda options: "higher" if options["keep"] else "lower",
    unit="accuracy",
    span=(0, 1),
    needs=(*NEEDS, "labels"),
    renamed={**RENAMED, "initialisations": "weight_seeds"},
    curve_across=lambda options: "% kept" if options["keep"] else "% removed",
    curve_places=lambda options, count: [100 if options["keep"] else 0, *options["percents"]],
    curve_height="accuracy after retraining",
)
def roar(
    batch: Batch,
    *,
    percents: tuple[InnerPercent, ...] = (10, 30, 50, 70, 90),
    keep: bool = False,
    baseline: BaselineName = "train_mean",
    weight_seeds: Repeats = 3,
    training: TwinTraining = TwinTraining(),
) -> Scores:
    """Accuracy after the most important units are removed and the model is retrained (ROAR: Hooker et al. 2019,
    1806.10758).

    For each of ``percents`` the top units of every training input are replaced by ``baseline``; ``weight_seeds``
    models with new weights learn from what is left. They then classify the samples, whose top units are removed
    likewise. The maps of both are those of the class that the model predicts, as in the authors' code: maps of the
    label would write the label into the inputs. Where another class than the predicted one is explained, the predicted
    one is explained again. A sample's score is the share of percents and models for which it is classified as its
    label, so that the mean over samples is the accuracy. In [0, 1]; lower is better; with ``keep`` (KAR) only the top
    units are kept, and higher is better. Curves (N, 1 + percents) begin with models retrained on whole inputs. At least
    one unit is removed and one kept, ties at random.

    The paper's reference, a random ranking, is the control explainer ``random``: judge a score against its score. The
    models are trained once for each explainer. Parameters without an initialiser of their own are drawn with the mean
    and standard deviation of the trained ones. NotApplicable without labels, labelled training inputs, an explainer, or
    classes; for inputs of a single unit; beyond ``most_work``; where the training diverges; and for baselines that the
    data does not provide. NaN where models retrained on whole inputs have learnt nothing, and where an output of a
    retrained model is not a number.
    The default ``baseline`` is the paper's, also for images: the training mean, and not ``typical`` as elsewhere.

    The first of two columns decides the class. Without it every retrained model guesses:

    >>> points, labels = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]), torch.tensor([1, 1, 0, 0])
    >>> data = harness.Data(points, labels, train=points, train_labels=labels)
    >>> first = lambda model, inputs, targets: inputs * 0 + torch.tensor([1.0, 0.0])
    >>> maps = first(None, points, None)
    >>> scores = harness.score("roar", classes, data, maps, explainer=first, percents=50, rate=0.1)
    >>> round(scores.mean().item(), 4)
    0.5
    """
    samples = batch.samples
    fractions = [percent / 100 for percent in percents]
    batch.need_explainer()
    if samples.labels is None:
        raise NotApplicable("accuracy needs the labels of the samples, which the data does not have")
    if samples.units.count < 2:
        raise NotApplicable("the inputs have a single unit, so there is nothing to order")
    train = training_samples(samples, training.most_work)
    maps = batch.remember("maps of the predicted class", lambda: _own_maps(batch))
    seeds = [seed_of(samples.seed, f"roar {number}") for number in range(weight_seeds)]
    partial = lambda where, maps: (_without_top(where, maps, share, keep, baseline) for share in fractions)
    retrain = lambda inputs: _retrained(train, inputs, training, seeds)
    whole = samples.for_block(("roar", training, weight_seeds), lambda: retrain(train.inputs))
    models = batch.for_explainer(
        ("roar", percents, keep, baseline, training, weight_seeds),
        lambda: [retrain(inputs) for inputs in partial(train, _training_maps(batch, train))],
    )
    if samples.for_block(("roar learnt", training, weight_seeds), lambda: _learnt_nothing(train, whole)):
        return Scores(torch.full((len(batch),), math.nan, dtype=torch.float64), reason=AT_CHANCE)
    pairs = zip([whole, *models], [samples.inputs, *partial(samples, maps)], strict=True)
    curve = torch.stack([_accuracy_of(samples, each, inputs) for each, inputs in pairs], 1)
    predicted = predicted_class(all_outputs(samples))
    curve = curve.masked_fill(is_predicted(predicted, predicted).isnan()[:, None], math.nan)  # whose map is not known
    return with_reason(curve[:, 1:].mean(1), NO_NUMBER, curves=curve, tied=tied_share(maps.flatten(1)))


@metric(
    better="higher", unit="correlation", span=(-1, 1), chance=0, expects="contribution", needs=NEEDS, renamed=RENAMED
)
def idsds(
    batch: Batch,
    *,
    deletion: SegmentDeletion = SegmentDeletion(),
    training: Training = Training(epochs=10, rate=0.001),
) -> Scores:
    """In-domain single deletion: rank correlation of a patch's attribution and the drop of the score without it, of a
    model that was fine-tuned on inputs with a patch missing (Hesse et al. 2024, 2407.11910).

    A copy of the model is fine-tuned on the training inputs. As in the authors' code, half of those in a step are whole
    and half lack one patch, drawn uniformly. Then the explainer explains the copy, and its maps, not those of the model
    itself, are correlated with the drops of the copy's score. With ``epochs=0`` the copy is the model as it is. The
    copy is trained once for all explainers, with Adam, while the authors take SGD for 30 epochs on ImageNet. In
    [-1, 1], higher is better. NaN as for ``single_deletion``. NotApplicable without labelled training inputs, an
    explainer, or classes; beyond ``most_work``; and for a grid on a table.

    Without training, the drops of x_0 are 1 and 2, those of x_1 are 0, and the maps are the same:

    >>> options = {"explainer": "input_x_gradient", "baseline": "zero", "epochs": 0}
    >>> data = harness.Data(inputs, torch.tensor([1, 1]), train=inputs, train_labels=torch.tensor([1, 1]))
    >>> harness.score("idsds", classes, data, inputs, **options).round(decimals=4).tolist()
    [1.0, 1.0]
    """
    samples = batch.samples
    batch.need_explainer()
    train = training_samples(samples, training.most_work)
    key = ("idsds", deletion.segments, deletion.baseline, training)
    model = samples.for_block(key, lambda: _fine_tuned(train, deletion, training))
    tuned = on_model(samples, model, key)
    maps = batch.remember(key, lambda: check_finite(explainer_on(batch, tuned)(tuned)))
    return deletion_correlation(tuned, batch.reduced(maps), deletion)


def _own_maps(batch: Batch) -> Tensor:
    """The maps (N, *units) of the class that the model predicts: the given ones where that is the explained class, and
    where it predicts none."""
    predicted = predicted_class(all_outputs(batch.samples))
    other = ((predicted != batch.targets) & (predicted >= 0)).nonzero()[:, 0]
    if not len(other):
        return batch.attributions
    again = replace(batch.samples.live().take(other), targets=predicted[other])
    return batch.attributions.index_copy(0, other, batch.reduced(check_finite(batch.explain(again))))


def _training_maps(batch: Batch, train: Samples) -> Tensor:
    """The explainer's maps (R, *units) of the training inputs, for the classes that the model predicts."""

    def explain() -> Tensor:
        predicted = predicted_for_training(train, train.inputs).clamp(min=0)  # where all are the same, any will do
        return check_finite(batch.explain(replace(train.live(), targets=predicted)))

    return batch.reduced(batch.for_explainer("maps of the training inputs", explain))


def _retrained(train: Samples, inputs: Tensor, training: Training, seeds: list[int]) -> list[nn.Module]:
    """The model with new weights from each seed, trained on these inputs."""
    models = [with_fresh_weights(train.predictor.module, seed) for seed in seeds]
    return [
        train_model(model, train.task, lambda rows, _: inputs[rows], train.targets, training, seed)
        for model, seed in zip(models, seeds, strict=True)
    ]


def _learnt_nothing(train: Samples, models: list[nn.Module]) -> bool:
    """Whether models trained on whole inputs are on average right on no more of these than one class has."""
    right = replace(train, labels=train.targets)
    most_frequent = train.targets.bincount().max().item() / len(train)
    return not _accuracy_of(right, models, train.inputs).mean().item() > most_frequent  # also where it is NaN


def _without_top(samples: Samples, attributions: Tensor, share: float, keep: bool, baseline: str) -> Tensor:
    """The inputs (N, ...) without the share of units of the highest attributions; with ``keep`` only these are kept."""
    count = samples.units.count
    top = min(max(1, int(share * count + 0.5)), count - 1)
    place = ranks(attributions.flatten(1), samples.stream("ties 0"))
    kept = (place < top) if keep else (place >= top)
    every = torch.arange(len(samples), device=place.device)
    return samples.remover(baseline)(every, kept.view(-1, *samples.units.shape))


def _accuracy_of(samples: Samples, models: list[nn.Module], inputs: Tensor) -> Tensor:
    """The share of the models that classify each input as its label: (N,) float64, NaN where an output is NaN."""
    classes = [predicted_class(predictor_of(samples, model).logits(inputs)) for model in models]
    return torch.stack([is_predicted(each, samples.labels) for each in classes]).mean(0)


def _fine_tuned(train: Samples, deletion: SegmentDeletion, training: Training) -> nn.Module:
    """A copy of the model that has been trained with segments missing."""
    groups = make_groups(train, Grouping("segment", segments=deletion.segments))
    remove, number = train.remover(deletion.baseline), torch.arange(groups.sizes.shape[1], device=train.inputs.device)

    def build(rows: Tensor, generator: torch.Generator) -> Tensor:
        drawn, whole = torch.rand(2, len(rows), generator=generator).to(groups.totals.device)
        missing = (drawn * groups.totals[rows]).long().masked_fill(whole < 0.5, -1)
        return remove(rows, groups.spread(number != missing[:, None], rows))

    seed = seed_of(train.seed, "idsds")
    return train_model(copied(train.predictor.module), train.task, build, train.targets, training, seed)
