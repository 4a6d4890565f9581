"""Sensitivity-n on zeros and ones: the nets, the rule of convolutions, and claims about nets of several kinds."""

from itertools import combinations

import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.models.mnist_cnn import mnist_cnn
from harness.reproducing.findings import IDENTITY, PATTERN
from harness.reproducing.studies.sensitivity_n import claims
from harness.reproducing.studies.sensitivity_n.comparisons import ALL_TOGETHER, LEVEL, PATTERNS
from harness.reproducing.studies.sensitivity_n.curves import (
    CONTROLS_OF_CURVES,
    DEEP_LIFT,
    INTEGRATED,
    LIMIT,
    LRP,
    OCCLUSION,
    OPTIONS,
    OVER_ALL,
    PAPERS_EXPLAINERS,
    TIMES,
)
from harness.reproducing.studies.sensitivity_n.exact import COMPLETE, EPSILONS, OF_BOUND, lrp_at, map_distance
from harness.reproducing.studies.sensitivity_n.nets import (
    CNN,
    FOUR_NETS,
    KIND_OF_NET,
    RELU,
    SENSITIVITY_BENCHES,
    recipe_of_small_net,
)

BENCH = SENSITIVITY_BENCHES["mnist"]


def test_the_images_are_the_first_of_the_test_part_and_fit_the_published_net():
    images, labels = BENCH.images(8)
    data = harness.datasets.mnist_zeros_ones.mnist_zeros_ones()
    assert images.shape == (8, 1, 28, 28) and images.dtype == torch.float64 and images[0].numel() == BENCH.pixels
    assert torch.equal(images.float(), data.inputs[:8]) and torch.equal(labels, data.labels[:8])
    module = BENCH.net(CNN, 0, 1)
    torch.testing.assert_close(module(images).float(), mnist_cnn().module(images.float()), rtol=0, atol=1e-5)
    assert (module(images).argmax(1) == labels).all() and CNN in BENCH.given and KIND_OF_NET[CNN] == RELU


def test_a_small_net_is_built_for_the_size_of_its_images():
    built = recipe_of_small_net(RELU, "x", 784, 2).build()
    assert built(torch.zeros(1, 1, 28, 28)).shape == (1, 2)
    assert recipe_of_small_net(RELU).build()(torch.zeros(1, 1, 8, 8)).shape[0] == 1


def test_epsilon_lrp_is_gradient_times_input_also_where_a_convolution_sees_the_input():
    torch.manual_seed(0)
    parts = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2)]
    net, shown = nn.Sequential(*parts).double().eval(), torch.rand(4, 1, 8, 8, dtype=torch.float64)
    maps = {
        name: harness.explain(name, net, shown, torch.zeros(4, dtype=torch.long), **options).double().flatten(1)
        for name, options in {TIMES: {}, LRP: {**OPTIONS[LRP], "epsilon": LIMIT}}.items()
    }
    assert map_distance(maps[TIMES], maps[LRP]).max() < claims.SAME_MAPS
    flat = harness.explain(LRP, net, shown, torch.zeros(4, dtype=torch.long), rule="epsilon", epsilon=LIMIT)
    assert map_distance(maps[TIMES], flat.double().flatten(1)).min() > 0.1  # the default rule of first convolutions


def gaps_between(distance):
    """Tables like those of ``gaps_of_net`` with one distance for all pairs of a net, ``distance(net)``."""
    pairs = [*combinations((TIMES, DEEP_LIFT, INTEGRATED, LRP), 2), *((lrp_at(each), LRP) for each in EPSILONS)]
    pairs += [(DEEP_LIFT, COMPLETE), (INTEGRATED, COMPLETE), (INTEGRATED, OF_BOUND)]
    rows = [
        {"net": net, "training": 0, "first": first, "second": second, "mean": distance(net), "most": distance(net)}
        for net in BENCH.nets
        for first, second in pairs
    ]
    return pd.DataFrame(rows).assign(error=1e-9, images=100)


