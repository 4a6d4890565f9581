"""Guards the settings of the process around a call of an item: what the item sets is put back and told.

A process has one default device, one working folder and one standard output. An item that changes one of them would
change the numbers of the items after it, or the place of the rows.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as torch_modules

FORKED_CHILD_STATUS = 70
STANDARD_FILES = (0, 1, 2)
# The hooks that torch calls for every module there is.
HOOKS_OF_ALL_MODULES = [
    held for name, held in vars(torch_modules).items() if name.startswith("_global_") and isinstance(held, dict)
]
_told: ContextVar[list[str] | None] = ContextVar("told", default=None)


@contextmanager
def settings_told() -> Iterator[list[str]]:
    """Inside, the settings that ``settings_kept`` had to put back are collected in the list, in words."""
    found: list[str] = []
    token = _told.set(found)
    try:
        yield found
    finally:
        _told.reset(token)


@contextmanager
def settings_kept() -> Iterator[None]:
    """Put back every setting of the process that the code inside changes, whether or not it raises an error.

    A child process that the code forks ends here: it never goes on with the run in its parent's place.
    """
    process, before, files = os.getpid(), _present_settings(), _FileDescriptors()
    hooks = [(held, dict(held)) for held in HOOKS_OF_ALL_MODULES]
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(FORKED_CHILD_STATUS)
        lost = files.put_back()  # before the streams, which are opened at them
        changed = [words for words, value in _present_settings().items() if value != before[words]]
        for words in changed:
            with suppress(Exception):  # what cannot be put back is told all the same
                SETTINGS[words][1](before[words])
        for held, own in hooks:
            if dict(held) != own:
                held.clear()
                held.update(own)
                changed.append("the hooks of all modules")
        changed += lost
        told = _told.get()
        if told is not None:
            told.extend(words for words in changed if words not in told)


def in_one_line(changed: list[str], who: str) -> list[str]:
    """A warning that an item, ``who``, changed settings of the process; none if it changed none."""
    return [f"{who} changed {', '.join(changed)} of the process; put back"] if changed else []


def _present_settings() -> dict[str, Any]:
    return {words: read() for words, (read, _) in SETTINGS.items()}


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None)
    if torch.get_default_device() != device:
        torch.set_default_device(device)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _autocast() -> dict[str, tuple[bool, torch.dtype]]:
    return {kind: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")}


def _set_autocast(modes: dict[str, tuple[bool, torch.dtype]]) -> None:
    for kind, (enabled, dtype) in modes.items():
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


def gpu_backends() -> list[Any]:
    """What multiplies on a GPU, each with a precision of float32 of its own (``fp32_precision``)."""
    return [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]


def _precise_backends() -> list[Any]:
    """All with a precision of their own; torch refuses to tell the single setting of all where they differ."""
    return [*gpu_backends(), torch.backends.mkldnn.matmul]


def _precision() -> list[str]:
    return [each.fp32_precision for each in _precise_backends()]


def _set_precision(values: list[str]) -> None:
    for backend, value in zip(_precise_backends(), values, strict=True):
        backend.fp32_precision = value


def _cudnn() -> tuple[bool, bool, bool]:
    return torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic


def _set_cudnn(flags: tuple[bool, bool, bool]) -> None:
    torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = flags


def _working_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # the folder has been deleted
        return None


def _standard_streams() -> tuple[Any, ...]:
    """The streams of Python, None in place of one that is closed."""
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return tuple(None if getattr(each, "closed", False) else each for each in streams)


def _set_standard_streams(streams: tuple[Any, ...]) -> None:
    """Put the streams back; one that was closed is opened again at its descriptor, where output is read."""
    opened = zip(STANDARD_FILES, streams, strict=True)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, "r" if number == 0 else "w", closefd=False) if getattr(each, "closed", True) else each
        for number, each in opened
    )


def _signal_handlers() -> tuple[Any, ...]:
    return signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)


def _set_signal_handlers(handlers: tuple[Any, ...]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
            signal.signal(number, handler)


# In words -> how it is read and how it is set. Whatever else numbers depend on has its own guard: the model
# (``harness.guards``) and the random generators (``isolated_randomness``).
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the default device": (torch.get_default_device, _set_default_device),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "the gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "the mode of deterministic algorithms": (_deterministic, _set_deterministic),
    "automatic mixed precision": (_autocast, _set_autocast),
    "the precision of float32 products": (_precision, _set_precision),
    "the settings of cuDNN": (_cudnn, _set_cudnn),
    "the anomaly mode of autograd": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the error mode of numpy": (np.geterr, lambda modes: np.seterr(**modes)),
    "the recursion limit": (sys.getrecursionlimit, sys.setrecursionlimit),
    "the working folder": (_working_folder, os.chdir),
    "the signal handlers": (_signal_handlers, _set_signal_handlers),
    "the standard streams": (_standard_streams, _set_standard_streams),
}


class _FileDescriptors:
    """Copies of the descriptors of standard input, output and error, by which they are put back."""

    def __init__(self) -> None:
        self.copies = {number: os.dup(number) for number in STANDARD_FILES if _file_at(number) is not None}
        self.files = {number: _file_at(number) for number in self.copies}

    def put_back(self) -> list[str]:
        """Put back each that was closed or leads elsewhere; in words if there was one."""
        changed = [number for number, file in self.files.items() if _file_at(number) != file]
        for number, copy in self.copies.items():
            whole = _file_at(copy) == self.files[number]
            if number in changed:
                source = copy if whole else os.open(os.devnull, os.O_RDWR)
                if source != number:
                    os.dup2(source, number)
            if whole:
                os.close(copy)
        return ["standard output or error"] if changed else []


def _file_at(number: int) -> tuple[int, int] | None:
    """Which file a descriptor leads to; None if it is closed."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino
