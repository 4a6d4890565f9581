"""The mathematics of ``sanity_checks``: what algebra expects of unrelated maps, random layers, and verdicts."""

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.integrate import quad
from skimage.metrics import structural_similarity
from torch import nn

import harness
from harness.api import evaluate, explain, samples_of
from harness.metrics._randomised import Randomisation
from harness.metrics._similarity import similarity_of
from harness.models.digits_cnn import RECIPE
from harness.models.training import untrained
from harness.reproducing.findings import IDENTITY
from harness.reproducing.studies.sanity_checks.claims import (
    claims_of_unrelated_models,
    identities_of_nets,
    tendencies_of_nets,
)
from harness.reproducing.studies.sanity_checks.nets import (
    CONTROLS_OF_SANITY,
    DESIGNS,
    LABELS,
    LAYERS,
    MEASURES,
    STAGES,
    WITHOUT_MULTIPLIER,
    changed_at_each_stage,
    has_same_bits,
    mean_path_gradient,
    similarities_at_stages,
    wanted_changes,
)
from harness.reproducing.studies.sanity_checks.unrelated import (
    LOG_VARIANCES,
    correlation_of_log_magnitudes,
    expected_correlation,
    linear_models,
    similarities_of_noise,
    spearman_band,
    spearman_of_unrelated_gradients,
    two_sets_of_maps,
)
from harness.reproducing.studies.shared.tendencies import (
    ERROR,
    Bounded,
    Tendency,
    claim_of_tendency,
    claims_of_tendencies,
)
from planted_nets import values_of_nets

NETS = 8


@pytest.fixture
def net():
    """The net of the study with its first weights, frozen."""
    return untrained(RECIPE, seed=3).requires_grad_(False).eval()


@pytest.fixture
def digits():
    return torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))


# --- Unrelated maps -----------------------------------------------------------------------------------------------


def test_over_all_orders_spearman_has_mean_0_and_variance_1_over_d_less_1():
    orders = torch.tensor(list(permutations(range(5))), dtype=torch.float64)
    values = similarity_of("spearman", (5,))(orders[:1].expand_as(orders), orders)
    assert values.mean().item() == pytest.approx(0, abs=1e-12)
    assert values.square().mean().item() == pytest.approx(1 / 4, abs=1e-12)


@pytest.mark.parametrize("units", [8, 64])
def test_gradients_of_unrelated_linear_models_have_that_mean_and_variance(units):
    (row,) = spearman_of_unrelated_gradients(units, 1000, seed=1).to_dict("records")
    sd = 1 / math.sqrt(units - 1)
    assert abs(row["mean"]) < 4 * sd / math.sqrt(1000)
    assert abs(row["sd"] - sd) < 4 * sd / math.sqrt(2000)
    assert spearman_band(units) == pytest.approx(1.96 * sd)


def test_the_gradient_of_a_linear_model_is_its_own_row_of_weights():
    first, second = two_sets_of_maps("gradient", torch.randn(4, 6), seed=5)
    assert torch.equal(first, linear_models(6, 4, seed=10).weight)
    assert torch.equal(second, linear_models(6, 4, seed=11).weight)
    bound = 1 / math.sqrt(6)  # torch's own initialiser
    assert first.abs().max() <= bound and (first != 0).all()


def test_the_variances_of_log_weights_are_pi_squared_over_8_and_1():
    normal = lambda power: 2 * quad(lambda w: math.log(w) ** power * stats.norm.pdf(w), 0, math.inf)[0]
    uniform = lambda power: quad(lambda w: math.log(w) ** power, 0, 1)[0]
    assert LOG_VARIANCES["normal"] == pytest.approx(normal(2) - normal(1) ** 2, abs=1e-6)
    assert LOG_VARIANCES["uniform"] == pytest.approx(uniform(2) - uniform(1) ** 2, abs=1e-6)


def test_the_expected_correlation_through_the_multiplier():
    assert expected_correlation(1.0) == pytest.approx(0.448, abs=5e-4)
    assert expected_correlation(1.0, "uniform") == 0.5
    assert expected_correlation(0.0) == 0


