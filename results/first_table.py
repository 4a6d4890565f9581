"""The first table of a board: a row for each explainer with its headline score, its gain over the best control, its
cost and a verdict in words. The terminal, the Markdown and the page of a report show these rows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.results.board import Board
from harness.results.footnotes import WORDS
from harness.results.numbers import significant, with_interval
from harness.results.place import NO_COST
from harness.results.verdict import Verdict, cost_of, sanity_of

USE, BEST_CONTROL, CONTROL = "use this", "best control", "control"
NOT_WORSE, WORSE, BELOW = "not shown to be worse", "worse", "worse than the control"
UNPROVEN = "control not beaten"
NO_NUMBER = "·"
# What the words mean, for a legend.
MEANINGS = {
    CONTROL: "an explainer that ignores the model",
    NOT_WORSE: "its distance to the best explainer may be chance",
    WORSE: "shown to be worse than the best explainer or a recommended one",
    UNPROVEN: "not shown to be better than every control",
}


@dataclass(frozen=True)
class FirstRow:
    """One explainer, by the headline metric.

    score, score_low, score_high    its mean over its samples with the 95 % interval; NaN where there is none
    gain, gain_low, gain_high       its mean paired difference to the best control, positive where it is better, with
                                    the interval that holds together for all pairs; NaN where there is none
    cost                            seconds per sample; None where it was not measured
    word                            the verdict in a few words
    standing                        ``first``, ``choice``, ``near``, ``worse``, ``control`` or ``none``
    """

    label: str
    score: float
    score_low: float
    score_high: float
    gain: float
    gain_low: float
    gain_high: float
    cost: float | None
    word: str
    standing: str

    @property
    def score_text(self) -> str:
        """The score, or a dot where there is none."""
        return significant(self.score) if math.isfinite(self.score) else NO_NUMBER

    @property
    def gain_text(self) -> str:
        """The gain with its interval, or a dot where there is none."""
        return with_interval(self.gain, self.gain_low, self.gain_high) if math.isfinite(self.gain) else NO_NUMBER

    @property
    def cost_text(self) -> str:
        """The cost in seconds, or that it was not measured."""
        return NO_COST if self.cost is None else significant(self.cost)


def first_rows(board: Board, verdict: Verdict) -> list[FirstRow]:
    """A row for every explainer that is shown, in the board's order: the best first, controls last."""
    return [_row(board, verdict, label) for label in board.explainers]


def legend(board: Board, control: str | None, rows: Sequence[FirstRow]) -> list[str]:
    """What the gain and the words of the verdicts mean, a text each."""
    told = []
    if control is not None:
        few = "" if board.family.able else f"; {board.family.n} samples are too few for an interval"
        told.append(
            f"gain: mean difference to the best control, {control}; intervals hold for all pairs together (95 %){few}"
        )
    words = "; ".join(_meanings(rows))
    return [*told, words] if words else told


def _meanings(rows: Sequence[FirstRow]) -> list[str]:
    """The words of these rows' verdicts that need an explanation, with it."""
    return [f"{word}: {meaning}" for word, meaning in MEANINGS.items() if any(word in row.word for row in rows)]


@dataclass(frozen=True)
class BoardRow:
    """One board among several.

    heading   model and data set
    use       the explainer to use, ``none (best: lime)`` where none can be recommended, or "" where nothing is compared
    row       the row of that explainer, or of the best one; None where nothing is compared
    metric    the headline metric; "" where nothing is compared
    refused   why nothing is compared; "" if it is
    """

    heading: str
    use: str
    row: FirstRow | None
    metric: str
    refused: str = ""


def board_row(board: Board, verdict: Verdict) -> BoardRow:
    """The row of a board in a table of several boards."""
    first = next(iter(verdict.choices), verdict.best)
    if first is None:
        return BoardRow(board.heading, "", None, "", verdict.refused.removeprefix("No verdict: "))
    use = first if verdict.choices else f"none (best: {first})"
    return BoardRow(board.heading, use, _row(board, verdict, first), board.headline)


def counted_boards(verdicts: Sequence[Verdict]) -> str:
    """On how many of several boards an explainer can be recommended, in a sentence."""
    named = sum(bool(each.choices) and each.control is not None for each in verdicts)
    without = sum(each.control is None and not each.refused for each in verdicts)
    return (
        f"{named} of {len(verdicts)} blocks (a model on a data set under one protocol) have an explainer that is shown "
        f"to beat the controls and fails no sanity check" + (f"; {without} have no control." if without else ".")
    )


def fewer_rows(rows: Sequence[FirstRow], most: int) -> tuple[list[FirstRow], int]:
    """At most so many rows, and how many were left out: the controls but the best one go first, then the last ones.

    Those that can be chosen stay in any case.
    """
    if len(rows) <= most:
        return list(rows), 0
    kept = [row for row in rows if row.word != CONTROL]
    controls = [row for row in kept if row.standing == "control"]
    own = [row for row in kept if row.standing != "control"]
    chosen = [row for row in own if row.standing in ("first", "choice")]
    others = [row for row in own if row not in chosen][: max(0, most - len(controls) - len(chosen))]
    own = [row for row in own if row in chosen or row in others]
    return own + controls, len(rows) - len(own) - len(controls)


def _row(board: Board, verdict: Verdict, label: str) -> FirstRow:
    nan = float("nan")
    cell = board.cell(board.headline, label) if board.headline else None
    there = cell is not None and cell["status"] == "ok"
    score = (cell["value"], cell["ci_low"], cell["ci_high"]) if there else (nan, nan, nan)
    standing, word = _standing_and_word(board, verdict, label, cell)
    gain = _gain(board, verdict, label)
    return FirstRow(label, *map(float, score), *gain, cost_of(board, label), word, standing)


def _gain(board: Board, verdict: Verdict, label: str) -> tuple[float, float, float]:
    """The difference to the best control with its interval; NaN for the control itself and what is not compared."""
    family, control = board.family, verdict.control
    if family is None or control is None or label == control or label not in family.names:
        return (float("nan"),) * 3
    return (family.difference(label, control), *family.interval(label, control))


def _standing_and_word(board: Board, verdict: Verdict, label: str, cell: dict | None) -> tuple[str, str]:
    if label in board.controls:
        lacking = ", too few scores" if label in board.lacking else ""
        return "control", BEST_CONTROL if label == verdict.control else CONTROL + lacking
    missing = _why_missing(board, label, cell)
    if missing:
        return "none", missing
    if verdict.refused:
        return "none", ""
    if label in verdict.choices:
        return ("first", USE) if label == verdict.choices[0] else ("choice", NOT_WORSE)
    if sanity_of(board, label) == "fail":
        return ("near" if label in verdict.near else "worse"), "fails a sanity check"
    if verdict.control is not None and board.family.better(verdict.control, label):
        return "worse", BELOW
    if label in verdict.near:
        return "near", UNPROVEN if label in verdict.unbeaten else WORSE
    if verdict.control is None:
        return "worse", WORSE
    return "worse", f"{WORSE}; {UNPROVEN if label in verdict.unbeaten else 'beats the controls'}"


def _why_missing(board: Board, label: str, cell: dict | None) -> str:
    """Why an explainer has no place in the comparison; "" if it has one."""
    if cell is None:
        return "not measured"
    if cell["status"] != "ok":
        return WORDS.get(cell["status"], str(cell["status"]))
    if label in board.with_caveat:
        return f"not ranked: known error of {board.with_caveat[label]}"
    if not np.isfinite(cell["value"]):
        return "no valid score"
    return "too few scores" if label in board.lacking else ""
