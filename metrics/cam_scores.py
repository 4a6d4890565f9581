"""Scores of class activation maps: what the model says of the image multiplied by its own map.

The map becomes weights E in [0, 1]: its positive part, less its smallest value, over its range, as the tools for class
activation maps scale it; a map whose positive part is the same everywhere has no weights, and its scores are NaN. A
unit with the weight e becomes e x + (1 - e) ``baseline``; with ``zero``, the default, this is the published product of
image and map. Y is the probability of the explained class for the image, O that for the weighted image.

These scores are made for coarse maps without sign. Weights of 0.5 everywhere also darken the image, so that a score
says how well the map can serve as a brightness, beside which pixels are important.

In the examples the logit of one of two classes is the sum of four pixels of ones, and that of the other is 0. The first
map keeps these four pixels, the second one other pixel.
"""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._sets import rounding
from harness.metrics._similarity import pearson, with_reason
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import BaselineName

NO_WEIGHTS = "the positive part of the map is the same everywhere"
NO_PROBABILITY = "or the probability is 0"
NO_SECOND_MAP = "or the map of the weighted image is not finite"


@metric(better="lower", unit="share", span=(0, 1))
def average_drop(batch: Batch, *, baseline: BaselineName | Tensor = "zero") -> Scores:
    """Share of the probability that is lost when the image is multiplied by its map (Grad-CAM++: Chattopadhay et al.
    2018, 1710.11063).

    max(0, Y - O) / Y, whose mean over samples is the paper's average drop (in percent there). In [0, 1], lower is
    better. NaN where the positive part of the map is the same everywhere, and where Y is 0 in single precision.
    NotApplicable to models without probabilities, and for baselines that depend on the units that remain.

    >>> maps = torch.stack([corner.float(), torch.zeros(1, 4, 4)])
    >>> maps[1, 0, 3, 3] = 1
    >>> data = images.expand(2, 1, 4, 4), torch.zeros(2, dtype=torch.long)
    >>> harness.score("average_drop", image_model, *data, maps).round(decimals=4).tolist()
    [0.0, 0.4908]
    """
    before, after, weights = _probabilities(batch, baseline)
    return _where_weighted((before - after).clamp(min=0) / before, weights, NO_PROBABILITY)


@metric(better="higher", unit="share", span=(0, 1))
def average_increase(batch: Batch, *, baseline: BaselineName | Tensor = "zero") -> Scores:
    """Whether the probability rises when the image is multiplied by its map (increase in confidence of Grad-CAM++:
    Chattopadhay et al. 2018, 1710.11063).

    1 where O > Y, else 0; a rise within the rounding of single precision is none. The mean over samples is the paper's
    rate of increase in confidence (in percent there). Higher is better. NaN where the positive part of the map is the
    same everywhere, and where O is not a number; a rise from a Y of 0 is one, unlike a share of it. NotApplicable as
    for ``average_drop``.

    >>> maps = torch.stack([corner.float(), torch.zeros(1, 4, 4)])
    >>> maps[1, 0, 3, 3] = 1
    >>> data = images.expand(2, 1, 4, 4), torch.zeros(2, dtype=torch.long)
    >>> harness.score("average_increase", image_model, *data, maps).tolist()
    [0.0, 0.0]
    """
    before, after, weights = _probabilities(batch, baseline)
    least = rounding(before) + before * rounding(batch.samples.clean("logit").double())
    rises = (after - before > least).double().masked_fill(after.isnan() | before.isnan(), float("nan"))
    return _where_weighted(rises, weights)


@metric(better="higher", unit="share", span=(0, 1))
def average_gain(batch: Batch, *, baseline: BaselineName | Tensor = "zero") -> Scores:
    """Share of the missing probability that is gained when the image is multiplied by its map (Opti-CAM: Zhang et al.
    2023, 2301.07002).

    max(0, O - Y) / (1 - Y), the counterpart of ``average_drop``. In [0, 1], higher is better. NaN where Y is 1 in
    single precision, and as for ``average_drop``. NotApplicable as for ``average_drop``.

    The probability of class 1, of logit x_0, is 1 / 2 where x_0 is 0. With x_0 = -1 gone it rises from 0.2689:

    >>> points, maps = torch.tensor([[-1.0, 1.0]]), torch.tensor([[0.0, 1.0]])
    >>> harness.score("average_gain", classes, points, torch.tensor([1]), maps).round(decimals=4).tolist()
    [0.3161]
    """
    before, after, weights = _probabilities(batch, baseline)
    room = 1 - before
    gained = ((after - before).clamp(min=0) / room).masked_fill(room <= 0, float("nan"))
    return _where_weighted(gained, weights, "or the probability is 1 already")


