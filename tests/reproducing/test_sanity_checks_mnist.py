"""Sanity checks on zeros and ones: their nets, layers from the tables, maps that are constant, and what was tried."""

import numpy as np
import pandas as pd
import pytest
import torch

from harness.api import explain, samples_of
from harness.metrics._randomised import Randomisation
from harness.models.training import untrained
from harness.reproducing.studies.sanity_checks import mnist as sanity_checks_mnist
from harness.reproducing.studies.sanity_checks.claims import layers_of, tendencies_of_nets
from harness.reproducing.studies.sanity_checks.nets import (
    LAYERS,
    MNIST_LAYERS,
    NOTHING,
    PAPERS_ARRANGEMENT,
    SANITY_BENCHES,
    UNDEFINED,
    _curves_of_cell,
    changed_at_each_stage,
    wanted_changes,
)
from harness.reproducing.studies.shared.mnist_nets import digits_of, recipe_of_digit_net
from harness.reproducing.studies.shared.tendencies import Bounded, Tendency, claims_of_tendencies, with_what_was_tried
from planted_nets import values_of_nets

NETS, PIXELS = 6, 784


@pytest.fixture
def own_net():
    """The net of the study with its first weights, frozen."""
    return untrained(recipe_of_digit_net(PAPERS_ARRANGEMENT, digits_of(None)), seed=3).requires_grad_(False).eval()


def test_the_net_has_the_papers_arrangement_with_fewer_channels(own_net):
    shapes = [tuple(each.shape) for name, each in own_net.named_parameters() if name.endswith("weight")]
    assert shapes == [(8, 1, 5, 5), (16, 8, 5, 5), (64, 784), (2, 64)]
    assert own_net(torch.zeros(1, 1, 28, 28)).shape == (1, 2)


@pytest.mark.parametrize("bench", ["own", "published"])
@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_all_four_layers_of_both_nets_become_random_from_the_output(bench, mode, own_net):
    net = own_net if bench == "own" else SANITY_BENCHES[bench].net(0, 1)
    samples = samples_of(net, torch.rand(1, 1, 28, 28), torch.zeros(1, dtype=torch.long))
    changed = changed_at_each_stage(net, samples, Randomisation(mode=mode, stages=0, weight_seed=1))
    assert changed == wanted_changes(net, mode) and len(changed) == len(MNIST_LAYERS)
    assert SANITY_BENCHES[bench].layers == MNIST_LAYERS and "0.weight" in changed[-1]


def test_guided_backprop_keeps_its_rule_on_this_net(own_net):
    images, classes = torch.rand(3, 1, 28, 28), torch.zeros(3, dtype=torch.long)
    plain, guided = (explain(name, own_net, images, classes) for name in ("gradient", "guided_backprop"))
    assert ((guided - plain).flatten(1).norm(dim=1) > 1e-3 * plain.flatten(1).norm(dim=1)).all()


def test_a_cell_in_which_no_image_has_a_score_is_empty_and_another_failure_is_not():
    rows = pd.DataFrame({"status": ["failed"] * 2, "error": [f"FloatingPointError: {UNDEFINED}"] * 2, "curve": None})
    assert np.isnan(_curves_of_cell(0, rows, 4)).all() and _curves_of_cell(0, rows, 4).shape == (2, 4)
    broken = rows.assign(error="ValueError: no", explainer="gradient", metric="m")
    with pytest.raises(RuntimeError, match="no"):
        _curves_of_cell(0, broken, 4)


def test_layers_are_those_of_the_table():
    of = values_of_nets(lambda *_: 1.0, lambda *_: 1.0, lambda *_: 0.0, NETS, MNIST_LAYERS)
    assert of.layers == MNIST_LAYERS
    assert layers_of(pd.DataFrame({"stage": [NOTHING, *LAYERS, NOTHING]})) == LAYERS


def test_with_black_images_there_is_no_claim_of_a_margin_and_ssim_is_told_for_their_size():
    of = values_of_nets(lambda *_: 1.0, lambda *_: 1.0, lambda *_: 0.0, NETS, MNIST_LAYERS)
    black = {each.name: each for each in tendencies_of_nets(of, PIXELS, black=True)}
    bright = {each.name: each for each in tendencies_of_nets(of, PIXELS)}
    ssim = "ssim stays high with the multiplier"
    assert set(bright) - set(black) == {"a black margin raises SSIM"}
    assert "48 x 48" in black[ssim].tried and "8 x 8" in bright[ssim].tried and not black[ssim].expected
    (claim,) = claims_of_tendencies([black[ssim]], NETS)
    assert claim.holds
    low = values_of_nets(lambda *_: 0.1, lambda *_: 1.0, lambda *_: 0.0, NETS, MNIST_LAYERS)
    low_ssim = next(each for each in tendencies_of_nets(low, PIXELS, black=True) if each.name == ssim)
    assert claims_of_tendencies([low_ssim], NETS)[0].holds is False


def test_what_was_tried_is_added_to_the_tendencies_that_are_named():
    plain = [Tendency(name, "So.", [Bounded("it", np.ones(3), above=2)], "x") for name in ("first", "second")]
    first, second = with_what_was_tried(plain, {"second": "more nets"})
    assert first is plain[0] and not second.expected and second.tried == "more nets"
    claims = claims_of_tendencies([first, second], 3, "images")
    assert [claim.expected for claim in claims] == [True, False] and "over images" in claims[0].why


def test_every_tendency_that_is_said_not_to_show_is_one_of_the_study():
    of = values_of_nets(lambda *_: 1.0, lambda *_: 1.0, lambda *_: 0.0, NETS, MNIST_LAYERS)
    names = {each.name for each in tendencies_of_nets(of, PIXELS, black=True)}
    assert set(sanity_checks_mnist.NOT_ON_ZEROS_AND_ONES) <= names
