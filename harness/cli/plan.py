"""``harness plan``: the cells of a run by state."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from harness.cli.overrides import OVERRIDES_HELP, USAGE, add_overrides, add_quiet, hydra_arguments
from harness.cli.parser import Parser, add_verb
from harness.garbage import collected_later

EXAMPLES = {
    "harness plan model=digits_cnn dataset=digits 'explainer=[saliency,rise]' 'metric=[srg,deletion]'": (
        "how many of the four cells are measured already"
    ),
    "harness plan experiment=digits --estimate": "and what the others will cost: passes, time, memory and disk",
    "harness plan model=lite0,digits_cnn dataset=photos --estimate -m": "the same for each job of a sweep, and for all",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "plan",
        "show which cells the same arguments of harness run would measure",
        f"""
The states of cells: new; done; stale (measured by other code or weights, would be measured again); retry (failed
once, would be tried again); failed (twice: runtime.retry=true tries again); not applicable. No model is loaded.

--estimate loads it, measures the pending cells on a few samples into a temporary folder, and predicts for each block
(one model and data set) what all samples will take: passes of the model, time on one device, memory and disk; and the
wall time with several devices. Finished cells cost nothing. See docs/runs.md, What a run will cost. With launcher=slurm
the request to Slurm is printed too, and after --estimate what of it is too little.

{OVERRIDES_HELP}""",
        EXAMPLES,
        usage=USAGE,
    )
    parser.add_argument(
        "--estimate", action="store_true", help="measure a few samples, and predict what the pending cells will cost"
    )
    add_quiet(parser, "no progress of the measurement of --estimate")
    add_overrides(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print the states of every job's cells, and of a sweep those of all jobs together; then what they will cost."""
    from harness.cli.hydra_config import for_each_job
    from harness.jobs.runtime import Runtime
    from harness.jobs.supervisor import Supervisor
    from harness.launching.settings import Slurm, launcher_of

    jobs, of_all, estimates = 0, {}, []  # cells of several jobs can be the same
    supervisor = Supervisor()
    slurm, requested = None, 0  # the settings of a launcher are those of all jobs

    def plan_job(config: dict[str, Any]) -> None:
        nonlocal jobs, slurm, requested
        launcher = launcher_of(config.pop("launcher", None))
        with collected_later():
            states = _printed_states(config)
        pending = _cells_to_measure(states)
        if isinstance(launcher, Slurm) and pending:
            runtime = Runtime.of(config.get("runtime") or {})
            slurm, requested = launcher, requested + (runtime.shards if runtime.shard is None else 1)
        further = {key[1] for key in pending if key not in of_all}
        jobs += 1
        of_all.update(states)
        if chosen.estimate and further:
            from harness.cli.estimate_process import estimate_of

            found = estimate_of(config, further, supervisor)
            estimates.extend([found] if found.cells else [])  # none: shards have all of it, and are only to be joined

    try:
        code = for_each_job(hydra_arguments(chosen), plan_job, with_launcher=True)
    finally:
        supervisor.end()
    if jobs > 1:
        print(f"all {jobs} jobs of the sweep: {len(of_all)} cells: {_state_counts(of_all.values())}")
    if chosen.estimate and jobs:
        _print_estimates(estimates, code)
    if slurm is not None:
        from harness.cli.slurm_request import request_lines

        print("\n".join(request_lines(slurm, requested, estimates)))
    return code


def _printed_states(config: dict[str, Any]) -> dict[tuple[Any, str], str]:
    """Print the states of a job's cells, in all and by explainer; they are returned by run and id of the cell."""
    from harness.jobs.finished import finished_rows
    from harness.jobs.plan import Plan  # not before names and options have been understood
    from harness.jobs.run_labels import labelled_in_run
    from harness.results.store import Store

    plan = Plan.of(config).with_control()
    run = Store(plan.run_directory)
    plan = labelled_in_run(plan, run)
    rows = finished_rows(run, plan.cells)
    if plan.is_part:  # it measures what the run lacks
        finished = {cell.id for cell in plan.cells} - {cell.id for cell in plan.pending(rows)}
        of_part = finished_rows(Store(plan.directory), plan.cells)
        rows = {cell_id: rows[cell_id] for cell_id in finished} | {
            cell_id: row for cell_id, row in of_part.items() if cell_id not in finished
        }
    states = {cell: plan.state(cell, rows.get(cell.id)) for cell in plan.cells}
    print(f"{plan.title}: {len(plan.cells)} cells in {plan.place}: {_state_counts(states.values())}")
    for explainer in plan.explainers:
        own = _state_counts(state for cell, state in states.items() if cell.explainer is explainer)
        print(f"  {explainer.label:<24} {own}")
    sys.stdout.flush()  # before the progress of an estimate, where both go into one file
    return {(plan.directory, cell.id): state for cell, state in states.items()}


def _cells_to_measure(states: dict[tuple[Any, str], str]) -> list[tuple[Any, str]]:
    """The cells that ``harness run`` measures, by run and id."""
    from harness.jobs.plan import PENDING

    return [key for key, state in states.items() if state in PENDING]


def _print_estimates(estimates: list[Any], code: int) -> None:
    if estimates:
        from harness.cli.estimate_text import estimate_lines

        print()
        print("\n".join(estimate_lines(estimates)))
    elif not code:
        print("nothing is pending: harness run would measure nothing")


def _state_counts(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in Counter(states).most_common())
