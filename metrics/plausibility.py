"""Plausibility: agreement of the attribution with the rationale that a human gave, as in ERASER (DeYoung et al. 2020,
1911.03429). A plausible map need not be faithful: a model may decide by something else than people do.

The rationale is the mask of a sample: the tokens that an annotator marked, or the pixels of an object. An empty one
gives NaN. ERASER measures a *hard* rationale, which is here the ``top_share`` of the units with the highest
attributions, rounded up to whole units; ERASER takes the mean length of the human rationales of the data set, so that
the score of a sample depends on other samples. A *soft* rationale is the attribution itself. The metrics of
``harness.metrics.localisation`` take as many units as the mask has (``relevance_rank``), count the units off the mask
equally whatever their number (``localization_auc``), or sum attributions (``relevance_mass``).

Units of equal attribution: the score is the exact mean over all their orders, unless its docstring says otherwise.
``tied`` is the share of the chosen places for which more units than places are equal.

In the examples the rationale is the upper left quarter of the image. Of three maps the first is right, the second is
the same everywhere, and the third is wrong.
"""

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable
from harness.metrics._masks import EMPTY_MASK, TopUnits, object_masks, share_of_top, top_units, unless_empty
from harness.metrics._percents import rounded_up
from harness.metrics._similarity import tied_ranks, with_reason
from harness.option_types import Percent, SomeShare
from harness.ordering import ranks, tied_share
from harness.registry import metric

SAME_SPAN = 0.5  # intersection over union from which two spans are the same, as in ERASER


@metric(better="higher", unit="f1", span=(0, 1), kind="localisation", needs=("masks",))
def plausibility_f1(batch: Batch, *, top_share: SomeShare = 0.2) -> Scores:
    """Token F1: harmonic mean of precision and recall of the units with the highest attributions, against the human
    rationale (ERASER: DeYoung et al. 2020, 1911.03429).

    2 * hits / (k + m), for the k top units, the m units of the rationale, and the hits among both. In [0, 1], higher is
    better; the best score is below 1 where k is not m. NaN for an empty mask. NotApplicable without masks;
    ValueError unless 0 < top_share <= 1.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("plausibility_f1", image_model, *same, masks=corner.expand(3, 4, 4), top_share=0.25).tolist()
    [1.0, 0.25, 0.0]
    """
    masks, counts = _rationale(batch, top_share)
    hits, tied = share_of_top(batch.attributions.flatten(1), masks, counts)
    values = 2 * hits * counts / (counts + masks.sum(1))
    return with_reason(unless_empty(values, masks), EMPTY_MASK, tied=tied)


@metric(better="higher", unit="share", span=(0, 1), kind="localisation", needs=("masks",))
def plausibility_iou(batch: Batch, *, top_share: SomeShare = 0.2) -> Scores:
    """Token IoU: intersection over union of the units with the highest attributions and the human rationale (as in
    ERASER: DeYoung et al. 2020, 1911.03429).

    hits / (k + m - hits), for the k top units, the m units of the rationale, and the hits among both. In [0, 1], higher
    is better. NaN for an empty mask. NotApplicable without masks; ValueError unless 0 < top_share <= 1.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> scores = harness.score("plausibility_iou", image_model, *same, masks=corner.expand(3, 4, 4), top_share=0.25)
    >>> scores.round(decimals=4).tolist()
    [1.0, 0.158, 0.0]
    """
    masks, counts = _rationale(batch, top_share)
    top, sizes = top_units(batch.attributions.flatten(1), counts), masks.sum(1)
    hits, weights = _chances_of_hits(top, masks)
    values = (weights * hits / (counts + sizes)[:, None].sub(hits)).sum(1)
    return with_reason(unless_empty(values, masks), EMPTY_MASK, tied=top.tied)


