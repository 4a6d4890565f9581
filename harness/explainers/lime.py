"""LIME: a linear model of the score, fitted to inputs in which only some segments are present."""

from typing import Annotated

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.explainers._coalitions import TO_TYPICAL, Estimator, Game, SegmentRemoval, play
from harness.explainers._expected_ridge import (
    ExpectedRidge,
    coalition_weights,
    coefficients_of_process,
    exact_coefficients,
    ridge,
)
from harness.explainers._lime_coalitions import lime_coalitions
from harness.option_types import TRIED_SEGMENTS, NotNegative, Range, Several
from harness.randomness import bits
from harness.registry import explainer
from harness.samples import Samples


@explainer(
    access="forward",
    stochastic=True,
    cost="samples F",
    added={"estimator": "least_squares"},
    renamed={"width": "kernel_width", "alpha": "penalty"},
    tunable={"samples": (250, 4000), "segments": TRIED_SEGMENTS, "kernel_width": (0.1, 1.0)},
)
def lime(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Several = 1000,
    removal: SegmentRemoval = TO_TYPICAL,
    kernel_width: Annotated[float, Range(0.05, 1000)] = 0.25,
    penalty: NotNegative = 1.0,
    estimator: Estimator = "least_squares",
) -> Tensor:
    """LIME: coefficients of a ridge regression of the score on which segments are present, with weights that fall with
    the distance from the whole input (Ribeiro et al. 2016, 1602.04938).

    One channel, in units of ``score``: a segment's coefficient is shared equally by its units. Each sample has
    ``samples`` evaluations, drawn from (seed, sample): the whole input, and coalitions z in which each of K segments is
    present with probability 1/2. Their weights are exp(-d^2 / (2 kernel_width^2)) with the cosine distance d = 1 -
    sqrt(sum z / K) to the whole. The ``penalty`` is on squared coefficients but not on the intercept, as in the
    authors' code. ValueError where ``penalty`` is 0 and ``samples`` at most K, which do not determine the coefficients.

    ``least_squares`` is the method of the paper: the regression of these draws. ``process`` estimates the coefficients
    that minimise the expectation of its sum: the whole input once, ``samples`` - 1 times the mean over all coalitions,
    and the same penalty. Its estimate is the posterior mean under a Gaussian process over coalitions
    (``harness.explainers._expected_ridge``). On most games its error is smaller, but not where large groups of segments
    act together and ``samples`` are few. Coalitions are drawn without replacement, or are an orthogonal array
    (``harness.explainers._lime_coalitions``). The fact ``standard_error`` is the root mean square over segments of the
    posterior standard deviations, in units of ``score``; it is NaN where too few coalitions are left to estimate it.
    From 2^K ``samples`` on the coefficients are exact, with 2^K evaluations. ValueError where ``samples`` is below both
    2 K and 2^K.

    Example: f(x) = 2 x1 - x2 is linear in which columns are present. Without a penalty the coefficients at (1, 3) are
    2 * 1 and -1 * 3.

    >>> harness.explain("lime", linear, x, target, penalty=0.0, baseline="zero").round(decimals=4)
    tensor([[ 2., -3.]])
    """
    solve = _lime_of_process if estimator == "process" else _lime_of_draws
    return play(context, removal, lambda game: solve(game, samples, kernel_width, penalty))


def _lime_of_draws(game: Game, draws: int, kernel_width: float, penalty: float) -> Tensor:
    if penalty == 0 and draws <= game.players:
        raise UserError(f"samples is {draws}, expected more than the {game.players} segments, or penalty above 0")
    masks = bits(game.samples.stream("lime coalitions"), draws * game.players).view(-1, draws, game.players) < 0
    masks[:, 0] = True
    return ridge(masks, coalition_weights(masks, kernel_width), game.worth(masks), penalty)


def _lime_of_process(game: Game, draws: int, kernel_width: float, penalty: float) -> Tensor:
    players = game.players
    target, count = ExpectedRidge(players, draws, kernel_width, penalty), min(draws, 2**players)
    if count < min(2 * players, 2**players):
        raise UserError(f"samples is {draws}, expected at least {2 * players} for {players} segments and a process")
    masks = lime_coalitions(game.samples, target, count)
    worth = game.worth(masks)
    if count == 2**players:
        game.samples.tell(standard_error=torch.zeros(len(game.samples)))
        return exact_coefficients(masks, worth, target)
    values, errors = coefficients_of_process(masks, worth, target)
    game.samples.tell(standard_error=errors.square().mean(1).sqrt())
    return values
