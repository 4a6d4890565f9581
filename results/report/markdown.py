"""The page's twin in Markdown: verdict, leaderboard, explanations in words, failures, environment."""

import re
from collections.abc import Iterator, Sequence

from harness.results.formats import markdown_text as plain
from harness.results.report.blocks import ARROWS, Block
from harness.results.report.board import Entry, marks_explained
from harness.results.report.gallery import Gallery
from harness.results.report.origin import command, facts
from harness.results.report.sections import failures
from harness.results.report.verdict import Verdict

NO_FAILURES = "Every cell was measured, and every sample has a score."
MOST_TOLD = 6  # explanations in words


def markdown(
    title: str,
    blocks: Sequence[Block],
    verdicts: Sequence[Verdict],
    entries: Sequence[dict[tuple[str, str], Entry]],
    galleries: Sequence[Gallery],
) -> str:
    """The whole text."""
    lines = [f"# {plain(title)}", ""]
    lines += ["The run has no cells yet.", ""] if not blocks else []
    for parts in zip(blocks, verdicts, entries, galleries, strict=True):
        lines += _block(*parts)
    return "\n".join(lines).rstrip() + "\n"


def _block(block: Block, verdict: Verdict, entries: dict[tuple[str, str], Entry], gallery: Gallery) -> Iterator[str]:
    yield from (f"## {plain(block.heading)}", "", "### Verdict", "", f"**{plain(verdict.answer)}**", "")
    yield from (f"- {plain(text)}" for text in verdict.details)
    yield from ("", f"### Leaderboard: {block.samples} samples", "", *_board(block, entries), "", marks_explained(), "")
    holes = _holes(block, entries)
    yield from (*holes, "") if holes else ()
    told = list(gallery.tiles.values())
    if told:
        yield from ("### Some explanations in words", "")
        step = max(1, len(told) // MOST_TOLD)
        yield from (
            f"- **{plain(t['title'])}**: {plain(t['says'])} {plain(t['trust'])}" for t in told[::step][:MOST_TOLD]
        )
        yield ""
    yield from ("### Failures and skips", "")
    rows = failures(block)
    heads = ["what", "cells", "explainers", "metrics", "reason"]
    yield from _table(heads, [list(row.values()) for row in rows]) if rows else [NO_FAILURES]
    yield from ("", "### Environment and how to reproduce", "", *_code(command(block)), "")
    yield from (f"- {plain(name)}: {plain(value)}" for name, value in facts(block))
    yield ""


def _board(block: Block, entries: dict[tuple[str, str], Entry]) -> list[str]:
    heads = ["explainer"] + [f"{metric} {ARROWS.get(block.better(metric), '')}".strip() for metric in block.metrics]
    rows = []
    for label in block.explainers:
        name = f"{label} (control)" if label in block.controls else label
        rows.append([name, *(_Shown(_entry(entries[metric, label])) for metric in block.metrics)])
    return _table(heads, rows)


class _Shown(str):
    """Text that is Markdown already."""


def _entry(entry: Entry) -> str:
    if entry.hole:
        return plain(entry.text)
    mean = {"best": f"**{entry.text}**", "near": f"<u>{entry.text}</u>"}.get(entry.standing, entry.text)
    rank = f"#{entry.rank}" if entry.rank not in ("", "–") else entry.rank
    star = "\\*" if entry.note else ""
    return plain_joined([mean, entry.interval.replace("[", "\\[").replace("]", "\\]"), rank + star, entry.letters])


def plain_joined(parts: Sequence[str]) -> str:
    """Parts that are not empty with a space between them."""
    return " ".join(part for part in parts if part)


def _holes(block: Block, entries: dict[tuple[str, str], Entry]) -> list[str]:
    """What the * of the leaderboard say, each text once."""
    found: dict[str, list[str]] = {}
    for (metric, label), entry in entries.items():
        if entry.note and not entry.hole:
            found.setdefault(" · ".join(entry.note.splitlines()), []).append(f"{label} {metric}")
    return [f"- \\* {plain(', '.join(who))}: {plain(text)}" for text, who in found.items()]


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    line = lambda cells: f"| {' | '.join(each if isinstance(each, _Shown) else plain(each) for each in cells)} |"
    return [line(heads), f"|{' --- |' * len(heads)}", *map(line, rows)]


def _code(text: str) -> list[str]:
    """A block of code that no text in it can end."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, text, fence]
