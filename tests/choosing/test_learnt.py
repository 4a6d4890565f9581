"""Whether a model has learnt its labels: one that guesses is believed in at most 5 %, one that knows something soon."""

import numpy as np
import pytest

from harness.choosing.learnt import LEAST_LABELS, MISTAKES, why_not_learnt
from planted_scores import most_by_chance, stage_with

# Labels and outputs (n, 4) that know nothing of each other; not believed to be learnt where the test is right.
GUESSES = {
    "uniform": lambda draw, n: (draw.integers(0, 4, n), draw.normal(size=(n, 4))),
    "too sure": lambda draw, n: (draw.integers(0, 4, n), 6 * draw.normal(size=(n, 4))),
    "too careful": lambda draw, n: (draw.integers(0, 4, n), 0.01 * draw.normal(size=(n, 4))),
    "rarely sure": lambda draw, n: (
        draw.integers(0, 4, n),
        30 * (draw.random((n, 4)) < 0.02) + draw.normal(size=(n, 4)),
    ),
    "a rare class": lambda draw, n: (rare(draw, n), np.log([0.8, 0.1, 0.05, 0.05]) + 0.3 * draw.normal(size=(n, 4))),
    "the most frequent": lambda draw, n: (rare(draw, n), np.tile([5.0, 0.0, 0.0, 0.0], (n, 1))),
    "the shares": lambda draw, n: (rare(draw, n), np.tile(np.log([0.8, 0.1, 0.05, 0.05]), (n, 1))),
}


def rare(draw, n):
    """Labels of which the first is frequent; both of two are among them, without which labels do not tell."""
    return np.r_[0, 1, draw.choice(4, n - 2, p=[0.8, 0.1, 0.05, 0.05])]


@pytest.mark.parametrize("count", [12, 60])
@pytest.mark.parametrize("guess", GUESSES)
def test_a_classifier_that_guesses_is_believed_in_at_most_five_percent(guess, count):
    draw, runs = np.random.default_rng([count, len(guess)]), 300
    believed = sum(why_not_learnt(stage_with(*GUESSES[guess](draw, count))) == "" for _ in range(runs))
    assert believed <= most_by_chance(runs, MISTAKES)


TAILS = {
    "normal": lambda draw, n: draw.normal(size=n),
    "skewed": lambda draw, n: draw.lognormal(0, 1.5, n),
    "long tails": lambda draw, n: draw.standard_t(1.5, n),
    "yes or no": lambda draw, n: np.r_[0, 1, draw.random(n - 2) < 0.2].astype(float),
}


@pytest.mark.parametrize("count", [10, 40])
@pytest.mark.parametrize("outputs", TAILS)
@pytest.mark.parametrize("labels", TAILS)
def test_a_regression_that_guesses_is_believed_in_at_most_five_percent(labels, outputs, count, monkeypatch):
    monkeypatch.setattr("harness.choosing.learnt.SHUFFLES", 199)  # 5 % of 200 orders are ten: the level is the same
    draw, runs = np.random.default_rng([count, len(labels), len(outputs)]), 250
    guess = lambda: stage_with(
        TAILS[labels](draw, count), draw.permutation(TAILS[outputs](draw, count)), regression=True
    )
    assert sum(why_not_learnt(guess()) == "" for _ in range(runs)) <= most_by_chance(runs, MISTAKES)


def test_a_classifier_that_is_a_little_better_is_believed_with_enough_labels():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 300)
    outputs = draw.normal(size=(300, 4)) + 0.6 * np.eye(4)[labels]
    assert why_not_learnt(stage_with(labels, outputs)) == ""
    # Never right, but it gives the rare labels more than their share.
    labels = rare(draw, 300)
    outputs = np.log([0.8, 0.1, 0.05, 0.05]) + 0.9 * np.eye(4)[labels] * (labels[:, None] > 0)
    assert not (outputs.argmax(1)[labels > 0] == labels[labels > 0]).any()
    assert why_not_learnt(stage_with(labels, outputs)) == ""


def test_a_regression_is_believed_where_outputs_follow_labels_and_not_where_they_oppose_them():
    draw = np.random.default_rng(1)
    labels = draw.normal(size=60)
    assert why_not_learnt(stage_with(labels, labels + draw.normal(size=60), regression=True)) == ""
    assert "correlate by -1.00" in why_not_learnt(stage_with(labels, -labels, regression=True))
    assert "correlate by 0.00" in why_not_learnt(stage_with(labels, np.ones(60), regression=True))


def test_the_reason_tells_what_a_guess_would_reach():
    labels = np.repeat([0, 1], [30, 10])
    why = why_not_learnt(stage_with(labels, np.tile([1.0, 0.0], (40, 1))))
    assert why.startswith("the model is right on 30 of these 40 samples (75%)") and why.endswith("label on 75%")


@pytest.mark.parametrize("labels", [np.zeros(40, int), np.arange(LEAST_LABELS - 1) % 2], ids=["one class", "few"])
def test_labels_that_do_not_tell_are_no_reason(labels):
    assert why_not_learnt(stage_with(labels, np.random.default_rng(2).normal(size=(len(labels), 2)))) == ""
