"""Scores of the project's metrics before and after noise on weights or inputs (Hedström et al. 2023, arXiv:2302.07265).

The explained class is the one that the net predicts without noise.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from harness.api import explain, score
from harness.registry import METRICS
from harness.reproducing.studies.metaquantus.consistency import DISRUPTIVE, MINOR, rows_of_consistency
from harness.reproducing.studies.shared.mnist_nets import LENET, accuracy_on_digits, digit_net, digits_of
from harness.sources import Data

SPACES = ("model", "input")  # where the noise is: on the weights or on the input
NOISE = {("model", MINOR): 0.001, ("model", DISRUPTIVE): 2.0, ("input", MINOR): 0.001, ("input", DISRUPTIVE): 5.0}
FIRST_SEEDS = {each: 1000 * (place + 1) for place, each in enumerate(NOISE)}  # of the draws of a test
LEAST_CHOSEN, TRIED_DRAWS = 1 / 3, 50  # the share of images that have to count; draws that are tried for each
NOISE_IMAGES = 24  # for which maps of noise are scored
PIXELS = 28 * 28
REMOVED = 2 * 28  # pixels in a subset, and at a step of pixel flipping

# The paper's six explainers under its names; ``layer 3`` is the second convolution, before its ReLU.
EXPLAINERS_OF_METAQUANTUS: dict[str, dict[str, Any]] = {
    "Gradient": {"name": "gradient"},
    "Saliency": {"name": "saliency"},
    "IntegratedGradients": {"name": "integrated_gradients", "steps": 10, "baseline": "zero"},
    "LayerGradCam": {"name": "grad_cam", "layer": "3", "relu": False},
    "Occlusion": {"name": "occlusion", "window": 7, "stride": 7, "baseline": "zero"},
    "GradientShap": {"name": "captum_gradient_shap", "samples": 5, "baseline": "zero"},
}
DRAWING = "GradientShap"  # the one explainer that draws random numbers
UNSIGNED_EXPLAINER = "Saliency"
# Category -> the paper's metrics under its names.
CATEGORIES = {
    "Complexity": ("Sparseness", "Complexity"),
    "Faithfulness": ("Faithfulness Correlation", "Pixel-Flipping"),
    "Localisation": ("Pointing Game", "Relevance Mass Accuracy"),
    "Randomisation": ("Random Logit", "Model Parameter Randomisation Test"),
    "Robustness": ("Max-Sensitivity", "Local Lipschitz Estimate"),
}
METRICS_OF_METAQUANTUS = tuple(each for pair in CATEGORIES.values() for each in pair)
OF_MAP_ALONE = ("Sparseness", "Pointing Game", "Relevance Mass Accuracy", "Complexity")
SIGNED_ENTROPY = "Complexity of signed maps"
BLIND, LUCK = "blind (control)", "luck (control)"
MORE_SUBSETS = "Faithfulness Correlation, 100 subsets"


def options_of_metrics(neighbours: int) -> dict[str, dict[str, Any]]:
    """Name in the paper -> the registered metric with its options."""
    subsets = {"name": "faithfulness_correlation", "share": REMOVED / PIXELS, "baseline": "uniform_noise"}
    near = {"radius": 0.01, "draws": neighbours}
    return {
        "Sparseness": {"name": "sparseness"},
        "Complexity": {"name": "complexity"},
        "Faithfulness Correlation": {**subsets, "draws": 10},
        "Pixel-Flipping": flipping_options(),
        "Pointing Game": {"name": "pointing_game", "margin": 0.0},
        "Relevance Mass Accuracy": {"name": "relevance_mass"},
        "Random Logit": {"name": "random_logit", "draws": 1},
        "Model Parameter Randomisation Test": {"name": "parameter_randomization", "stages": 0, "mode": "independent"},
        "Max-Sensitivity": {"name": "max_sensitivity", **near},
        "Local Lipschitz Estimate": {"name": "local_lipschitz", **near, "relative": True},
        MORE_SUBSETS: {**subsets, "draws": 100},
    }


def flipping_options() -> dict[str, Any]:
    """Pixel flipping as the registered metric with its options."""
    return {"name": "deletion", "steps": PIXELS // REMOVED, "baseline": "uniform_noise", "score": "logit"}


def better_of(name: str) -> str:
    """Whether ``higher`` or ``lower`` scores of a metric or control are better; of a control it does not matter."""
    if name in (BLIND, LUCK):
        return "higher"
    options = options_of_metrics(1)["Complexity" if name == SIGNED_ENTROPY else name]
    entry = METRICS.resolve(options["name"])
    return entry.direction(entry.complete(_without_name(options)))


def boxes_of(images: Tensor) -> Tensor:
    """The bounding boxes (N, H, W) of what is not black in images (N, 1, H, W), as the paper's masks of MNIST are."""
    lit = images[:, 0] > 0
    return _from_first_to_last(lit.any(2))[:, :, None] & _from_first_to_last(lit.any(1))[:, None, :]


