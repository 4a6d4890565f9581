"""What a module's parts give for inputs: layers by themselves, channels that are to be excited, features."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.engine.stage import Stage
from harness.errors import NotApplicable
from harness.explainers._layers import module_calls
from harness.explainers._layouts import CHANNELS_FIRST

MOST_LAYERS, MOST_CHANNELS = 6, 5
WEIGHTY = (nn.Linear, nn.modules.conv._ConvNd)


def calls_of(stage: Stage) -> list[Any]:
    """Every call of a module for the first sample (``harness.explainers._layers.ModuleCall``), in their order."""
    return module_calls(stage.module, stage.first()[:1], stage.units.shape)


def automatic_layers(module: nn.Module, called: list[str]) -> list[str]:
    """Up to six layers, from first to last: those after which an activation function stands, or else any."""
    parts = dict(module.named_modules())
    own = [name for name in dict.fromkeys(called) if called.count(name) == 1 and not list(parts[name].children())]
    bends = [name for name in own if type(parts[name]).__module__ == "torch.nn.modules.activation"]
    bends += [name for name in own[-1:] if isinstance(parts[name], nn.Linear)]
    names = bends if len(bends) > 1 else own
    picked = np.unique(np.linspace(0, len(names) - 1, min(MOST_LAYERS, len(names))).round().astype(int))
    return [names[i] for i in picked]


def readable(output: Tensor | None, call: Any) -> np.ndarray | None:
    """A layer's output as (n, C, *grid), or (n, F) where it has no places; None where it is neither."""
    if output is None or output.dim() < 2:
        return None
    layouts = call.layouts
    if layouts and not (len(layouts) > 1 and layouts[0].kind == CHANNELS_FIRST):
        output = layouts[0].maps(output)
    elif output.dim() == 3 and not layouts and isinstance(call.module, nn.Linear | nn.LayerNorm):
        output = output.transpose(1, 2)  # tokens: a line of places for each channel
    return output.float().cpu().numpy() if output.dim() in (2, 3, 4) else None


def outputs_of(module: nn.Module, names: Sequence[str], inputs: Tensor) -> dict[str, Tensor | None]:
    """What layers give for inputs, name -> output; None where that is no tensor with a row for each input."""
    found: dict[str, Tensor | None] = {}

    def keep(name: str) -> Callable:
        def hook(part: nn.Module, arguments: tuple, output: object) -> None:
            fits = isinstance(output, Tensor) and output.dim() > 0 and len(output) == len(inputs)
            found[name] = output.detach().clone() if fits else None

        return hook

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found


def last_channels(stage: Stage) -> tuple[str, list[int]] | None:
    """The last weighted layer before the output, and its channels that the first sample excites most."""
    called = [call.name for call in calls_of(stage)]
    parts = dict(stage.module.named_modules())
    own = [name for name in called if called.count(name) == 1 and isinstance(parts[name], WEIGHTY)]
    spatial = [name for name in own if isinstance(parts[name], nn.modules.conv._ConvNd)] or own[:-1]
    if not spatial:
        return None
    output = outputs_of(stage.module, spatial[-1:], stage.first()[:1])[spatial[-1]]
    strength = None if output is None else output[0].flatten(1).mean(1) if output.dim() > 2 else output[0]
    return None if strength is None else (spatial[-1], strength.argsort(descending=True)[:MOST_CHANNELS].tolist())


def channel_objective(stage: Stage, name: str, channels: list[int]) -> Callable[[Tensor], Tensor]:
    def objective(inputs: Tensor) -> Tensor:
        kept: list[Tensor] = []
        hook = lambda part, arguments, output: kept.append(output)
        handle = stage.module.get_submodule(name).register_forward_hook(hook)
        try:
            stage.module(inputs)
        finally:
            handle.remove()
        maps = kept[-1][range(len(channels)), channels]
        return maps.flatten(1).mean(1) if maps.dim() > 1 else maps

    return objective


def penultimate(stage: Stage) -> tuple[str, np.ndarray]:
    """The last linear layer that is called and its inputs (N, D) for all samples."""
    linear = [call.name for call in calls_of(stage) if isinstance(call.module, nn.Linear)]
    if not linear:
        raise NotApplicable("the model has no linear layer, whose inputs would be its features")
    parts: list[Tensor] = []
    keep = lambda part, arguments: parts.append(arguments[0].detach().flatten(1).float().cpu())
    handle = stage.module.get_submodule(linear[-1]).register_forward_pre_hook(keep)
    try:
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            for _, samples in stage.chunks():
                for batch in samples.inputs.split(64):
                    stage.module(batch)
    finally:
        handle.remove()
    features = torch.cat(parts)
    if len(features) != stage.count:
        raise NotApplicable(f"layer {linear[-1]!r} is given {len(features)} rows for {stage.count} samples")
    return linear[-1], features.numpy()
