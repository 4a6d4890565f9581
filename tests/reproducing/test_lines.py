"""The verdicts of a reproduction, on planted tables."""

import numpy as np
import pandas as pd
import pytest

from harness.errors import UserError
from harness.reproducing import lines, published
from harness.reproducing import paper as papers
from harness.reproducing.findings import Claim, Findings, numbers_of
from harness.reproducing.lines import (
    DIFFERS,
    FAILS,
    HOLDS,
    NOT_COMPARABLE,
    REPRODUCED,
    Expectation,
    lines_of,
    standard_error,
    verdict_on,
)
from harness.reproducing.reproduce import Reproduction


def claim(holds, **more):
    about = {"kind": "pattern", "says": "a is better", "measured": "0.2, above 0", "why": "95 %", "source": "algebra"}
    return Claim(name=f"claim {holds} {sorted(more)}", holds=holds, **{**about, **more})


@pytest.mark.parametrize(
    ("ours", "error", "unlike", "verdict"),
    [
        (0.50, 0.0, "", REPRODUCED),
        (0.55, 0.0, "", REPRODUCED),
        (0.45, 0.9, "", REPRODUCED),
        (0.56, 0.0, "", DIFFERS),
        (0.60, 0.02, "", DIFFERS),
        (0.60, 0.03, "", NOT_COMPARABLE),
        (0.40, float("nan"), "", NOT_COMPARABLE),
        (float("nan"), 0.1, "", NOT_COMPARABLE),
        (0.50, 0.0, "other weights", NOT_COMPARABLE),
    ],
)
def test_a_number_is_reproduced_differs_or_cannot_be_compared(ours, error, unlike, verdict):
    found, reason = verdict_on(ours, error, 0.5, 0.05 + 1e-12, unlike)
    assert found == verdict and bool(reason) == (verdict == NOT_COMPARABLE)


def test_ours_whose_true_value_is_within_the_tolerance_are_called_different_in_few_draws():
    draw, n = np.random.default_rng(0), 50
    samples = draw.normal(0.55, 0.3, (4000, n))  # the true mean is at the edge of the tolerance
    errors = samples.std(1, ddof=1) / np.sqrt(n)
    found = [verdict_on(mean, error, 0.5, 0.05)[0] for mean, error in zip(samples.mean(1), errors, strict=True)]
    assert found.count(DIFFERS) / len(found) < 0.035  # 2.5 %, one side of 95 %


def test_the_standard_error_follows_from_the_spread_and_n():
    assert standard_error(0.3, "standard error", None) == 0.3 and standard_error(float("nan"), "none", 5) == 0
    assert standard_error(0.3, "sd over samples", 9) == pytest.approx(0.1)
    assert np.isnan(standard_error(0.3, "sd over seeds", 1)) and np.isnan(standard_error(0.3, "sd over seeds", None))


def planted_rows(**columns):
    rows = pd.DataFrame(
        {
            "paper": "A et al. 2020",
            "arxiv": "2001.00001",
            "table_or_figure": "Table 1",
            "model": "net",
            "dataset": "data",
            "explainer": ["Grad", "IG", "RISE"],
            "metric": "deletion",
            "value": [0.5, 0.2, 0.1],
            "spread": np.nan,
            "spread_kind": np.nan,
            "n_images": 100.0,
            "better": "lower",
            "provenance": ["seen", "second-hand", "memory"],
            "source": "their repository",
            "note": np.nan,
        }
    )
    return rows.assign(**columns)


@pytest.fixture
def planted(tmp_path, monkeypatch):
    planted_rows().to_csv(tmp_path / "planted.csv", index=False)
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    published._printable_rows.cache_clear()
    yield
    published._printable_rows.cache_clear()


OURS = numbers_of(
    {"explainer": name, "metric": "deletion", "value": value, "spread": 0.01, "spread_kind": "standard error", "n": 100}
    for name, value in {"gradient": 0.51, "integrated_gradients": 0.4, "rise": 0.1}.items()
)
WORDS = {"explainer": {"Grad": "gradient", "IG": "integrated_gradients", "RISE": "rise"}}


def expected(**more):
    about = {"table": "planted", "tolerance": 0.05, "why": "100 images", "where": {}, "words": WORDS, "ours": {}}
    return Expectation(**{**about, **more})


