"""The leaderboards of a run for a terminal or a log.

One block per model, data set and protocol: explainers down, metrics across, as many panels as the width asks for, notes
below.
"""

import json
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from textwrap import fill
from typing import Any, TextIO

import pandas as pd
from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.results.footnotes import flag_list, footnotes
from harness.results.frames import audit_of, protocols
from harness.results.numbers import count, significant
from harness.results.statistics import ranks, with_caveat

KINDS = ("faithfulness", "truth", "localisation", "sanity", "axiom", "robustness", "complexity", "reference")
COSTS = ("seconds_per_sample", "forward_passes", "backward_passes", "setup_seconds", "peak_memory_mb")
COUNTS = ("forward_passes", "backward_passes")
ARROWS = {"higher": " ↑", "lower": " ↓"}
LETTERS = "; explainers that share a letter are not shown to differ"
LEGEND = "mean [95 % interval] #rank; ↑ higher is better, ↓ lower is better; * see the notes below the block"
LOG_WIDTH, LEAST_WIDTH, GAP = 120, 100, 3
WORDS = {"not_applicable": "n/a"}
STYLES = {"failed": "bold red"}
LINES = Box("    \n    \n ── \n    \n ┄┄ \n    \n    \n    \n")


@dataclass(frozen=True)
class Column:
    """One metric's column: two lines of header and a text per explainer."""

    header: str
    texts: Mapping[str, Text]

    @property
    def width(self) -> int:
        """Characters of its widest line."""
        return max(len(line) for line in [*self.header.split("\n"), *(text.plain for text in self.texts.values())])


def print_table(
    cells: pd.DataFrame,
    *,
    controls: Collection[str] = (),
    letters: Mapping[str, str] | None = None,
    file: TextIO | None = None,
    width: int | None = None,
) -> None:
    """Print the cells of a run as leaderboards of explainers, with the metrics' means, intervals and ranks.

    Rows are in the order of the first metric, ``srg`` where there is one, ``controls`` last; what a library gives
    instead of the method as published is marked with the library's name and has no rank. Without a terminal there
    are no colours and lines have 120 characters. ``letters`` (cell -> letters) stand behind the ranks: explainers that
    share one are not shown to differ. Notes say once why a cell is n/a or failed, and what else to know.
    """
    file = file or sys.stdout
    width = width or (max(LEAST_WIDTH, shutil.get_terminal_size().columns) if file.isatty() else LOG_WIDTH)
    cells = cells.assign(letters=[(letters or {}).get(cell, "") for cell in cells["cell"]])
    file.write("\n".join(_lines(cells, set(controls), width, file.isatty())) + "\n")


def _lines(cells: pd.DataFrame, controls: set[str], width: int, colour: bool) -> Iterator[str]:
    if cells.empty:
        yield "no cells yet"
        return
    yield fill(LEGEND + (LETTERS if cells["letters"].any() else ""), width)
    cells = cells.assign(
        rank=ranks(cells), caveat=with_caveat(cells), protocol=protocols(cells), n_invalid=cells["n_invalid"].fillna(0)
    )
    cells = cells.fillna({name: "?" for name in ("model", "dataset", "explainer", "metric")} | {"unit": "", "kind": ""})
    for (model, dataset), of_pair in cells.groupby(["model", "dataset"]):
        apart = differing(of_pair["protocol"].unique())
        for protocol, block in of_pair.groupby("protocol"):
            yield ""
            heading = f"{model} on {dataset}{apart[protocol]}"
            yield from _block_lines(heading, named_apart(block), controls, width, colour)


def differing(texts: Collection[str]) -> dict[str, str]:
    """Protocols (JSON text) to the settings in which they differ from each other, as a heading shows them."""
    given = {text: json.loads(text) for text in texts}
    names = sorted({name for protocol in given.values() for name in protocol})
    names = [name for name in names if len({json.dumps(protocol.get(name)) for protocol in given.values()}) > 1]
    return {
        text: f" ({', '.join(f'{name}={protocol.get(name)}' for name in names)})" if names else ""
        for text, protocol in given.items()
    }


