"""The scale of each number of an input: what noise and gradients are measured in.

An income in cents instead of euros must not change which column is important. Pixels have one scale, and so have the
embeddings of a text; columns of a table have one each, and so have the channels of a series.
"""

import torch
from torch import Tensor

from harness.messages import say
from harness.samples import Samples

ONE_SCALE = (
    "the spread of each column is not known without training inputs, so that noise and gradients count in one unit for "
    "all columns: the range of the sample; give train="
)


def scales(samples: Samples) -> Tensor:
    """The scale of each number, not below 0, in a shape that broadcasts to inputs (N, ...).

    It is the range (largest less smallest value) of the sample, for a series that of each channel in the sample. For a
    table, and for inputs of unknown axes, it is the standard deviation of each number in the training inputs; without
    these the width of the declared range; and without either the range of the sample, over all its columns, which is
    said.
    """
    inputs = samples.inputs
    if samples.own_scales:
        spread = None if samples.train is None else samples.for_block("spread", lambda: _spread(samples.train))
        if spread is not None and spread.any():  # a single training input has none
            return spread.to(inputs)
        if samples.value_range is not None:
            low, high = samples.input_range()
            return high - low
        samples.for_block("one scale for all columns", lambda: say(ONE_SCALE))
    over = samples.scaled_together()
    return inputs.amax(over, keepdim=True) - inputs.amin(over, keepdim=True)


def scales_of_paths(samples: Samples, start: Tensor) -> Tensor:
    """The scale of each number on a path from ``start`` (N, ...) to the inputs, above 0, in the inputs' shape.

    A number whose scale is 0, as in an image of one colour or a constant column, may still differ from ``start``: its
    scale is how far, for pixels the largest difference of all that have one scale. It is 1 where nothing differs.
    """
    inputs, own = samples.inputs, scales(samples)
    apart = (inputs - start).abs()
    if not samples.own_scales:
        apart = apart.amax(samples.scaled_together(), keepdim=True)
    unit = torch.where(own > 0, own, apart)
    return unit.where(unit > 0, 1).expand_as(inputs)


def _spread(train: Tensor) -> Tensor:
    return train.float().std(0, correction=0, keepdim=True)
