"""One run at a time on a device, so that the clock measures the explainer and not the neighbour."""

import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from harness.errors import UserError


@contextmanager
def lease(device: torch.device, mode: str, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the device while inside; gives True if this run has it to itself.

    ``wait`` waits until the run that holds it is done; ``share`` goes on beside it, and then timings are not valid.
    The lock is the operating system's: it goes when the process goes, however it goes.
    """
    if mode not in ("wait", "share"):
        raise UserError(f"runtime.lease is {mode!r}, expected wait or share")
    with open(_lock_file(device), "a+") as file:
        alone = _lock(file)
        if not alone and mode == "wait":
            say(f"waiting for {device}: another run holds it (runtime.lease=share goes on beside it, without timings)")
            while not (alone := _lock(file)):
                time.sleep(0.5)
        yield alone


def _lock(file: object) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(device: torch.device) -> Path:
    folder = Path(tempfile.gettempdir()) / f"harness-leases-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{device.type}{device.index or 0}.lock"


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