@pytest.mark.parametrize("weights", LOG_VARIANCES)
def test_log_magnitudes_of_unrelated_models_correlate_as_expected(weights):
    (row,) = correlation_of_log_magnitudes(1.0, weights, 1024, 60, seed=2).to_dict("records")
    assert abs(row["mean"] - expected_correlation(1.0, weights)) < 4 * row["error"]


def test_without_a_spread_of_the_input_the_multiplier_changes_nothing():
    (row,) = correlation_of_log_magnitudes(0.0, "normal", 256, 100, seed=2).to_dict("records")
    assert abs(row["mean"]) < 4 * row["error"]


def test_the_band_of_noise_is_that_of_the_formula():
    rows = similarities_of_noise(8, 2000, seed=0).set_index("measure")
    for measure in ("Spearman of |a|", "signed Spearman"):
        assert rows.loc[measure, "high"] == pytest.approx(spearman_band(64), abs=0.02)
        assert rows.loc[measure, "low"] == pytest.approx(-spearman_band(64), abs=0.02)
    assert abs(rows.loc["SSIM", "mean"]) < 0.05


# --- Random layers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cascading", "independent"])
def test_layers_become_random_from_the_output_and_come_back_bit_for_bit(mode, net, digits):
    before = {name: values.clone() for name, values in net.state_dict().items()}
    samples = samples_of(net, digits, torch.zeros(3, dtype=torch.long))
    changed = changed_at_each_stage(net, samples, Randomisation(mode=mode, stages=0, weight_seed=1))
    assert changed == wanted_changes(net, mode) and len(changed) == len(LAYERS)
    assert changed[0] == {"11.weight", "11.bias"} and "0.weight" in changed[-1]
    assert len(changed[-1]) == (2 if mode == "independent" else 10)
    assert all(has_same_bits(values, before[name]) for name, values in net.state_dict().items())


def test_bits_differ_where_equal_numbers_do():
    assert not has_same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


@pytest.mark.parametrize("design", DESIGNS)
def test_all_measures_are_those_of_the_registered_metric(design, net, digits):
    explainers, classes = ["gradient", "integrated_gradients", *CONTROLS_OF_SANITY], net(digits).argmax(1)
    options = {"stages": 0, "weight_seed": 4, **DESIGNS[design]}
    data = harness.Data(digits, classes, value_range=(0.0, 1.0))
    own = evaluate(net, data, explainers=explainers, metrics={"all": {"name": similarities_at_stages, **options}})
    curves = np.array(own["curve"].tolist()).reshape(len(explainers), len(digits), len(MEASURES), len(STAGES))
    np.testing.assert_allclose(curves[..., 0], 1, rtol=0, atol=1e-12)  # the weights are back
    np.testing.assert_allclose(curves[2:], 1, rtol=0, atol=1e-12)  # the controls
    assert (np.abs(curves[:2, ..., 1:]) < 0.999).all()
    for at, (name, absolute) in enumerate(MEASURES.values()):
        theirs = evaluate(
            net,
            data,
            explainers=explainers,
            metrics={"one": {"name": "parameter_randomization", "similarity": name, **options}},
            reduction="max_abs" if absolute else "sum",
        )
        expected = np.array(theirs["curve"].tolist()).reshape(len(explainers), len(digits), len(LAYERS))
        np.testing.assert_allclose(curves[:, :, at, 1:], expected, rtol=0, atol=1e-12)


def test_the_mean_gradient_on_the_path_is_integrated_gradients_without_its_factor(net, digits):
    class Product(nn.Module):
        def forward(self, x):
            return x.prod(1, keepdim=True)

    x, target = torch.tensor([[1.0, 3.0]]), torch.zeros(1, dtype=torch.long)
    found = explain(mean_path_gradient, Product().eval(), x, target, task="regression")
    torch.testing.assert_close(found, torch.tensor([[1.5, 0.5]]))
    classes = net(digits).argmax(1)
    path = explain(mean_path_gradient, net, digits, classes, steps=20)
    expected = explain("integrated_gradients", net, digits, classes, steps=20)
    torch.testing.assert_close(digits * path, expected, rtol=0, atol=1e-6)


