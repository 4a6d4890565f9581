"""A lock for each device: one run uses it at a time, so that timings are not disturbed by other runs."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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

    device   the device that this run has
    """

    def __init__(self, alone: bool, device: torch.device, sharers: IO[str]) -> None:
        self._alone, self.device, self._sharers = alone, device, sharers

    def __bool__(self) -> bool:
        if self._alone and not self._sharers.closed:
            self._alone = os.fstat(self._sharers.fileno()).st_size == 0
        return self._alone


@contextmanager
def lease(
    devices: torch.device | Sequence[torch.device], mode: str, say: Callable[[str], None], *, user: str = ""
) -> Iterator[Alone]:
    """Hold a device inside the ``with``, of several the first that is free; true while no other run uses it.

    Mode ``wait`` waits until no other run uses one of the devices. Mode ``share`` does not wait, and shares the first
    one if none is free; then the timings of all these runs are invalid, and their scores are the same. Mode ``auto``
    shares a CPU and waits for any other device. ``user`` says to others which run holds the device. The locks belong to
    the operating system, which releases them when the process ends for any reason.
    """
    if mode not in MODES:
        raise UserError(f"runtime.lease is {mode!r}, expected {', '.join(MODES)}")
    devices = [devices] if isinstance(devices, torch.device) else list(devices)
    mode = ("share" if devices[0].type == "cpu" else "wait") if mode == "auto" else mode
    with ExitStack() as files:
        claims = [_Claim(device, files) for device in devices]
        free = _first_free(claims)
        if free is None and mode == "wait":
            say(f"waiting for {_holders(claims)} (runtime.lease=share does not wait, but then neither run has timings)")
            while (free := _first_free(claims)) is None:
                time.sleep(0.5)
        claim = claims[0] if free is None else free
        if free is not None:
            _write_holder(claim.file, user)
        else:
            if mode == "share" and user:
                later = "the same command adds them later"
                say(f"{claim.device} is in use: {_holder(claim.file)}; scores are measured, costs are not ({later})")
            _share_device(claim.sharers)
        alone = Alone(free is not None, claim.device, claim.sharers)
        yield alone
        bool(alone)  # check once more: afterwards the file is closed
        if free is not None:
            claim.file.truncate(0)


class _Claim:
    """The two files of a device's lock, open: of the run that holds it, and of those that share it."""

    def __init__(self, device: torch.device, files: ExitStack) -> None:
        lock = _lock_file(device)
        self.device = device
        self.file = files.enter_context(open(lock, "a+"))
        self.sharers = files.enter_context(open(lock.with_suffix(".shared"), "a+"))


def _first_free(claims: Sequence[_Claim]) -> _Claim | None:
    """The first device that no other run uses, which is taken; None if there is none."""
    return next((claim for claim in claims if _take_device(claim.file, claim.sharers)), None)


def _holders(claims: Sequence[_Claim]) -> str:
    """The devices with those who hold them, in words."""
    return ", ".join(f"{claim.device}: {_holder(claim.file)}" for claim in claims)


def _take_device(file: IO[str], sharers: IO[str]) -> bool:
    """Take the device if it is free; False if a run holds it, or a run that shares it is still going on."""
    if not _lock(file):
        return False
    if not _lock(sharers):
        file.truncate(0)  # of a holder that was killed
        fcntl.flock(file, fcntl.LOCK_UN)
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
    return devices_named(name)[0]


def devices_named(name: str) -> list[torch.device]:
    """The devices of which a run may take one: for ``auto`` all GPUs, or the CPU if there is no GPU."""
    if name == "auto":
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())] or [torch.device("cpu")]
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"runtime.device is {name!r}: {str(error).splitlines()[0]}; expected auto, cpu, cuda or cuda:N"
        ) from None
    return [torch.device("cuda", device.index or 0) if device.type == "cuda" else device]
