"""What a layer gives for samples, and the gradients of their logits there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.errors import NotApplicable
from harness.explainers._gradients import in_chunks
from harness.explainers._layouts import OutputLayout
from harness.guards import frozen
from harness.predictor import check_outputs, target_logits
from harness.samples import Samples


@dataclass(frozen=True)
class MapLayer:
    """A layer by its dotted name, and how its output is read."""

    name: str
    layout: OutputLayout


def mapped(
    model: nn.Module, layer: MapLayer, context: Samples, combine: Callable[[Tensor, Tensor], Tensor], targets: Tensor
) -> Tensor:
    """What ``combine(activations, gradients)`` makes of chunks (n, C, *grid) of the samples, put together again.

    The gradients are those of the targets' logits at the layer. NotApplicable where none reaches it.
    """

    def work(rows: Tensor) -> Tensor:
        outputs, kept = _cut(model, layer.name, context.inputs[rows])
        gradient = _gradient_at(check_outputs(outputs, len(rows)), kept, targets[rows])
        if gradient is None:
            raise NotApplicable(f"no gradient of the model's output reaches layer {layer.name!r}")
        return combine(_on_grid(layer, kept.detach(), len(rows)), _on_grid(layer, gradient, len(rows)))

    return torch.cat([*in_chunks(context, work)])


def activations(model: nn.Module, layer: MapLayer, context: Samples) -> Tensor:
    """The layer's output for the samples as (N, C, *grid), in forward passes only."""

    def work(rows: Tensor) -> Tensor:
        return _on_grid(layer, output_of(model, layer.name, context.inputs[rows]), len(rows))

    return torch.cat([*in_chunks(context, work)])


def _on_grid(layer: MapLayer, output: Tensor, count: int) -> Tensor:
    maps = layer.layout.maps(output)
    if len(maps) != count or tuple(maps.shape[2:]) != layer.layout.grid:
        raise NotApplicable(
            f"layer {layer.name!r} gives {tuple(output.shape)} for {count} inputs, another shape than for one of them"
        )
    return maps


def _cut(model: nn.Module, name: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The model's outputs, and the layer's output as a leaf of their graph, which begins there."""
    kept: list[Tensor] = []

    def start_here(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # until the block below ends: what came before needs no graph
        kept.append(_expect_tensor(name, output).detach().requires_grad_())
        return kept[-1].clone()  # what follows may work in place

    with (
        torch.inference_mode(False),
        torch.no_grad(),
        frozen(model),
        forward_hook(model.get_submodule(name), start_here),
    ):
        outputs = model(inputs.clone())
    return outputs, _only(name, kept)


def output_of(model: nn.Module, name: str, inputs: Tensor) -> Tensor:
    kept: list[Tensor] = []
    hook = lambda module, arguments, output: kept.append(_expect_tensor(name, output).detach().clone())
    with torch.inference_mode(False), torch.no_grad(), forward_hook(model.get_submodule(name), hook):
        model(inputs.clone())
    return _only(name, kept)


@contextmanager
def forward_hook(module: nn.Module, hook: Callable) -> Iterator[None]:
    """A forward hook inside; a compiled model runs module by module there, or it would not be called."""
    handle = module.register_forward_hook(hook)
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        handle.remove()


def _expect_tensor(name: str, output: object) -> Tensor:
    if not isinstance(output, Tensor):
        raise NotApplicable(f"layer {name!r} gives {type(output).__name__}, a map needs a tensor")
    return output


def _only(name: str, kept: list[Tensor]) -> Tensor:
    if len(kept) != 1:
        raise NotApplicable(f"layer {name!r} is called {len(kept)} times in a forward pass, a map needs one call")
    return kept[0]


def _gradient_at(outputs: Tensor, leaf: Tensor, targets: Tensor) -> Tensor | None:
    with torch.inference_mode(False), torch.enable_grad():
        logit = target_logits(outputs, targets).sum()
    return torch.autograd.grad(logit, leaf, allow_unused=True)[0] if logit.requires_grad else None