def test_each_published_number_stands_beside_ours_and_remembered_ones_never_do(planted):
    found = lines_of(Findings(OURS), [expected()], small=False)
    assert [(each.ours, each.theirs, each.verdict, each.bad) for each in found] == [
        (0.51, 0.5, REPRODUCED, False),
        (0.4, 0.2, DIFFERS, True),
    ]
    assert [each.provenance for each in found] == ["seen", "second-hand"] and found[0].their_n == "100"
    assert found[0].source == "A et al. 2020, 2001.00001, their repository"


def test_a_tolerance_may_be_a_share_and_a_small_scale_compares_nothing(planted):
    shares = lines_of(Findings(OURS), [expected(tolerance=1.0, relative=True)], small=False)
    assert [each.verdict for each in shares] == [REPRODUCED, REPRODUCED] and shares[1].tolerance == 0.2
    small = lines_of(Findings(OURS), [expected()], small=True)
    assert {each.verdict for each in small} == {NOT_COMPARABLE} and not any(each.bad for each in small)
    unlike = lines_of(Findings(OURS), [expected(unlike="other weights")], small=False)
    assert [each.reason for each in unlike] == ["other weights"] * 2


def test_what_stands_for_nothing_or_for_several_is_a_mistake(planted):
    with pytest.raises(UserError, match="measures none of the 2 numbers"):
        lines_of(Findings(OURS), [expected(words={"explainer": {"Grad": "saliency"}})], small=False)
    twice = pd.concat([OURS.assign(setting="a"), OURS.assign(setting="b")])
    with pytest.raises(UserError, match="2 of our numbers stand for one"):
        lines_of(Findings(twice), [expected()], small=False)
    assert len(lines_of(Findings(twice), [expected(ours={"setting": "b"})], small=False)) == 2
    with pytest.raises(UserError, match="no number with"):
        lines_of(Findings(OURS), [expected(where={"metric": "insertion"})], small=False)
    with pytest.raises(UserError, match="colour"):
        lines_of(Findings(OURS), [expected(where={"colour": "red"})], small=False)


def test_claims_hold_fail_or_cannot_be_told():
    unexpected = [claim(each, expected=False, tried="more samples") for each in (True, False)]
    exact = [claim(each, kind="identity") for each in (True, False)]
    claims = [claim(True), claim(False), claim(None), *exact, *unexpected]
    found = lines_of(Findings(claims=claims), [], small=False)
    assert [each.verdict for each in found] == [HOLDS, FAILS, NOT_COMPARABLE, REPRODUCED, DIFFERS, HOLDS, FAILS]
    assert [each.bad for each in found] == [False, True, False, False, True, False, False]
    assert found[-1].tried == "more samples" and "not expected" in found[-1].reason
    assert claim(np.False_).holds is False and found[5].reason == "it holds, which was not expected"
    with pytest.raises(ValueError, match="nothing of what was measured"):
        claim(True, measured="")
    with pytest.raises(ValueError, match="say what was tried"):
        claim(False, expected=False)


def test_the_counts_in_words_tell_known_failures_and_undecided_claims_apart():
    claims = [claim(True), claim(True, n=2), claim(False), claim(False, expected=False, tried="all"), claim(None)]
    claims.append(claim(True, kind="identity"))
    found = Reproduction(
        papers.paper("xai_bench"), "full", lines_of(Findings(numbers_of([]), claims), [], small=False), None
    )
    assert found.told == (
        "1 reproduced, 2 patterns hold, 1 pattern fails, 1 pattern is known to fail here, 1 claim is undecided"
    )
    assert [line.tried for line in found.lines if line.verdict == FAILS] == ["", "all"]


def test_findings_have_one_number_for_each_thing_and_a_kind_for_each_spread():
    with pytest.raises(ValueError, match="several numbers"):
        Findings(pd.concat([OURS, OURS]))
    with pytest.raises(ValueError, match="spread_kind"):
        Findings(OURS.assign(spread_kind="sd"))
    with pytest.raises(UserError, match="colour"):
        numbers_of([{"colour": "red"}])
    assert lines.VERDICTS == (REPRODUCED, DIFFERS, HOLDS, FAILS, NOT_COMPARABLE)
