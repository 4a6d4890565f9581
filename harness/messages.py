"""What is said beside results: progress of slow steps such as downloads and training, and warnings to the caller."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

EVERY_SECONDS = 10.0
_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def say(text: str) -> None:
    """Send one line to the current listener; without a listener nothing happens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(text)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Inside, ``listener`` receives every line that ``say`` sends."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def warn_caller(line: str) -> None:
    """A warning at the line of the user's code that called the package."""
    level, frame = 1, sys._getframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "harness":
        level, frame = level + 1, frame.f_back
    warnings.warn(line, UserWarning, stacklevel=level)


def now_and_then() -> Callable[[str], None]:
    """A ``say`` that sends at most one line in ten seconds, the first one after ten seconds."""
    last = time.perf_counter()

    def tell(text: str) -> None:
        nonlocal last
        if time.perf_counter() - last >= EVERY_SECONDS:
            last = time.perf_counter()
            say(text)

    return tell
