"""One run at a time on a device, so that the clock measures the explainer and not the neighbour."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from harness.errors import UserError


class Alone:
    """True as long as no other run has used the device since this one took it, at the time of asking.

    Once false it stays false, and the end of the lease settles it.
    """

    def __init__(self, alone: bool, sharers: IO[str]) -> None:
        self._alone, self._sharers = alone, sharers

    def __bool__(self) -> bool:
        if self._alone and not self._sharers.closed:
            self._alone = os.fstat(self._sharers.fileno()).st_size == 0
        return self._alone


@contextmanager
def lease(device: torch.device, mode: str, say: Callable[[str], None]) -> Iterator[Alone]:
    """Hold the device while inside; what it gives is true while this run has the device to itself.

    ``wait`` waits until no other run is on it; ``share`` goes on beside them, and then the timings of none are valid.
    The locks are the operating system's: they go when the process goes, however it goes.
    """
    if mode not in ("wait", "share"):
        raise UserError(f"runtime.lease is {mode!r}, expected wait or share")
    lock = _lock_file(device)
    with open(lock, "a+") as file, open(lock.with_suffix(".shared"), "a+") as sharers:
        free = _take_device(file, sharers)
        if not free and mode == "wait":
            say(f"waiting for {device}: another run holds it (runtime.lease=share goes on beside it, without timings)")
            while not (free := _take_device(file, sharers)):
                time.sleep(0.5)
        if not free:
            _share_device(sharers)
        alone = Alone(free, sharers)
        yield alone
        bool(alone)  # the last moment at which it can be seen


def _take_device(file: IO[str], sharers: IO[str]) -> bool:
    """Whether nobody else is on the device: neither a holder nor those beside a holder, who may outlast it."""
    if not (_lock(file) and _lock(sharers)):
        return False
    sharers.truncate(0)
    fcntl.flock(sharers, fcntl.LOCK_UN)
    return True


def _share_device(sharers: IO[str]) -> None:
    """Be seen beside the holder: by the lock as long as this run lasts, by the line also afterwards."""
    fcntl.flock(sharers, fcntl.LOCK_SH)
    sharers.write(f"{os.getpid()}\n")
    sharers.flush()


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(device: torch.device) -> Path:
    folder = Path(tempfile.gettempdir()) / f"harness-leases-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{_device_key(device)}.lock"


def _device_key(device: torch.device) -> str:
    """A name for the device itself: the number of a GPU depends on which of them a process is let see."""
    index = device.index or 0
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None) if device.type == "cuda" else None
    return f"{device.type}{index}" if uuid is None else f"{device.type}-{uuid}"


def choose_device(name: str) -> torch.device:
    """The device by name; ``auto`` is the first GPU, or the CPU where there is none."""
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"runtime.device is {name!r}: {str(error).splitlines()[0]}; expected auto, cpu, cuda or cuda:N"
        ) from None
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device
