"""Settings of the launchers, which start the jobs of ``harness run``. Neither torch nor an engine is imported here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from harness.errors import UserError, unknown
from harness.option_kinds import check_fields, settings
from harness.option_types import Count, Positive, Range, SizeOrZero

ResourceAmount = Annotated[float, Range(0, 10**4)]


class Launcher:
    """Settings of a launcher, checked when they are made."""

    def __post_init__(self) -> None:
        check_fields("launcher", self)


@dataclass(frozen=True)
class Here(Launcher):
    """One job after the other in the process of the command."""


@dataclass(frozen=True)
class Processes(Launcher):
    """Several processes of this machine.

    at_once  jobs at the same time; None for one per GPU, or per two cores of a machine without GPUs
    """

    at_once: Count | None = None


@dataclass(frozen=True)
class Slurm(Launcher):
    """An array of jobs on a cluster with Slurm; null leaves a choice to Slurm.

    at_once     jobs that run at the same time
    hours       time limit of a job
    requeues    how often a job that nears its time limit comes into the queue again
    gpus, cpus  for each job; no GPU is asked for with 0
    memory      GiB for each job
    more        further options of sbatch by their long names
    setup       lines of shell that come before the job
    """

    at_once: Count = 256
    hours: Positive = 12.0
    requeues: SizeOrZero = 5
    gpus: SizeOrZero = 1
    cpus: Count = 8
    memory: Positive = 32
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    setup: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        named = {each.name for each in fields(self)} | {"array", "time", "mem", "signal", "output", "error"}
        for option in self.more:
            if not re.fullmatch(r"[a-z][a-z-]*", str(option)) or option in named:
                raise UserError(
                    f"launcher.more has {str(option)!r}, expected long names of options of sbatch without the leading "
                    "--, such as exclude, that are no setting of launcher and that the harness does not set itself"
                )


@dataclass(frozen=True)
class Ray(Launcher):
    """Tasks of Ray.

    address     of a running cluster; ``auto`` finds one on this machine, None starts one
    gpus, cpus  for each job
    retries     how often a job is started again after Ray's process that runs it, or its node, was lost
    """

    address: str | None = None
    gpus: ResourceAmount = 0.0
    cpus: ResourceAmount = 2.0
    retries: SizeOrZero = 3


LAUNCHERS: dict[str, type[Launcher]] = {"here": Here, "processes": Processes, "slurm": Slurm, "ray": Ray}


def launcher_of(section: Mapping[str, Any] | None) -> Launcher:
    """The launcher that the configuration's section ``launcher`` describes; ``Here`` without one."""
    chosen = dict(section or {})
    name = chosen.pop("name", "here")
    if name not in LAUNCHERS:
        raise unknown("launcher", name, LAUNCHERS)
    return settings(LAUNCHERS[name], f"launcher {name}", chosen)
