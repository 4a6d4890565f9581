"""The neighbours of an input, and how far a step to each of them moves the input, the explanation and the output.

Every sample has the same neighbours for all explainers: draws of noise that depend on the seed and the sample alone.
What does not depend on the explanation is computed once per block, the explanations once per explainer: all robustness
metrics with the same noise (and the same ``Floor``) share both.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from harness.batch import Batch
from harness.errors import UserError
from harness.metrics._outputs import predicted_class, same_class
from harness.option_types import ChangeOfInput, Count
from harness.randomness import normal, skip, uniform
from harness.samples import Samples

# Each distribution's stream of random numbers; to rename one would change its scores.
STREAMS = {"gaussian": "neighbours gaussian", "uniform": "max_sensitivity"}
# Perturbed inputs explained at a time, and the most numbers in them: full batches for the explainer.
ROWS_AT_ONCE, MOST_NUMBERS = 256, 2**22

# Former names of the options of ``Neighbourhood``.
RENAMED = {"samples": "draws"}


@dataclass(frozen=True)
class Neighbourhood:
    """Options of metrics that compare an input with its neighbours.

    radius    size of the noise that is added to an input, as a share of the range of the data's values
              (``Samples.input_range``; on a table each column has its own, which needs training inputs or a declared
              range); what is added is not clipped to the range
    draws     number of neighbours drawn per input, at least 1
    """

    radius: ChangeOfInput = 0.02
    draws: Count = 50


@dataclass(frozen=True)
class Noise(Neighbourhood):
    """Options of metrics that compare an input with its neighbours, beside those of ``Neighbourhood``.

    distribution   ``gaussian``: the radius is the standard deviation; ``uniform``: the noise is at most the radius
    """

    distribution: Literal["gaussian", "uniform"] = "gaussian"


@dataclass(frozen=True)
class Floor:
    """The least size of the elements that a change is divided by.

    share   of the root mean square over the elements, or of what is given in its place; larger elements stay as they
            are
    zero    what an element of 0 becomes instead, where ``share`` is 0
    """

    share: float = 0.01
    zero: float = 0.0

    def sizes(self, values: Tensor, usual: Tensor | None = None) -> Tensor:
        """The sizes of values (N, K), not below the floor; NaN for a row in which all are 0.

        ``usual`` (N or 1, K) is the usual size of each element, where it is not that of all elements of the row.
        """
        sizes = values.abs()
        usual = values.square().mean(1, keepdim=True).sqrt() if usual is None else usual
        floored = torch.maximum(sizes, self.share * usual) if self.share else sizes.masked_fill(sizes == 0, self.zero)
        return floored.masked_fill((sizes == 0).all(1, keepdim=True), float("nan"))


# Metrics without relative changes ask for the default too, and so share explanations with those that have them.
DEFAULT_FLOOR = Floor()


@dataclass(frozen=True)
class Moves:
    """How far values v have moved to v', for each draw: (N, draws) float64, Euclidean norms.

    plain      ||v' - v||
    relative   ||(v' - v) / v|| with each element divided by its own size, or the floor; NaN where v is 0 throughout
    """

    plain: Tensor
    relative: Tensor


@dataclass(frozen=True)
class Surroundings:
    """What the noise changes, whatever the explainer; tensors (N, draws).

    inputs            how far the input has moved, on a table in ranges of its columns
    outputs           ||h(x') - h(x)|| of the model's outputs h, all classes
    outputs_relative  the same divided by ||h(x)||; NaN where that is 0
    same_class        1 where the model's class is the same, else 0; NaN where an output is NaN; 1 for a single output
                      and for numbers
    """

    inputs: Moves
    outputs: Tensor
    outputs_relative: Tensor
    same_class: Tensor

    @property
    def untouched(self) -> Tensor:
        """Samples (N,) that no draw changed, because the range of values is 0 and so is the noise."""
        return (self.inputs.plain == 0).all(1)

    @property
    def columns(self) -> Tensor:
        """Per sample (N, 2): the share of draws that kept the class, and the mean relative change of the output."""
        return torch.stack([self.same_class.mean(1), self.outputs_relative.mean(1)], 1)


def neighbours(samples: Samples, noise: Noise, sample: Tensor, draw: Tensor) -> Tensor:
    """The perturbed inputs (rows, ...) of pairs of index vectors (rows,), the same in whatever parts they are made."""
    low, high = (bound.expand_as(samples.inputs)[sample] for bound in samples.input_range())
    shape, keys = samples.inputs.shape[1:], samples.stream(STREAMS[noise.distribution])[sample]
    if noise.distribution == "uniform":
        drawn = 2 * uniform(skip(keys, shape.numel() * draw), *shape) - 1
    else:  # a normal number takes two elements of the stream
        drawn = normal(skip(keys, 2 * shape.numel() * draw), *shape)
    return samples.inputs[sample] + (noise.radius * (high - low) * drawn).to(samples.inputs)


def explanations(batch: Batch, noise: Noise, floor: Floor = DEFAULT_FLOOR) -> Moves:
    """How far the raw explanation moves with the input; the target and the explainer's randomness stay the same.

    NotApplicable for attributions that came without their explainer.
    """
    batch.need_explainer()
    return batch.remember(("neighbours", noise, floor), lambda: _explain_neighbours(batch, noise, floor))


def surroundings(samples: Samples, noise: Noise, floor: Floor = DEFAULT_FLOOR) -> Surroundings:
    """How input and output move, in forward passes shared by all explainers."""
    return samples.shared(("surroundings", noise, floor), lambda: _look_around(samples, noise, floor))


def pairs(samples: Samples, noise: Noise, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Index vectors of samples and draws, draw after draw of each sample, ``rows`` at a time."""
    count = torch.arange(len(samples) * noise.draws, device=samples.inputs.device)
    return ((part // noise.draws, part % noise.draws) for part in count.split(rows))


class DistanceFrom:
    """Measures how far values have moved from ``before`` (N, ...)."""

    def __init__(self, before: Tensor, floor: Floor, usual: Tensor | None = None) -> None:
        self.before = before.flatten(1).double()
        self.sizes = floor.sizes(self.before, usual)

    def __call__(self, after: Tensor, sample: Tensor) -> Tensor:
        """Plain and relative distance (rows, 2) of values (rows, ...) of samples (rows,); NaN where not finite."""
        change = after.flatten(1).double() - self.before[sample]
        distances = torch.stack([change.norm(dim=1), (change / self.sizes[sample]).norm(dim=1)], 1)
        return distances.masked_fill(~distances.isfinite(), float("nan"))


def by_draw(parts: list[Tensor], noise: Noise) -> tuple[Tensor, ...]:
    """The columns of parts (rows, K), put together as K tensors (N, draws)."""
    return torch.cat(parts).unflatten(0, (-1, noise.draws)).unbind(2)


def _explain_neighbours(batch: Batch, noise: Noise, floor: Floor) -> Moves:
    # The model's outputs for noisy inputs are needed only here: they are not stored for other runs.
    samples, measure, parts = replace(batch.samples, output_cache=None), DistanceFrom(batch.raw, floor), []
    for sample, draw in pairs(samples, noise, _explained_at_once(batch)):
        maps = batch.explain(samples.with_inputs(neighbours(samples, noise, sample, draw), sample))
        if maps.shape[1:] != batch.raw.shape[1:]:
            came, own = (("N", *each.shape[1:]) for each in (batch.raw, maps))
            raise UserError(f"attributions have shape {came}, expected {own} as the explainer gives them")
        parts.append(measure(maps, sample))
    return Moves(*by_draw(parts, noise))


def _explained_at_once(batch: Batch) -> int:
    """How many inputs to explain at a time: whole batches of the explainer."""
    size = getattr(batch.explain_again, "batch_size", 1)
    return size * max(1, min(ROWS_AT_ONCE, MOST_NUMBERS // batch.inputs[0].numel()) // size)


def _look_around(samples: Samples, noise: Noise, floor: Floor) -> Surroundings:
    unit, predictor, parts = _unit_of_distance(samples), samples.predictor, []
    measure = DistanceFrom(samples.inputs / unit, floor, _usual_sizes(samples) / unit.flatten(1).double())
    before = _flat_outputs(samples.model_outputs())
    classes, classed = predicted_class(before), samples.task.classed
    own = slice(1, None) if samples.task.one else slice(None)  # of one output made two columns, the output itself
    for sample, draw in pairs(samples, noise, predictor.chunk):
        near = neighbours(samples, noise, sample, draw)
        after = _flat_outputs(samples.model_outputs(near, sample))
        same = same_class(predicted_class(after), classes[sample]) if classed else torch.ones_like(after[:, 0])
        change = (after - before[sample])[:, own].norm(dim=1)
        parts.append(torch.cat([measure(near / unit, sample), change[:, None], same[:, None]], 1))
    plain, relative, change, same = by_draw(parts, noise)
    size = before[:, own].norm(dim=1, keepdim=True)
    relative_change = change / size.where(size > 0, float("nan"))
    return Surroundings(Moves(plain, relative), change, relative_change, same)


def _unit_of_distance(samples: Samples) -> Tensor:
    """What the distance of two inputs counts in, (1, ...): on a table the range of each column, otherwise 1.

    A change of an income is of another unit than one of an age. One declared range for all columns leaves them as they
    are.
    """
    one = torch.ones_like(samples.inputs[:1])
    declared = () if samples.value_range is None else map(torch.as_tensor, samples.value_range)
    if not samples.own_scales or (samples.value_range is not None and all(bound.numel() == 1 for bound in declared)):
        return one
    low, high = samples.input_range()
    return (high - low).expand_as(one).where(high > low, one)


def _usual_sizes(samples: Samples) -> Tensor:
    """The usual size of each number of an input, among those that have a scale in common: (N or 1, K) float64.

    On a table it is the root mean square of the column in the training inputs or, without these, the larger bound of
    its declared range. An income must not set the least size of an age.
    """
    if not samples.own_scales:
        values = samples.inputs.double()
        return values.square().mean(samples.scaled_together(), keepdim=True).sqrt().expand_as(values).flatten(1)
    if samples.train is None:
        low, high = samples.input_range()
        return torch.maximum(low.abs(), high.abs()).expand_as(samples.inputs).flatten(1).double()
    return samples.train.to(samples.inputs).double().square().mean(0).sqrt().flatten()[None]


def _flat_outputs(outputs: Tensor) -> Tensor:
    return outputs.view(len(outputs), -1).double()
