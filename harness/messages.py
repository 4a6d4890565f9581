"""How long work deep down, fetching or training, reaches whoever reports progress, if anybody does."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

EVERY_SECONDS = 10.0
_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)


def say(text: str) -> None:
    """Tell whoever listens a line."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(text)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """What is said in here goes to ``listener``."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def now_and_then() -> Callable[[str], None]:
    """A ``say`` that lets no more than one line in ten seconds through, the first one after ten."""
    last = time.perf_counter()

    def tell(text: str) -> None:
        nonlocal last
        if time.perf_counter() - last >= EVERY_SECONDS:
            last = time.perf_counter()
            say(text)

    return tell
