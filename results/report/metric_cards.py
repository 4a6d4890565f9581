"""A card for each metric of a run: what it asks, direction, range, the score of guessing, needs, source, and how far it
agrees with a known truth."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.metric_facts import agreement_with_truth, range_in_words, source_paper, what_it_asks
from harness.registry import METRICS, Metric
from harness.results.board import DIRECTIONS
from harness.results.frames import configured
from harness.results.numbers import significant, with_interval
from harness.results.report.blocks import ReportBlock
from harness.results.report.markup import Raw, soft, tag

NEEDS = {
    "explainer": "the explainer itself, to explain again",
    "masks": "masks of the object",
    "truth": "the known right attribution",
    "labels": "labels",
    "train": "training inputs",
    "train_labels": "labels of training inputs",
}
NO_DIRECTION = "no direction: it is not ranked by"


def metric_cards_part(block: ReportBlock) -> Raw:
    """A card per metric of the block, in the leaderboard's order."""
    return tag("div", [_card(block, metric) for metric in block.metrics], class_="cards")


def _card(block: ReportBlock, metric: str) -> Raw:
    entry = _entry_of(block.about.loc[metric, "name"])
    asks = tag("p", what_it_asks(entry)) if entry else ""
    facts = [tag("div", tag("dt", name), tag("dd", text)) for name, text in _facts(block, metric, entry)]
    name = tag("h3", soft(metric), tag("span", block.about.loc[metric, "kind"], class_="kind"))
    return tag("article", name, asks, tag("dl", facts), class_="card")


def _entry_of(name: str) -> Metric | None:
    """The registered metric; None for one of the user's, or of a library that is not installed here."""
    try:
        return METRICS[name]
    except (UserError, ImportError):
        return None


def _facts(block: ReportBlock, metric: str, entry: Metric | None) -> Iterator[tuple[str, str]]:
    options = _options_of_metric(block, metric, entry)
    yield "better", DIRECTIONS.get(block.better(metric), NO_DIRECTION).removesuffix(" is better")
    yield "range", (range_in_words(entry.span_of(options)) if entry else "") or "not declared"
    if block.unit(metric):
        yield "unit", block.unit(metric)
    chance = _chance_in_words(block, metric, entry.chance_of(options) if entry else None)
    if chance:
        yield "by chance", chance
    if entry is None:
        return
    if entry.needs:
        yield "needs", ", ".join(NEEDS.get(need, need) for need in entry.needs)
    if source_paper(entry):
        yield "source", source_paper(entry)
    agreement = agreement_with_truth(entry.name)
    if agreement:
        yield "agreement", agreement.text


def _options_of_metric(block: ReportBlock, metric: str, entry: Metric | None) -> Mapping[str, Any]:
    """The options under which the metric was measured, over the registered defaults."""
    config = next(row["config"] for row in block.cells.to_dict("records") if row["metric"] == metric)
    own = {name: value for name, value in configured(config, "metric").items() if name != "name"}
    return {**(entry.options if entry else {}), **own}


def _chance_in_words(block: ReportBlock, metric: str, known: float | None) -> str:
    """What a map of random numbers scores: by theory, and as this run measured it with its ``random`` control."""
    told = [f"{significant(known)} expected"] if known is not None else []
    cells = block.cells[(block.cells["explainer"] == "random") & (block.cells["metric"] == metric)]
    measured = cells[(cells["status"] == "ok") & np.isfinite(cells["value"].astype(float))]
    if len(measured) and block.about.loc[metric, "kind"] != "cost":
        row = measured.iloc[0]
        told.append(f"{with_interval(row['value'], row['ci_low'], row['ci_high'])} measured with random maps")
    return ", ".join(told)
