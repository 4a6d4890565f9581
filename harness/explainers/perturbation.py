"""Explainers that remove one part of the input after the other and watch the score: windows, segments."""

import math

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable, UserError
from harness.explainers._coalitions import TO_TYPICAL, SegmentRemoval, spread
from harness.option_types import TRIED_FILLS, TRIED_SEGMENTS, Size
from harness.predictor import pick
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.removal.segments import MOST_STEPS, tell_of_many_steps
from harness.samples import Samples
from harness.task import Score
from harness.units import Units


@explainer(access="forward", cost="W + 1 F", tunable={"baseline": TRIED_FILLS})  # W: windows
def occlusion(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    window: Size | None = None,
    stride: Size | None = None,
    baseline: BaselineName | Tensor = "typical_or_zero",
    score: Score = "logit",
) -> Tensor:
    """Occlusion: the drop of the score when a window is replaced by a baseline, averaged over the windows that cover a
    unit (Zeiler and Fergus 2013, 1311.2901).

    One channel, in units of ``score``; a pixel, a time step or a token is replaced in all its channels. ``window`` is a
    number of units along every axis, by default a seventh of each axis of an image (32 at 224 px), a quarter in
    volumes, 1 on tables and in texts and series of up to 128 units, and two of 128 parts in longer ones, which is told;
    ``stride`` is half the window by default. Windows that reach beyond the far edge are cut there. ``baseline``
    and ``score`` are those of ``feature_ablation``. One evaluation per window and one of the input. Not applicable to
    windows of several columns of a table.

    Example: f(image) = sum of the pixels less the sum of relu(pixel - 2). Windows of one pixel p, set to 0, lower it by
    p - relu(p - 2).

    >>> harness.explain("occlusion", pooled, image, target, window=1, baseline="zero")
    tensor([[[[1., 2.],
              [2., 2.]]]])
    """
    if window is None and context.units.position_axis is not None:
        tell_of_many_steps(context)
    sizes = _windows_and_strides(context.units, window, stride)
    inside = [_windows(n, *size).to(inputs.device) for n, size in zip(context.units.shape, sizes, strict=True)]
    counts = [len(each) for each in inside]

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        return ~_outer_product([each[at] for each, at in zip(inside, torch.unravel_index(draw, counts), strict=True)])

    tracked = context.masked(math.prod(counts), keep, baseline)
    drops = (context.clean(score)[:, None] - pick(tracked, score)).double().view(-1, *counts)
    covering = _outer_product([each.double().sum(0, keepdim=True) for each in inside])
    for each in inside:  # an axis of windows becomes an axis of units, the axes keep their order
        drops = torch.tensordot(drops, each.double(), ([1], [0]))
    return context.units.as_map((drops / covering).float())


@explainer(access="forward", cost="K + 1 F", tunable={"segments": TRIED_SEGMENTS, "baseline": TRIED_FILLS})
def feature_ablation(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    removal: SegmentRemoval = TO_TYPICAL,
) -> Tensor:
    """Feature ablation: the drop of the score when one segment alone is replaced by a baseline (occlusion of segments;
    Zeiler and Fergus 2013, 1311.2901).

    One channel, in units of ``score``: a segment's drop is shared equally by its units. One evaluation per segment and
    one of the input.

    Example: f(x) = x1 x2 at (1, 3) falls from 3 to 0 whichever column is set to 0.

    >>> harness.explain("feature_ablation", product, x, target, baseline="zero")
    tensor([[3., 3.]])
    """
    segments = context.segments(removal.segments)

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        return segments.labels[sample] != draw.view(-1, *[1] * len(context.units.shape))

    without = pick(context.masked(segments.most, keep, removal.replacement(context)), removal.score)
    return context.units.as_map(spread((context.clean(removal.score)[:, None] - without).double(), segments))


def _windows_and_strides(units: Units, window: int | None, stride: int | None) -> list[tuple[int, int]]:
    """The window and the stride along each axis of the units, with their defaults filled in."""
    if units.modality == "table" and (window or 1) > 1:
        raise NotApplicable("windows need neighbouring units, which the columns of a table are not")
    sizes = [_usual_window(units, length) if window is None else window for length in units.shape]
    if stride is not None and stride > min(sizes):
        raise UserError(f"stride is {stride}, expected at most the window, {min(sizes)}, or units go uncovered")
    return [(size, max(1, size // 2) if stride is None else stride) for size in sizes]


def _usual_window(units: Units, length: int) -> int:
    """The window along an axis of this length: the number of windows is bounded for inputs of any size."""
    if units.modality == "table":
        return 1
    if units.position_axis is not None:  # windows overlap by half: there are about as many as MOST_STEPS
        return 1 if length <= MOST_STEPS else math.ceil(2 * length / MOST_STEPS)
    return max(1, round(length / (7 if len(units.shape) < 3 else 4)))  # in three axes, sevenths would be 2,000 windows


def _windows(length: int, window: int, stride: int) -> Tensor:
    """Which places of an axis each window covers, (windows, length) bool; the last one reaches the edge."""
    count = max(0, -(-(length - window) // stride)) + 1
    offset = torch.arange(length) - stride * torch.arange(count)[:, None]
    return (offset >= 0) & (offset < window)


def _outer_product(per_axis: list[Tensor]) -> Tensor:
    """The outer product over the axes of the units: (rows, *units) from (rows, length) for each axis."""
    result = per_axis[0]
    for each in per_axis[1:]:
        result = result[..., None] * each.view(len(each), *[1] * (result.dim() - 1), -1)
    return result
