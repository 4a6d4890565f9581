"""On linear models every explainer's answer is known in closed form."""

import math

import pytest
import torch

import harness
from explainer_worlds import explain, linear_net, model, near
from harness.explainers.rise import bilinear_strips

CONTRIBUTIONS = [
    *[
        ("integrated_gradients", {"steps": steps, "method": method})
        for steps, method in (
            (1, "gausslegendre"),
            (7, "gausslegendre"),
            (2, "riemann_left"),
            (9, "riemann_right"),
            (4, "riemann_middle"),
        )
    ],
    ("occlusion", {"window": 1}),
    ("feature_ablation", {"segments": "unit"}),
    ("exact_shapley", {"segments": "unit"}),
    ("shapley_sampling", {"segments": "unit", "permutations": 2}),
    ("kernel_shap", {"segments": "unit", "samples": 40}),
    ("kernel_shap", {"segments": "unit", "samples": 5000}),
    ("lime", {"segments": "unit", "penalty": 0.0, "samples": 60}),
    ("lime", {"segments": "unit", "penalty": 0.0, "samples": 60, "kernel_width": 1.5}),
]


@pytest.fixture
def linear(seed):
    net, weights = linear_net((7,))
    targets = torch.tensor([0, 2, 1, 1])
    return net, torch.randn(4, 7), targets, weights[targets], torch.randn(7)


@pytest.mark.parametrize(("name", "options"), CONTRIBUTIONS)
def test_contributions_are_weights_times_the_distance_from_the_baseline(name, options, linear):
    net, x, targets, w, r = linear
    assert near(explain(name, net, x, targets, baseline=r, **options), (x - r) * w)


def test_the_gradient_is_the_weights_and_its_variants_follow(linear):
    net, x, targets, w, _ = linear
    assert near(explain("gradient", net, x, targets), w)
    assert near(explain("saliency", net, x, targets), w.abs())
    assert near(explain("input_x_gradient", net, x, targets), x * w)
    for samples, noise in ((1, 0.0), (3, 5.0), (20, 0.15)):
        assert near(explain("smoothgrad", net, x, targets, samples=samples, noise=noise), w)


@pytest.mark.parametrize("outputs", [(-1,), (-1, 1)])
@pytest.mark.parametrize(
    ("name", "options"), [*CONTRIBUTIONS, ("gradient", {}), ("smoothgrad", {}), ("input_x_gradient", {})]
)
def test_a_single_output_is_explained_like_a_class(name, options, outputs, seed):
    w, x = torch.randn(6), torch.randn(3, 6)
    expected = w.expand(3, 6) if name in ("gradient", "smoothgrad") else x * w
    net = model(lambda inputs: (inputs @ w).view(outputs))
    assert near(explain(name, net, x, torch.zeros(3, dtype=torch.long), **options), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [("feature_ablation", {}), ("exact_shapley", {}), ("shapley_sampling", {"permutations": 2}), ("kernel_shap", {})],
)
def test_a_segments_pixels_sum_to_its_contribution(name, options, seed):
    net, weights = linear_net((2, 5, 7))
    x, targets = torch.randn(3, 2, 5, 7), torch.tensor([0, 1, 2])
    segments = torch.randint(6, (5, 7))
    segments.view(-1)[:6] = torch.arange(6)
    found = explain(name, net, x, targets, segments=segments, baseline="zero", **options)
    assert found.shape == (3, 1, 5, 7)
    contributions = (x * weights[targets]).sum(1)
    for segment in range(6):
        own = segments == segment
        assert near(found[:, 0, own].sum(1), contributions[:, own].sum(1), 1e-4)
        assert torch.equal(found[:, 0, own].amin(1), found[:, 0, own].amax(1))


def test_lime_recovers_coefficients_from_as_many_points_as_unknowns_whatever_its_width(seed):
    net, weights = linear_net((5,))
    x, targets = torch.randn(1, 5), torch.tensor([1])
    for width in (0.2, 0.7, 100.0):
        assert near(explain("lime", net, x, targets, penalty=0.0, samples=24, kernel_width=width), x * weights[1], 1e-4)


