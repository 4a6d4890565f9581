"""Runs side by side: where several runs measured the same block, the headline metric of each, and what changed."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from harness.results.comparison import Comparison, compare_runs
from harness.results.comparison_words import comparison_sentence
from harness.results.direction_words import whole_change_in_words
from harness.results.numbers import significant
from harness.results.place import Place, place_of_cell
from harness.results.plain_text import markdown_text
from harness.results.report.blocks import ReportBlock
from harness.results.report.board import markdown_rows
from harness.results.report.elements import Head, TableCell, html_table
from harness.results.report.markup import Raw, soft, tag
from harness.results.verdict import COST_METRIC

BESIDE_TITLE = "Runs side by side"
BESIDE_MARKS = (
    "Mean over samples with its 95 % interval. Changes are those of harness compare, from the first run to the last: "
    "of scores beside the change of the controls, of seconds beside the change of the machine; p is corrected over all "
    "scores or all costs. moved: changed, but not shown to be better or worse, or a control. not comparable: measured "
    "by another version of the measuring code or, for seconds, on another device."
)
NO_CELL = {"verdict": "", "change": float("nan"), "note": "neither of the two runs has this cell", "p": float("nan")}
DIRECTED = ("better", "worse", "moved")  # verdicts with a change in words
TOLD = ("better", "worse", "same")  # verdicts whose notes say what BESIDE_MARKS says
ALONE = {"missing": "only in the first run", "new": "only in the last run"}


@dataclass(frozen=True)
class ChangeBeside:
    """How a cell changed from the first run to the last: ``better``, ``worse``, ``moved``, ``same``, ``not
    comparable``, ...; by how much in ``words``, and the ``reason``."""

    verdict: str
    words: str
    reason: str


@dataclass(frozen=True)
class BesideRow:
    """An explainer: its headline score in each run, how that changed, its seconds a sample in the first and the last
    run, and how those changed."""

    label: str
    control: bool
    scores: tuple[Place, ...]
    change: ChangeBeside
    seconds: tuple[Place, Place]
    cost: ChangeBeside

    @property
    def seconds_in_words(self) -> str:
        """``0.0100 → 0.0120``; one text where neither run has a number."""
        before, after = (place.text for place in self.seconds)
        return before if before == after and self.seconds[0].hole else f"{before} → {after}"


@dataclass(frozen=True)
class Beside:
    """A block that several runs measured.

    heading    model and data set
    metric     the headline metric with its direction, ``unit`` its unit
    runs       the names of the columns
    sentence   what changed between the first run and the last, in all blocks
    rows       the explainers, in the order of the last run
    """

    heading: str
    metric: str
    unit: str
    runs: tuple[str, ...]
    sentence: str
    rows: tuple[BesideRow, ...]


def side_by_side(blocks: Sequence[ReportBlock]) -> list[Beside]:
    """The blocks that several runs measured with the same protocol, but for the seed."""
    compared = cache(compare_runs)
    found = [_block_beside(group, compared) for group in _measured_again(blocks)]
    return [each for each in found if each is not None]


def _measured_again(blocks: Sequence[ReportBlock]) -> Iterator[list[ReportBlock]]:
    """Blocks of several runs that belong together; of a run with several seeds, those of one seed."""
    for group in _groups_by(blocks, lambda block: (block.model, block.dataset, _settings_but_for_the_seed(block))):
        once = len({block.directory for block in group}) == len(group)
        parts = [group] if once else _groups_by(group, lambda block: block.protocol)
        yield from (part for part in parts if len({block.directory for block in part}) > 1)


def _groups_by(blocks: Sequence[ReportBlock], key: Callable[[ReportBlock], Any]) -> list[list[ReportBlock]]:
    groups = defaultdict(list)
    for block in blocks:
        groups[key(block)].append(block)
    return list(groups.values())


def _settings_but_for_the_seed(block: ReportBlock) -> str:
    settings = json.loads(block.protocol)
    return json.dumps({name: value for name, value in settings.items() if name != "seed"}, sort_keys=True)


def _block_beside(group: list[ReportBlock], compared: Callable[[Path, Path], Comparison]) -> Beside | None:
    first, last = group[0], group[-1]
    metric = last.headline or first.headline
    if metric is None:
        return None
    known = next(block for block in (last, *group) if metric in block.about.index)
    comparison = compared(first.directory, last.directory)
    changes = {row["cell"]: row for row in comparison.cells.to_dict("records")}
    labels = dict.fromkeys(label for block in (last, *group) for label in block.explainers)
    return Beside(
        heading=f"{last.model} on {last.dataset}",
        metric=known.head(metric),
        unit=known.unit(metric),
        runs=tuple(block.run for block in group),
        sentence=comparison_sentence(comparison, [first.run], [last.run]),
        rows=tuple(_beside_row(label, metric, group, changes) for label in labels),
    )


def _beside_row(label: str, metric: str, group: list[ReportBlock], changes: dict[str, dict]) -> BesideRow:
    ends = (group[0], group[-1])
    return BesideRow(
        label=label,
        control=any(label in block.controls for block in group),
        scores=tuple(place_of_cell(block.cell(metric, label)) for block in group),
        change=_change_between(*(block.cell(metric, label) for block in ends), changes),
        seconds=tuple(place_of_cell(block.cell(COST_METRIC, label), kind="cost") for block in ends),
        cost=_change_between(*(block.cell(COST_METRIC, label) for block in ends), changes),
    )


def _change_between(before: dict | None, after: dict | None, changes: dict[str, dict]) -> ChangeBeside:
    """The comparison's word on a cell, which it names by its row in the last run, if that has one."""
    there = [row["cell"] for row in (after, before) if row is not None]
    row = next((changes[cell] for cell in there if cell in changes), NO_CELL)
    words = whole_change_in_words(row) if row["verdict"] in DIRECTED else ""
    chance = f", p {significant(row['p'])}" if words and not pd.isna(row["p"]) else ""
    reason = row["note"] if row["verdict"] not in TOLD else ""
    return ChangeBeside(ALONE.get(row["verdict"], row["verdict"]), words + chance, reason)


