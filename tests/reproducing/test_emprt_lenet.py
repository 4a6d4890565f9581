"""The mathematics of ``emprt_lenet``: planted histograms, fresh noise, and claims in worlds with known answers."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from harness.api import explain
from harness.metrics.efficient_randomization import histogram_entropy
from harness.reproducing.findings import IDENTITY
from harness.reproducing.paper import paper
from harness.reproducing.published import published_numbers
from harness.reproducing.studies.emprt_lenet import study as emprt_lenet
from harness.reproducing.studies.emprt_lenet.scores import (
    BINS,
    BLIND_CONTROLS,
    EXPLAINERS_OF_EMPRT,
    FRESH_NOISE,
    KEPT,
    MULTIPLYING,
    RISE,
    SIGNED,
    SMOOTH,
    UNSIGNED,
    Switching,
    planted_map,
    planted_rises,
)
from harness.reproducing.studies.shared.mnist_nets import LENET
from harness.reproducing.studies.shared.tendencies import claims_of_tendencies

IMAGES = 8
SCORES = ((RISE, SIGNED), (RISE, UNSIGNED), (KEPT, SIGNED), (KEPT, UNSIGNED), (SMOOTH, SIGNED))


@pytest.mark.parametrize(("full", "entropy"), [(1, 0.0), (2, math.log(2)), (50, math.log(50)), (100, math.log(100))])
def test_the_entropy_of_equally_full_bins_is_the_logarithm_of_their_number(full, entropy):
    net, images = Switching(100).eval(), torch.rand(1, 1, 10, 10)
    found = explain(planted_map, net, images, torch.tensor([0]), before=full, after=1)
    assert histogram_entropy(found, BINS).item() == pytest.approx(entropy, abs=1e-12)


def test_the_rise_of_planted_histograms_is_that_of_the_formula():
    rows = planted_rises([[2, 100], [50, 10], [20, 20]])
    assert rows["expected"].tolist() == pytest.approx([math.log(100) / math.log(2) - 1, -0.4114, 0.0], abs=1e-4)
    assert rows["gap"].max() < 1e-12


def test_the_net_calls_relu_as_a_module_and_guided_backprop_is_not_the_gradient():
    torch.manual_seed(0)
    net, images = LENET.build(2).eval().requires_grad_(False), torch.rand(3, 1, 28, 28)
    maps = [explain(name, net, images, torch.zeros(3, dtype=torch.long)) for name in ("gradient", "guided_backprop")]
    assert ((maps[0] - maps[1]).flatten(1).norm(dim=1) > 1e-3 * maps[0].flatten(1).norm(dim=1)).all()


def test_fresh_noise_is_other_noise_for_other_weights_and_images_and_frozen_noise_is_not():
    torch.manual_seed(0)
    images, target = torch.rand(2, 1, 28, 28), torch.zeros(2, dtype=torch.long)
    nets = [LENET.build(2).eval().requires_grad_(False) for _ in range(2)]
    fresh = [explain(EXPLAINERS_OF_EMPRT[FRESH_NOISE]["name"], net, images, target) for net in nets]
    frozen = [explain("random", net, images, target) for net in nets]
    assert not torch.equal(*fresh) and not torch.equal(*fresh[0]) and torch.equal(*frozen)


def test_the_explainers_have_the_names_of_the_published_rows():
    for table in ("eMPRT", "MPRT"):
        where = {"dataset": "MNIST test", "table_or_figure": f"benchmarking notebook, {table} table"}
        assert set(published_numbers("emprt2024", where)["explainer"]) <= set(EXPLAINERS_OF_EMPRT)


def scores_with(value):
    """A table of scores ``value(explainer, score, sign)`` with a little spread, but for the controls."""
    draw = np.random.default_rng(0)
    rows = []
    for name in EXPLAINERS_OF_EMPRT:
        for score, sign in SCORES:
            for image in range(IMAGES):
                spread = 0.0 if name in BLIND_CONTROLS else 0.002 * draw.normal()
                about = {"explainer": name, "score": score, "sign": sign, "image": image}
                rows.append({**about, "value": value(name, score, sign) + spread})
    return pd.DataFrame(rows)


def as_published(name, score, sign):
    if name == "constant":
        return math.nan
    if name in BLIND_CONTROLS:
        return 0.0 if score == RISE else 1.0
    if name == FRESH_NOISE:
        return 0.0
    if score == RISE:
        return 0.02 if name in MULTIPLYING else 0.2
    return {"LRP-z+": 0.91, "Guided Backprop": 0.3}.get(name, 0.75 if name in MULTIPLYING else 0.04)


def orders_in(scores):
    tendencies = list(emprt_lenet.orders_of_random_weights(scores))
    return {claim.name: claim.holds for claim in claims_of_tendencies(tendencies, IMAGES, "images")}


def test_orders_hold_in_a_world_as_published_and_fail_where_they_are_turned():
    right = orders_in(scores_with(as_published))
    assert set(right.values()) == {True}, right
    lone = lambda name: 0.2 * (name == "InputXGradient")
    turned = orders_in(scores_with(lambda name, score, sign: 1 - as_published(name, score, sign) + lone(name)))
    assert set(turned.values()) == {False}, turned


FACTS = pd.DataFrame([{"what": "guided and plain", "value": 0.5}, {"what": "size", "value": 0.0}])
PLANTED = pd.DataFrame([{"before": 2, "after": 100, "expected": 5.6, "gap": 0.0}])


def test_identities_notice_what_is_wrong():
    claims = list(emprt_lenet.exact_claims_of_emprt(scores_with(as_published), FACTS, PLANTED))
    assert len(claims) == 6 and all(claim.holds and claim.kind == IDENTITY for claim in claims)
    wrong = scores_with(as_published).assign(value=0.5)
    wrong.loc[wrong["explainer"] == FRESH_NOISE, "value"] = 0.0
    facts = pd.DataFrame([{"what": "guided and plain", "value": 0.0}, {"what": "size", "value": 0.1}])
    claims = list(emprt_lenet.exact_claims_of_emprt(wrong, facts, PLANTED.assign(gap=0.1)))
    assert not any(claim.holds for claim in claims)


def test_the_variant_with_data_differs_in_its_data_alone():
    here, with_data = paper("emprt_lenet"), paper("emprt_lenet_digits")
    assert here.study == with_data.study and not here.needs and "t10k-labels-idx1-ubyte" in with_data.needs
    assert here.sizes["small"] == with_data.sizes["small"] and here.choices == with_data.choices
    assert all(each.unlike for each in (*here.expect, *with_data.expect))
