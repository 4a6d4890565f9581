"""The page: its sections in order, with style and scripts inlined, so that it works offline."""

from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from harness.results.answer import Answer
from harness.results.report.blocks import ReportBlock
from harness.results.report.board import Places, leaderboard_part
from harness.results.report.curves import MOST_CURVE_BYTES, curves_of
from harness.results.report.elements import note, of_block, section
from harness.results.report.gains import blocks_part
from harness.results.report.gallery import Gallery
from harness.results.report.markup import Raw, script_data, tag
from harness.results.report.metric_cards import metric_cards_part
from harness.results.report.origin import origin_part
from harness.results.report.pairs import pairs_part
from harness.results.report.pareto import pareto_part
from harness.results.report.pictures import pictures_part
from harness.results.report.published import PUBLISHED_LEAD, PUBLISHED_TITLE, published_part
from harness.results.report.relations import agreement_part, ranks_part, stability_part
from harness.results.report.sections import answer_part, failures_part, groups_part, sanity_part
from harness.results.report.side_by_side import BESIDE_TITLE, Beside, beside_part

SCRIPTS = ("page.js", "keys.js", "tables.js", "curves.js", "gallery.js")
# Of each section: its name, its word in the navigation, its heading, and how to read it. One without content does not
# appear.
PAGE_SECTIONS = (
    ("verdict", "Answer", "Answer", ""),
    ("runs", "Runs", BESIDE_TITLE, ""),
    (
        "cost",
        "Cost",
        "Quality against cost",
        "Means with 95 % intervals. An explainer is off the Pareto front only if another is shown to be better and is "
        "cheaper.",
    ),
    (
        "pairs",
        "Pairs",
        "Who beats whom",
        "Mean difference, row less column, with an interval; the intervals of all pairs hold together with 95 %. Only "
        "pairs that are shown to differ have a colour: green where the row is better, orange where it is worse.",
    ),
    ("leaderboard", "Leaderboard", "Leaderboard", ""),
    ("published", "Published", PUBLISHED_TITLE, PUBLISHED_LEAD),
    ("ranks", "Ranks", "Ranks across models and data", "Explainers joined by a bar are not shown to differ."),
    (
        "agreement",
        "Agreement",
        "Agreement between metrics",
        "Kendall's tau-b between the rankings that two metrics "
        "give, with 95 % intervals: 1 is the same order, 0 unrelated, −1 reversed.",
    ),
    (
        "curves",
        "Curves",
        "Curves",
        "Mean over samples with its 95 % interval; dashed: the best control. Click a panel to see single samples.",
    ),
    ("gallery", "Gallery", "Gallery", ""),
    ("pictures", "Pictures", "Pictures", ""),
    (
        "stability",
        "Stability",
        "Stability against the number of samples",
        "Would fewer samples have given the same ranking? With all samples the ranking agrees with itself by "
        "definition. A * marks an alpha below 0.4: there, single samples rank explainers differently.",
    ),
    ("sanity", "Sanity", "Sanity and audit", ""),
    (
        "groups",
        "Groups",
        "Gaps between groups",
        "The largest difference between the means of groups of samples. A gap need not be caused by the explainer.",
    ),
    ("metrics", "Metrics", "What the metrics ask", ""),
    ("failures", "Failures", "Failures and skips", ""),
    ("origin", "Reproduce", "Environment and how to reproduce", ""),
)


