"""``harness plan --estimate`` of one job: measured in a process of its own, as a run is."""

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.jobs.job_estimate import JobEstimate
from harness.jobs.supervisor import Supervisor
from harness.places import temporary_folder

if TYPE_CHECKING:
    from harness.jobs.channel import Watched

ANSWER = "estimate.json"  # in the temporary folder


def estimate_of(config: Mapping[str, Any], cells: Collection[str], supervisor: Supervisor) -> JobEstimate:
    """What measuring these cells of a job will take, as far as they are pending; a short measurement of it tells."""
    from harness.cli.hydra_config import in_sweep
    from harness.cli.run import supervised

    quiet = bool((config.get("runtime") or {}).get("quiet"))
    with temporary_folder() as folder:
        settings = {**config, "estimate": {"folder": folder, "quiet": quiet, "cells": sorted(cells)}}
        if supervised(config):
            # What the items print is in the temporary folder, so that its place is not told.
            silent = {**settings, "runtime": {**config["runtime"], "quiet": True}}
            supervisor.measure(silent, in_sweep(), work="estimate")
        else:
            estimate_settings(settings, in_sweep())
        return JobEstimate(**json.loads((Path(folder) / ANSWER).read_text(encoding="utf-8")))


def estimate_settings(
    config: dict[str, Any], in_sweep: bool, watched: "Watched | None" = None, console: Any = None
) -> int:
    """Estimate a job in this process and write the answer into the folder that the settings name; 0."""
    from harness.jobs.calibration import estimate_job
    from harness.jobs.plan import Plan
    from harness.jobs.progress import Progress

    own = config["estimate"]
    plan = Plan.of({name: value for name, value in config.items() if name != "estimate"}).with_control()
    others = frozenset(cell.id for cell in plan.cells) - set(own["cells"])
    plan = replace(plan, already_measured=others)
    found = estimate_job(plan, Path(own["folder"]), Progress(own["quiet"], console), in_sweep=in_sweep, watched=watched)
    (Path(own["folder"]) / ANSWER).write_text(json.dumps(found.facts()), encoding="utf-8")
    return 0
