"""The mathematics of the study of sensitivity-n: sums over subsets, bounds and tests with known answers."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.datasets.gaussian_terms import sum_of_terms
from harness.reproducing.findings import IDENTITY, PATTERN
from harness.reproducing.studies.sensitivity_n import claims
from harness.reproducing.studies.sensitivity_n.additive import (
    ADDITIVE,
    SIZES_OF_TABLE,
    additive_correlations,
    correlation_over_subsets,
    pearson_of_rows,
    subsets_of_size,
    zero_contributions,
)
from harness.reproducing.studies.sensitivity_n.comparisons import (
    LEVEL,
    PATTERNS,
    all_above,
    all_apart,
    all_within,
    both_answers,
    half_width,
)
from harness.reproducing.studies.sensitivity_n.curves import (
    ALL_FIVE,
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
    WITHOUT_LRP,
    subset_sizes,
)
from harness.reproducing.studies.sensitivity_n.exact import (
    COMPLETE,
    EPSILONS,
    OF_BOUND,
    lrp_at,
    map_distance,
    quadrature_bound,
)
from harness.reproducing.studies.sensitivity_n.nets import FOUR_NETS, PIXELS, TANH, TANH_BARE, shrunk


def small_sequence(activation, biased, width=3):
    """A net of the form of FOUR_NETS with random weights, in double precision."""
    torch.manual_seed(0)
    parts = (nn.Linear(PIXELS, width, biased), activation(), nn.Linear(width, width, biased), activation())
    return nn.Sequential(nn.Flatten(), *parts, nn.Linear(width, 2, biased)).double().eval().requires_grad_(False)


def test_all_subsets_of_a_size_are_there_once():
    for n in range(1, 6):
        found = subsets_of_size(5, n)
        assert len({tuple(row) for row in found}) == len(found) == math.comb(5, n) and (found.sum(1) == n).all()


def test_over_all_subsets_a_linear_function_has_one_correlation_for_every_n():
    contributions, attributions = np.array([[2.0, -1.0, 3.0, 0.5]]), np.array([[1.0, 0.0, 0.0, -2.0]])
    truth = np.corrcoef(contributions[0], attributions[0])[0, 1]
    np.testing.assert_allclose(pearson_of_rows(attributions, contributions), truth)
    for n in (1, 2, 3):
        subsets = subsets_of_size(4, n)
        outputs = contributions @ (~subsets).T  # the sum of what is left
        np.testing.assert_allclose(correlation_over_subsets(attributions, outputs, subsets), truth, rtol=1e-12)


def test_over_all_subsets_a_product_has_a_curve_that_bends():
    x, found = np.array([2.0, 2.0, 3.0]), []
    for n in (1, 2):
        subsets = subsets_of_size(3, n)
        left = np.where(subsets, 0, x)
        outputs = (left[:, 0] * left[:, 1] + left[:, 2])[None]  # f(x) = x1 x2 + x3 = 7
        found.append(float(correlation_over_subsets(np.array([[4.0, 4.0, 3.0]]), outputs, subsets)[0]))
    # Occlusion-1 is 4, 4, 3 and right at n = 1. At n = 2 the falls are 4, 7, 7 and its sums 8, 7, 7.
    np.testing.assert_allclose(found, [1, -1])


def test_contributions_of_the_additive_function_add_up_to_its_change_from_zero():
    rows = torch.randn(20, ADDITIVE.features, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    change = sum_of_terms(ADDITIVE.terms, rows) - sum_of_terms(ADDITIVE.terms, torch.zeros_like(rows))
    found = zero_contributions(ADDITIVE.terms, rows)
    torch.testing.assert_close(found.sum(1), change)
    torch.testing.assert_close(found[:, :3], torch.stack([rows[:, 0].sin(), rows[:, 1].abs(), rows[:, 2] ** 2], 1))
    assert (found[:, 4:] == 0).all()


def test_the_study_of_the_additive_function_finds_a_map_whose_curve_bends(monkeypatch):
    exact, _ = claims.additive_claims(additive_correlations(5, 5, 10))
    assert exact.holds and exact.kind == IDENTITY
    product = lambda terms, rows: rows[:, 0] * rows[:, 1] + rows[:, 2]
    monkeypatch.setattr("harness.reproducing.studies.sensitivity_n.additive.sum_of_terms", product)
    bent, _ = claims.additive_claims(additive_correlations(5, 5, 10))
    assert bent.holds is False


def test_the_metric_removes_subsets_of_the_sizes_that_the_study_writes_beside_its_curves():
    seen = set()

    class Counting(nn.Module):
        def forward(self, inputs):
            seen.update((inputs == 0).flatten(1).sum(1).tolist())
            return inputs.flatten(1) @ torch.arange(2.0 * PIXELS).view(PIXELS, 2)

    options = {"sizes": 16, "largest_share": 0.8, "draws": 3, "baseline": "zero"}
    harness.score(
        "sensitivity_n", Counting().eval(), torch.ones(1, 1, 8, 8), torch.tensor([0]), torch.rand(1, 1, 8, 8), **options
    )
    assert sorted(seen - {0}) == subset_sizes(PIXELS, 16) and subset_sizes(10, SIZES_OF_TABLE, 0.9) == list(
        range(1, 10)
    )


class OneUnit(nn.Module):
    """f(x) = activation(x1 + x2 + bias), of images of two pixels; its negative is the second logit."""

    def __init__(self, activation, bias):
        super().__init__()
        self.inner, self.activation, self.last = nn.Linear(2, 1), activation, nn.Linear(1, 2, bias=False)
        self.inner.weight.data.fill_(1.0)
        self.inner.bias.data.fill_(bias)
        self.last.weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
        self.double().requires_grad_(False).eval()

    def forward(self, inputs):
        return self.last(self.activation(self.inner(inputs.flatten(1))))


def maps_of(module, first, second):
    shown = torch.tensor([[[[first, second]]]], dtype=torch.float64)
    options = OPTIONS | {LRP: {**OPTIONS[LRP], "epsilon": LIMIT}}
    return {
        name: harness.explain(name, module, shown, torch.tensor([0]), **own).flatten().tolist()
        for name, own in options.items()
    }


def test_the_options_of_the_explainers_are_those_that_the_paper_means():
    # relu(x1 + x2 - 1) at (2, 1): 2 there, and its slope is 1 on the last two thirds of the way from 0.
    found = maps_of(OneUnit(nn.ReLU(), -1.0), 2.0, 1.0)
    assert found[TIMES] == pytest.approx([2, 1]) and found[LRP] == pytest.approx([2, 1])
    assert found[DEEP_LIFT] == pytest.approx([4 / 3, 2 / 3])
    assert found[INTEGRATED] == pytest.approx([4 / 3, 2 / 3], rel=0.02)
    assert found[OCCLUSION] == pytest.approx([2, 1])
    # tanh(x1 + x2 + 1) at (1, 0.5), from 0: all four share out by x1 and x2, and differ in how much.
    found, at, zero = maps_of(OneUnit(nn.Tanh(), 1.0), 1.0, 0.5), math.tanh(2.5), math.tanh(1.0)
    for name, slope in {
        TIMES: 1 - at**2,
        LRP: at / 2.5,
        DEEP_LIFT: (at - zero) / 1.5,
        INTEGRATED: (at - zero) / 1.5,
    }.items():
        assert found[name] == pytest.approx([slope, slope / 2], rel=1e-5), name
    assert found[OCCLUSION] == pytest.approx([at - math.tanh(1.5), at - math.tanh(2.0)], rel=1e-5)


def test_a_distance_of_maps_is_a_share_of_the_largest_value():
    first, second = torch.tensor([[1.0, -4.0], [0.0, 1.0]]), torch.tensor([[1.0, -3.0], [0.0, 2.0]])
    assert map_distance(first, second).tolist() == [0.25, 0.5]


@pytest.mark.parametrize("steps", [5, 20, 100])
def test_the_bound_of_integrated_gradients_holds_for_kinks_anywhere_and_is_not_far_off(steps):
    weight, shares = np.polynomial.legendre.leggauss(steps)[1].max() / 2, []
    for bias in np.linspace(-2.9, -0.1, 15):
        module = OneUnit(nn.ReLU(), float(bias))
        shown, target = torch.tensor([[[[2.0, 1.0]]]], dtype=torch.float64), torch.tensor([0])
        bound = float(quadrature_bound(module, shown, target, steps))
        assert bound == pytest.approx(3 * weight)  # the slope jumps once, from 0 to 3
        found = harness.explain("integrated_gradients", module, shown, target, baseline="zero", steps=steps)
        shares.append(abs(float(found.sum()) - (3 + bias)) / bound)
    assert 0.2 < max(shares) <= 1
    straight = OneUnit(nn.Identity(), 0.5)
    assert float(quadrature_bound(straight, shown, target, steps)) < 1e-9


@pytest.mark.parametrize("name", FOUR_NETS)
def test_a_shrunk_net_is_the_net_on_smaller_inputs(name):
    net = small_sequence(*FOUR_NETS[name])
    before = {key: value.clone() for key, value in net.state_dict().items()}
    shown = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    zero = torch.zeros_like(shown)
    for share in (1.0, 0.25):
        torch.testing.assert_close(shrunk(net, share)(shown), (net(share * shown) - net(zero)) / share)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def means_of(*values, error=0.01, images=400):
    return pd.DataFrame({"mean": values, "error": error, "images": images})


def test_the_three_answers():
    assert all_above(means_of(0.1, 0.2)) is True and all_above(means_of(0.1, 0.2), 0.3) is False
    assert all_above(means_of(0.1, 0.02)) is None and all_above(means_of(0.1, -0.05)) is False
    assert all_within(means_of(0.01, -0.01), 0.05) is True and all_within(means_of(0.01, -0.04), 0.05) is None
    assert all_within(means_of(0.01, -0.2), 0.05) is False
    assert all_apart(means_of(0.1, -0.1), 0.01) is True and all_apart(means_of(0.1, -0.02), 0.01) is None
    assert all_apart(means_of(0.1, 0.001, error=0.001), 0.01) is False
    assert both_answers(True, True) is True and both_answers(None, True) is None and both_answers(None, False) is False


def test_a_false_claim_passes_as_seldom_as_is_stated():
    draw, images, times = np.random.default_rng(0), 50, 100_000
    samples = draw.normal(0.0, 1.0, (times, images))
    means = means_of(*samples.mean(1), error=samples.std(1, ddof=1) / np.sqrt(images), images=images)
    reach = half_width(means)
    for passes in (means["mean"] - reach > 0, means["mean"] + reach < 0):
        assert abs(passes.mean() - LEVEL) < 4 * math.sqrt(LEVEL / times)


def planted_curves(score):
    """Tables like those of ``sensitivity_of_net`` in which the mean of an explainer at n is ``score(explainer, n)``."""
    rows, about = [], {"error": 1e-4, "least": 1.0, "images": 200}
    controls = list(CONTROLS_OF_CURVES)
    for net in FOUR_NETS:
        for n in (1, 2, 51, OVER_ALL):
            own = {"net": net, "training": 0, "n": n, **about}
            for name in PAPERS_EXPLAINERS:
                rows.append({**own, "explainer": name, "against": "", "mean": score(name, n)})
            for name in controls:
                images = 0 if name == "constant" else about["images"]
                rows.append({**own, "explainer": name, "against": "", "mean": score(name, n), "images": images})
            for first, second in combinations(PAPERS_EXPLAINERS, 2):
                gap = score(first, n) - score(second, n)
                rows.append({**own, "explainer": first, "against": second, "mean": gap})
    return pd.DataFrame(rows)


def as_recalled(name, n):
    if n == 51:
        return {OCCLUSION: 0.1, TIMES: 0.2, LRP: 0.3, DEEP_LIFT: 0.4, INTEGRATED: 0.4}.get(name, 0.0)
    return {OCCLUSION: 1.0, TIMES: 0.6, LRP: 0.7, DEEP_LIFT: 0.8, INTEGRATED: 0.8}.get(name, 0.0)


def test_orders_hold_where_they_are_planted_and_fail_where_they_are_turned_around():
    right, wrong = planted_curves(as_recalled), planted_curves(lambda name, n: 1 - as_recalled(name, n))
    assert {claim.holds for claim in claims.orders(right)} == {True}
    turned = {claim.name: claim.holds for claim in claims.orders(wrong)}
    assert {holds for name, holds in turned.items() if "separate" not in name} == {False}
    same = planted_curves(lambda name, n: 0.5)
    assert {claim.holds for claim in claims.orders(same)} == {None, False}
    assert {claim.holds for claim in claims.scores_that_are_exact(right)} == {True}
    broken = right.assign(least=0.999, images=200, mean=0.5)
    assert {claim.holds for claim in claims.scores_that_are_exact(broken)} == {False}


def planted_gaps(distance):
    pairs = [*combinations((TIMES, DEEP_LIFT, INTEGRATED, LRP), 2), *((lrp_at(each), LRP) for each in EPSILONS)]
    sums = [(DEEP_LIFT, COMPLETE), (INTEGRATED, COMPLETE), (INTEGRATED, OF_BOUND)]
    rows = [
        {"net": net, "training": 0, "first": first, "second": second, "mean": distance, "most": distance}
        for net in FOUR_NETS
        for first, second in (*pairs, *sums)
    ]
    return pd.DataFrame(rows).assign(error=1e-9, images=100)


def test_equalities_fail_where_maps_differ_and_conditions_are_not_needed_where_they_never_do():
    differing, equal = list(claims.equalities(planted_gaps(1.1))), list(claims.equalities(planted_gaps(0.0)))
    assert {claim.holds for claim in differing if claim.kind == IDENTITY} == {False}
    assert {claim.holds for claim in equal if claim.kind == IDENTITY} == {True}
    assert [[claim.holds for claim in each if claim.kind == PATTERN] for each in (differing, equal)] == [
        [True],
        [False],
    ]


def test_a_missing_difference_is_no_equality():
    gaps = planted_gaps(0.0)
    lacking = pd.concat([gaps, gaps.assign(training=1, mean=np.nan, most=np.nan)])
    assert not any(claim.holds for claim in claims.equalities(lacking) if claim.kind == IDENTITY)


def planted_spreads(near, far):
    rows = []
    for net in (TANH, TANH_BARE):
        for methods in (ALL_FIVE, WITHOUT_LRP):
            for share, spread in ((1.0, far), (0.01, near)):
                for what, mean in (("spread", spread), ("fall", far - spread), ("score", 1 - spread)):
                    rows.append({"net": net, "methods": methods, "share": share, "what": what, "mean": mean})
    return pd.DataFrame(rows).assign(training=0, error=1e-4, images=100)


def test_coming_together_and_staying_apart_exclude_each_other():
    together = [claim.holds for claim in claims.nearly_linear(planted_spreads(0.001, 0.3))]
    apart = [claim.holds for claim in claims.nearly_linear(planted_spreads(0.2, 0.2))]
    assert together == [True, True, False] and apart == [False, False, True]


def test_there_are_no_more_patterns_than_the_level_of_each_counts_on():
    found = [
        *claims.equalities(planted_gaps(0.0)),
        *claims.scores_that_are_exact(planted_curves(as_recalled)),
        *claims.additive_claims(additive_correlations(3, 3, 5)),
        *claims.orders(planted_curves(as_recalled)),
        *claims.nearly_linear(planted_spreads(0.2, 0.2)),
    ]
    assert sum(claim.kind == PATTERN for claim in found) <= PATTERNS
