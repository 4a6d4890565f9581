"""The layer that makes a map: by name or by default, and where the places of the input lie in its output."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from harness.as_written import as_written
from harness.errors import NotApplicable, UserError
from harness.explainers._at_layer import MapLayer, forward_hook, output_of
from harness.explainers._layouts import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    TOKENS,
    OutputLayout,
    ShapeReader,
    follows,
    settle,
)
from harness.samples import Samples

_ADAPTIVE = (
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool3d,
)
_POOLING = (
    *_ADAPTIVE,
    nn.AvgPool1d,
    nn.MaxPool1d,
    nn.LPPool1d,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.LPPool2d,
    nn.FractionalMaxPool2d,
    nn.AvgPool3d,
    nn.MaxPool3d,
    nn.LPPool3d,
    nn.FractionalMaxPool3d,
)
# Modules with channels on the first axis after the batch, on the last axis, and on the same axis as their input.
_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm)
_LAST = (nn.LayerNorm, nn.RMSNorm, nn.Linear)
_ELEMENTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.Hardswish, nn.Mish)


@dataclass(frozen=True)
class LayerOption:
    """The option of every explainer that makes a map at one layer.

    layer   a dotted module name; by default the last layer whose output has several places (``choose_layer``)
    """

    layer: str | None = None


ANY_LAYER = LayerOption()


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module for a single input.

    input_shape, shape   of its first argument and of its output, None where that is no tensor
    layouts              the ways in which the output can be read as channels at places
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, ...] | None
    shape: tuple[int, ...] | None
    layouts: list[OutputLayout]


def layer_of_options(
    model: nn.Module, context: Samples, /, *, cam: LayerOption = ANY_LAYER, **options: object
) -> MapLayer:
    """The layer that makes the map under these options: the ``prepare`` of explainers with ``cam``."""
    return choose_layer(model, context, cam.layer)


def choose_layer(model: nn.Module, context: Samples, layer: str | None = None) -> MapLayer:
    """The layer called ``layer``, or by default the last one with several places from which the outputs are computed.

    By default it is the layer that a timm model names last in ``feature_info``. Without one, it is the last module that
    is called once and whose output has several places; pooling modules do not count, and neither does what comes after
    an adaptive pooling. Where the model reads only class tokens of that layer, not its places, it is the last
    normalisation of tokens whose places the model does read: the one before the last attention. Where linear layers
    mix the places (MLP-Mixer), the tokens must still change most where the input is changed, as they do with residual
    connections. NotApplicable where there is no such layer, where the output can be read in several ways, and inside
    TorchScript.
    """
    if layer is not None and layer not in dict(model.named_modules()):
        raise _unknown_layer(model, layer)
    one = context.inputs[:1]
    calls = module_calls(model, one, context.units.shape)
    if layer is not None:
        return _named_layer(model, calls, layer, one)
    call = _declared(model, calls) or _last(model, calls)
    chosen = _with_one_layout(model, call, one)
    mixed = chosen.layout.kind == TOKENS and _mixed(calls, chosen.layout)
    if mixed and not follows(chosen.layout, lambda inputs: output_of(model, chosen.name, inputs), one):
        raise NotApplicable(f"linear layers mix the places: the tokens of {chosen.name!r} are not in order any more")
    if chosen.layout.prefix and not _depends_on_places(model, chosen, one):
        return _before_last_attention(model, calls, chosen, one)
    return chosen


def module_calls(model: nn.Module, one: Tensor, size: tuple[int, ...]) -> list[ModuleCall]:
    """Every call of a module for one input (1, ...) of this size, in the order in which the calls end."""
    calls, handles, before = [], [], [None]  # the output of the last call, to recognise modules that pass it on
    prefix = next((m.num_prefix_tokens for m in model.modules() if hasattr(m, "num_prefix_tokens")), None)
    reader = ShapeReader(size, prefix if isinstance(prefix, int) else None)

    def note(name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(module: nn.Module, arguments: tuple, output: object) -> None:
            shape = _shape_of_tensor(output)
            layouts = reader.read(shape) if shape else []
            same = [output, *(arguments[:1] if isinstance(module, _ELEMENTWISE) else ())]
            passed_on = before[0] is not None and any(value is before[0] for value in same)
            layouts = calls[-1].layouts if passed_on else _by_kind(module, layouts)
            calls.append(ModuleCall(name, module, _shape_of_tensor(*arguments[:1]), shape, layouts))
            before[0] = output

        return hook

    try:
        for name, module in model.named_modules():
            watchable = name and not _is_scripted(module)
            handles += [module.register_forward_hook(note(name))] if watchable else []
        with torch.no_grad(), as_written():
            model(one.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _by_kind(module: nn.Module, layouts: list[OutputLayout]) -> list[OutputLayout]:
    """Those layouts that have the channels where a module of this kind has them; all for other kinds of modules."""
    if isinstance(module, _FIRST):
        return [layout for layout in layouts if layout.kind == CHANNELS_FIRST]
    if type(module) in _LAST:  # not subclasses: some normalise over channels that come first
        return [layout for layout in layouts if layout.kind != CHANNELS_FIRST]
    return layouts


def _shape_of_tensor(value: object = None) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) and value.dim() else None


def _named_layer(model: nn.Module, calls: list[ModuleCall], layer: str, one: Tensor) -> MapLayer:
    """The layer that the user named; NotApplicable where it makes no map."""
    own = [call for call in calls if call.name == layer]
    if not own and _is_scripted(dict(model.named_modules())[layer]):
        raise NotApplicable(f"layer {layer!r} is part of a TorchScript program, which shows no layer's output")
    if len(own) != 1:
        raise NotApplicable(f"layer {layer!r} is called {len(own)} times in a forward pass, a map needs one call")
    if not own[0].layouts:
        raise NotApplicable(
            f"layer {layer!r} gives {own[0].shape or 'no tensor'}, a map needs (N, C, ...), (N, ..., C) or tokens with "
            f"more than one place and the input's aspect ratio"
        )
    return _with_one_layout(model, own[0], one)


def _declared(model: nn.Module, calls: list[ModuleCall]) -> ModuleCall | None:
    """The call of the layer that a timm model, or one inside a wrapper, names as its last features."""
    for outer, module in model.named_modules():
        info = getattr(module, "feature_info", None)
        if isinstance(info, list) and info and isinstance(info[-1], dict):
            name = ".".join(filter(None, (outer, info[-1].get("module"))))
            own = [call for call in calls if call.name == name]
            return own[0] if len(own) == 1 and own[0].layouts else None
    return None


def _last(model: nn.Module, calls: list[ModuleCall]) -> ModuleCall:
    """The last call whose output has places, before the first adaptive pooling of such an output."""
    times = Counter(call.name for call in calls)
    ends = [at for at, call in enumerate(calls) if call.layouts and isinstance(call.module, _ADAPTIVE)]
    fit = [
        call
        for call in calls[: ends[0] if ends else None]
        if call.layouts and times[call.name] == 1 and not isinstance(call.module, _POOLING)
    ]
    if not fit:
        scripted = any(map(_is_scripted, model.modules()))
        hidden = "; those inside its TorchScript program cannot be seen" if scripted else ""
        raise NotApplicable(f"the model has no layer, called once, whose output has more than one place{hidden}")
    return fit[-1]


def _with_one_layout(model: nn.Module, call: ModuleCall, one: Tensor) -> MapLayer:
    """The layer of a call with the one layout of its output; NotApplicable where that is not certain."""
    layout = settle(call.layouts, lambda inputs: output_of(model, call.name, inputs), one)
    if layout is None or (len(layout.grid) == 1 and layout.kind == CHANNELS_LAST):
        shape = ("N", *call.shape[1:])
        raise NotApplicable(f"it cannot be told which axes of the output {shape} of layer {call.name!r} are places")
    return MapLayer(call.name, layout)


def _is_scripted(module: nn.Module) -> bool:
    """Whether a module runs as TorchScript, which calls no hooks."""
    return isinstance(module, torch.jit.ScriptModule)


def _mixed(calls: list[ModuleCall], layout: OutputLayout) -> bool:
    """Whether a linear layer has the tokens on its last axis, (N, C, tokens), and so mixes them."""
    lengths = {call.shape[1] for call in calls for each in call.layouts if each.kind == TOKENS}
    shapes = [call.input_shape for call in calls if isinstance(call.module, nn.Linear) and call.input_shape]
    length = layout.prefix + math.prod(layout.grid)
    return any(len(shape) == 3 and shape[2] == length and shape[1] not in lengths for shape in shapes)


def _depends_on_places(model: nn.Module, layer: MapLayer, one: Tensor) -> bool:
    """Whether the model's outputs are computed from the layer's tokens of places, whatever the weights.

    The places are set to NaN: what is computed from NaN is NaN. A gradient would not do, because it is also 0 where a
    weight is, as in the heads of untrained models.
    """

    def poison(module: nn.Module, arguments: tuple, output: Tensor) -> Tensor:
        poisoned = output.clone()
        poisoned[:, layer.layout.prefix :] = torch.nan
        return poisoned

    with torch.no_grad(), forward_hook(model.get_submodule(layer.name), poison):
        return bool(model(one.clone()).isnan().any())


def _before_last_attention(model: nn.Module, calls: list[ModuleCall], blank: MapLayer, one: Tensor) -> MapLayer:
    """The last normalisation whose places the model reads; of the layer ``blank`` it reads none."""
    times = Counter(call.name for call in calls)
    for call in reversed(calls):
        norm = "norm" in type(call.module).__name__.lower()
        if norm and times[call.name] == 1 and blank.layout in call.layouts:
            layer = MapLayer(call.name, blank.layout)
            if _depends_on_places(model, layer, one):
                return layer
    raise NotApplicable(
        f"of {blank.name!r} the model reads only the {blank.layout.prefix} tokens in front of its places, and no "
        f"normalisation before it has places that are read"
    )


def _unknown_layer(model: nn.Module, layer: str) -> UserError:
    names = [name for name, _ in model.named_modules() if name]
    close = get_close_matches(layer, names, n=3) or names[-3:]
    return UserError(f"the model has no layer {layer!r}, expected one of named_modules(), like {', '.join(close)}")
