"""A reproduction as a page, which needs no network: ours beside theirs, and figures in the paper's form."""

import base64
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure

from harness.reproducing.lines import DIFFERS, FAILS, Line
from harness.reproducing.reproduce import Reproduction
from harness.reproducing.written import MARKS, headline, ours_in_words, theirs_in_words
from harness.results.numbers import significant
from harness.results.report.elements import Head, TableCell, html_table, section
from harness.results.report.markup import Raw, tag
from harness.results.report.page import document


def reproduction_page(found: Reproduction) -> str:
    """The whole page as HTML."""
    about = found.paper
    claims, numbers = ([each for each in found.lines if each.claim is claim] for claim in (True, False))
    bodies = {
        ("answer", "Answer", ""): _first_words(found),
        ("figures", "Figures", "In the form of the paper's own."): _figures(found.findings.figures),
        ("claims", "Claims", "Each with its test."): _claims(claims),
        ("numbers", "Numbers", "Published numbers beside ours."): _numbers(numbers),
        ("protocol", "Protocol", ""): _stated_choices(found),
    }
    parts = [section(*words, body) for words, body in bodies.items() if body is not None]
    theme = tag("button", "Dark", type="button", id="theme", aria_pressed="false")
    lead = tag("p", f"{about.paper}, {about.arxiv}; {found.scale} scale", class_="lead")
    top = tag("header", tag("div", tag("h1", about.title), lead), tag("div", theme, class_="tools"), class_="top")
    scripts, styles = ("page.js", "tables.js"), ("page.css",)
    return document(
        about.title, [top, tag("main", [each for each in parts if each])], {}, scripts=scripts, styles=styles
    )


def _first_words(found: Reproduction) -> Raw:
    bad = [tag("li", each.what) for each in found.bad]
    return tag(
        "article",
        tag("p", headline(found), class_="answer"),
        tag("ul", bad) if bad else "",
        class_="verdict none" if bad else "verdict",
    )


def _figures(figures: dict[str, Figure]) -> Raw | None:
    shown = []
    for name, drawing in figures.items():
        buffer = BytesIO()
        drawing.savefig(buffer, format="png")
        data = base64.b64encode(buffer.getvalue()).decode()
        picture = tag("img", src=f"data:image/png;base64,{data}", alt=name, loading="lazy")
        shown.append(tag("figure", picture, tag("figcaption", name.replace("_", " "))))
    return tag("div", shown, class_="pictures") if shown else None


def _verdict_of_line(line: Line) -> TableCell:
    below = tag("span", line.reason, class_="below") if line.reason else ""
    classes = "worse" if line.verdict in (DIFFERS, FAILS) else ""
    return TableCell([f"{MARKS[line.verdict]} {line.verdict}", below], line.verdict, classes)


def _claims(lines: list[Line]) -> Raw | None:
    heads = [Head("claim"), Head("verdict"), Head("measured"), Head("test"), Head("source")]
    below = lambda each: tag("span", f"Tried: {each.tried}", class_="below") if each.tried else ""
    rows = [
        [
            TableCell([each.what, below(each)], each.what),
            _verdict_of_line(each),
            each.measured,
            each.why + (f" (n = {each.n:,})" if each.n else ""),
            each.source,
        ]
        for each in lines
    ]
    return html_table("Claims", heads, rows) if rows else None


def _numbers(lines: list[Line]) -> Raw | None:
    heads = [
        Head("what was published"),
        Head("verdict"),
        Head("ours", True),
        Head("published", True),
        Head("tolerance", True),
        Head("why"),
        Head("known from"),
        Head("source"),
    ]
    rows = [
        [
            TableCell([each.what, tag("span", each.note, class_="below") if each.note else ""], each.what),
            _verdict_of_line(each),
            TableCell(ours_in_words(each), each.ours if np.isfinite(each.ours) else None),
            TableCell(theirs_in_words(each), each.theirs),
            TableCell(significant(each.tolerance), each.tolerance),
            each.why,
            each.provenance,
            each.source,
        ]
        for each in lines
    ]
    return html_table("Published numbers beside ours", heads, rows) if rows else None


def _stated_choices(found: Reproduction) -> Raw:
    about = found.paper
    stated = {
        "source of the published numbers": f"{about.source} ({about.provenance})",
        "table or figure": about.table_or_figure,
        "images": about.n_images,
        "which": about.subset_rule,
        "controls": about.controls,
        "sizes": ", ".join(f"{name} {value}" for name, value in about.sizes[found.scale].items()) or "none",
        **{name.replace("_", " "): answer for name, answer in about.choices.items()},
    }
    rows = [[name, text] for name, text in stated.items()]
    lists = [
        tag("div", tag("h3", title), tag("ul", [tag("li", each) for each in texts]), class_="caveats")
        for title, texts in (("Deviations from the paper", about.deviations), ("Notes", found.findings.notes))
        if texts
    ]
    return tag("div", lists, html_table("Choices that decide the numbers", [Head("choice"), Head("here")], rows))
