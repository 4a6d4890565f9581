"""``harness check``: every explainer tried on one model and data set, and what its self-checks show, in one table."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from textwrap import fill
from typing import Any, TextIO

import pandas as pd
import torch
from rich.console import Console
from rich.table import Table

from harness.engine.block import Explained, Failure, explain_each
from harness.engine.selection import Chosen
from harness.engine.stage import Stage, precision
from harness.errors import NotApplicable, UserError, one_line
from harness.guards import ModelChanged, ModelGuard
from harness.jobs.lease import choose_device, lease
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.runner import load_stage
from harness.messages import heard_by
from harness.registry import EXPLAINERS
from harness.results.leaderboard import LINES, WORDS
from harness.results.numbers import count, significant

DEFAULT_SAMPLES = 4
WIDTH = 100  # of the table in a log, and least in a terminal
COLUMNS = {
    "status": "status",
    "sum\nerror": "completeness_error",
    "sum /\noutput": "relevance_over_output",
    "alone": "alone_difference",
    "again": "repeat_difference",
    "F": "forwards",
    "B": "backwards",
    "seconds": "seconds",
}
LEGEND = (
    "sum error: |sum - promised| / |promised|, sum / output: both the median; alone, again: largest difference between "
    "a sample alone and in its batch, and between two calls, over the largest value; F, B: forward and backward passes "
    "a sample; seconds: for a sample; * see below the row"
)


def defaults(arguments: Sequence[str]) -> list[str]:
    """What a check adds to its arguments: every explainer, a library's rows last, and few samples.

    Raises UserError for a metric, which a check has no use for.
    """
    given = {argument.partition("=")[0].lstrip("+~") for argument in arguments}
    if any(name.partition(".")[0] == "metric" for name in given):
        raise UserError("metric came, expected none: harness check scores nothing")
    names = sorted(EXPLAINERS, key=lambda name: (bool(EXPLAINERS[name].caveat), name))
    own = {"explainer": f"[{','.join(names)}]", "protocol.samples": DEFAULT_SAMPLES}
    return [f"{name}={value}" for name, value in own.items() if name not in given]


def check_plan(plan: Plan, progress: Progress | None = None) -> pd.DataFrame:
    """Audit the plan's explainers on its model and data without scoring them: one row for each, nothing on disk.

    Each explains the samples as in a run, besides the first one alone and the first batch twice. Columns: model,
    dataset, explainer, status, error, flags, caveat, what the audit found by name, forwards, backwards and seconds per
    sample, setup_seconds, audit (all of it). Raises UserError where model and data cannot be loaded or do not fit.
    """
    progress = progress or Progress(plan.runtime.quiet)
    if plan.runtime.threads:
        torch.set_num_threads(plan.runtime.threads)
    device = choose_device(plan.runtime.device)
    leased = lease(device, plan.runtime.lease, progress.say)
    with heard_by(progress.say), leased as alone, precision(plan.protocol.dtype):
        progress.say(f"{plan.title}: loading on {device}")
        try:
            stage = load_stage(plan, device)
        except Exception as error:  # whatever it is, nothing can be checked
            raise UserError(f"{plan.title} could not be loaded: {one_line(error)}") from error
        progress.say(f"{len(plan.explainers)} explainers to check on {stage.count} samples")
        return pd.DataFrame(
            [
                {"model": plan.model.label, "dataset": plan.dataset.label, **row}
                for row in _rows(stage, plan.explainers, bool(alone), progress)
            ]
        )


def _rows(stage: Stage, explainers: Sequence[Chosen], alone: bool, progress: Progress) -> Iterator[dict[str, Any]]:
    guard = ModelGuard(stage.module)
    number = 0  # an enumerate would hold on to what was found while the next explainer is at work
    for chosen, found in explain_each(stage, explainers, guard, alone=alone, twice=True):
        number += 1
        row = _failed(found) if isinstance(found, Failure) else _explained(found)
        del found  # attributions of one explainer at a time
        row = {"explainer": chosen.label, "caveat": chosen.entry.caveat, **row}
        said = "; ".join([row["status"].replace("_", " "), *filter(None, [row["error"]]), *row["flags"]])
        progress.say(f"{number:>3}/{len(explainers)}  {chosen.label:<24} {said}")
        yield row


def _failed(failure: Failure) -> dict[str, Any]:
    declined = isinstance(failure.error, NotApplicable)
    return {
        "status": "not_applicable" if declined else "failed",
        "error": one_line(failure.error),
        "flags": [],
        "model_changed": isinstance(failure.error, ModelChanged),
        "audit": {},
    }


def _explained(explained: Explained) -> dict[str, Any]:
    found, costs = explained.audit.found, explained.costs
    mean = lambda name: float(torch.cat([getattr(cost, name) for cost in costs]).mean())
    told = found.get("operations")
    operations = told if isinstance(told, Mapping) else {}
    return {
        "status": "ok",
        "error": "",
        "flags": explained.flags,
        "model_changed": False,
        "ruled": operations.get("ruled"),
        "unruled": operations.get("unruled"),
        "equal_to": (found.get("equal_to") or {}).get("explainer"),
        **{name: _median(found.get(name)) for name in ("completeness_error", "relevance_over_output")},
        **{name: found.get(name) for name in ("alone_difference", "repeat_difference", "not_finite", "constant")},
        "forwards": mean("forwards"),
        "backwards": mean("backwards"),
        "seconds": mean("seconds"),
        "setup_seconds": mean("setup_seconds"),
        "audit": found,
    }


def _median(spread: Any) -> float | None:
    return spread.get("median") if isinstance(spread, Mapping) else spread


def flagged(rows: pd.DataFrame) -> pd.Series:
    """Which explainers failed or show something odd (bool); of a library's row with a caveat that is known."""
    return ((rows["status"] == "failed") | rows["flags"].map(bool)) & (rows["caveat"] == "")


