"""The page's twin in Markdown: the answer, leaderboard, explanations in words, failures, environment."""

from collections.abc import Iterator, Sequence

from harness.results.answer import Answer
from harness.results.first_table import first_rows
from harness.results.plain_text import fenced
from harness.results.plain_text import markdown_text as plain
from harness.results.report.blocks import ReportBlock
from harness.results.report.board import BOARD_MARKS, LETTER_MARK, Places, markdown_lines, markdown_rows, remarks
from harness.results.report.gallery import Gallery
from harness.results.report.origin import command, origin_facts
from harness.results.report.published import published_lines
from harness.results.report.sections import failures
from harness.results.report.side_by_side import Beside, beside_lines

MOST_TOLD = 6  # explanations in words


def markdown(
    title: str,
    blocks: Sequence[ReportBlock],
    answers: Sequence[Answer],
    boards: Sequence[Places],
    galleries: Sequence[Gallery],
    *,
    beside: Sequence[Beside] = (),
) -> str:
    """The whole text; ``beside`` are the blocks that several runs measured."""
    lines = [f"# {plain(title)}", ""]
    lines += ["The run has no cells yet.", ""] if not blocks else []
    lines += beside_lines(beside)
    for parts in zip(blocks, answers, boards, galleries, strict=True):
        lines += _block_text(*parts)
    return "\n".join(lines).rstrip() + "\n"


def _block_text(block: ReportBlock, answer: Answer, places: Places, gallery: Gallery) -> Iterator[str]:
    yield from (f"## {plain(block.heading)}", "", "### Answer", "", f"**{plain(answer.sentences[0])}**", "")
    yield from (f"{plain(' '.join(answer.sentences[1:]))}", "") if answer.sentences[1:] else ()
    yield from (f"- {plain(text)}" for text in answer.details)
    yield from ("", *_first_table_lines(block, answer)) if block.headline is not None else ()
    yield from (
        "",
        f"### Leaderboard: {block.samples} samples",
        "",
        *markdown_lines(block, places),
        "",
        f"{BOARD_MARKS} {LETTER_MARK}",
        "",
    )
    remarked = remarks(block, places)
    yield from (*remarked, "") if remarked else ()
    yield from published_lines(block)
    tiles = list(gallery.tiles.values())
    if tiles:
        yield from ("### Some explanations in words", "")
        step = max(1, len(tiles) // MOST_TOLD)
        yield from (
            f"- **{plain(t['title'])}**: {plain(t['says'])} {plain(t['trust'])}" for t in tiles[::step][:MOST_TOLD]
        )
        yield ""
    rows = failures(block)
    if rows:
        yield from ("### Failures and skips", "")
        heads = ["what", "cells", "explainers", "metrics", "reason"]
        yield from (*markdown_rows(heads, [list(row.values()) for row in rows]), "")
    yield from ("### Environment and how to reproduce", "", fenced(command(block)), "")
    yield from (f"- {plain(name)}: {plain(value)}" for name, value in origin_facts(block))
    yield ""


def _first_table_lines(block: ReportBlock, answer: Answer) -> list[str]:
    """A row per explainer: its headline score, its gain over the best control, its cost and a verdict."""
    control = answer.verdict.control
    heads = ["explainer", block.head(block.headline), *([f"gain over {control}"] if control else [])]
    rows = []
    for row in first_rows(block, answer.verdict):
        gain = [row.gain_text] if control else []
        rows.append([row.label, row.score_text, *gain, row.cost_text, row.word])
    return markdown_rows([*heads, "seconds a sample", "verdict"], rows)
