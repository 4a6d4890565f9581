"""Who beats whom: every pair of explainers on one metric, with the mean difference and its interval."""

import numpy as np

from harness.results.family import Family
from harness.results.numbers import rounded_together, significant, with_sign
from harness.results.report.blocks import ReportBlock
from harness.results.report.markup import Raw, soft, tag

MOST_MATRICES = 12  # metrics that can be chosen, in the leaderboard's order, the headline first
MOST_WITH_INTERVALS = 16  # explainers, above which an interval is told by its cell's tip only
OTHER_METRIC = "Metrics beside the headline are exploratory: their pairs are tested as a family for each metric."


def pairs_part(block: ReportBlock) -> Raw | None:
    """A block's matrices, one per metric that can be tested, the headline's shown; None where there is none."""
    families = _families_of(block)
    if not families:
        return None
    matrices = [
        _pair_matrix(block, metric, family, hidden=place > 0) for place, (metric, family) in enumerate(families)
    ]
    options = [tag("option", metric, value=f"pairs-{block.key}-{metric}") for metric, _ in families]
    pick = tag("label", tag("span", "Metric"), tag("select", options, class_="pick-pairs"), class_="filter")
    first = families[0][0]
    few = "" if families[0][1].able else f" {families[0][1].n} samples are too few to show a difference."
    return tag(
        "div",
        tag("div", pick, class_="tools") if len(families) > 1 else "",
        matrices,
        tag("p", f"{OTHER_METRIC}{few}" if len(families) > 1 else few, class_="fine"),
        class_="pairs",
        data_headline=first,
    )


def _families_of(block: ReportBlock) -> list[tuple[str, Family]]:
    """The first metrics whose pairs are tested."""
    order = sorted(block.families, key=lambda metric: metric != block.headline)
    return [(metric, block.families[metric]) for metric in order][:MOST_MATRICES]


def _pair_matrix(block: ReportBlock, metric: str, family: Family, *, hidden: bool) -> Raw:
    """A row for each explainer, the best mean first, against each other in a column."""
    order = [family.names[place] for place in np.argsort(-family.mean, kind="stable")]
    wide = len(order) <= MOST_WITH_INTERVALS
    corner = tag("th", tag("span", "row less column", class_="below"), scope="col")
    heads = tag("tr", corner, [tag("th", tag("span", soft(name)), scope="col") for name in order])
    rows = [
        tag("tr", _row_head(block, family, name), [_pair_cell(family, name, other, wide) for other in order])
        for name in order
    ]
    unit = f", {block.unit(metric)}" if block.unit(metric) not in ("", metric) else ""
    caption = (
        f"{metric}{unit}: mean difference over the {family.n} samples that all have, positive where the row is better"
    )
    table = tag("table", tag("caption", caption), tag("thead", heads), tag("tbody", rows), class_="pair-table")
    return tag(
        "div",
        table,
        class_="scroll" + (" dense" if not wide else ""),
        tabindex=0,
        role="region",
        aria_label=f"Pairs of explainers by {metric}, {block.heading}",
        id=f"pairs-{block.key}-{metric}",
        hidden=hidden,
    )


def _row_head(block: ReportBlock, family: Family, name: str) -> Raw:
    """A name, and how many others it is shown to be better and worse than."""
    won = sum(family.better(name, other) for other in family.names if other != name)
    lost = sum(family.better(other, name) for other in family.names if other != name)
    word = tag("span", f"{won} won, {lost} lost", class_="word")
    return tag("th", soft(name), word, scope="row", class_="control" if name in block.controls else None)


def _pair_cell(family: Family, name: str, other: str, wide: bool) -> Raw:
    if name == other:
        return tag("td", class_="self")
    value, (low, high) = family.difference(name, other), family.interval(name, other)
    shown, ends = _difference_texts(value, low, high)
    kind = ("win" if value > 0 else "loss") if family.differs(name, other) else None
    words = {"win": f"{name} is shown to be better", "loss": f"{name} is shown to be worse"}
    return tag(
        "td",
        shown,
        tag("span", ends, class_="below") if wide and ends else "",
        class_=kind,
        data_tip=f"{name} less {other}: {shown} {ends}\n{words.get(kind, 'not shown to differ')}",
    )


def _difference_texts(value: float, low: float, high: float) -> tuple[str, str]:
    """A difference and its interval as short text; "" where there is no interval."""
    if not np.isfinite([low, high]).all():
        return with_sign(significant(value)), ""
    number, bottom, top = rounded_together(value, low, high)
    return with_sign(number), f"[{bottom}, {top}]"
