"""Draws views of a model and of a run's scores into the run's folder ``views``."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.engine.protocol import precision
from harness.errors import NotApplicable, UserError, one_line, unknown
from harness.identity import canonical
from harness.jobs.lease import devices_named, lease
from harness.jobs.ownership import is_own, programs_named
from harness.jobs.plan import Plan
from harness.jobs.runner import load_stage
from harness.messages import say
from harness.places import file_name
from harness.results.choice_files import FOLDER, find_choice
from harness.results.frames import configured, controls_of, find_run
from harness.results.run_files import RunFiles, content_of, name_damage
from harness.results.store import Store
from harness.seals import Damaged
from harness.views.of_model import MODEL_VIEWS, Scene
from harness.views.of_run import RUN_VIEWS, ViewedRun

MOST_BLOCKS = 3  # of a run, whose models are loaded
# What drawing can raise for a model or a metric written by anybody; the other views are drawn all the same.
DRAWING_ERRORS = (RuntimeError, ValueError, FloatingPointError, TypeError, IndexError)


def draw_views(
    plan_or_run: Plan | Mapping[str, Any] | str | Path,
    what: Sequence[str] | None = None,
    *,
    layers: Sequence[str] | None = None,
    explainer: str | None = None,
    runs: str | Path = "runs",
    trust: bool = False,
) -> list[Path]:
    """Draw views of a plan's model and data, or of a run, into the folder ``views`` of the run; the files written.

    plan_or_run   a plan or its configuration, or a run by name (below ``runs``), path, ``latest`` or ``previous``
    what          names among activations, maximisation, features, columns, interactions (which load the model), curves,
                  importances and tradeoff (of a run's scores); None for all
    layers        whose activations are drawn; None for up to six, from the first to the last
    explainer     by whose first faithfulness metric features are coloured; None for the first one that has a score
    trust         whether to import what a run names although this user has not made the run; it can run anything

    Every picture is a PNG with a CSV or JSON file of what it shows beside it. Each step, and each view that does not
    apply with the reason, is a message (``harness.messages.say``). Raises UserError for an unknown view, run, layer or
    explainer, where a model cannot be loaded, and where ``what`` is not None and none of its views applies.
    """
    names = view_names(what)
    of_models = [name for name in names if name in MODEL_VIEWS]
    plans, run = _resolve_run(plan_or_run, runs, needs_model=bool(of_models), trust=trust)
    if len(plans) > MOST_BLOCKS and of_models:
        rest = ", ".join(plan.title for plan in plans[MOST_BLOCKS:][:5])
        say(
            f"views of models are drawn for {MOST_BLOCKS} of the run's {len(plans)} pairs of model and data; for the "
            f"others ({rest}) call harness view with the arguments of harness run"
        )
    Store(run.directory).check_folders()
    paths, reasons = [], []
    for plan in plans[:MOST_BLOCKS] if of_models else []:
        paths += _draw_of_model(plan, run, of_models, layers, explainer, reasons)
    for name in names:
        if name in RUN_VIEWS:
            paths += _draw_if_possible(name, RUN_VIEWS[name], run, reasons)
    if not paths and what is not None:
        raise UserError(f"nothing to draw: {'; '.join(reasons)}")
    return paths


def view_names(what: Sequence[str] | None) -> list[str]:
    """The names of views that are meant, each once; all for None. Raises UserError for an unknown one, or none."""
    there = (*MODEL_VIEWS, *RUN_VIEWS)
    for name in what or ():
        if name not in there:
            raise unknown("view", name, there)
    if what is not None and not what:
        raise UserError(f"no view was chosen, expected some of {', '.join(there)}")
    return list(there) if what is None else list(dict.fromkeys(what))


def _resolve_run(plan_or_run: Any, runs: str | Path, *, needs_model: bool, trust: bool) -> tuple[list[Plan], ViewedRun]:
    """The plans that are meant, none if no model is needed, and the run that they belong to."""
    if isinstance(plan_or_run, Mapping):
        plan_or_run = Plan.of(plan_or_run)
    if isinstance(plan_or_run, Plan):
        return [plan_or_run], ViewedRun(plan_or_run.place)
    choice = find_choice(plan_or_run, runs)
    directory = choice or find_run(plan_or_run, runs)
    recorded = choice / FOLDER if choice else directory
    return list(_recorded_plans(recorded, directory, trust)) if needs_model else [], ViewedRun(directory)


def _recorded_plans(recorded: Path, directory: Path, trust: bool) -> Iterator[Plan]:
    """The plans of the run in ``directory``, one for each model, data set and protocol, from the configurations that
    were recorded in a folder.

    UserError for a configuration that names programs and was not written by this user, unless they are trusted.
    """
    plans: dict[str, Plan] = {}
    for path in sorted((recorded / "config").glob("*.json")):
        if path.name.startswith("scoring-"):  # of runs in which a timing chose the scoring copy
            continue
        try:
            config = RunFiles(recorded).text(path)
            config |= {"runtime": {**config["runtime"], "runs": str(directory.parent)}, "run": directory.name}
            programs, text = programs_named(config), content_of(path).decode()
        except Damaged as error:
            name_damage(path, error, "it is left out")
            continue
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            say(f"{path.name} is left out: {one_line(error)[:200]}")
            continue
        _check_programs(directory.name, path, text, programs, trust)
        try:
            plan = Plan.of(config)
        except (UserError, KeyError, TypeError, AttributeError) as error:
            say(f"{path.name} is left out: {one_line(error)[:200]}")
            continue
        plans[canonical([plan.model.identity, plan.dataset.identity, plan.protocol.identity])] = plan
    yield from plans.values()


def _check_programs(run: str, path: Path, text: str, programs: Sequence[str], trust: bool) -> None:
    """Say which programs a configuration names; UserError if it is another user's and not trusted."""
    if not programs:
        return
    named = ", ".join(programs[:5]) + (f" and {len(programs) - 5} more" if len(programs) > 5 else "")
    if not (trust or is_own(path, text)):
        raise UserError(
            f"run {run} was not made by you here and would import and run {named}; if you trust it, add --trust"
        )
    say(f"importing {named}")


def _draw_of_model(
    plan: Plan,
    run: ViewedRun,
    names: Sequence[str],
    layers: Sequence[str] | None,
    explainer: str | None,
    reasons: list[str],
) -> list[Path]:
    with (
        lease(devices_named(plan.runtime.device), "share", say) as alone,
        precision(plan.protocol.dtype),
    ):
        device = alone.device
        say(f"{plan.title}: loading model and data on {device}")
        try:
            stage = load_stage(plan, device)
        except NotApplicable as error:
            raise UserError(f"{plan.title}: {error}") from error
        except Exception as error:  # whatever it is, nothing can be drawn
            raise UserError(f"{plan.title} could not be loaded: {one_line(error)}") from error
        scene = Scene(
            stage,
            plan.title,
            run.directory / "views",
            file_name(plan.name),
            plan.explainers,
            layers,
            _faithfulness_scores(plan, run, explainer),
            explainer,
        )
        return [path for name in names for path in _draw_if_possible(name, MODEL_VIEWS[name], scene, reasons)]


def _draw_if_possible(name: str, draw: Callable[[Any], list[Path]], subject: Any, reasons: list[str]) -> list[Path]:
    """The files of a view; none where it does not apply or cannot be drawn: the reason goes to ``reasons``."""
    try:
        return draw(subject)
    except UserError:
        raise
    except NotApplicable as error:
        reason = f"{name} does not apply: {error}"
    except DRAWING_ERRORS as error:
        reason = f"{name} failed: {one_line(error)[:300]}"
    say(reason)
    reasons.append(reason)
    return []


def _faithfulness_scores(plan: Plan, run: ViewedRun, explainer: str | None) -> pd.DataFrame:
    """The run's faithfulness scores for a plan's model, data and protocol; without controls unless one is named."""
    try:
        cells, scores = run.frames
    except NotApplicable:
        return pd.DataFrame(columns=["explainer", "metric", "sample", "value"])
    own = {"model": plan.model.identity, "dataset": plan.dataset.identity, "protocol": plan.protocol.identity}
    texts = {section: canonical(identity) for section, identity in own.items()}
    fits = [
        all(canonical(configured(config, section)) == text for section, text in texts.items())
        for config in cells["config"]
    ]
    scored = (cells["kind"] == "faithfulness") & (cells["status"] == "ok")
    mine = cells[pd.Series(fits, cells.index, dtype=bool) & scored]
    if explainer is None:
        mine = mine[~mine["explainer"].isin(controls_of(cells))]
    return scores[scores["cell"].isin(set(mine["cell"]))].astype({"explainer": object, "metric": object})
