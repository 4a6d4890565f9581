"""The command line: ``harness run | plan | list | table | check | view``."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from harness.errors import UserError

USAGE = """usage: harness VERB ...

  run    measure: harness run [model=NAME] [dataset=NAME] [explainer=[A,B]] [metric=[C,D]] [GROUP.OPTION=VALUE] [-m]
         [--quiet]
  plan   the cells of the same command by state, without loading a model
  list   what there is: harness list explainers|metrics|models|datasets [NAME]
  table  results: harness table [RUN] [--samples | --by DIVISION | --choices | --sanity] [--csv FILE] [--parquet FILE]
  check  what every explainer's self-checks show on a model and data, without scoring: harness check [model=NAME]
         [dataset=NAME] [explainer=[A,B]] [protocol.samples=4] [--csv FILE] [--strict] [--quiet]
  view   pictures of a run and its models: harness view [RUN | what harness run takes] [--what LIST] [--layers LIST]
         [--explainer NAME] [--quiet]; LIST is some of activations, maximisation, features, columns, curves,
         importances, tradeoff
  report   one page of runs for a browser, offline, and its twin in Markdown: harness report [RUN ...] [--out FILE]
         [--runs FOLDER] [--quiet]
  compare  two runs cell by cell: harness compare BASE [NEW] [--fail-on worse,broken] [--markdown FILE] [--csv FILE]
         [--all]
  trend  steps over many runs: harness trend RUN RUN ... [--fail-on worse] [--csv FILE] [--all]

Without arguments `harness run` benchmarks EfficientNet-Lite0 on 20 photos. -m sweeps: model=a,b. RUN is a name under
runs/, latest or previous."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status is 0, 1 if cells failed, 2 for a user's mistake, 130 when interrupted."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    verbs: dict[str, Callable[[list[str]], int]] = {
        "run": run,
        "plan": plan,
        "list": list_registry,
        "table": table,
        "check": check,
        "view": view,
        "report": report,
        "compare": compare,
        "trend": trend,
    }
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if arguments else 2
    try:
        if arguments[0] not in verbs:
            from harness.errors import unknown

            raise unknown("verb", arguments[0], verbs)
        return verbs[arguments[0]](arguments[1:])
    except UserError as error:
        print(f"harness: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "; finished cells are on disk, the same command resumes" if arguments[0] == "run" else ""
        print(f"harness: interrupted{kept}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, `head` say, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run(arguments: list[str]) -> int:
    """``harness run``: measure what is pending and print the table."""
    from harness.cli.hydra_config import for_each_job
    from harness.cli.table import show
    from harness.jobs.plan import Plan
    from harness.jobs.runner import run_plan

    sys.path.append(os.getcwd())  # an explainer of one's own is named by its import, and mostly lies here

    quiet = _take(arguments, "--quiet")
    status = [0]

    def job(config: dict[str, Any]) -> None:
        try:
            plan = Plan.of(
                {**config, "runtime": {**(config.get("runtime") or {}), **({"quiet": True} if quiet else {})}}
            )
            counts = run_plan(plan)
        except UserError as error:  # one job's mistake does not end a sweep
            print(f"harness: {error}", file=sys.stderr)
            status[0] = 2
            return
        show(plan.directory, {job.cell for job in plan.jobs})
        print(f"tables: {plan.directory}/cells and scores; harness table {plan.run}")
        if counts["failed"] > plan.runtime.max_failed:
            status[0] = max(status[0], 1)

    for_each_job(arguments, job)
    return status[0]


def plan(arguments: list[str]) -> int:
    """``harness plan``: how many cells are new, done, stale, to be retried, failed or not applicable."""
    from harness.cli.hydra_config import for_each_job
    from harness.jobs.plan import Plan
    from harness.jobs.runner import finished_rows
    from harness.results.store import Store

    def job(config: dict[str, Any]) -> None:
        plan = Plan.of(config)
        rows = finished_rows(Store(plan.directory))
        states = Counter(plan.state(each, rows.get(each.cell)) for each in plan.jobs)
        counts = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.most_common())
        print(f"{plan.title}: {len(plan.jobs)} cells in {plan.directory}: {counts}")
        for explainer in plan.explainers:
            mine = [each for each in plan.jobs if each.explainer is explainer]
            states = Counter(plan.state(each, rows.get(each.cell)) for each in mine)
            print(
                f"  {explainer.label:<24} " + ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in states.most_common())
            )

    for_each_job(arguments, job)
    return 0


