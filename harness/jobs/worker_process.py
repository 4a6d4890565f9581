"""A worker process as its supervisor sees it: started in a session of its own, fed with jobs, measured and ended."""

import ctypes
import json
import os
import pickle
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 3.0
TOKEN = "HARNESS_WORKER"  # in the environment of a worker and of all its children; it begins the worker's messages
# A worker finds modules where its supervisor does: the working folder does not come first.
BEGIN = "import sys, json; sys.path[:] = json.loads(sys.argv[1])[3]; from harness.cli.worker import work; work()"
ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER
MOST_GENERATIONS = 100  # of orphans, each left by the one before
HELD = ("Pss_Anon", "Pss_Shmem")  # memory of its own, and memory that is shared without a file on a disk
DUMP_SIGNAL = signal.SIGUSR2  # a worker answers it with its stack


class WorkerProcess:
    """One worker.

    messages  descriptor of what the worker tells (``harness.jobs.channel``)
    output    descriptor of what it and its children print
    """

    def __init__(self) -> None:
        self.messages, tells = os.pipe()
        self.output, prints = os.pipe()
        self.stacks = os.memfd_create("stacks")
        self.token = secrets.token_hex(16)
        environment = {**os.environ, TOKEN: self.token}
        if sys.stdout.isatty():
            size = os.get_terminal_size(sys.stdout.fileno())
            environment |= {"COLUMNS": str(size.columns), "LINES": str(size.lines)}
        with suppress(OSError, AttributeError):  # what the worker starts and leaves gets this process as its parent
            ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)
        self.others = _children_elsewhere()
        facts = json.dumps([os.getpid(), tells, self.stacks, sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-P", "-c", BEGIN, facts],
            stdin=subprocess.PIPE,
            stdout=prints,
            stderr=prints,
            pass_fds=(tells, self.stacks),
            start_new_session=True,
            env=environment,
        )
        os.close(tells), os.close(prints)
        for descriptor in (self.messages, self.output):
            os.set_blocking(descriptor, False)

    def give(self, job: dict[str, Any]) -> None:
        """Send a job; a worker that has ended is noticed later."""
        with suppress(BrokenPipeError):
            pickle.dump(job, self.process.stdin)
            self.process.stdin.flush()

    def stack(self, ask: bool) -> str:
        """The stack that the worker has written when it died, or when it is ``ask``ed for one."""
        if ask:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, DUMP_SIGNAL)
            time.sleep(0.3)
        size = os.fstat(self.stacks).st_size
        return os.pread(self.stacks, min(size, 2**16), 0).decode("utf-8", "replace")

    def memory_gib(self) -> float:
        """The memory of the worker and all its children; pages that they share count once."""
        families = map(process_and_children, {self.process.pid, *self._orphans()})
        return sum(map(_held_bytes, set().union(*families))) / 2**30

    def end(self, patience: float = PATIENCE_SECONDS) -> None:
        """End the worker and its children: it is asked to, and killed if it does not."""
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        if patience:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)
        self.wait(patience)

    def wait(self, patience: float = PATIENCE_SECONDS) -> None:
        """Wait for the end of the worker, kill it after some seconds, and then whatever it has started and left."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for number in _processes():
            if number != os.getpid() and f"{TOKEN}={self.token}".encode() in _environment_of(number):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(number, signal.SIGKILL)
        for _ in range(MOST_GENERATIONS):
            if not (orphans := self._orphans()):
                break
            for number in orphans:
                with suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(number, signal.SIGKILL)
                    os.waitpid(number, 0)

    def _orphans(self) -> set[int]:
        """What the worker has started, whose parent has ended: this process is its parent now."""
        return _children_elsewhere() - self.others - {self.process.pid}

    def close(self) -> None:
        """Close the descriptors of a worker that has ended."""
        for descriptor in (self.messages, self.output, self.stacks):
            os.close(descriptor)
        with suppress(BrokenPipeError):
            self.process.stdin.close()


def process_and_children(process: int) -> set[int]:
    """The process, those of its session, and the children of them all."""
    facts = _parents_and_sessions()
    family = {process} | {number for number, (_, session) in facts.items() if session == process}
    while more := {number for number, (parent, _) in facts.items() if parent in family} - family:
        family |= more
    return family


def _children_elsewhere() -> set[int]:
    """The children of this process in other sessions than its own: workers, and what these have left."""
    facts, here = _parents_and_sessions(), os.getsid(0)
    return {number for number, (parent, session) in facts.items() if parent == os.getpid() and session != here}


def _parents_and_sessions() -> dict[int, tuple[int, int]]:
    """The parent and the session of each process."""
    found = {}
    for number in _processes():
        with suppress(OSError, ValueError, IndexError):
            facts = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            found[number] = int(facts[1]), int(facts[3])
    return found


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _environment_of(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""


def _held_bytes(process: int) -> int:
    """The physical memory that a process holds, or all that it uses where that is not told.

    Pages that it shares with others count in part, and those of mapped files, such as large attributions, not at all:
    the system takes them back when it needs them. On old systems, which do not tell these, they count.
    """
    with suppress(OSError, ValueError, IndexError, KeyError):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        found = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
        return sum(found[name] for name in (HELD if found.keys() >= set(HELD) else ["Pss"])) * 1024
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0
