"""Explanations in words say what the numbers say, and nothing else."""

import re

import numpy as np
import pytest

from harness.results.words import Trust, percent, says, trust


def test_columns_are_named_by_their_share_and_sign():
    told = says(np.array([3.0, -1.0, 0.0, 6.0]), names=["age", "income", "city", "debt"], target="default")
    assert (
        "Most attribution: “debt” 60 %, for default; “age” 30 %, for default; “income” 10 %, against default." in told
    )
    assert "90 % speaks for default, 10 % against it." in told
    assert "Half of it lies on 1 of 4 units (25 %)." in told
    assert "city" not in told


def test_what_all_speaks_one_way_is_said_to():
    assert "All of it speaks for cat." in says(np.array([1.0, 2.0]), names=["a", "b"], target="cat")
    assert "All of it speaks against cat." in says(np.array([-1.0, -2.0]), names=["a", "b"], target="cat")


def test_a_map_without_sign_never_speaks_for_or_against():
    told = says(np.array([1.0, 3.0]), names=["a", "b"], signed=False, target="cat")
    assert "“b” 75 %; “a” 25 %." in told
    assert "no sign" in told and "cat" not in told


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(3))
def test_an_image_is_told_by_ninths(row, column):
    heat = np.zeros((9, 12))
    heat[row * 3 + 1, column * 4 + 2] = -2.0
    place = f"{('upper', 'middle', 'lower')[row]} {('left', 'centre', 'right')[column]}"
    place = "the centre" if place == "middle centre" else f"the {place}"
    told = says(heat, target="cat")
    assert f"Most attribution: {place} 100 %, against cat." in told
    assert "Half of it lies on 1 of 108 units (1 %)." in told


def test_a_series_is_told_by_spans_of_steps():
    series = np.zeros(100)
    series[30:40], series[80] = 1.0, 5.0
    assert "steps 30 to 39 67 %, for up; steps 80 to 89 33 %, for up." in says(series, target="up")


def test_shares_of_random_maps_add_up(seed):
    generator = np.random.default_rng(seed)
    for _ in range(50):
        values = generator.normal(size=3)
        shares = [int(text) for text in re.findall(r"” (\d+) %", says(values, names=["a", "b", "c"]))]
        expected = sorted((abs(values) / abs(values).sum() * 100).round().astype(int), reverse=True)
        assert abs(np.array(shares) - expected[: len(shares)]).max() <= 1
        named = re.search("“(.)”", says(values, names=["a", "b", "c"]))[1]
        assert named == "abc"[abs(values).argmax()]


def test_a_map_of_nothing_says_so():
    assert says(np.zeros((4, 4))) == "The map is zero everywhere, so it names nothing."
    assert says(np.array([1.0, np.nan]), names=["a", "b"]) == "The map is not finite, so it says nothing."


def test_shares_are_not_rounded_to_none_or_all():
    assert [percent(share) for share in (0, 0.001, 0.5, 0.999, 1)] == ["0 %", "<1 %", "50 %", ">99 %", "100 %"]


KNOWN = dict(
    metric="srg",
    mean=0.4,
    low=0.3,
    high=0.5,
    control="edge",
    control_mean=0.1,
    control_low=0.0,
    control_high=0.2,
    beats=True,
    value=0.45,
    place=12,
    samples=20,
    sanity="pass",
)


def test_trust_tells_the_score_against_the_best_control():
    told = trust(Trust(**KNOWN))
    assert "srg 0.400 [0.300, 0.500] over the samples, against the best control, edge 0.100 [0, 0.200]" in told
    assert told.count("shown to beat it") == 1 and "not shown" not in told
    assert "not shown to beat it" in trust(Trust(**{**KNOWN, "beats": False}))


def test_trust_tells_whether_the_sample_is_among_the_worst():
    assert "On this sample 0.450, place 9 of 20." in trust(Trust(**KNOWN))
    assert "place 19 of 20, among its worst." in trust(Trust(**{**KNOWN, "place": 2}))
    assert "among its worst" not in trust(Trust(**{**KNOWN, "place": 3}))


def test_trust_tells_sums_flags_and_sanity():
    told = trust(
        Trust(
            **{
                **KNOWN,
                "completeness_error": 0.2,
                "flags": ("equal to gradient",),
                "sanity": "fail",
                "reason": "failed: random_logit",
            }
        )
    )
    assert "Completeness is broken: the sum of the attributions is off by 20 % (median)." in told
    assert "Flagged: equal to gradient." in told
    assert "It fails a sanity check (failed: random_logit)." in told
    kept = trust(Trust(**{**KNOWN, "completeness_error": 0.01}))
    assert "Completeness holds: the sum of the attributions is off by 1 %" in kept
    assert "sum" not in trust(Trust(**KNOWN))


def test_what_is_not_known_is_not_trusted():
    told = trust(Trust())
    assert told == ("It has no faithfulness score, so nothing says how far to trust it. No sanity check was measured.")
    assert trust(Trust(is_control=True)).startswith("This is a control: it does not look at the model.")
