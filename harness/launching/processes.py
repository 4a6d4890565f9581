"""Jobs in several processes of this machine."""

import os
import subprocess
import time
from collections.abc import Sequence

import torch

from harness.errors import one_line
from harness.interrupts import pausing_others, signals_ignored
from harness.jobs.lease import devices_named
from harness.launching.jobs import REFUSED, LaunchedJob, Reports, end_in_words, end_processes, go_on, pause
from harness.launching.settings import Processes

LOOK_SECONDS = 0.2
CORES_PER_JOB = 2


def launch(jobs: Sequence[LaunchedJob], settings: Processes, reports: Reports) -> None:
    """Run all jobs, some of them at the same time; returns when the last one has ended.

    If this process is asked to end, the jobs are asked too, and end in good order. Where one shard is refused, the
    shards of its block that wait are not started: what is wrong with one is wrong with all.
    """
    most = processes_at_once(settings, jobs)
    threads = max(1, _cores() // most)
    reports.ready()
    reports.say(f"{len(jobs)} jobs, {most} at a time")
    waiting, running = list(jobs), dict[subprocess.Popen, LaunchedJob]()
    try:
        with pausing_others(lambda: pause(list(running)), lambda seconds: go_on(list(running))):
            while waiting or running:
                while waiting and len(running) < most:
                    job = waiting.pop(0)
                    try:
                        running[job.command(threads).start()] = job
                    except (OSError, subprocess.SubprocessError) as error:  # a full disk, too many processes
                        reports.ended(job, f"could not be started: {one_line(error)}")
                    else:
                        reports.began(job, "")
                time.sleep(LOOK_SECONDS)
                for process in [each for each in running if each.poll() is not None]:
                    job, how = running.pop(process), end_in_words(process.returncode)
                    reports.ended(job, how)
                    if how == REFUSED and job.plan.runtime.shard is not None:
                        sound = [each for each in waiting if each.set_of_shards != job.set_of_shards]
                        if len(sound) < len(waiting):
                            reports.say(f"{len(waiting) - len(sound)} further shards of it are not started")
                        waiting = sound
    finally:
        with signals_ignored():
            end_processes(list(running))


def share_a_device(settings: Processes, jobs: Sequence[LaunchedJob]) -> bool:
    """Whether the jobs measure on the same device at the same time, so that none of them has timings."""
    waits = all(job.plan.runtime.lease == "wait" for job in jobs)
    return not waits and _devices_of(jobs)[0].type == "cpu" and processes_at_once(settings, jobs) > 1


def processes_at_once(settings: Processes, jobs: Sequence[LaunchedJob]) -> int:
    """The number of processes that measure at the same time."""
    devices = _devices_of(jobs)
    places = len(devices) if devices[0].type != "cpu" else max(1, _cores() // CORES_PER_JOB)
    return max(1, min(settings.at_once or places, len(jobs)))


def _devices_of(jobs: Sequence[LaunchedJob]) -> list[torch.device]:
    """The devices of which each job takes one; those of the first, where jobs have different ones."""
    return devices_named(jobs[0].plan.runtime.device)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
