"""One line on a terminal that shows the current step, for verbs that print their result when they are done."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.messages import heard_by


@contextmanager
def progress_line(*, quiet: bool) -> Iterator[None]:
    """Inside, each step that is said replaces the one before; nothing if ``quiet`` or where stderr is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    try:
        with heard_by(_show_step):
            yield
    finally:
        _show_step("")


def _show_step(text: str) -> None:
    print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
