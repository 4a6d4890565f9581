"""Jobs in several processes of this machine."""

import os
import subprocess
import time
from collections.abc import Sequence

import torch

from harness.interrupts import signals_ignored
from harness.launching.jobs import LaunchedJob, Reports, end_processes, words_of_end
from harness.launching.settings import Processes

LOOK_SECONDS = 0.2
CORES_PER_JOB = 2


def launch(jobs: Sequence[LaunchedJob], settings: Processes, reports: Reports) -> None:
    """Run all jobs, some of them at the same time; returns when the last one has ended.

    If this process is asked to end, the jobs are asked too, and end in good order.
    """
    most = processes_at_once(settings, len(jobs))
    threads = max(1, _cores() // most)
    reports.say(f"{len(jobs)} jobs, {most} at a time")
    waiting, running = list(jobs), dict[subprocess.Popen, LaunchedJob]()
    try:
        while waiting or running:
            while waiting and len(running) < most:
                job = waiting.pop(0)
                running[job.command.with_threads(threads).start()] = job
                reports.began(job, "")
            time.sleep(LOOK_SECONDS)
            for process in [each for each in running if each.poll() is not None]:
                reports.ended(running.pop(process), words_of_end(process.returncode))
    finally:
        with signals_ignored():
            end_processes(list(running))


def processes_at_once(settings: Processes, jobs: int) -> int:
    """The number of processes that measure at the same time."""
    devices = torch.cuda.device_count() or max(1, _cores() // CORES_PER_JOB)
    return max(1, min(settings.at_once or devices, jobs))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
