"""One rule of ties: what is equal but for rounding is equal in ranks, tests, agreement and reliability."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.results.agreement import tau_interval
from harness.results.blocks import across_blocks
from harness.results.choices import standing_over_settings
from harness.results.family import all_pairs
from harness.results.matrices import Matrix
from harness.results.reliability import krippendorff_alpha, signs_of_pairs, split_half, stability, taus
from harness.results.sample_size import enough_samples
from harness.results.statistics import cell_ranks
from harness.results.ties import (
    EQUAL,
    are_one_number,
    difference,
    differences_of_columns,
    differences_on_samples,
    score_levels,
)

SEED = int(os.environ["HARNESS_TEST_SEED"])
NAMES = list("abcd")


def draws(n=30, level=0.0):
    """Scores (n, 4) of which the second column is the first but for the rounding of single precision."""
    scores = np.random.default_rng(SEED).normal(level, size=(n, 4)).astype(np.float32)
    if not level:  # their mean is 0 but for rounding
        scores[n // 2 :, 0] = -scores[: n // 2, 0]
    scores[:, 1] = np.nextafter(scores[:, 0], np.random.default_rng(SEED).choice([-9, 9], n).astype(np.float32))
    return scores.astype(np.float64)


def exact(scores):
    """The same with the second column as the first."""
    return scores[:, [0, 0, 2, 3]]


def matrix(values, **names):
    return Matrix({"metric": "m", **names}, pd.DataFrame(values, columns=NAMES), "higher")


def mean_ranks_over_blocks(values):
    (found,) = across_blocks([matrix(values, model=f"net{place}") for place in range(3)])
    return found.ranks.to_numpy()


def ranks_of_cells(values):
    cells = pd.DataFrame({"value": values.mean(0), "explainer": NAMES}).assign(
        better="higher", metric="m", model="m", dataset="d", status="ok", n=9, n_invalid=0, stick="s", kind="k"
    )
    return cell_ranks(cells.assign(device="cpu", config=None)).to_numpy()


def ranks_over_settings(values):
    frame = (
        pd.DataFrame(values, columns=NAMES).melt(var_name="explainer", ignore_index=False).reset_index(names="sample")
    )
    found = standing_over_settings(frame.assign(metric="m", better="higher"))
    return found[["rank_best", "unbeaten"]].to_numpy()


TOLD = {
    "ranks of cells": ranks_of_cells,
    "ranks over blocks": mean_ranks_over_blocks,
    "ranks over settings": ranks_over_settings,
    "tests": lambda values: all_pairs(matrix(values)).p,
    "tau": lambda values: taus(values, values.mean(0)[None]),
    "interval of tau": lambda values: np.array(tau_interval(values, values[:, ::-1])),
    "alpha": krippendorff_alpha,
    "split-half": lambda values: split_half(matrix(values)),
    "stability": lambda values: stability(matrix(values)).curve.to_numpy(),
    "enough samples": lambda values: np.array([enough_samples(values + [0, 0, 9, 0])], dtype=float),
}


OF_MEANS = ("ranks of cells", "tau")  # that do not see the samples, whose size tells how large rounding is


@pytest.mark.parametrize(
    ("what", "level"), [(what, level) for what in TOLD for level in (0.0, 5.0) if level or what not in OF_MEANS]
)
def test_what_is_equal_but_for_rounding_is_told_as_equal(what, level):
    scores = draws(level=level)
    np.testing.assert_allclose(TOLD[what](scores), TOLD[what](exact(scores)), rtol=1e-5, atol=1e-5)


def near_zero(n=30, share=0.5):
    """Scores (n, 4) of order 1 that are 0 but for rounding, by 1e-8 or 3e-8, on a share of the samples."""
    generator = np.random.default_rng(SEED)
    scores = generator.normal(size=(n, 4)) + [3, 3, 2, 0]
    scores[:, 1] = scores[:, 0]
    scores[: int(share * n)] = 0
    return scores, scores + generator.choice([1e-8, 3e-8], (n, 4)) * (scores == 0)


@pytest.mark.parametrize("what", [what for what in TOLD if what not in OF_MEANS])
def test_scores_that_are_0_but_for_the_rounding_of_those_of_other_samples_are_equal(what):
    exactly, rounded = near_zero()
    np.testing.assert_allclose(TOLD[what](rounded), TOLD[what](exactly), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e9])
@pytest.mark.parametrize("what", [what for what in TOLD if what != "enough samples"])
def test_a_metric_of_any_scale_is_told_apart_as_one_of_order_1(what, scale):
    scores = draws(level=1.0) + [0, 1, 2, 3]
    np.testing.assert_allclose(TOLD[what](scale * scores), TOLD[what](scores), rtol=1e-5, atol=1e-5)
    assert all_pairs(matrix(scale * scores)).differs("a", "d")


def test_neither_a_rare_sample_nor_another_explainer_makes_scores_equal():
    scores = np.random.default_rng(SEED).normal(size=(20, 3)) + [1, 2, 1e12]
    scores[0, :2] = 1e12, -1e12
    found = differences_of_columns(scores, np.array([0]), np.array([1]))[:, 0]
    np.testing.assert_array_equal(found, scores[:, 0] - scores[:, 1])
    np.testing.assert_array_equal(found, differences_on_samples(scores[:, 0], scores[:, 1]))


def test_levels_are_dense_ranks_where_nothing_is_rounded():
    scores = np.random.default_rng(SEED).integers(-3, 4, (50, 6)).astype(float)
    np.testing.assert_array_equal(score_levels(scores), stats.rankdata(scores, method="dense", axis=1) - 1)
    assert score_levels(np.array([2.0, np.nan, 1.0])).tolist()[::2] == [1, 0]
    assert np.isnan(score_levels(np.array([2.0, np.nan, 1.0]))[1]) and score_levels(np.empty((3, 0))).shape == (3, 0)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_two_scores_are_equal_by_their_own_size(scale):
    apart, alike = scale * (1 + 3 * EQUAL), scale * (1 + EQUAL / 3)
    assert difference(np.array([alike, apart]), scale).tolist() == [0, apart - scale]
    assert are_one_number(np.array([scale, alike])) and not are_one_number(np.array([scale, apart]))
    far = np.array([[scale, apart, alike, 1e9 * scale]])  # one that is far away makes no others equal
    assert score_levels(far).tolist() == [[0, 1, 0, 2]]
    assert signs_of_pairs(far)[0].tolist() == [-1, 0, -1, 1, -1, -1]
