"""Every explainer against the bare passes that it makes itself, on ResNet-18 at 64 px."""

import pytest
import torch

from bounds import ready
from harness.api import samples_of
from harness.engine.cost import PassCounter
from harness.engine.explain import Explaining
from harness.errors import NotApplicable
from harness.predictor import Predictor
from harness.registry import EXPLAINERS, MODELS

COUNT, CHUNK = 16, 32
BUDGETS = {"samples": 48, "permutations": 2, "steps": 16, "repeats": 2}
SPECIAL_GOALS = {"lrp": ("a plain gradient", 6), "deep_lift": ("a plain gradient", 2.5)}
MEASURED = [
    name
    for name, entry in EXPLAINERS.items()
    if entry.scope == "local" and entry.source == "harness" and not entry.control and "image" in entry.modalities
]


@pytest.fixture(scope="module")
def work(device):
    """ResNet-18 with random weights, inputs and targets."""
    model = ready(MODELS["torchvision"].function(architecture="resnet18").module, device)
    torch.manual_seed(0)
    return model, torch.randn(COUNT, 3, 64, 64, device=device), torch.zeros(COUNT, dtype=torch.long, device=device)


def explaining_of(name, model, inputs, targets, chunk=CHUNK, budgets=BUDGETS):
    """The explainer ready to be called, and the samples it is called with."""
    entry = EXPLAINERS[name]
    options = {option: value for option, value in budgets.items() if isinstance(entry.options.get(option), int)}
    options |= {"segments": "grid:4"} if "segments" in entry.options else {}
    options["segments"] = "grid:3" if name == "exact_shapley" else options.get("segments")
    samples = samples_of(model, inputs, targets, predictor=Predictor(model, chunk=chunk), train=inputs)
    given = {option: value for option, value in options.items() if value is not None}
    explaining = Explaining(entry, entry.complete(given), model, len(inputs))
    explaining.prepare(samples)
    return explaining, samples


def passes(explaining, samples):
    """Rows forward and backward in one call."""
    counter = PassCounter(explaining.model, samples.predictor)
    with counter.counting():
        explaining.explain(samples.take(torch.arange(COUNT)))
    return counter.forwards, counter.backwards


def forward(model, inputs):
    """A function that passes two batches forward and does nothing else."""
    rows = inputs.repeat(2, 1, 1, 1)

    def run():
        with torch.inference_mode():
            model(rows)

    return run


def gradient(model, inputs, targets):
    """A function that passes a batch forward and backward and does nothing else."""

    def run():
        leaf = inputs.clone().requires_grad_()
        torch.autograd.grad(model(leaf).gather(1, targets[:, None]).sum(), leaf)

    return run


@pytest.mark.parametrize("name", MEASURED)
def test_an_explainer_takes_little_more_than_its_passes(name, work, measure, explainer_figure):
    model, inputs, targets = work
    try:
        explaining, samples = explaining_of(name, model, inputs, targets)
        forwards, backwards = passes(explaining, samples)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    everyone = torch.arange(COUNT, device=inputs.device)
    mine, one_way, both_ways = measure(
        lambda: explaining.explain(samples.take(everyone)), forward(model, inputs), gradient(model, inputs, targets)
    )
    bound = backwards * both_ways / COUNT + max(0, forwards - backwards) * one_way / (2 * COUNT)
    explainer_figure(name, forwards / COUNT, backwards / COUNT, mine / COUNT, mine / bound, mine / both_ways)
