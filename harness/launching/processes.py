"""Jobs in several processes of this machine."""

import os
import subprocess
import time
from collections.abc import Sequence

import torch

from harness.interrupts import pausing_others, signals_ignored
from harness.launching.jobs import REFUSED, LaunchedJob, Reports, end_processes, go_on, pause, words_of_end
from harness.launching.settings import Processes

LOOK_SECONDS = 0.2
CORES_PER_JOB = 2


def launch(jobs: Sequence[LaunchedJob], settings: Processes, reports: Reports) -> None:
    """Run all jobs, some of them at the same time; returns when the last one has ended.

    If this process is asked to end, the jobs are asked too, and end in good order. Where one shard is refused, the
    shards of its block that wait are not started: what is wrong with one is wrong with all.
    """
    most = processes_at_once(settings, len(jobs))
    threads = max(1, _cores() // most)
    reports.say(f"{len(jobs)} jobs, {most} at a time")
    waiting, running = list(jobs), dict[subprocess.Popen, LaunchedJob]()
    try:
        with pausing_others(lambda: pause(list(running)), lambda seconds: go_on(list(running))):
            while waiting or running:
                while waiting and len(running) < most:
                    job = waiting.pop(0)
                    running[job.command(threads).start()] = job
                    reports.began(job, "")
                time.sleep(LOOK_SECONDS)
                for process in [each for each in running if each.poll() is not None]:
                    job, how = running.pop(process), words_of_end(process.returncode)
                    reports.ended(job, how)
                    if how == REFUSED and job.plan.runtime.shard is not None:
                        waiting = [each for each in waiting if each.block != job.block]
    finally:
        with signals_ignored():
            end_processes(list(running))


def share_a_device(settings: Processes, jobs: int) -> bool:
    """Whether that many jobs measure on the same device at the same time, so that none of them has timings."""
    return not torch.cuda.device_count() and processes_at_once(settings, jobs) > 1


def processes_at_once(settings: Processes, jobs: int) -> int:
    """The number of processes that measure at the same time."""
    devices = torch.cuda.device_count() or max(1, _cores() // CORES_PER_JOB)
    return max(1, min(settings.at_once or devices, jobs))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
