"""The verdict names those who are not shown to be worse than the best, and says so where nobody beats a control."""

import io
import re

import numpy as np
import pytest

from harness.results.answer import answer
from harness.results.boards import boards_of_run
from harness.results.frames import read
from harness.results.leaderboard import print_table
from harness.results.store import Store
from worlds import small_run, write_cell


def told(directory):
    (board,) = boards_of_run(directory)
    return answer(board)


def world(directory, scores, *, better="higher", costs=None, sanity=None, metric="srg"):
    store = Store(directory)
    for name, values in scores.items():
        write_cell(store, name, metric, np.asarray(values, dtype=float), better=better)
    for name, seconds in (costs or {}).items():
        write_cell(store, name, "seconds_per_sample", np.full(len(values), seconds))
    for name, similarity in (sanity or {}).items():
        write_cell(
            store,
            name,
            "parameter_randomization",
            np.asarray(similarity),
            kind="sanity",
            better="lower",
            unit="spearman",
        )
    return directory


def noise(seed, place, n=40, size=0.05):
    return np.random.default_rng([seed, place]).normal(0, size, n)


def test_a_clear_best_is_named_alone(tmp_path, seed):
    scores = {"lime": 0.6 + noise(seed, 0), "rise": 0.3 + noise(seed, 1), "random": noise(seed, 2)}
    found = told(world(tmp_path / "r", scores))
    assert found.verdict.choices == ["lime"]
    gain = r"by 0\.\d+ \[0\.5\d+, 0\.6\d+\] of the class probability \(srg\)"
    assert re.match(
        r"Use lime: on these 40 samples it finds what the model uses better than the best control, random, " + gain,
        found.text,
    )
    assert "a cost that was not measured" in found.text and "No sanity check was measured" in found.text


def test_those_not_told_apart_are_named_together_the_cheapest_first(tmp_path, seed):
    common = noise(seed, 9, size=0.3)
    scores = {"lime": 0.6 + common, "rise": 0.6 + common[::-1], "random": noise(seed, 2)}
    found = told(world(tmp_path / "r", scores, costs={"lime": 3.0, "rise": 0.5, "random": 0.1}))
    assert found.verdict.choices == ["rise", "lime"]
    assert "By cost: rise 0.500 s, lime 3.00 s a sample." in found.details
    assert "at 0.500 s a sample. lime (6 times the time) is not shown to be better or worse." in found.text


def test_where_the_control_is_as_good_there_is_no_faithful_explainer(tmp_path, seed):
    scores = {"lime": 0.11 + noise(seed, 0, size=0.5), "random": 0.1 + noise(seed, 1, size=0.5)}
    found = told(world(tmp_path / "r", scores))
    assert found.verdict.choices == []
    assert found.text.startswith("The explainer lime is not shown to find what the model uses")


def test_where_the_control_is_ahead_more_samples_are_not_promised(tmp_path, seed):
    found = told(world(tmp_path / "r", {"lime": 0.1 + noise(seed, 0), "edge": 0.5 + noise(seed, 1)}))
    assert found.verdict.choices == [] and re.search(r"shown to be worse than edge by 0\.(3[89]|4[01])", found.text)
    assert "More of them are not expected to change that." in found.text


def test_the_samples_that_would_be_needed_follow_the_effect(tmp_path, seed):
    """Differences of mean 0.4 standard deviations take 52 samples at 80 % power (Cohen 1988), rounded up to 60."""
    differences = np.random.default_rng(seed).normal(size=20)
    differences = (differences - differences.mean()) / differences.std(ddof=1) + 0.4
    found = told(world(tmp_path / "r", {"lime": differences, "random": np.zeros(20)}))
    needed = re.search(r"about (\d+) samples \(a rough estimate; ", found.text)
    # One pair of explainers: the critical value of its family is nearly that of one test.
    assert found.verdict.choices == [] and int(needed[1]) in (60, 70)


def test_lower_is_better_where_the_metric_says_so(tmp_path, seed):
    scores = {"lime": 0.1 + noise(seed, 0), "rise": 0.5 + noise(seed, 1), "random": 0.7 + noise(seed, 2)}
    found = told(world(tmp_path / "r", scores, better="lower", metric="deletion"))
    assert found.verdict.choices == ["lime"] and "deletion, lower is better" in found.details[0]


def test_who_fails_a_check_of_sanity_is_left_out(tmp_path, seed):
    scores = {"lime": 0.6 + noise(seed, 0), "rise": 0.6 + noise(seed, 0)[::-1], "random": noise(seed, 2)}
    sanity = {"lime": 0.95 + noise(seed, 3, size=0.01), "rise": noise(seed, 4)}
    found = told(world(tmp_path / "r", scores, sanity=sanity))
    assert found.verdict.choices == ["rise"]
    assert "Left out because they fail a sanity check: lime." in found.details


