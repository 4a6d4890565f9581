"""Agreement of the settings of a published table, or of anybody's."""

import os

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.errors import UserError
from harness.results.reference import SRG, distinct_rankings, kendall_w, pairwise_tau, read

SEED = int(os.environ["HARNESS_TEST_SEED"])
# Blücher et al. 2024 (2401.06654): seven explainers in 40 settings; the numbers of rankings are printed in the paper.
PUBLISHED = {"MIF AUC": (0.439, 0.460, 17), "LIF AUC": (0.619, 0.707, 23), "SRG (LIF - MIF)": (0.906, 0.960, 7)}


def figures(table):
    return pairwise_tau(table), kendall_w(table), distinct_rankings(table)


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "mine.csv"
        path.write_text(text)
        return path

    return written


def test_the_published_figures_of_srg_come_out():
    tables = read(SRG)
    assert set(tables) == set(PUBLISHED)
    assert all(table.shape == (40, 7) for table in tables.values())
    for metric, published in PUBLISHED.items():
        assert figures(tables[metric]) == pytest.approx(published, abs=5e-4)


def test_the_figures_of_a_drawn_table_with_ties_are_scipys():
    values = np.random.default_rng(SEED).normal(size=(9, 6)).round()
    taus = [stats.kendalltau(a, b).statistic for i, a in enumerate(values) for b in values[:i]]
    friedman = stats.friedmanchisquare(*values.T).statistic  # corrected for ties: W = chi2 / (m (k - 1))
    table = pd.DataFrame(values)
    assert pairwise_tau(table) == pytest.approx(np.mean(taus))
    assert kendall_w(table) == pytest.approx(friedman / (9 * 5))
    assert distinct_rankings(table) == len({tuple(stats.rankdata(row)) for row in values})


def test_the_same_ranking_everywhere_agrees_whatever_the_scores():
    scores = np.exp(np.arange(5.0)) * [[1], [10], [0.1]]
    assert figures(pd.DataFrame(scores)) == (1, pytest.approx(1), 1)


def test_a_wide_and_a_long_file_give_one_table(write):
    wide = read(write("method,a,b\nlime,0.1,0.3\nrise,0.2,0.1\n"), better="lower")["mine"]
    long = "explainer,setting,value,better\nlime,a,0.1,lower\nlime,b,0.3,lower\nrise,a,0.2,lower\nrise,b,0.1,lower\n"
    pd.testing.assert_frame_equal(read(write(long))["mine"], wide)
    assert wide.loc["a", "lime"] == -0.1 and figures(wide) == (-1, 0, 2)


def test_a_direction_that_is_given_replaces_that_of_the_file(write):
    rows = [f"{method},{setting},{metric}" for method in ("lime", "rise") for setting in "ab" for metric in "mk"]
    told = {"m": "lower", "k": ""}
    lines = [f"{row},{place},{told[row[-1]]}" for place, row in enumerate(rows)]
    path = write("\n".join(["method,setting,metric,value,better", *lines]))
    assert set(read(path)) == {"m"}
    both = read(path, better={"m": "higher", "k": "lower"})
    assert both["m"].loc["b", "rise"] == 6 and both["k"].loc["b", "rise"] == -7


HEAD = "method,setting,value,better\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name,value\nlime,1\n", "no column explainer or method"),
        ("method,value\nlime,1\n", "no column that names the setting"),
        ("", "cannot read"),
        (f"{HEAD}lime,a,much,lower\n", "expected numbers as scores, got 'much'"),
        (f"{HEAD}lime,a,1,down\n", "'down', expected higher or lower"),
        (f"{HEAD}lime,a,1,lower\nlime,b,1,lower\n", "nothing to rank"),
        (f"{HEAD}lime,a,1,\n", "no score with a direction"),
        (f"{HEAD}lime,a,1,lower\nlime,a,2,lower\n", "several scores of mine for lime in a"),
        (f"{HEAD}lime,a,1,lower\nrise,a,2,higher\n", "both directions"),
    ],
)
def test_what_is_no_table_of_scores_is_refused_in_one_line(write, text, word):
    with pytest.raises(UserError, match=word) as raised:
        read(write(text))
    assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.csv"):
        read(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("table", "word"),
    [
        (
            pd.DataFrame([[1.0, np.nan], [1.0, 2.0]], columns=["lime", "rise"]),
            r"rise has no score .*drop\(columns='rise'",
        ),
        (pd.DataFrame([[1.0, 1.0], [1.0, 2.0]]), "all methods score alike"),
        (pd.DataFrame([[1.0, 2.0]]), "two or more settings"),
        ({"m": 1}, "got dict"),
    ],
)
@pytest.mark.parametrize("function", [pairwise_tau, kendall_w, distinct_rankings])
def test_settings_that_do_not_rank_all_methods_are_refused(function, table, word):
    with pytest.raises(UserError, match=word):
        function(table)
