"""``harness plan``: the cells of a run by state."""

import argparse
from collections import Counter
from collections.abc import Iterable
from typing import Any

from harness.cli.overrides import OVERRIDES_HELP, USAGE, add_overrides, hydra_arguments
from harness.cli.parser import Parser, add_verb

EXAMPLES = {
    "harness plan model=digits_cnn dataset=digits explainer=[saliency,rise] metric=[srg,deletion]": (
        "how many of the four cells are measured already"
    ),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "plan",
        "show which cells the same arguments of harness run would measure",
        f"""
No model is loaded. The states of cells: new; done; stale (measured by other code or weights, would be measured
again); retry (failed once, would be tried again); failed (twice: runtime.retry=true tries again); not applicable.

{OVERRIDES_HELP}""",
        EXAMPLES,
        usage=USAGE,
    )
    parser.set_defaults(quiet=False)
    add_overrides(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Print the states of every job's cells, in all and by explainer; and of a sweep those of all jobs together."""
    from harness.cli.hydra_config import for_each_job

    jobs, of_all = 0, {}  # cells of several jobs can be the same

    def print_states(config: dict[str, Any]) -> None:
        from harness.jobs.plan import Plan  # not before names and options have been understood
        from harness.jobs.run_labels import labelled_in_run
        from harness.jobs.runner import finished_rows
        from harness.results.store import Store

        plan = Plan.of(config).with_control()
        rows = finished_rows(Store(plan.directory))
        plan = labelled_in_run(plan, rows.values())
        states = {job: plan.state(job, rows.get(job.cell)) for job in plan.jobs}
        print(f"{plan.title}: {len(plan.jobs)} cells in {plan.place}: {_state_counts(states.values())}")
        for explainer in plan.explainers:
            own = _state_counts(state for job, state in states.items() if job.explainer is explainer)
            print(f"  {explainer.label:<24} {own}")
        nonlocal jobs
        jobs += 1
        of_all.update({(plan.directory, job.cell): state for job, state in states.items()})

    code = for_each_job(hydra_arguments(chosen), print_states)
    if jobs > 1:
        print(f"all {jobs} jobs: {len(of_all)} cells: {_state_counts(of_all.values())}")
    return code


def _state_counts(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in Counter(states).most_common())
