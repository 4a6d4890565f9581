"""Jobs as an array of Slurm, which the library submitit submits."""

import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import NotMeasured, UserError, one_line
from harness.launching.jobs import JobCommand, LaunchedJob, Reports, end_in_words, folders_of_launch
from harness.launching.settings import Slurm
from harness.places import JOBS
from harness.results.disk import opened
from harness.results.run_files import write_content

SECONDS_BETWEEN_QUESTIONS = 5.0  # between two questions to Slurm
ANSWER_SECONDS = 60.0
PROGRAMS = ("sbatch", "srun", "squeue", "scontrol")
# In the folder of a launch in each of its runs: the number of the array; before sbatch has told it, the name of its
# jobs, so that they are found if this process is ended meanwhile.
ARRAY_FILE = "array"
ARRAY = re.compile(r"[0-9]{1,20}|harness-[0-9]{8}-[0-9]{6}\.[0-9]{6}")
LONGEST_NAME_OF_ARRAY = 40  # bytes that are read
SECONDS_BETWEEN_LOOKS = 0.2
WARNING_SECONDS = 90  # between the warning of a job and its time limit
RUNNING = ("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING", "SUSPENDED", "STOPPED")
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
FORGOTTEN = "Invalid job id"  # what squeue says of jobs that ended some minutes ago


class RequeuableCommand:
    """The command of a job as submitit calls it; before its time limit the job comes into the queue again."""

    def __init__(self, command: JobCommand) -> None:
        self.command = command
        self.running: list[subprocess.Popen] = []

    def __call__(self) -> int:
        """Run the command; its exit status."""
        process = self.command.start()
        self.running = [process]
        while process.poll() is None:  # and not wait(): what answers Slurm's warning could then not wait for its end
            time.sleep(SECONDS_BETWEEN_LOOKS)
        _status_file(Path(self.command.log)).write_text(str(process.returncode))
        return process.returncode

    def checkpoint(self) -> Any:
        """What submitit submits again: the same command, which measures what is missing.

        Slurm ends the job as soon as this returns, so the command is ended here, where it has the time to do it well.
        """
        end = time.monotonic() + WARNING_SECONDS / 2
        for process in self.running:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(SECONDS_BETWEEN_LOOKS)
        from submitit.helpers import DelayedSubmission  # which calls this

        return DelayedSubmission(RequeuableCommand(self.command))


def launch(jobs: Sequence[LaunchedJob], settings: Slurm, reports: Reports) -> None:
    """Submit all jobs as one array; returns when the last one has ended.

    Ending this process ends no job.
    """
    from harness.models.state import needed  # imports torch, which is not needed where a job runs

    submitit = needed("submitit", "launcher=slurm", "harness[slurm]")
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise UserError(
            f"launcher=slurm needs the commands of Slurm, and there is no {missing[0]}: is this a login node?"
        )
    check_no_jobs_in_slurm({job.run for job in jobs}, certain=True)
    folder = jobs[0].log.parent / "slurm"
    reports.ready()
    executor = submitit.SlurmExecutor(folder, max_num_timeout=settings.requeues)
    name = f"harness-{jobs[0].log.parent.name}"
    executor.update_parameters(**{**sbatch_options(settings), "job_name": name})
    _write_array(jobs, name)
    try:
        with executor.batch():
            submitted = [executor.submit(RequeuableCommand(job.command(settings.cpus))) for job in jobs]
    except (submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError, OSError) as error:
        states = states_of(name)
        if states is None or _at_work(states):  # such as a disk that was full when the jobs had been submitted
            raise NotMeasured(f"Slurm may have the jobs, named {name}, but: {one_line(error)}") from error
        raise UserError(f"Slurm refused the jobs: {one_line(error)}") from error
    array = submitted[0].job_id.partition("_")[0]
    with suppress(UserError):  # the disk is full: the jobs are known by their name
        _write_array(jobs, array)
    how_to_end = f"scancel {array} ends them"
    reports.say(f"Slurm has {len(jobs)} jobs, number {array}: {how_to_end}, ending this command does not")
    try:
        _follow({each.job_id: job for each, job in zip(submitted, jobs, strict=True)}, array, reports)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"the jobs go on in Slurm: harness watch shows them, {how_to_end}") from error


def _write_array(jobs: Sequence[LaunchedJob], array: str) -> None:
    """Write the number or the name of an array into the folder of its launch in each run."""
    for folder in folders_of_launch(jobs):
        write_content(folder / ARRAY_FILE, array.encode())


def check_no_jobs_in_slurm(runs: Iterable[Path], *, certain: bool = False) -> None:
    """UserError if Slurm still has jobs of an earlier launch of one of the runs.

    If Slurm does not answer, it is a UserError if this must be ``certain``.
    """
    array = array_in_slurm(runs, certain=certain)
    if array:
        raise UserError(
            f"Slurm has jobs of this run already, {array_in_words(array)}, expected one start at a time: harness watch "
            f"shows them, scancel {_option_of(array)} ends them"
        )


