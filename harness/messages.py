"""Progress messages from slow steps such as downloads and training, for the listener that the caller has set."""

import time
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


def now_and_then() -> Callable[[str], None]:
    """A ``say`` that sends at most one line in ten seconds, the first one after ten seconds."""
    last = time.perf_counter()

    def tell(text: str) -> None:
        nonlocal last
        if time.perf_counter() - last >= EVERY_SECONDS:
            last = time.perf_counter()
            say(text)

    return tell
