"""The faults of launched jobs and their outcomes: one table for the tests and for docs/scale.md.

A test names the rows that it shows with ``@shows``; a row without a test fails ``test_launching.py``.
``python docs/reliability.py`` writes the table into docs/scale.md.
"""

from collections.abc import Callable
from typing import NamedTuple


class Fault(NamedTuple):
    """A row: what happens, what comes of it, and where this was tried."""

    fault: str
    outcome: str
    tried: str


FAULTS = {
    "killed": Fault(
        "a job is killed (`kill -9`)",
        "the others go on; its cells are missing, exit status 1; the same command measures them",
        "processes, Ray",
    ),
    "cancelled": Fault("a job is cancelled by `scancel`", "the same; its line says `CANCELLED in Slurm`", "Slurm"),
    "drained": Fault(
        "a node is drained while jobs run",
        "what runs goes on; what waits begins when the node is back",
        "Slurm",
    ),
    "time_limit": Fault(
        "90 seconds before its time limit", "a job ends in good order, goes into the queue again and resumes", "Slurm"
    ),
    "failing": Fault(
        "an explainer fails in one shard", "its cells have failed, with the reason; exit status 1", "processes"
    ),
    "ended": Fault(
        "the command gets SIGTERM", "its jobs end in good order, exit status 143; the same command resumes", "processes"
    ),
    "left": Fault(
        "the command is ended while Slurm has its jobs",
        "they go on, and a second start is refused meanwhile; afterwards the same command prints the tables",
        "Slurm",
    ),
    "silent_slurm": Fault(
        "`squeue` does not answer when a run is started that Slurm may still have",
        "one line, exit status 2, nothing is submitted or written",
        "commands in the place of Slurm's",
    ),
    "unnumbered": Fault(
        "the command ends after `sbatch` has accepted the jobs, and before it knows their number",
        "a second start is refused while Slurm has them: they are known by their name",
        "commands in the place of Slurm's",
    ),
    "lost_node": Fault(
        "a node of Slurm fails", "Slurm puts its jobs into the queue again, where they measure what they lack", "Slurm"
    ),
    "lost": Fault(
        "the process of Ray that runs a job is killed", "the job is started again, and measures what it lacks", "Ray"
    ),
    "too_large": Fault(
        "a job asks for more than any node of Ray has", "one line, exit status 2, nothing is started", "Ray"
    ),
    "mistake": Fault(
        "a mistake in the configuration of a job",
        "one line, exit status 2, no job is started, nothing is written",
        "processes",
    ),
    "same_label": Fault(
        "two models of a sweep have the label that the user gives",
        "one line, exit status 2, no job is started",
        "processes",
    ),
    "precision": Fault(
        "several jobs measure one block, and `protocol.precision` is set",
        "one line, exit status 2, no job is started",
        "processes",
    ),
    "shards": Fault(
        "more shards than batches of samples, which is known only when the data is loaded",
        "the shards that have started are refused, those that wait are not started; exit status 2",
        "processes",
    ),
    "not_started": Fault(
        "a job cannot be started: too many processes, or no room for its log",
        "one line, the others go on; its cells are missing, exit status 1",
        "processes",
    ),
    "hiding": Fault(
        "the working folder has a file with the name of a library",
        "jobs import the library, as the command does",
        "processes",
    ),
    "deaf": Fault(
        "a job of `processes` or Ray does not end when it is asked to", "it is killed after a minute", "a process"
    ),
}


def shows(*names: str) -> Callable[[Callable], Callable]:
    """Says of a test which rows it shows."""
    unknown = set(names) - set(FAULTS)
    if unknown:
        raise ValueError(f"no faults of launchers: {', '.join(unknown)}")

    def marked(test: Callable) -> Callable:
        test.shows = names
        return test

    return marked


def faults_table() -> str:
    """The table in Markdown."""
    rows = [f"| {each.fault} | {each.outcome} | {each.tried} |" for each in FAULTS.values()]
    return "\n".join(["| fault | outcome | tried with |", "| --- | --- | --- |", *rows])
