"""Comprehensiveness and sufficiency of rationales (ERASER): the most important tokens are removed, or kept alone.

Padding and special tokens are no units, as for every metric. Inputs that are no texts have units in place of tokens.
The options are those of ``Rationale``.

In the examples f = 2 x_0 - x_1, and the baseline is 0.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from harness.batch import Batch, Scores
from harness.metrics._percents import rounded_up
from harness.metrics.curves import score_unit
from harness.option_types import Percent
from harness.ordering import ranks, tied_share
from harness.predictor import pick
from harness.registry import metric
from harness.removal.baselines import BaselineName
from harness.task import Score


@dataclass(frozen=True)
class Rationale:
    """Options of metrics that remove or keep the most important tokens.

    percents        sizes of the rationale in percent of the tokens, each rounded up to whole tokens; a score is the
                    mean over them
    positive_only   leaves out tokens whose attribution is not positive
    baseline        what a removed token becomes, as in ``harness.metrics._curve.Stepwise``; its place stays
    score           of the explained class: ``logit``, ``probability`` or ``log_odds``
    """

    percents: tuple[Percent, ...] = (1, 5, 10, 20, 50)
    positive_only: bool = False
    baseline: BaselineName | Tensor = "typical"
    score: Score = "probability"


@metric(
    better="higher",
    unit=score_unit,
    span={"probability": (-1, 1)},
    curve_across="% removed",
    curve_places="percents",
    curve_height="drop of the {score}",
)
def comprehensiveness(batch: Batch, *, rationale: Rationale = Rationale()) -> Scores:
    """Mean drop of the score when the most important tokens are removed (ERASER: DeYoung et al. 2020, 1911.03429).

    f(x) - f(x without the top k tokens), mean over ``percents``, ties at random. In the unit of the score, [-1, 1] for
    probability; higher is better. Curves (N, number of percents) are the drops at each. NotApplicable for class
    probabilities of a model with one output.

    Half of two units is x_0, without which f drops from 1 to -1, and from 4 to 0:

    >>> maps, options = inputs * linear.weight[0], {"percents": 50, "score": "logit", "baseline": "zero"}
    >>> harness.score("comprehensiveness", linear, inputs, targets, maps, **options).tolist()
    [2.0, 4.0]
    """
    return _mean_drop(batch, rationale, alone=False)


@metric(
    better="lower",
    unit=score_unit,
    span={"probability": (-1, 1)},
    curve_across="% kept",
    curve_places="percents",
    curve_height="drop of the {score}",
)
def sufficiency(batch: Batch, *, rationale: Rationale = Rationale()) -> Scores:
    """Mean drop of the score when only the most important tokens are kept (ERASER: DeYoung et al. 2020, 1911.03429).

    f(x) - f(the top k tokens alone), mean over ``percents``, ties at random; padding and special tokens stay. In the
    unit of the score, [-1, 1] for probability; lower is better. Curves and NotApplicable as for ``comprehensiveness``.

    Half of two units is x_0, with which alone f rises from 1 to 2, and stays at 4:

    >>> maps, options = inputs * linear.weight[0], {"percents": 50, "score": "logit", "baseline": "zero"}
    >>> harness.score("sufficiency", linear, inputs, targets, maps, **options).tolist()
    [-1.0, 0.0]
    """
    return _mean_drop(batch, rationale, alone=True)


def _mean_drop(batch: Batch, rationale: Rationale, alone: bool) -> Scores:
    samples, fractions = batch.samples, [percent / 100 for percent in rationale.percents]
    attributions = batch.attributions.flatten(1)
    place = ranks(attributions, samples.stream("ties 0"))
    most = torch.tensor([rounded_up(share, attributions.shape[1]) for share in fractions], device=place.device)

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        top = place[sample] < most[draw][:, None]
        if rationale.positive_only:
            top &= attributions[sample] > 0
        return (top if alone else ~top).view(-1, *batch.units.shape)

    after = pick(samples.masked(len(fractions), keep, rationale.baseline), rationale.score).double()
    drops = samples.clean(rationale.score).double()[:, None] - after
    return Scores(drops.mean(1), curves=drops, tied=tied_share(attributions))
