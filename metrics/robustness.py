"""Robustness: how much an explanation changes when its input hardly does. Constant maps are robust, and wrong."""

from collections.abc import Iterator

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import UserError
from harness.metrics._similarity import with_reason
from harness.randomness import skip, uniform
from harness.registry import metric
from harness.samples import Samples

ROWS = 256  # perturbed inputs explained at a time: full batches for the explainer, whatever the number of samples


@metric(better="lower", unit=lambda options: "attribution" if options["absolute"] else "ratio", kind="robustness")
def max_sensitivity(batch: Batch, *, radius: float = 0.02, samples: int = 50, absolute: bool = False) -> Scores:
    """Largest relative change of the explanation under small uniform noise on the input (Yeh et al. 2019, 1901.09392).

    max over ``samples`` draws of ||a(x + e) - a(x)|| / ||a(x)||, Euclidean norms of the raw maps, e uniform in the
    L-infinity ball of ``radius`` times the range of the data's values, not clipped; with ``absolute`` not divided.
    The target stays, stochastic explainers keep their seed, and all explainers see the same noise. At least 0, lower is
    better, and the more draws, the larger it is. NaN where a(x) is 0 throughout, or the range. NotApplicable for
    attributions given without their explainer; ValueError for maps that are given in another shape than the
    explainer's own.
    """
    before = batch.raw.flatten(1).double()
    change = torch.cat([
        (_explained(batch, noisy) - before[rows]).norm(dim=1)
        for noisy, rows in _noisy(batch.samples, radius, samples)
    ])  # fmt: skip
    largest = change.view(len(batch), samples).amax(1)
    low, high = batch.samples.input_range()
    still = (high == low).expand_as(batch.inputs).flatten(1).all(1)  # no range, no noise: nothing was tried
    values = largest if absolute else _ratio(largest, before.norm(dim=1))
    return with_reason(
        values.masked_fill(still, float("nan")),
        "the explanation is 0 throughout or not finite under noise, or there is no range of values to scale noise by",
    )


def _explained(batch: Batch, noisy: Samples) -> Tensor:
    maps = batch.explain(noisy)
    if maps.shape[1:] != batch.raw.shape[1:]:
        came, own = tuple(batch.raw.shape[1:]), tuple(maps.shape[1:])
        raise UserError(f"attributions have shape {('N', *came)}, expected {('N', *own)} as the explainer gives them")
    return maps.flatten(1).double()


def _noisy(samples: Samples, radius: float, draws: int) -> Iterator[tuple[Samples, Tensor]]:
    """Every sample with each of its draws of noise, some rows at a time, and each row's sample number."""
    pairs = torch.arange(len(samples) * draws, device=samples.inputs.device)
    return ((_perturbed(samples, rows // draws, rows % draws, radius), rows // draws) for rows in pairs.split(ROWS))


def _perturbed(samples: Samples, sample: Tensor, draw: Tensor, radius: float) -> Samples:
    low, high = (bound.expand_as(samples.inputs)[sample] for bound in samples.input_range())
    shape = samples.inputs.shape[1:]
    keys = skip(samples.stream("max_sensitivity")[sample], shape.numel() * draw)
    noise = radius * (high - low) * (2 * uniform(keys, *shape) - 1)
    return samples.with_inputs(samples.inputs[sample] + noise, sample)


def _ratio(change: Tensor, size: Tensor) -> Tensor:
    return (change / size).masked_fill(size == 0, float("nan"))
