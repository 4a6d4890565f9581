"""Similarities of vectors and maps, batched: NaN where they are undefined."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.batch import Scores
from harness.errors import NotApplicable

# SSIM's constants (Wang et al. 2004): window's sigma and side, and the stabilisers for data of range 1.
SIGMA, SIDE, C1, C2 = 1.5, 11, 0.01**2, 0.03**2
# HOG's orientations over half a turn, cells per side of a block, and its clipping and stabiliser (Dalal, Triggs 2005).
ORIENTATIONS, BLOCK, CLIP, EPSILON = 9, 3, 0.2, 1e-5


def similarity_unit(options: Mapping[str, Any]) -> str:
    """The unit of a metric that is a similarity of maps: the similarity's name."""
    return options["similarity"]


def with_reason(values: Tensor, reason: str, **rest: Tensor | None) -> Scores:
    """Scores with ``reason`` as the reason for values that are NaN."""
    return Scores(values, reason=reason if values.isnan().any() else "", **rest)


def pearson(first: Tensor, second: Tensor) -> Tensor:
    """Pearson correlation along the last axis, float64; NaN where either side is constant."""
    first, second = first.double(), second.double()
    constant = (first.amax(-1) == first.amin(-1)) | (second.amax(-1) == second.amin(-1))
    first, second = (values - values.mean(-1, keepdim=True) for values in (first, second))
    correlation = (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1))
    return correlation.clamp(-1, 1).masked_fill(constant, float("nan"))


def average_ranks(values: Tensor) -> Tensor:
    """Ranks (N, K) float64 from 1, ascending along the last axis; equal values have the mean of their ranks."""
    first, last = tied_ranks(values)
    return (first + last) / 2


def tied_ranks(values: Tensor) -> tuple[Tensor, Tensor]:
    """The first and the last rank (N, K) float64 from 1 that each value may have, ascending along the last axis.

    They differ where values are equal.
    """
    ordered, order = values.sort(-1)
    place, last = torch.arange(values.shape[-1], device=values.device), values.shape[-1] - 1
    differs = ordered[..., 1:] != ordered[..., :-1]
    # Where each run of equal values begins and ends. This takes time linear in K; a search for each value would not.
    begins = F.pad(place[1:] * differs, (1, 0)).cummax(-1).values
    ends = F.pad(place[:-1].where(differs, last), (0, 1), value=last).flip(-1).cummin(-1).values.flip(-1)
    back = lambda ranks: torch.zeros_like(values, dtype=torch.float64).scatter(-1, order, ranks.double() + 1)
    return back(begins), back(ends)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Spearman rank correlation (N,) of rows (N, K), ties at average ranks; NaN where one is constant or not finite."""
    return pearson(_finite_ranks(first), _finite_ranks(second))


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Structural similarity (N,) of maps (N, H, W), each scaled to [0, 1] by its own range (Wang et al. 2004).

    Gaussian window of side 11 and sigma 1.5, or the largest odd side that fits, from 3 up; mean over the places where
    the window lies inside the map. NaN where a map is constant.
    """
    side = min(SIDE, *first.shape[-2:])
    if side < 3:
        raise NotApplicable(f"SSIM needs maps of at least 3 x 3 units, not {' x '.join(map(str, first.shape[-2:]))}")
    return _ssim_of_scaled(_to_unit_range(first), _to_unit_range(second))


def _ssim_of_scaled(first: Tensor, second: Tensor) -> Tensor:
    side = min(SIDE, *first.shape[-2:])
    window = _window(side - 1 + side % 2, first.device)
    moments = torch.stack([first, second, first * first, second * second, first * second], 1)
    blurred = F.conv2d(moments, window.expand(5, 1, -1, -1), groups=5)
    mean_1, mean_2, square_1, square_2, product = blurred.unbind(1)
    luminance = (2 * mean_1 * mean_2 + C1) / (mean_1**2 + mean_2**2 + C1)
    covariance, variances = product - mean_1 * mean_2, square_1 - mean_1**2 + square_2 - mean_2**2
    return (luminance * (2 * covariance + C2) / (variances + C2)).mean((-2, -1))


def hog_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Spearman correlation (N,) of the HOG vectors of maps (N, H, W), each scaled to [0, 1] by its own range."""
    return _hog_of_scaled(_to_unit_range(first), _to_unit_range(second))


def _hog_of_scaled(first: Tensor, second: Tensor) -> Tensor:
    side = hog_cell(first.shape[-2:])
    return spearman(hog(first, side), hog(second, side))


def hog_cell(shape: tuple[int, ...]) -> int:
    """The side of a HOG cell: 1/14 of the map's shorter side, rounded, and at least 2."""
    return max(2, round(min(shape) / 14))


