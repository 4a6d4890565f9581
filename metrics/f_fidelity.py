"""F-Fidelity: faithfulness by random removal within the important units, on a model that has learnt to do without some
(Zheng et al. 2025, 2410.02970)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.metrics._curve import RemovalOrder
from harness.metrics._outputs import noted_if_not_finite, outputs_of_draws, predicted_class, same_class
from harness.metrics._similarity import with_reason
from harness.metrics._training import Training, copied, on_model, seed_of, train_model, training_samples
from harness.metrics.curves import score_unit
from harness.option_types import Count, Percent, SomeShare
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.randomness import skip, uniform
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.samples import Samples
from harness.task import ACCURACY, Score


@metric(
    better=lambda options: "higher" if options["order"] == "morf" else "lower",
    unit=score_unit,
    span={"accuracy": (-1, 1), "probability": (-1, 1)},
    needs=("train", "train_labels"),
    curve_across=lambda options: (
        f"% of the units, the {'most' if options['order'] == 'morf' else 'least'} important, of which parts are removed"
    ),
    curve_places="percents",
    curve_height="loss of {score}",
)
def f_fidelity(
    batch: Batch,
    *,
    percents: tuple[Percent, ...] = (10, 30, 50, 70, 90),
    order: RemovalOrder = "morf",
    most_chance: SomeShare = 0.5,
    removed_share: SomeShare = 0.1,
    draws: Count = 50,
    baseline: BaselineName = "typical",
    score: Score | Literal["accuracy"] = "accuracy",
    training: Training = Training(epochs=10, rate=0.001),
) -> Scores:
    """Mean loss of accuracy when random parts of the most important units are removed from a model fine-tuned on random
    removal (F-Fidelity: Zheng et al. 2025, 2410.02970).

    A copy of the model is fine-tuned on the training inputs, each without r units at random. It does not depend on the
    explainer, and is trained once for all. Then, for each of ``percents``, every unit among the top s is removed with
    the probability min(``most_chance``, r / s), so that no more units are missing on average than in training, in
    ``draws`` draws; r is ``removed_share`` of all units, rounded, and at least 1. The value is the copy's accuracy for
    the input less its mean accuracy for these draws, mean over ``percents``, as in the authors' code; accuracy is of
    the label or, without labels, of the explained class, and any other ``score`` is that of the explained class.
    ``order="morf"`` is FFid+, and higher is better; ``"lerf"``, the s least important units, is FFid-, and lower is
    better. In [-1, 1] for accuracy and probability. Curves (N, number of percents) are the losses at each; ties at
    random. NotApplicable without labelled training inputs, for models without classes, and beyond ``most_work``.

    Removing the first column with probability 1 / 2 loses half of its 3, removing the second loses nothing:

    >>> points, labels = torch.tensor([[3.0, 1.0], [4.0, -1.0]]), torch.tensor([1, 1])
    >>> data = harness.Data(points, labels, train=points, train_labels=labels)
    >>> options = {"percents": 50, "removed_share": 0.5, "draws": 1000, "baseline": "zero", "epochs": 0}
    >>> maps = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> harness.score("f_fidelity", classes, data, maps, **options, score="logit").round(decimals=1).tolist()
    [1.5, 0.0]
    """
    shares, samples = [percent / 100 for percent in percents], batch.samples
    train = training_samples(samples, training.most_work)
    key = ("f_fidelity", removed_share, baseline, training)
    model = samples.for_block(key, lambda: _trained_on_removal(train, removed_share, baseline, training))
    tuned = on_model(samples, model, key)
    whole = tuned.shared(("whole", score), lambda: _scored(tuned, 1, lambda sample, _: tuned.inputs[sample], score))
    partly = _scored(
        tuned,
        len(shares) * draws,
        _without_parts(batch, shares, order, most_chance, removed_share, draws, baseline),
        score,
    )
    losses = (whole - partly).view(len(batch), len(shares), draws).mean(2)
    tied = tied_share(batch.attributions.flatten(1))
    return with_reason(losses.mean(1), "an output is not a number", curves=losses, tied=tied)


def _trained_on_removal(train: Samples, removed_share: float, baseline: str, training: Training) -> nn.Module:
    """A copy of the model that has been trained on inputs without a random share of their units."""
    remove, count = train.remover(baseline), train.units.count
    removed = _number_removed(removed_share, count)

    def build(rows: Tensor, generator: torch.Generator) -> Tensor:
        place = torch.rand(len(rows), count, generator=generator).argsort(1).to(rows.device)
        return remove(rows, (place >= removed).view(-1, *train.units.shape))

    seed = seed_of(train.seed, "f_fidelity")
    return train_model(copied(train.predictor.module), train.task, build, train.targets, training, seed)


def _number_removed(share: float, count: int) -> int:
    """How many of ``count`` units are missing in training, and at most on average in the scored draws."""
    return max(1, round(share * count))


def _without_parts(
    batch: Batch, shares: list[float], order: str, most_chance: float, removed_share: float, draws: int, baseline: str
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function that builds the inputs of sample and number, the draws of each share one after the other."""
    samples, count = batch.samples, batch.units.count
    place = ranks(batch.attributions.flatten(1), samples.stream("ties 0"))
    place = count - 1 - place if order == "lerf" else place
    sizes = torch.tensor([max(1, int(share * count + 0.5)) for share in shares], device=place.device)
    chances = (_number_removed(removed_share, count) / sizes.double()).clamp(max=most_chance)
    keys, remove = samples.stream("f_fidelity"), samples.remover(baseline)

    def build(sample: Tensor, number: Tensor) -> Tensor:
        which = number // draws
        drawn = uniform(skip(keys[sample], count * number), count) < chances[which, None]
        gone = drawn & (place[sample] < sizes[which, None])
        return remove(sample, ~gone.view(-1, *batch.units.shape))

    return build


def _scored(samples: Samples, number: int, build: Callable[[Tensor, Tensor], Tensor], score: str) -> Tensor:
    """The score (N, number) float64 of inputs; for accuracy whether the prediction is right."""
    if score != ACCURACY:
        return pick(samples.track(number, build), score).double()
    right = samples.targets if samples.labels is None else samples.labels

    hits = lambda outputs, sample: same_class(predicted_class(outputs), right[sample])
    return noted_if_not_finite(outputs_of_draws(samples, number, build, hits))
