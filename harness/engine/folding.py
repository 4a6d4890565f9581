"""Folds BatchNorm layers into the convolutions before them: the same function with less memory traffic."""

import copy
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.predictor import Carried


def fold_batch_norm(model: nn.Module, example: Tensor, carried: Carried | None = None) -> nn.Module | None:
    """A copy of the model with each BatchNorm folded into the convolution that feeds it, or None if there is none.

    One forward pass shows which convolution feeds which BatchNorm, so any kind of model works. Convolutions that are
    called twice, or whose weight is computed (parametrizations, hooks), are not changed. If a convolution's output is
    used elsewhere too, the copy computes another function; the caller has to compare outputs.
    """
    pairs = _conv_norm_pairs(model, example, carried or {})
    if not pairs:
        return None
    twin = copy.deepcopy(model)
    for conv_name, norm_name in pairs:
        conv, norm = twin.get_submodule(conv_name), twin.get_submodule(norm_name)
        scale = (norm.weight if norm.affine else 1.0) / (norm.running_var + norm.eps).sqrt()
        shift = (norm.bias if norm.affine else 0.0) - norm.running_mean * scale
        bias = shift if conv.bias is None else conv.bias * scale + shift
        conv.weight = nn.Parameter((conv.weight * scale.view(-1, *[1] * (conv.weight.dim() - 1))).detach(), False)
        conv.bias = nn.Parameter(bias.detach(), False)
        parent, _, child = norm_name.rpartition(".")
        setattr(twin.get_submodule(parent), child, nn.Identity())
    return twin


def _conv_norm_pairs(model: nn.Module, example: Tensor, carried: Carried) -> list[tuple[str, str]]:
    """Names of convolutions and of the BatchNorms that take their outputs; each is called once."""
    plain = {module: name for name, module in model.named_modules() if not _is_hooked(module)}
    convs = {m: name for m, name in plain.items() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)}
    norms = {m: name for m, name in plain.items() if isinstance(m, nn.modules.batchnorm._BatchNorm) and _is_fixed(m)}
    producers: dict[int, nn.Module] = {}
    outputs, pairs, calls = [], [], []

    def after_conv(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs.append(output)  # a reference, so that no later tensor gets its id
        producers[id(output)] = module
        calls.append(module)

    def before_norm(module: nn.Module, inputs: tuple, named: dict[str, Any]) -> None:
        calls.append(module)
        feeding = producers.get(id(inputs[0] if inputs else named.get("input")))
        if feeding is not None:
            pairs.append((feeding, module))

    with ExitStack() as hooks, torch.no_grad():
        for conv in convs:
            hooks.callback(conv.register_forward_hook(after_conv).remove)
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(before_norm, with_kwargs=True).remove)
        model(example[:1], *([{name: values[:1] for name, values in carried.items()}] if carried else []))
    return [(convs[c], norms[n]) for c, n in pairs if calls.count(c) == calls.count(n) == 1]


def _is_hooked(module: nn.Module) -> bool:
    """Whether hooks run when the module is called, or its weight is computed by a parametrization."""
    return bool(module._forward_pre_hooks or module._forward_hooks) or parametrize.is_parametrized(module)


def _is_fixed(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    """Whether the layer is a fixed affine map per channel, and does not use the statistics of the batch."""
    return norm.running_mean is not None and not norm.training
