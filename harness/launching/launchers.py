"""The function that starts jobs, for each launcher."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from harness.launching.jobs import LaunchedJob, Reports
from harness.launching.settings import Launcher, Processes, Ray, Slurm

MODULES: dict[type[Launcher], str] = {Processes: "processes", Slurm: "slurm", Ray: "ray_tasks"}


def launch_function(launcher: Launcher) -> Callable[[Sequence[LaunchedJob], Any, Reports], None]:
    """The function ``launch`` for the launcher's settings; its library is imported when it is called."""
    return import_module(f"harness.launching.{MODULES[type(launcher)]}").launch
