"""Agreement of the most important units of two maps: with the known right map, or with that of another explainer.

The measures are those of Krishna et al. 2022 (2202.01602), with the known right map in the place of one explainer as in
OpenXAI (Agarwal et al. 2022, 2206.11104). Units are ranked by |a|. k is ``top_share`` of the units, rounded up, but at
most the number of units on which the truth is not 0. Units of equal |a| are not ordered at random: the score is the
exact mean over all their orders. Units of equal |t| may have any order: each place that one of them can have is right,
so that the truth agrees with itself.

Metrics of the truth are NaN for a sample that is explained for another class than its label and where the truth is 0 on
all units, and NotApplicable where the data has no truth.

In the examples the two top units of three are compared.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from harness.batch import Batch, ExplainsAgain, Scores
from harness.checks import check_finite
from harness.errors import NotApplicable
from harness.metrics._percents import rounded_up
from harness.metrics._similarity import tied_ranks, with_reason
from harness.metrics._truth import maps_and_truth, truth_scores
from harness.option_types import SomeShare
from harness.registry import EXPLAINERS, metric

NO_EFFECT = "the truth is 0 throughout"


@metric(better="higher", unit="share", span=(0, 1), kind="truth", needs=("truth",))
def feature_agreement(batch: Batch, *, top_share: SomeShare = 0.25) -> Scores:
    """Share of the k most important units that are also among the k most important of the known right map (FA: Krishna
    et al. 2022, 2202.01602).

    In [0, 1], higher is better; a map that is the same everywhere scores k / d of d units. ValueError unless
    0 < top_share <= 1.

    >>> points, maps = torch.ones(1, 3), torch.tensor([[-3.0, 2.0, 1.0]])
    >>> model = torch.nn.Linear(3, 2).eval()
    >>> data = harness.Data(points, targets[:1], truth=torch.tensor([[2.0, -1.0, 4.0]]))
    >>> harness.score("feature_agreement", model, data, maps, top_share=0.5).tolist()
    [0.5]
    """
    return _with_truth(batch, top_share, "feature")


@metric(better="higher", unit="share", span=(0, 1), kind="truth", needs=("truth",))
def rank_agreement(batch: Batch, *, top_share: SomeShare = 0.25) -> Scores:
    """Share of the k first places, by importance, that the same unit has in the map and in the known right one (RA:
    Krishna et al. 2022, 2202.01602).

    In [0, 1], higher is better; never above ``feature_agreement``. ValueError unless 0 < top_share <= 1.

    >>> points, maps = torch.ones(1, 3), torch.tensor([[-3.0, 2.0, 1.0]])
    >>> model = torch.nn.Linear(3, 2).eval()
    >>> data = harness.Data(points, targets[:1], truth=torch.tensor([[4.0, -1.0, 2.0]]))
    >>> harness.score("rank_agreement", model, data, maps, top_share=0.5).tolist()
    [0.5]
    """
    return _with_truth(batch, top_share, "rank")


@metric(better="higher", unit="share", span=(0, 1), kind="truth", needs=("truth",))
def sign_agreement(batch: Batch, *, top_share: SomeShare = 0.25) -> Scores:
    """Share of the k most important units that are also among the k most important of the known right map and have the
    same sign there (SA: Krishna et al. 2022, 2202.01602).

    In [0, 1], higher is better; never above ``feature_agreement``. NotApplicable to explainers whose attributions have
    no meaningful sign; ValueError unless 0 < top_share <= 1.

    >>> points, maps = torch.ones(1, 3), torch.tensor([[-3.0, 2.0, 1.0]])
    >>> model = torch.nn.Linear(3, 2).eval()
    >>> data = harness.Data(points, targets[:1], truth=torch.tensor([[4.0, 3.0, 2.0]]))
    >>> harness.score("sign_agreement", model, data, maps, top_share=0.5).tolist()
    [0.5]
    """
    return _with_truth(batch, top_share, "sign")


@metric(better="higher", unit="share", span=(0, 1), kind="truth", needs=("truth",))
def signed_rank_agreement(batch: Batch, *, top_share: SomeShare = 0.25) -> Scores:
    """Share of the k first places, by importance, that the same unit has in the map and in the known right one, with
    the same sign (SRA: Krishna et al. 2022, 2202.01602).

    In [0, 1], higher is better; never above ``rank_agreement`` and ``sign_agreement``. NotApplicable and ValueError as
    for ``sign_agreement``.

    >>> points, maps = torch.ones(1, 3), torch.tensor([[-3.0, 2.0, 1.0]])
    >>> model = torch.nn.Linear(3, 2).eval()
    >>> data = harness.Data(points, targets[:1], truth=torch.tensor([[4.0, 3.0, 2.0]]))
    >>> harness.score("signed_rank_agreement", model, data, maps, top_share=0.5).tolist()
    [0.5]
    """
    return _with_truth(batch, top_share, "signed_rank")


@metric(better="higher", unit="share", span=(0, 1), chance=0.5, kind="truth", needs=("truth",))
def pairwise_rank_agreement(batch: Batch) -> Scores:
    """Share of the pairs of units whose order by importance is that of the known right map (PRA: Krishna et al. 2022,
    2202.01602).

    Over all pairs whose |t| differ; a pair of equal |a| counts half. In [0, 1], 0.5 by chance, higher is better. NaN
    where all |t| are equal.

    >>> points, maps = torch.ones(1, 3), torch.tensor([[-3.0, 2.0, 1.0]])
    >>> model = torch.nn.Linear(3, 2).eval()
    >>> data = harness.Data(points, targets[:1], truth=torch.tensor([[4.0, 1.0, 2.0]]))
    >>> harness.score("pairwise_rank_agreement", model, data, maps).round(decimals=4).tolist()
    [0.6667]
    """
    values, truth = maps_and_truth(batch)
    return truth_scores(_same_order(values, truth), "the truth has the same size on all units")


def _code_of_reference(options: Mapping[str, Any]) -> list[Callable[..., Any]]:
    return [EXPLAINERS[options["reference"]].function]


@metric(better=None, unit="share", span=(0, 1), kind="reference", needs=("explainer",), code=_code_of_reference)
def explainer_disagreement(
    batch: Batch,
    *,
    reference: str = "gradient",
    measure: Literal["feature", "rank", "sign", "signed_rank", "pairwise_rank"] = "feature",
    top_share: SomeShare = 0.25,
) -> Scores:
    """How far the map is from that of another explainer, the ``reference`` (the disagreement problem: Krishna et al.
    2022, 2202.01602).

    1 - the agreement that ``measure`` names: ``feature``, ``rank``, ``sign`` or ``signed_rank`` of the ``top_share`` of
    the units that are most important, or ``pairwise_rank`` of all pairs. In [0, 1]; 0 for the reference itself. It has
    no direction: either of two maps that disagree may be wrong. The reference explains the samples at its defaults,
    once for all explainers. NaN where the reference is of one size on all units, so that it has no order to agree with.
    NotApplicable without an explainer, where the reference is not applicable, and for signs where the explainer or the
    reference has none; ValueError for another measure, an unknown reference and unless 0 < top_share <= 1.

    The gradient of f = 2 x_0 - x_1 is (2, -1):

    >>> mine = lambda model, inputs, targets: inputs
    >>> points = torch.tensor([[3.0, 1.0], [1.0, 3.0]])
    >>> harness.score("explainer_disagreement", linear, points, targets, points, explainer=mine).tolist()
    [0.0, 1.0]
    """
    values, other = batch.attributions.flatten(1).double(), _map_of(batch, reference)
    if "sign" in measure:
        _need_signs(batch)
        if not EXPLAINERS[reference].signed:
            raise NotApplicable(f"the sign of the attributions of the reference, {reference}, means nothing")
    if measure == "pairwise_rank":
        agreement = _same_order(values, other)
    else:
        counts = torch.full_like(values[:, :1], _checked_count(top_share, values.shape[1]))
        agreement = _AMONG_TOP[measure](values, other, counts)
    flat = other.abs().amax(1) == other.abs().amin(1)
    return with_reason(1 - agreement.masked_fill(flat, float("nan")), "the reference has the same size on all units")


def _with_truth(batch: Batch, top_share: float, measure: str) -> Scores:
    if "sign" in measure:
        _need_signs(batch)
    values, truth = maps_and_truth(batch)
    count = _checked_count(top_share, values.shape[1])
    counts = (truth != 0).sum(1, keepdim=True).clamp(max=count)
    agreement = _AMONG_TOP[measure](values, truth.nan_to_num(0), counts.clamp(min=1))
    known = truth.isfinite().all(1) & (counts[:, 0] > 0)
    return truth_scores(agreement.masked_fill(~known, float("nan")), NO_EFFECT)


def _checked_count(top_share: float, total: int) -> int:
    return rounded_up(top_share, total)


def _need_signs(batch: Batch) -> None:
    if batch.explainer is not None and not batch.explainer.signed:
        raise NotApplicable("the sign of this explainer's attributions means nothing")


def _map_of(batch: Batch, name: str) -> Tensor:
    """The map (N, d) float64 of another explainer, once for all explainers."""
    batch.need_explainer()
    if not isinstance(batch.explain_again, ExplainsAgain):
        raise NotApplicable("asks another explainer for its map, which only the harness's own explainers can reach")
    samples = batch.samples
    explain = lambda: check_finite(batch.explain_again.another(name, samples)(samples))
    return batch.reduced(samples.shared(("map of", name), explain)).flatten(1).double()


def _top_shared(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    """Probability (N, d), over orders of equal units in the first, that a unit is among its top ``counts`` (N, 1) and
    can be among those of the second."""
    (begin, end), (start, _) = (tied_ranks(-values.abs()) for values in (first, second))
    return ((counts - begin + 1) / (end - begin + 1)).clamp(0, 1) * (start <= counts)


def _place_shared(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    """Probability (N, d), over orders of equal units in the first, that a unit has one of its first ``counts`` (N, 1)
    places, and can have the same place in the second."""
    (begin, end), (start, stop) = (tied_ranks(-values.abs()) for values in (first, second))
    common = torch.minimum(torch.minimum(end, stop), counts) - torch.maximum(begin, start) + 1
    return common.clamp(min=0) / (end - begin + 1)


def _same_sign(first: Tensor, second: Tensor) -> Tensor:
    return (first.sign() == second.sign()).double()


def _mean_of(chance: Callable[[Tensor, Tensor, Tensor], Tensor], signed: bool) -> Callable[..., Tensor]:
    """A measure (N,): the expected share of the top units, or only of those of the same sign."""

    def measure(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
        chances = chance(first, second, counts) * (_same_sign(first, second) if signed else 1)
        return chances.sum(1) / counts[:, 0]

    return measure


_AMONG_TOP = {
    "feature": _mean_of(_top_shared, False),
    "rank": _mean_of(_place_shared, False),
    "sign": _mean_of(_top_shared, True),
    "signed_rank": _mean_of(_place_shared, True),
}


def _same_order(first: Tensor, second: Tensor) -> Tensor:
    """Share (N,) of the pairs of different size in the second map that have the same order in the first, ties half.

    Counted from Kendall's tau-b, which takes time d log d where there are d^2 pairs.
    """
    rows = zip(first.abs().cpu(), second.abs().cpu(), strict=True)
    return torch.tensor([_same_order_of(*row) for row in rows], dtype=torch.float64, device=first.device)


def _same_order_of(first: Tensor, second: Tensor) -> float:
    from scipy.stats import kendalltau  # here and not above: it takes a second to import

    in_first, in_second = _pairs_that_differ(first), _pairs_that_differ(second)
    if not second.isfinite().all() or not in_second:
        return float("nan")
    if not in_first:
        return 0.5
    tau = float(kendalltau(first.numpy(), second.numpy()).statistic)
    return (1 + tau * (in_first / in_second) ** 0.5) / 2


def _pairs_that_differ(values: Tensor) -> float:
    sizes = values.unique(return_counts=True)[1].double()
    return len(values) * (len(values) - 1) / 2 - float((sizes * (sizes - 1) / 2).sum())
