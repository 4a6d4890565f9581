"""Runs one block: measures its pending cells into the run directory and leaves its other cells as they are."""

import logging
from collections.abc import Mapping
from contextlib import chdir, nullcontext
from typing import Any

import torch

from harness.assets import clear_unfinished
from harness.code_version import code_of
from harness.engine.allocator import keep_freed_memory
from harness.engine.block import measure_block
from harness.engine.item_guard import failure_of
from harness.engine.output_cache import OutputCache
from harness.engine.protocol import precision
from harness.engine.selection import Cell
from harness.engine.stage import Stage, set_stage
from harness.engine.sub_stage import part_of_stage
from harness.errors import NotApplicable, NotMeasured, UserError, one_line
from harness.identity import canonical, digest
from harness.interrupts import asked_by_user
from harness.jobs.accuracy import accuracy_lines
from harness.jobs.channel import Watched
from harness.jobs.finished import finished_rows, status_counts
from harness.jobs.lease import Alone, devices_named, lease
from harness.jobs.map_recorder import Sheet, without_damaged_maps
from harness.jobs.ownership import write_owned_config
from harness.jobs.part_rows import NoSamplesLeft, rows_of_round, rows_of_shard
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.raw_items import check_needs_no_preprocessing
from harness.jobs.recorders import RowRecorder, config_text
from harness.jobs.run_labels import claimed_labels, labelled_in_run, rename_rows
from harness.messages import heard_by, watched_by
from harness.models.black_box import loaded_model
from harness.places import clear_abandoned, ignored_temporary_place, temporary_place
from harness.results.announcements import clear_finished, taken_by_force
from harness.results.row_labels import Row
from harness.results.store import Store
from harness.sources import Data

LOG = logging.getLogger(__name__)


def run_plan(
    plan: Plan, progress: Progress | None = None, *, in_sweep: bool = True, watched: Watched | None = None
) -> dict[str, int]:
    """Measure the pending cells of a plan into its run directory; returns the numbers of cells by status.

    The statuses are ``ok``, ``failed`` and ``not_applicable``. No model is loaded if no cell is pending. Finished cells
    stay as they are, so that an interrupted run is resumed by running the same plan again.

    A UserError while model and data are loaded is a mistake in the command: nothing was measured, and no row is
    written. After any other error the rows of all cells tell it, and NotMeasured is raised. In a sweep over models and
    data sets (``in_sweep``), a model that does not take the data makes the cells not applicable; alone it is a mistake
    like any other. ``watched`` leads to the supervisor of this process, if it has one.
    """
    progress = progress or Progress(plan.runtime.quiet)
    store = Store(plan.directory)
    moved = clear_places(store)
    rows = without_damaged_maps(plan, store, finished_rows(store, plan.cells))
    if not plan.is_part:  # a part is labelled as its run
        plan = labelled_in_run(plan, store)
    if moved:
        _write_plan(plan, store)
    if not _pending(plan, rows, watched) and not (watched and watched.resumes(plan.directory)):
        _renamed(plan, store)
        clear_finished(store.directory, {cell.id for cell in plan.cells})
        progress.say(f"{plan.title}: all {len(plan.cells)} cells are done in {plan.place}; nothing to measure")
        return status_counts(plan, rows)
    if watched is not None:
        watched.measured = True
    if plan.runtime.threads:
        torch.set_num_threads(plan.runtime.threads)
    devices = devices_named(plan.runtime.device)
    if devices[0].type == "cpu":
        keep_freed_memory()
    claimed = nullcontext(plan) if plan.is_part else claimed_labels(plan, store)
    try:
        leased = lease(devices, plan.runtime.lease, progress.say, user=f"run {plan.place}")
        alive = watched.channel.alive if watched else lambda: None
        heard, watching = heard_by(progress.say), watched_by(alive)
        with claimed as plan, heard, watching, leased as alone, precision(plan.protocol.dtype):
            _run_pending(plan, store, progress, alone, in_sweep, watched)
    finally:
        progress.end()
    return status_counts(plan, store.latest())


def clear_places(store: Store) -> bool:
    """Clear away what killed runs left half written, and say where temporary files go if not where they should.

    Whether damaged files of the run were moved away.
    """
    ignored = ignored_temporary_place()
    if ignored:
        LOG.warning("%s", ignored)
    clear_abandoned(temporary_place())
    clear_unfinished()
    return store.clear_away()


