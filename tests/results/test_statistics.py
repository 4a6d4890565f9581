"""The interval is the BCa bootstrap's and covers what it should; ranks say nothing that the numbers do not."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.results import statistics
from harness.results.statistics import cell_ranks, interval, not_comparable, summarise

SEED = int(os.environ["HARNESS_TEST_SEED"])
DRAWS = {
    "normal": lambda rng, n: rng.normal(3, 2, n),
    "skewed": lambda rng, n: rng.exponential(size=n),
    "heavy": lambda rng, n: rng.standard_t(3, n),
    "tied": lambda rng, n: np.round(rng.normal(size=n) * 2),
}


@pytest.mark.parametrize("n", [10, 40, 300])
@pytest.mark.parametrize("kind", DRAWS)
def test_the_interval_agrees_with_scipys_within_the_noise_of_resampling(kind, n):
    scores = DRAWS[kind](np.random.default_rng(SEED), n)
    theirs = np.array([scipys_interval(scores, SEED + i) for i in range(4)])
    ours = np.array([interval(scores, seed=i) for i in range(4)])
    noise = theirs.std(axis=0).max() + ours.std(axis=0).max()
    error = scores.std() / np.sqrt(n)
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 3 * noise + 0.02 * error, SEED


def scipys_interval(scores, seed):
    found = stats.bootstrap((scores,), np.mean, n_resamples=10_000, method="BCa", batch=1000, rng=seed)
    return tuple(found.confidence_interval)


@pytest.mark.parametrize("kind", [*DRAWS, "yes or no"])
def test_the_interval_is_efrons_formula_on_its_resamples(kind):
    rng = np.random.default_rng(SEED)
    scores = np.arange(12) % 3 == 0.0 if kind == "yes or no" else DRAWS[kind](rng, 12)
    scores = scores * 1.0
    assert np.allclose(interval(scores), efron(scores), rtol=1e-9, atol=1e-9), SEED


def efron(scores):
    """Efron's interval word by word: bias from the share of lower resampled means, acceleration from the jackknife."""
    counts = np.concatenate(list(statistics._resamples(len(scores), 0)))
    means = np.array([np.repeat(scores, times).mean() for times in counts])
    apart = means - scores.mean()
    lower = np.where(np.abs(apart) < 1e-12, 0.5, apart < 0).mean()  # a tie is half below
    without = np.array([np.delete(scores, i).mean() for i in range(len(scores))])
    differences = without.mean() - without
    acceleration = (differences**3).sum() / (6 * (differences**2).sum() ** 1.5)
    bias, shares = stats.norm.ppf(lower), []
    for z in stats.norm.ppf([0.025, 0.975]):
        shares.append(stats.norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z))))
    return np.quantile(means, shares)


def test_yes_or_no_scores_agree_with_scipys_to_the_step():
    scores = (np.random.default_rng(SEED).random(50) < 0.3) * 1.0
    assert np.abs(np.subtract(interval(scores), scipys_interval(scores, SEED))).max() < 1.01 / 50, SEED


@pytest.mark.parametrize("kind", ["normal", "skewed"])
def test_the_interval_covers_the_true_mean_about_as_often_as_it_says(kind):
    rng, truth, repetitions = np.random.default_rng(SEED), {"normal": 3, "skewed": 1}[kind], 1000
    hits = 0
    for _ in range(repetitions):
        low, high = interval(DRAWS[kind](rng, 60))
        hits += low <= truth <= high
    # BCa falls short of 0.95 by about 0.01 to 0.02 at n = 60; four standard errors of the simulation are 0.03.
    assert 0.905 < hits / repetitions < 0.98, SEED


def test_the_resamples_are_the_same_for_all_explainers_and_every_time():
    scores = np.random.default_rng(SEED).normal(size=(2, 30))
    first = [interval(each) for each in scores]
    statistics._resamples_in_memory.clear()
    assert [interval(each) for each in scores] == first
    # Common resamples: explainers that differ by a constant have intervals that differ by just it.
    assert np.allclose(np.subtract(interval(scores[0] + 5), first[0]), 5)


def test_another_seed_draws_other_resamples():
    scores = np.random.default_rng(SEED).normal(size=30)
    assert interval(scores, seed=0) != interval(scores, seed=1)


def test_resamples_drawn_anew_for_large_n_are_those_that_would_be_kept(monkeypatch):
    scores = np.random.default_rng(SEED).exponential(size=500)
    kept = interval(scores)
    monkeypatch.setattr(statistics, "MOST_KEPT_BYTES", 0)
    assert interval(scores) == kept


def test_kept_resamples_stay_within_their_memory(monkeypatch):
    monkeypatch.setattr(statistics, "MOST_KEPT_BYTES", 1_000_000)
    monkeypatch.setattr(statistics, "_resamples_in_memory", {})
    for n in (20, 40, 60, 100, 30):
        interval(np.arange(n, dtype=float))
    assert sum(counts.nbytes for counts in statistics._resamples_in_memory.values()) <= 1_000_000
    assert (30, 0) in statistics._resamples_in_memory


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1e6, 1e200])
def test_the_interval_scales_with_the_scores(scale):
    scores = np.random.default_rng(SEED).normal(size=25)
    assert np.allclose(np.array(interval(scores * scale)) / scale, interval(scores), rtol=1e-9)