def test_guided_backprop_keeps_its_rule_on_this_net(net, digits):
    classes = net(digits).argmax(1)
    plain, guided = (explain(name, net, digits, classes) for name in ("gradient", "guided_backprop"))
    assert ((guided - plain).flatten(1).norm(dim=1) > 1e-3 * plain.flatten(1).norm(dim=1)).all()


def test_scikit_image_refuses_its_own_window_at_8_pixels_and_ours_is_7():
    first, second = np.random.default_rng(0).uniform(size=(2, 8, 8))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    with pytest.raises(ValueError, match="win_size"):
        structural_similarity(first, second, **options)
    scaled = [(each - each.min()) / np.ptp(each) for each in (first, second)]
    ours = similarity_of("ssim", (8, 8))(*(torch.from_numpy(each)[None] for each in (first, second)))
    weights = np.exp(-((np.arange(7) - 3) ** 2) / (2 * 1.5**2))
    window = np.outer(weights, weights) / weights.sum() ** 2
    means = []
    for row in range(2):
        for column in range(2):
            a, b = (each[row : row + 7, column : column + 7] for each in scaled)
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            spread = lambda u, v, product: (window * u * v).sum() - product
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            covariance = spread(a, b, mean_a * mean_b)
            variances = spread(a, a, mean_a**2) + spread(b, b, mean_b**2)
            means.append(luminance * (2 * covariance + 9e-4) / (variances + 9e-4))
    assert ours.item() == pytest.approx(np.mean(means), abs=1e-9)


# --- Verdicts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "bounds", "holds"),
    [
        ([1.0, 1.1, 0.9, 1.0], {"above": 0.5}, True),
        ([1.0, 1.1, 0.9, 1.0], {"below": 0.5}, False),
        ([1.0, 0.1, 0.9, 0.2], {"above": 0.5}, None),
        ([0.01, -0.01, 0.0, 0.0], {"above": -0.2, "below": 0.2}, True),
        ([0.3, 0.31, 0.3, 0.29], {"above": -0.2, "below": 0.2}, False),
        ([float("nan")] * 4, {"above": 0.5}, None),
    ],
)
def test_a_claim_holds_fails_or_cannot_be_told(values, bounds, holds):
    claim = claim_of_tendency(Tendency("name", "It is so.", [Bounded("it", np.array(values), **bounds)], "x"), 4, 0.01)
    assert claim.holds is holds and "it" in claim.measured


def test_one_comparison_outside_its_bound_is_enough_to_fail_and_is_told():
    good, bad = (
        Bounded("good", np.array([0.9, 1.0, 1.1]), above=0),
        Bounded("bad", np.array([-1.0, -1.01, -0.99]), above=0),
    )
    claim = claim_of_tendency(Tendency("name", "It is so.", [good, bad, good], "x"), 3, 0.01)
    assert claim.holds is False and claim.measured.startswith("bad, nearest to its bound of 3")


def test_all_claims_together_keep_the_error():
    made = claims_of_tendencies([Tendency(f"{at}", "So.", [Bounded("it", np.ones(3))], "x") for at in range(10)], 3)
    assert all(f"one-sided at {ERROR / 10:.2g}" in claim.why for claim in made)


def tables(similarity, twin, linear):
    return values_of_nets(similarity, twin, linear, NETS, LAYERS)


def verdicts(of):
    return {claim.name: claim.holds for claim in claims_of_tendencies(tendencies_of_nets(of, 64), NETS)}


def test_every_tendency_can_fail():
    """No map changes; or all maps become unrelated at once. Each claim is denied in one of these worlds, or in one
    where the methods have changed their places."""
    same = verdicts(tables(lambda *_: 1.0, lambda *_: 1.0, lambda *_: 0.0))
    unrelated = verdicts(tables(lambda e, m, s, d: float(s == "none"), lambda *_: 0.0, lambda *_: 0.5))
    turned = verdicts(
        tables(
            lambda e, m, s, d: (
                {"gradient": 0.9, "grad_cam": 0.9}.get(e, 0.2)
                - 0.1 * (d == "cascading, re-argmax")
                + 0.3 * (s == LAYERS[-1])
            ),
            lambda e, m, each: 0.9 * (each == "permuted") + 0.05 * (e == "gradient"),
            lambda m, margin: 0.9 - 0.05 * margin,
        )
    )
    for name in same:
        assert False in (same[name], unrelated[name], turned[name]), name


