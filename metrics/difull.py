"""DiFull: a mosaic of which the model sees a single cell, so that nothing outside it can have had an influence.

The mosaics are those of ``grid_pointing``, with the sample's own image in a corner.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._mosaic_pool import check_mosaic_options, draw_mosaics, explain_mosaics, training_pool
from harness.metrics._mosaics import MosaicLayout, make_mosaics, per_cell
from harness.metrics._similarity import with_reason
from harness.randomness import bits
from harness.registry import metric

NOTHING = (
    "too few other classes have training inputs of the required confidence, or the explanation of a mosaic has no "
    "positive part or is not finite"
)


@metric(better="higher", unit="share", kind="localisation", needs=("explainer", "train"))
def difull(batch: Batch, *, side: int = 2, confidence: float = 0.99, draws: int = 1) -> Scores:
    """Share of the positive attribution in the only cell of a mosaic that the model sees (DiFull: Rao et al. 2022,
    2205.10435).

    The image is put into the upper left or the lower right corner of a mosaic of ``side`` x ``side`` images, as in the
    authors' code; the others are training inputs of other classes, each class once. The model is applied to this cell
    alone, so that all attribution outside is wrong. The score is the positive attribution in the cell over all positive
    attribution, mean over ``draws`` mosaics. In [0, 1], 1 / side^2 for a map that is the same everywhere; higher is
    better, and less than 1 is an error. Any model of images can be asked, since it gets images of its own size.
    ``confidence`` is the least probability of the class that a training input is predicted as.

    NaN where too few other classes have training inputs, where no attribution is positive (the authors' code: 0) or
    where one is not finite. NotApplicable for inputs that are no images, without training inputs, for models of one
    output, for attributions given without their explainer, and for explainers that read activations: enlarged to the
    mosaic, the maps of layers that see one cell say nothing about the others.

    A gradient is 0 where the model does not look; a map that is the same everywhere has a quarter in one of four cells:

    >>> brightest = torch.nn.Sequential(torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()).eval()
    >>> shown = 2 * torch.eye(4)[:, :, None, None].expand(4, 4, 2, 2)  # one image of each of four classes
    >>> flat = lambda model, inputs, targets: torch.ones_like(inputs)
    >>> given, options = (brightest, shown, torch.arange(4), shown), {"train": shown, "confidence": 0.4}
    >>> harness.score("difull", *given, explainer="input_x_gradient", **options).tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> harness.score("difull", *given, explainer=flat, **options).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    check_mosaic_options(batch, side, confidence, draws)
    if batch.explainer is not None and batch.explainer.access == "activations":
        raise NotApplicable("the explainer reads layers, which see one cell of a mosaic only")
    samples, pool = batch.samples, training_pool(batch.samples, side**2 - 1, confidence)
    usable = (pool.classes != samples.targets[:, None]).sum(1) >= side**2 - 1
    values = torch.full((len(batch),), float("nan"), dtype=torch.float64, device=samples.inputs.device)
    if usable.any():
        rows = usable.nonzero()[:, 0]
        layout = draw_mosaics(samples, pool, rows, side, draws)
        last = bits(samples.stream("difull corner")[rows], draws).view(-1) < 0
        layout = replace(layout, place=last.long() * (side**2 - 1))
        values[rows] = _shares_of_seen(batch, layout).view(-1, draws).mean(1)
    return with_reason(values, NOTHING)


def _shares_of_seen(batch: Batch, layout: MosaicLayout) -> Tensor:
    """The share (M,) float64 of the positive attribution in the cell that the model sees."""
    shares = torch.zeros(len(layout.place), dtype=torch.float64, device=layout.place.device)
    for place in layout.place.unique().tolist():
        rows = (layout.place == place).nonzero()[:, 0]
        here = MosaicLayout(layout.side, layout.sample[rows], layout.place[rows], layout.others[rows])
        found = []
        for part in here.split():
            mosaics = make_mosaics(batch.samples, part, resize=False)
            with _seeing(mosaics.predictor.module, layout.side, place):
                maps = mosaics.units.reduce(explain_mosaics(batch, mosaics), batch.reduction)
            cells = per_cell(maps.double().clamp(min=0), layout.side)
            found.append(cells[:, place] / cells.sum(1))
        shares[rows] = torch.cat(found)
    return shares


@contextmanager
def _seeing(model: nn.Module, side: int, place: int) -> Iterator[None]:
    """Inside, the model sees one cell of its inputs: by a hook and not a wrapping module, so that layers keep their
    names."""
    handle = model.register_forward_pre_hook(lambda module, arguments: _cell_of(arguments, side, place))
    try:
        yield
    finally:
        handle.remove()


def _cell_of(value: Any, side: int, place: int) -> Any:
    """One cell of every tensor: some libraries pass baselines beside the inputs, which their own hooks join."""
    if isinstance(value, tuple):
        return tuple(_cell_of(each, side, place) for each in value)
    if not isinstance(value, Tensor):
        return value
    height, width = (length // side for length in value.shape[-2:])
    row, column = divmod(place, side)
    return value[..., row * height : (row + 1) * height, column * width : (column + 1) * width]
