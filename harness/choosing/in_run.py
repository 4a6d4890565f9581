"""Chooses an explainer for a plan's model and data, in a run directory: what one ``harness choose`` does."""

import json
from typing import Any

import torch

from harness.choosing.candidates import CONTROLS, with_controls
from harness.choosing.choice import Choice
from harness.choosing.choose import Choosing
from harness.choosing.kept import FOLDER, InRun
from harness.choosing.measuring import Measuring
from harness.choosing.settings import Budget, Settings
from harness.engine.allocator import keep_freed_memory
from harness.engine.protocol import precision
from harness.engine.selection import Chosen, choose_several
from harness.engine.tuning import tune
from harness.errors import UserError, one_line
from harness.interrupts import asked_by_user
from harness.jobs.accuracy import accuracy_lines
from harness.jobs.channel import Watched
from harness.jobs.lease import choose_device, lease
from harness.jobs.ownership import write_owned_config
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.recorders import config_text
from harness.jobs.runner import clear_places, load_stage
from harness.messages import heard_by, watched_by
from harness.registry import EXPLAINERS
from harness.results.disk import whole_file
from harness.results.report.choice_page import choice_page
from harness.results.store import Store
from harness.results.tables import to_csv

ANSWER, PAGE, TABLES = "choice.json", "choice.html", "evidence"


def choose_in_run(
    plan: Plan,
    settings: Settings,
    progress: Progress,
    *,
    given: Chosen | None = None,
    watched: Watched | None = None,
) -> Choice:
    """Choose among the plan's explainers and the controls; what is measured and the answer are kept in the run.

    The same call goes on where an earlier one was killed or had spent its budget. ``given`` is the metric by which the
    user wants to judge. Raises UserError where model and data cannot be loaded, and for too few samples or budget.
    """
    store = Store(plan.directory / FOLDER)
    clear_places(store)
    if plan.runtime.threads:
        torch.set_num_threads(plan.runtime.threads)
    device = choose_device(plan.runtime.device)
    if device.type == "cpu":
        keep_freed_memory()
    alive = watched.channel.alive if watched else lambda: None
    leased = lease(device, plan.runtime.lease, progress.say, user=f"choice {plan.place}")
    with heard_by(progress.say), watched_by(alive), leased as alone, precision(plan.protocol.dtype):
        progress.loading(plan.title, device)
        try:
            stage = load_stage(plan, device)
            stage.compute_outputs()  # by the model itself, before a tuned copy takes over
            tune(stage.predictor, stage.first(), stage.first_carried())
        except BaseException as error:
            if asked_by_user(error):
                raise
            raise UserError(f"{plan.title} could not be loaded: {one_line(error)}") from error
        if watched is not None:
            watched.measured = True
        for line in accuracy_lines(stage):
            progress.say(line)
        explainers = with_controls(plan.explainers, choose_several(EXPLAINERS, list(CONTROLS)))
        measuring = Measuring(stage, InRun(plan, store, stage, watched), Budget.of(settings.budget), alone)
        choice = Choosing(measuring, explainers, settings, progress.say, given).choose()
    write_owned_config(Store(plan.directory), plan.name, config_text(plan))
    write_choice(plan, choice)
    return choice


def write_choice(plan: Plan, choice: Choice) -> None:
    """Write the answer as JSON, and its evidence as a page and as tables, into the run."""
    facts: dict[str, Any] = {"model": plan.model.label, "dataset": plan.dataset.label, **choice.facts()}
    with whole_file(plan.directory / ANSWER) as path:
        path.write_text(json.dumps(facts, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with whole_file(plan.directory / PAGE) as path:
        path.write_text(choice_page(facts, choice.evidence), encoding="utf-8")
    (plan.directory / TABLES).mkdir(parents=True, exist_ok=True)
    for name, table in choice.evidence.items():
        to_csv(table, plan.directory / TABLES / f"{name}.csv")
