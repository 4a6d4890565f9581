"""Explainers and controls of papers on images that the registry does not have, as functions for ``harness.run``."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.explainers.gradient import input_x_gradient, saliency
from harness.explainers.paths import PathOptions, integrated_gradients
from harness.identity import weights_of
from harness.option_types import Count, Positive, Seed
from harness.randomness import normal, stream, uniform
from harness.samples import Samples

# Makes maps of other inputs or other options than its own.
Maker = Callable[[nn.Module, Tensor, Tensor, Samples], Tensor]
Made = Literal["saliency", "input_x_gradient", "integrated_gradients", "integrated_gradients_uniform"]


def constant_control(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The control that says nothing: 1 everywhere, (N, 1, H, W)."""
    return torch.ones_like(inputs[:, :1])


def fresh_noise(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """Uniform noise in 0 .. 1, (N, 1, H, W), that is another one for every image and for every set of weights."""
    keys = stream(context.keys, context.seed, f"fresh noise {weights_of(model)}")
    return context.units.as_map(uniform(keys, *context.units.shape))


def uniform_integrated_gradients(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, steps: Count = 50, start_seed: Seed = 0
) -> Tensor:
    """Integrated gradients from uniform noise in -1 .. 1, one draw for all images, as Hesse et al. 2024 (2407.11910)
    have it; inputs' shape."""
    drawn = np.random.default_rng(start_seed).uniform(-1, 1, inputs.shape[1:])
    path = PathOptions(steps, torch.from_numpy(drawn).float())
    return integrated_gradients(model, inputs, targets, context=context, path=path)


def absolute_map(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    of: Made = "input_x_gradient",
    steps: Count = 50,
) -> Tensor:
    """The absolute value of an explainer's map, after its channels are summed, (N, 1, H, W)."""
    return _maker(of, steps)(model, inputs, targets, context).sum(1, keepdim=True).abs()


def noise_tunnel(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    context: Samples,
    of: Made = "saliency",
    draws: Count = 5,
    deviation: Positive = 1.0,
    steps: Count = 50,
) -> Tensor:
    """The mean of an explainer's maps of ``draws`` noisy copies of the input, as captum's NoiseTunnel makes it.

    Inputs' shape. The Gaussian noise has an absolute standard deviation in the model's input space.
    """
    make, total = _maker(of, steps), torch.zeros_like(inputs)
    for draw in range(draws):
        noise = normal(context.stream(f"noise tunnel {draw}"), *inputs.shape[1:])
        noisy = (inputs + deviation * noise).to(inputs)
        # The copy keeps the sample's keys, so that the next draw does not depend on this one.
        total += make(model, noisy, targets, replace(context, inputs=noisy, scratch={}, memo={}, output_cache=None))
    return total / draws


def _maker(name: str, steps: int) -> Maker:
    plain = {"saliency": saliency, "input_x_gradient": input_x_gradient}
    if name in plain:
        return lambda model, inputs, targets, context: plain[name](model, inputs, targets, context=context)
    if name == "integrated_gradients_uniform":
        return lambda model, inputs, targets, context: uniform_integrated_gradients(
            model, inputs, targets, context=context, steps=steps
        )
    return lambda model, inputs, targets, context: integrated_gradients(
        model, inputs, targets, context=context, path=PathOptions(steps)
    )
