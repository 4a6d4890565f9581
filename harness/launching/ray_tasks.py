"""Jobs as tasks of Ray, on this machine or on a cluster that is running."""

from collections.abc import Sequence
from typing import Any

from harness.errors import UserError, one_line
from harness.launching.jobs import JobCommand, LaunchedJob, Reports, words_of_end
from harness.launching.settings import Ray
from harness.models.state import needed

LOOK_SECONDS = 5.0


def launch(jobs: Sequence[LaunchedJob], settings: Ray, reports: Reports) -> None:
    """Run all jobs as tasks; returns when the last one has ended. Ray ends the tasks when this process ends."""
    ray = needed("ray", "launcher=ray", "harness[ray]")
    try:
        ray.init(address=settings.address, include_dashboard=False if settings.address is None else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"launcher.address is {settings.address!r}: {one_line(error)}") from error
    try:
        _check_resources(ray, settings)
        task = ray.remote(_run).options(
            num_cpus=settings.cpus, num_gpus=settings.gpus, max_retries=settings.retries, name="harness"
        )
        reports.say(f"{len(jobs)} jobs given to Ray, which has {_resources(ray)}")
        running = {task.remote(job.command.with_threads(max(1, int(settings.cpus)))): job for job in jobs}
        while running:
            ended, _ = ray.wait(list(running), num_returns=1, timeout=LOOK_SECONDS)
            for each in ended:
                reports.ended(running.pop(each), _end_of(ray, each))
    finally:
        ray.shutdown()


def _run(command: JobCommand) -> int:
    return command.run()


def _end_of(ray: Any, task: Any) -> str:
    """How a task has ended, if not by itself."""
    try:
        return words_of_end(ray.get(task))
    except ray.exceptions.RayError as error:
        return f"lost in Ray: {one_line(error)}"


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
