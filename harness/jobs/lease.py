"""A lock for each device: one run uses it at a time, so that timings are not disturbed by other runs."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch

from harness.errors import UserError, printable
from harness.places import temporary_place
from harness.results.disk import told_in_one_line

MODES = ("auto", "wait", "share")


class Alone:
    """True as long as no other run has used the device since this run took it.

    Each evaluation checks again. Once false it stays false; after the end of the lease it no longer changes.
    """

    def __init__(self, alone: bool, sharers: IO[str]) -> None:
        self._alone, self._sharers = alone, sharers

    def __bool__(self) -> bool:
        if self._alone and not self._sharers.closed:
            self._alone = os.fstat(self._sharers.fileno()).st_size == 0
        return self._alone


@contextmanager
def lease(device: torch.device, mode: str, say: Callable[[str], None], *, user: str = "") -> Iterator[Alone]:
    """Hold the device inside the ``with``; the value is true as long as no other run uses the device.

    Mode ``wait`` waits until no other run uses it. Mode ``share`` does not wait; then the timings of all these runs are
    invalid, and their scores are the same. Mode ``auto`` shares a CPU and waits for any other device. ``user`` says to
    others which run holds the device. The locks belong to the operating system, which releases them when the process
    ends for any reason.
    """
    if mode not in MODES:
        raise UserError(f"runtime.lease is {mode!r}, expected {', '.join(MODES)}")
    mode = ("share" if device.type == "cpu" else "wait") if mode == "auto" else mode
    lock = _lock_file(device)
    with open(lock, "a+") as file, open(lock.with_suffix(".shared"), "a+") as sharers:
        free = _take_device(file, sharers)
        if not free and mode == "wait":
            say(
                f"waiting for {device}: {_holder(file)} (runtime.lease=share does not wait, but then neither run has "
                "timings)"
            )
            while not (free := _take_device(file, sharers)):
                time.sleep(0.5)
        if free:
            _write_holder(file, user)
        else:
            if mode == "share" and user:
                later = "the same command adds them later"
                say(f"{device} is in use: {_holder(file)}; scores are measured, costs are not ({later})")
            _share_device(sharers)
        alone = Alone(free, sharers)
        yield alone
        bool(alone)  # check once more: afterwards the file is closed
        if free:
            file.truncate(0)


def _take_device(file: IO[str], sharers: IO[str]) -> bool:
    """Take the device if it is free; False if a run holds it, or a run that shares it is still going on."""
    if not (_lock(file) and _lock(sharers)):
        return False
    sharers.truncate(0)
    fcntl.flock(sharers, fcntl.LOCK_UN)
    return True


def _write_holder(file: IO[str], user: str) -> None:
    """Write into the lock's file who holds the device, and since when."""
    file.truncate(0)
    file.write(f"{user or 'a process'} (process {os.getpid()}) since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    file.flush()


def _holder(file: IO[str]) -> str:
    """Who holds the device, in words, by what the holder has written into the lock's file."""
    file.seek(0)
    return f"held by {printable(file.read(300)) or 'another run'}"


def _share_device(sharers: IO[str]) -> None:
    """Share the device: the lock shows this to others while the run lasts, the line in the file also afterwards."""
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
    folder = temporary_place() / f"harness-leases-{os.getuid()}"
    with told_in_one_line(folder, "nothing has been measured yet"):
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{_device_key(device)}.lock"


def _device_key(device: torch.device) -> str:
    """A file name for the device; for a GPU by its UUID, since its number depends on which GPUs a process can see."""
    index = device.index or 0
    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None) if device.type == "cuda" else None
    return f"{device.type}{index}" if uuid is None else f"{device.type}-{uuid}"


def choose_device(name: str) -> torch.device:
    """The device by name; ``auto`` is the first GPU, or the CPU if there is no GPU."""
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
