"""Complexity of attributions: how few units hold most of them. A compact map is not necessarily a true one."""

import math

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.errors import NotApplicable, UserError
from harness.metrics._checks import check_choice
from harness.metrics._curve import schedule
from harness.metrics._similarity import with_reason
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import is_random

ALL_ZERO = "the attribution is 0 throughout"
DEFINITIONS = ("model", "threshold")


@metric(better="lower", unit=lambda options: "share" if options["normalised"] else "nats", kind="complexity")
def complexity(batch: Batch, *, normalised: bool = False) -> Scores:
    """Entropy of the absolute attributions' distribution over the units (Bhatt et al. 2020, 2005.00631).

    In nats, from 0 (one unit holds everything) to ln d (all d units are equal); with ``normalised`` divided by ln d.
    Lower is better. NaN where all attributions are 0, and for the normalised form with a single unit.

    Two equal units have ln 2, one of two units has 0:

    >>> maps = torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    >>> harness.score("complexity", linear, inputs, targets, maps).round(decimals=4).tolist()
    [0.6931, 0.0]
    """
    shares = _absolute_shares(batch.attributions)
    entropy = torch.special.entr(shares).sum(1)
    values = entropy / math.log(shares.shape[1]) if normalised and shares.shape[1] > 1 else entropy
    if normalised and shares.shape[1] == 1:
        return with_reason(values.fill_(float("nan")), "a single unit has no entropy to normalise by")
    return with_reason(values, ALL_ZERO)


@metric(better="higher", unit="gini", kind="complexity")
def sparseness(batch: Batch) -> Scores:
    """Gini index of the absolute attributions (Chalasani et al. 2020, 1810.06583).

    sum over i of (2 i - d - 1) |a|_(i) / (d sum |a|), in ascending order: from 0 (all d units are equal) to 1 - 1 / d
    (one unit holds everything). Higher is better. NaN where all attributions are 0.

    Two equal units have 0, one of two units has 1 - 1/2:

    >>> maps = torch.tensor([[1.0, -1.0], [3.0, 0.0]])
    >>> harness.score("sparseness", linear, inputs, targets, maps).tolist()
    [0.0, 0.5]
    """
    shares = _absolute_shares(batch.attributions).sort(1).values
    count = shares.shape[1]
    place = torch.arange(1, count + 1, device=shares.device)
    return with_reason(((2 * place - count - 1) * shares).sum(1) / count, ALL_ZERO)


@metric(
    better="lower",
    unit=lambda options: "share" if options["normalised"] else "count",
    kind="complexity",
    renamed={"epsilon": "least_attribution"},
)
def effective_complexity(
    batch: Batch,
    *,
    definition: str = "model",
    tolerance: float = 0.1,
    steps: int = 32,
    baseline: str | Tensor = "typical",
    score: str = "probability",
    imputations: int = 1,
    least_attribution: float = 0.01,
    normalised: bool = True,
) -> Scores:
    """Smallest share of the units, most important first, that keeps the model's score (effective complexity: Nguyen and
    Martinez 2020, 2007.07584).

    ``definition="model"``, as in the paper: the smallest k for which the expected loss of keeping only the k units of
    largest |a| is below ``tolerance``. The loss is |f(x) - f(x with the others replaced)|, where f is the ``score``
    (logit, probability or log_odds); the expectation is the mean over ``imputations`` draws of a random ``baseline``,
    for example ``train_sample``, which draws from the data. For a larger k the loss may exceed the tolerance again. k
    is one of 0, d and at most ``steps`` - 1 evenly spaced numbers between them; units of equal |a| are ordered at
    random and reported as tied. Curves (N, number of k) are the losses at each k, ascending.

    ``definition="threshold"``, a shortcut without the model: the number of units with |a| > ``least_attribution``
    times the largest. No other option matters to it, and ``least_attribution`` to nothing else.

    The value is a share of the d units, or their number with ``normalised=False``; lower is better. NaN where all
    attributions are 0, and where an output is not finite. ``definition="model"`` is NotApplicable for inputs of a
    single unit and for probabilities of a model with one output.

    f = 2 x_0 - x_1 is 1 for the first input and 2 with x_0 alone; for the second x_0 is enough:

    >>> maps, options = inputs * linear.weight[0], {"baseline": "zero", "score": "logit"}
    >>> harness.score("effective_complexity", linear, inputs, targets, maps, **options).tolist()
    [1.0, 0.5]
    """
    check_choice("definition", definition, DEFINITIONS)
    if not 0 <= least_attribution < 1:
        raise UserError(
            f"least_attribution is {least_attribution}, expected a share of the largest attribution, from 0 to below 1"
        )
    sizes = batch.attributions.flatten(1).double().abs()
    if definition == "threshold":
        counts = Scores((sizes > least_attribution * sizes.amax(1, keepdim=True)).sum(1).double())
    else:
        counts = _count_by_model(batch, sizes, tolerance, steps, baseline, score, imputations)
    values = counts.values.masked_fill((sizes == 0).all(1), float("nan"))
    values = values / (sizes.shape[1] if normalised else 1)
    return with_reason(values, ALL_ZERO, curves=counts.curves, tied=counts.tied)


