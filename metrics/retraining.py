"""Faithfulness by retraining: what removal takes from a model that has learnt to do without.

Small models only: ``largest`` bounds the number of parameters times the number of training inputs. Shared options:
``epochs`` of Adam in steps of ``batch_size`` inputs, whose rate rises to ``rate`` and falls to nought (one cycle).
Order of training, first weights and what is deleted depend on the seed alone, so that they are the same for all
explainers. The model itself is never touched: copies are trained, on the inputs' device.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.checks import check_finite
from harness.errors import NotApplicable, UserError
from harness.metrics._groups import groups
from harness.metrics._percents import percentages
from harness.metrics._randomised import explainer_on
from harness.metrics._training import Recipe, copied, fit, fresh, seed_of, training_samples
from harness.metrics.single_removal import deletion_correlation
from harness.ordering import ranks, tied_share
from harness.predictor import Predictor
from harness.registry import metric
from harness.samples import Samples

NEEDS = ("explainer", "train", "train_labels")


@metric(
    better=lambda options: "higher" if options["keep"] else "lower",
    unit="accuracy",
    kind="faithfulness",
    needs=(*NEEDS, "labels"),
)
def roar(
    batch: Batch,
    *,
    percents: str = "10 30 50 70 90",
    keep: bool = False,
    baseline: str = "train_mean",
    initialisations: int = 3,
    epochs: int = 20,
    rate: float = 0.003,
    batch_size: int = 64,
    largest: int = 10**8,
) -> Scores:
    """Accuracy after the most important units are removed and the model is retrained (ROAR: Hooker et al. 2019,
    1806.10758).

    For each of ``percents`` the top units of every training input, by the explainer's map of its label, become
    ``baseline``; ``initialisations`` models with fresh weights learn what is left, and classify the samples, whose top
    units are removed likewise, by their map of the explained class. A sample's score is how often it is classified as
    its label, mean over percents and models, so that the mean over samples is the accuracy. In [0, 1]; lower is better;
    with ``keep`` (KAR) the top units alone are kept, and higher is better. Curves (N, 1 + percents) begin with models
    retrained on whole inputs. At least one unit is removed and one kept, ties by lot. The paper's reference, a random
    ranking, is the control explainer ``random``: judge a score against its. The models are trained once for each
    explainer. Parameters without an initialiser of their own are redrawn with the mean and spread of the trained ones.
    NotApplicable without labels, labelled training inputs, an explainer, or classes; for a single unit; beyond
    ``largest``; for baselines that the data cannot give.
    """
    samples, recipe = batch.samples, Recipe(epochs, rate, batch_size)
    fractions = [percent / 100 for percent in percentages(percents)]
    batch.need_explainer()
    if samples.labels is None:
        raise NotApplicable("accuracy needs the labels of the samples, which the data does not have")
    if samples.units.count < 2:
        raise NotApplicable("the inputs have a single unit, of which there is nothing to order")
    if initialisations < 1:
        raise UserError(f"initialisations is {initialisations}, expected at least 1")
    train = training_samples(samples, largest)
    seeds = [seed_of(samples.seed, f"roar {number}") for number in range(initialisations)]
    whole = samples.for_block(("roar", recipe, initialisations), lambda: _retrained(train, train.inputs, recipe, seeds))
    models = batch.for_explainer(
        ("roar", percents, keep, baseline, recipe, initialisations),
        lambda: _retrained_without(batch, train, fractions, keep, baseline, recipe, seeds),
    )
    degraded = [_degraded(samples, batch.attributions, share, keep, baseline) for share in fractions]
    pairs = zip([whole, *models], [samples.inputs, *degraded], strict=True)
    curve = torch.stack([_accuracy(samples, each, inputs) for each, inputs in pairs], 1)
    return Scores(curve[:, 1:].mean(1), curves=curve, tied=tied_share(batch.attributions.flatten(1)))


@metric(better="higher", unit="correlation", kind="faithfulness", expects="contribution", needs=NEEDS)
def idsds(
    batch: Batch,
    *,
    segments: str = "grid:4",
    baseline: str = "zero",
    score: str = "logit",
    epochs: int = 10,
    rate: float = 0.001,
    batch_size: int = 64,
    largest: int = 10**8,
) -> Scores:
    """In-domain single deletion: ``single_deletion`` on a model that knows inputs with a patch missing (Hesse et al.
    2024, 2407.11910).

    A copy of the model is fine-tuned on the training inputs, of which each time half are whole and half lack one patch,
    drawn evenly, as in the authors' code; then the explainer explains the copy, and its maps, not those of the model
    itself, are correlated with the drops of the copy's score. With ``epochs=0`` the copy is the model as it is. The
    copy is trained once for all explainers, with Adam where the authors take SGD for 30 epochs on ImageNet. In [-1, 1],
    higher is better. NaN as for ``single_deletion``. NotApplicable without labelled training inputs, an explainer, or
    classes; beyond ``largest``; for a grid on a table (``segments="unit"``).
    """
    samples, recipe = batch.samples, Recipe(epochs, rate, batch_size)
    batch.need_explainer()
    train = training_samples(samples, largest)
    model = samples.for_block(
        ("idsds", segments, baseline, recipe), lambda: _fine_tuned(train, segments, baseline, recipe)
    )
    key = ("idsds", segments, baseline, recipe)
    tuned = _on(samples, model, samples.shared(key, dict))
    maps = batch.remember(key, lambda: check_finite(explainer_on(batch, tuned)(tuned)))
    return deletion_correlation(tuned, batch.reduced(maps), segments, baseline, score)


def _retrained_without(
    batch: Batch,
    train: Samples,
    shares: list[float],
    keep: bool,
    baseline: str,
    recipe: Recipe,
    seeds: list[int],
) -> list[list[nn.Module]]:
    """For each share the models retrained on inputs without it."""
    maps = batch.for_explainer("maps of the training inputs", lambda: check_finite(batch.explain(train)))
    reduced = batch.reduced(maps)
    return [_retrained(train, _degraded(train, reduced, share, keep, baseline), recipe, seeds) for share in shares]


def _retrained(train: Samples, inputs: Tensor, recipe: Recipe, seeds: list[int]) -> list[nn.Module]:
    """The model with fresh weights from each seed, trained on these inputs."""
    models = [fresh(train.predictor.module, seed) for seed in seeds]
    return [
        fit(model, lambda rows, _: inputs[rows], train.targets, recipe, seed)
        for model, seed in zip(models, seeds, strict=True)
    ]


def _degraded(samples: Samples, attributions: Tensor, share: float, keep: bool, baseline: str) -> Tensor:
    """The inputs (N, ...) with the share of units of the highest attributions removed, or with ``keep`` alone kept."""
    count = samples.units.count
    top = min(max(1, int(share * count + 0.5)), count - 1)
    place = ranks(attributions.flatten(1), samples.stream("ties 0"))
    kept = (place < top) if keep else (place >= top)
    every = torch.arange(len(samples), device=place.device)
    return samples.remover(baseline)(every, kept.view(-1, *samples.units.shape))


def _accuracy(samples: Samples, models: list[nn.Module], inputs: Tensor) -> Tensor:
    """How often the models classify each input as its label: (N,) float64."""
    right = [_calling(samples, model).logits(inputs).argmax(1) == samples.labels for model in models]
    return torch.stack(right).double().mean(0)


def _fine_tuned(train: Samples, segments: str, baseline: str, recipe: Recipe) -> nn.Module:
    """A copy of the model that has learnt that a group may be missing."""
    found, remove = groups(train, "segment", patch=1, segments=segments), train.remover(baseline)
    number = torch.arange(found.sizes.shape[1], device=train.inputs.device)

    def build(rows: Tensor, generator: torch.Generator) -> Tensor:
        drawn, whole = torch.rand(2, len(rows), generator=generator).to(found.totals.device)
        missing = (drawn * found.totals[rows]).long().masked_fill(whole < 0.5, -1)
        return remove(rows, found.spread(number != missing[:, None], rows))

    seed = seed_of(train.seed, "idsds")
    return fit(copied(train.predictor.module), build, train.targets, recipe, seed)


def _on(samples: Samples, model: nn.Module, memo: dict) -> Samples:
    """The same samples on another model, whose outputs go into a memo of their own."""
    return replace(samples.live(), predictor=_calling(samples, model), memo=memo, scratch={}, block={})


def _calling(samples: Samples, model: nn.Module) -> Predictor:
    return replace(samples.predictor.live(), module=model)