def _run_pending(
    plan: Plan,
    store: Store,
    progress: Progress,
    alone: Alone,
    in_sweep: bool,
    watched: Watched | None,
) -> None:
    # Read again: another run may have finished cells during the wait.
    rows = without_damaged_maps(plan, store, finished_rows(store, plan.cells))
    of_whole = Store(plan.run_directory).latest() if plan.is_part else {}
    recorder = RowRecorder(plan, store, rows, progress, watched, of_whole)
    resumes = watched is not None and watched.resumes(plan.directory)
    if not resumes:
        progress.loading(plan.title, alone.device)
    former = _renamed(plan, store)  # before it is announced what fails if this process ends
    try:
        recorder.begins("load", _pending(plan, rows, watched))
        stage = load_stage(plan, alone.device)
        cells = _suspects_last(_pending(plan, rows, watched, stage.weights), store, progress)
        stage.make_ready(compiled=plan.runtime.compile)
        if plan.runtime.outputs:
            model = digest(code_of(*plan.model.functions), canonical(plan.model.identity), stage.weights)
            stage.output_cache = OutputCache.of(plan.runtime.outputs, model)
    except NoSamplesLeft:
        recorder.will_measure([])
        raise
    except BaseException as error:
        if asked_by_user(error):
            raise
        declined = isinstance(error, NotApplicable) and in_sweep
        if declined or not isinstance(error, UserError | NotApplicable):
            _write_plan(plan, store)
            _fail_all(plan, recorder, error)  # the rows of all cells say why the block could not start
        if declined:
            progress.say(f"{plan.title}: not applicable: {error}")
            return
        kind = UserError if isinstance(error, UserError | NotApplicable) else NotMeasured
        if kind is UserError:
            store.append_all(former)
        raise kind(f"{plan.title} could not be loaded: {one_line(error)}") from error
    _write_plan(plan, store)
    recorder.on(stage)
    recorder.will_measure(cells)
    if not resumes:
        progress.loaded(stage, len(plan.explainers), len(plan.metrics), len(cells))
        for line in accuracy_lines(stage):
            progress.say(line)
    progress.begin(cells)
    sheet = Sheet(plan, stage, recorder)
    measure_block(stage, cells, sheet, alone=alone, warm_up=plan.runtime.warm_up)
    progress.end()
    try:
        sheet.index()
        path = sheet.draw()
    except (UserError, OSError) as error:  # the scores are saved: a missing picture is no failure of the run
        progress.say(f"no contact sheet: {one_line(error)}")
    else:
        if path is not None:
            progress.say(f"contact sheet: {plan.place / path.name}")


def _pending(
    plan: Plan, rows: Mapping[str, Mapping[str, Any]], watched: Watched | None, weights: str | None = None
) -> list[Cell]:
    """The cells to measure; those that this command has tried already wait for the next one."""
    tried = watched.tried_in(plan.directory, plan.run_directory) if watched else frozenset()
    return [cell for cell in plan.pending(rows, weights) if cell.id not in tried]


def _suspects_last(cells: list[Cell], store: Store, progress: Progress) -> list[Cell]:
    """The cells, with those last during which an earlier run was killed from outside: should it come again, the others
    are done."""
    suspects = {row["cell"] for row in taken_by_force(store.directory)}
    labels = list(dict.fromkeys(cell.explainer.label for cell in cells if cell.id in suspects))
    if not labels:
        return cells
    progress.say(f"the last run was killed while it measured {', '.join(labels)}: measured last this time")
    return sorted(cells, key=lambda cell: (cell.explainer.label in labels, cell.id in suspects))


def _write_plan(plan: Plan, store: Store) -> None:
    """Save the configuration of the block with all options."""
    write_owned_config(store, plan.name, config_text(plan))


def _renamed(plan: Plan, store: Store) -> list[Row]:
    """Give finished rows the labels that the user gives now; the rows as they were. Those of a part stay."""
    return [] if plan.is_part else rename_rows(plan, store)


def load_stage(plan: Plan, device: torch.device) -> Stage:
    """Load the plan's model and data onto the device; of a shard or round, its samples."""
    stage = uncut_stage(plan, device, whole=plan.round is None and plan.runtime.shard is None)
    if plan.round is not None:
        return part_of_stage(stage, rows_of_round(stage, plan.round))
    if plan.runtime.shard is not None:
        return part_of_stage(stage, rows_of_shard(stage, plan.runtime.shard, plan.runtime.shards))
    return stage


def uncut_stage(plan: Plan, device: torch.device, whole: bool) -> Stage:
    """Load the plan's model and all its samples; without targets if not ``whole``, since only a part is needed."""
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where libraries put what they make without naming a device
    with chdir("."):  # a model or data set may change the working folder
        model = loaded_model(plan.model.make())
        data = plan.dataset.make()
    if not isinstance(data, Data):
        raise UserError(f"dataset {plan.dataset.label} gave a {type(data).__name__}, expected harness.Data")
    if model.preprocess is None and "preprocess" in plan.model.options:
        check_needs_no_preprocessing(data)
    return set_stage(model, data, plan.protocol, device, plan.runtime.chunk, whole=whole)


def _fail_all(plan: Plan, recorder: RowRecorder, error: BaseException) -> None:
    status = "not_applicable" if isinstance(error, NotApplicable) else "failed"
    for cell in _pending(plan, recorder.before, recorder.watched):
        if recorder.before.get(cell.id, {}).get("status") != "ok":  # an older score stays, although it is stale
            recorder.failed(cell, status, "load", error, failure_of(error).trace)