def check(arguments: list[str]) -> int:
    """``harness check``: what explainers' self-checks show on a model and data; with --strict, 1 if one is flagged."""
    from harness.cli.check import check_plan, defaults, flagged, print_checks
    from harness.cli.hydra_config import for_each_job
    from harness.jobs.plan import Plan

    sys.path.append(os.getcwd())  # as for run
    quiet, strict, path = _take(arguments, "--quiet"), _take(arguments, "--strict"), _take_value(arguments, "--csv")
    found, status = [], [0]

    def job(config: dict[str, Any]) -> None:
        try:
            runtime = {**(config.get("runtime") or {}), **({"quiet": True} if quiet else {})}
            rows = check_plan(Plan.of({**config, "runtime": runtime}))
        except UserError as error:  # one job's mistake does not end a sweep
            print(f"harness: {error}", file=sys.stderr)
            status[0] = 2
            return
        print_checks(rows, sys.stdout)
        found.append(rows)
        if strict and flagged(rows).any():
            status[0] = max(status[0], 1)

    for_each_job([*defaults(arguments), *arguments], job)
    if path and found:
        _write_checks(found, path)
    return status[0]


def _write_checks(found: list[Any], path: str) -> None:
    import pandas as pd

    from harness.results.tables import to_csv

    rows = pd.concat(found, ignore_index=True)
    to_csv(rows, path)
    print(f"{len(rows)} rows: {path}")


def list_registry(arguments: list[str]) -> int:
    """``harness list``: names, first docstring lines, explainers' capabilities, and options with their defaults."""
    from harness import registry

    kinds = {
        "explainers": registry.EXPLAINERS,
        "metrics": registry.METRICS,
        "models": registry.MODELS,
        "datasets": registry.DATASETS,
    }
    if not arguments or arguments[0] not in kinds:
        raise UserError(f"harness list {' '.join(arguments)}: expected one of {', '.join(kinds)}")
    entries = kinds[arguments[0]]
    chosen = [entries[name] for name in arguments[1:]] or list(entries.values())
    for entry in chosen:
        print(f"{entry.name}\n    {entry.summary}")
        if isinstance(entry, registry.Explainer):
            print(f"    {_capabilities(entry)}")
        if isinstance(entry, registry.DataSet):
            about = (entry.modality, f"from {entry.source}", f"licence: {entry.licence}", entry.samples, entry.classes)
            print("    " + "; ".join(about))
        if entry.options:
            print("    " + " ".join(f"{name}={_shown(value)}" for name, value in entry.options.items()))
    bridged = [] if arguments[1:] else entries.bridged()
    if bridged:
        print(f"and from other libraries: harness list {arguments[0]} NAME has the options\n    {' '.join(bridged)}")
    return 0


def _capabilities(entry: Any) -> str:
    """What an explainer declares, in a line."""
    from harness.completeness import SUMS_TO

    return "; ".join(
        [
            entry.scope,
            f"needs of the model: {'nothing' if entry.access == 'none' else entry.access}",
            f"inputs: {', '.join(entry.modalities)}",
            "signed" if entry.signed else "at least 0",
            f"sums to {SUMS_TO[entry.complete_to] or 'nothing it promises'}",
            *(["draws random numbers"] if entry.stochastic else []),
            *([f"{entry.cost} a sample"] if entry.cost else []),
            *([f"from {entry.source}: {entry.caveat}"] if entry.caveat else []),
        ]
    )


def table(arguments: list[str]) -> int:
    """``harness table``: a run's leaderboard, its rows as files, or what they say of groups, choices and sanity."""
    from harness.cli.table import show_table

    return show_table(arguments)


def report(arguments: list[str]) -> int:
    """``harness report``: runs as one page that works offline, and its twin in Markdown."""
    from harness.cli.report import show_report

    return show_report(arguments)


def compare(arguments: list[str]) -> int:
    """``harness compare``: two runs cell by cell; with --fail-on, 1 if a cell has one of those verdicts."""
    from harness.cli.compare import show_comparison

    return show_comparison(arguments)


def trend(arguments: list[str]) -> int:
    """``harness trend``: the levels of every cell over many runs, and what the last step did."""
    from harness.cli.compare import show_trend

    return show_trend(arguments)


def view(arguments: list[str]) -> int:
    """``harness view``: pictures of what a model does and of a run's scores, with their data beside them."""
    from harness.cli.view import view_command

    sys.path.append(os.getcwd())  # as for run
    return view_command(arguments, _take, _take_value)


def _take(arguments: list[str], flag: str) -> bool:
    """Whether a flag is among the arguments; it is taken out."""
    if flag not in arguments:
        return False
    arguments.remove(flag)
    return True


def _take_value(arguments: list[str], flag: str) -> str | None:
    """What a flag is given, behind it or after =, if the flag is among the arguments; it is taken out."""
    place = next((i for i, each in enumerate(arguments) if each.partition("=")[0] == flag), None)
    if place is None:
        return None
    _, joined, value = arguments.pop(place).partition("=")
    value = value if joined else arguments.pop(place) if place < len(arguments) else ""
    if not value:
        raise UserError(f"{flag} came without a value, expected {flag} FILE")
    return value


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
