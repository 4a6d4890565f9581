"""The race: a best candidate is dropped with a probability of at most alpha, however often one looks."""

import numpy as np
import pytest
from scipy import stats

from harness.choosing.race import Race
from harness.errors import UserError
from harness.results.betting import rejected

ALPHA, LOOKS, RUNS = 0.05, 20, 300
WORLDS = {
    "normal": lambda rng, n, k: np.clip(rng.normal(0.2, 0.3, (n, k)), -1, 1),
    "rare": lambda rng, n, k: (rng.random((n, k)) < 0.05).astype(float),
    "skewed": lambda rng, n, k: rng.beta(0.3, 3, (n, k)),
    "uneven": lambda rng, n, k: np.clip(rng.normal(0, 1, (n, k)) * np.geomspace(0.02, 0.4, k), -1, 1),
}


def played(scores, looks=LOOKS, bounds=(-1.0, 1.0), alpha=ALPHA):
    """A race on scores (n, K), with a look after each of ``looks`` equal blocks; the names of the dropped."""
    names = [f"c{number}" for number in range(scores.shape[1])]
    race, dropped = Race(names, bounds=bounds, alpha=alpha), []
    for block in np.array_split(scores, looks):
        race.play({name: block[:, names.index(name)] for name in race.taking_part})
        dropped += [drop.name for drop in race.drop()]
    return race, dropped


def most_by_chance(runs, share):
    """As many of ``runs`` as a share of ``share`` exceeds with a probability of one in a thousand."""
    return stats.binom.isf(1e-3, runs, share)


