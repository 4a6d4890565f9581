"""Scores by random weights of explanations of a LeNet for digits (Hedström et al. 2024, arXiv:2405.02383)."""

import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import evaluate, explain
from harness.metrics.efficient_randomization import histogram_entropy
from harness.reproducing.studies.shared.image_entropy import unsigned_entropy_rise
from harness.reproducing.studies.shared.image_items import fresh_noise
from harness.reproducing.studies.shared.mnist_nets import LENET, accuracy_on_digits, digit_net, digits_of

BINS = 100
SIGNED, UNSIGNED = "signed", "unsigned"
RISE, KEPT, SMOOTH = "eMPRT", "MPRT (Spearman, mean over layers)", "sMPRT (SSIM)"
FRESH_NOISE = "random uniform (control)"
MULTIPLYING = ("IG", "LRP-epsilon", "GradientSHAP", "InputXGradient")  # they contain the factor input
BLIND_CONTROLS = ("frozen noise", "edge", "blurred noise")  # the same map for any weights


def level_attribution(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """A control: every pixel has the same attribution."""
    return torch.ones_like(inputs)


# The paper's ten methods under its names, and controls.
EXPLAINERS_OF_EMPRT: dict[str, dict[str, Any]] = {
    "Gradient": {"name": "gradient"},
    "Saliency": {"name": "saliency"},
    "Grad-CAM": {"name": "grad_cam"},
    "SmoothGrad": {"name": "smoothgrad", "samples": 20, "noise": 0.1},
    "IG": {"name": "integrated_gradients", "steps": 20, "baseline": "zero"},
    "LRP-epsilon": {"name": "lrp", "rule": "epsilon", "first": "same", "epsilon": 1e-6},
    "LRP-z+": {"name": "lrp", "rule": "zplus", "first": "same"},
    "Guided Backprop": {"name": "guided_backprop"},
    "GradientSHAP": {"name": "captum_gradient_shap", "samples": 20, "baseline": "zero"},
    "InputXGradient": {"name": "input_x_gradient"},
    FRESH_NOISE: {"name": fresh_noise},
    "frozen noise": {"name": "random"},
    "edge": {"name": "edge"},
    "blurred noise": {"name": "blurred_random"},
    "constant": {"name": level_attribution},
}


def metrics_of_emprt(draws: int) -> dict[str, dict[str, Any]]:
    """``score|sign`` -> the metric with its options; all weights become random by the same seed."""
    layers = {"name": "parameter_randomization", "stages": 0}
    smooth = {"name": "smooth_parameter_randomization", "draws": draws, "noise": 0.1}
    return {
        f"{RISE}|{SIGNED}": {"name": "efficient_parameter_randomization", "bins": BINS, "weight_seeds": 1},
        f"{RISE}|{UNSIGNED}": {"name": unsigned_entropy_rise, "bins": BINS},
        f"{KEPT}|{SIGNED}": {**layers, "similarity": "spearman"},
        f"{KEPT}|{UNSIGNED}": {**layers, "similarity": "spearman_abs"},
        f"{SMOOTH}|{SIGNED}": smooth,
    }


def scores_by_random_weights(folder: str, epochs: int, images: int, draws: int) -> pd.DataFrame:
    """A row for each explainer, score, sign and image; a score that does not exist is NaN."""
    digits = digits_of(folder)
    net = digit_net(LENET, digits, 0, epochs)
    frame = evaluate(net, digits.data(images), explainers=EXPLAINERS_OF_EMPRT, metrics=metrics_of_emprt(draws))
    broken = frame[(frame["status"] == "failed") & ~frame["error"].astype(str).str.contains("FloatingPointError")]
    if len(broken):
        raise RuntimeError(f"{broken['explainer'].iloc[0]}, {broken['metric'].iloc[0]}: {broken['error'].iloc[0]}")
    rows = []
    for (name, metric), cell in frame.groupby(["explainer", "metric"], sort=False):
        score, sign = metric.split("|")
        found = cell["value"].to_numpy(float) if set(cell["status"]) == {"ok"} else [math.nan] * images
        about = {"explainer": name, "score": score, "sign": sign}
        rows += [{**about, "image": image, "value": float(value)} for image, value in enumerate(found)]
    return pd.DataFrame(rows)


class Switching(nn.Module):
    """A linear model whose first weight tells whether its weights are its own, which are all 1."""

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.last = nn.Linear(pixels, 2, bias=False)
        nn.init.ones_(self.last.weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.last(inputs.flatten(1))


def planted_map(model: nn.Module, inputs: Tensor, targets: Tensor, *, before: int, after: int) -> Tensor:
    """A map whose histogram has ``before`` equally full bins on the model's own weights, and ``after`` on others."""
    own = bool((next(model.parameters()) == 1).all())
    pixels = inputs[0].numel()
    levels = torch.arange(pixels) % (before if own else after)
    return levels.to(inputs).view(1, *inputs.shape[1:]).expand_as(inputs).clone()


def planted_rises(pairs: list[list[int]]) -> pd.DataFrame:
    """eMPRT of maps with planted histograms: a row for each pair of numbers of full bins, with the rise in closed form,
    (log after - log before) / log before."""
    rows = []
    for before, after in pairs:
        pixels = math.lcm(before, after)
        inputs, model = torch.rand(2, 1, 1, pixels, generator=torch.Generator().manual_seed(0)), Switching(pixels)
        frame = evaluate(
            model.eval().requires_grad_(False),
            inputs,
            torch.zeros(2, dtype=torch.long),
            explainers={"planted": {"name": planted_map, "before": before, "after": after}},
            metrics={"rise": {"name": "efficient_parameter_randomization", "bins": BINS, "weight_seeds": 1}},
        )
        expected = math.log(after) / math.log(before) - 1
        found = frame["value"].to_numpy(float)
        rows.append({"before": before, "after": after, "expected": expected, "gap": float(abs(found - expected).max())})
    return pd.DataFrame(rows)


def facts_of_lenet(folder: str, epochs: int, images: int) -> pd.DataFrame:
    """What holds exactly for the net's maps: ``guided and plain``, the distance of the two as a share of the gradient's
    norm, image by image; ``size``, how much the entropy changes when a map is multiplied by 4; ``accuracy``."""
    digits = digits_of(folder)
    net = digit_net(LENET, digits, 0, epochs)
    data = digits.data(images)
    plain, guided = (explain(name, net, data) for name in ("gradient", "guided_backprop"))
    apart = (guided - plain).flatten(1).norm(dim=1) / plain.flatten(1).norm(dim=1)
    size = (histogram_entropy(plain, BINS) - histogram_entropy(4 * plain, BINS)).abs()
    found = {"guided and plain": apart, "size": size, "accuracy": torch.tensor([accuracy_on_digits(net, digits)])}
    return pd.DataFrame([{"what": what, "value": float(each)} for what, values in found.items() for each in values])
