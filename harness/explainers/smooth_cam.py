"""Class activation maps from gradients at noisy copies of the input."""

import torch
from torch import Tensor, nn

from harness.explainers._at_layer import MapLayer, activations, values_and_gradients
from harness.explainers._cam import CAM, RECTIFIED, CamOptions, full_size_map, sum_over_channels
from harness.explainers._gradients import in_chunks, rows_at_once, zeros_to_sum
from harness.explainers.noise import NoisyCopies, noisy
from harness.option_types import TRIED_NOISE
from harness.registry import explainer
from harness.samples import Samples

FEW_COPIES = NoisyCopies(samples=10)


@explainer(
    signed=False,
    stochastic=True,
    cost="samples + 1 F samples B",
    **CAM,
    tunable={"samples": (50,), "noise": TRIED_NOISE, "relu": (False,)},
)
def smoothgrad_cam_pp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    prepared: MapLayer,
    cam: CamOptions = RECTIFIED,
    copies: NoisyCopies = FEW_COPIES,
) -> Tensor:
    """Smooth Grad-CAM++: the maps of ``grad_cam_pp`` with channel weights from derivatives averaged over noisy copies
    of the input (Omeiza et al. 2019, 1908.01224).

    Shape, unit and limits as of ``grad_cam``. With g the gradient of the logit at the layer for a copy, D1, D2 and D3
    are the means of g, g^2 and g^3 over the copies (the derivatives of exp(logit), but for its own factor, as in
    ``grad_cam_pp``). A channel's weight is the sum over its places of D2 / (2 D2 + D3 sum A) max(D1, 0), where A are
    the activations of the input itself. The paper prints D1 in the place of the first D2; that is taken for a misprint,
    since equation 19 of Grad-CAM++, which it averages, has the second derivative. Without noise it is ``grad_cam_pp``.

    Example: the gradients at the layer of pooled are the same for all copies on one side of 2.

    >>> harness.explain("smoothgrad_cam_pp", pooled, image, target, noise=0.0)
    tensor([[[[0.3333, 0.6667],
              [1.0000, 1.3333]]]])
    """
    values = activations(model, prepared, context)
    first, second, third = _mean_powers(model, prepared, context, targets, copies)
    total = values.to(first).flatten(2).sum(2).view(*values.shape[:2], *[1] * len(prepared.layout.grid))
    denominator = 2 * second + third * total
    alive = (second > 0) & (denominator != 0)
    alphas = torch.where(alive, second / denominator.where(alive, 1), 0)
    weights = (alphas * first.relu()).flatten(2).sum(2)
    return full_size_map(sum_over_channels(weights.to(values), values), context, prepared, cam.relu)


def _mean_powers(
    model: nn.Module, layer: MapLayer, context: Samples, targets: Tensor, copies: NoisyCopies
) -> tuple[Tensor, Tensor, Tensor]:
    """The means of g, g^2 and g^3 (N, C, *grid) over the noisy copies, g the gradient at the layer."""
    build = noisy(context, copies, "smoothgrad_cam_pp noise")

    def work(rows: Tensor) -> Tensor:
        at_once = max(1, rows_at_once(context) // len(rows))
        sums = None
        for draws in torch.arange(copies.samples, device=rows.device).split(at_once):
            sample, draw = rows.repeat_interleave(len(draws)), draws.repeat(len(rows))
            _, gradients = values_and_gradients(model, layer, build(sample, draw), targets[sample])
            own = gradients.to(zeros_to_sum(gradients[:0])).unflatten(0, (len(rows), len(draws)))
            powers = torch.stack([own.sum(1), (own**2).sum(1), (own**3).sum(1)], 1)
            sums = powers if sums is None else sums + powers
        return sums / copies.samples

    return torch.cat([*in_chunks(context, work)]).unbind(1)
