"""Runs the experiments of papers at full scale and writes a page for each: ``python docs/papers.py [NAME ...]``.

Without a name it runs all that need no data. Each gets docs/papers/NAME.md with its figures, and a row in the table of
docs/reproducing.md; what it printed is written to docs/papers/log.txt. Parts that are kept in
runs/reproduce are not measured again.
"""

import json
import sys
import textwrap
from pathlib import Path

from pages import as_table, replaced, save_picture

from harness.reproducing.paper import Paper, names, paper
from harness.reproducing.reproduce import Reproduction, reproduce
from harness.reproducing.written import in_minutes, reproduction_markdown, terminal_lines

DOCS = Path(__file__).parent
FOLDER, PAGE = DOCS / "papers", DOCS / "reproducing.md"
FACTS, LOG = FOLDER / "facts.json", FOLDER / "log.txt"
MARK = "papers"
WIDTH = 1100  # pixels of a figure
MOST_LINES = 60  # of a page
EXAMPLE, EXAMPLES = "published_rankings", 5  # whose first results the page shows, and how many


def run(name: str) -> None:
    """Run one experiment and write its page."""
    runs = DOCS.parent / "runs"
    found = reproduce(name, runs=runs, say=lambda line: print(line, flush=True))
    facts = json.loads(FACTS.read_text(encoding="utf-8")) if FACTS.exists() else {}
    facts[name] = {"told": found.told, "bad": len(found.bad)}
    facts[name]["log"] = list(terminal_lines(found))
    FACTS.write_text(f"{json.dumps(dict(sorted(facts.items())), indent=1, ensure_ascii=False)}\n", encoding="utf-8")
    (FOLDER / f"{name}.md").write_text(page_of(found), encoding="utf-8")


def page_of(found: Reproduction) -> str:
    """The page of an experiment; its figures are written beside it."""
    about = found.paper
    pictures = []
    for name, drawing in found.findings.figures.items():
        path = FOLDER / f"{about.name}-{name}.png"
        save_picture(drawing, path, WIDTH, colours=256)
        pictures.append(f"![{name.replace('_', ' ')}]({path.name})")
    title, rest = reproduction_markdown(found, MOST_LINES).split("\n", 1)
    how = (
        f"`harness reproduce {about.name}`; {about.paper}, {about.arxiv}. Back to [all experiments](../reproducing.md)."
    )
    return "\n\n".join([title.removeprefix("#"), how, *pictures]) + "\n" + rest


def table(facts: dict) -> str:
    """The table of all experiments."""
    heads = ("experiment", "paper", "verdicts", "on two cores", "small scale")
    return as_table(heads, [_row(paper(name), facts.get(name)) for name in names()])


def _row(about: Paper, facts: dict | None) -> tuple[str, ...]:
    name = f"[{about.name}](papers/{about.name}.md)" if facts else about.name
    if facts:
        told = facts["told"]
    else:
        told = "needs your data" if about.needs else "no page yet"
    times = (in_minutes(about.minutes[scale]) for scale in ("full", "small"))
    return name, f"{about.title} ({about.paper})", told, *times


def _example(log: list[str]) -> str:
    """The first lines of a log as a code block of a page's width."""
    shown = [each for line in log[: 2 * EXAMPLES + 1] for each in _wrapped(line)]
    return "\n".join(["```", f"$ harness reproduce {EXAMPLE}", *shown, "...", "```"])


def _wrapped(line: str) -> list[str]:
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line.strip(), 116, initial_indent=indent, subsequent_indent=indent or "  ")


def write() -> None:
    """Write the table and the log."""
    facts = json.loads(FACTS.read_text(encoding="utf-8"))
    page = replaced(PAGE.read_text(encoding="utf-8"), MARK, table(facts))
    PAGE.write_text(replaced(page, "example", _example(facts[EXAMPLE]["log"])), encoding="utf-8")
    parts = [f"$ harness reproduce {name}\n" + "\n".join(each["log"]) for name, each in facts.items()]
    LOG.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in sys.argv[1:] or [name for name in names() if not paper(name).needs]:
        run(each)
    write()
