"""Explainers that draw from the global generators, metrics that return odd shapes, baselines in every precision."""

import os
import random

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness import Scores
from harness.api import samples_of
from harness.batch import Batch
from harness.engine.explain import Explaining
from harness.engine.score import join_scores, score_batch
from harness.errors import UserError
from harness.registry import EXPLAINERS, METRICS
from harness.removal.baselines import BASELINES


def net_and_inputs(count, dtype=torch.float32):
    seed = int(os.environ["HARNESS_TEST_SEED"])
    print(f"seed {seed}")
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 3)).eval()
    return net.to(dtype), torch.randn(count, 3, 3, 3).to(dtype), torch.zeros(count, dtype=torch.long)


def by_torch(model, inputs, targets):
    return torch.randn_like(inputs)


def by_numpy(model, inputs, targets):
    return np.random.standard_normal(inputs.shape)


def by_python(model, inputs, targets):
    return torch.tensor([random.random() for _ in range(inputs.numel())]).view(inputs.shape)


drawing = pytest.mark.parametrize("explainer", [by_torch, by_numpy, by_python])


@drawing
def test_two_batches_get_different_draws_and_the_same_batch_the_same(explainer):
    net, inputs, targets = net_and_inputs(4)
    entry = EXPLAINERS.resolve(explainer)
    samples = samples_of(net, inputs, targets)
    maps = Explaining(entry, {}, net, batch_size=2)(samples)
    assert not (maps[:2] == maps[2:]).flatten(1).any()
    assert torch.equal(maps[2:], Explaining(entry, {}, net)(samples.take(torch.tensor([2, 3]))))


@drawing
def test_another_seed_gives_other_draws(explainer):
    net, inputs, targets = net_and_inputs(3)
    first, second = (harness.explain(explainer, net, inputs, targets, seed=seed) for seed in (0, 1))
    assert not torch.equal(first, second)


@drawing
def test_the_callers_generators_go_on_as_if_nothing_had_happened(explainer):
    net, inputs, targets = net_and_inputs(3)
    explaining, samples = Explaining(EXPLAINERS.resolve(explainer), {}, net), samples_of(net, inputs, targets)
    draw = lambda: (torch.rand(1).item(), np.random.rand(), random.random())
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    expected = draw()
    torch.set_rng_state(states[0]), np.random.set_state(states[1]), random.setstate(states[2])
    explaining(samples)
    assert draw() == expected


def test_batches_without_curves_or_ties_are_nan_rows_and_the_others_keep_theirs():
    curves, tied = torch.rand(2, 4, dtype=torch.float64), torch.rand(2, dtype=torch.float64)
    nothing = Scores(torch.full((3,), float("nan"), dtype=torch.float64), reason="no attribution")
    joined = join_scores([nothing, Scores(curves[:, 0], curves, tied)])
    assert torch.equal(joined.curves[3:], curves) and torch.equal(joined.tied[3:], tied)
    assert joined.curves[:3].isnan().all() and joined.tied[:3].isnan().all() and joined.reason == "no attribution"
    assert join_scores([nothing, nothing]).curves is None


def test_curves_of_two_lengths_are_an_error_in_one_line():
    parts = [Scores(torch.rand(2), torch.rand(2, width)) for width in (4, 5)]
    with pytest.raises(UserError, match="curves of 4 and 5 points"):
        join_scores(parts)


@pytest.mark.parametrize(
    "odd",
    [{"curves": torch.rand(3)}, {"curves": torch.rand(2, 4)}, {"tied": torch.rand(3, 1)}, {"tied": torch.rand(2)}],
)
def test_curves_and_ties_of_a_wrong_shape_are_an_error_in_one_line(odd):
    def odd_metric(batch):
        return Scores(torch.zeros(3), **odd)

    net, inputs, targets = net_and_inputs(3)
    batch = Batch(samples_of(net, inputs, targets), inputs.sum(1), inputs)
    with pytest.raises(UserError, match=f"odd_metric returned {next(iter(odd))} of shape") as error:
        score_batch(METRICS.resolve(odd_metric), {}, batch)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(BASELINES.keys() - {"pad", "mask"}))
def test_a_baseline_has_the_dtype_and_shape_of_the_inputs(name, dtype):
    net, inputs, targets = net_and_inputs(3, dtype)
    samples = samples_of(net, inputs, targets, train=torch.randn(7, 3, 3, 3), value_range=(-4.0, 4.0))
    baseline = samples.baseline(name)
    assert baseline.dtype == dtype and baseline.shape == inputs.shape and baseline.isfinite().all()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_gradients_can_be_had_in_any_mode_of_the_caller(mode):
    model = nn.Sequential(nn.Linear(4, 3)).eval()
    with mode():
        inputs = torch.randn(2, 4)
        for name in ("gradient", "integrated_gradients", "lrp", "kernel_shap"):
            maps = harness.explain(name, model, inputs, torch.tensor([0, 1]), train=torch.randn(5, 4))
            assert maps.isfinite().all()
