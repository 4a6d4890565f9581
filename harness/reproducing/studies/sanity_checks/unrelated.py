"""Similarities of explanations that have nothing in common: of independent linear models, and of noise."""

import math

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.api import explain
from harness.metrics._similarity import pearson, similarity_of
from harness.models.training import reproducible
from harness.reproducing.studies.sanity_checks.nets import net_with_images, similarities_by_all_measures

# Var log|w| of a weight: pi^2 / 8 if it is normal, and 1 if it is uniform around zero, as -log|w| is then exponential.
LOG_VARIANCES = {"normal": math.pi**2 / 8, "uniform": 1.0}
MARGINS = (0, 10)  # pixels of black around a digit; 10 make 28 x 28 pixels, the size of MNIST


def linear_models(units: int, count: int, seed: int, weights: str = "uniform") -> nn.Linear:
    """``count`` independent linear models of ``units`` numbers, one for each output.

    Their weights are ``uniform``, as torch initialises them, or ``normal``. A weight that is drawn as exactly 0, about
    once in 2^24, has no logarithm and gets the size of the smallest other one.
    """
    with reproducible(seed):
        models = nn.Linear(units, count)
        if weights == "normal":
            nn.init.normal_(models.weight)
    with torch.no_grad():
        zero = models.weight == 0
        models.weight[zero] = models.weight[~zero].abs().min()
    return models.requires_grad_(False).eval()


def two_sets_of_maps(explainer: str, inputs: Tensor, seed: int, weights: str = "uniform") -> list[Tensor]:
    """Maps (N, units) of each input (N, units) by two independent linear models of its own."""
    count, units = inputs.shape
    return [
        explain(explainer, linear_models(units, count, 2 * seed + which, weights), inputs, torch.arange(count))
        for which in (0, 1)
    ]


def spearman_of_unrelated_gradients(units: int, pairs: int, seed: int) -> pd.DataFrame:
    """Mean and standard deviation of the Spearman correlation of gradients over pairs of independent linear models."""
    inputs = torch.zeros(pairs, units)
    values = similarity_of("spearman", (units,))(*two_sets_of_maps("gradient", inputs, seed))
    return pd.DataFrame([{"units": units, "pairs": pairs, "mean": values.mean().item(), "sd": values.std().item()}])


def correlation_of_log_magnitudes(variance: float, weights: str, units: int, pairs: int, seed: int) -> pd.DataFrame:
    """Mean Pearson correlation of log|a| over pairs of independent linear models, a = input x gradient.

    Every pair has its own input, with log|x| normal of this ``variance``.
    """
    with reproducible(1_000_000 + seed):  # the models have the seeds 2 seed and 2 seed + 1
        inputs = (math.sqrt(variance) * torch.randn(pairs, units)).exp()
    first, second = (maps.abs().log() for maps in two_sets_of_maps("input_x_gradient", inputs, seed, weights))
    values = pearson(first, second)
    error = values.std().item() / math.sqrt(pairs)
    return pd.DataFrame(
        [{"variance": variance, "weights": weights, "pairs": pairs, "mean": values.mean().item(), "error": error}]
    )


def similarities_of_unrelated_models(bench: str, net: int, images: int, epochs: int) -> pd.DataFrame:
    """Mean similarities of input x gradient of two unrelated linear models on a net's images: a row for each measure
    and black margin.

    In the margin the input is zero, and so is every map that is multiplied by it.
    """
    inputs = net_with_images(bench, net, images, epochs).inputs
    maps = [each.view(inputs[:, 0].shape) for each in two_sets_of_maps("input_x_gradient", inputs.flatten(1), net)]
    return pd.DataFrame(
        [
            {"net": net, "margin": margin, "measure": measure, "mean": values.mean().item()}
            for margin in MARGINS
            for measure, values in similarities_by_all_measures(*(F.pad(each, (margin,) * 4) for each in maps)).items()
        ]
    )


def similarities_of_noise(side: int, pairs: int, seed: int) -> pd.DataFrame:
    """The mean similarity of two maps of normal noise by each measure, its standard error, and the interval of 95 % of
    the pairs."""
    with reproducible(seed):
        first, second = torch.randn(2, pairs, side, side)
    return pd.DataFrame(
        [
            {
                "measure": measure,
                "pairs": pairs,
                "mean": values.mean().item(),
                "error": values.std().item() / math.sqrt(pairs),
                "low": values.quantile(0.025).item(),
                "high": values.quantile(0.975).item(),
            }
            for measure, values in similarities_by_all_measures(first, second).items()
        ]
    )


def expected_correlation(variance: float, weights: str = "normal") -> float:
    """The correlation of log|x w| and log|x w'| for independent weights w, w' and Var log|x| = ``variance``."""
    return variance / (variance + LOG_VARIANCES[weights])


def spearman_band(units: int) -> float:
    """1.96 standard deviations of the Spearman correlation of two unrelated maps without ties."""
    return 1.96 / math.sqrt(units - 1)
