"""Explanations, perturbations and scores of the (in)fidelity paper on digits (Yeh et al. 2019, arXiv:1901.09392).

In the setting *local* a perturbation replaces the whole image by clipped noise, whatever the image is; in *global* it
sets one square to black, and all maps are multiplied by the image.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import evaluate, explain, score
from harness.explainers._gradients import summed_gradients
from harness.metrics.infidelity import mean_squared_error
from harness.randomness import normal, sample_keys, stream, uniform
from harness.reproducing.studies.shared.mnist_nets import DigitNet, accuracy_on_digits, digit_net, digits_of
from harness.samples import Samples
from harness.sources import Data

# The arrangement of the paper's net for MNIST, with a quarter of its channels and a sixteenth of its dense units.
YEH_NET = DigitNet("yeh_cnn", (8, 16), (64,), padding=2)
LOCAL, GLOBAL = "local", "global"
RADIUS = {LOCAL: 0.2, GLOBAL: 0.1}  # of the neighbours in max-sensitivity
BLUR_RADIUS = 0.2  # of SmoothGrad's uniform noise
NOISE = 0.2  # standard deviation of the noisy baseline, before it is clipped
PATH_STEPS = 10
LARGEST_SQUARE = 10
PLAIN = {"Grad": "gradient", "IG": "path gradient", "GBP": "guided_backprop"}
SMOOTHED = {f"{name}-SG": base for name, base in PLAIN.items()}
OPTIMAL = {LOCAL: "Noisy Baseline (optimal)", GLOBAL: "Square (optimal)"}
SHAPLEY = "SHAP"  # in the setting global
CONTROLS_OF_YEH = ("constant", "random", "edge")


def left_path_gradient(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The mean of the gradients at 0, 1/10, ..., 9/10 of the way from black: the paper's Integrated Gradients without
    the factor, the input."""
    shares = torch.arange(PATH_STEPS, dtype=inputs.dtype) / PATH_STEPS
    spread = lambda values: values.view(*values.shape, *[1] * (inputs.dim() - 1))
    build = lambda sample, draw: spread(shares[draw]) * inputs[sample]
    return summed_gradients(model, context, targets, PATH_STEPS, build) / PATH_STEPS


