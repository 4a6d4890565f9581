"""Jobs as an array of Slurm, which the library submitit submits."""

import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from harness.errors import UserError, one_line
from harness.launching.jobs import JobCommand, LaunchedJob, Reports
from harness.launching.settings import Slurm
from harness.models.state import needed

LOOK_SECONDS = 5.0  # between two questions to Slurm
CHECK_SECONDS = 0.2
WARNING_SECONDS = 90  # between the warning of a job and its time limit
RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "SUSPENDED", "STOPPED")
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
FORGOTTEN = "Invalid job id"  # what squeue says of jobs that ended some minutes ago


class ResumedCommand:
    """The command of a job as submitit calls it; before its time limit the job comes into the queue again."""

    def __init__(self, command: JobCommand) -> None:
        self.command = command
        self.running: list[subprocess.Popen] = []

    def __call__(self) -> int:
        """Run the command; its exit status."""
        process = self.command.start()
        self.running = [process]
        while process.poll() is None:  # and not wait(): what answers Slurm's warning could then not wait for its end
            time.sleep(CHECK_SECONDS)
        return process.returncode

    def checkpoint(self) -> Any:
        """What submitit submits again: the same command, which measures what is lacking.

        Slurm ends the job as soon as this returns, so the command is ended here, where it has the time to do it well.
        """
        end = time.monotonic() + WARNING_SECONDS / 2
        for process in self.running:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(CHECK_SECONDS)
        return needed("submitit", "launcher=slurm", "harness[slurm]").helpers.DelayedSubmission(
            ResumedCommand(self.command)
        )


def launch(jobs: Sequence[LaunchedJob], settings: Slurm, reports: Reports) -> None:
    """Submit all jobs as one array; returns when the last one has ended.

    Ending this process ends no job.
    """
    submitit = needed("submitit", "launcher=slurm", "harness[slurm]")
    if shutil.which("sbatch") is None:
        raise UserError("launcher=slurm needs the commands of Slurm, and there is no sbatch: is this a login node?")
    executor = submitit.SlurmExecutor(jobs[0].log.parent / "slurm", max_num_timeout=settings.requeues)
    executor.update_parameters(**sbatch_options(settings))
    try:
        with executor.batch():
            submitted = [executor.submit(ResumedCommand(job.command)) for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"Slurm refused the jobs: {one_line(error)}") from error
    array = submitted[0].job_id.partition("_")[0]
    reports.say(f"Slurm has {len(jobs)} jobs, number {array}: scancel {array} ends them, ending this command does not")
    _follow({each.job_id: job for each, job in zip(submitted, jobs, strict=True)}, array, reports)


def _follow(jobs: dict[str, LaunchedJob], array: str, reports: Reports) -> None:
    """Report what becomes of the jobs, by their numbers in Slurm, until all have ended."""
    shown = dict.fromkeys(jobs, "")
    while jobs:
        time.sleep(LOOK_SECONDS)
        found = states_of(array)
        if found is None:
            continue
        for number in list(jobs):
            state, node = found.get(number, ("", ""))
            if state == "RUNNING" and shown[number] != state:
                reports.began(jobs[number], node)
            elif state not in (*RUNNING, *WAITING):
                reports.ended(jobs.pop(number), "" if state in ("", "COMPLETED") else f"{state} in Slurm")
            shown[number] = state


def states_of(array: str) -> dict[str, tuple[str, str]] | None:
    """State and node of each job of an array that Slurm knows; None if Slurm does not answer.

    Slurm forgets a job some minutes after its end, or at once if it is cancelled before it began. ``squeue`` works on
    every cluster; ``sacct`` needs accounting.
    """
    command = ["squeue", "--states=all", "--array", "--noheader", "--format=%i|%T|%N", f"--jobs={array}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        return {} if FORGOTTEN in answer.stderr else None
    rows = (line.split("|") for line in answer.stdout.splitlines() if line.count("|") == 2)
    return {number: (state, node) for number, state, node in rows}


def sbatch_options(settings: Slurm) -> dict[str, Any]:
    """The options of sbatch, by the names that submitit gives them."""
    chosen = {name: getattr(settings, name) for name in ("partition", "account", "qos", "constraint")}
    return {
        "job_name": "harness",
        "time": max(1, math.ceil(settings.hours * 60)),
        "cpus_per_task": settings.cpus,
        "mem": f"{math.ceil(settings.memory * 1024)}MB",
        **({"gpus_per_node": settings.gpus} if settings.gpus else {}),
        **{name: value for name, value in chosen.items() if value is not None},
        "array_parallelism": settings.at_once,
        "signal_delay_s": WARNING_SECONDS,
        "stderr_to_stdout": True,
        "setup": list(settings.setup or ()),
        "additional_parameters": dict(settings.more),
    }