def test_where_all_of_the_best_fail_sanity_nobody_is_named(tmp_path, seed):
    scores = {"lime": 0.6 + noise(seed, 0), "random": noise(seed, 2)}
    found = told(world(tmp_path / "r", scores, sanity={"lime": 0.95 + noise(seed, 3, size=0.01)}))
    assert found.verdict.choices == []
    assert found.text.startswith("None to recommend: on these 40 samples lime scores best, but fails a sanity check.")


def test_without_controls_it_says_what_is_missing(tmp_path, seed):
    found = told(world(tmp_path / "r", {"lime": 0.6 + noise(seed, 0), "rise": 0.1 + noise(seed, 1)}))
    assert found.verdict.choices == ["lime"] and "No control was compared" in found.text


@pytest.mark.parametrize(
    ("scores", "word"),
    [
        ({"lime": [0.5], "random": [0.1]}, "a comparison needs two samples"),
        ({"random": [0.5, 0.1], "edge": [0.2, 0.3]}, "only controls"),
    ],
)
def test_what_cannot_be_judged_has_no_verdict(tmp_path, scores, word):
    found = told(world(tmp_path / "r", scores))
    assert found.verdict.choices == [] and found.text.startswith("No verdict") and word in found.text


def test_the_small_world_is_judged_as_it_was_made(tmp_path, seed):
    found = told(small_run(tmp_path / "r", seed, means={"lime": 0.6, "saliency": 0.2, "random": 0.0}))
    assert found.verdict.choices == ["lime"]


@pytest.mark.parametrize("level", [0.95, -0.5])
def test_an_explainer_with_a_score_on_few_samples_decides_nothing(tmp_path, seed, level):
    few = np.full(40, np.nan)
    few[:3] = level + noise(seed, 3, n=3, size=0.01)
    scores = {"lime": 0.6 + noise(seed, 0), "rise": 0.3 + noise(seed, 1), "random": noise(seed, 2), "lrp": few}
    found = told(world(tmp_path / "r", scores))
    assert found.verdict.choices == ["lime"] and "on these 40 samples" in found.text
    assert "Not compared because too few samples have a score: lrp (3 of 40)." in found.details


def test_means_are_compared_on_the_samples_that_all_have(tmp_path, seed):
    hard = np.where(np.arange(40) < 3, -2.0, 0.0)
    better = 0.65 + hard + noise(seed, 0)
    flattered = np.where(np.arange(40) < 3, np.nan, 0.55 + noise(seed, 1, size=0.01))  # lacks the three hard samples
    assert np.nanmean(flattered) > better.mean()
    found = told(world(tmp_path / "r", {"lime": better, "rise": flattered, "random": hard + noise(seed, 2)}))
    assert found.verdict.choices == ["lime"]
    assert "Compared on the 37 of 40 samples on which all the others have a score." in found.details


def test_fewer_samples_than_a_test_can_tell_from_are_never_told_to_be_enough(tmp_path, seed):
    found = told(world(tmp_path / "r", {"lime": 0.6 + noise(seed, 0, n=4), "random": noise(seed, 1, n=4)}))
    assert not found.verdict.choices and "about 6 samples" in found.text
    assert "4 samples cannot show any difference: 6 are the fewest." in found.text


def test_of_those_not_told_apart_only_who_is_shown_to_beat_the_control_is_named(tmp_path, seed):
    wide = 0.6 + noise(seed, 1, size=3.0)
    scores = {"lime": 0.6 + noise(seed, 0), "rise": wide - wide.mean() + 0.3, "random": noise(seed, 2)}
    found = told(world(tmp_path / "r", scores))
    assert found.verdict.choices == ["lime"]
    assert "rise may be as good, but is not yet shown to beat random." in found.text
    needed = r"Provisional: about [\d,]+ samples \((at least \d+|a rough estimate); .*\) would tell lime from rise\."
    assert re.search(needed, found.text)
    assert "Not shown to beat every control (the best one not beaten): rise (random)." in found.details


def test_a_table_of_few_samples_says_that_it_can_show_no_difference(tmp_path):
    def printed(n):
        store = Store(tmp_path / str(n))
        for name, level in (("lime", 1.0), ("random", 0.0)):
            write_cell(store, name, "srg", level + np.arange(n) / 10)
        file = io.StringIO()
        print_table(*read(tmp_path / str(n)), file=file)
        return " ".join(file.getvalue().split())

    note = "no differences can be shown: srg: 6 samples are the fewest for a test"
    assert note in printed(5) and note not in printed(6)