def array_in_slurm(runs: Iterable[Path], *, certain: bool = False) -> str:
    """The number, or else the name, of an array of one of the runs of which Slurm still has jobs; "" if there is none.

    If Slurm does not answer, it is a UserError if this must be ``certain``. Otherwise nothing more is asked, since the
    machine may have no Slurm.
    """
    for array in sorted({_last_array(run) for run in runs} - {""}):
        states = states_of(array)
        if states is None and certain:
            raise UserError(f"squeue does not tell whether Slurm still has array {array} of this run: try again later")
        if states is None:
            break
        if _at_work(states):
            return array
    return ""


def _at_work(states: Mapping[str, tuple[str, str]]) -> bool:
    """Whether one of the jobs has not ended."""
    return any(state in (*RUNNING, *WAITING) for state, _ in states.values())


def array_in_words(array: str) -> str:
    """How a message names an array."""
    return f"number {array}" if array.isdigit() else f"named {array}"


def _option_of(array: str) -> str:
    """What is typed behind scancel for an array."""
    return array if array.isdigit() else f"--name={array}"


def _last_array(run: Path) -> str:
    """The number, or else the name, of the array of the last launch of a run by Slurm; "" if there is none.

    Earlier arrays have ended, since no launch begins before. A file that holds neither, or is a link or a pipe, is
    skipped: a run may come from somebody else.
    """
    for path in sorted(run.glob(f"{JOBS}/*/{ARRAY_FILE}"), reverse=True):
        with suppress(OSError), opened(path) as file:
            array = file.read(LONGEST_NAME_OF_ARRAY).strip().decode("ascii", "replace")
            if ARRAY.fullmatch(array):
                return array
    return ""


def _follow(jobs: dict[str, LaunchedJob], array: str, reports: Reports) -> None:
    """Report what becomes of the jobs, by their numbers in Slurm, until all have ended."""
    shown = dict.fromkeys(jobs, "")
    while jobs:
        time.sleep(SECONDS_BETWEEN_QUESTIONS)
        found = states_of(array)
        if found is None:
            continue
        for number in list(jobs):
            state, node = found.get(number, ("", ""))
            if state == "RUNNING" and shown[number] != state:
                reports.began(jobs[number], f"{node} as Slurm job {number}")
            elif state not in (*RUNNING, *WAITING):
                job = jobs.pop(number)
                told = f"{state} in Slurm (see {job.log.parent}/slurm/{number}_0_log.out)"
                reports.ended(job, _how_ended(job) if state in ("", "COMPLETED") else told)
            shown[number] = state


def _status_file(log: Path) -> Path:
    """The file in which a job leaves the exit status of its command, which Slurm does not know."""
    return log.with_suffix(".status")


def _how_ended(job: LaunchedJob) -> str:
    """How the command of a job has ended."""
    try:
        return end_in_words(int(_status_file(job.log).read_text()))
    except (OSError, ValueError):  # it was cancelled before it began, and Slurm has forgotten it
        return "ended without an exit status"


def states_of(array: str) -> dict[str, tuple[str, str]] | None:
    """State and node of each job of an array, by its number or name, that Slurm knows; None if Slurm does not answer.

    Slurm forgets a job some minutes after its end, or at once if it is cancelled before it began. ``squeue`` works on
    every cluster; ``sacct`` needs accounting.
    """
    which = f"--jobs={array}" if array.isdigit() else _option_of(array)
    command = ["squeue", "--states=all", "--array", "--noheader", "--format=%i|%T|%N", which]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode:
        return {} if FORGOTTEN in answer.stderr else None
    rows = (line.split("|") for line in answer.stdout.splitlines() if line.count("|") == 2)
    return {number: (state, node) for number, state, node in rows}


def sbatch_words(settings: Slurm) -> list[str]:
    """The request for each job as options of sbatch are typed, without those that do not concern what it gets."""
    options = sbatch_options(settings)
    options |= options.pop("additional_parameters")
    left_out = ("job_name", "array_parallelism", "signal_delay_s", "stderr_to_stdout", "setup")
    asked = {name.replace("_", "-"): value for name, value in options.items() if name not in left_out}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in asked.items()]


def minutes_of_job(settings: Slurm) -> int:
    """The time limit of a job: Slurm counts whole minutes."""
    return max(1, math.ceil(settings.hours * 60))


def sbatch_options(settings: Slurm) -> dict[str, Any]:
    """The options of sbatch, by the names that submitit gives them."""
    chosen = {name: getattr(settings, name) for name in ("partition", "account", "qos", "constraint")}
    return {
        "job_name": "harness",
        "time": minutes_of_job(settings),
        "cpus_per_task": settings.cpus,
        "mem": f"{math.ceil(settings.memory * 1024)}MB",
        **({"gpus_per_node": settings.gpus} if settings.gpus else {}),
        **{name: value for name, value in chosen.items() if value is not None},
        "array_parallelism": settings.at_once,
        "signal_delay_s": WARNING_SECONDS,
        "stderr_to_stdout": True,
        "setup": ["export PYTHONSAFEPATH=1", *(settings.setup or ())],  # libraries are not looked for in the folder
        "additional_parameters": {**({"requeue": True} if settings.requeues else {}), **settings.more},
    }
