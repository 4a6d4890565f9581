"""Global sensitivity analysis around one input: how far the score varies with what is shown of each segment.

The masks of segments are random variables and the score of the masked input a function of them. Both methods only
evaluate the model, and their values have no sign.
"""

from typing import Annotated

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.explainers._coalitions import Game, SegmentRemoval, play
from harness.option_types import TRIED_FILLS, Range, Several
from harness.predictor import pick
from harness.randomness import permutations, uniform
from harness.registry import explainer
from harness.samples import Samples
from harness.units import gather_segments

PARTS = SegmentRemoval(segments="parts:64")  # of images the 8 x 8 grid of both papers' code
MOST_DIMENSIONS = 21201 // 2  # of torch's Sobol sequence, two for each segment


@explainer(
    access="forward",
    signed=False,
    stochastic=True,
    cost="samples x (K + 1) F",
    tunable={"samples": (16, 64), "segments": ("parts:16", "parts:196"), "baseline": TRIED_FILLS},
)
def sobol_attribution(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Several = 32,
    removal: SegmentRemoval = PARTS,
) -> Tensor:
    """Sobol attribution: the share of the score's variance under random masks to which a segment contributes, by itself
    or together with others (Fel et al. 2021, 2111.04138; total-order indices: Homma and Saltelli 1996; estimator:
    Jansen 1999).

    One channel, at least 0: a segment's index is shared equally by its units; all 0 where the score does not vary. A
    mask has a number m in 0..1 for each of K segments, which becomes m x + (1 - m) baseline. ``samples`` pairs of
    masks (A, B), best a power of two, are points of Sobol's sequence in 2 K dimensions, shifted at random for each
    sample; C_i is A with the number of segment i from B. The index is sum (f(A) - f(C_i))^2 / (2 samples var f(A)).
    As in the authors' code B itself is not evaluated, and the variance is that of A; there the sequence is not shifted,
    and the map of a grid is enlarged by cubic interpolation. ``samples`` (K + 1) evaluations.

    Example: of f(x) = 2 x1 - x2 at (1, 3) the variances that come from the masks of the columns are as 2^2 to 3^2.

    >>> harness.explain("sobol_attribution", linear, x, target, samples=1024, baseline="zero").round(decimals=1)
    tensor([[0.3000, 0.7000]])
    """
    return play(context, removal, lambda game: _total_order(game, samples))


@explainer(
    access="forward",
    signed=False,
    stochastic=True,
    cost="samples F",
    tunable={"samples": (250, 2000), "segments": ("parts:16", "parts:196"), "baseline": TRIED_FILLS},
)
def hsic_attribution(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: Annotated[int, Range(4, 10_000)] = 500,
    removal: SegmentRemoval = PARTS,
) -> Tensor:
    """HSIC attribution: how far the score depends on whether a segment is shown, by the Hilbert-Schmidt independence
    criterion (Novello et al. 2022, 2206.06219; Gretton et al. 2005).

    One channel, at least 0: a segment's value is shared equally by its units; 0 in expectation of many samples where
    the score does not depend on it, all 0 where it does not vary. Each of ``samples`` masks shows half of the time each
    of K segments, exactly and independently, as Latin hypercubes do. The value is tr(K H L H) / (samples - 1)^2 with
    the kernel 1/2 - (m - m')^2 of a segment's masks and the kernel exp(-(f - f')^2 / (2 s^2)) of the scores. The width
    s is the median distance of two scores; the authors' code takes the median score, which is 0 for some logits and
    changes with a constant. ``samples`` evaluations.

    Example: f(x) = 2 x1 - x2 at (1, 3) depends on both columns, and more on x2.

    >>> found = harness.explain("hsic_attribution", linear, x, target, baseline="zero")
    >>> found[:, 0] < found[:, 1]
    tensor([True])
    """
    return play(context, removal, lambda game: _dependence(game, samples))


def _total_order(game: Game, draws: int) -> Tensor:
    """Total-order indices (n, K) of the segments' masks, float64."""
    players = game.players
    first, second = sobol_pairs(game.samples.stream("sobol masks"), draws, players).unbind(2)
    places = torch.arange(players, device=first.device)

    def keep(sample: Tensor, draw: Tensor) -> Tensor:
        number, replaced = draw % draws, draw // draws  # nothing is replaced in the last ``draws`` masks
        other = replaced[:, None] == places
        masks = torch.where(other, second[sample, number], first[sample, number])
        return gather_segments(masks, game.segments.labels[sample])

    tracked = game.samples.masked((players + 1) * draws, keep, game.baseline)
    scores = pick(tracked, game.score).double().view(-1, players + 1, draws)
    return jansen(scores[:, -1], scores[:, :-1])


def sobol_pairs(keys: Tensor, draws: int, players: int) -> Tensor:
    """Pairs of masks (n, draws, 2, players) in 0..1: Sobol's sequence, shifted modulo 1 by a vector of each key."""
    if players > MOST_DIMENSIONS:
        raise UserError(f"segments are {players}, expected at most {MOST_DIMENSIONS}, such as segments=parts:64")
    points = torch.quasirandom.SobolEngine(2 * players).draw(draws, dtype=torch.float64).to(keys.device)
    shifted = (points + uniform(keys, 1, 2 * players, dtype=torch.float64)) % 1
    return shifted.float().view(len(keys), draws, 2, players)


def jansen(scores: Tensor, replaced: Tensor) -> Tensor:
    """Total-order indices (n, K) from the scores (n, draws) of masks A and those (n, K, draws) of the masks C.

    0 where the scores of A do not vary, NaN where a score is not finite.
    """
    halves = (scores[:, None] - replaced).square().mean(-1) / 2
    variance = scores.var(1, keepdim=True)
    indices = torch.where(variance == 0, 0.0, halves / variance)
    finite = scores.isfinite().all(1) & replaced.isfinite().flatten(1).all(1)
    return indices.where(finite[:, None], torch.nan)


def _dependence(game: Game, draws: int) -> Tensor:
    """The criterion (n, K) of the segments' masks and the scores, float64."""
    places = permutations(game.samples.stream("hsic masks"), game.players, draws)
    masks = (places < draws // 2).mT  # exactly half of the draws show a segment
    return independence_criterion(masks, game.worth(masks))


def independence_criterion(masks: Tensor, scores: Tensor) -> Tensor:
    """tr(K H L H) / (draws - 1)^2 of each of K segments, (n, K) float64, from their masks (n, draws, K), bool, and the
    scores (n, draws); NaN where a score is not finite."""
    each = zip(masks.double(), scores, strict=True)  # one by one: the kernel of a sample has draws^2 numbers
    criterion = torch.stack([_criterion(own_masks, own_scores) for own_masks, own_scores in each])
    return criterion.where(scores.isfinite().all(1, keepdim=True), torch.nan)


def _criterion(masks: Tensor, scores: Tensor) -> Tensor:
    """The criterion (K,) of one sample's masks (draws, K) and scores (draws,).

    Of the masks' kernel 1/2 - (m - m')^2 = 1/2 - m - m' + 2 m m' only the product is left when it is summed with H L H,
    whose rows and columns sum to 0.
    """
    distances = (scores[:, None] - scores).abs()
    first, second = torch.triu_indices(len(scores), len(scores), 1, device=scores.device)
    width = distances[first, second].median()
    # Where most scores are equal, the median distance is 0: the kernel then says whether two are equal.
    kernel = torch.where(width > 0, torch.exp(-((distances / width) ** 2) / 2), (distances == 0).double())
    centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    return 2 * (masks * (centred @ masks)).sum(0).clamp(min=0) / (len(scores) - 1) ** 2
