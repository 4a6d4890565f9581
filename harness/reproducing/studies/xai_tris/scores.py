"""Scores of the explainers of XAI-TRIS on one scenario, background and seed (Clark et al. 2023, 2306.12816)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import harness
from harness.datasets.tetrominoes import TetrominoOptions
from harness.datasets.xai_tris import TETROMINO_RANGE, family_of
from harness.predictor import target_logits
from harness.randomness import uniform
from harness.reproducing.studies.xai_tris.nets import (
    CNN,
    LINEAR,
    LabelledImages,
    are_right,
    nets_of,
    parts_of,
    trained_tetromino_net,
    with_softmax,
)
from harness.reproducing.studies.xai_tris.theory import SIDE, share_off
from harness.samples import Samples

PRECISION, EMD, FALSE_MASS = METRICS = ("truth_precision", "truth_emd", "false_mass")
SOFTMAX, LOGIT, NO_SCORE = "softmax", "logit", "none"  # what is explained; controls explain nothing
NO_NET = "none"
TRAINING_IMAGES = 1000  # as baselines of DeepSHAP, and for the covariance of the pattern
PIXELS = {"segments": "unit", "baseline": "zero"}

# The paper's explainers, in the order of its figure, by their registered names and options.
METHODS = {
    "Integrated Gradients": {"name": "integrated_gradients"},
    "Saliency": {"name": "saliency"},
    "DeepLIFT": {"name": "deep_lift"},
    "DeepSHAP": {"name": "deep_lift_shap"},
    "GradientSHAP": {"name": "captum_gradient_shap"},
    "Deconvolution": {"name": "deconvnet"},
    "Shapley sampling": {"name": "shapley_sampling", **PIXELS},
    "LIME": {"name": "lime", **PIXELS},
    "KernelSHAP": {"name": "kernel_shap", **PIXELS, "estimator": "least_squares"},
    "LRP": {"name": "lrp", "rule": "epsilon", "first": "same"},
    "Guided Backprop": {"name": "guided_backprop"},
}
GUIDED_GRAD_CAM = {"Guided Grad-CAM": {"name": "guided_grad_cam", "layer": "9"}}  # the fourth convolution
DEEP_TAYLOR = {"Deep Taylor": {"name": "lrp", "rule": "zplus", "first": "same"}}
EDGES = ("Sobel", "Laplace")
ORACLE, CONSTANT, UNIFORM = "Oracle", "Constant", "Uniform noise"


def laplace_filter(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The Laplacian of the image: the sum of a pixel's four neighbours less four times the pixel; edges are continued.

    (N, 1, H, W) of the mean over the channels, signed.
    """
    grey = F.pad(inputs.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return F.conv2d(grey, torch.tensor([[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]]).to(grey))


def uniform_in_range(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """Uniform noise in -1..1, drawn from the seed and the image."""
    return context.units.as_map(2 * uniform(context.stream("uniform noise"), *context.units.shape) - 1)


def equal_everywhere(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """The same number for every pixel."""
    return torch.ones_like(inputs[:, :1])


def linear_pattern(model: nn.Module, inputs: Tensor, targets: Tensor, *, context: Samples) -> Tensor:
    """The pattern of a linear model: the covariance of its inputs times its weights for the target (Haufe et al. 2014,
    doi 10.1016/j.neuroimage.2013.10.067)."""
    with torch.enable_grad():
        leaf = inputs.detach().requires_grad_()
        (weights,) = torch.autograd.grad(target_logits(model(leaf), targets).sum(), leaf)
    return (weights.flatten(1) @ torch.cov(context.train.flatten(1).T)).view_as(inputs)


CONTROLS = {
    "Sobel": {"name": "edge"},
    "Laplace": {"name": laplace_filter},
    UNIFORM: {"name": uniform_in_range},
    "Input": {"name": "input_magnitude"},
    "Blurred noise": {"name": "blurred_random"},
    CONSTANT: {"name": equal_everywhere},
    ORACLE: {"name": "oracle"},
}
PATTERN = {"Pattern": {"name": linear_pattern}}


def setting_scores(
    scenario: str, backdrop: str, seed: int, *, nets: Sequence[str], count: int, images: int, evaluations: int
) -> pd.DataFrame:
    """A row for each explainer, net and image, of the first ``images`` test images that all nets classify correctly.

    Columns: net, score (what is explained), explainer, image (its number in the part ``test``), METRICS, ``status``
    and ``reason`` where one is missing, ``accuracy`` of the net on the test images, ``tested``, their number, and
    ``right``, how many of them all nets classify correctly. ``seed`` is that of the data and of the training, ``nets``
    are those that the scenario may have, ``count`` is the number of images in all parts, ``evaluations`` those of a net
    for one image by each explainer that samples.
    """
    parts = parts_of(family_of(TetrominoOptions(scenario, backdrop), SIDE, count=count, seed=seed))
    trained = {name: net_of_setting(name, scenario, backdrop, seed, count) for name in nets_of(scenario, nets)}
    correct = {name: are_right(net, parts["test"]) for name, net in trained.items()}
    of_all = torch.stack(list(correct.values())).all(0)
    chosen = of_all.nonzero()[:images, 0]
    data = _explained_data(parts["test"][chosen], parts["train"])
    any_net = next(iter(trained.values()))
    tables = [_tetromino_scores(any_net, data, CONTROLS, METRICS, seed, net=NO_NET, score=NO_SCORE)]
    for name, net in trained.items():
        tables += _scores_of_net(name, net, data, seed, evaluations)
    accuracies = {name: float(each.double().mean()) for name, each in correct.items()}
    table = pd.concat(tables, ignore_index=True)
    table["image"] = chosen.numpy()[table["image"].to_numpy(dtype=int)]
    return table.assign(accuracy=table["net"].map(accuracies), tested=len(of_all), right=int(of_all.sum()))


@cache
def net_of_setting(name: str, scenario: str, backdrop: str, seed: int, count: int) -> nn.Module:
    """The net that has learnt the data of a setting; two parts of the study need the linear ones."""
    parts = parts_of(family_of(TetrominoOptions(scenario, backdrop), SIDE, count=count, seed=seed))
    return trained_tetromino_net(name, parts, seed)


def _explained_data(part: LabelledImages, train: LabelledImages) -> harness.Data:
    return harness.Data(
        part.inputs,
        part.labels,
        labels=part.labels,
        masks=part.masks,
        truth=part.masks.float(),
        train=train.inputs[:TRAINING_IMAGES],
        modality="image",
        value_range=TETROMINO_RANGE,
    )


def _scores_of_net(
    name: str, net: nn.Sequential, data: harness.Data, seed: int, evaluations: int
) -> list[pd.DataFrame]:
    """The paper's methods on the softmax, as it has them; a second time on the logits, without the metric that takes
    long; and Deep Taylor on the logits, as it has it."""
    methods = methods_of(name, evaluations)
    of_softmax = replace(data, task="probabilities")
    return [
        _tetromino_scores(with_softmax(net), of_softmax, methods, METRICS, seed, net=name, score=SOFTMAX),
        _tetromino_scores(net, data, methods, (PRECISION, FALSE_MASS), seed, net=name, score=LOGIT),
        _tetromino_scores(net, data, DEEP_TAYLOR, METRICS, seed, net=name, score=LOGIT),
    ]


def methods_of(net: str, evaluations: int) -> dict[str, dict[str, Any]]:
    """The methods for a net, with a budget of evaluations of it for each image for those that sample."""
    budgets = {
        "Shapley sampling": {"permutations": max(2, evaluations // SIDE**2)},
        "LIME": {"samples": evaluations},
        "KernelSHAP": {"samples": evaluations},
    }
    further = {CNN: GUIDED_GRAD_CAM, LINEAR: PATTERN}.get(net, {})
    return {name: options | budgets.get(name, {}) for name, options in METHODS.items()} | further


def _tetromino_scores(
    model: nn.Module,
    data: harness.Data,
    explainers: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[str],
    seed: int,
    **about: str,
) -> pd.DataFrame:
    """A row for each explainer and image; a method that fails has rows too, which say why (defect D13)."""
    scores = harness.evaluate(
        model, data, explainers=dict(explainers), metrics=list(metrics), seed=seed, explain_batch=len(data)
    )
    scores["reason"] = scores["error"].where(scores["value"].isna(), "")
    rows = scores.groupby(["explainer", "sample"], sort=False)
    table = scores.pivot(index=["explainer", "sample"], columns="metric", values="value").reindex(columns=METRICS)
    for column in ("status", "reason"):
        table[column] = rows[column].agg(lambda texts: "; ".join(sorted(set(texts) - {"", "ok"})))
    table = table.reset_index().rename(columns={"sample": "image"})
    return table.assign(**about)[[*about, "explainer", "image", *METRICS, "status", "reason"]]


def linear_net_weights(backdrop: str, seeds: Sequence[int], count: int) -> pd.DataFrame:
    """Weights of linear nets in the scenario ``linear``, a row for each seed of data and training.

    ``weights_off`` is the share of the magnitudes of the weights, of logit 1 less logit 0, that lies off the mask;
    ``pattern_off`` is that of the pattern. ``agreement`` is the cosine of the weights off the mask with those of the
    next net in a pair of nets, and NaN for the second one.
    """
    rows, weights_off = [], []
    for seed in seeds:
        parts = parts_of(family_of(TetrominoOptions("linear", backdrop), SIDE, count=count, seed=seed))
        net = net_of_setting(LINEAR, "linear", backdrop, seed, count)
        weights = (net[-1].weight[1] - net[-1].weight[0]).double().numpy()
        covariance = np.cov(parts["train"].inputs.flatten(1).double().numpy().T)
        mask = parts["test"].masks[0].flatten().numpy()
        weights_off.append(weights[~mask])
        rows.append(
            {
                "seed": seed,
                "accuracy": float(are_right(net, parts["test"]).double().mean()),
                "weights_off": share_off(weights, mask),
                "pattern_off": share_off(covariance @ weights, mask),
            }
        )
    for first in range(0, len(rows) - 1, 2):
        one, other = weights_off[first], weights_off[first + 1]
        rows[first]["agreement"] = float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    return pd.DataFrame(rows, columns=["seed", "accuracy", "weights_off", "pattern_off", "agreement"])