def test_limes_ridge_shrinks_what_least_squares_finds(linear):
    net, x, targets, w, _ = linear
    sizes = [explain("lime", net, x, targets, penalty=alpha).norm() for alpha in (0.0, 1.0, 100.0)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_lime_refuses_fewer_points_than_unknowns(linear):
    net, x, targets, *_ = linear
    with pytest.raises(ValueError, match="samples (of .* )?is 7, expected more than the 7 segments"):
        explain("lime", net, x, targets, penalty=0.0, samples=7)


@pytest.mark.parametrize(("cells", "probability"), [(3, 0.5), (4, 0.3)])
def test_rise_converges_to_the_contributions_seen_through_the_masks_covariance(cells, probability, seed):
    """E sum (v - mean v) Z / (n p (1 - p)) = (n - 1) / n Cov(v, Z) / (p (1 - p)) with v = b + sum_j w_j x_j Z_j.

    Coins of variance p (1 - p) are independent, so Cov(Z_i, Z_j) / (p (1 - p)) is the mean over shifts of the overlap
    of the bilinear weights of i and j, a product of one factor per axis.
    """
    (net, weights), runs, samples = linear_net((2, 9, 10)), 64, 150
    x = torch.randn(1, 2, 9, 10)
    options = {"samples": samples, "cells": cells, "keep_probability": probability, "score": "logit"}
    maps = [explain("rise", net, x, torch.tensor([1]), seed=run, adjusted=False, **options) for run in range(runs)]
    found = torch.cat(maps)[:, 0].double()
    rows, columns = (
        (s.double().mT @ s.double()).mean(0) for s in (bilinear_strips(9, cells), bilinear_strips(10, cells))
    )
    expected = rows @ (x[0] * weights[1]).sum(0).double() @ columns * (samples - 1) / samples
    error = found.std(0) / math.sqrt(runs)
    assert error.max() < expected.abs().max() / 10, "too few draws to tell"
    assert ((found.mean(0) - expected).abs() < 5.5 * error).all()


@pytest.mark.parametrize(("modality", "shape"), [("image", (1, 12, 12)), ("series", (2, 40)), ("volume", (1, 6, 6, 6))])
@pytest.mark.parametrize("probability", [0.5, 0.3])
def test_rise_adjusted_by_a_surrogate_is_the_same_in_expectation_with_less_than_half_the_variance(
    modality, shape, probability, seed
):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(shape), 30), torch.nn.Tanh())
    net = net.append(torch.nn.Linear(30, 2)).eval()
    x, runs = harness.Data(3 * torch.randn(1, *shape), torch.tensor([1]), modality=modality), 60
    options = {"samples": 200, "cells": 3, "keep_probability": probability, "score": "logit"}
    explained = lambda **more: torch.cat(
        [harness.explain("rise", net, x, seed=run, **options, **more) for run in range(runs)]
    ).double()
    adjusted, centred = explained(), explained(adjusted=False) * 200 / 199
    assert adjusted.var(0).mean() < centred.var(0).mean() / 2
    error = ((adjusted.var(0) + centred.var(0)) / runs).sqrt()
    assert ((adjusted.mean(0) - centred.mean(0)).abs() < 5 * error).all()


def test_rise_of_a_sum_of_regions_is_its_closed_form_whatever_is_drawn(seed):
    net, _ = linear_net((1, 12, 12))
    net[1].weight.data.fill_(0.3)  # the score is 0.3 for each pixel that is seen, a sum of shares of regions
    strips = bilinear_strips(12, 4).double()
    overlap = (strips.mT @ strips).mean(0)
    expected = overlap @ torch.full((12, 12), 0.3).double() @ overlap
    found = explain("rise", net, torch.ones(1, 1, 12, 12), torch.tensor([1]), samples=400, cells=4, score="logit")
    assert (found[0, 0] - expected).abs().max() < 0.01 * expected.abs().max()


def test_rise_as_published_is_the_centred_map_and_a_nearly_constant_one(seed):
    net, _ = linear_net((1, 8, 8))
    x, targets = torch.randn(2, 1, 8, 8) + 1, torch.tensor([0, 1])
    options = {"samples": 3000, "cells": 3, "score": "logit"}
    plain = explain("rise", net, x, targets, centred=False, **options)
    centred = explain("rise", net, x, targets, adjusted=False, **options)
    # sum v Z / (n p) = (1 - p) * centred + mean v * mean Z / p, and mean Z is p up to 1 / sqrt(n)
    rest = plain - 0.5 * centred
    assert rest.std((1, 2, 3)).max() < 0.1 * rest.abs().mean()