@metric(better="higher", unit="f1", span=(0, 1), kind="localisation", needs=("masks",))
def plausibility_iou_f1(batch: Batch, *, top_share: SomeShare = 0.2) -> Scores:
    """IoU F1: F1 of the spans of tokens with the highest attributions, against the spans of the human rationale
    (ERASER: DeYoung et al. 2020, 1911.03429).

    A span is a run of neighbouring tokens, of the k top tokens or of the rationale. A span of the top tokens is right
    if its intersection over union with one of the rationale is at least 0.5. Precision is the share of the top tokens'
    spans that are right, recall their number over that of the rationale's spans. ERASER takes the F1 of the mean
    precision and recall over texts; here each text has its own. In [0, 1], higher is better. Tokens of equal
    attribution are ordered at random. NaN for an empty mask. NotApplicable without masks, and where units are no
    sequence; ValueError unless 0 < top_share <= 1.

    Of five tokens the first two are the rationale; two of the first three overlap it enough, the last two do not:

    >>> texts, maps = torch.ones(2, 5, 3), torch.tensor([[3.0, 2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0, 2.0]])
    >>> rationale = torch.tensor([[True, True, False, False, False]]).expand(2, 5)
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(15, 2)).eval()
    >>> data = harness.Data(texts, targets, modality="tokens", masks=rationale)
    >>> harness.score("plausibility_iou_f1", model, data, maps, top_share=0.4).tolist()
    [1.0, 0.0]
    """
    masks, counts = _rationale(batch, top_share)
    if batch.units.position_axis is None or len(batch.units.shape) != 1:
        raise NotApplicable(f"these units, {batch.units.shape}, are no sequence, of which spans are parts")
    values = batch.attributions.flatten(1)
    chosen = ranks(values, batch.samples.stream("ties 0")) < counts[:, None]
    scores = _f1_of_spans(_spans(chosen), _spans(masks))
    return with_reason(unless_empty(scores, masks), EMPTY_MASK, tied=top_units(values, counts).tied)


@metric(better="higher", unit="auc", span=(0, 1), kind="localisation", needs=("masks",))
def plausibility_auprc(batch: Batch) -> Scores:
    """Area under the precision-recall curve of the attribution as a detector of the human rationale, as average
    precision (ERASER: DeYoung et al. 2020, 1911.03429).

    The mean, over the units of the rationale, of the precision among the units whose attribution is at least as high.
    In [0, 1], higher is better; a map that is the same everywhere scores the share of the units that the rationale
    covers, so that scores for rationales of different size are not comparable. ERASER's code also gives the area by the
    trapezoidal rule, which is too high (Davis and Goadrich 2006). Only the order of the signed attributions matters;
    equal ones count together, as in scikit-learn. NaN for an empty mask. NotApplicable without masks.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("plausibility_auprc", image_model, *same, masks=corner.expand(3, 4, 4)).tolist()
    [1.0, 0.25, 0.25]
    """
    masks, values = object_masks(batch).flatten(1), batch.attributions.flatten(1)
    order = values.argsort(1, descending=True)
    _, last = tied_ranks(-values.gather(1, order))  # how many units are at least as high
    inside = masks.gather(1, order)
    hits = inside.cumsum(1).gather(1, last.long() - 1)
    average = (hits / last * inside).sum(1) / inside.sum(1)
    return with_reason(unless_empty(average, masks), EMPTY_MASK, tied=tied_share(values))


