"""The neighbours of an input, and what a step to each of them does to the input, the explanation and the output.

Every sample has the same neighbours for all explainers: draws of noise that depend on the seed and the sample alone.
What does not depend on the explanation is computed once per block, the explanations once per explainer: all robustness
metrics under the same noise (and ``Floor``) share both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harness.batch import Batch
from harness.errors import UserError, unknown
from harness.randomness import normal, skip, uniform
from harness.samples import Samples

# Each distribution's stream; the uniform one's name is older than the others, and renaming it would change its scores.
STREAMS = {"gaussian": "neighbours gaussian", "uniform": "max_sensitivity"}
# Perturbed inputs explained at a time, and at most so many numbers in them: full batches for the explainer.
ROWS, MOST_NUMBERS = 256, 2**22


@dataclass(frozen=True)
class Noise:
    """What is added to an input, ``draws`` times: ``uniform`` noise in [-r, r] or ``gaussian`` noise of deviation r.

    r is ``radius`` times the range of the data's values (``Samples.input_range``). What is added is not clipped.
    """

    distribution: str
    radius: float
    draws: int

    def __post_init__(self) -> None:
        if self.distribution not in STREAMS:
            raise unknown("distribution", self.distribution, STREAMS)
        if not self.radius > 0:
            raise UserError(f"radius is {self.radius}, expected a number above 0")
        if self.draws < 1:
            raise UserError(f"samples is {self.draws}, expected at least 1")


@dataclass(frozen=True)
class Floor:
    """The least size of what a change is divided by, element by element.

    share   of the root mean square over the elements; larger sizes stay as they are
    zero    what a size of 0 becomes instead, where ``share`` is 0
    """

    share: float
    zero: float = 0.0

    def sizes(self, values: Tensor) -> Tensor:
        """The floored sizes of values (N, K); NaN where all of a row are 0."""
        sizes, rms = values.abs(), values.square().mean(1, keepdim=True).sqrt()
        floored = torch.maximum(sizes, self.share * rms) if self.share else sizes.masked_fill(sizes == 0, self.zero)
        return floored.masked_fill((sizes == 0).all(1, keepdim=True), float("nan"))


FLOOR = Floor(
    0.01
)  # also what metrics without relative changes ask for, so that they share with those at their default


@dataclass(frozen=True)
class Moves:
    """How far something is from where it was, for each draw: (N, draws) float64, Euclidean norms.

    plain      ||v' - v||
    relative   ||(v' - v) / v|| with each element divided by its own floored size; NaN where v is 0 throughout
    """

    plain: Tensor
    relative: Tensor


@dataclass(frozen=True)
class Surroundings:
    """What the noise does that no explainer has a say in; tensors (N, draws).

    inputs            how far the input was moved
    outputs           ||h(x') - h(x)|| of the model's outputs h, all classes
    outputs_relative  the same divided by ||h(x)||; NaN where that is 0
    kept              bool, whether the model's class stayed; always, where it has a single output
    """

    inputs: Moves
    outputs: Tensor
    outputs_relative: Tensor
    kept: Tensor

    @property
    def untouched(self) -> Tensor:
        """Samples (N,) that no draw changed, for want of a range to scale noise by: nothing was tried."""
        return (self.inputs.plain == 0).all(1)

    @property
    def columns(self) -> Tensor:
        """Per sample (N, 2): the share of draws that kept the class, and the mean relative change of the output."""
        return torch.stack([self.kept.double().mean(1), self.outputs_relative.mean(1)], 1)


def neighbours(samples: Samples, noise: Noise, sample: Tensor, draw: Tensor) -> Tensor:
    """The perturbed inputs (rows, ...) of pairs of index vectors (rows,), the same however they are asked for."""
    low, high = (bound.expand_as(samples.inputs)[sample] for bound in samples.input_range())
    shape, keys = samples.inputs.shape[1:], samples.stream(STREAMS[noise.distribution])[sample]
    if noise.distribution == "uniform":
        drawn = 2 * uniform(skip(keys, shape.numel() * draw), *shape) - 1
    else:  # a normal number takes two elements of the stream
        drawn = normal(skip(keys, 2 * shape.numel() * draw), *shape)
    return samples.inputs[sample] + noise.radius * (high - low) * drawn


def explanations(batch: Batch, noise: Noise, floor: Floor = FLOOR) -> Moves:
    """How the raw explanation moves with the input, its target and its randomness held fixed.

    NotApplicable for attributions that came without their explainer.
    """
    batch.need_explainer()
    return batch.remember(("neighbours", noise, floor), lambda: _explain(batch, noise, floor))


def surroundings(samples: Samples, noise: Noise, floor: Floor = FLOOR) -> Surroundings:
    """How input and output move, in forward passes shared by all explainers."""
    return samples.shared(("surroundings", noise, floor), lambda: _survey(samples, noise, floor))


def pairs(samples: Samples, noise: Noise, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Index vectors of samples and draws, draw after draw of each sample, so many rows at a time."""
    count = torch.arange(len(samples) * noise.draws, device=samples.inputs.device)
    return ((part // noise.draws, part % noise.draws) for part in count.split(rows))


class Measure:
    """Measures how far values are from where they were: ``before`` (N, ...)."""

    def __init__(self, before: Tensor, floor: Floor) -> None:
        self.before = before.flatten(1).double()
        self.sizes = floor.sizes(self.before)

    def __call__(self, after: Tensor, sample: Tensor) -> Tensor:
        """Plain and relative distance (rows, 2) of values (rows, ...) that belong to samples (rows,); NaN where values
        are not finite."""
        change = after.flatten(1).double() - self.before[sample]
        distances = torch.stack([change.norm(dim=1), (change / self.sizes[sample]).norm(dim=1)], 1)
        return distances.masked_fill(~distances.isfinite(), float("nan"))


def by_draw(parts: list[Tensor], noise: Noise) -> tuple[Tensor, ...]:
    """The columns of parts (rows, K), put together as K tensors (N, draws)."""
    return torch.cat(parts).unflatten(0, (-1, noise.draws)).unbind(2)


def _explain(batch: Batch, noise: Noise, floor: Floor) -> Moves:
    # Nobody will ask again what the model says of noisy inputs: nothing of theirs is kept from run to run.
    samples, measure, parts = replace(batch.samples, output_cache=None), Measure(batch.raw, floor), []
    for sample, draw in pairs(samples, noise, _rows(batch)):
        maps = batch.explain(samples.with_inputs(neighbours(samples, noise, sample, draw), sample))
        if maps.shape[1:] != batch.raw.shape[1:]:
            came, own = (("N", *found.shape[1:]) for found in (batch.raw, maps))
            raise UserError(f"attributions have shape {came}, expected {own} as the explainer gives them")
        parts.append(measure(maps, sample))
    return Moves(*by_draw(parts, noise))


def _rows(batch: Batch) -> int:
    """How many inputs to explain at a time: whole batches of the explainer."""
    size = getattr(batch.explain_again, "batch_size", 1)
    return size * max(1, min(ROWS, MOST_NUMBERS // batch.inputs[0].numel()) // size)


def _survey(samples: Samples, noise: Noise, floor: Floor) -> Surroundings:
    measure, predictor, parts = Measure(samples.inputs, floor), samples.predictor, []
    before = _outputs(samples, samples.inputs)
    for sample, draw in pairs(samples, noise, predictor.chunk):
        near = neighbours(samples, noise, sample, draw)
        after = _outputs(samples, near)
        kept = after.argmax(1) == before[sample].argmax(1)
        change = (after - before[sample]).norm(dim=1)
        parts.append(torch.cat([measure(near, sample), change[:, None], kept[:, None]], 1))
    plain, relative, change, kept = by_draw(parts, noise)
    size = before.norm(dim=1, keepdim=True)
    return Surroundings(Moves(plain, relative), change, change / size.where(size > 0, float("nan")), kept.bool())


def _outputs(samples: Samples, inputs: Tensor) -> Tensor:
    return samples.predictor.logits(inputs).view(len(inputs), -1).double()