def test_the_tendencies_hold_in_a_world_that_is_as_the_paper_says():
    changing = ("gradient", "smoothgrad", "grad_cam", WITHOUT_MULTIPLIER)

    def similarity(explainer, measure, stage, design):
        depth, following = STAGES.index(stage), 0.1 * (design == "cascading, re-argmax")
        if explainer in changing:
            return (0.3 if depth else 1) - 0.03 * depth + following
        if explainer in ("input_x_gradient", "integrated_gradients"):
            signed = measure in ("signed Spearman", "HOG")
            return (0.0 if signed and depth else 0.9) + following * (depth == 1)
        return 0.95 - 0.05 * depth

    def twin(explainer, measure, labels):
        multiplied = explainer in ("input_x_gradient", "integrated_gradients")
        if multiplied:
            return 0.9 if measure == "Spearman of |a|" else 0.0
        return 0.6 if labels == "true" or "guided" in explainer else 0.1

    found = verdicts(tables(similarity, twin, lambda m, margin: 0.6 + 0.3 * (margin > 0 or m == "Spearman of |a|")))
    assert all(holds is True for holds in found.values()), found


def test_identities_notice_what_is_wrong():
    similarities = pd.DataFrame(
        [
            {"explainer": name, "stage": stage, "least": 1.0, "images": 3}
            for name in ("gradient", "edge")
            for stage in STAGES
        ]
    )
    exact = pd.DataFrame(
        [
            {"what": "stages as they should be", "value": 10.0},
            {"what": "bits that stay", "value": 1.0},
            {"what": "guided and plain", "value": 0.5},
            {"what": "gradient times input", "value": 0.0},
            {"what": "mean gradient times input", "value": 1e-7},
        ]
    )
    labels = pd.DataFrame([{"labels": each, "accuracy": 1.0} for each in LABELS])
    claims = list(identities_of_nets(similarities, exact, labels))
    assert all(claim.holds and claim.kind == IDENTITY for claim in claims)
    wrong = [
        list(identities_of_nets(similarities.assign(least=0.9), exact, labels)),
        list(identities_of_nets(similarities, exact.assign(value=9.0), labels)),
        list(identities_of_nets(similarities, exact.assign(value=0.0), labels)),
        list(identities_of_nets(similarities, exact, labels.assign(accuracy=0.9))),
    ]
    one = {"gradient", "edge"}  # a missing number is no equality: of one explainer, and of one net of two
    for name in one:
        lacking = similarities.assign(
            images=similarities["images"].where(similarities["explainer"] != name, 0),
            least=similarities["least"].where(similarities["explainer"] != name),
        )
        assert not all(claim.holds for claim in identities_of_nets(lacking, exact, labels)), name
    for what in exact["what"]:
        second = exact.assign(value=exact["value"].where(exact["what"] != what))
        found = identities_of_nets(similarities, pd.concat([exact, second]), labels)
        assert not all(claim.holds for claim in found), what
    for number, claim in enumerate(claims):
        assert not all(changed[number].holds for changed in wrong), claim.name


def test_simulations_that_are_off_are_denied():
    gradients = pd.DataFrame([{"units": 65, "pairs": 1000, "mean": 0.0, "sd": 1 / 8}])
    magnitudes = pd.DataFrame(
        [
            {
                "variance": 1.0,
                "weights": weights,
                "pairs": 50,
                "mean": expected_correlation(1.0, weights),
                "error": 0.01,
            }
            for weights in LOG_VARIANCES
        ]
    )
    assert all(claim.holds for claim in claims_of_unrelated_models(gradients, magnitudes))
    assert not any(
        claim.holds for claim in claims_of_unrelated_models(gradients.assign(sd=0.2), magnitudes.assign(mean=0.6))
    )
    assert not next(claims_of_unrelated_models(gradients.assign(mean=0.1), magnitudes)).holds
