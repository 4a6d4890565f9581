"""Equal to captum's infidelity and max-sensitivity, given the same perturbations."""

import os

import pytest
import torch
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.metrics._neighbours import Noise, neighbours
from harness.metrics.infidelity import noise_draws
from harness.registry import EXPLAINERS, METRICS

SEED = int(os.environ["HARNESS_TEST_SEED"])
TARGETS = torch.tensor([0, 2, 1])


def gradient(model, inputs, targets):
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad():  # captum asks for explanations without it
        return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


@pytest.fixture(params=[(3, 6, 6), (7,)], ids=["image", "table"])
def world(request):
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        size = torch.Size(request.param).numel()
        model = nn.Sequential(nn.Flatten(), nn.Linear(size, 12), nn.Tanh(), nn.Linear(12, 3)).eval()
        inputs, train = torch.randn(3, *request.param), torch.randn(20, *request.param)
    samples = samples_of(model, inputs, TARGETS, train=train, value_range=(-3.0, 3.0))
    by = Explaining(EXPLAINERS.entry("gradient", gradient, {}, convention="local"), {}, model)
    return model, samples, make_batch(samples, gradient(model, inputs, TARGETS), by)


def ours(metric, batch, **options):
    entry = METRICS[metric]
    return score_batch(entry, entry.complete(options), batch).values


@pytest.mark.parametrize("scaling", ["none", "optimal"])
def test_infidelity_under_the_same_noise_plain_and_rescaled(world, scaling):
    model, samples, batch = world
    pairs = torch.arange(3 * 40)
    noise = noise_draws(samples, 0.2)(pairs // 40, pairs % 40)
    expected = infidelity(
        model,
        lambda inputs: (noise, inputs - noise),
        samples.inputs,
        batch.raw,
        target=TARGETS,
        n_perturb_samples=40,
        normalize=scaling == "optimal",
    )
    found = ours("infidelity", batch, perturbation="gaussian", draws=40, scaling=scaling)
    torch.testing.assert_close(found.float(), expected.detach(), rtol=1e-4, atol=1e-6, msg=f"seed={SEED}")


def test_max_sensitivity_under_the_same_noise(world):
    model, samples, batch = world
    pairs = torch.arange(3 * 8)
    perturbed = neighbours(samples, Noise(0.05, 8, "uniform"), pairs // 8, pairs % 8)
    expected = sensitivity_max(
        lambda inputs, target: (gradient(model, inputs[0], target),),
        samples.inputs,
        lambda *_: (perturbed,),
        n_perturb_samples=8,
        target=TARGETS,
    )
    found = ours("max_sensitivity", batch, radius=0.05, draws=8)
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6, msg=f"seed={SEED}")


def test_a_zero_explanation_is_not_called_insensitive_as_captum_does(world):
    model, samples, batch = world
    silent = lambda inputs, target: tuple(torch.zeros_like(each) for each in inputs)
    assert sensitivity_max(silent, samples.inputs, target=TARGETS).tolist() == [0, 0, 0]
    by = Explaining(EXPLAINERS.entry("silent", lambda model, inputs, targets: torch.zeros_like(inputs), {}), {}, model)
    assert ours("max_sensitivity", make_batch(samples, torch.zeros_like(samples.inputs), by)).isnan().all()