def beside_part(found: Sequence[Beside]) -> Raw | None:
    """The section of the page; None where no block was measured twice."""
    parts = []
    for place, each in enumerate(found):
        if each.sentence not in [other.sentence for other in found[:place]]:
            parts.append(tag("p", each.sentence))
        parts.append(_beside_table(each, several=len(found) > 1))
    return tag("div", parts, tag("p", BESIDE_MARKS, class_="fine")) if parts else None


def _beside_table(each: Beside, *, several: bool) -> Raw:
    """The change stands before the runs, so that a narrow screen shows it."""
    ends = f"{each.runs[0]} → {each.runs[-1]}"
    heads = [Head("explainer"), Head("change", below=ends), *(Head(run, True, each.unit) for run in each.runs)]
    caption = f"{each.metric} of {each.heading}, {len(each.runs)} runs"
    rows = [_beside_cells(row) for row in each.rows]
    table = html_table(caption, [*heads, Head("seconds", below=ends)], rows, classes="board beside")
    return tag("div", tag("h3", each.heading) if several else "", table)


def _beside_cells(row: BesideRow) -> list[TableCell]:
    word = tag("span", "control", class_="word") if row.control else ""
    verdict = row.change.verdict
    return [
        TableCell([soft(row.label), word], row.label),
        TableCell([verdict or "–", _below(row.change.words)], verdict or None, *_looks(row.change)),
        *map(_place_beside, row.scores),
        TableCell(
            [row.seconds_in_words, *map(_below, (row.cost.verdict, row.cost.words))],
            row.seconds[-1].value,
            *_looks(row.cost),
        ),
    ]


def _looks(change: ChangeBeside) -> tuple[str, str]:
    """The classes of a change's cell, and what hovering says."""
    return {"better": "is-pass", "worse": "is-fail", "broken": "is-fail"}.get(change.verdict, ""), change.reason


def _below(text: str) -> Raw | str:
    return tag("span", text, class_="below") if text else ""


def _place_beside(place: Place) -> TableCell:
    if place.hole:
        return TableCell(tag("span", place.text, class_="hole"), None, "", place.note)
    return TableCell([place.text, _below(place.interval)], place.value)


def beside_lines(found: Sequence[Beside]) -> Iterator[str]:
    """The section in Markdown, nothing where no block was measured twice."""
    if not found:
        return
    yield from (f"## {BESIDE_TITLE}", "")
    for place, each in enumerate(found):
        if each.sentence not in [other.sentence for other in found[:place]]:
            yield from (markdown_text(each.sentence), "")
        yield from (f"### {markdown_text(f'{each.heading}: {each.metric}')}", "")
        ends = f"{each.runs[0]} → {each.runs[-1]}"
        heads = ["explainer", f"change {ends}", *each.runs, f"seconds {ends}", "change of the seconds"]
        yield from (*markdown_rows(heads, [_beside_texts(row) for row in each.rows]), "")
    yield from (BESIDE_MARKS, "")


def _beside_texts(row: BesideRow) -> list[str]:
    named = f"{row.label} (control)" if row.control else row.label
    scores = [f"{place.text} {place.interval}".strip() for place in row.scores]
    return [named, _change_text(row.change), *scores, row.seconds_in_words, _change_text(row.cost)]


def _change_text(change: ChangeBeside) -> str:
    """The verdict with its words; where there are none, with the reason."""
    more = change.words or change.reason
    return f"{change.verdict or '–'}: {more}" if more else change.verdict or "–"
