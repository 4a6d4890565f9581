"""Which explainer to use on one model and data set: the rule, applied to a board.

The rule: those not shown to be worse than the best on the headline metric (all pairs of explainers tested as one
family), of them those shown to beat every control, without those that fail a sanity check or are shown to be worse than
another one of them, the cheapest first. ``harness.results.answer`` says it in words.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from harness.results.board import Board
from harness.results.statistics import OTHER_SAMPLES

COST_METRIC = "seconds_per_sample"


@dataclass(frozen=True)
class Verdict:
    """The outcome for one board; explainers are labels, and controls are none of them.

    refused    why nothing can be compared, in a sentence; "" if it can
    best       the explainer with the best mean; None if refused
    control    the control with the best mean; None if none was compared
    unbeaten   explainer -> the control with the best mean of those that it is not shown to beat
    near       not shown to be worse than the best
    above      shown to beat every control; all where there is no control
    failed     those of ``near`` that fail a sanity check
    choices    the explainers to choose from, the cheapest first; those whose cost is not known last
    """

    refused: str = ""
    best: str | None = None
    control: str | None = None
    near: list[str] = field(default_factory=list)
    unbeaten: dict[str, str] = field(default_factory=dict)
    above: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)


def verdict(board: Board) -> Verdict:
    """The rule's outcome on a board whose scores were read."""
    refused = _why_no_verdict(board)
    if refused:
        return Verdict(refused)
    table, family = board.standing, board.family  # the best mean first
    own, controls = _split(table.index, board.controls)
    near = [name for name in own if table.loc[name, "best"]]
    unbeaten = {name: [each for each in controls if not family.better(name, each)] for name in own}
    above = [name for name in own if not unbeaten[name]]
    failed = [name for name in near if sanity_of(board, name) == "fail"]
    left = [name for name in near if name in above and name not in failed]
    left = [name for name in left if not any(family.better(other, name) for other in left)]
    return Verdict(
        best=own[0],
        control=controls[0] if controls else None,
        unbeaten={name: each[0] for name, each in unbeaten.items() if each},
        near=near,
        above=above,
        failed=failed,
        choices=sorted(left, key=lambda name: _cheapest_first(board, name)),
    )


def _why_no_verdict(board: Board) -> str:
    """Why explainers cannot be compared; "" if they can."""
    if not (board.cells["status"] == "ok").any():
        return "No verdict: nothing could be measured; the reasons are under failed and n/a."
    if board.headline is None and board.metrics_shown is not None:
        return "No verdict: the metrics that were asked for do not tell which explainer to use."
    if board.headline is None:
        return "No verdict: no metric of faithfulness, known truth or localisation has a score; add metric=srg."
    unranked = set(board.cells.loc[board.cells["metric"] == board.headline, "unranked"]) - {"", OTHER_SAMPLES}
    if unranked:
        return f"No verdict by {board.headline}: {min(unranked)}."
    if board.family is None:
        return f"No verdict: {board.headline} has no scores of samples."
    if board.family.n < 2:
        there = "there is 1" if board.family.n else "there is none"
        return f"No verdict: a comparison needs two samples on which all explainers have a score, {there}."
    if not _split(board.standing.index, board.controls)[0]:
        return f"No verdict: only controls have a score on the headline metric, {board.headline}."
    return ""


def _split(names: Iterable[str], controls: frozenset[str]) -> tuple[list[str], list[str]]:
    """Names that are no controls, and those that are."""
    names = list(names)
    return [name for name in names if name not in controls], [name for name in names if name in controls]


def _cheapest_first(board: Board, name: str) -> tuple[float, str]:
    cost = cost_of(board, name)
    return (np.inf if cost is None else cost), name


def cost_of(board: Board, name: str) -> float | None:
    """Seconds per sample; None where it was not measured."""
    cell = board.cell(COST_METRIC, name)
    value = cell["value"] if cell and cell["status"] == "ok" else float("nan")
    return float(value) if np.isfinite(value) else None


def sanity_of(board: Board, name: str) -> str:
    """The overall verdict of the sanity checks: ``pass``, ``fail``, ``undecided``, ``not done``, or "" for none."""
    found = board.sanity["verdict"].get(name)
    return found if isinstance(found, str) else ""
