"""The entropy score of Hedström et al. 2024 (2405.02383) on unsigned maps, which the registered metric has signed."""

import torch

from harness.batch import Batch, Scores
from harness.metrics._randomised import Randomisation, RandomWeights, randomised_maps
from harness.metrics._similarity import with_reason
from harness.metrics.efficient_randomization import histogram_entropy
from harness.option_types import Repeats, Several

RESET = RandomWeights(running_statistics="reset")


def unsigned_entropy_rise(
    batch: Batch, *, bins: Several = 100, weights: RandomWeights = RESET, weight_seeds: Repeats = 1
) -> Scores:
    """``efficient_parameter_randomization`` of the maps' absolute values, after their channels are summed.

    Values (N,) are means over ``weight_seeds`` sets of random weights, curves (N, weight_seeds) the rises of each.
    """
    randomisation = Randomisation(**vars(weights))
    before = histogram_entropy(batch.reduced(batch.raw).abs(), bins)
    each = [randomised_maps(batch, how)[:, 0].abs() for how in randomisation.with_seeds(weight_seeds)]
    after = torch.stack([histogram_entropy(maps, bins) for maps in each], 1)
    rises = (after - before[:, None]) / before.masked_fill(before == 0, torch.nan)[:, None]
    return with_reason(rises.mean(1), "the explanation has an entropy of 0, or a map is not finite", curves=rises)
