"""ExtrMask: masks of series, learned together with what takes the place of what they hide."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from harness.explainers._gradients import in_chunks
from harness.explainers._learned_masks import descend, parameter, score_loss
from harness.option_types import Count, NotNegative
from harness.randomness import uniform
from harness.registry import explainer
from harness.removal.baselines import BaselineName
from harness.removal.scales import power_of_two
from harness.samples import Samples
from harness.task import Score

RATE = 0.01  # of the experiments of the released code
START = 0.5  # of all masks


@explainer(
    modalities=("series",),
    signed=False,
    stochastic=True,
    cost="(steps + 1) F, steps B",
    tunable={"network": ("tensor",), "mask_weight": (0.1, 3.0), "perturbation_weight": (0.1, 3.0)},
)
def extrmask(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    steps: Count = 500,
    network: Literal["gru", "tensor"] = "gru",
    mask_weight: NotNegative = 1.0,
    perturbation_weight: NotNegative = 1.0,
    baseline: BaselineName | Tensor = "typical_or_zero",
    score: Score = "probability",
) -> Tensor:
    """ExtrMask: a mask of each channel and time step, learned together with what takes the place of what it hides
    (Enguehard 2023, 2305.18840; the preservation game).

    Inputs' shape, 0 to 1. The model sees m x + (1 - m) p, with p = b + s NN((x - b) / s). The loss is that of
    ``dyna_mask`` for the ``score``, plus ``mask_weight`` times the mean of m, plus ``perturbation_weight`` times the
    mean of |NN|, and is made small in ``steps`` steps of Adam. Here b is the ``baseline`` and s the root mean square of
    x - b in each channel, so that a channel's unit does not matter; the paper has b = 0 and s = 1, on series that are
    standardised. NN is a bidirectional GRU as wide as the series has channels, with a linear layer behind it
    (``network=gru``), or a number of its own for each channel and time step (``network=tensor``). Each sample has its
    own NN, whose first weights follow from (seed, sample): in the released code the samples of a batch share one.
    Not applicable as ``gradient``.

    Example: the score is the second of three time steps.

    >>> second = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3, 1, bias=False)).eval()
    >>> second[1].weight.data = torch.tensor([[0.0, 3.0, 0.0]])
    >>> series = harness.Data(torch.tensor([[[0.0, 1.0, 0.0]]]), target, modality="series", task="regression")
    >>> harness.explain("extrmask", second, series, network="tensor").argmax()
    tensor(1)
    """
    keys, removed = context.stream("extrmask weights"), context.baseline(baseline)

    def work(rows: Tensor) -> Tensor:
        masks = parameter(inputs, START, len(rows), *inputs.shape[1:])
        own, base = inputs[rows].to(masks), removed[rows].to(masks)
        unit = power_of_two(own - base, (2,))
        scale = ((own - base) / unit).square().mean(2, keepdim=True).sqrt() * unit
        scale = scale.where(scale > 0, 1)
        net = NETWORKS[network](keys[rows], (own - base) / scale)

        def propose(step: int) -> tuple[Tensor, Tensor]:
            learned = net()
            penalty = mask_weight * masks + perturbation_weight * learned.abs()
            return torch.lerp(base + scale * learned, own, masks), penalty.flatten(1).mean(1)

        optimiser = torch.optim.Adam([masks, *net.parameters], lr=RATE)
        loss = score_loss(context, rows, score)
        descend(model, context, rows, propose=propose, loss=loss, optimiser=optimiser, steps=steps, masks=masks)
        return masks.detach()

    return torch.cat([*in_chunks(context, work)])


class FreeNumbers:
    """A learned number for each number of series (n, C, T), 0 at first."""

    def __init__(self, keys: Tensor, series: Tensor) -> None:
        self.parameters = [torch.zeros_like(series).requires_grad_()]

    def __call__(self) -> Tensor:
        """The numbers (n, C, T)."""
        return self.parameters[0]


class BidirectionalGRU:
    """A bidirectional GRU with a linear layer behind it, one for each of the series (n, C, T), all C wide.

    The first weights are those of torch's layers, drawn from the keys (n,).
    """

    def __init__(self, keys: Tensor, series: Tensor) -> None:
        width = series.shape[1]
        shapes = (
            (2, 3 * width, width),
            (2, 3 * width, width),
            (2, 3 * width),
            (2, 3 * width),
            (2 * width, width),
            (width,),
        )
        bounds = (*[width**-0.5] * 4, *[(2 * width) ** -0.5] * 2)
        self.series, self.parameters, start = torch.stack([series.mT, series.mT.flip(1)], 1), [], 0
        for shape, bound in zip(shapes, bounds, strict=True):
            drawn = uniform(keys, *shape, start=start).to(series)
            self.parameters.append(((2 * drawn - 1) * bound).requires_grad_())
            start += math.prod(shape)

    def __call__(self) -> Tensor:
        """What the networks make of their series (n, C, T)."""
        entering, recurrent, bias, recurrent_bias, out, out_bias = self.parameters
        gates = self.series @ entering.mT + bias[:, :, None]
        state, states = torch.zeros_like(self.series[:, :, 0]), []
        for gate in gates.unbind(2):
            own = (recurrent @ state[..., None])[..., 0] + recurrent_bias
            (reset, update, new), (own_reset, own_update, own_new) = gate.chunk(3, -1), own.chunk(3, -1)
            update = (update + own_update).sigmoid()
            state = torch.lerp((new + (reset + own_reset).sigmoid() * own_new).tanh(), state, update)
            states.append(state)
        onwards, backwards = torch.stack(states, 2).unbind(1)
        return (torch.cat([onwards, backwards.flip(1)], 2) @ out + out_bias[:, None]).mT


NETWORKS = {"gru": BidirectionalGRU, "tensor": FreeNumbers}
