"""One number for sanity: whether an explanation depends on the model's weights and on the explained class."""

from typing import Annotated

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._chance import mean_and_largest_by_chance
from harness.metrics._outputs import output_count
from harness.metrics._randomised import Randomisation, RandomWeights, randomised_maps
from harness.metrics._similarity import Similarity, SimilarityName, similarity_of, with_reason
from harness.metrics.random_logit import other_class_maps
from harness.option_types import Count, Range, Repeats
from harness.registry import metric


@metric(
    better="higher",
    unit="share",
    span=(0, 1),
    kind="sanity",
    needs=("explainer",),
    curve_across=None,
    version=2,
)
def sanity(
    batch: Batch,
    *,
    similarity: SimilarityName = "spearman",
    weight_seeds: Repeats = 3,
    weights: RandomWeights = RandomWeights(),
    displacements: Annotated[int, Range(1, 10_000)] = 19,
    draws: Count = 3,
    distinct: Annotated[float, Range(-1, 1)] = 0.9,
) -> Scores:
    """Whether the explanation depends on the weights and on the class: the smaller of the two shares of random draws in
    which it does (after Adebayo et al. 2018, 1810.03292, and Sixt et al. 2020, 1912.09818).

    Weights: the share of ``weight_seeds`` models with random weights throughout whose map is no more similar to the
    original map than the most similar of its ``displacements`` random displacements (``chance_similarity``), of which
    none is drawn twice and those that only exchange equal columns do not count. A map unrelated to the original one
    exceeds them all with a probability of 1 / (1 + ``displacements``), or 1 / (1 + their number) where there are fewer:
    a grid of u units has u - 1 shifts, a table of u columns u! - 1 other orders. Class: the share
    of ``draws`` other classes whose map has a similarity below ``distinct`` (``random_logit`` with uniform draws: about
    1 for methods that ignore the class, 0.4 to 0.8 for others). From 0 to 1, higher is better; 0 for a map that ignores
    the model. Curves (N, 6) are the share and the similarity for the weights, the mean and the largest similarity by
    chance, and the share and the similarity for the class; the last two are NaN, and do not count, for a model with a
    single output. ``similarity``, ``weight_seed`` and ``running_statistics`` as in ``parameter_randomization``. Because
    similarity is signed, a map that only changes its sign passes. NaN where a map is constant or not finite, and where
    columns have so many equal values that fewer than four displaced maps are different. NotApplicable for attributions
    given without their explainer, for models without parameters, and where maps are too small for the similarity or
    have fewer than four displacements, unless ``displacements`` is as low.

    A map that does not look at the model depends on neither; two columns have a single displacement:

    >>> options = {"explainer": "input_magnitude", "displacements": 1}
    >>> harness.score("sanity", classes, inputs[1:], targets[1:], inputs[1:], **options).tolist()
    [0.0]
    """
    alike = similarity_of(similarity, batch.units.shape)
    randomisations = Randomisation(**vars(weights)).with_seeds(weight_seeds)
    by_weights = torch.stack([_compared_to_chance(batch, each, alike, displacements) for each in randomisations]).mean(
        0
    )
    by_class = _compared_to_classes(batch, alike, draws, distinct)
    shares = torch.stack([by_weights[:, 0], by_class[:, 0]], 1)
    # A check that cannot be made does not count; one that is undefined makes the score undefined.
    values = shares[:, 0] if output_count(batch.samples) < 2 else shares.amin(1)
    reason = (
        "a map of the model, of a randomised one or of another class is constant or not finite, or a map has too few "
        "different displacements"
    )
    return with_reason(values, reason, curves=torch.cat([by_weights, by_class], 1))


def _compared_to_chance(batch: Batch, randomisation: Randomisation, alike: Similarity, displacements: int) -> Tensor:
    """Passed or not, similarity, and mean and largest similarity by chance, with random weights throughout: (N, 4)."""
    before, after = batch.reduced(batch.raw), randomised_maps(batch, randomisation)[:, 0]
    similarity = alike(before, after)
    mean, largest = mean_and_largest_by_chance(batch.samples, before, after, alike, displacements)
    return torch.stack([_passed(similarity <= largest, similarity + largest), similarity, mean, largest], 1)


def _compared_to_classes(batch: Batch, alike: Similarity, draws: int, distinct: float) -> Tensor:
    """Share of other classes with another map, and mean similarity to their maps: (N, 2); NaN where there are none."""
    before = batch.reduced(batch.raw)
    if output_count(batch.samples) < 2:
        return before.new_full((len(batch), 2), float("nan"), dtype=torch.float64)
    each_class = other_class_maps(batch, "uniform", draws).unbind(1)
    similarity = torch.stack([alike(before, maps) for maps in each_class], 1)
    return torch.stack([_passed(similarity < distinct, similarity).mean(1), similarity.mean(1)], 1)


def _passed(passed: Tensor, similarity: Tensor) -> Tensor:
    """1 where passed, 0 where not, NaN where the similarity is undefined."""
    return passed.double().masked_fill(similarity.isnan(), float("nan"))
