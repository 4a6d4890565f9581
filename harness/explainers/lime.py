"""LIME: a linear model of the score, fitted to inputs in which only some segments are present."""

from typing import Annotated

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.explainers._coalitions import TO_TYPICAL, Game, SegmentRemoval, play
from harness.option_types import TRIED_SEGMENTS, NotNegative, Range, Several
from harness.randomness import bits
from harness.registry import explainer
from harness.samples import Samples


@explainer(
    access="forward",
    stochastic=True,
    cost="samples F",
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
) -> Tensor:
    """LIME: coefficients of a ridge regression of the score on which segments are present, with weights that fall with
    the distance from the whole input (Ribeiro et al. 2016, 1602.04938).

    One channel, in units of ``score``: a segment's coefficient is shared equally by its units. Each sample has
    ``samples`` evaluations, drawn from (seed, sample): the whole input, and coalitions z in which each of K segments is
    present with probability 1/2. Their weights are exp(-d^2 / (2 kernel_width^2)) with the cosine distance d = 1 -
    sqrt(sum z / K) to the whole. The ``penalty`` is on squared coefficients but not on the intercept, as in the
    authors' code. ValueError where ``penalty`` is 0 and ``samples`` at most K, which do not determine the coefficients.

    Example: f(x) = 2 x1 - x2 is linear in which columns are present. Without a penalty the coefficients at (1, 3) are
    2 * 1 and -1 * 3.

    >>> harness.explain("lime", linear, x, target, penalty=0.0, baseline="zero").round(decimals=4)
    tensor([[ 2., -3.]])
    """
    return play(context, removal, lambda game: _lime(game, samples, kernel_width, penalty))


def _lime(game: Game, draws: int, kernel_width: float, penalty: float) -> Tensor:
    if penalty == 0 and draws <= game.players:
        raise UserError(f"samples is {draws}, expected more than the {game.players} segments, or penalty above 0")
    masks = bits(game.samples.stream("lime coalitions"), draws * game.players).view(-1, draws, game.players) < 0
    masks[:, 0] = True
    return ridge(masks, coalition_weights(masks, kernel_width), game.worth(masks), penalty)


def coalition_weights(masks: Tensor, width: float) -> Tensor:
    """The weights (n, M) float64 of coalitions (n, M, K): they fall with the cosine distance 1 - sqrt(sum z / K)."""
    distance = 1 - masks.double().mean(-1).sqrt()
    return torch.exp(-(distance**2) / (2 * width**2))


def ridge(masks: Tensor, weights: Tensor, worth: Tensor, alpha: float) -> Tensor:
    """Coefficients (n, K) of weighted ridge regressions, with intercepts, of worths (n, M) on masks (n, M, K), in
    float64.

    Where the masks leave a direction undetermined and ``alpha`` is 0, the coefficient along it is 0.
    """
    present, share = masks.double(), (weights / weights.sum(-1, keepdim=True))[..., None]
    centred = (present - (share * present).sum(1, keepdim=True)) * weights.sqrt()[..., None]
    rest = (worth[..., None] - (share * worth[..., None]).sum(1, keepdim=True)) * weights.sqrt()[..., None]
    gram = centred.mT @ centred + alpha * torch.eye(masks.shape[-1], dtype=torch.float64, device=masks.device)
    return (torch.linalg.pinv(gram, hermitian=True, rtol=1e-10) @ (centred.mT @ rest))[..., 0]