def hog(maps: Tensor, side: int) -> Tensor:
    """Histograms of oriented gradients (N, K) of maps (N, H, W), in cells of ``side`` (Dalal and Triggs 2005).

    Nine unsigned orientations, blocks of 3 x 3 cells normalised by L2-Hys; an incomplete last cell is left out.
    """
    if min(maps.shape[-2:]) // side < BLOCK:
        came = " x ".join(map(str, maps.shape[-2:]))
        raise NotApplicable(f"HOG needs maps of at least {BLOCK} x {BLOCK} cells of side {side}, not {came} units")
    cells = _cell_histograms(maps.double(), side)
    blocks = cells.unfold(2, BLOCK, 1).unfold(3, BLOCK, 1).permute(0, 2, 3, 4, 5, 1).flatten(3)
    return _l2_normalised(_l2_normalised(blocks).clamp(max=CLIP)).flatten(1)


def _cell_histograms(maps: Tensor, side: int) -> Tensor:
    """Mean gradient size per orientation and cell: (N, orientations, rows, columns)."""
    down, across = torch.zeros_like(maps), torch.zeros_like(maps)
    down[:, 1:-1] = maps[:, 2:] - maps[:, :-2]
    across[:, :, 1:-1] = maps[:, :, 2:] - maps[:, :, :-2]
    size = torch.hypot(down, across)
    bin_ = (torch.rad2deg(torch.atan2(down, across)) % 180 / (180 / ORIENTATIONS)).floor()
    per_bin = [F.avg_pool2d(size.masked_fill(bin_ != number, 0), side) for number in range(ORIENTATIONS)]
    return torch.stack(per_bin, 1).masked_fill(size.isnan().flatten(1).any(1)[:, None, None, None], float("nan"))


def _l2_normalised(blocks: Tensor) -> Tensor:
    return blocks / (blocks.square().sum(-1, keepdim=True) + EPSILON**2).sqrt()


def _to_unit_range(maps: Tensor) -> Tensor:
    """Each map scaled to [0, 1]; a constant one becomes 0 / 0, NaN."""
    maps = maps.double()
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low)


def _window(side: int, device: torch.device) -> Tensor:
    distance = torch.arange(side, dtype=torch.float64, device=device) - side // 2
    weights = torch.exp(-(distance**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    return weights[:, None] * weights


def _finite_ranks(values: Tensor) -> Tensor:
    """Average ranks along the last axis; NaN for a row that is not finite throughout."""
    return average_ranks(values).masked_fill(~values.isfinite().all(-1, keepdim=True), float("nan"))


@dataclass(frozen=True)
class Similarity:
    """A similarity (N,) of two sets of maps (N, *units).

    prepare   transforms one set, map by map; units may change places before or after it, with the same result
    compare   the similarity of two sets so transformed
    """

    prepare: Callable[[Tensor], Tensor]
    compare: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """The similarity (N,) of maps that are not transformed yet."""
        return self.compare(self.prepare(first), self.prepare(second))


def _ranked_maps(maps: Tensor) -> Tensor:
    return _finite_ranks(maps.flatten(1)).view(maps.shape)


def _correlation_of_ranks(first: Tensor, second: Tensor) -> Tensor:
    return pearson(first.flatten(1), second.flatten(1))


SimilarityName = Literal["spearman", "spearman_abs", "ssim", "hog"]
SIMILARITIES = {
    "spearman": Similarity(_ranked_maps, _correlation_of_ranks),
    "spearman_abs": Similarity(lambda maps: _ranked_maps(maps.abs()), _correlation_of_ranks),
    "ssim": Similarity(_to_unit_range, _ssim_of_scaled),
    "hog": Similarity(_to_unit_range, _hog_of_scaled),
}


def similarity_of(name: str, shape: tuple[int, ...]) -> Similarity:
    """The similarity of that name: of two sets of maps (N, *shape) to (N,); NotApplicable where maps are too small."""
    least = {"ssim": 3, "hog": BLOCK * hog_cell(shape)}.get(name, 0)
    if least and (len(shape) != 2 or min(shape) < least):
        needed = f"{name.upper()} needs image maps of at least {least} x {least} units"
        raise NotApplicable(f"{needed}, these are {shape} (give similarity=spearman)")
    return SIMILARITIES[name]
