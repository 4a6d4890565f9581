"""Explanations averaged over noisy inputs, of a model and of the same with random weights."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from harness.batch import Batch
from harness.metrics._randomised import Explain, Randomisation, at_each_stage
from harness.randomness import normal, skip
from harness.samples import Samples

NOISY_ROWS = 256  # noisy inputs explained at a time: full batches for the explainer, whatever the number of samples


def smooth_maps(batch: Batch, randomisation: Randomisation, draws: int, noise: float) -> tuple[Tensor, Tensor]:
    """The mean maps of the model (N, *units) and those at every stage of random weights (N, stages, *units).

    Means over ``draws`` draws of Gaussian noise on the input, with a standard deviation of ``noise`` times the range of
    the data's values. Both are computed once, whatever compares them.
    """
    batch.need_explainer()
    smooth = lambda explain, inputs: _mean_maps(batch, explain, inputs, draws, noise)
    before = batch.remember(("smooth maps", draws, noise), lambda: smooth(batch.explain, batch.samples))
    key = ("smooth maps of random weights", draws, noise, randomisation)
    return before, batch.remember(key, lambda: at_each_stage(batch, randomisation, smooth))


def _mean_maps(batch: Batch, explain: Explain, samples: Samples, draws: int, noise: float) -> Tensor:
    """Mean map (N, *units) over the noisy inputs, float64."""
    sums = torch.zeros(len(samples), *batch.units.shape, dtype=torch.float64, device=samples.inputs.device)
    # The model's outputs for noisy inputs are needed only here: they are not stored for other runs.
    for noisy, rows in _noisy_samples(replace(samples, output_cache=None), draws, noise):
        sums.index_add_(0, rows, batch.reduced(explain(noisy)).double())
    return sums / draws


def _noisy_samples(samples: Samples, draws: int, noise: float) -> Iterator[tuple[Samples, Tensor]]:
    """Every sample with each of its draws of noise, some rows at a time, and each row's sample number."""
    low, high = (bound.expand_as(samples.inputs) for bound in samples.input_range())
    keys, shape = samples.stream("smooth_parameter_randomization"), samples.inputs.shape[1:]
    for rows in torch.arange(len(samples) * draws, device=samples.inputs.device).split(NOISY_ROWS):
        sample, draw = rows // draws, rows % draws
        # A normal draw takes two words of the stream.
        added = normal(skip(keys[sample], 2 * shape.numel() * draw), *shape)
        inputs = samples.inputs[sample] + (noise * (high - low)[sample] * added).to(samples.inputs)
        yield samples.with_inputs(inputs, sample), sample
