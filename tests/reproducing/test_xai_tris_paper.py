"""XAI-TRIS: closed forms of its suppressors, the scores of its controls, and tests that can fail."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.datasets.tetrominoes import TetrominoOptions
from harness.datasets.xai_tris import family_of
from harness.reproducing.studies.xai_tris import nets
from harness.reproducing.studies.xai_tris import scores as scoring
from harness.reproducing.studies.xai_tris.claims import (
    claims_of_controls,
    claims_of_defects,
    claims_of_edges,
    claims_of_false_mass,
    claims_of_linear_nets,
    distance_score,
    mask_sizes,
    mean_above_zero,
    median_lead,
    of_authors,
    shares_behind_edges,
)
from harness.reproducing.studies.xai_tris.nets import CNN, LINEAR, MLP, parts_of, trained_tetromino_net, with_softmax
from harness.reproducing.studies.xai_tris.theory import (
    BackgroundCovariance,
    class_difference,
    largest_change_off_mask,
    optimal_weights,
    share_off,
)

PLAN = """
........
.T......
.TT.....
.T......
.....L..
.....L..
.....LL.
........
"""
LETTERS = np.array([list(line) for line in PLAN.split()])
MASK = LETTERS != "."


def small_parts(scenario="linear", backdrop="white", seed=0, count=200):
    return parts_of(family_of(TetrominoOptions(scenario, backdrop), 8, count=count, seed=seed))


def spot(row, column):
    image = torch.zeros(1, 8, 8)
    image[0, row, column] = 1
    return image


# ---- theory


def test_the_class_difference_is_the_plan():
    np.testing.assert_array_equal(class_difference(), (LETTERS == "L") * 1.0 - (LETTERS == "T") * 1.0)


def test_the_covariance_of_white_noise_is_its_variance():
    image = np.random.default_rng(0).normal(size=(8, 8))
    np.testing.assert_allclose(BackgroundCovariance("white").times(image), 0.25 * image)
    np.testing.assert_allclose(BackgroundCovariance("white", floor=1.0).times(image), 0.5 * image)


def test_the_covariance_of_correlated_backgrounds_is_that_of_drawn_ones():
    drawn = family_of(TetrominoOptions("linear", "correlated"), 8, count=6000, seed=1).backgrounds(np.arange(4000))
    flat = drawn.reshape(len(drawn), -1).astype(np.float64)
    columns = [BackgroundCovariance("correlated").times(unit.reshape(8, 8)).ravel() for unit in np.eye(64)]
    expected, found = np.array(columns), flat.T @ flat / len(flat)
    assert np.abs(found - expected).max() < 5 * expected.max() * math.sqrt(2 / len(flat))


@pytest.mark.parametrize("floor", [1e-2, 1.0])
def test_solving_undoes_multiplying(floor):
    image, covariance = np.random.default_rng(0).normal(size=(8, 8)), BackgroundCovariance("correlated", floor)
    np.testing.assert_allclose(covariance.times(covariance.solve(image)), image, atol=1e-9)


def test_best_weights_are_on_the_mask_for_white_noise_and_on_suppressors_for_correlated_noise():
    np.testing.assert_allclose(optimal_weights("white"), 4 * class_difference(), atol=1e-12)
    weights = optimal_weights("correlated", 1e-2)
    assert share_off(weights, MASK) > 0.4
    assert share_off(BackgroundCovariance("correlated", 1e-2).times(weights), MASK) < 1e-8


def test_with_ever_more_noise_the_best_weights_go_back_to_the_mask():
    shares = [share_off(optimal_weights("correlated", floor), MASK) for floor in (1e-2, 1, 10, 1000)]
    assert shares == sorted(shares, reverse=True) and shares[-1] < 1e-3


def test_the_share_off_a_mask():
    assert share_off(np.array([3.0, -1.0]), np.array([True, False])) == 0.25


@pytest.mark.parametrize("scenario", ["linear", "multiplicative", "rotation", "xor"])
def test_the_class_changes_no_pixel_off_the_mask(scenario):
    assert largest_change_off_mask(scenario, [3], 60) < 1e-6


# ---- nets and explainers


@pytest.mark.parametrize("name", [LINEAR, MLP, CNN])
def test_training_gives_the_same_net_again_and_leaves_the_random_state_alone(name, monkeypatch):
    short = {key: replace(each, epochs=2) for key, each in nets.TRAININGS.items()}
    monkeypatch.setattr(nets, "TRAININGS", short)
    parts, before = small_parts(), torch.get_rng_state()
    one, two, other = (trained_tetromino_net(name, parts, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


def test_the_linear_net_learns_the_linear_scenario():
    parts = small_parts(count=2000)
    net = trained_tetromino_net(LINEAR, parts, 0)
    assert (net(parts["test"].inputs).argmax(1) == parts["test"].labels).double().mean() > 0.75


def test_the_laplacian_is_nought_on_a_slope_and_minus_four_on_a_spot():
    slope = torch.arange(8.0).expand(8, 8)[None, None]
    assert scoring.laplace_filter(None, slope, None)[..., 1:-1].abs().max() == 0
    found = scoring.laplace_filter(None, spot(3, 3)[None], None)[0, 0]
    assert found[3, 3] == -4 and found[2, 3] == found[3, 4] == 1 and found.abs().sum() == 8


def test_the_pattern_is_covariance_times_weights():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    train = torch.randn(300, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = harness.explain(scoring.linear_pattern, net, train[:2], torch.tensor([0, 1]), train=train)
    expected = net[1].weight.detach().double() @ torch.cov(train.flatten(1).T.double())
    torch.testing.assert_close(found.flatten(1).double(), expected, rtol=1e-3, atol=1e-4)


def test_noise_is_uniform_and_of_the_image():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    images = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    maps = harness.explain(scoring.uniform_in_range, net, images, torch.zeros(60, dtype=torch.long))
    assert maps.abs().max() <= 1 and abs(float(maps.mean())) < 0.05 and not torch.equal(maps[0], maps[1])
    assert float(maps.var()) == pytest.approx(1 / 3, rel=0.05)


def test_on_the_softmax_saliency_ranks_pixels_as_the_difference_of_both_logits():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval()
    image, label = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1])
    found = harness.explain("saliency", with_softmax(net), image, label, task="probabilities").flatten()
    margin = (net[1].weight[1] - net[1].weight[0]).abs().detach()
    torch.testing.assert_close(found / found.sum(), margin / margin.sum())


# ---- scores


def test_a_method_that_fails_has_a_row_for_each_image(monkeypatch):
    def fails(model, inputs, targets):
        raise RuntimeError("no map today")

    monkeypatch.setattr(scoring, "METHODS", {"Saliency": {"name": "saliency"}, "Broken": {"name": fails}})
    monkeypatch.setattr(scoring, "net_of_setting", lambda *setting: perfect_net())
    table = scoring.setting_scores("linear", "white", 0, nets=[LINEAR, MLP, CNN], count=400, images=3, evaluations=64)
    broken = table[table["explainer"] == "Broken"]
    assert len(broken) == 2 * 3 * 3 and set(broken["status"]) == {"failed"}  # two scores, three nets, three images
    assert broken["reason"].str.contains("no map today").all() and broken["truth_precision"].isna().all()
    controls = table[table["net"] == scoring.NO_NET].groupby("explainer")["truth_precision"].mean()
    assert controls["Oracle"] == 1 and controls["Constant"] == 0.125
    assert (table["right"] <= table["tested"]).all() and table["accuracy"].dropna().between(0.5, 1).all()


def perfect_net():
    """A net with the Bayes-optimal weights for white noise."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).eval().requires_grad_(False)
    net[1].weight.copy_(torch.from_numpy(np.stack([-class_difference(), class_difference()]).reshape(2, 64)))
    net[1].bias.zero_()
    return net