def level_map(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """A control: every pixel has the attribution 1."""
    return torch.ones_like(inputs)


def smoothed_map(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, base: str, draws: int
) -> Tensor:
    """The mean of a plain explainer's maps of noisy copies of the input, with uniform noise of +-BLUR_RADIUS.

    The noise depends on the sample, so that neighbours of a sample have the same.
    """
    noise = (2 * uniform(context.stream("smoothing"), draws, *inputs.shape[1:]) - 1) * BLUR_RADIUS
    points = (inputs[:, None] + noise.to(inputs)).flatten(0, 1)
    maps = explain(_plain_explainer(base), model, points, targets.repeat_interleave(draws))
    return maps.unflatten(0, (-1, draws)).mean(1)


def _plain_explainer(base: str) -> Any:
    return left_path_gradient if base == PLAIN["IG"] else base


def times_input(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples, own: dict[str, Any]) -> Tensor:
    """The map of another explainer, given by its name and options, multiplied by the input."""
    options = {key: value for key, value in own.items() if key != "name"}
    made = own["name"]
    if made is smoothed_map:  # it needs the stream of the sample and not that of its copy
        return inputs * smoothed_map(model, inputs, targets, context=context, **options)
    return inputs * explain(made, model, inputs, targets, **options)


def explainers_of_yeh(setting: str, smoothing: int) -> dict[str, dict[str, Any]]:
    """All explainers but the optimal ones and SHAP, with their options: their maps are what is scored."""
    found: dict[str, dict[str, Any]] = {name: {"name": _plain_explainer(base)} for name, base in PLAIN.items()}
    found |= {name: {"name": smoothed_map, "base": base, "draws": smoothing} for name, base in SMOOTHED.items()}
    found |= {name: {"name": level_map if name == "constant" else name} for name in CONTROLS_OF_YEH}
    if setting == LOCAL:
        return found
    return {name: {"name": times_input, "own": own} for name, own in found.items()}


def maps_of_yeh(setting: str, net: nn.Module, data: Data, smoothing: int) -> dict[str, Tensor]:
    """Explainer -> maps (N, pixels) in double precision."""
    return {
        name: explain(own["name"], net, data, **{key: value for key, value in own.items() if key != "name"})
        .double()
        .flatten(1)
        for name, own in explainers_of_yeh(setting, smoothing).items()
    }


def true_logits(net: nn.Module, inputs: Tensor, label: int) -> Tensor:
    """The logits (k,) of one class in double precision."""
    with torch.no_grad():
        return torch.cat([net(part)[:, label] for part in inputs.split(1000)]).double()


def noisy_baseline(net: nn.Module, image: Tensor, label: int, draws: int, use: str) -> tuple[Tensor, Tensor]:
    """Perturbations I (draws, pixels) of one image (1, H, W), the image less clipped noise, and the falls (draws,) of
    the logit. Another ``use`` has other noise."""
    keys = stream(sample_keys(image[None]), 0, f"noisy baseline {use}")
    return changes_by_noise(net, image, label, (NOISE * normal(keys, draws, *image.shape)[0]).clamp(0, 1))


def changes_by_noise(net: nn.Module, image: Tensor, label: int, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The same for given images of noise (draws, 1, H, W)."""
    falls = true_logits(net, image[None], label) - true_logits(net, noise, label)
    return (image - noise).double().flatten(1), falls


def all_squares(side: int, largest: int = LARGEST_SQUARE) -> Tensor:
    """Every square of side 1 to ``largest`` at every position within side x side pixels, (squares, pixels) bool."""
    found = []
    for width in range(1, largest + 1):
        places = torch.arange(side - width + 1)
        inside = (torch.arange(side) >= places[:, None]) & (torch.arange(side) < places[:, None] + width)
        found.append((inside[:, None, :, None] & inside[None, :, None, :]).flatten(0, 1).flatten(1))
    return torch.cat(found)


def changes_by_squares(net: nn.Module, image: Tensor, label: int, squares: Tensor) -> Tensor:
    """The falls (squares,) of the logit of one image (1, H, W) when a square becomes black."""
    without = (image.flatten() * ~squares).view(-1, *image.shape)
    return true_logits(net, image[None], label) - true_logits(net, without, label)


def least_squares_map(perturbations: Tensor, falls: Tensor) -> Tensor:
    """The map (pixels,) that predicts the falls best, and is smallest among those: pinv(I) applied to the falls."""
    used = perturbations.abs().amax(0) > 0  # the others have no part in any prediction
    found = torch.zeros(perturbations.shape[1], dtype=perturbations.dtype)
    found[used] = torch.linalg.lstsq(perturbations[:, used], falls[:, None], driver="gelsy").solution[:, 0]
    return found


def optimally_scaled(maps: Tensor, perturbations: Tensor, falls: Tensor) -> Tensor:
    """The infidelity after optimal scaling (k,) of maps (k, pixels) on perturbations (draws, pixels)."""
    return mean_squared_error(maps @ perturbations.T, falls.expand(len(maps), -1), "optimal")


def fitted_changes(
    setting: str, net: nn.Module, image: Tensor, label: int, fitted: int, squares: Tensor
) -> tuple[Tensor, Tensor]:
    """What the optimal map of one image (1, H, W) is fitted to: ``fitted`` draws of noise, or all squares there are.

    Perturbations (draws, pixels) and the falls (draws,) of the logit.
    """
    if setting == LOCAL:
        return noisy_baseline(net, image, label, fitted, "fit")
    return squares.double(), changes_by_squares(net, image, label, squares)


def optimal_map(setting: str, image: Tensor, perturbations: Tensor, falls: Tensor) -> Tensor:
    """The map (pixels,) with the smallest infidelity; that of squares includes the factor, the image."""
    if setting == GLOBAL:
        perturbations = perturbations * (image.flatten() != 0)  # black pixels take no part
    return least_squares_map(perturbations, falls)


def infidelities_of_digits(
    folder: str, setting: str, epochs: int, images: int, smoothing: int, fitted: int, draws: int, shap: int
) -> pd.DataFrame:
    """Infidelities of all maps, a row for each image and explainer.

    Columns: image; explainer; infidelity, after optimal scaling, on fresh perturbations; plain, without scaling; own,
    after optimal scaling on the perturbations to which the optimal map is fitted; slack, the largest correlation of
    what the optimal map leaves with a pixel's perturbation, which is 0 for a minimum.
    """
    digits = digits_of(folder)
    net = digit_net(YEH_NET, digits, 0, epochs)
    data = digits.data(images, net)
    maps, squares = maps_of_yeh(setting, net, data, smoothing), all_squares(data.inputs.shape[-1])
    if setting == GLOBAL:
        options = {"samples": shap, "segments": "unit", "baseline": "zero", "estimator": "least_squares"}
        maps[SHAPLEY] = explain("kernel_shap", net, data, **options).double().flatten(1)
    names, rows = [*maps, OPTIMAL[setting]], []
    for number, (image, label) in enumerate(zip(data.inputs, data.targets.tolist(), strict=True)):
        own = fitted_changes(setting, net, image, label, fitted, squares)
        fresh = noisy_baseline(net, image, label, draws, "fresh") if setting == LOCAL else own
        best = optimal_map(setting, image, *own)
        stacked = torch.stack([*(maps[name][number] for name in maps), best])
        values = optimally_scaled(stacked, *fresh), optimally_scaled(stacked, *own)
        plain = mean_squared_error(stacked @ fresh[0].T, fresh[1].expand(len(stacked), -1), "none")
        inked = own[0] if setting == LOCAL else own[0] * (image.flatten() != 0)
        left = own[1] - inked @ best
        slack = ((inked.T @ left).abs() / (inked.norm(dim=0) * own[1].norm()).clamp_min(1e-12)).max()
        for name, fresh_value, own_value, bare in zip(names, *values, plain, strict=True):
            about = {"image": number, "explainer": name, "infidelity": float(fresh_value), "own": float(own_value)}
            rows.append({**about, "plain": float(bare), "slack": float(slack)})
    return pd.DataFrame(rows)


def sensitivities_of_digits(
    folder: str, setting: str, epochs: int, images: int, smoothing: int, neighbours: int
) -> pd.DataFrame:
    """Max-sensitivity by the registered metric, a row for each image and explainer; NaN where it is undefined."""
    digits = digits_of(folder)
    net = digit_net(YEH_NET, digits, 0, epochs)
    frame = evaluate(
        net,
        digits.data(images, net),
        explainers=explainers_of_yeh(setting, smoothing),
        metrics={"max_sensitivity": {"radius": RADIUS[setting], "draws": neighbours}},
    )
    failed = frame[frame["status"] == "failed"]
    if len(failed):
        raise RuntimeError(f"{failed['explainer'].iloc[0]}: {failed['error'].iloc[0]}")
    found = frame[["explainer", "value"]].assign(image=frame.groupby("explainer").cumcount())
    return found.rename(columns={"value": "sensitivity"}).reset_index(drop=True)


def sensitivities_of_optimum(
    folder: str, setting: str, epochs: int, images: int, fitted: int, neighbours: int
) -> pd.DataFrame:
    """Max-sensitivity of the optimal map, fitted again for every neighbour, and of the gradient beside it."""
    digits = digits_of(folder)
    net = digit_net(YEH_NET, digits, 0, epochs)
    data = digits.data(images, net)
    squares, radius = all_squares(data.inputs.shape[-1]), RADIUS[setting]
    rows = []
    for number, (image, label) in enumerate(zip(data.inputs, data.targets.tolist(), strict=True)):
        keys = stream(sample_keys(image[None]), 0, "neighbours of the optimum")
        moves = (2 * uniform(keys, neighbours, *image.shape)[0] - 1) * radius
        points = torch.cat([image[None], image + moves])
        changes = (fitted_changes(setting, net, each, label, fitted, squares) for each in points)
        optima = torch.stack([optimal_map(setting, each, *own) for each, own in zip(points, changes, strict=True)])
        plain = explain("gradient", net, points, torch.full((len(points),), label)).double().flatten(1)
        if setting == GLOBAL:
            plain = plain * points.flatten(1)
        for name, maps in ((OPTIMAL[setting], optima), ("Grad", plain)):
            change = (maps[1:] - maps[0]).norm(dim=1).max() / maps[0].norm()
            rows.append({"image": number, "explainer": name, "sensitivity": float(change)})
    return pd.DataFrame(rows)


def identities_of_digits(folder: str, epochs: int, images: int, draws: int) -> pd.DataFrame:
    """What holds exactly on the net, a row for each quantity and image.

    ``guided and plain``   the distance of Guided Backprop from the gradient, as a share of its norm
    ``path times input``   the largest difference of the input times ``left_path_gradient`` and the registered
                           Integrated Gradients with the left rule and 10 steps, as a share of its largest value
    ``sign and size``      the largest relative change of the scaled infidelity when a map is multiplied by -3
    ``all and drawn``      how much the registered infidelity, which draws squares, is off that on all squares, as a
                           share of the latter
    ``accuracy``           of the net on all test images
    """
    digits = digits_of(folder)
    net = digit_net(YEH_NET, digits, 0, epochs)
    data = digits.data(images, net)
    maps = lambda name, **options: explain(name, net, data, **options)
    plain, guided = maps("gradient"), maps("guided_backprop")
    path = data.inputs * maps(left_path_gradient)
    registered = maps("integrated_gradients", baseline="zero", steps=PATH_STEPS, method="riemann_left")
    product = data.inputs * plain
    options = {"perturbation": "square", "scaling": "optimal", "draws": draws, "baseline": "zero"}
    drawn = score("infidelity", net, data, product, convention="contribution", **options).double()
    squares = all_squares(data.inputs.shape[-1])
    every = torch.cat(
        [
            optimally_scaled(
                each.double().flatten()[None], squares.double(), changes_by_squares(net, image, label, squares)
            )
            for each, image, label in zip(product, data.inputs, data.targets.tolist(), strict=True)
        ]
    )
    own = noisy_baseline(net, data.inputs[0], int(data.targets[0]), draws, "fresh")
    first = plain.double().flatten(1)
    turned = optimally_scaled(-3 * first, *own) / optimally_scaled(first, *own) - 1
    found = {
        "guided and plain": (guided - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1),
        "path times input": (path - registered).abs().flatten(1).amax(1) / registered.abs().flatten(1).amax(1),
        "sign and size": turned.abs(),
        "all and drawn": drawn / every - 1,
        "accuracy": torch.tensor([accuracy_on_digits(net, digits)]),
    }
    return pd.DataFrame([{"what": what, "value": float(value)} for what, values in found.items() for value in values])


def left_rule_on_squares(features: int, steps: int) -> pd.DataFrame:
    """Integrated Gradients of f(x) = sum of x^2 from 0 by the left rule: every value is (1 - 1/steps) x^2."""

    class SumOfSquares(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return inputs.square().sum(1, keepdim=True)

    inputs = torch.from_numpy(np.random.default_rng(0).normal(size=(20, features)))
    options = {"baseline": "zero", "steps": steps, "method": "riemann_left", "task": "regression"}
    targets = torch.zeros(len(inputs), dtype=torch.long)
    found = explain("integrated_gradients", SumOfSquares().eval(), inputs, targets, **options).double()
    shares = (found / inputs.square()).flatten()
    return pd.DataFrame([{"steps": steps, "least": float(shares.min()), "most": float(shares.max())}])


def undefined_maps(values: pd.DataFrame) -> Iterator[str]:
    """A sentence where a score does not exist for some image."""
    lacking = values[values["sensitivity"].isna()]
    for name, rows in lacking.groupby("explainer", sort=False):
        yield f"{name} has no max-sensitivity on {len(rows)} images, as its map is 0 throughout."