def _from_first_to_last(lines: Tensor) -> Tensor:
    """Lines (N, L) that are at, or between, the first and the last one that is True."""
    counts = lines.int()
    return (counts.cumsum(1) > 0) & (counts.flip(1).cumsum(1).flip(1) > 0)


@dataclass(frozen=True)
class DigitProblem:
    """A net, images with boxes, and the classes that the net predicts as targets."""

    net: nn.Module
    data: Data

    def predictions(self) -> Tensor:
        """The net's classes of the images, (N,)."""
        with torch.no_grad():
            return self.net(self.data.inputs).argmax(1)

    def stayed(self) -> np.ndarray:
        """Whether the net predicts the target, (N,)."""
        return (self.predictions() == self.data.targets).numpy()

    def under_noise(self, space: str, size: float, seed: int) -> "DigitProblem":
        """The same targets with noise on the weights (a factor with mean 1) or on the images (uniform, not below 0)."""
        draw = np.random.default_rng(seed)
        if space == "model":
            net = copy.deepcopy(self.net)
            with torch.no_grad():
                for weights in net.parameters():
                    weights.mul_(torch.from_numpy(draw.normal(1, size, tuple(weights.shape))).to(weights))
            return replace(self, net=net)
        images = self.data.inputs
        noise = torch.from_numpy(draw.uniform(-size, size, tuple(images.shape))).to(images)
        return replace(self, data=replace(self.data, inputs=(images + noise).clamp(min=images.min().item())))


@cache
def digit_problem(folder: str, epochs: int, images: int) -> DigitProblem:
    """The LeNet that is trained here, the first test images, and its predictions as targets."""
    digits = digits_of(folder)
    net, data = digit_net(LENET, digits, 0, epochs), digits.data(images)
    given = DigitProblem(net, replace(data, masks=boxes_of(data.inputs)))
    return replace(given, data=replace(given.data, targets=given.predictions()))


def maps_of_six(problem: DigitProblem, seed: int) -> dict[str, Tensor]:
    """Explainer -> maps (N, 1, 28, 28)."""
    return {
        label: explain(options["name"], problem.net, problem.data, seed=seed, **_without_name(options))
        for label, options in EXPLAINERS_OF_METAQUANTUS.items()
    }


def scores_of_maps(
    problem: DigitProblem, maps: Mapping[str, Tensor], neighbours: int, seed: int, more_subsets: bool
) -> dict[str, np.ndarray]:
    """Metric or control -> scores (explainers, images) of given maps, which may be those of other images."""
    found: dict[str, list[np.ndarray]] = {}
    for label, own in maps.items():
        for name, options in options_of_metrics(neighbours).items():
            if name != MORE_SUBSETS or more_subsets:
                found.setdefault(name, []).append(_scores_by_metric(options, problem, label, own, seed))
        found.setdefault(SIGNED_ENTROPY, []).append(signed_entropy(own))
    shape = (len(maps), len(problem.data.inputs))
    controls = {BLIND: np.ones(shape), LUCK: np.random.default_rng((seed, 1)).normal(size=shape)}
    return {name: np.stack(rows) for name, rows in found.items()} | controls


