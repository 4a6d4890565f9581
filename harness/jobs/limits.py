"""When a worker is ended: it takes too long or no longer shows signs of life, or its processes hold too much memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LEAST_SILENCE = 3600.0  # seconds
TIMES_THE_LONGEST = 20
MEMORY_EVERY = 1.0  # seconds between two looks


@dataclass
class Limits:
    """The limits of ``runtime.cell_timeout`` and ``runtime.memory``, and what is known of the work that goes on.

    cell_timeout  seconds that explaining with one explainer, or scoring one cell, may take; ``auto``: only silence ends
                  it, that of an hour or of 20 times the longest piece of work so far; None: nothing does
    memory        GiB that the worker and its children may hold; None for no limit
    stage         what goes on: ``load``, ``explain``, ``score``, or "" where no item is at work
    """

    cell_timeout: Any = "auto"
    memory: Any = None
    stage: str = ""
    began: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    longest: float = 0.0
    looked: float = 0.0

    def begins(self, stage: str) -> None:
        """A piece of work has ended, and another one begins."""
        now = time.monotonic()
        if self.stage in ("explain", "score"):
            self.longest = max(self.longest, now - self.began)
        self.stage, self.began, self.heard = stage, now, now

    def alive(self) -> None:
        """A sign of life has come."""
        self.heard = time.monotonic()

    def pauses(self, seconds: float) -> None:
        """The worker was stopped for so long."""
        self.began, self.heard = self.began + seconds, self.heard + seconds

    @property
    def seconds(self) -> float:
        """How long the present piece of work has taken."""
        return time.monotonic() - self.began

    def exceeded(self, memory_gib: Callable[[], float]) -> str:
        """Which limit the worker has passed, in words, or ""."""
        now = time.monotonic()
        if _is_limit(self.memory) and now - self.looked > MEMORY_EVERY:
            self.looked, held = now, memory_gib()
            if held > self.memory:
                return f"its processes held {held:.1f} GiB of memory, more than runtime.memory={self.memory:g}"
        if self.cell_timeout is None or not self.stage:
            return ""
        if _is_limit(self.cell_timeout) and self.stage != "load":
            passed = self.seconds > self.cell_timeout
            return f"no end within runtime.cell_timeout={self.cell_timeout:g} s" if passed else ""
        most = max(LEAST_SILENCE, TIMES_THE_LONGEST * self.longest)
        return f"no sign of life for {most:.0f} s" if now - self.heard > most else ""


def _is_limit(limit: Any) -> bool:
    return isinstance(limit, int | float) and not isinstance(limit, bool)
