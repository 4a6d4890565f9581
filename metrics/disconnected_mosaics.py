"""DiFull and DiPart: mosaics in which one cell alone can influence the output, so that attribution elsewhere is wrong.

In ``difull`` the model sees one cell, and in ``dipart`` its last layers do. The mosaics are those of ``grid_pointing``,
with the sample's own image in a corner.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from harness.as_written import as_written
from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.explainers._at_layer import MapLayer
from harness.explainers._layers import choose_layer
from harness.explainers._layouts import CHANNELS_LAST, TOKENS
from harness.metrics._mosaic_pool import (
    MosaicSide,
    check_mosaic_options,
    check_taken,
    draw_mosaics,
    explain_mosaics,
    training_pool,
)
from harness.metrics._mosaics import MosaicLayout, make_mosaics, per_cell
from harness.metrics._similarity import with_reason
from harness.option_types import Count, Share
from harness.randomness import bits
from harness.registry import metric

NOTHING = (
    "too few other classes have training inputs of the required confidence, or the explanation of a mosaic has no "
    "positive part or is not finite"
)

# Inside, a model's output depends on a single cell of its inputs: of this model, side of the mosaic and cell.
CutToCell = Callable[[nn.Module, int, int], AbstractContextManager[None]]


@metric(
    better="higher",
    unit="share",
    span=(0, 1),
    chance=lambda options: 1 / options["side"] ** 2,
    kind="localisation",
    needs=("explainer", "train"),
)
def difull(batch: Batch, *, side: MosaicSide = 2, confidence: Share = 0.99, draws: Count = 1) -> Scores:
    """Share of the positive attribution in the only cell of a mosaic that the model sees (DiFull: Rao et al. 2022,
    2205.10435).

    The image is put into the upper left or the lower right corner of a mosaic of ``side`` x ``side`` images, as in the
    authors' code; the others are training inputs of other classes, each class once. The model is applied to this cell
    alone, so that all attribution outside is wrong. The score is the positive attribution in the cell over all positive
    attribution, mean over ``draws`` mosaics. In [0, 1], higher is better: 1 for every correct map, 1 / side^2 for a
    map that is the same everywhere. Any model of images can be asked, since it gets images of its own size.
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
    return _shares_of_corner(batch, side, confidence, draws, _input_cut_to_cell)


@metric(
    better="higher",
    unit="share",
    span=(0, 1),
    chance=lambda options: 1 / options["side"] ** 2,
    kind="localisation",
    needs=("explainer", "train"),
)
def dipart(batch: Batch, *, side: MosaicSide = 2, confidence: Share = 0.99, draws: Count = 1) -> Scores:
    """Share of the positive attribution in the only cell of a mosaic whose features reach the classifier (DiPart: Rao
    et al. 2022, 2205.10435; 2303.11884).

    The mosaics and the score are those of ``difull``. Here the whole mosaic goes through the layers up to the last one
    that has places, and what follows, pooling and classifier, gets the places of the cell alone. So explainers that
    read activations can be asked too: at that layer, all attribution outside the cell is wrong. At the input it is
    wrong beyond the reach of the features next to the cell's edge, which also see their neighbours; so less than 1 is
    not always an error. In [0, 1], 1 / side^2 for a map that is the same everywhere; higher is better. The layer is the
    one that activation maps are made at by default, which for the paper's models is where its code cuts.

    NaN as for ``difull``. NotApplicable for inputs that are no images, without training inputs, for models of one
    output, for attributions given without their explainer, for models that take one size of image only, and for models
    without such a layer or with tokens for features.

    The gradient of features of one pixel is 0 outside the cell; a map that is the same everywhere has a quarter there:

    >>> colours = torch.nn.Conv2d(4, 4, 1, bias=False)
    >>> colours.weight.data = torch.eye(4)[:, :, None, None]
    >>> brightest = torch.nn.Sequential(colours, torch.nn.AdaptiveMaxPool2d(1), torch.nn.Flatten()).eval()
    >>> shown = 2 * torch.eye(4)[:, :, None, None].expand(4, 4, 2, 2)  # one image of each of four classes
    >>> flat = lambda model, inputs, targets: torch.ones_like(inputs)
    >>> given, options = (brightest, shown, torch.arange(4), shown), {"train": shown, "confidence": 0.4}
    >>> harness.score("dipart", *given, explainer="input_x_gradient", **options).tolist()
    [1.0, 1.0, 1.0, 1.0]
    >>> harness.score("dipart", *given, explainer=flat, **options).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    check_mosaic_options(batch, side, confidence, draws)
    samples = batch.samples
    layer = samples.for_block(("last layer with places",), lambda: choose_layer(batch.model, samples.live()))
    if layer.layout.kind == TOKENS:
        raise NotApplicable(f"the features of layer {layer.name!r} are tokens, of which none belong to one cell alone")
    return _shares_of_corner(batch, side, confidence, draws, partial(_features_cut_to_cell, layer))


def _shares_of_corner(batch: Batch, side: int, confidence: float, draws: int, cut_to_cell: CutToCell) -> Scores:
    """The mean share of the positive attribution in the cell that the model's output depends on."""
    samples, pool = batch.samples, training_pool(batch.samples, side**2 - 1, confidence)
    usable = (pool.classes != samples.targets[:, None]).sum(1) >= side**2 - 1
    values = torch.full((len(batch),), float("nan"), dtype=torch.float64, device=samples.inputs.device)
    if usable.any():
        rows = usable.nonzero()[:, 0]
        layout = draw_mosaics(samples, pool, rows, side, draws)
        last = bits(samples.stream("difull corner")[rows], draws).view(-1) < 0
        layout = replace(layout, place=last.long() * (side**2 - 1))
        values[rows] = _shares_of_cell(batch, layout, cut_to_cell).view(-1, draws).mean(1)
    return with_reason(values, NOTHING)