def _scores_by_metric(
    options: Mapping[str, Any], problem: DigitProblem, label: str, maps: Tensor, seed: int
) -> np.ndarray:
    """The scores (N,) of an explainer's maps by one metric, which explains again if it has to."""
    again = {}
    if "explainer" in METRICS.resolve(options["name"]).needs:
        explainer = EXPLAINERS_OF_METAQUANTUS[label]
        again = {"explainer": explainer["name"], "explainer_options": _without_name(explainer)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the maps are not those of these images, which is meant
        values = score(options["name"], problem.net, problem.data, maps, seed=seed, **again, **_without_name(options))
    return values.numpy()


def signed_entropy(maps: Tensor) -> np.ndarray:
    """Entropies (N,) of maps as shares of their sum, without taking magnitudes: -inf for a map of both signs."""
    values = maps.flatten(1).double()
    return torch.special.entr(values / values.sum(1, keepdim=True)).sum(1).numpy()


def _without_name(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if key != "name"}


@cache
def scores_without_noise(folder: str, epochs: int, images: int, neighbours: int) -> dict[str, np.ndarray]:
    """What the scores under noise are compared with; made once for all tests of a run."""
    clean = digit_problem(folder, epochs, images)
    return scores_of_maps(clean, maps_of_six(clean, 0), neighbours, 0, more_subsets=True)


def consistency_under_noise(
    folder: str, epochs: int, images: int, draws: int, neighbours: int, space: str, failing: str
) -> pd.DataFrame:
    """The rows of ``rows_of_consistency`` for each metric or control and each draw of noise, with ``metric``,
    ``draw`` and ``seed``.

    Noise that leaves too few images that count is drawn again: fewer than a third of them. With noise on the weights
    the maps are made anew by the noisy net. With noise on the images they stay those of the
    clean images, as in the authors' code, and metrics that explain again do so at the noisy ones. Every draw has other
    random numbers in metrics and explainers.
    """
    clean, before = digit_problem(folder, epochs, images), scores_without_noise(folder, epochs, images, neighbours)
    more = (space, failing) == ("model", MINOR)
    rows = []
    for draw, seed in enumerate(_seeds_of_noise(clean, space, failing, draws)):
        noisy = clean.under_noise(space, NOISE[space, failing], seed)
        stayed = noisy.stayed()
        maps = maps_of_six(noisy if space == "model" else clean, seed)
        after = scores_of_maps(noisy, maps, neighbours, seed, more)
        chosen = stayed if failing == MINOR else ~stayed
        for name, new in after.items():
            released = name == SIGNED_ENTROPY
            found = rows_of_consistency(before[name], new, chosen, better_of(name), failing, released)
            rows += [{"metric": name, "draw": draw, "seed": seed, **row} for row in found]
    return pd.DataFrame(rows)


def _seeds_of_noise(clean: DigitProblem, space: str, failing: str, draws: int) -> list[int]:
    """The seeds of the first draws of noise under which enough predictions stay (NR) or change (AR).

    RuntimeError if they are not found among fifty times as many.
    """
    found: list[int] = []
    first = FIRST_SEEDS[space, failing]
    for seed in range(first, first + TRIED_DRAWS * draws):
        stayed = clean.under_noise(space, NOISE[space, failing], seed).stayed()
        found += [seed] * bool((stayed if failing == MINOR else ~stayed).mean() >= LEAST_CHOSEN)
        if len(found) == draws:
            return found
    raise RuntimeError(f"noise on the {space} leaves too few images ({failing}) in all but {len(found)} draws")


def facts_of_problem(folder: str, epochs: int, images: int) -> pd.DataFrame:
    """``accuracy`` of the net; ``both signs``, the share of an explainer's maps with both signs; ``on the object``, the
    share of an image that is in its box."""
    problem = digit_problem(folder, epochs, images)
    rows = [
        {"what": "accuracy", "explainer": "", "value": accuracy_on_digits(problem.net, digits_of(folder))},
        {"what": "on the object", "explainer": "", "value": boxes_of(problem.data.inputs).double().mean().item()},
    ]
    for name, own in maps_of_six(problem, 0).items():
        values = own.flatten(1)
        both = ((values.amin(1) < 0) & (values.amax(1) > 0)).double().mean().item()
        rows.append({"what": "both signs", "explainer": name, "value": both})
    return pd.DataFrame(rows)


def flipping_areas(folder: str, epochs: int, images: int) -> pd.DataFrame:
    """The areas of pixel flipping of Integrated Gradients, of noise, and of negative Integrated Gradients, image by
    image: ``image``, ``order``, ``area``."""
    problem = digit_problem(folder, epochs, images)
    right = maps_of_six(problem, 0)["IntegratedGradients"]
    noise = explain("random", problem.net, problem.data)
    options = flipping_options()
    rows = []
    for order, maps in (("right", right), ("noise", noise), ("wrong", -right)):
        areas = score(options["name"], problem.net, problem.data, maps, **_without_name(options))
        rows += [{"image": image, "order": order, "area": area} for image, area in enumerate(areas.tolist())]
    return pd.DataFrame(rows)


def luck_of_subsets(folder: str, epochs: int, repeats: int) -> pd.DataFrame:
    """Faithfulness correlations of noise maps, ``subsets`` 10 and 100, each map with other subsets."""
    problem = digit_problem(folder, epochs, NOISE_IMAGES)
    rows = []
    for name, subsets in (("Faithfulness Correlation", 10), (MORE_SUBSETS, 100)):
        options = options_of_metrics(1)[name]
        for repeat in range(repeats if subsets == 10 else max(1, repeats // 10)):
            noise = explain("random", problem.net, problem.data, seed=repeat)
            values = score(
                options["name"], problem.net, problem.data, noise, seed=5000 + repeat, **_without_name(options)
            )
            rows += [{"subsets": subsets, "value": value} for value in values.tolist()]
    return pd.DataFrame(rows)
