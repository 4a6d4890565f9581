"""A layer's outputs for samples, and the gradients of the samples' logits with respect to them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.as_written import as_written
from harness.errors import NotApplicable
from harness.explainers._gradients import in_chunks
from harness.explainers._layouts import CHANNELS_FIRST, OutputLayout
from harness.guards import frozen
from harness.predictor import check_outputs, target_logits
from harness.samples import Samples


@dataclass(frozen=True)
class MapLayer:
    """The layer that makes a map: its dotted name, and where the places of the input lie in its output."""

    name: str
    layout: OutputLayout


def mapped(
    model: nn.Module, layer: MapLayer, context: Samples, combine: Callable[[Tensor, Tensor], Tensor], targets: Tensor
) -> Tensor:
    """The results (N, ...) of ``combine(activations, gradients)``, called with chunks (n, C, *grid) of the samples.

    The gradients are those of the targets' logits with respect to the layer's activations. NotApplicable where no
    gradient reaches the layer.
    """

    def work(rows: Tensor) -> Tensor:
        return combine(*values_and_gradients(model, layer, context.inputs[rows], targets[rows]))

    return torch.cat([*in_chunks(context, work)])


def values_and_gradients(model: nn.Module, layer: MapLayer, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The layer's activations (n, C, *grid) for inputs (n, ...), and the gradients of the targets' logits there."""
    outputs, leaf = _cut(model, layer.name, inputs)
    gradient = _gradient_at(check_outputs(outputs, len(inputs)), leaf, targets)
    if gradient is None:
        raise NotApplicable(f"no gradient of the model's output reaches layer {layer.name!r}")
    return _on_grid(layer, leaf.detach(), len(inputs)), _on_grid(layer, gradient, len(inputs))


def ablated(layer: MapLayer, context: Samples, channels: int) -> Tensor:
    """Tracked outputs (N, channels, 3) of the samples with one channel of the layer's output after the other set to 0.

    In tokens a channel is 0 in all of them, those before the places included.
    """
    live, now = context.live(), context.inputs.new_zeros(0, dtype=torch.long)  # the model itself calls its hooks
    axis = 1 if layer.layout.kind == CHANNELS_FIRST else -1

    def build(sample: Tensor, channel: Tensor) -> Tensor:
        nonlocal now
        now = channel
        return context.inputs[sample]

    def without(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        output = _expect_tensor(layer.name, output)
        if output.is_quantized:
            raise NotApplicable(f"layer {layer.name!r} gives quantised numbers, of which none can be set to 0")
        changed = output.clone()
        changed.movedim(axis, 1)[torch.arange(len(now), device=now.device), now] = 0
        return changed

    with forward_hook(live.predictor.module.get_submodule(layer.name), without):
        return live.track(channels, build)


def activations(model: nn.Module, layer: MapLayer, context: Samples) -> Tensor:
    """The layer's output for the samples as (N, C, *grid), in forward passes only."""

    def work(rows: Tensor) -> Tensor:
        return _on_grid(layer, output_of(model, layer.name, context.inputs[rows]), len(rows))

    return torch.cat([*in_chunks(context, work)])


def _on_grid(layer: MapLayer, output: Tensor, count: int) -> Tensor:
    maps = layer.layout.maps(output)
    if len(maps) != count or tuple(maps.shape[2:]) != layer.layout.grid:
        raise NotApplicable(
            f"layer {layer.name!r} gives {tuple(output.shape)} for {count} inputs, which does not fit its "
            f"shape for a single input"
        )
    return maps


def _plain(name: str, output: object) -> Tensor:
    """A layer's output as a tensor of floats; that of a quantised layer is a float number for each of its steps."""
    output = _expect_tensor(name, output).detach()
    return output.dequantize() if output.is_quantized else output.clone()


def _cut(model: nn.Module, name: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The model's outputs, and the layer's output, which is the leaf of their graph."""
    leaves: list[Tensor] = []

    def start_here(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        if _expect_tensor(name, output).is_quantized:
            raise NotApplicable(f"layer {name!r} gives quantised numbers, through which no gradient passes")
        torch.set_grad_enabled(True)  # until the block below ends: the layers before this one need no graph
        leaves.append(_expect_tensor(name, output).detach().requires_grad_())
        return leaves[-1].clone()  # the next layers may work in place

    with (
        torch.inference_mode(False),
        torch.no_grad(),
        frozen(model),
        forward_hook(model.get_submodule(name), start_here),
    ):
        outputs = model(inputs.clone())
    return outputs, _only_call(name, leaves)


def output_of(model: nn.Module, name: str, inputs: Tensor) -> Tensor:
    """The output of the layer called ``name`` for these inputs; NotApplicable unless it is one tensor of one call."""
    outputs: list[Tensor] = []
    hook = lambda module, arguments, output: outputs.append(_plain(name, output))
    with torch.inference_mode(False), torch.no_grad(), forward_hook(model.get_submodule(name), hook):
        model(inputs.clone())
    return _only_call(name, outputs)


def enlarged(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Maps (n, C, *grid) at another size, linearly along each axis with half-pixel centres."""
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(maps, size, mode=mode, align_corners=False)


def low_and_span(flat: Tensor) -> tuple[Tensor, Tensor]:
    """The least value of each row of ``flat`` (n, D), and the range of the row, 1 where it is 0: both (n, 1).

    (flat - low) / span scales each row to 0..1.
    """
    low = flat.amin(1, keepdim=True)
    span = flat.amax(1, keepdim=True) - low
    return low, span.where(span > 0, 1)


@contextmanager
def forward_hook(module: nn.Module, hook: Callable) -> Iterator[None]:
    """Set a forward hook for the duration of the block. A compiled model then runs eagerly, else it skips hooks."""
    handle = module.register_forward_hook(hook)
    try:
        with as_written():
            yield
    finally:
        handle.remove()


def _expect_tensor(name: str, output: object) -> Tensor:
    if not isinstance(output, Tensor):
        raise NotApplicable(f"layer {name!r} gives {type(output).__name__}, a map needs a tensor")
    return output


def _only_call(name: str, outputs: list[Tensor]) -> Tensor:
    if len(outputs) != 1:
        raise NotApplicable(f"layer {name!r} is called {len(outputs)} times in a forward pass, a map needs one call")
    return outputs[0]


def _gradient_at(outputs: Tensor, leaf: Tensor, targets: Tensor) -> Tensor | None:
    with torch.inference_mode(False), torch.enable_grad():
        logit = target_logits(outputs, targets).sum()
    return torch.autograd.grad(logit, leaf, allow_unused=True)[0] if logit.requires_grad else None
