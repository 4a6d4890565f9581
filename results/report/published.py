"""Published values beside ours, where a run measured what a packaged table reports (``harness.results.reference``).

A row of the table belongs to a cell if the architecture with its weights, the data set, the explainer, the metric and
every option that the table names are the same. What cannot be told from a run's configuration is not the same: a folder
of images is not known to be ImageNet.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.results.frames import configured
from harness.results.numbers import significant
from harness.results.place import Place, place_of_cell
from harness.results.plain_text import markdown_text
from harness.results.reference import SRG
from harness.results.report.blocks import ReportBlock
from harness.results.report.board import markdown_rows
from harness.results.report.elements import Head, TableCell, html_table
from harness.results.report.markup import Raw, soft, tag

PUBLISHED_TITLE = "Published values beside ours"
PUBLISHED_LEAD = "Values that others published for the same model, data set, explainer, metric and options."
PROVENANCE = {"seen": "read in the authors' data", "computed": "computed from the authors' data"}
SECTIONS_OF_CELL = ("model", "dataset", "explainer", "metric", "protocol")

Options = Mapping[str, Any]


@dataclass(frozen=True)
class PublishedTable:
    """A packaged table of published values, and which of our configurations its words stand for.

    csv        the file, with columns model dataset explainer metric table_or_figure value provenance source
    words      for each of these columns, its words -> options of our configuration; a word that is missing here has no
               counterpart that is certain
    protocol   the protocol that all rows have
    unlike     what a reader has to know: the differences that remain
    skipped    notes of rows that measure something else begin with this
    """

    csv: Path
    words: Mapping[str, Mapping[str, Options]]
    protocol: Options
    unlike: str
    skipped: str


@dataclass(frozen=True)
class PublishedRow:
    """A published value beside our cell of ``label`` and ``metric``; where it stands, and whether it was verified."""

    label: str
    metric: str
    ours: Place
    value: float
    spread: float
    setting: str
    verified: str
    source: str
    unlike: str


# Blücher et al. 2024 (2401.06654), by the code of bluecher31/pixel-flipping: resnet50(pretrained=True), the absolute
# gradient of captum, inputs in which 0 is the mean colour. Left out: timm's network, whose weights depend on the
# version of timm; LRP, which there has no canonizer, and noise tunnels, whose noise is not relative; imputers that draw
# from data or inpaint otherwise; 5,000 superpixels, whose area ends at a share of .89.
BLUECHER = PublishedTable(
    csv=SRG,
    words={
        "model": {
            "ResNet-50 (torchvision)": {
                "name": "torchvision",
                "architecture": "resnet50",
                "weights": "IMAGENET1K_V1",
                "transforms": None,
            }
        },
        "dataset": {"ImageNet val subset": {"name": "torchvision", "which": "ImageNet", "split": "val"}},
        "explainer": {
            "Gradient": {"name": "saliency"},
            "IG": {"name": "integrated_gradients", "steps": 50, "baseline": "zero", "method": "gausslegendre"},
            "InputXGradient": {"name": "input_x_gradient"},
            "random": {"name": "random"},
        },
        "metric": {
            "SRG (LIF - MIF)": {"name": "srg", "score": "probability"},
            "MIF AUC": {"name": "deletion", "order": "morf", "score": "probability"},
            "LIF AUC": {"name": "deletion", "order": "lerf", "score": "probability"},
        },
        "table_or_figure": {
            f"imputer=constant 0; superpixels={number}": {
                "granularity": "segment",
                "segments": f"slic:{number}",
                "baseline": "zero",
            }
            for number in (25, 100, 500)
        },
    },
    protocol={"target": "label", "dtype": "float32", "reduction": "sum"},
    unlike=(
        "Theirs are other images of the validation set (100 by default; a random map's SRG varies by .012 between "
        "settings), resized to 224 pixels before the crop, with SLIC superpixels of compactness 1, and curves of 15 "
        "points at logarithmic distances; so differences below about .03 show nothing"
    ),
    skipped="AUC over the occluded fraction",
)
PUBLISHED_TABLES = (BLUECHER,)


def published_rows(block: ReportBlock) -> list[PublishedRow]:
    """The published values of a block's cells, in the order of its leaderboard; none where nothing is the same."""
    cells = [block.cell(metric, label) for metric in block.metrics for label in block.explainers]
    measured = [row for row in cells if row is not None and row["status"] == "ok" and np.isfinite(row["value"])]
    return [
        _published_row(row, published, table)
        for row in measured
        for table in PUBLISHED_TABLES
        for published in _rows_of_same_setting(row, table)
    ]


