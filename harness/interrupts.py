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
def handlers_kept(signals: tuple[int, ...] = ENDING) -> Iterator[bool]:
    """Inside, the handlers of some signals may be set to others, by us or by a library; afterwards they are back.

    Whether they can be set: only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in signals}
    try:
        yield True
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def noting_signals(signals: tuple[int, ...] = ENDING) -> Iterator[None]:
    """Inside, each of the signals is noted and raises KeyboardInterrupt in the main thread.

    In another thread than the main one nothing is noted.
    """
    with handlers_kept(signals) as can_be_set:
        if not can_be_set:
            yield
            return
        for number in signals:
            signal.signal(number, _note)
        noting, _Asked.noting, _Asked.signal = _Asked.noting, True, None
        try:
            yield
        finally:
            _Asked.noting = noting


@contextmanager
def signals_ignored() -> Iterator[None]:
    """Inside, which is short, the user's signals have no effect: what has to be put in order is."""
    with handlers_kept() as can_be_set:
        for number in ENDING if can_be_set else ():
            signal.signal(number, signal.SIG_IGN)
        yield


@contextmanager
def pausing_others(stop: Callable[[], None], go_on: Callable[[float], None]) -> Iterator[None]:
    """Inside, Ctrl-Z calls ``stop`` before this process stops, and ``go_on`` with the length of the pause after it."""

    def pause(number: int, frame: FrameType | None) -> None:
        started = time.monotonic()
        stop()
        try:
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:  # a signal that came during the pause may end this process: the others have to hear of that
            go_on(time.monotonic() - started)

    with handlers_kept((signal.SIGTSTP,)) as can_be_set:
        if can_be_set:
            signal.signal(signal.SIGTSTP, pause)
        yield


def name_of_signal(number: int) -> str:
    """The name of a signal, such as SIGKILL; "" for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _note(number: int, frame: FrameType | None) -> None:
    _Asked.signal = number
    raise KeyboardInterrupt