def _block_lines(heading: str, block: pd.DataFrame, controls: set[str], width: int, colour: bool) -> Iterator[str]:
    metrics = metric_order(block)
    explainers = _explainer_order(block, metrics[0], controls)
    names = {name: name + _mark(name, block, controls) for name in explainers}
    yield from _rendered(Text(f"{heading}: {_sizes(block)}", style="bold"), colour)
    cost = set(block.loc[block["kind"] == "cost", "metric"])
    for group in ([m for m in metrics if m not in cost], [m for m in metrics if m in cost]):
        columns = [_column(block[block["metric"] == metric], explainers) for metric in group]
        for panel in _panels(columns, width - max(len(name) for name in names.values())):
            yield from _rendered(_panel(panel, names), colour)
    for note in footnotes(block):
        yield fill(note, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def named_apart(block: pd.DataFrame) -> pd.DataFrame:
    """An explainer with several cells for a metric gets a part of the cell's name, so that each has its place."""
    twice = block.duplicated(["explainer", "metric"], keep=False)
    label = block["explainer"].where(~twice, block["explainer"] + " " + block["cell"].str[:6])
    return block.assign(label=label)


def _sizes(block: pd.DataFrame) -> str:
    samples = (block["n"] + block["n_invalid"])[block["status"] == "ok"].dropna().unique()
    words = " or ".join(str(number) for number in sorted(samples)) or "no"
    return f"{words} samples, {block['explainer'].nunique()} explainers, {block['metric'].nunique()} metrics"


def metric_order(block: pd.DataFrame) -> list[str]:
    """A block's metrics by kind, srg first of all, costs last."""
    kinds = block.drop_duplicates("metric").set_index("metric")["kind"]

    def place(metric: str) -> tuple[Any, ...]:
        kind = kinds[metric]
        if kind == "cost":
            return 2, COSTS.index(metric) if metric in COSTS else len(COSTS), metric
        return metric != "srg", KINDS.index(kind) if kind in KINDS else len(KINDS), metric

    return sorted(kinds.index, key=place)


def _explainer_order(block: pd.DataFrame, metric: str, controls: set[str]) -> list[str]:
    """The explainers, the best in ``metric`` first, those without a value after them, controls last."""
    first = block[(block["metric"] == metric) & (block["status"] == "ok")]
    sign = first["better"].map({"higher": -1.0, "lower": 1.0}).astype("float64").fillna(0.0)
    worst = float("inf")
    values = dict(zip(first["label"], (first["value"] * sign).fillna(worst), strict=False))
    place = lambda name: (_is_control(name, block, controls), values.get(name, worst), name)
    return sorted(block["label"].unique(), key=place)


def _is_control(label: str, block: pd.DataFrame, controls: set[str]) -> bool:
    return block.loc[block["label"] == label, "explainer"].iloc[0] in controls


def _mark(label: str, block: pd.DataFrame, controls: set[str]) -> str:
    """What stands behind an explainer's name: that it is a control, or the library that gives it."""
    if _is_control(label, block, controls):
        return " (control)"
    sources = (
        audit_of(audit).get("source") for audit in block.loc[(block["label"] == label) & block["caveat"], "audit"]
    )
    return next((f" ({source})" for source in sources if source), "")


def _column(rows: pd.DataFrame, explainers: list[str]) -> Column:
    """A metric's cells with means, bounds and ranks below each other."""
    first = rows.iloc[0]
    parts = {row["label"]: _parts(row) for row in rows.to_dict("records")}
    widths = [max((len(part[i]) for part in parts.values() if isinstance(part, tuple)), default=0) for i in range(4)]
    texts = {name: _text(parts.get(name, "·"), widths) for name in explainers}
    header = f"{first['metric']}{ARROWS.get(first['better'], '')}\n{first['unit']}"
    return Column(header, texts)


def _parts(row: Mapping[str, Any]) -> tuple[str, ...] | str:
    """Mean, low, high and rank with a mark of a cell, or the one word that stands for them."""
    if row["status"] != "ok":
        return WORDS.get(row["status"], row["status"])
    mark = "*" if row["n_invalid"] > 0 or flag_list(row["flags"]) else ""
    if pd.isna(row["value"]):
        return "undefined" + mark
    number = count if row["metric"] in COUNTS else significant
    low, high = (number(row["ci_low"]), number(row["ci_high"])) if _has_interval(row) else ("", "")
    unranked = row["better"] not in ARROWS or row["caveat"]
    rank = "" if unranked else "–" if pd.isna(row["rank"]) else f"#{row['rank']:.0f}"
    return number(row["value"]), low, high, f"{rank} {row['letters']}".rstrip() + mark


def _has_interval(row: Mapping[str, Any]) -> bool:
    """Counts have none, nor costs that are the same for all samples."""
    same = row["kind"] == "cost" and row["ci_low"] == row["ci_high"]
    return not (pd.isna(row["ci_low"]) or row["metric"] in COUNTS or same)


def _text(parts: tuple[str, ...] | str, widths: list[int]) -> Text:
    if isinstance(parts, str):
        return Text(parts, style=STYLES.get(parts, "dim"))
    mean, low, high = (part.rjust(wide) for part, wide in zip(parts[:3], widths, strict=False))
    interval = f" [{low}, {high}]" if parts[1] else " " * (widths[1] + widths[2] + 5 if widths[1] else 0)
    text = Text(mean, style="bold" if parts[3].startswith("#1") and not parts[3][2:].isdigit() else "")
    text.append(interval, style="not bold dim")
    return text.append(f" {parts[3]}".ljust(widths[3] + 1))


def _panels(columns: list[Column], room: int) -> Iterator[list[Column]]:
    """The columns in groups that fit beside the names, at least one in each."""
    panel: list[Column] = []
    for column in columns:
        if panel and sum(each.width + GAP for each in [*panel, column]) > room:
            yield panel
            panel = []
        panel.append(column)
    if panel:
        yield panel


def _panel(columns: list[Column], names: Mapping[str, str]) -> Table:
    """A table of some columns; labels are texts, for in plain strings rich takes ``[a=b]`` for markup and drops it."""
    table = Table(box=LINES, padding=(0, GAP - 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    table.add_column("explainer", no_wrap=True)
    for column in columns:
        table.add_column(Text(column.header), no_wrap=True)
    last_explainer = max((i for i, name in enumerate(names.values()) if not name.endswith(" (control)")), default=None)
    for i, (name, shown) in enumerate(names.items()):
        table.add_row(Text(shown), *(column.texts[name] for column in columns), end_section=i == last_explainer)
    return table


def _rendered(thing: Table | Text, colour: bool) -> Iterator[str]:
    """What rich makes of it, as lines however wide, for the packing into panels has seen to the width."""
    colours = "standard" if colour else None
    console = Console(file=StringIO(), width=10_000, force_terminal=colour, color_system=colours, force_jupyter=False)
    with console.capture() as capture:
        console.print(thing, soft_wrap=True)
    yield from (line.rstrip() for line in capture.get().splitlines())
    yield ""
