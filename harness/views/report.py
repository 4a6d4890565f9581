"""The report of runs: one page for a browser that works offline, and the same in Markdown."""

from collections.abc import Callable, Sequence
from pathlib import Path

from harness.messages import say
from harness.results.answer import Answer, answer
from harness.results.disk import whole_file
from harness.results.frames import find_run
from harness.results.report.blocks import blocks_of
from harness.results.report.board import entries
from harness.results.report.gallery import MOST_TILES, gallery
from harness.results.report.markdown import markdown
from harness.results.report.page import page
from harness.results.report.side_by_side import side_by_side


def write_report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path | None = None,
    *,
    runs_directory: str | Path = "runs",
    tell: Callable[[Sequence[Answer]], None] = lambda answers: None,
) -> Path:
    """Write the report of one run or several, a block for each model and data set, and return the page's path.

    ``runs`` are names under ``runs_directory``, folders, ``latest`` or ``previous``; the latest one if there are none.
    The page is ``report.html`` in the folder of the last one, or ``out``; the Markdown lies beside it. Each step is
    announced by ``harness.messages.say``; ``tell`` gets the blocks' answers, with which the page begins.
    """
    names = [runs] if isinstance(runs, str | Path) else list(runs)
    directories = list(dict.fromkeys(find_run(run, runs_directory) for run in names or ["latest"]))
    path = Path(out) if out else directories[-1] / "report.html"
    say(f"reading {', '.join(directory.name for directory in directories)}")
    blocks = blocks_of(directories)
    say("comparing explainers")
    answers, boards = [answer(block) for block in blocks], [entries(block) for block in blocks]
    say("comparing runs")
    beside = side_by_side(blocks)
    say("drawing maps")
    galleries = [gallery(block, MOST_TILES // max(1, len(blocks))) for block in blocks]
    title = f"Report of {', '.join(directory.name for directory in directories)}"
    texts = {
        path: page(title, blocks, answers, boards, galleries, beside=beside, tell=say),
        path.with_suffix(".md"): markdown(title, blocks, answers, boards, galleries, beside=beside),
    }
    for place, text in texts.items():
        with whole_file(place) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    tell(answers)
    return path
