"""The messages of a run while it works: one line for each explainer, the same in a terminal and in a log."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from harness.engine.sample_words import names_of_columns
from harness.engine.selection import Cell, Chosen
from harness.engine.stage import Stage

STATUS_WORDS = {"ok": "ok", "not_applicable": "not applicable", "failed": "failed"}


class Progress:
    """Prints what has been done and what is next; nothing if ``quiet``."""

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self.quiet = quiet
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self.left: Counter[Chosen] = Counter()
        self.done: dict[Chosen, Counter[str]] = {}
        self.reasons: dict[Chosen, list[str]] = {}
        self.total = 0
        self.started = time.perf_counter()
        self.explaining = ""
        self._status: Any = None

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def loading(self, title: str, device: Any) -> None:
        """The model and data of a block are about to be loaded."""
        self.say(f"{title}: loading model and data on {device}")

    def loaded(self, stage: Stage, explainers: int, metrics: int, pending: int) -> None:
        """Model and data are loaded: how much is to be measured, and how the model will be called for scoring."""
        for line in stage.data.skipped:
            self.say(f"skipped {line}")
        skipped = f" ({len(stage.data.skipped)} skipped)" if stage.data.skipped else ""
        self.say(f"{stage.task.in_words(stage.output_count)}; explained is {_explained_in_words(stage)}")
        self.say(
            f"{stage.count} samples{skipped}, {explainers} explainers x {metrics} metrics = {explainers * metrics} "
            f"cells, of which {pending} will be measured"
        )
        for line in scoring_in_words(stage):
            self.say(line)

    def begin(self, cells: Sequence[Cell]) -> None:
        """These cells will be measured."""
        self.left = Counter(cell.explainer for cell in cells)
        self.total, self.done, self.reasons = len(self.left), {}, {}
        self.started = time.perf_counter()
        self._working()

    def explained(self, explainer: Chosen, explained: Any) -> None:
        """An explainer has explained all samples."""
        seconds = sum(float(cost.seconds.sum()) for cost in explained.costs)
        passes = sum(float(cost.forwards.sum()) for cost in explained.costs) / len(explained.valid)
        counted = "" if math.isnan(passes) else f" with {_forward_passes(passes)} per sample"
        self.explaining = f"explained in {seconds:.1f} s{counted}"
        for flag in explained.flags:
            self.reasons.setdefault(explainer, []).append(flag)

    def recorded(self, cell: Cell, row: dict[str, Any]) -> None:
        """The row of a cell has been written."""
        explainer = cell.explainer
        self.done.setdefault(explainer, Counter())[row["status"]] += 1
        if row["status"] == "failed":
            self.reasons.setdefault(explainer, []).append(f"{cell.metric.label}: {row['error']}")
        self.left[explainer] -= 1
        if self.left[explainer] == 0:
            self._finished(explainer)

    def end(self) -> None:
        """The block is finished or was interrupted."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _finished(self, explainer: Chosen) -> None:
        counts = ", ".join(f"{n} {STATUS_WORDS[status]}" for status, n in self.done[explainer].items())
        number = f"{len([e for e in self.left if self.left[e] == 0]):>3}/{self.total}"
        seconds = time.perf_counter() - self.started
        words = "; ".join(filter(None, (self.explaining, f"cells: {counts}", f"{seconds:.1f} s in all")))
        self.say(f"{number}  {explainer.label:<24} {words}")
        for reason in dict.fromkeys(self.reasons.get(explainer, [])):
            self.say(f"{'':>9}{reason}")
        self.explaining, self.started = "", time.perf_counter()
        self._working()

    def _working(self) -> None:
        """In a terminal, show which explainer is at work."""
        current = next((explainer for explainer, count in self.left.items() if count), None)
        if self.quiet or not self.console.is_terminal:
            return
        self.end()
        if current is not None:
            self._status = self.console.status(f"{current.label} ...")
            self._status.start()


def _forward_passes(number: float) -> str:
    return f"{number:.0f} forward {'pass' if f'{number:.0f}' == '1' else 'passes'}"


def scoring_in_words(stage: Stage) -> list[str]:
    """How the model is called for scoring, and what was asked for and cannot be had."""
    record = stage.predictor.variant
    form, rounded = record["variant"], record.get("mixed_precision_difference")
    scored = "" if form == "eager" else f" on a copy of the model with the same outputs ({form})"
    lines = [f"scoring{scored}, {stage.predictor.chunk} inputs per forward pass"]
    if "compile_seconds" in record:
        share = record["compiled_time"]
        slower = " and is slower: leave runtime.compile out" if share > 1 else ""
        lines.append(
            f"compiled in {record['compile_seconds']:.0f} s; a forward pass takes {share:.2f} of the time of the form "
            f"that is not compiled{slower}"
        )
    for name, reason in record.get("skipped", {}).items():
        if name.endswith("compiled"):
            lines.append(f"not compiled: {reason.split(' Set TORCHDYNAMO')[0]}")
    if rounded is not None:
        lines.append(
            f"{stage.protocol.dtype}: the model's outputs differ from those in float32 by up to {rounded:.1g} of their "
            "range"
        )
    return lines


def _explained_in_words(stage: Stage) -> str:
    """Which output is explained, as far as it can be said in a few words."""
    if stage.output_count == 1:
        return "the output" if stage.task.name == "regression" else "that score"
    if stage.task.name == "segmentation":
        return "one class of each image"
    targets = stage.targets.unique()
    if len(targets) == 1:
        return names_of_columns(stage)[int(targets[0])]
    choice = stage.protocol.target
    return {"predicted": "the predicted one", "label": "that of the label"}.get(choice, "the given one")
