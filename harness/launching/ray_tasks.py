"""Jobs as tasks of Ray, on this machine or on a cluster that is running."""

import socket
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError, one_line
from harness.interrupts import handlers_kept
from harness.launching.jobs import JobCommand, LaunchedJob, Reports, end_in_words
from harness.launching.settings import Ray

LOOK_SECONDS = 2.0


def launch(jobs: Sequence[LaunchedJob], settings: Ray, reports: Reports) -> None:
    """Run all jobs as tasks; returns when the last one has ended. Ray ends the tasks when this process ends."""
    from harness.models.state import needed  # imports torch, which is not needed where a task runs

    ray = needed("ray", "launcher=ray", "harness[ray]")
    try:
        with handlers_kept():  # Ray's own handler of SIGTERM aborts the process
            ray.init(address=settings.address, include_dashboard=False if settings.address is None else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"launcher.address is {settings.address!r}: {one_line(error)}") from error
    try:
        _check_resources(ray, settings)
        reports.ready()
        reports.say(f"{len(jobs)} jobs given to Ray, which has {_resources(ray)}")
        _run_all(ray, jobs, settings, reports)
    finally:
        ray.shutdown()


def _run_all(ray: Any, jobs: Sequence[LaunchedJob], settings: Ray, reports: Reports) -> None:
    """Run jobs, and run one again that is lost with its process or node.

    Ray's own retries have no limit for a job that needs more memory than a node has.
    """
    task = ray.remote(_run).options(num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=0, name="harness")
    start = lambda job: task.remote(job.command(max(1, int(settings.cpus))), str(_node_file(job)))
    running, lost = {start(job): job for job in jobs}, Counter[int]()
    while running:
        ended, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_SECONDS)
        for job in running.values():
            _report_begin(job, reports)
        for each in ended:
            job = running.pop(each)
            how, is_lost = _end_of(ray, each)
            if is_lost and lost[job.number] < settings.retries:
                lost[job.number] += 1
                reports.say(f"{job.title}: {how}; it is started again")
                running[start(job)] = job
            else:
                reports.ended(job, how)


def _run(command: JobCommand, node_file: str) -> int:
    """What Ray calls on a node."""
    Path(node_file).write_text(socket.gethostname())
    return command.run()


def _node_file(job: LaunchedJob) -> Path:
    """The file in which a job that begins writes where it runs, since Ray tells nothing without its dashboard."""
    return job.log.with_suffix(".node")


def _report_begin(job: LaunchedJob, reports: Reports) -> None:
    """Report that a job has begun, once for each time."""
    try:
        where = _node_file(job).read_text()
        _node_file(job).unlink()
    except OSError:
        return
    reports.began(job, where)


def _end_of(ray: Any, task: Any) -> tuple[str, bool]:
    """How a task has ended, if not by itself, and whether it was lost with its process or node."""
    try:
        return end_in_words(ray.get(task)), False
    except ray.exceptions.RayError as error:
        failed_itself = isinstance(error, ray.exceptions.RayTaskError)  # such as a folder that the node does not have
        return f"{'failed' if failed_itself else 'lost'} in Ray: {one_line(error)}", not failed_itself


def _check_resources(ray: Any, settings: Ray) -> None:
    """UserError if no node of the cluster can ever run a job: Ray would wait without an end."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fits = [each for each in nodes if each.get("CPU", 0) >= settings.cpus and each.get("GPU", 0) >= settings.gpus]
    if not fits:
        most = max(nodes, key=lambda each: (each.get("GPU", 0), each.get("CPU", 0)), default={})
        raise UserError(
            f"launcher.cpus={settings.cpus:g} and launcher.gpus={settings.gpus:g} are more than any node of Ray has, "
            f"expected at most {most.get('CPU', 0):g} and {most.get('GPU', 0):g}"
        )


def _resources(ray: Any) -> str:
    found = ray.cluster_resources()
    return f"{found.get('CPU', 0):g} CPUs and {found.get('GPU', 0):g} GPUs"