def _shares_of_cell(batch: Batch, layout: MosaicLayout, cut_to_cell: CutToCell) -> Tensor:
    """The share (M,) float64 of the positive attribution in the cell ``layout.place``, to which the model is cut."""
    shares = torch.zeros(len(layout.place), dtype=torch.float64, device=layout.place.device)
    for place in layout.place.unique().tolist():
        rows = (layout.place == place).nonzero()[:, 0]
        here = MosaicLayout(layout.side, layout.sample[rows], layout.place[rows], layout.others[rows])
        found = []
        for part in here.split():
            mosaics = make_mosaics(batch.samples, part, resize=False)
            with cut_to_cell(mosaics.predictor.module, layout.side, place):
                check_taken(mosaics)
                maps = mosaics.units.reduce(explain_mosaics(batch, mosaics), batch.reduction)
            cells = per_cell(maps.double().clamp(min=0), layout.side)
            found.append(cells[:, place] / cells.sum(1))
        shares[rows] = torch.cat(found)
    return shares


@contextmanager
def _input_cut_to_cell(model: nn.Module, side: int, place: int) -> Iterator[None]:
    """Inside, the model sees one cell of its inputs: by a hook and not a wrapping module, so that layers keep their
    names."""
    handle = model.register_forward_pre_hook(lambda module, arguments: _corner_of_all(arguments, side, place))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _features_cut_to_cell(layer: MapLayer, model: nn.Module, side: int, place: int) -> Iterator[None]:
    """Inside, the layers after ``layer`` get one cell of its output.

    An explainer that reads the layer gets all of its output: the cell is cut out by the last of the layer's hooks,
    which is added again before each call, as hooks run in the order in which they were added.
    """
    module = model.get_submodule(layer.name)
    axes = (-3, -2) if layer.layout.kind == CHANNELS_LAST else (-2, -1)

    cut = lambda module, arguments, output: _corner(output, side, place, axes)
    handles = [module.register_forward_hook(cut)]

    def cut_last(module: nn.Module, arguments: tuple) -> None:
        handles.pop().remove()
        handles.append(module.register_forward_hook(cut))

    before = module.register_forward_pre_hook(cut_last)
    try:
        with as_written():  # a compiled model skips hooks
            yield
    finally:
        for handle in (before, *handles):
            handle.remove()


def _corner_of_all(value: Any, side: int, place: int) -> Any:
    """A corner of every tensor: some libraries pass baselines beside the inputs, which their own hooks join."""
    if isinstance(value, tuple):
        return tuple(_corner_of_all(each, side, place) for each in value)
    return _corner(value, side, place, (-2, -1)) if isinstance(value, Tensor) else value


def _corner(values: Tensor, side: int, place: int, axes: tuple[int, int]) -> Tensor:
    """The upper left or lower right cell of a tensor of which ``axes`` are the height and the width of mosaics.

    Where layers without padding leave places that cannot be divided by ``side``, the cell is rounded down.
    """
    for axis in axes:
        whole, length = values.shape[axis], values.shape[axis] // side
        values = values.narrow(axis, 0 if place == 0 else whole - length, length)
    return values