def _rows_of_same_setting(row: Mapping[str, Any], table: PublishedTable) -> list[dict[str, Any]]:
    """The rows of a table that report what a cell measures."""
    ours = {section: configured(row["config"], section) for section in SECTIONS_OF_CELL}
    if not _agrees(ours["protocol"], table.protocol):
        return []
    # The table's column for the setting names options of the metric.
    sections = {name: ours["metric" if name == "table_or_figure" else name] for name in table.words}
    known = {
        name: [word for word, options in words.items() if _agrees(sections[name], options)]
        for name, words in table.words.items()
    }
    rows = _rows_of_table(table.csv, table.skipped)
    return rows[np.logical_and.reduce([rows[name].isin(words) for name, words in known.items()])].to_dict("records")


def _agrees(ours: Options, wanted: Options) -> bool:
    """Whether a configuration has all options that are wanted, with these values."""
    return all(name in ours and ours[name] == value for name, value in wanted.items())


@cache
def _rows_of_table(csv: Path, skipped: str) -> pd.DataFrame:
    rows = pd.read_csv(csv)
    return rows[~rows["note"].fillna("").str.startswith(skipped) & rows["value"].notna()]


def _published_row(row: Mapping[str, Any], published: Mapping[str, Any], table: PublishedTable) -> PublishedRow:
    return PublishedRow(
        label=row["label"],
        metric=row["metric"],
        ours=place_of_cell(row),
        value=float(published["value"]),
        spread=float(published["spread"]),
        setting=", ".join(published[name] for name in ("model", "dataset", "table_or_figure", "explainer", "metric")),
        verified=PROVENANCE[published["provenance"]],
        source=f"{published['paper']}, {published['arxiv']}, {published['source']}",
        unlike=table.unlike,
    )


def published_part(block: ReportBlock) -> Raw | None:
    """A block's part of the page; None where nothing published has the same setting."""
    rows = published_rows(block)
    if not rows:
        return None
    heads = [
        Head("explainer"),
        Head("metric"),
        Head("ours", True),
        Head("published", True),
        Head("verified"),
        Head("their setting"),
    ]
    table = html_table(
        f"Published values beside {block.heading}", [*heads, Head("source")], [_published_cells(row) for row in rows]
    )
    return tag("div", table, [tag("p", f"{text}.", class_="fine") for text in _differences(rows)])


def _published_cells(row: PublishedRow) -> list[Any]:
    below = tag("span", row.ours.interval, class_="below") if row.ours.interval else ""
    ours = TableCell([row.ours.text, below], row.ours.value, "", row.ours.note)
    return [
        TableCell(soft(row.label), row.label),
        row.metric,
        ours,
        TableCell(_value_with_spread(row), row.value),
        row.verified,
        row.setting,
        row.source,
    ]


def published_lines(block: ReportBlock) -> Iterator[str]:
    """A block's part in Markdown; nothing where nothing published has the same setting."""
    rows = published_rows(block)
    if not rows:
        return
    yield from (f"### {PUBLISHED_TITLE}", "")
    heads = ["explainer", "metric", "ours", "published", "verified", "their setting", "source"]
    texts = [
        [
            row.label,
            row.metric,
            f"{row.ours.text} {row.ours.interval}",
            _value_with_spread(row),
            row.verified,
            row.setting,
            row.source,
        ]
        for row in rows
    ]
    yield from (*markdown_rows(heads, texts), "")
    yield from (f"{markdown_text(text)}." for text in _differences(rows))
    yield ""


def _value_with_spread(row: PublishedRow) -> str:
    return significant(row.value) + ("" if np.isnan(row.spread) else f" ± {significant(row.spread)}")


def _differences(rows: Sequence[PublishedRow]) -> list[str]:
    """What remains unlike, once for each table."""
    return list(dict.fromkeys(row.unlike for row in rows))
