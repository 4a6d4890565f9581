"""A lock for the folder of a choice: one process chooses there at a time."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import printable
from harness.results.choice_files import LOCK
from harness.results.disk import told_in_one_line

WAIT_SECONDS = 0.5


@contextmanager
def held_alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a folder inside, so that no other process chooses there: two would measure the same twice, and each would
    lose the decisions of the other. Waits until it is free.

    The lock belongs to the process and to none that it starts, and ends with it.
    """
    with told_in_one_line(folder, "nothing has been measured yet"):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a+")
    with file:
        if not _locked(file.fileno()):
            say(f"waiting for another harness choose in {folder.parent}: {_lock_holder(folder / LOCK)}")
            while not _locked(file.fileno()):
                time.sleep(WAIT_SECONDS)
        file.truncate(0)
        file.write(f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield


def _locked(descriptor: int) -> bool:
    """Lock a file for this process; whether nobody else holds it. Where files cannot be locked, nobody does."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


def _lock_holder(path: Path) -> str:
    return printable(path.read_text(encoding="utf-8", errors="replace")[:100]) or "a process"
