"""The notes below a leaderboard: why cells have no number or no rank, and flags; each fact is noted once."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

WORDS = {"not_applicable": "n/a", "failed": "failed"}


def footnotes(block: pd.DataFrame) -> Iterator[str]:
    """Why cells of a board (``board.Board.cells``) are n/a or failed, have no rank, lack samples or were flagged."""
    for status, word in WORDS.items():
        yield from _status_notes(word, block[block["status"] == status], block)
    ok = block[block["status"] == "ok"]
    unmeasured = without_cost(ok)
    yield from _status_notes("not measured", ok[unmeasured], block)
    yield from _absent_costs(block)
    yield from _invalid_notes(ok[~unmeasured])
    yield from _flag_notes(ok)
    for reason in sorted(set(block["unranked"]) - {""}):
        metrics = sorted(set(block.loc[block["unranked"] == reason, "metric"]))
        yield f"– no rank: {', '.join(metrics)}: {reason}"


def without_cost(cells: pd.DataFrame) -> pd.Series:
    """Which cells are costs that were not measured (bool), as where another run used the device."""
    return (cells["kind"] == "cost") & (cells["status"] == "ok") & ~np.isfinite(cells["value"].astype("float64"))


def _status_notes(word: str, rows: pd.DataFrame, block: pd.DataFrame) -> Iterator[str]:
    """One line per reason; if it holds for all cells of an explainer or a metric, only that one is named."""
    pairs = defaultdict(set)
    for label, metric, reason in zip(rows["label"], rows["metric"], rows["error"].fillna(""), strict=False):
        pairs[reason or "no reason given"].add((label, metric))
    for reason, concerned in pairs.items():
        yield f"{word}: {', '.join(_subjects(concerned, block))}: {reason}"


def _absent_costs(block: pd.DataFrame) -> Iterator[str]:
    """Which costs have no cell: an empty place could be taken for a small cost."""
    costs = sorted(set(block.loc[block["kind"] == "cost", "metric"]))
    there, lacking = _label_metric_pairs(block), defaultdict(list)
    for label in sorted(set(block["label"])):
        lacking[tuple(cost for cost in costs if (label, cost) not in there)].append(label)
    for absent, labels in lacking.items():
        if absent:
            yield f"not measured in this run: {', '.join(labels)} ({', '.join(absent)})"


def _subjects(pairs: set[tuple[str, str]], block: pd.DataFrame) -> list[str]:
    served = set(block.loc[block["status"] == "ok", "label"])
    everywhere = [label for label, of_label in _pairs_by(0, _label_metric_pairs(block)).items() if of_label <= pairs]
    rest = {pair for pair in pairs if pair[0] not in everywhere}
    # Explainers without any score are left out here, so that a metric can be named as a whole.
    of_served = _pairs_by(1, {pair for pair in _label_metric_pairs(block) if pair[0] in served})
    metrics = [metric for metric, of_metric in of_served.items() if of_metric <= rest]
    single = {pair for pair in rest if pair[1] not in metrics}
    place = min((0, 1), key=lambda place: len(_pairs_by(place, single)))  # the shorter of the two lists
    listed = {name: ", ".join(sorted(pair[1 - place] for pair in of)) for name, of in _pairs_by(place, single).items()}
    return everywhere + metrics + [f"{name} ({others})" for name, others in listed.items()]


def _label_metric_pairs(block: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(block["label"], block["metric"], strict=False))


def _pairs_by(place: int, pairs: set[tuple[str, str]]) -> dict[str, set[tuple[str, str]]]:
    """Pairs of explainer and metric, grouped by explainer (``place`` 0) or by metric (1)."""
    groups = defaultdict(set)
    for pair in sorted(pairs):
        groups[pair[place]].add(pair)
    return groups


def _invalid_notes(ok: pd.DataFrame) -> Iterator[str]:
    """For each metric and reason: the explainers with samples without a valid score, and how many."""
    rows = ok[ok["n_invalid"] > 0]
    for (metric, reason), group in rows.groupby(["metric", rows["error"].fillna("")], sort=True):
        counts = zip(group["label"], group["n_invalid"], group["n"] + group["n_invalid"], strict=False)
        shares = (f"{label} {invalid} of {total}" for label, invalid, total in counts)
        yield f"* without a valid score: {metric}: {', '.join(shares)}" + (f": {reason}" if reason else "")


def _flag_notes(ok: pd.DataFrame) -> Iterator[str]:
    """Each flag once, with the explainers that carry it."""
    explainers = defaultdict(set)
    for flags, label in zip(ok["flags"], ok["label"], strict=False):
        for flag in flag_list(flags):
            explainers[flag].add(label)
    for flag, labels in explainers.items():
        yield f"* flag: {', '.join(sorted(labels))}: {flag}"


def flag_list(flags: Any) -> list[str]:
    """A cell's flags as a list; the file holds a list, or text with semicolons between flags."""
    if isinstance(flags, str):
        return [flag for flag in flags.split("; ") if flag]
    return list(flags) if isinstance(flags, Sequence) else []
