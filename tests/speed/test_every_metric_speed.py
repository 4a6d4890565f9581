"""Every metric against the bare passes that it makes itself, and against Quantus's metric of the same kind."""

import math
import warnings

import pytest
import torch

from bounds import ready, small_cnn
from harness.api import make_batch, samples_of
from harness.engine.cost import PassCounter
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.predictor import Predictor
from harness.registry import EXPLAINERS, METRICS, MODELS

COUNT, SIDE, CHUNK, CLASSES = 8, 64, 32, 1000
TRAINING = ("roar", "idsds", "f_fidelity", "label_randomization")  # their passes are those of training
BUDGETS = {
    "draws": 16,
    "sizes": 3,
    "steps": 16,
    "stages": 3,
    "weight_seeds": 1,
    "displacements": 4,
    "most_groups": 32,
}
PATCHES = {"granularity": "patch", "patch": 8}
OWN = {
    "completeness": {"baseline": "zero"},
    "seg_sensitivity_n": {"segments": "grid:8"},
    "irof": {"segments": "grid:8"},
    "naopc": {"granularity": "segment"},
    "monotonicity_correlation": {"draws": 2},
    "random_order": {"draws": 1},
    "random_logit": {"draws": 2},
    "sanity": {"draws": 2},
}
NEEDS_CLASSES = ("grid_pointing", "focus", "difull", "dipart")  # a net with random weights sees one class everywhere
NEEDS_A_SEQUENCE = ("plausibility_iou_f1",)  # of which spans are parts
# Metrics of the truth ask the model nothing.
MEASURED = [
    name
    for name, entry in METRICS.items()
    if entry.kind not in ("cost", "truth") and name not in TRAINING + NEEDS_CLASSES + NEEDS_A_SEQUENCE
]

# Ours and theirs at equal work: as many inputs with something removed, or as many explanations; 28 x 28 pixels, one
# channel. Where ours does more, like passes for the output beside each explanation, that counts against ours. SLIC does
# not make as many segments as it is asked for: these are 102 of ours and 82 of Quantus's.
AGAINST = {
    "deletion": ({"steps": 28, "baseline": "zero"}, "PixelFlipping", {"features_in_step": 28}),
    "aopc": (
        {"steps": 49, "granularity": "patch", "patch": 4, "baseline": "zero"},
        "RegionPerturbation",
        {"patch_size": 4, "regions_evaluation": 49},
    ),
    "selectivity": ({"steps": 49, "patch": 4, "baseline": "zero"}, "Selectivity", {"patch_size": 4}),
    "irof": ({"segments": "slic:130"}, "IROF", {"segmentation_method": "slic"}),
    "road": ({}, "ROAD", {"percentages": [10, 20, 30, 40, 50, 70, 90]}),
    "faithfulness_correlation": ({"baseline": "zero"}, "FaithfulnessCorrelation", {"nr_runs": 100, "subset_size": 157}),
    "faithfulness_estimate": ({"granularity": "patch", "patch": 4}, "FaithfulnessEstimate", {"features_in_step": 16}),
    "max_sensitivity": ({"draws": 20}, "MaxSensitivity", {"nr_samples": 20}),
    "avg_sensitivity": ({"draws": 20}, "AvgSensitivity", {"nr_samples": 20}),
    "local_lipschitz": ({"draws": 20}, "LocalLipschitzEstimate", {"nr_samples": 20}),
    "relative_input_stability": ({"draws": 20}, "RelativeInputStability", {"nr_samples": 20}),
    "relative_output_stability": ({"draws": 20}, "RelativeOutputStability", {"nr_samples": 20}),
    "parameter_randomization": ({"stages": 0}, "MPRT", {}),
    "efficient_parameter_randomization": ({"weight_seeds": 1}, "EfficientMPRT", {}),
    "random_logit": ({"draws": 1}, "RandomLogit", {"num_classes": 10}),
    "complexity": ({}, "Complexity", {}),
    "sparseness": ({}, "Sparseness", {}),
    "relevance_mass": ({}, "RelevanceMassAccuracy", {}),
    "relevance_rank": ({}, "RelevanceRankAccuracy", {}),
    "top_k_intersection": ({}, "TopKIntersection", {"k": 16}),
    "localization_auc": ({}, "AUC", {}),
    "pointing_game": ({"margin": 0.0}, "PointingGame", {}),
}


