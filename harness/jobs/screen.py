"""Prints the lines of a run on standard error and, in a terminal, shows what is being done."""

import sys
from typing import Any


class Screen:
    """Lines, and below them a text that is replaced: ``rich`` draws it, and is imported for a terminal only."""

    def __init__(self) -> None:
        self.console: Any = None
        self.status: Any = None

    def say(self, text: str) -> None:
        """Print a line."""
        if self._drawn():
            self.console.print(text, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def show(self, text: str | None) -> None:
        """Show a text until the next one; None shows none."""
        if self.status is not None:
            self.status.stop()
            self.status = None
        if text is not None and self._drawn():
            self.status = self.console.status(text)
            self.status.start()

    def _drawn(self) -> bool:
        if self.console is None and sys.stderr.isatty():
            from rich.console import Console

            self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        return self.console is not None
