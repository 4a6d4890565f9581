"""Ends that the user asks for, by Ctrl-C or SIGTERM, told from a KeyboardInterrupt that an item raises by itself."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM)


class _Asked:
    """Whether signals are noted at the moment, and the one that came."""

    noting = False
    signal: int | None = None


def asked_to_end() -> int | None:
    """The number of the signal by which the user has asked this process to end; None if none has come."""
    return _Asked.signal


def asked_by_user(error: BaseException) -> bool:
    """Whether an error means that the user wants to end: it may not be taken for the failure of an item.

    Where signals are not noted, as in a notebook, every KeyboardInterrupt counts as the user's.
    """
    if _Asked.signal is not None:
        return True
    return isinstance(error, KeyboardInterrupt) and not _Asked.noting


@contextmanager
def noting_signals(signals: tuple[int, ...] = ENDING) -> Iterator[None]:
    """Inside, each of the signals is noted and raises KeyboardInterrupt in the main thread.

    In another thread than the main one nothing is noted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, _note) for number in signals}
    noting, _Asked.noting, _Asked.signal = _Asked.noting, True, None
    try:
        yield
    finally:
        _Asked.noting = noting
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Inside, which is short, the user's signals have no effect: what has to be put in order is."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Inside, which is short, a library may set its own handlers of the user's signals: afterwards ours are back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def pausing_others(stop: Callable[[], None], go_on: Callable[[float], None]) -> Iterator[None]:
    """Inside, Ctrl-Z calls ``stop`` before this process stops, and ``go_on`` with the length of the pause after it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def pause(number: int, frame: FrameType | None) -> None:
        started = time.monotonic()
        stop()
        os.kill(os.getpid(), signal.SIGSTOP)
        go_on(time.monotonic() - started)

    before = signal.signal(signal.SIGTSTP, pause)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, before)


def _note(number: int, frame: FrameType | None) -> None:
    _Asked.signal = number
    raise KeyboardInterrupt