def test_the_methods_of_the_cnn_explain_it():
    images, labels = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1])
    net = with_softmax(nets.trained_tetromino_net(CNN, small_parts(), 0))
    for label, options in scoring.methods_of(CNN, 128).items():
        given = {"train": images, "task": "probabilities", **options}
        maps = harness.explain(given.pop("name"), net, images, labels, **given)
        assert maps.shape == (2, 1, 8, 8) and maps.abs().sum() > 0, label


def test_the_budget_is_that_of_all_samplers():
    budgets = scoring.methods_of(MLP, 640)
    assert budgets["LIME"]["samples"] == budgets["KernelSHAP"]["samples"] == 640
    assert budgets["Shapley sampling"]["permutations"] * 64 == 640
    assert "Guided Grad-CAM" in scoring.methods_of(CNN, 64) and "Pattern" in scoring.methods_of(LINEAR, 64)


@pytest.mark.parametrize(("place", "pixels"), [((0, 0), 0.0), ((0, 5), 5.0), ((3, 4), 5.0), ((7, 7), math.sqrt(98))])
def test_mass_on_one_pixel_moves_by_the_euclidean_distance(place, pixels):
    assert distance_score(spot(0, 0), spot(*place)) == pytest.approx(1 - pixels / math.sqrt(98), abs=1e-9)


def test_mass_is_split_where_that_is_cheaper():
    halves, between = spot(0, 0) + spot(0, 4), spot(0, 1)
    assert distance_score(halves, between) == pytest.approx(1 - (0.5 * 1 + 0.5 * 3) / math.sqrt(98), abs=1e-9)


def test_the_authors_normaliser():
    assert of_authors(1.0) == 1 and of_authors(0.0) == pytest.approx(0.125)


# ---- claims