@metric(
    better="higher",
    unit="share",
    span=(0, 1),
    kind="localisation",
    needs=("masks",),
    curve_across="threshold, % of the largest attribution",
    curve_places="percents",
    curve_height="intersection over union",
)
def plausibility_mean_iou(
    batch: Batch, *, percents: tuple[Percent, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90)
) -> Scores:
    """Mean IoU: intersection over union of the human rationale and the units above a threshold, mean over thresholds.

    A threshold is one of ``percents`` of the largest attribution; a unit that reaches it is chosen. In [0, 1], higher
    is better; unlike the other metrics of the family it depends on the values of the map and not only on their order,
    as the segmentation of an object from a class activation map does (Zhou et al. 2016, 1512.04150, at 20 percent).
    Curves (N, number of percents) are the intersections over union. NaN for an empty mask, and where no attribution is
    positive. NotApplicable without masks.

    >>> maps = torch.stack([corner.float(), torch.ones(1, 4, 4), 1 - corner.float()])
    >>> same = images.expand(3, 1, 4, 4), torch.zeros(3, dtype=torch.long), maps
    >>> harness.score("plausibility_mean_iou", image_model, *same, masks=corner.expand(3, 4, 4)).tolist()
    [1.0, 0.25, 0.0]
    """
    shares = tuple(map(float, percents))
    masks, values = object_masks(batch).flatten(1), batch.attributions.flatten(1).double()
    largest = values.amax(1, keepdim=True)
    curves = torch.stack([_iou(values >= share / 100 * largest, masks) for share in shares], 1)
    curves = curves.masked_fill((largest <= 0) | ~masks.any(1, keepdim=True), float("nan"))
    return with_reason(curves.mean(1), f"{EMPTY_MASK}, or no attribution is positive", curves=curves)


def _rationale(batch: Batch, top_share: float) -> tuple[Tensor, Tensor]:
    """The masks (N, d), and how many units the hard rationale of the map has (N,)."""
    masks = object_masks(batch).flatten(1)
    return masks, torch.full_like(masks[:, 0], rounded_up(top_share, masks.shape[1]), dtype=torch.long)


def _chances_of_hits(top: TopUnits, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of hits (N, H) among the top units, and the probability of each over all orders of equal units.

    Of the units that are equal to the last of the top ones, those that are drawn inside have a hypergeometric
    distribution.
    """
    good, bad = (top.equal & inside).sum(1), (top.equal & ~inside).sum(1)
    drawn = torch.arange(int(torch.minimum(good, top.places).max()) + 1, device=inside.device)
    possible = (drawn <= good[:, None]) & (top.places[:, None] - drawn <= bad[:, None]) & (drawn <= top.places[:, None])
    ways = _log_ways(good[:, None], drawn) + _log_ways(bad[:, None], top.places[:, None] - drawn)
    weights = (ways - _log_ways(good + bad, top.places)[:, None]).exp().where(possible, 0.0)
    hits = (top.above & inside).sum(1)[:, None] + drawn.double()
    return hits.where(possible, 0.0), weights / weights.sum(1, keepdim=True)


def _log_ways(total: Tensor, drawn: Tensor) -> Tensor:
    """Logarithm of the number of ways to draw so many of a total."""
    total, drawn = total.double(), drawn.double()
    return torch.lgamma(total + 1) - torch.lgamma(drawn + 1) - torch.lgamma(total - drawn + 1)


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of sets (..., d); 0 where both are empty."""
    return (first & second).sum(-1) / (first | second).sum(-1).clamp(min=1).double()


def _spans(chosen: Tensor) -> Tensor:
    """The runs of neighbouring chosen tokens (N, T), each as a set of tokens: (N, R, T); empty where there is none."""
    begins = chosen & ~torch.nn.functional.pad(chosen, (1, 0))[:, :-1]
    number = begins.cumsum(1).masked_fill(~chosen, 0)
    return number[:, None] == torch.arange(1, int(number.max()) + 1, device=chosen.device)[:, None]


def _f1_of_spans(found: Tensor, right: Tensor) -> Tensor:
    """F1 (N,) of spans (N, P, T) against the right ones (N, R, T)."""
    if not right.shape[1]:
        return found.new_zeros(len(found), dtype=torch.float64)
    common = found.float() @ right.float().mT  # (N, P, R): no pair of spans is laid out token by token
    either = found.sum(2)[:, :, None] + right.sum(2)[:, None] - common
    same = (common / either.clamp(min=1) >= SAME_SPAN).any(2).sum(1)
    return 2 * same / (found.any(2).sum(1) + right.any(2).sum(1)).double()  # precision and recall share a numerator
