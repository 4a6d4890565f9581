"""The outputs of a model's layers: which layers are drawn, what they give for inputs, and the model's features."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.as_written import as_written
from harness.engine.stage import Stage
from harness.errors import NotApplicable
from harness.explainers._layers import module_calls
from harness.explainers._layouts import CHANNELS_FIRST

MOST_LAYERS, MOST_CHANNELS = 6, 5
WITH_WEIGHTS = (nn.Linear, nn.modules.conv._ConvNd)


def calls_of(stage: Stage) -> list[Any]:
    """Every call of a module for the first sample (``harness.explainers._layers.ModuleCall``), in their order."""
    return module_calls(stage.module, stage.first()[:1], stage.units.shape)


def automatic_layers(module: nn.Module, called: list[str]) -> list[str]:
    """Up to six layers, spread from first to last: activation functions, or any layer where there are too few.

    ``called`` are the names of the modules in the order of their calls. A module that is called twice, or that has
    modules of its own, is left out.
    """
    parts = dict(module.named_modules())
    own = [name for name in dict.fromkeys(called) if called.count(name) == 1 and not list(parts[name].children())]
    activations = [name for name in own if type(parts[name]).__module__ == "torch.nn.modules.activation"]
    activations += [name for name in own[-1:] if isinstance(parts[name], nn.Linear)]
    names = activations if len(activations) > 1 else own
    picked = np.unique(np.linspace(0, len(names) - 1, min(MOST_LAYERS, len(names))).round().astype(int))
    return [names[i] for i in picked]


def drawable_output(output: Tensor | None, call: Any) -> np.ndarray | None:
    """A layer's output as (n, C, *grid) in space or time, else as (n, F); None where it has neither form."""
    if output is None or output.dim() < 2:
        return None
    layouts = call.layouts
    if layouts and not (len(layouts) > 1 and layouts[0].kind == CHANNELS_FIRST):
        output = layouts[0].maps(output)
    elif output.dim() == 3 and not layouts and isinstance(call.module, nn.Linear | nn.LayerNorm):
        output = output.transpose(1, 2)  # tokens: (n, C, T)
    return output.float().cpu().numpy() if output.dim() in (2, 3, 4) else None


def layer_outputs(module: nn.Module, names: Sequence[str], inputs: Tensor) -> dict[str, Tensor | None]:
    """The outputs of layers for inputs, name -> output; None where that is no tensor with a row for each input."""
    outputs: dict[str, Tensor | None] = {}

    def recorder(name: str) -> Callable:
        def hook(part: nn.Module, arguments: tuple, output: object) -> None:
            fits = isinstance(output, Tensor) and output.dim() > 0 and len(output) == len(inputs)
            outputs[name] = output.detach().clone() if fits else None

        return hook

    handles = [module.get_submodule(name).register_forward_hook(recorder(name)) for name in names]
    try:
        with torch.no_grad(), as_written():
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def last_channels(stage: Stage) -> tuple[str, list[int]] | None:
    """The last convolution, or else the last linear layer before the output, and its channels that are largest for the
    first sample; None where there is none."""
    called = [call.name for call in calls_of(stage)]
    parts = dict(stage.module.named_modules())
    own = [name for name in called if called.count(name) == 1 and isinstance(parts[name], WITH_WEIGHTS)]
    spatial = [name for name in own if isinstance(parts[name], nn.modules.conv._ConvNd)] or own[:-1]
    if not spatial:
        return None
    output = layer_outputs(stage.module, spatial[-1:], stage.first()[:1])[spatial[-1]]
    strength = None if output is None else output[0].flatten(1).mean(1) if output.dim() > 2 else output[0]
    return None if strength is None else (spatial[-1], strength.argsort(descending=True)[:MOST_CHANNELS].tolist())


def channel_objective(stage: Stage, name: str, channels: list[int]) -> Callable[[Tensor], Tensor]:
    """A function of inputs (K, ...): for each the mean activation of a layer's channel, the k-th of ``channels``."""

    def objective(inputs: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        hook = lambda part, arguments, output: outputs.append(output)
        handle = stage.module.get_submodule(name).register_forward_hook(hook)
        try:
            stage.module(inputs)
        finally:
            handle.remove()
        maps = outputs[-1][range(len(channels)), channels]
        return maps.flatten(1).mean(1) if maps.dim() > 1 else maps

    return objective


def penultimate(stage: Stage) -> tuple[str, np.ndarray]:
    """The last linear layer that is called, and its inputs (N, D) for all samples: the model's features."""
    linear = [call.name for call in calls_of(stage) if isinstance(call.module, nn.Linear)]
    if not linear:
        raise NotApplicable("the model has no linear layer, of which the inputs would be the features")
    parts: list[Tensor] = []
    hook = lambda part, arguments: parts.append(arguments[0].detach().flatten(1).float().cpu())
    handle = stage.module.get_submodule(linear[-1]).register_forward_pre_hook(hook)
    try:
        with torch.no_grad(), as_written():
            for _, samples in stage.chunks():
                for batch in samples.inputs.split(64):
                    stage.module(batch)
    finally:
        handle.remove()
    features = torch.cat(parts)
    if len(features) != stage.count:
        raise NotApplicable(
            f"layer {linear[-1]!r} takes {len(features)} rows for {stage.count} samples, expected one row for each"
        )
    return linear[-1], features.numpy()
