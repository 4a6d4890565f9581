"""Settings of how a block is run. A supervisor checks them before it uses them, so this module imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from harness.errors import UserError
from harness.option_kinds import check_fields, settings
from harness.option_types import Count, Positive, Range, SizeOrZero
from harness.places import MOST_SHARDS


@dataclass(frozen=True)
class Runtime:
    """Settings of how a block is run; they are not part of a cell's identity.

    device       ``auto``, ``cpu``, ``cuda`` or ``cuda:N``
    chunk        model evaluations per forward pass; None for a number that follows from an input's size
    threads      number of CPU threads; None for torch's default
    compile      whether torch compiles the scoring copy, which takes seconds to minutes before the first score
    lease        ``wait`` for a device that another run uses, or ``share`` it without valid timings; ``auto`` shares a
                 CPU and waits for any other device
    warm_up      whether each explainer is called once before it is timed
    retry        whether to measure cells again that have failed twice
    sheet        number of samples on the contact sheet; 0 for no sheet
    control      whether the explainer ``random`` is added where it is not chosen
    max_failed   number of failed cells up to which the exit status is success
    runs         the folder of all runs
    outputs      the folder of a cache of model outputs that do not depend on attributions; None for no cache
    supervise    whether ``harness run`` measures in a process of its own, which it watches; false for a debugger
    cell_timeout seconds that explaining with one explainer, or scoring one cell, may take; ``auto`` ends only what
                 shows no sign of life for an hour, or 20 times the longest piece of work so far; None ends nothing
    memory       GiB that the process and its children may hold; None for no limit
    quiet        print errors only
    shards       number of parts into which the samples are cut; each is measured by itself (``harness.jobs.shards``)
    shard        the part that this job measures, from 0; None for all of them, one after the other
    """

    device: str = "auto"
    chunk: Count | None = None
    threads: Annotated[int, Range(1, 1024)] | None = None
    compile: bool = False
    lease: Literal["auto", "wait", "share"] = "auto"
    warm_up: bool = True
    retry: bool = False
    sheet: SizeOrZero = 20
    control: bool = True
    max_failed: Annotated[int, Range(0, 10**9)] = 0
    runs: str = "runs"
    outputs: str | None = None
    supervise: bool = True
    cell_timeout: Positive | Literal["auto"] | None = "auto"
    memory: Positive | None = None
    quiet: bool = False
    shards: Annotated[int, Range(1, MOST_SHARDS)] = 1
    shard: Annotated[int, Range(0, MOST_SHARDS - 1)] | None = None

    def __post_init__(self) -> None:
        check_fields("runtime", self)
        if self.shard is not None and self.shard >= self.shards:
            raise UserError(
                f"runtime.shard is {self.shard} of runtime.shards={self.shards}, expected 0 to {self.shards - 1}"
            )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Runtime":
        """Runtime settings from a mapping."""
        return settings(cls, "runtime", values)
