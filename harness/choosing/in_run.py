"""Chooses an explainer for a plan's model and data, in a run directory: what one ``harness choose`` does."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from harness.choosing.candidates import CONTROLS, with_controls
from harness.choosing.choice import Choice
from harness.choosing.choose import Choosing
from harness.choosing.kept import InRun
from harness.choosing.lock import held_alone
from harness.choosing.measuring import Measuring
from harness.choosing.settings import Budget, Settings
from harness.engine.allocator import keep_freed_memory
from harness.engine.protocol import precision
from harness.engine.selection import Chosen, choose_several
from harness.engine.stage import Stage
from harness.errors import UserError, one_line
from harness.identity import canonical, digest
from harness.interrupts import asked_by_user
from harness.jobs.accuracy import accuracy_lines
from harness.jobs.channel import Watched
from harness.jobs.lease import devices_named, lease
from harness.jobs.ownership import write_owned_config
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress, scoring_in_words
from harness.jobs.recorders import config_text
from harness.jobs.runner import clear_places, load_stage
from harness.messages import heard_by, watched_by
from harness.places import clear_abandoned, file_name
from harness.registry import EXPLAINERS
from harness.results.choice_files import ANSWER, FOLDER, PAGE, TABLES
from harness.results.disk import told_in_one_line, whole_file
from harness.results.report.choice_page import choice_page
from harness.results.store import Store
from harness.results.tables import to_csv


def choose_in_run(
    plan: Plan,
    settings: Settings,
    progress: Progress,
    *,
    given: Chosen | None = None,
    watched: Watched | None = None,
) -> Choice:
    """Choose among the plan's explainers and the controls; what is measured and the answer are kept in the run.

    The same call goes on where an earlier one was killed or had spent its budget, and waits while another one is at
    work in this run. ``given`` is the metric by which the user wants to judge. Raises UserError where model and data
    cannot be loaded, and for too few samples or budget.
    """
    store = Store(plan.directory / FOLDER)
    with held_alone(store.directory, progress.say):
        clear_places(store)
        choice = _choose(plan, store, settings, progress, given, watched)
        facts: dict[str, Any] = {"model": plan.model.label, "dataset": plan.dataset.label, **choice.facts()}
        _write_answer(plan.directory, facts, choice.evidence)
    return choice


def _choose(
    plan: Plan,
    store: Store,
    settings: Settings,
    progress: Progress,
    given: Chosen | None,
    watched: Watched | None,
) -> Choice:
    plan.protocol.without_rounds()
    if plan.runtime.shards > 1:
        raise UserError(f"runtime.shards is {plan.runtime.shards}, expected 1: harness choose draws its own samples")
    if plan.runtime.threads:
        torch.set_num_threads(plan.runtime.threads)
    devices = devices_named(plan.runtime.device)
    if devices[0].type == "cpu":
        keep_freed_memory()
    alive = watched.channel.alive if watched else lambda: None
    leased = lease(devices, plan.runtime.lease, progress.say, user=f"choice {plan.place}")
    with heard_by(progress.say), watched_by(alive), leased as alone, precision(plan.protocol.dtype):
        progress.loading(plan.title, alone.device)
        stage = _loaded(plan, store, alone.device, watched)
        for line in [*scoring_in_words(stage), *accuracy_lines(stage)]:
            progress.say(line)
        write_owned_config(store, plan.name, config_text(plan))
        explainers = with_controls(plan.explainers, choose_several(EXPLAINERS, list(CONTROLS)))
        question = _question(plan, stage, settings, given)
        kept = InRun(plan, store, stage, watched, question=question, alone=alone)
        if kept.suspects:
            names = ", ".join(sorted(kept.suspects))
            progress.say(f"the last choice was killed while it measured {names}: measured last this time")
        measuring = Measuring(stage, kept, Budget.of(settings.budget), alone)
        return Choosing(measuring, explainers, settings, progress.say, given).choose()


def _loaded(plan: Plan, store: Store, device: torch.device, watched: Watched | None) -> Stage:
    """Model and data, with the model's outputs; what the supervisor of this process has to know is told."""
    if watched is not None:
        watched.begins(store.directory, "load", plan.title, [], f"output/{file_name(plan.name)}-load.txt")
    try:
        stage = load_stage(plan, device)
        stage.make_ready(compiled=plan.runtime.compile)
    except BaseException as error:
        if asked_by_user(error):
            raise
        raise UserError(f"{plan.title} could not be loaded: {one_line(error)}") from error
    if watched is not None:
        watched.rests()
        watched.measured = True
    return stage


def _question(plan: Plan, stage: Stage, settings: Settings, given: Chosen | None) -> str:
    """A text that differs between choices whose decisions differ, whatever their budgets."""
    items = {"explainers": [each.identity for each in plan.explainers], "metric": given.identity if given else None}
    about = {"model": plan.model.identity, "dataset": plan.dataset.identity, "protocol": plan.protocol.identity}
    how = {"alpha": settings.alpha, "tune": settings.tune, "limit": settings.time_limit}
    return digest(canonical({**about, **items, **how}), stage.weights)


def _write_answer(directory: Path, facts: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> None:
    """Write the answer, its page and its evidence in place of earlier ones; the answer is there only with all of it."""
    folder, answer = directory / TABLES, directory / ANSWER
    with told_in_one_line(folder, "what was measured is safe"):
        folder.mkdir(parents=True, exist_ok=True)
        answer.unlink(missing_ok=True)
        for path in folder.glob("*.csv"):
            if path.stem not in tables:  # of a step to which this answer has not come
                path.unlink()
    for place in (directory, folder):
        clear_abandoned(place)
    for name, table in tables.items():
        to_csv(table, folder / f"{name}.csv")
    texts = {directory / PAGE: choice_page(facts, tables), answer: f"{json.dumps(facts, indent=1, allow_nan=False)}\n"}
    for path, text in texts.items():
        with whole_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
