"""Metrics against the bare forward passes they need, and against Quantus."""

import warnings

import numpy as np
import pytest
import torch

from bounds import BATCHES, Work, ready, small_cnn
from harness.api import make_batch, samples_of
from harness.engine.score import score_batch
from harness.engine.tuning import tune
from harness.predictor import Predictor
from harness.registry import METRICS, MODELS

CURVE = {"steps": 28, "baseline": "zero"}
ROWS = {"small CNN, 28 px": 4096, "ResNet-18, 224 px": 64, "EfficientNet-Lite0, 224 px": 64}


def model_named(name, device):
    """The model, its input shape, and how many samples make a fair measurement."""
    if name.startswith("small"):
        return ready(small_cnn(), device), (1, 28, 28), 64
    if name.startswith("ResNet"):
        return ready(MODELS["torchvision"].function(architecture="resnet18").module, device), (3, 224, 224), 4
    return ready(MODELS["lite0"].function().module, device), (3, 224, 224), 4


def untuned(work, metric, **options):
    """Scoring on the model itself with each of several rows per pass."""
    return [work.scoring(Predictor(work.model, chunk=chunk), metric, **options) for chunk in BATCHES]


@pytest.mark.parametrize(
    ("name", "goal"), [("small CNN, 28 px", "<= 1.4 (GPU 1.15)"), ("ResNet-18, 224 px", "<= 1.15")]
)
@pytest.mark.parametrize("metric", ["deletion", "sensitivity_n"])
def test_a_metric_takes_little_more_than_its_forward_passes(name, goal, metric, measure, figure, device):
    model, shape, count = model_named(name, device)
    work = Work(model, shape, count, device)
    options = CURVE if metric == "deletion" else {"sizes": 4, "draws": 10}
    evaluations = work.evaluations(metric, **options)
    ours = untuned(work, metric, **options)
    times = measure(*ours, *(work.bare(batch, ROWS[name]) for batch in BATCHES), rounds=3)
    bound = evaluations * min(times[len(ours) :]) / ROWS[name]
    figure(f"{metric}, {name}: wall time / bare forward passes", min(times[: len(ours)]) / bound, goal)


@pytest.mark.parametrize(
    ("name", "goal"), [("EfficientNet-Lite0, 224 px", "<= 0.6 (CPU)"), ("ResNet-18, 224 px", "<= 0.85 (CPU)")]
)
def test_on_the_scoring_copy_a_metric_beats_eager_forward_passes(name, goal, measure, figure, device):
    model, shape, count = model_named(name, device)
    work = Work(model, shape, count, device)
    evaluations = work.evaluations("deletion", **CURVE)
    predictor = Predictor(model)
    tune(predictor, work.inputs)
    times = measure(
        work.scoring(predictor, "deletion", **CURVE), *(work.bare(batch, 64) for batch in BATCHES[:4]), rounds=2
    )
    bound = evaluations * min(times[1:]) / 64
    figure(f"deletion, {name}, {predictor.variant['variant']}: wall time / eager passes", times[0] / bound, goal)


@pytest.mark.parametrize("compiled", [False, True], ids=["as it is", "compiled"])
@pytest.mark.parametrize("name", ["EfficientNet-Lite0, 224 px", "ResNet-18, 224 px"])
def test_in_bfloat16_a_metric_beats_eager_forward_passes(name, compiled, measure, figure, device):
    model, shape, count = model_named(name, device)
    work = Work(model, shape, count, device)
    evaluations = work.evaluations("deletion", **CURVE)
    predictor = Predictor(model, autocast=torch.bfloat16)
    tune(predictor, work.inputs, compiled=compiled)
    times = measure(
        work.scoring(predictor, "deletion", **CURVE), *(work.bare(batch, 64) for batch in BATCHES[:4]), rounds=2
    )
    bound = evaluations * min(times[1:]) / 64
    form = predictor.variant["variant"]
    goal = "<= 0.6 (CPU with AMX), 0.4 (GPU)"
    figure(f"deletion, {name}, {form}, bfloat16: wall time / eager passes in float32", times[0] / bound, goal)


def test_random_subsets_cost_twenty_explainers_what_they_cost_one(measure, figure, device):
    model, shape, count = model_named("small CNN, 28 px", device)
    work = Work(model, shape, count, device)
    maps = [torch.randn_like(work.attributions) for _ in range(20)]
    entry = METRICS["sensitivity_n"]
    options = entry.complete({})

    def explainers(number):
        def score():
            samples = samples_of(model, work.inputs, work.targets, predictor=Predictor(model, chunk=64))
            for attributions in maps[:number]:
                score_batch(entry, options, make_batch(samples, attributions, None))

        return score

    twenty, one = measure(explainers(20), explainers(1), rounds=2)
    figure("sensitivity_n at its defaults, 20 explainers / 1 (without explaining)", twenty / one, "<= 1.2")


@pytest.mark.parametrize(
    ("ours", "theirs"), [("deletion", "PixelFlipping"), ("faithfulness_correlation", "FaithfulnessCorrelation")]
)
def test_the_same_score_takes_less_time_than_in_quantus(ours, theirs, measure, figure, device):
    quantus = pytest.importorskip("quantus")
    model, shape, count = model_named("small CNN, 28 px", device)
    work = Work(model, shape, count, device)
    predictor = Predictor(model)
    tune(predictor, work.inputs)
    options = {"deletion": CURVE, "faithfulness_correlation": {"draws": 100, "baseline": "zero"}}[ours]
    arguments = {
        "deletion": {"features_in_step": 28},
        "faithfulness_correlation": {"nr_runs": 100, "subset_size": 157},
    }[ours]
    inputs, maps = work.inputs.cpu().numpy(), work.attributions[:, None].cpu().numpy()
    targets = work.targets.cpu().numpy()

    def quantus_score():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric = getattr(quantus, theirs)(
                **arguments,
                normalise=False,
                abs=False,
                perturb_baseline=0.0,
                disable_warnings=True,
                return_aggregate=False,
            )
            metric(
                model=model,
                x_batch=inputs.copy(),
                y_batch=targets,
                a_batch=maps.copy(),
                device=str(device),
                softmax=True,
                batch_size=64,
            )

    np.random.seed(0)
    mine, quantus_time = measure(work.scoring(predictor, ours, **options), quantus_score, rounds=2)
    figure(
        f"{ours}, small CNN, 28 px, on the tuned copy: Quantus's time / ours", quantus_time / mine, ">= 1.5 (GPU 20)"
    )
