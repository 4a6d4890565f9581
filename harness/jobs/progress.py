"""What a run says while it works: one plain line per explainer, the same in a terminal and in a log."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from harness.engine.selection import Chosen, Job

SHORT = {"ok": "ok", "not_applicable": "n/a", "failed": "failed"}


class Progress:
    """Says what has been done and what is next; ``quiet`` says nothing."""

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
        """A line for the reader."""
        if not self.quiet:
            self.console.print(text, markup=False)

    def begin(self, jobs: Sequence[Job]) -> None:
        """These cells are to be measured."""
        self.left = Counter(job.explainer for job in jobs)
        self.total, self.done, self.reasons = len(self.left), {}, {}
        self.started = time.perf_counter()
        self._working()

    def explained(self, explainer: Chosen, explained: Any) -> None:
        """An explainer's attributions are there."""
        seconds = sum(float(cost.seconds.sum()) for cost in explained.costs)
        passes = sum(float(cost.forwards.sum()) for cost in explained.costs) / len(explained.valid)
        self.explaining = f"explained in {seconds:.1f} s, {passes:.0f} forward passes a sample"
        for flag in explained.flags:
            self.reasons.setdefault(explainer, []).append(flag)

    def cell(self, job: Job, found: dict[str, Any]) -> None:
        """A cell is on disk."""
        explainer = job.explainer
        self.done.setdefault(explainer, Counter())[found["status"]] += 1
        if found["status"] == "failed":
            self.reasons.setdefault(explainer, []).append(f"{job.metric.label}: {found['error']}")
        self.left[explainer] -= 1
        if self.left[explainer] == 0:
            self._finished(explainer)

    def end(self) -> None:
        """Nothing more is to come."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _finished(self, explainer: Chosen) -> None:
        counts = ", ".join(f"{n} {SHORT[status]}" for status, n in self.done[explainer].items())
        number = f"{len([e for e in self.left if self.left[e] == 0]):>3}/{self.total}"
        seconds = time.perf_counter() - self.started
        words = " · ".join(part for part in (self.explaining, f"{counts} in {seconds:.1f} s") if part)
        self.say(f"{number}  {explainer.label:<24} {words}")
        for reason in dict.fromkeys(self.reasons.get(explainer, [])):
            self.say(f"{'':>9}{reason}")
        self.explaining, self.started = "", time.perf_counter()
        self._working()

    def _working(self) -> None:
        """In a terminal, a line that shows what is being done now."""
        current = next((explainer for explainer, cells in self.left.items() if cells), None)
        if self.quiet or not self.console.is_terminal:
            return
        self.end()
        if current is not None:
            self._status = self.console.status(f"{current.label} ...")
            self._status.start()
