"""A reproduction in words: for the terminal, as Markdown, and the list of all experiments."""

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from harness.reproducing.lines import DIFFERS, FAILS, HOLDS, NOT_COMPARABLE, REPRODUCED, Line
from harness.reproducing.paper import Paper
from harness.reproducing.reproduce import Reproduction
from harness.results.formats import markdown_text
from harness.results.numbers import significant

LINE = 100  # characters
MARKS = {REPRODUCED: "✓", HOLDS: "✓", DIFFERS: "✗", FAILS: "✗", NOT_COMPARABLE: "·"}
MOST_LINES = 40  # of numbers that cannot be compared or are reproduced; all are in the files


def listing(papers: Sequence[Paper]) -> Iterator[str]:
    """A paragraph for each experiment, those that run here first: what it needs and how long it takes."""
    groups = {
        "These run without data of yours; times are on two cores:": [each for each in papers if not each.needs],
        "These need data of yours (data=FOLDER); scale=small runs the same code without:": [
            each for each in papers if each.needs
        ],
    }
    for heading, own in groups.items():
        yield from (heading, "")
        for each in own:
            yield f"  {each.name}: {in_minutes(each.minutes['full'])}, scale=small {in_minutes(each.minutes['small'])}"
            source = f"{each.paper}{f', arXiv:{each.arxiv}' if each.arxiv != 'none' else ''}"
            yield from _indented(f"{each.title} ({source})")
            if each.needs:
                yield from _indented(f"data=FOLDER holds {each.needs}")
            if each.optional_data:
                yield from _indented(f"data=FOLDER may hold {each.optional_data}")
        yield ""


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, LINE, initial_indent="      ", subsequent_indent="      ")


def in_minutes(minutes: float) -> str:
    """A time in seconds, minutes or hours."""
    if minutes < 1:
        return f"{max(1, round(60 * minutes))} s"
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:,.0f} h"


def headline(found: Reproduction) -> str:
    """One sentence: how many lines have which verdict, and whether something that should hold does not."""
    bad = len(found.bad)
    end = "nothing that should hold fails" if not bad else f"{bad} that should hold {'does' if bad == 1 else 'do'} not"
    return f"{found.paper.title}: {found.told}; {end}."


def terminal_lines(found: Reproduction) -> Iterator[str]:
    """The headline, a line or two for each verdict, what differs from the paper, and the notes."""
    yield headline(found)
    shown = _weightiest_first(found.lines)
    for each in shown[:MOST_LINES]:
        yield f"{MARKS[each.verdict]} {each.verdict}: {each.what}"
        yield f"      {details(each)}"
    if len(shown) > MOST_LINES:
        yield f"  and {len(shown) - MOST_LINES} more lines, which are in the files"
    for title, texts in (("Deviations", found.paper.deviations), ("Notes", found.findings.notes)):
        if texts:
            yield f"{title}:"
            yield from (f"  - {each}" for each in texts)


def _weightiest_first(lines: Sequence[Line]) -> list[Line]:
    """What should hold and does not, what fails, claims that hold, numbers that are reproduced, and the rest."""
    order = lambda each: (
        not each.bad,
        each.verdict not in (DIFFERS, FAILS),
        not each.claim,
        each.verdict == NOT_COMPARABLE,
    )
    return sorted(lines, key=order)


def details(line: Line) -> str:
    """The numbers of a line and where they are from."""
    parts = [line.measured] if line.measured else []
    if np.isfinite(line.theirs):
        parts.append(f"ours {ours_in_words(line)}, published {theirs_in_words(line)}")
        parts.append(f"tolerance {significant(line.tolerance)}: {line.why}")
    else:
        parts += [line.why] if line.why else []
        parts += [f"n = {line.n:,}"] if line.n else []
    parts += [line.reason] if line.reason else []
    parts += [f"tried: {line.tried}"] if line.tried else []
    source = ", ".join(filter(None, (line.source, line.provenance)))
    return "; ".join([*parts, f"[{source}]"])


def ours_in_words(line: Line) -> str:
    """Our number with its spread, its kind and n."""
    return _with_spread(line.ours, line.spread, line.spread_kind, "" if line.n is None else f"{line.n:,}")


def theirs_in_words(line: Line) -> str:
    """The published number with its spread, its kind and n."""
    return _with_spread(line.theirs, line.their_spread, line.their_spread_kind, line.their_n)


def _with_spread(value: float, spread: float, kind: str, n: str) -> str:
    if not np.isfinite(value):
        return "none"
    text = significant(value)
    about = []
    if np.isfinite(spread):
        text += f" ± {significant(spread)}"
        about.append(kind)
    about += [f"n = {n}"] if n else []
    return f"{text} ({', '.join(about)})" if about else text


def _tolerance_or_test(line: Line) -> str:
    text = f"{significant(line.tolerance)}: {line.why}" if np.isfinite(line.tolerance) else line.why
    return f"{text}; tried: {line.tried}" if line.tried else text


def reproduction_markdown(found: Reproduction, most: int | None = None) -> str:
    """The whole reproduction as Markdown, or at most so many of its lines, those that matter most first."""
    about = found.paper
    parts = [f"## {markdown_text(about.title)}", markdown_text(headline(found))]
    heads = ("", "verdict", "what", "ours", "published", "tolerance or test", "source")
    rows = [
        (
            MARKS[each.verdict],
            each.verdict + (f" ({each.reason})" if each.reason else ""),
            each.what,
            each.measured or ours_in_words(each),
            theirs_in_words(each) if np.isfinite(each.theirs) else "",
            _tolerance_or_test(each),
            ", ".join(filter(None, (each.source, each.provenance))),
        )
        for each in (found.lines if most is None else _weightiest_first(found.lines)[:most])
    ]
    table = ["| " + " | ".join(map(markdown_text, row)) + " |" for row in (heads, *rows)]
    parts.append("\n".join([table[0], "| --- " * len(heads) + "|", *table[1:]]))
    if most is not None and len(found.lines) > most:
        parts.append(f"{len(found.lines) - most} more lines: `harness reproduce {about.name} --csv FILE` writes all.")
    for title, texts in (("Deviations", about.deviations), ("Notes", found.findings.notes)):
        if texts:
            parts += [f"**{title}**", "\n".join(f"- {markdown_text(each)}" for each in texts)]
    stated = "\n".join(f"- {markdown_text(k.replace('_', ' '))}: {markdown_text(v)}" for k, v in about.choices.items())
    return "\n\n".join([*parts, "**Choices that decide the numbers**", stated]) + "\n"
