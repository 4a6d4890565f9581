"""Class activation maps: a spatial layer's activations, weighted by how much the target's logit depends on them."""

from collections import Counter
from difflib import get_close_matches

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.errors import NotApplicable, UserError
from harness.predictor import target_logits
from harness.registry import explainer
from harness.samples import Samples

_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_POOLING = (*_ADAPTIVE, nn.AvgPool2d, nn.MaxPool2d, nn.LPPool2d, nn.FractionalMaxPool2d)

MOST_EXTRA_TOKENS = 16  # class, distillation and register tokens

Fired = list[tuple[str, nn.Module, object]]  # name, module and output of each call


def choose_layer(model: nn.Module, context: Samples, /, layer: str | None = None, **options: object) -> str:
    """The dotted name of the layer to look at: ``layer`` if given, else the last one that still has a place.

    That is the last module called once whose output is (N, C, h, w), larger than 1 x 1, of the input's aspect ratio,
    and before any adaptive pooling to such a map; pooling modules themselves do not count. One forward pass with
    hooks. NotApplicable where there is none, and where the model goes on to work on the places in another layout, as
    tokens.
    """
    if layer is not None and layer not in dict(model.named_modules()):
        raise _unknown_layer(model, layer)
    fired = _outputs_in_order(model, context.inputs[:1])
    if layer is None:
        return _last_spatial(fired, context.inputs)
    calls = [output for name, _, output in fired if name == layer]
    if len(calls) != 1:
        raise NotApplicable(f"layer {layer!r} is called {len(calls)} times in a forward pass, a map needs one call")
    if not _is_spatial(calls[0], context.inputs):
        shape = tuple(calls[0].shape) if isinstance(calls[0], Tensor) else type(calls[0]).__name__
        raise NotApplicable(f"layer {layer!r} gives {shape}, a map needs (N, C, h, w) larger than 1 x 1")
    return layer


@explainer(access="activations", modalities=("image",), signed=False, prepare=choose_layer)
def grad_cam(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, prepared: str, layer: str | None = None, relu: bool = True
) -> Tensor:
    """A layer's activations, summed over its channels with the channels' mean gradients as weights, and rectified
    (Selvaraju et al. 2017, 1610.02391).

    (N, 1, H, W), at least 0 unless ``relu`` is off; logit. ``layer`` is a dotted module name, by default the last
    spatial layer. The map is enlarged bilinearly (half-pixel centres). Not applicable to models without a spatial
    layer larger than 1 x 1, and to layers called more than once.
    """
    activations, gradients = _at_layer(model, prepared, inputs, targets)
    coarse = (gradients.mean((2, 3), keepdim=True) * activations).sum(1, keepdim=True)
    coarse = coarse.relu() if relu else coarse
    return F.interpolate(coarse, inputs.shape[2:], mode="bilinear", align_corners=False)


def _at_layer(model: nn.Module, layer: str, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's output (N, C, h, w) and the gradient of the targets' logits there."""
    kept = []

    def start_here(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # what follows may work in place

    with torch.enable_grad(), model.get_submodule(layer).register_forward_hook(start_here):
        logits = target_logits(model(inputs), targets)
        return kept[0].detach(), torch.autograd.grad(logits.sum(), kept[0])[0]


def _outputs_in_order(model: nn.Module, one: Tensor) -> Fired:
    """What every module of the model gives for one input, in the order in which they finish."""
    fired: Fired = []
    handles = [
        module.register_forward_hook(lambda module, _, output, name=name: fired.append((name, module, output)))
        for name, module in model.named_modules()
        if name
    ]
    try:
        with torch.no_grad():
            model(one)
    finally:
        for handle in handles:
            handle.remove()
    return fired


def _last_spatial(fired: Fired, inputs: Tensor) -> str:
    spatial = [_is_spatial(output, inputs) for _, _, output in fired]
    ends = [i for i, (_, module, _) in enumerate(fired) if spatial[i] and isinstance(module, _ADAPTIVE)]
    calls = Counter(name for name, _, _ in fired)
    chosen = [
        i for i, (name, module, _) in enumerate(fired[: ends[0] if ends else None])
        if spatial[i] and calls[name] == 1 and not isinstance(module, _POOLING)
    ]  # fmt: skip
    if not chosen:
        raise NotApplicable("the model has no layer, called once, with a spatial output larger than 1 x 1")
    name, _, output = fired[chosen[-1]]
    if any(_other_layout(later, output.shape[2:].numel(), inputs) for _, _, later in fired[chosen[-1] + 1 :]):
        raise NotApplicable(f"after its last spatial layer {name!r} the model works on tokens or channels-last maps")
    return name


def _is_spatial(output: object, inputs: Tensor) -> bool:
    """Whether an output is (N, C, h, w) with more than one place and the input's aspect ratio, up to rounding.

    The aspect ratio tells it from (N, h, w, C), whose last axes are not a picture.
    """
    if not isinstance(output, Tensor) or output.dim() != 4:
        return False
    (height, width), (h, w) = inputs.shape[2:], output.shape[2:]
    return h * w > 1 and abs(h * width - w * height) <= height + width


def _other_layout(output: object, places: int, inputs: Tensor) -> bool:
    """Whether an output is (N, h, w, C), or (N, T, C) with a token for each place and a few more."""
    if not isinstance(output, Tensor) or output.dim() not in (3, 4):
        return False
    if output.dim() == 4:
        return not _is_spatial(output, inputs) and _is_spatial(output.movedim(3, 1), inputs)
    return places <= output.shape[1] < places + MOST_EXTRA_TOKENS


def _unknown_layer(model: nn.Module, layer: str) -> UserError:
    names = [name for name, _ in model.named_modules() if name]
    close = get_close_matches(layer, names, n=3) or names[-3:]
    return UserError(f"the model has no layer {layer!r}, expected one of named_modules(), like {', '.join(close)}")