def test_the_cnn_counts_among_the_nets_with_relu_and_biases():
    found = {claim.name: claim.holds for claim in claims.equalities(gaps_between(lambda net: 0.5 * (net == CNN)))}
    assert found["epsilon-LRP is Gradient x Input on ReLU"] is False
    assert found["epsilon-LRP is DeepLIFT without biases"] is True
    assert found["DeepLIFT is complete"] is False


def curves_of(score, small=2):
    """Tables like those of ``sensitivity_of_net`` by ``score(net, explainer, n)``; the CNN has 12 images."""
    rows = []
    for net in BENCH.nets:
        images = 12 if net == CNN else 100
        for n in (1, small, 627, OVER_ALL):
            own = {"net": net, "training": 0, "n": n, "error": 1e-4, "least": 1.0, "images": images, "against": ""}
            for name in (*PAPERS_EXPLAINERS, *CONTROLS_OF_CURVES):
                count = 0 if name == "constant" else images
                rows.append({**own, "explainer": name, "mean": score(net, name, n), "images": count})
            for first, second in combinations(PAPERS_EXPLAINERS, 2):
                gap = score(net, first, n) - score(net, second, n)
                rows.append({**own, "explainer": first, "against": second, "mean": gap})
    return pd.DataFrame(rows)


def recalled_order(net, name, n):
    if n == 627:
        return {OCCLUSION: 0.1, TIMES: 0.2, LRP: 0.3, DEEP_LIFT: 0.4, INTEGRATED: 0.4}.get(name, 0.0)
    return {OCCLUSION: 1.0, TIMES: 0.6, LRP: 0.7, DEEP_LIFT: 0.8, INTEGRATED: 0.8}.get(name, 0.0)


@pytest.mark.parametrize("small", [2, 4])
def test_orders_are_claimed_of_all_five_nets_at_the_smallest_n_that_is_not_exact(small):
    found = list(claims.orders(curves_of(recalled_order, small), BENCH.pixels))
    assert {claim.holds for claim in found} == {True}
    assert sum(CNN in claim.name for claim in found) == 3
    first = next(claim for claim in found if claim.name.startswith("Occlusion-1 is best"))
    assert f"n = {small} ({100 * small / 784:.2g} % of the pixels)" in first.says
    wrong = claims.orders(curves_of(lambda net, name, n: 1 - recalled_order(net, name, n), small), BENCH.pixels)
    assert {claim.holds for claim in wrong if "separate" not in claim.name} == {False}


def test_a_net_with_fewer_images_is_held_against_its_own_number():
    curves = curves_of(recalled_order)
    exact = {claim.name: claim for claim in claims.scores_that_are_exact(curves)}
    assert exact["Occlusion-1 is exact at n = 1"].holds and exact["guessing scores 0"].n == 100
    at = (curves["net"] == CNN) & (curves["explainer"] == OCCLUSION) & (curves["n"] == 1) & (curves["against"] == "")
    fewer = curves.assign(images=curves["images"].where(~at, 11))
    assert not next(claims.scores_that_are_exact(fewer)).holds


def test_what_was_tried_makes_a_claim_one_that_is_not_expected():
    tried = {("Occlusion-1 is worst at large n", CNN): "more images"}
    found = [claim for claim in claims.orders(curves_of(recalled_order), BENCH.pixels, tried) if not claim.expected]
    assert [claim.tried for claim in found] == ["more images"] and CNN in found[0].says


def test_the_patterns_together_err_with_the_probability_that_is_stated():
    found = [
        *claims.equalities(gaps_between(lambda net: 0.0)),
        *claims.scores_that_are_exact(curves_of(recalled_order)),
        *claims.orders(curves_of(recalled_order), BENCH.pixels),
    ]
    patterns = sum(claim.kind == PATTERN for claim in found) + 3  # of nets that are nearly linear
    assert patterns == PATTERNS and patterns * LEVEL == pytest.approx(ALL_TOGETHER)
    assert sum(claim.kind == IDENTITY for claim in found) == 7
    assert set(KIND_OF_NET.values()) == set(FOUR_NETS)
