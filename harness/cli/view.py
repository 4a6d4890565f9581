"""``harness view``: ways of looking at a model and at a run beside its scores, as pictures and as files of data."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.engine.stage import precision
from harness.errors import NotApplicable, UserError, one_line, unknown
from harness.identity import canonical
from harness.jobs.lease import choose_device, lease
from harness.jobs.plan import Plan
from harness.jobs.runner import load_stage
from harness.messages import heard_by
from harness.results.frames import configured, controls_of, find_run
from harness.views.of_model import VIEWS, Scene
from harness.views.of_run import RUN_VIEWS, Looked, file_name

NAMES = (*VIEWS, *RUN_VIEWS)
MOST_BLOCKS = 3  # of a run, whose models are loaded

Say = Callable[[str], None]


def view(
    plan_or_run: Plan | Mapping[str, Any] | str | Path,
    what: Sequence[str] | None = None,
    *,
    layers: Sequence[str] | None = None,
    explainer: str | None = None,
    runs: str | Path = "runs",
    say: Say = lambda line: None,
) -> list[Path]:
    """Draw views of a plan's model and data, or of a run, into the folder ``views`` of the run; the files written.

    plan_or_run   a plan or its configuration, or a run by name (below ``runs``), path, ``latest`` or ``previous``
    what          names among activations, maximisation, features, columns (which load the model), curves, importances
                  and tradeoff (of a run's scores); None for all
    layers        whose activations are drawn; None for up to six, from the first to the last
    explainer     by whose first faithfulness metric features are coloured; None for the first one that has a score
    say           told, in a line each, what is under way, and which view does not apply and why

    Every picture is a PNG with a CSV or JSON file of what it shows beside it. A view that does not apply is told and
    the others are drawn. Raises UserError, in one line, for an unknown view, run, layer or explainer, where a model
    cannot be loaded, and where nothing of a given ``what`` applies.
    """
    chosen = _chosen(what)
    plans, looked = _resolved(plan_or_run, runs, say)
    jobs = [(name, lambda name=name: RUN_VIEWS[name](looked)) for name in chosen if name in RUN_VIEWS]
    paths, reasons = [], []
    of_models = [name for name in chosen if name in VIEWS]
    if len(plans) > MOST_BLOCKS and of_models:
        rest = ", ".join(plan.title for plan in plans[MOST_BLOCKS:][:5])
        say(
            f"views of models are drawn for {MOST_BLOCKS} of {len(plans)} blocks; for {rest} give harness view their "
            f"own arguments"
        )
    for plan in plans[:MOST_BLOCKS] if of_models else []:
        paths += _of_model(plan, looked, of_models, layers, explainer, say, reasons)
    for name, job in jobs:
        paths += _tried(name, job, say, reasons)
    if not paths and what is not None:
        raise UserError(f"nothing to draw: {'; '.join(reasons)}")
    return paths


def view_command(arguments: list[str], take: Callable, take_value: Callable) -> int:
    """``harness view``: a run, or the arguments of ``harness run``, and which views."""
    from harness.cli.hydra_config import for_each_job

    quiet = take(arguments, "--quiet")
    what, layers, explainer = (take_value(arguments, flag) for flag in ("--what", "--layers", "--explainer"))
    runs = take_value(arguments, "--runs") or "runs"
    options = {
        "what": _listed(what),
        "layers": _listed(layers),
        "explainer": explainer,
        "runs": runs,
        "say": _silent if quiet else _tell,
    }
    _chosen(options["what"])  # a misspelt name must not wait for the model
    runs_named = [each for each in arguments if "=" not in each and not each.startswith(("-", "~", "+"))]
    if len(runs_named) > 1 or (runs_named and len(arguments) > 1):
        raise UserError(f"harness view {' '.join(arguments)}: expected one RUN, or the arguments of harness run")
    if not arguments or runs_named:
        _report(view(runs_named[0] if runs_named else "latest", **options), quiet)
        return 0
    status = [0]

    def job(config: dict[str, Any]) -> None:
        try:
            runtime = {**(config.get("runtime") or {}), **({"quiet": True} if quiet else {})}
            _report(view(Plan.of({**config, "runtime": runtime}), **options), quiet)
        except UserError as error:  # one job's mistake does not end a sweep
            print(f"harness: {error}", file=sys.stderr)
            status[0] = 2

    for_each_job(arguments, job)
    return status[0]


def _report(paths: list[Path], quiet: bool) -> None:
    pictures = [path for path in paths if path.suffix == ".png"]
    if not quiet:
        for path in pictures:
            print(path)
        print(f"{len(pictures)} pictures, the data of each beside it")


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [each.strip() for each in text.strip("[]").split(",") if each.strip()]


def _tell(line: str) -> None:
    print(line, file=sys.stderr)


def _silent(line: str) -> None:
    pass


def _chosen(what: Sequence[str] | None) -> list[str]:
    for name in what or ():
        if name not in NAMES:
            raise unknown("view", name, NAMES)
    if what is not None and not what:
        raise UserError(f"no view was chosen, expected some of {', '.join(NAMES)}")
    return list(NAMES) if what is None else list(dict.fromkeys(what))


def _resolved(given: Any, runs: str | Path, say: Say) -> tuple[list[Plan], Looked]:
    """The plans that are meant, and the run that they belong to."""
    if isinstance(given, Mapping):
        given = Plan.of(given)
    if isinstance(given, Plan):
        return [given], Looked(given.directory, say)
    directory = find_run(given, runs)
    return list(_plans_of(directory, say)), Looked(directory, say)


def _plans_of(directory: Path, say: Say) -> list[Plan]:
    """The plans of a run, one for each model, data set and protocol, from what is kept of its configuration."""
    found: dict[str, Plan] = {}
    for path in sorted((directory / "config").glob("*.json")):
        if path.name.startswith("scoring-"):  # a calibration
            continue
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
            runtime = {**config["runtime"], "runs": str(directory.parent)}
            plan = Plan.of({**config, "runtime": runtime, "run": directory.name})
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"{path.name} is left out: {one_line(error)[:200]}")
            continue
        found[canonical([plan.model.identity, plan.dataset.identity, vars(plan.protocol)])] = plan
    return list(found.values())


def _of_model(
    plan: Plan,
    looked: Looked,
    names: Sequence[str],
    layers: Sequence[str] | None,
    explainer: str | None,
    say: Say,
    reasons: list[str],
) -> list[Path]:
    device = choose_device(plan.runtime.device)
    with heard_by(say), lease(device, "share", say), precision(plan.protocol.dtype):
        say(f"{plan.title}: loading on {device}")
        try:
            stage = load_stage(plan, device)
        except NotApplicable as error:
            raise UserError(f"{plan.title}: {error}") from error
        except Exception as error:  # whatever it is, nothing can be looked at
            raise UserError(f"{plan.title} could not be loaded: {one_line(error)}") from error
        scene = Scene(
            stage,
            plan.title,
            looked.directory / "views",
            file_name(plan.name),
            plan.explainers,
            layers,
            _faithfulness(plan, looked, explainer),
            explainer,
            say,
        )
        paths = []
        for name in names:
            paths += _tried(name, lambda name=name: VIEWS[name](scene), say, reasons)
        return paths


def _tried(name: str, draw: Callable[[], list[Path]], say: Say, reasons: list[str]) -> list[Path]:
    """A view's files; none where it does not apply or cannot be drawn, which is told."""
    try:
        return draw()
    except UserError:
        raise
    except NotApplicable as error:
        told = f"{name} does not apply: {error}"
    except (RuntimeError, ValueError, FloatingPointError, TypeError, IndexError) as error:
        # A model of anybody's can break a view in any way; the others go on.
        told = f"{name} failed: {one_line(error)[:300]}"
    say(told)
    reasons.append(told)
    return []


def _faithfulness(plan: Plan, looked: Looked, explainer: str | None) -> pd.DataFrame:
    """The run's faithfulness scores of a plan's model, data and protocol; without controls unless one is asked for."""
    try:
        cells, scores = looked.frames
    except NotApplicable:
        return pd.DataFrame(columns=["explainer", "metric", "sample", "value"])
    own = {"model": plan.model.identity, "dataset": plan.dataset.identity, "protocol": vars(plan.protocol)}
    wanted = {section: canonical(identity) for section, identity in own.items()}
    fits = [
        all(canonical(configured(config, section)) == text for section, text in wanted.items())
        for config in cells["config"]
    ]
    mine = cells[
        pd.Series(fits, cells.index, dtype=bool) & (cells["kind"] == "faithfulness") & (cells["status"] == "ok")
    ]
    if explainer is None:
        mine = mine[~mine["explainer"].isin(controls_of(cells))]
    return scores[scores["cell"].isin(set(mine["cell"]))].astype({"explainer": object, "metric": object})
