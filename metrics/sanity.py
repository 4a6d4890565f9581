"""One number for sanity: whether an explanation depends on the model's weights and on the explained class."""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError
from harness.metrics._chance import chance
from harness.metrics._randomised import Randomisation, randomised_maps
from harness.metrics._similarity import Similarity, similarity_of, with_reason
from harness.metrics.random_logit import class_count, other_class_maps
from harness.registry import metric


@metric(better="higher", unit="share", kind="sanity", needs=("explainer",))
def sanity(
    batch: Batch,
    *,
    similarity: str = "spearman",
    weight_seeds: int = 3,
    weight_seed: int = 0,
    displacements: int = 19,
    draws: int = 3,
    distinct: float = 0.9,
    running_statistics: str = "keep",
) -> Scores:
    """Whether the explanation depends on the weights, and on the class: the smaller of the two shares of random draws
    in which it does, after Adebayo et al. 2018 (1810.03292) and Sixt et al. 2020 (1912.09818).

    Weights: the share of ``weight_seeds`` models with random weights throughout whose map is not more similar to the
    model's than all of ``displacements`` random displacements of that are (``chance_similarity``), which happens to
    unrelated maps with a chance of 1 / (1 + ``displacements``). Class: the share of ``draws`` other classes whose map
    has a similarity under ``distinct`` (``random_logit`` with even draws: about 1 for methods that ignore the class,
    0.4 to 0.8 for others). From 0 to 1, higher is better; 0 for a map that ignores the model. Curves (N, 6) hold the
    share and the similarity for the weights, the mean and the largest similarity by chance, and the share and the
    similarity for the class; the last two are NaN, and not counted, for a model with a single output. ``similarity``,
    ``weight_seed`` and ``running_statistics`` as in ``parameter_randomization``; signed, a map that no more than turns
    its sign passes. NaN where a map is constant or not finite. NotApplicable for attributions given without their
    explainer, for models without parameters, and where maps are too small for the similarity.
    """
    if not -1 <= distinct <= 1:
        raise UserError(f"distinct is {distinct}, expected a similarity from -1 to 1")
    alike = similarity_of(similarity, batch.units.shape)
    hows = Randomisation(weight_seed=weight_seed, running_statistics=running_statistics).seeds(weight_seeds)
    weights = torch.stack([_against_chance(batch, how, alike, displacements) for how in hows]).mean(0)
    classes = _against_classes(batch, alike, draws, distinct)
    shares = torch.stack([weights[:, 0], classes[:, 0]], 1)
    # A check that cannot be done decides nothing; one that comes out undefined leaves the score undefined.
    values = shares[:, 0] if class_count(batch.samples) < 2 else shares.amin(1)
    reason = "a map of the model, of a randomised one or of another class is constant or not finite"
    return with_reason(values, reason, curves=torch.cat([weights, classes], 1))


def _against_chance(batch: Batch, how: Randomisation, alike: Similarity, displacements: int) -> Tensor:
    """Passed or not, similarity, and mean and largest similarity by chance, with random weights throughout: (N, 4)."""
    before, after = batch.reduced(batch.raw), randomised_maps(batch, how)[:, 0]
    found, by_chance = alike(before, after), chance(batch.samples, before, after, alike, displacements)
    return torch.stack([_share(found <= by_chance.amax(1), found), found, by_chance.mean(1), by_chance.amax(1)], 1)


def _against_classes(batch: Batch, alike: Similarity, draws: int, distinct: float) -> Tensor:
    """Share of other classes with another map, and mean similarity to their maps: (N, 2); NaN where there are none."""
    before = batch.reduced(batch.raw)
    if class_count(batch.samples) < 2:
        return before.new_full((len(batch), 2), float("nan"), dtype=torch.float64)
    found = torch.stack([alike(before, maps) for maps in other_class_maps(batch, "uniform", draws).unbind(1)], 1)
    return torch.stack([_share(found < distinct, found).mean(1), found.mean(1)], 1)


def _share(passed: Tensor, similarity: Tensor) -> Tensor:
    return passed.double().masked_fill(similarity.isnan(), float("nan"))