@metric(better="higher", unit="correlation", span=(0, 1), kind="axiom", needs=("explainer",))
def cam_coherency(batch: Batch, *, baseline: BaselineName | Tensor = "zero") -> Scores:
    """Coherency of ADCC: correlation of the map with the map of the image that is multiplied by it (Poppi et al. 2021,
    2104.10252).

    (Pearson correlation + 1) / 2 of both maps' weights, for the same class, as in the authors' code. In [0, 1], higher
    is better: what is outside the map should not matter to the map. 0 where the second map has no weights, NaN where
    the first has none and where the second is not finite. NotApplicable without an explainer, and as for
    ``average_drop``.

    A map of the input's sign does not change where the input does not:

    >>> sign = lambda model, inputs, targets: inputs.sign()
    >>> points = torch.tensor([[2.0, -3.0]])
    >>> scores = harness.score("cam_coherency", linear, points, targets[:1], points.sign(), explainer=sign)
    >>> scores.round(decimals=4).tolist()
    [1.0]
    """
    weights = map_weights(batch.attributions)
    return _where_weighted(_coherency(batch, baseline), weights, NO_SECOND_MAP)


@metric(better="lower", unit="share", span=(0, 1), kind="complexity")
def cam_complexity(batch: Batch) -> Scores:
    """Complexity of ADCC: mean weight of the map (Poppi et al. 2021, 2104.10252).

    The L1 norm of the weights over the number of units. In [0, 1], lower is better: a map should highlight little. NaN
    where the positive part of the map is the same everywhere.

    >>> maps = torch.tensor([[3.0, -1.0], [1.0, 2.0]])
    >>> harness.score("cam_complexity", linear, inputs, targets, maps).tolist()
    [0.5, 0.5]
    """
    weights = map_weights(batch.attributions)
    return _where_weighted(weights.mean(1), weights)


@metric(better="higher", unit="share", span=(0, 1), needs=("explainer",))
def adcc(batch: Batch, *, baseline: BaselineName | Tensor = "zero") -> Scores:
    """Average DCC: harmonic mean of coherency, simplicity and kept probability of a class activation map (Poppi et al.
    2021, 2104.10252).

    3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)), of ``cam_coherency``, ``cam_complexity`` and
    ``average_drop``, per sample as in the authors' code. In [0, 1], higher is better; 0 where one of the three is 0.
    NaN and NotApplicable as for these.

    Coherency is 1, complexity 1 / 4, and nothing drops:

    >>> pixels = lambda model, inputs, targets: corner.expand_as(inputs).float()
    >>> scores = harness.score("adcc", image_model, images, targets[:1], corner.float(), explainer=pixels)
    >>> scores.round(decimals=4).tolist()
    [0.9]
    """
    before, after, weights = _probabilities(batch, baseline)
    kept = 1 - (before - after).clamp(min=0) / before
    parts = torch.stack([_coherency(batch, baseline), 1 - weights.mean(1), kept], 1)
    return _where_weighted(3 / (1 / parts).sum(1), weights, f"{NO_PROBABILITY}, {NO_SECOND_MAP}")


def map_weights(attributions: Tensor) -> Tensor:
    """The weights (N, d) float64 in [0, 1] of maps (N, *units); NaN where the positive part is the same everywhere."""
    positive = attributions.flatten(1).double().clamp(min=0)
    low, high = positive.amin(1, keepdim=True), positive.amax(1, keepdim=True)
    return (positive - low) / (high - low)


def _probabilities(batch: Batch, baseline: str | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The probabilities (N,) of the inputs and of the weighted inputs, and the weights (N, d); all float64."""
    samples, weights = batch.samples, map_weights(batch.attributions)
    inputs = _weighted(batch, baseline)
    tracked = batch.remember(
        ("weighted by the map", baseline), lambda: samples.track(1, lambda sample, _: inputs[sample])[:, 0]
    )
    return samples.clean("probability").double(), pick(tracked, "probability").double(), weights


def _weighted(batch: Batch, baseline: str | Tensor) -> Tensor:
    """The inputs (N, ...), each unit weighted against the baseline; as they are where the map has no weights."""
    samples = batch.samples
    weights = map_weights(batch.attributions).nan_to_num(1).to(samples.inputs).view(batch.attributions.shape)
    removed = samples.baseline(baseline).expand_as(samples.inputs)
    return torch.lerp(removed, samples.inputs, samples.units.expand(weights).expand_as(samples.inputs))


def _coherency(batch: Batch, baseline: str | Tensor) -> Tensor:
    """The similarity (N,) in [0, 1] of the weights of the map and of the map of the weighted input.

    0 where the second map has no weights, as in the authors' code, NaN where it is not finite.
    """
    batch.need_explainer()
    every = torch.arange(len(batch), device=batch.inputs.device)
    explain = lambda: batch.reduced(batch.explain(batch.samples.with_inputs(_weighted(batch, baseline), every)))
    again = batch.remember(("map of the weighted", baseline), explain)
    others, finite = map_weights(again), again.flatten(1).isfinite().all(1)
    coherency = (pearson(map_weights(batch.attributions), others) + 1) / 2
    return coherency.masked_fill(others.isnan().any(1), 0.0).where(finite, float("nan"))


def _where_weighted(values: Tensor, weights: Tensor, otherwise: str = "") -> Scores:
    reason = f"{NO_WEIGHTS}, {otherwise}" if otherwise else NO_WEIGHTS
    return with_reason(values.masked_fill(weights.isnan().any(1), float("nan")), reason)
