"""What only a GPU shows: the same numbers as on the CPU, halving when memory runs out, timings that wait."""

import pytest
import torch
from torch import nn

import harness
from harness.predictor import Predictor
from harness.randomness import bits, sample_keys
from harness.registry import EXPLAINERS, METRICS

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]

SMALL = {"samples": 24, "permutations": 6, "subsets": 12, "sizes": 3, "stages": 3}


def small(entry):
    options = {name: value for name, value in SMALL.items() if isinstance(entry.options.get(name), int)}
    return options | ({"segments": "grid:3"} if entry.options.get("segments") == "auto" else {})


@pytest.fixture
def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)
    return nn.Sequential(*layers).eval().requires_grad_(False)


INPUTS, TARGETS = torch.randn(4, 3, 12, 12), torch.tensor([0, 1, 2, 0])


def test_random_bits_are_the_same_on_both_devices():
    keys = sample_keys(INPUTS)
    assert torch.equal(bits(keys, 1000), bits(keys.cuda(), 1000).cpu())


@pytest.mark.parametrize("name", [name for name, entry in EXPLAINERS.items() if "image" in entry.modalities])
def test_an_explainer_gives_the_same_map_on_both_devices(name, net):
    options = small(EXPLAINERS[name])
    here = harness.explain(name, net, INPUTS, TARGETS, **options)
    there = harness.explain(name, net.cuda(), INPUTS.cuda(), TARGETS.cuda(), **options)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-4 * float(here.abs().max()))


@pytest.mark.parametrize("name", [name for name, entry in METRICS.items() if entry.kind not in ("cost", "sanity")])
def test_a_metric_gives_the_same_score_on_both_devices(name, net):
    entry, settings = METRICS[name], {"explainer": "input_x_gradient", "value_range": (-4.0, 4.0)}
    options = small(entry) | ({"baseline": "zero"} if name == "completeness" else {})
    maps = harness.explain("input_x_gradient", net, INPUTS, TARGETS)
    here = harness.score(name, net, INPUTS, TARGETS, maps, **settings, **options)
    there = harness.score(name, net.cuda(), INPUTS.cuda(), TARGETS.cuda(), maps.cuda(), **settings, **options)
    torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4, equal_nan=True)


def test_a_whole_evaluation_runs_on_the_gpu_and_counts_its_memory(net):
    frame = harness.evaluate(
        net.cuda(),
        INPUTS.cuda(),
        TARGETS,
        explainers=["saliency", "occlusion"],
        metrics=["srg", "peak_memory_mb"],
        tuned=True,
    )
    assert set(frame["status"]) == {"ok"} and frame["valid"].all()


def test_a_batch_that_does_not_fit_is_halved_until_it_does():
    free, _ = torch.cuda.mem_get_info()

    class Hungry(nn.Module):
        def forward(self, inputs):
            torch.empty(int(free * 0.3), dtype=torch.uint8, device=inputs.device).expand(1, -1)
            torch.empty(len(inputs) * int(free * 0.2), dtype=torch.uint8, device=inputs.device)
            return inputs.flatten(1)[:, :2]

    predictor = Predictor(Hungry(), chunk=8)
    assert predictor.logits(INPUTS.cuda().repeat(4, 1, 1, 1)).shape == (16, 2)
    assert predictor.halvings >= 1
