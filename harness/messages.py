"""What is said beside results: progress of slow steps such as downloads and training, warnings to the caller, and which
work is done once for all explainers."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

EVERY_SECONDS = 10.0
_LISTENER: ContextVar[Callable[[str], None] | None] = ContextVar("listener", default=None)
_WATCHER: ContextVar[Callable[[], None] | None] = ContextVar("watcher", default=None)
_METER: ContextVar[Callable[[str], AbstractContextManager[None]] | None] = ContextVar("meter", default=None)


def say(text: str) -> None:
    """Send one line to the current listener; without a listener nothing happens."""
    listener = _LISTENER.get()
    if listener is not None:
        listener(text)


def sign_of_life() -> None:
    """Tell whoever watches this process that its work goes on; without a watcher nothing happens."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher()


@contextmanager
def watched_by(watcher: Callable[[], None]) -> Iterator[None]:
    """Inside, ``watcher`` is called at every sign of life: a batch of the model, of explanations or of scores."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


@contextmanager
def once_for_all(key: object) -> Iterator[None]:
    """Inside, something is computed that is kept: whoever asks for it first does not pay for all others.

    ``metered_by`` says who wants to know. ``key`` tells what it is; None: it is done as time allows, for nobody.
    """
    meter = _METER.get()
    with nullcontext() if meter is None else meter("" if key is None else repr(key)):
        yield


@contextmanager
def metered_by(meter: Callable[[str], AbstractContextManager[None]]) -> Iterator[None]:
    """Inside, the work of each ``once_for_all`` is done in a context that ``meter`` gives for its key."""
    token = _METER.set(meter)
    try:
        yield
    finally:
        _METER.reset(token)


@contextmanager
def heard_by(listener: Callable[[str], None]) -> Iterator[None]:
    """Inside, ``listener`` receives every line that ``say`` sends, a line that is repeated once.

    What holds for a block is found again for each group of its samples with other units, such as texts of each length.
    """
    sent: set[str] = set()

    def once(line: str) -> None:
        if line not in sent:
            sent.add(line)
            listener(line)

    token = _LISTENER.set(once)
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