def test_one_that_is_not_the_best_is_recommended_where_only_it_beats_the_controls(tmp_path, seed):
    """The best mean is uncertain; the second one is shown to beat the control: neither is shown to be worse."""
    wide = 0.7 + noise(seed, 1, size=3.0)
    scores = {"best": wide - wide.mean() + 0.7, "second": 0.4 + noise(seed, 0), "random": noise(seed, 2)}
    found = told(world(tmp_path / "r", scores))
    assert found.verdict.best == "best" and found.verdict.choices == ["second"]
    assert (
        found.text.startswith("Use second: ")
        and "best may be as good, but is not yet shown to beat random" in found.text
    )


def test_no_choice_is_shown_to_be_worse_than_another_one(tmp_path, seed):
    """``cheap`` is not shown to be worse than the noisy best, but than ``mid``."""
    wide = 0.6 + noise(seed, 1, size=1.0)
    small = noise(seed, 0, size=0.2)
    scores = {
        "best": wide - wide.mean() + 0.9,
        "mid": 0.65 + small,
        "cheap": 0.6 + small + noise(seed, 3, size=0.001),
        "random": -2 + noise(seed, 2),
    }
    found = told(world(tmp_path / "r", scores, costs={"best": 3.0, "mid": 2.0, "cheap": 0.1, "random": 0.1}))
    assert found.verdict.choices == ["mid", "best"] and "cheap" in found.verdict.near


def test_a_control_without_enough_scores_is_named_in_the_answer(tmp_path, seed):
    few = 0.9 + noise(seed, 3)
    few[5:20] = np.nan
    found = told(world(tmp_path / "r", {"lime": 0.5 + noise(seed, 0), "random": noise(seed, 1), "edge": few}))
    assert found.verdict.choices == ["lime"]
    assert "Not compared, since too few samples have a score: edge (control)." in found.text


def test_equal_scores_are_no_lead_and_no_lag(tmp_path):
    same = np.arange(20) / 20
    found = told(world(tmp_path / "r", {"lime": same, "random": same}))
    assert "It scores the same as random" in found.text


def test_the_best_that_fails_a_check_of_sanity_is_told(tmp_path, seed):
    scores = {"lime": 0.7 + noise(seed, 0, size=0.3), "rise": 0.68 + noise(seed, 1, size=0.3), "random": noise(seed, 2)}
    sanity = {"lime": 0.95 + noise(seed, 3, size=0.01), "rise": noise(seed, 4)}
    found = told(world(tmp_path / "r", scores, sanity=sanity))
    assert (
        found.verdict.choices == ["rise"] and "lime is not shown to be worse, but fails a sanity check." in found.text
    )


def test_without_a_control_only_the_best_is_called_best(tmp_path, seed):
    scores = {"lime": 0.7 + noise(seed, 0, size=0.3), "rise": 0.68 + noise(seed, 1, size=0.3)}
    found = told(world(tmp_path / "r", scores, costs={"lime": 2.0, "rise": 0.1}))
    first, best = found.verdict.choices[0], found.verdict.best
    assert first == "rise"
    assert found.text.startswith(
        "rise scores best" if best == "rise" else "rise is the cheapest of those not shown to be worse than lime"
    )


def test_where_only_one_that_fails_a_check_beats_the_controls_the_best_is_told_too(tmp_path, seed):
    wide = 0.7 + noise(seed, 1, size=3.0)
    scores = {"best": wide - wide.mean() + 0.7, "second": 0.4 + noise(seed, 0), "random": noise(seed, 2)}
    sanity = {"best": noise(seed, 4), "second": 0.95 + noise(seed, 3, size=0.01)}
    found = told(world(tmp_path / "r", scores, sanity=sanity))
    assert found.verdict.choices == []
    assert found.sentences[0] == (
        "None to recommend: second beats the controls on these 40 samples, but fails a sanity check."
    )
    assert found.sentences[1].startswith("The best, best, is ahead of random by 0.") and "Provisional" in found.text


def test_a_cost_that_another_run_disturbed_is_told_with_its_reason(tmp_path, seed):
    directory = world(tmp_path / "r", {"lime": 0.6 + noise(seed, 0), "random": noise(seed, 1)})
    disturbed = "the device was shared with another run"
    write_cell(Store(directory), "lime", "seconds_per_sample", np.full(40, np.nan), error=disturbed)
    assert f"at a cost that was not measured ({disturbed})." in told(directory).text