def table_of(means, images=40, spread=0.05, seeds=3):
    """Scores of the explainers of one net, with these mean precisions, and of edge filters and other controls."""
    draw, rows = np.random.default_rng(0), []
    for explainer, mean in means.items():
        control = explainer in scoring.CONTROLS
        for seed in range(seeds):
            for image in range(images):
                value = mean + spread * draw.normal()
                rows.append(
                    {
                        "scenario": "linear",
                        "backdrop": "white",
                        "seed": seed,
                        "image": image,
                        "net": scoring.NO_NET if control else MLP,
                        "score": scoring.NO_SCORE if control else scoring.SOFTMAX,
                        "explainer": explainer,
                        **dict.fromkeys(scoring.METRICS, value),
                        "status": "",
                        "accuracy": math.nan if control else 0.9,
                        "tested": 100,
                        "right": 80,
                    }
                )
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("methods", "holds"), [((0.1, 0.2, 0.9), True), ((0.1, 0.8, 0.9), False), ((0.3,) * 3, None)])
def test_the_claim_about_edge_filters_can_hold_fail_and_stay_open(methods, holds):
    names = ("Saliency", "DeepLIFT", "LIME")
    table = table_of(dict(zip(names, methods, strict=True)) | {"Sobel": 0.1, "Laplace": 0.3, "Uniform noise": 0.1})
    for claim in claims_of_edges(table, {}):
        assert claim.holds is holds and claim.n == 120
    named = {("precision", "linear", "white"): "nothing"}
    first, second = claims_of_edges(table, named)
    assert not first.expected and second.expected


def test_methods_behind_edge_filters_are_counted():
    means = {"Saliency": 0.1, "DeepLIFT": 0.2, "LIME": 0.9, "Sobel": 0.1, "Laplace": 0.5, "Uniform noise": 0.1}
    assert shares_behind_edges(table_of(means)) == "2 of 3 by precision, 2 of 3 by earth mover's distance"


def test_the_lead_is_that_of_the_median_method_over_the_better_filter():
    index = pd.MultiIndex.from_product([[0, 1], range(5)])
    methods = pd.DataFrame({"a": 0.1, "b": 0.5, "c": 0.9}, index=index)
    edges = pd.DataFrame({"Sobel": 0.2, "Laplace": 0.3}, index=index)
    assert median_lead(methods, edges, 0.95) == pytest.approx((0.2, 0.2, 0.2))


def test_the_interval_of_the_lead_covers_the_truth_about_as_often_as_it_says():
    draw, index, hits = np.random.default_rng(0), pd.MultiIndex.from_product([[0, 1, 2], range(20)]), 0
    for _ in range(60):
        methods = pd.DataFrame(draw.normal(0.5, 0.2, (60, 1)), index=index)
        edges = pd.DataFrame(draw.normal(0.3, 0.2, (60, 1)), index=index)
        _, low, high = median_lead(methods, edges, 0.9)
        hits += low <= 0.2 <= high
    assert 46 <= hits <= 60


@pytest.mark.parametrize(("gap", "holds"), [(0.3, True), (-0.3, False), (0.0, None)])
def test_the_claim_about_suppressors_follows_the_difference_of_backgrounds(gap, holds):
    white = table_of({"Saliency": 0.4, "LIME": 0.5}, seeds=4)
    correlated = white.assign(backdrop="correlated")
    correlated[scoring.FALSE_MASS] += gap + 0.02 * (-1.0) ** white["seed"]  # seeds differ from each other
    (claim,) = claims_of_false_mass(pd.concat([white, correlated]))
    assert claim.holds is holds and claim.n == 4


def test_linear_nets_agree_off_the_mask_or_not():
    columns = {"weights_off": [0.2, 0.21, 0.22, 0.2], "agreement": [0.1, None, -0.1, None]}
    white = pd.DataFrame(columns)
    correlated = white.assign(weights_off=[0.5, 0.49, 0.53, 0.51], agreement=[0.8, None, 0.82, None])
    assert [claim.holds for claim in claims_of_linear_nets(white, correlated)] == [True, True]
    assert [claim.holds for claim in claims_of_linear_nets(correlated, white)] == [False, None]


def test_noise_that_is_too_precise_is_noticed():
    controls = {"Uniform noise": 0.125, "Oracle": 1.0, "Constant": 0.125, "Saliency": 0.5}
    fair = claims_of_controls(table_of(controls, spread=0.0))
    assert [claim.holds for claim in fair][1:4] == [True, True, True]
    lucky = claims_of_controls(table_of(controls | {"Uniform noise": 0.3, "Constant": 0.2}, spread=0.0))
    assert [claim.holds for claim in lucky][1:3] == [False, False]


def test_failures_are_counted():
    table = table_of({"Uniform noise": 0.125, "Oracle": 1.0, "Constant": 0.125, "Saliency": 0.5}, spread=0.0)
    table.loc[table["explainer"] == "Saliency", "status"] = "failed"
    claim = claims_of_controls(table)[-1]
    assert claim.holds is False and "120 failures" in claim.measured


def test_the_defects_of_the_release_are_as_told():
    assert all(claim.holds for claim in claims_of_defects())


def test_masks_have_four_pixels_where_shapes_turn_and_eight_elsewhere():
    assert mask_sizes(pd.DataFrame({"scenario": ["linear", "rotation"]})).tolist() == [8, 4]


@pytest.mark.parametrize(("values", "holds"), [((0.9, 1, 1.1), True), ((-0.9, -1, -1.1), False), ((-1, 0, 1), None)])
def test_a_mean_is_above_nought_below_it_or_cannot_be_told(values, holds):
    assert mean_above_zero(np.array(values, dtype=float))[0] is holds