def print_checks(rows: pd.DataFrame, file: TextIO, width: int | None = None) -> None:
    """Print the rows of one model and data set: numbers in columns, and below each explainer what to know of it."""
    width = width or (max(WIDTH, shutil.get_terminal_size().columns) if file.isatty() else WIDTH)
    head, *lines = _table(rows)
    written = ["", f"{rows['model'][0]} on {rows['dataset'][0]}", *_folded(LEGEND, width, ""), "", *head]
    for line, row in zip(lines, rows.to_dict("records"), strict=True):
        written += [line, *(text for note in _notes(row) for text in _folded(note, width, "    "))]
    file.write("\n".join([*written, "", _counts(rows)]) + "\n")


def _table(rows: pd.DataFrame) -> list[Any]:
    """The lines of the header, and then one line for each row."""
    table = Table(box=LINES, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
    table.add_column("explainer", no_wrap=True)
    for header in COLUMNS:
        table.add_column(header, no_wrap=True, justify="left" if header == "status" else "right")
    for row in rows.to_dict("records"):
        table.add_row(row["explainer"], *(_shown(name, row) for name in COLUMNS.values()))
    console = Console(
        file=StringIO(),
        width=10_000,
        force_jupyter=False,
        color_system=None,
        markup=False,
        emoji=False,
    )
    console.print(table)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    return [lines[: len(lines) - len(rows)], *lines[len(lines) - len(rows) :]]


def _shown(name: str, row: Mapping[str, Any]) -> str:
    value = row.get(name)
    if name == "status":
        return WORDS.get(value, value) + ("*" if row["flags"] else "")
    if value is None or pd.isna(value):
        return ""
    if "difference" in name:
        return f"{value:.0e}" if value else "0"
    return count(value) if name in ("forwards", "backwards") else significant(value)


def _notes(row: Mapping[str, Any]) -> Iterator[str]:
    """What is to be known of an explainer, in lines."""
    if row["error"]:
        yield row["error"]
    for kind, words in (("ruled", "answered by rules:"), ("unruled", "by their derivative:")):
        seen = row.get(kind)
        if isinstance(seen, Mapping) and seen:
            yield f"{words} {', '.join(f'{number} {name}' for name, number in seen.items())}"
    yield from (f"* {flag}" for flag in row["flags"])


def _folded(text: str, width: int, indent: str) -> list[str]:
    more = indent + "  " if indent else ""
    return fill(text, width, initial_indent=indent, subsequent_indent=more, break_on_hyphens=False).split("\n")


def _counts(rows: pd.DataFrame) -> str:
    status = rows["status"].value_counts()
    numbers = ", ".join(
        f"{status.get(name, 0)} {word}"
        for name, word in (("ok", "ok"), ("not_applicable", "not applicable"), ("failed", "failed"))
    )
    return f"{len(rows)} explainers: {numbers}; {int(flagged(rows).sum())} flagged, rows with a library's caveat apart"