class World:
    """A model with inputs, the gradient's maps of them, masks and training inputs, scored afresh each time."""

    def __init__(self, model, shape, classes, count):
        torch.manual_seed(0)
        device = next(model.parameters()).device
        self.model, self.inputs = model, torch.randn(count, *shape, device=device)
        self.train, self.targets = torch.randn(64, *shape, device=device), torch.arange(count, device=device) % classes
        self.masks = torch.zeros(count, *shape[1:], dtype=torch.bool, device=device)
        self.masks[:, shape[1] // 4 : shape[1] // 2, shape[2] // 4 : shape[2] // 2] = True
        entry = EXPLAINERS["gradient"]
        self.explaining = Explaining(entry, entry.complete({}), model, count)
        self.maps = self.explaining.explain(self._samples(Predictor(model, chunk=CHUNK)))

    def _samples(self, predictor):
        return samples_of(
            self.model,
            self.inputs,
            self.targets,
            predictor=predictor,
            masks=self.masks,
            train=self.train,
            value_range=(-4.0, 4.0),
        )

    def scoring(self, name, options, predictor=None):
        """A function that scores once, from nothing."""
        entry, predictor = METRICS.resolve(name), predictor or Predictor(self.model, chunk=CHUNK)
        options = entry.complete(options)
        return lambda: score_batch(entry, options, make_batch(self._samples(predictor), self.maps, self.explaining))

    def passes(self, name, options):
        """Rows forward and backward in one scoring."""
        predictor = Predictor(self.model, chunk=CHUNK)
        counter = PassCounter(self.model, predictor)
        with counter.counting():
            self.scoring(name, options, predictor)()
        return counter.forwards, counter.backwards

    def forward(self, rows):
        """A function that passes a batch forward and does nothing else."""
        inputs = self.inputs.repeat(-(-rows // len(self.inputs)), 1, 1, 1)[:rows]

        def run():
            with torch.inference_mode():
                self.model(inputs)

        return run

    def gradient(self):
        """A function that passes the inputs forward and backward and does nothing else."""

        def run():
            leaf = self.inputs.clone().requires_grad_()
            torch.autograd.grad(self.model(leaf).gather(1, self.targets[:, None]).sum(), leaf)

        return run


@pytest.fixture(scope="module")
def resnet(device):
    """ResNet-18 with random weights on 64 px."""
    model = ready(MODELS["torchvision"].function(architecture="resnet18").module, device)
    return World(model, (3, SIDE, SIDE), CLASSES, COUNT)


@pytest.fixture(scope="module")
def digits(device):
    """A small CNN on 28 px."""
    return World(ready(small_cnn(), device), (1, 28, 28), 10, 64)


def budget(name):
    """Options that make a metric's work a matter of a second or two."""
    entry = METRICS[name]
    options = {option: value for option, value in BUDGETS.items() if isinstance(entry.options.get(option), int)}
    options |= {option: value for option, value in PATCHES.items() if option in entry.options}
    return {option: value for option, value in {**options, **OWN.get(name, {})}.items() if option in entry.options}


@pytest.mark.parametrize("name", MEASURED)
def test_a_metric_takes_little_more_than_its_passes(name, resnet, measure, metric_figure):
    options = budget(name)
    forwards, backwards = resnet.passes(name, options)
    mine, one_way, both_ways = measure(
        resnet.scoring(name, options), resnet.forward(CHUNK), resnet.gradient(), rounds=2
    )
    bound = backwards * both_ways / COUNT + max(0, forwards - backwards) * one_way / CHUNK
    metric_figure(name, forwards / COUNT, backwards / COUNT, mine / COUNT, mine / bound if bound else math.nan)


@pytest.mark.parametrize("name", AGAINST)
def test_a_metric_takes_less_time_than_in_quantus(name, digits, measure, figure):
    pytest.importorskip("quantus")
    own, theirs, arguments = AGAINST[name]
    mine = digits.scoring(name, own, Predictor(digits.model, chunk=64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, quantus = measure(mine, digits.scoring(f"quantus.{theirs}", arguments), rounds=2)
    figure(f"{name}, small CNN, 28 px, untuned: time of Quantus's {theirs} / ours", quantus / ours, ">= 1.5 (GPU 20)")
