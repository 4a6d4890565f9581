"""RISE: many random smooth masks, averaged with the scores of the masked images as weights."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.explainers._coalitions import check_number
from harness.predictor import pick
from harness.randomness import element, uniform
from harness.registry import explainer
from harness.samples import Samples

# Numbers in the factors of the masks that are summed at once: bounds the memory at 16 MB.
MOST_MASK_NUMBERS = 2**22


@explainer(access="forward", modalities=("image",), stochastic=True, cost="samples F")
def rise(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    samples: int = 1000,
    cells: int = 7,
    probability: float = 0.5,
    baseline: str | Tensor = "zero",
    score: str = "probability",
    centred: bool = True,
) -> Tensor:
    """RISE: random smooth masks averaged, each weighted by the score of the image that it masks (Petsiuk et al. 2018,
    1806.07421).

    Shape (N, 1, H, W), in units of ``score``. Each of ``samples`` masks Z is made of ``cells`` x ``cells`` numbers that
    are 1 with ``probability`` and else 0. They are enlarged bilinearly to one cell more than the image and cut out at a
    random shift, as in the released code (the paper takes 4000 to 8000 masks). The model gets image Z + baseline
    (1 - Z). With the scores v, the paper's map is sum v Z / (samples probability). With ``centred``, it is sum (v -
    mean v) Z / (samples probability (1 - probability)): in expectation the same up to a factor and a constant, but
    without the noise that comes from the mean of v.

    Example: with a single cell a mask shows all of the image or nothing, so that every pixel gets about the score of
    the image, which is pooled(image) = 7.

    >>> harness.explain("rise", pooled, image, target, cells=1, score="logit").round()
    tensor([[[[7., 7.],
              [7., 7.]]]])
    """
    check_number("samples", samples, 2 if centred else 1)
    check_number("cells", cells, 1)
    if not 0 < probability < 1:
        raise UserError(f"probability is {probability}, expected a number between 0 and 1")
    strips = tuple(bilinear_strips(length, cells).to(inputs.device) for length in inputs.shape[2:])
    masks = RiseMasks(context.stream("rise masks"), cells, probability, strips)
    values = pick(context.masked(samples, masks.of_rows, baseline), score).double()
    if centred:
        values = (values - values.mean(1, keepdim=True)) / (1 - probability)
    return masks.weighted_sum(values.float() / (samples * probability))[:, None]


@dataclass(frozen=True)
class RiseMasks:
    """Masks numbered by sample and draw. They are made again each time they are needed, as all of them at once would
    fill the memory.

    A mask is L' G R: the numbers G (cells, cells), 0 or 1, enlarged along each axis by one of the axis's strips, which
    is drawn at random.
    """

    keys: Tensor
    cells: int
    probability: float
    strips: tuple[Tensor, Tensor]

    def of_rows(self, sample: Tensor, draw: Tensor) -> Tensor:
        """The masks (rows, H, W) of pairs of sample and draw numbers."""
        coins, left, right = self._factors(element(self.keys[sample], draw))
        return left.mT @ coins @ right

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Each sample's masks summed with weights (N, draws): (N, H, W), without making any of them."""
        stacked = lambda factor: factor.reshape(len(weights), -1, factor.shape[-1])
        per_draw = len(weights) * self.cells * sum(strip.shape[-1] for strip in self.strips)
        total = 0.0
        for draws in torch.arange(weights.shape[1], device=weights.device).split(max(1, MOST_MASK_NUMBERS // per_draw)):
            coins, left, right = self._factors(element(self.keys[:, None], draws).flatten())
            weighted = weights[:, draws].reshape(-1, 1, 1) * (coins @ right)
            total = total + stacked(left).mT @ stacked(weighted)
        return total

    def _factors(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        numbers = uniform(keys, self.cells**2 + 2)
        coins = (numbers[:, :-2] < self.probability).to(numbers.dtype).view(-1, self.cells, self.cells)
        left, right = ((numbers[:, at] * len(strip)).long() for at, strip in zip((-2, -1), self.strips, strict=True))
        return coins, self.strips[0][left], self.strips[1][right]


def bilinear_strips(length: int, cells: int) -> Tensor:
    """Bilinear weights (shifts, cells, length) from cells to an axis, for each shift within a cell.

    The cells are enlarged to ``cells + 1`` times a cell's size, with half-pixel centres and mirrored about the
    outermost cells' centres as in the released code; a strip is what the axis sees of that.
    """
    cell = -(-length // cells)
    size = (cells + 1) * cell
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * cells / size - 0.5
    centres = (cells - 1 - (cells - 1 - centres.abs()).abs()).clamp(min=0)
    weights = (1 - (centres[:, None] - torch.arange(cells)).abs()).clamp(min=0).float()
    return weights.unfold(0, length, 1)[:cell]