def test_one_score_has_a_mean_but_no_interval():
    found = summarise(np.array([0.3]))
    assert found["value"] == 0.3 and found["n"] == 1
    assert np.isnan([found["std"], found["ci_low"], found["ci_high"]]).all()


def test_equal_scores_have_their_value_as_mean_and_interval():
    found = summarise(np.full(7, 0.1))
    assert (found["value"], found["std"], found["ci_low"], found["ci_high"]) == (0.1, 0.0, 0.1, 0.1)


def test_scores_that_differ_in_their_last_digit_have_an_interval_among_them():
    draws = np.random.default_rng(SEED)
    for _ in range(100):
        steps = (draws.random(20) < 0.3) * draws.integers(1, 4, 20)
        scores = 1 - steps * np.finfo(float).eps / 2
        low, high = interval(scores)
        assert scores.min() <= low <= high <= scores.max()


def test_no_valid_score_gives_nan_not_zero():
    found = summarise(np.array([np.nan, np.nan]))
    assert (found["n"], found["n_invalid"]) == (0, 2)
    assert np.isnan([found[name] for name in ("value", "std", "ci_low", "ci_high")]).all()


def test_invalid_nan_and_infinite_scores_are_counted_and_enter_nothing_else():
    scores = np.random.default_rng(SEED).normal(size=12)
    spoiled = np.concatenate([scores, [np.nan, np.inf, 99.0]])
    found = summarise(spoiled, np.arange(15) != 14)
    assert found == {**summarise(scores), "n_invalid": 3}
    assert found["std"] == pytest.approx(scores.std(ddof=1))


def cells(values, better="higher", metric="srg", **more):
    frame = pd.DataFrame({"value": values, "better": better, "metric": metric, "model": "m", "dataset": "d"})
    about = {
        "status": "ok",
        "n": 20,
        "n_invalid": 0,
        "stick": "s",
        "kind": "faithfulness",
        "device": "cpu",
        "config": None,
    }
    names = [f"e{i}" for i in range(len(frame))]
    return frame.assign(explainer=names, **{"config": None, **about, **more})


def test_ranks_respect_the_direction():
    assert cell_ranks(cells([0.1, 0.3, 0.2])).tolist() == [3, 1, 2]
    assert cell_ranks(cells([0.1, 0.3, 0.2], better="lower")).tolist() == [1, 3, 2]


def test_ties_share_the_better_rank():
    assert cell_ranks(cells([0.3, 0.1, 0.3, 0.2])).tolist() == [1, 4, 1, 3]
    assert cell_ranks(cells([0.3, 0.3 + 1e-9, 0.0])).tolist() == [1, 1, 3]


def test_a_metric_without_a_direction_has_no_ranks():
    assert cell_ranks(cells([0.1, 0.2], better=None)).isna().all()
    assert cell_ranks(cells([0.1, 0.2], metric="monotonicity", kind="check")).isna().all()


def test_failed_cells_have_no_rank_and_do_not_spoil_the_others():
    frame = cells([0.1, np.nan, 0.2], status=["ok", "failed", "ok"], n=[20, 0, 20])
    assert cell_ranks(frame).fillna(0).tolist() == [2, 0, 1]


def test_models_data_sets_metrics_and_protocols_are_ranked_apart():
    protocol = [json.dumps({"protocol": {"samples": n}}) for n in (20, 50)]
    parts = [
        cells([0.1, 0.2]),
        cells([0.4, 0.3]).assign(model="other"),
        cells([0.1, 0.2], "lower", "deletion"),
        cells([1.0, 2.0], config=protocol[1], n=50),
    ]
    parts[0]["config"] = protocol[0]
    assert cell_ranks(pd.concat(parts, ignore_index=True)).tolist() == [2, 1, 1, 2, 1, 2, 2, 1]


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        ({"n": [20, 19]}, "not all have a score on the same samples"),
        ({"n": 19, "n_invalid": 1}, "not all have a score on the same samples"),
        ({"valid": [1, 2]}, "not all have a score on the same samples"),
        ({"stick": ["s", "t"]}, "code versions of the measurement differ"),
        ({"kind": "cost", "device": ["cpu", "cuda"]}, "different devices"),
    ],
)
def test_what_is_not_comparable_has_no_rank_and_a_reason(difference, reason):
    frame = cells([0.1, 0.2]).assign(**difference)
    assert cell_ranks(frame).isna().all()
    assert not_comparable(frame).str.contains(reason).all()


def test_an_explainer_with_two_cells_under_one_name_is_not_ranked():
    frame = cells([0.1, 0.2, 0.3]).assign(explainer=["a", "a", "b"])
    assert cell_ranks(frame).isna().all()