@pytest.mark.parametrize("count", [2, 5, 20])
@pytest.mark.parametrize("world", WORLDS)
def test_no_best_candidate_is_dropped_more_often_than_alpha_in_twenty_looks(world, count):
    rng = np.random.default_rng([count, len(world)])
    false = sum(bool(played(WORLDS[world](rng, 100, count))[1]) for _ in range(RUNS // count + 50))
    assert false <= most_by_chance(RUNS // count + 50, ALPHA)


def test_looking_with_a_t_test_breaks_the_promise_that_the_race_keeps():
    rng, false, runs = np.random.default_rng(1), 0, 200
    for _ in range(runs):
        differences = np.subtract(*WORLDS["normal"](rng, 200, 2).T)
        looks = (differences[:end] for end in range(10, 201, 10))
        false += any(stats.ttest_1samp(each, 0).pvalue <= ALPHA for each in looks)
    assert false > most_by_chance(runs, ALPHA)


@pytest.mark.parametrize("heavy", ["cauchy", "t2"])
def test_symmetric_bets_keep_the_promise_for_scores_without_limits(heavy):
    rng, false, runs = np.random.default_rng(2), 0, 150
    for _ in range(runs):
        scores = rng.standard_cauchy((100, 5)) if heavy == "cauchy" else rng.standard_t(2, (100, 5))
        false += bool(played(scores, bounds=None)[1])
    assert false <= most_by_chance(runs, ALPHA)


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_symmetric_bets_do_not_depend_on_the_scale_of_the_scores(scale):
    scores = np.random.default_rng(3).normal(0, 1, (60, 4)) + [1, 0, 0, 0]
    race, dropped = played(scores, bounds=None)
    other, dropped_there = played(scores * scale, bounds=None)
    assert dropped == dropped_there and dropped
    assert [row["wealth"] for row in other.table()] == pytest.approx([row["wealth"] for row in race.table()])


def test_worse_candidates_are_dropped_and_the_worse_the_sooner():
    rng = np.random.default_rng(4)
    means = np.array([0.6, 0.4, 0.2, -0.2])
    race, dropped = played(np.clip(rng.normal(means, 0.15, (800, 4)), -1, 1), looks=100)
    assert dropped == ["c3", "c2", "c1"] and race.taking_part == ["c0"]


def test_equal_candidates_are_never_told_apart():
    column = np.random.default_rng(5).random((500, 1))
    _, dropped = played(np.repeat(column, 3, axis=1))
    assert dropped == []


def test_where_one_looks_changes_no_wealth():
    scores = WORLDS["normal"](np.random.default_rng(6), 60, 5)
    wealth = lambda race: [row["wealth"] for row in race.table()]
    assert wealth(played(scores, looks=1)[0]) == pytest.approx(wealth(played(scores, looks=12)[0]))


def test_who_enters_late_catches_up_block_by_block_and_changes_nobodys_wealth():
    scores = WORLDS["normal"](np.random.default_rng(7), 40, 3)
    names = ["a", "b", "late"]
    race = Race(names, bounds=(-1, 1), alpha=ALPHA, late=["late"])
    for block in (scores[:20], scores[20:]):
        race.play({"a": block[:, 0], "b": block[:, 1]})
    before = {row["explainer"]: row["wealth"] for row in race.table()}
    race.catch_up("late", scores[:20, 2])
    assert race.taking_part == ["a", "b"]
    race.catch_up("late", scores[20:, 2])
    assert race.taking_part == names
    after = {row["explainer"]: row["wealth"] for row in race.table()}
    assert (after["a"], after["b"]) == (before["a"], before["b"])
    with pytest.raises(UserError, match="no block to catch up"):
        race.catch_up("late", scores[:20, 2])


def test_a_best_candidate_that_enters_late_is_not_dropped_more_often_than_alpha():
    rng, false, runs = np.random.default_rng(8), 0, 150
    for _ in range(runs):
        scores = WORLDS["skewed"](rng, 80, 5)
        race = Race(list("abcde"), bounds=(0, 1), alpha=ALPHA, late=["e"])
        dropped = []
        for block in np.array_split(scores, 4):
            race.play({name: block[:, "abcde".index(name)] for name in race.taking_part})
            dropped += race.drop()
        for block in np.array_split(scores[:, 4], 4):
            if "e" not in [each.name for each in dropped]:
                race.catch_up("e", block)
                dropped += race.drop()
        false += bool(dropped)
    assert false <= most_by_chance(runs, ALPHA)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"a": [0.1]}, "scores came of a"),
        ({"a": [0.1, 0.2], "b": [0.1]}, "samples came, expected one number"),
        ({"a": [0.1], "b": [float("nan")]}, "NaN"),
        ({"a": [0.1], "b": [3.0]}, "expected -1 to 1"),
    ],
)
def test_a_mistake_is_told_in_one_line(scores, words):
    race = Race(["a", "b"], bounds=(-1, 1), alpha=ALPHA)
    with pytest.raises(UserError, match=words) as told:
        race.play({name: np.array(each) for name, each in scores.items()})
    assert "\n" not in str(told.value)


def test_the_level_is_that_of_closed_testing_and_no_more():
    a = 0.05
    two = lambda first, second: rejected(np.log([first, second]), a).tolist()
    assert two(41, 0.01) == [True, False] and two(39, 0.01) == [False, False]  # with the other: (40 + 0.01) / 2 >= 20
    assert two(30, 30) == [True, True] and two(30, 9) == [False, False]
    alone = np.full(5, -np.inf)
    alone[2] = np.log(5 / a) + 1e-9
    assert rejected(alone, a).tolist() == [False, False, True, False, False]
    alone[2] = np.log(5 / a) - 1e-6
    assert not rejected(alone, a).any()


def test_one_that_has_not_caught_up_is_dropped_by_its_own_wealth_alone_and_counts_as_nothing_for_others():
    rng = np.random.default_rng(3)
    race = Race(["best", "late"], bounds=(-1.0, 1.0), alpha=ALPHA, late=["late"])
    for _ in range(6):
        race.play({"best": np.clip(rng.normal(0.8, 0.05, 20), -1, 1)})
    seen = 0
    while not race.drop_late("late"):
        assert race._bets.log_wealth[1] < np.log(2 / ALPHA)
        race.catch_up("late", np.clip(rng.normal(-0.8, 0.05, 20), -1, 1))
        seen += 1
    assert 0 < seen < 6 and race._bets.log_wealth[1] >= np.log(2 / ALPHA)
