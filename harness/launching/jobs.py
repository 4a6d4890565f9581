"""The jobs that a launcher starts, how one is run, and where a launcher tells what becomes of them."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.jobs.plan import Plan

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
END_OF_LOG = 4096  # bytes
WARNED_BY = signal.SIGUSR2  # from Slurm, before a job's time limit: the process above the command answers it


@dataclass(frozen=True)
class LaunchedJob:
    """One job of a launch.

    number     from 1
    title      what it measures, for messages
    arguments  what is typed behind ``harness``
    log        the file that holds what it prints
    plan       the block or the shard that it measures; it stays in this process
    """

    number: int
    title: str
    arguments: tuple[str, ...]
    log: Path
    plan: Plan = field(repr=False)

    @property
    def command(self) -> "JobCommand":
        """What another process needs to run it."""
        words = [sys.executable, "-m", "harness", *self.arguments]
        paths = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        return JobCommand(words, str(self.log), os.getcwd(), paths)

    def last_line(self) -> str:
        """The last line that it has printed; "" if there is none."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - END_OF_LOG))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


@dataclass(frozen=True)
class JobCommand:
    """The command of a job: another process, also on a machine that shares the folders, can run it.

    log          the file that what it prints is appended to
    folder       the working folder
    environment  variables that it gets beside those of the process that runs it
    """

    words: list[str]
    log: str
    folder: str
    environment: Mapping[str, str]

    def with_threads(self, count: int) -> "JobCommand":
        """The command with a number of threads for each of its processes, unless the user has set one."""
        threads = os.environ.get("OMP_NUM_THREADS", str(count))
        return replace(self, environment={**self.environment, "OMP_NUM_THREADS": threads})

    def start(self) -> subprocess.Popen:
        """Start the command in a session of its own, so that Ctrl-C comes only to the process that has started it."""
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                self.words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                env={**os.environ, **self.environment},
                preexec_fn=_end_with_parent,
            )

    def run(self) -> int:
        """Run the command; its exit status. If this process is ended meanwhile, the command is ended too."""
        process = self.start()
        try:
            return process.wait()
        finally:
            end_processes([process])


@dataclass(frozen=True)
class Reports:
    """Where a launcher tells what becomes of the jobs.

    began  called when a job begins, or begins again, with where it runs ("" on this machine)
    ended  called when a job has ended, with how, if not by itself
    say    prints a line
    """

    began: Callable[[LaunchedJob, str], None]
    ended: Callable[[LaunchedJob, str], None]
    say: Callable[[str], None]


def end_processes(processes: list[subprocess.Popen]) -> None:
    """Ask processes that still run to end, and wait until they have."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        with suppress(ProcessLookupError):
            process.terminate()
    for process in running:
        process.wait()


def words_of_end(code: int) -> str:
    """How a process has ended that did not end by itself; "" for one that did."""
    return f"killed by signal {-code} ({signal.Signals(-code).name})" if code < 0 else ""


def _end_with_parent() -> None:
    """Let the system ask this process to end when the process that has started it is gone (on Linux)."""
    signal.signal(WARNED_BY, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)
