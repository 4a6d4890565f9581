"""The jobs that a launcher starts, how one is run, and where a launcher tells what becomes of them."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.interrupts import name_of_signal
from harness.places import JOBS

if TYPE_CHECKING:  # what a node of a cluster imports to run a command has to be little: torch.py may lie in its folder
    from harness.jobs.plan import Plan

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
END_OF_LOG = 4096  # bytes
MISTAKE = 2  # the exit status of a command with a mistake, which is told in its log
REFUSED = "was refused"
PATIENCE_SECONDS = 60.0  # for a process that has been asked to end
# A job finds modules where the command does that starts it: the working folder does not come first.
BEGIN = (
    "import sys, json; sys.path[:] = json.loads(sys.argv.pop(1)); from harness.cli.main import main; sys.exit(main())"
)
# What a job reads from its environment, which is another one's on a cluster. No secrets: the command is kept in files.
HANDED_OVER = (
    "PYTHONPATH",
    "HARNESS_CACHE",
    "XDG_CACHE_HOME",
    "TORCH_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "CUBLAS_WORKSPACE_CONFIG",
)
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
    plan: "Plan" = field(repr=False)

    def command(self, threads: int) -> "JobCommand":
        """What another process needs to run it, with a number of threads unless the user has set one."""
        chosen = self.plan.runtime.threads or os.environ.get("OMP_NUM_THREADS") or threads
        handed = {name: os.environ[name] for name in HANDED_OVER if name in os.environ}
        words = [sys.executable, "-P", "-c", BEGIN, json.dumps(sys.path), *self.arguments]
        return JobCommand(words, str(self.log), os.getcwd(), {**handed, "OMP_NUM_THREADS": str(chosen)})

    @property
    def run(self) -> Path:
        """The folder of the run that it measures, or measures a shard of."""
        from harness.jobs.parts import whole_of

        return whole_of(self.plan).directory

    @property
    def set_of_shards(self) -> tuple[Path, str, int]:
        """The shards that its own belongs to: a run, a block in it, and the number of shards."""
        return self.run, self.plan.name, self.plan.runtime.shards

    def last_line(self) -> str:
        """The last line that it has printed; "" if there is none."""
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - END_OF_LOG))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def folders_of_launch(jobs: Sequence[LaunchedJob]) -> list[Path]:
    """The folder of a launch in each run of its jobs; the one that the logs are in is that of its first job."""
    return [run / JOBS / jobs[0].log.parent.name for run in {job.run for job in jobs}]


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

    ready  called once, when nothing speaks against starting them: before it, nothing is written into a run
    began  called when a job begins, or begins again, with where it runs ("" on this machine)
    ended  called when a job has ended, with how, if not by itself
    say    prints a line
    """

    ready: Callable[[], None]
    began: Callable[[LaunchedJob, str], None]
    ended: Callable[[LaunchedJob, str], None]
    say: Callable[[str], None]


def end_processes(processes: list[subprocess.Popen], patience: float = PATIENCE_SECONDS) -> None:
    """Ask processes that still run to end, wait until they have, and kill those that take too long."""
    running, end = [process for process in processes if process.poll() is None], time.monotonic() + patience
    _send(running, signal.SIGTERM)
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
    _send(running, signal.SIGKILL)
    for process in running:
        process.wait()


def pause(processes: list[subprocess.Popen]) -> None:
    """Stop processes as Ctrl-Z does."""
    _send(processes, signal.SIGTSTP)


def go_on(processes: list[subprocess.Popen]) -> None:
    """Let processes go on that were stopped."""
    _send(processes, signal.SIGCONT)


def end_in_words(code: int) -> str:
    """How the process of a job has ended; "" for one that has measured, whatever came of its cells."""
    if code >= 0:
        return {0: "", 1: "", MISTAKE: REFUSED}.get(code, f"ended with status {code}")
    name = name_of_signal(-code)
    return f"killed by signal {-code}" + (f" ({name})" if name else "")


def _send(processes: list[subprocess.Popen], number: int) -> None:
    """Send a signal to those that have not ended."""
    for process in processes:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _end_with_parent() -> None:
    """Let the system ask this process to end when the process that has started it is gone (on Linux)."""
    signal.signal(WARNED_BY, signal.SIG_IGN)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)
