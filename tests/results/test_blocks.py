"""Ranks over models and data sets: Friedman, Iman and Davenport, Nemenyi."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.results.blocks import across_blocks, critical_difference, iman_davenport
from harness.results.matrices import Matrix

SEED = int(os.environ["HARNESS_TEST_SEED"])
NAMES = ["a", "b", "c", "d"]


def world(blocks, shift=(0, 0, 0, 0), better="higher", samples=12):
    generator = np.random.default_rng(SEED)
    for number in range(blocks):
        values = generator.normal(size=(samples, 4)) + np.array(shift)
        yield Matrix(
            {"model": f"net{number}", "dataset": "d", "metric": "m"}, pd.DataFrame(values, columns=NAMES), better
        )


@pytest.mark.parametrize(
    ("explainers", "published"),
    [
        (2, 1.960),
        (3, 2.343),
        (4, 2.569),
        (5, 2.728),
        (6, 2.850),
        (7, 2.949),
        (8, 3.031),
        (9, 3.102),
        (10, 3.164),
    ],
)
def test_the_critical_values_are_those_of_demsars_table(explainers, published):
    blocks = 14
    q = critical_difference(explainers, blocks) / np.sqrt(explainers * (explainers + 1) / (6 * blocks))
    assert q == pytest.approx(published, abs=1e-3)


def test_demsars_example_has_a_critical_difference_of_one_and_a_quarter():
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


@pytest.mark.parametrize("tied", [False, True])
def test_the_f_statistic_follows_from_friedmans_as_scipy_has_it(tied):
    values = np.random.default_rng(SEED).normal(size=(12, 5))
    values = values.round() if tied else values
    chi = stats.friedmanchisquare(*values.T).statistic
    ranks = stats.rankdata(values, axis=1)
    found, degrees, p = iman_davenport(ranks)
    expected = 11 * chi / (12 * 4 - chi)
    assert found == pytest.approx(expected) and degrees == (4, 44) and p == pytest.approx(stats.f.sf(expected, 4, 44))


def test_blocks_that_all_rank_alike_are_beyond_chance():
    assert iman_davenport(np.tile([1.0, 2.0, 3.0], (10, 1)))[0] == np.inf


def test_fewer_than_eight_blocks_are_described_and_not_tested():
    (found,) = across_blocks(world(7))
    assert "descriptive only: 7 blocks" in found.refused and np.isnan(found.p) and not found.groups


def test_a_planted_order_is_found_and_grouped():
    (found,) = across_blocks(world(12, (3, 3, 0, 0)))
    assert found.p < 1e-4 and set(found.mean_ranks.index[:2]) == {"a", "b"}
    assert sorted(map(sorted, found.groups)) == [["a", "b"], ["c", "d"]]


def test_lower_is_better_where_the_metric_says_so():
    (found,) = across_blocks(world(9, (-3, 0, 0, 0), better="lower"))
    assert found.mean_ranks.index[0] == "a" and found.mean_ranks.iloc[0] == 1


def test_there_is_no_rank_over_holes():
    blocks = list(world(9))
    blocks[3] = Matrix(blocks[3].names, blocks[3].values.drop(columns="b"), "higher")
    (found,) = across_blocks(blocks)
    assert set(found.mean_ranks.index) == {"a", "c", "d"}


@pytest.mark.parametrize("kept", [3, 12])
def test_an_explainer_with_few_scores_is_left_out_with_its_name_and_takes_no_samples_from_the_others(kept):
    blocks = list(world(9, (3, 2, 1, 0), samples=100))
    (whole,) = across_blocks([each.without(["d"]) for each in blocks])
    sparse = blocks[3].values.copy()
    sparse.iloc[kept:, 3] = np.nan
    blocks[3] = Matrix(blocks[3].names, sparse, "higher")
    (found,) = across_blocks(blocks)
    pd.testing.assert_frame_equal(found.ranks, whole.ranks)
    assert found.left_out == (f"d (net3 | d: a score on {kept} of 100 samples)",) and whole.left_out == ()


def test_a_block_without_a_common_sample_and_an_explainer_that_one_lacks_are_named():
    blocks = list(world(9, samples=11))
    blocks[3] = Matrix(blocks[3].names, blocks[3].values.drop(columns="b"), "higher")
    many = np.random.default_rng(SEED).normal(size=(11, 11))
    names = [f"e{place}" for place in range(11)]
    holes = np.where(np.eye(11), np.nan, many)  # each lacks one sample of eleven
    pages = [
        Matrix({**blocks[place].names, "metric": "k"}, pd.DataFrame(many, columns=names), "higher") for place in (0, 1)
    ]
    pages.append(Matrix({**blocks[2].names, "metric": "k"}, pd.DataFrame(holes, columns=names), "higher"))
    of_m, of_k = across_blocks([*blocks, *pages])
    assert of_m.left_out == ("b (net3 | d: no score)",)
    assert len(of_k.ranks) == 2 and of_k.left_out == ("net2 | d (no sample on which all explainers have a score)",)


def test_metrics_without_a_direction_are_not_ranked():
    assert across_blocks(world(9, better=None)) == []


def test_seeds_of_one_model_and_data_set_are_no_blocks_of_their_own():
    seeds = [
        Matrix({"model": "net", "dataset": "d", "protocol": f"seed={number}", "metric": "m"}, each.values, "higher")
        for number, each in enumerate(world(12, shift=(0, 1, 2, 3)))
    ]
    (found,) = across_blocks(seeds)
    assert len(found.ranks) == 1 and found.refused and np.isnan(found.p)
    assert sorted(found.ranks.iloc[0]) == [1, 2, 3, 4]
    (found,) = across_blocks([*seeds, *world(7)])
    assert len(found.ranks) == 8 and not found.refused