def _count_by_model(
    batch: Batch, sizes: Tensor, tolerance: float, steps: int, baseline: str | Tensor, score: str, imputations: int
) -> Scores:
    """The smallest number of units (N,) whose loss is below the tolerance, and the losses (N, K)."""
    if not (tolerance > 0 and steps >= 2 and imputations >= 1):
        came = f"tolerance={tolerance}, steps={steps}, imputations={imputations}"
        raise UserError(f"options are {came}, expected more than 0, at least 2 and at least 1")
    count = sizes.shape[1]
    if count < 2:
        raise NotApplicable("the inputs have a single unit, so there is nothing to choose from")
    draws = imputations if is_random(baseline) else 1
    # Where other samples have other numbers of units, some points are repeated, so that all curves are of one length.
    points = steps if batch.samples.ragged else min(steps, count)
    counts, repeated = schedule(torch.tensor([count], device=sizes.device), points)[0].unique(return_inverse=True)
    tracked = batch.remember(
        ("largest kept", steps, baseline, draws), lambda: _track_largest(batch, sizes, counts, baseline, draws)
    )
    scored = pick(tracked, score).double()[..., repeated]
    counts = counts[repeated]
    losses = (scored[..., -1:] - scored).abs().mean(1)
    enough = counts[(losses < tolerance).long().argmax(1)]  # the first one; there is one, as keeping all loses nothing
    values = enough.double().masked_fill(losses.isnan().any(1), float("nan"))
    return Scores(values, losses, tied_share(sizes))


def _track_largest(batch: Batch, sizes: Tensor, counts: Tensor, baseline: str | Tensor, draws: int) -> Tensor:
    """Tracked outputs (N, draws, K, 3) with only the ``counts`` (K,) units of largest size, from none to all."""
    samples, inner = batch.samples, counts[1:-1]
    places = ranks(sizes, samples.stream("ties 0")).int().view(batch.attributions.shape)

    def keep(sample: Tensor, point: Tensor) -> Tensor:
        return places[sample] < inner[point].view(-1, *[1] * len(samples.units.shape))

    runs = [
        torch.cat(
            [
                samples.emptied(baseline, draw)[:, None],
                samples.masked(len(inner), keep, baseline, draw),
                samples.intact()[:, None],
            ],
            1,
        )
        for draw in range(draws)
    ]
    return torch.stack(runs, 1)


def _absolute_shares(attributions: Tensor) -> Tensor:
    """Each unit's share of the absolute attributions: (N, units) float64, NaN where all are 0."""
    sizes = attributions.flatten(1).double().abs()
    return sizes / sizes.sum(1, keepdim=True)