def page(
    title: str,
    blocks: Sequence[ReportBlock],
    answers: Sequence[Answer],
    boards: Sequence[Places],
    galleries: Sequence[Gallery],
    *,
    beside: Sequence[Beside] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> str:
    """The whole page as HTML; ``beside`` are the blocks that several runs measured, and ``tell`` is called with the
    heading of each section before it is made."""
    data = {"curves": [], "tiles": {key: tile for gallery in galleries for key, tile in gallery.tiles.items()}}
    several = len(blocks) > 1
    whole = {
        "verdict": lambda: _answers(blocks, answers),
        "runs": lambda: beside_part(beside),
        "ranks": lambda: ranks_part(blocks),
        "pictures": lambda: pictures_part(blocks),
    }
    of_each = {
        "cost": lambda i: pareto_part(blocks[i]),
        "pairs": lambda i: pairs_part(blocks[i]),
        "leaderboard": lambda i: leaderboard_part(blocks[i], boards[i]),
        "published": lambda i: published_part(blocks[i]),
        "agreement": lambda i: agreement_part(blocks[i]),
        "curves": lambda i: _curves_part(blocks[i], data, len(blocks)),
        "gallery": lambda i: galleries[i].part,
        "stability": lambda i: stability_part(blocks[i]),
        "sanity": lambda i: sanity_part(blocks[i]),
        "groups": lambda i: groups_part(blocks[i]),
        "metrics": lambda i: metric_cards_part(blocks[i]),
        "failures": lambda i: failures_part(blocks[i]),
        "origin": lambda i: origin_part(blocks[i]),
    }
    shown, parts = [], []
    for name, word, heading, lead in PAGE_SECTIONS if blocks else ():
        tell(heading)
        body = whole[name]() if name in whole else _parts_of_blocks(blocks, of_each[name], several=several)
        if body:
            shown.append((name, word))
            parts.append(section(name, heading, lead, body))
    main = tag("main", parts or note("The run has no cells yet."), id="content", tabindex=-1)
    skip = tag("a", "Skip to the content", href="#content", class_="skip")
    return document(title, [skip, _page_top(title, blocks), _navigation(shown), main, _detail()], data)


def _parts_of_blocks(blocks: Sequence[ReportBlock], part: Callable[[int], Raw | None], *, several: bool) -> list[Raw]:
    """A section's parts, of those blocks that have content for it."""
    made = [(block, part(place)) for place, block in enumerate(blocks)]
    return [of_block(block, body, several=several) for block, body in made if body]


def _answers(blocks: Sequence[ReportBlock], answers: Sequence[Answer]) -> list[Raw]:
    """A row per block where there are several, then each block's answer and first table."""
    several = len(blocks) > 1
    each = [answer_part(*pair, several=several) for pair in zip(blocks, answers, strict=True)]
    return [blocks_part(blocks, answers), *each] if several else each


def document(
    title: str,
    body: list[Raw],
    data: dict[str, Any],
    *,
    scripts: Sequence[str] = SCRIPTS,
    styles: Sequence[str] = ("page.css",),
) -> str:
    """A whole page with its packaged scripts and styles inlined; ``data`` is what the scripts read."""
    tip = tag("div", id="tip", role="tooltip", hidden=True)
    own = [script_data("report-data", data), *(Raw(f"<script>{_packaged(name)}</script>") for name in scripts)]
    return f"<!doctype html>\n{tag('html', _page_head(title, styles), tag('body', body, tip, own), lang='en')}\n"


def _navigation(shown: Sequence[tuple[str, str]]) -> Raw:
    links = [tag("a", word, href=f"#{name}") for name, word in shown]
    return tag("nav", links, aria_label="Sections") if links else Raw("")


def _detail() -> Raw:
    """The dialog that a tile of the gallery opens."""
    close = tag("form", tag("button", "Close", class_="close"), method="dialog")
    return tag("dialog", close, tag("div", id="detail-body"), id="detail", aria_label="Explanation of one sample")


def _curves_part(block: ReportBlock, data: dict[str, Any], count: int) -> Raw | None:
    curves = curves_of(block, MOST_CURVE_BYTES // count)
    if not curves:
        return None
    places = range(len(data["curves"]), len(data["curves"]) + len(curves))
    data["curves"] += curves
    options = [tag("option", each["metric"], value=place) for place, each in zip(places, curves, strict=True)]
    pick = tag("label", tag("span", "Metric"), tag("select", options, class_="pick-curve"), class_="filter")
    tools, legend = tag("div", pick, class_="tools"), tag("p", class_="legend axis-name")
    single = tag("div", class_="single", aria_live="polite")
    return tag("div", tools, legend, tag("div", class_="panels"), single, class_="curves")


def _page_head(title: str, styles: Sequence[str]) -> Raw:
    return tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        *(Raw(f"<style>{_packaged(name)}</style>") for name in styles),
    )


def _page_top(title: str, blocks: Sequence[ReportBlock]) -> Raw:
    sizes = [f"{b.samples} samples, {len(b.explainers)} explainers, {len(b.metrics)} metrics" for b in blocks[:1]]
    about = f"{blocks[0].heading}: {sizes[0]}" if len(blocks) == 1 else f"{len(blocks)} blocks"
    theme = tag("button", "Dark", type="button", id="theme", aria_pressed="false")
    options = [tag("option", "all", value="")] + [tag("option", b.heading, value=b.key) for b in blocks]
    pick = tag("label", tag("span", "Show"), tag("select", options, id="pick-block"), class_="filter")
    tools = tag("div", pick if len(blocks) > 1 else "", theme, class_="tools")
    return tag("header", tag("div", tag("h1", title), tag("p", about, class_="lead")), tools, class_="top")


def _packaged(name: str) -> str:
    return resources.files("harness.results.report").joinpath(name).read_text(encoding="utf-8")
