"""A sample's explanation is its own: no batch, company, order, chunk or earlier call changes it."""

import warnings

import pytest
import torch
from torch import nn

from explainer_worlds import explain_in, near, small_cnn, smooth_net
from harness.guards import ModelGuard
from harness.registry import EXPLAINERS

FEW = {
    "blurred_random": {},
    "center": {},
    "edge": {},
    "input_magnitude": {},
    "random": {},
    "gradient": {},
    "saliency": {},
    "input_x_gradient": {},
    "smoothgrad": {"samples": 5},
    "grad_cam": {},
    "integrated_gradients": {"steps": 7, "baseline": "uniform_noise"},
    "occlusion": {"baseline": "mean"},
    "feature_ablation": {"segments": "given"},
    "rise": {"samples": 20, "cells": 3},
    "lime": {"samples": 30, "segments": "given"},
    "exact_shapley": {"segments": "grid:2"},
    "kernel_shap": {"samples": 30, "segments": "given"},
    "shapley_sampling": {"permutations": 2, "segments": "given"},
    "sobol_attribution": {"samples": 8, "segments": "given"},
    "hsic_attribution": {"samples": 30, "segments": "given"},
    "shapley_interactions": {"samples": 30, "segments": "given"},
    "integrated_hessians": {"steps": 3, "segments": "given", "beta": 10.0},
}
ROUNDING = 1e-6  # of logits of size 1 in float32: perturbation explainers take their differences
COUNTS = (3, 9, 8, 9, 6)  # of the segments of each sample
ON_TABLES = [name for name in FEW if "table" in EXPLAINERS[name].modalities]
STOCHASTIC = [name for name in FEW if EXPLAINERS[name].stochastic]


@pytest.fixture
def images(seed):
    segments = torch.stack([torch.arange(144).view(12, 12) % count for count in COUNTS])
    return small_cnn(), torch.randn(5, 3, 12, 12), torch.tensor([0, 3, 1, 1, 2]), segments


@pytest.mark.parametrize("name", FEW)
def test_batch_size_company_and_chunk_do_not_matter(name, images):
    together = explain_in(5, 32, name, *images[:3], given=images[3], **FEW[name])
    for batch_size, chunk in ((1, 32), (2, 3), (5, 1), (3, 1000)):
        found = explain_in(batch_size, chunk, name, *images[:3], given=images[3], **FEW[name])
        assert near(found, together, rounding=ROUNDING), (batch_size, chunk)


@pytest.mark.parametrize("name", FEW)
def test_order_does_not_matter(name, images):
    net, x, targets, given = images
    order = torch.randperm(5)
    forwards = explain_in(5, 32, name, net, x, targets, given=given, **FEW[name])
    shuffled = explain_in(5, 32, name, net, x[order], targets[order], given=given[order], **FEW[name])
    assert near(shuffled, forwards[order], rounding=ROUNDING)


@pytest.mark.parametrize("name", ON_TABLES)
def test_rows_of_a_table_are_explained_by_themselves(name, seed):
    net, x, targets = smooth_net(6), torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    options = {key: value for key, value in FEW[name].items() if key not in ("segments", "baseline")}
    together = explain_in(5, 32, name, net, x, targets, **options)
    assert together.shape == (5, 6)
    assert near(explain_in(2, 3, name, net, x, targets, **options), together, rounding=ROUNDING)


@pytest.mark.parametrize("name", FEW)
def test_the_same_seed_gives_the_same_bits_and_another_seed_other_draws(name, images):
    options = {key: value for key, value in FEW[name].items() if key != "baseline"}
    first, again, other = (explain_in(5, 32, name, *images[:3], given=images[3], seed=s, **options) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name not in STOCHASTIC)


@pytest.mark.parametrize("name", [name for name in FEW if EXPLAINERS[name].access != "none"])
def test_another_class_has_another_explanation(name, images):
    net, x, targets, given = images
    own = explain_in(5, 32, name, net, x, targets, given=given, **FEW[name])
    assert not near(explain_in(5, 32, name, net, x, (targets + 1) % 4, given=given, **FEW[name]), own, 1e-2)


@pytest.mark.parametrize("name", FEW)
def test_the_model_and_the_inputs_stay_as_they_were_and_nothing_warns(name, images):
    net, x, targets, given = images
    guard, before = ModelGuard(net), x.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = explain_in(2, 4, name, net, x, targets, given=given, **FEW[name])
    assert guard.changes() == [] and torch.equal(x, before) and not x.requires_grad
    assert found.isfinite().all() and not found.requires_grad and found.dtype == torch.float32
    assert found.shape in ((5, 3, 12, 12), (5, 1, 12, 12))


@pytest.mark.parametrize("name", STOCHASTIC)
def test_samples_draw_for_themselves_but_equal_samples_equally(name, images):
    net, x, _, given = images
    pair = torch.stack([x[0], x[0], x[1]])
    found = explain_in(3, 32, name, net, pair, torch.zeros(3, dtype=torch.long), given=given[[1, 1, 1]], **FEW[name])
    assert near(found[1], found[0], rounding=ROUNDING)
    assert not near(found[2], found[0], 1e-2)


class Constant(nn.Module):
    def forward(self, inputs):
        return inputs.flatten(1)[:, :3] * 0 + torch.tensor([1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", [name for name in FEW if EXPLAINERS[name].access in ("forward", "gradient")])
def test_a_model_that_says_the_same_of_everything_is_explained_by_nothing(name, seed):
    x, targets = torch.randn(2, 3, 12, 12), torch.tensor([0, 2])
    given = torch.arange(144).view(12, 12).expand(2, -1, -1) % 9
    found = explain_in(2, 32, name, Constant().eval(), x, targets, given=given, **FEW[name])
    assert found.abs().max() < 1e-6
