"""``harness run``: measure what is pending and print the table."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.overrides import OVERRIDES_HELP, USAGE, add_overrides, add_quiet, hydra_arguments
from harness.cli.parser import Parser, add_verb

if TYPE_CHECKING:
    from harness.jobs.channel import Watched
    from harness.jobs.plan import Plan

NOT_JOINED = 3  # the status of a shard if the shards of some cells differ: a later one may mend that
SUPERVISES = True  # a test that looks into its own process switches it off
EXAMPLES = {
    "harness run": "the standard explainers and metrics for EfficientNet-Lite0 on 20 photos",
    "harness run model=digits_cnn dataset=digits 'explainer=[saliency,rise,random]' 'metric=[srg,deletion]'": (
        "three explainers and two metrics on handwritten digits"
    ),
    "harness run explainer=rise explainer.rise.samples=500 protocol.samples=10 run=rise500": (
        "one explainer with an option set, for 10 samples, into runs/rise500"
    ),
    "harness run model=mine:make model.preprocess=imagenet dataset=image_folder dataset.path=photos": (
        "your own net, which the function `make` of mine.py makes, on a folder of photos"
    ),
    "harness run dataset=digits model=digits_cnn '+explainer.mine={name: \"mine:bright\", power: 3.0}'": (
        "the standard explainers and the function `bright` of mine.py"
    ),
    "harness run -m experiment=digits protocol.seed=0,1": "a sweep over two seeds",
    "harness run -m experiment=digits protocol.seed=0,1 launcher=slurm launcher.partition=gpu": (
        "the same, each seed as a job of Slurm"
    ),
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "run",
        "measure: explain and score, keep the results, print the table",
        f"""
Cells (one explainer scored by one metric on one model and data set) that are finished in the run's folder are not
measured again, so the same command resumes what was interrupted. The exit status is 0 if all is done, 1 if cells are
missing or more than runtime.max_failed failed, and 2 for a mistake in the command. launcher=processes, slurm or ray
measures the jobs of a sweep (-m), or the shards of a block (runtime.shards), in other processes; launcher.SETTING=VALUE
sets how (docs/scale.md).

{OVERRIDES_HELP}""",
        EXAMPLES,
        usage=USAGE,
    )
    add_quiet(parser, "no progress and no messages, only the table and mistakes")
    add_overrides(parser)
    parser.add_argument(
        "--launched",
        help=argparse.SUPPRESS,  # what a launcher hands over to the jobs that it starts
    )
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Measure every job, here or by a launcher; 1 if more cells failed than are allowed."""
    from harness.cli.hydra_config import for_each_job, in_sweep, last_shard, launches, swept_options, words_of_job
    from harness.cli.launch import Launch, LaunchContext
    from harness.jobs.supervisor import Supervisor
    from harness.launching.settings import Here, launcher_of

    arguments, supervisor, launch = hydra_arguments(chosen), Supervisor(), Launch(chosen.hydra)
    launched = None if chosen.launched is None else LaunchContext.of(chosen.launched)
    of_sweep = last_shard(arguments)
    swept, arrays = swept_options(arguments) if launched is None else launched.swept, dict[Path, str]()

    def measure(config: dict[str, Any]) -> int:
        launcher, statuses = launcher_of(config.pop("launcher", None)), [0]
        about = launched or LaunchContext(in_sweep(), swept)
        if launcher == Here() and launched is None:
            _tell_of_slurm(config, arrays)
        shards = configs_of_shards(about.labelled(config))
        for each in shards:
            if launcher != Here() and launched is None:
                launch.add(launcher, each, words_of_job(arguments), about)
                continue
            measure_one = supervisor.measure if supervised(each) else measure_settings
            is_last = each is shards[-1] and of_sweep in ("", str(each["runtime"]["shard"]))
            status = measure_one(each, about.in_sweep, of_all=is_last)
            statuses.append(status if status != NOT_JOINED else int(is_last))
        return max(statuses)

    try:
        words = " ".join(chosen.overrides)
        decided = set(chosen.hydra) <= {"-m", "--multirun"} and "runtime.supervise" not in words
        here = launched is not None or not launches(arguments)
        if SUPERVISES and decided and here:
            supervisor.start()  # it gets ready while the configuration is composed
        # A launcher writes nothing into a run before all jobs are known.
        status = for_each_job(arguments, measure, with_launcher=True, notes_sweep=here, swept=swept)
        if status and launch.plans:
            print("no job was started, because at least one is not valid (see above)", file=sys.stderr)
            return status
        return max(status, launch.run())
    finally:
        supervisor.end()


def _tell_of_slurm(config: Mapping[str, Any], arrays: dict[Path, str]) -> None:
    """Say so if Slurm still has jobs of the run: they and this command measure what neither has finished.

    ``arrays`` are what Slurm has of the runs that this command has asked for; this one is added. UserError if a label
    is given: rows that the jobs write meanwhile would not have it.
    """
    from harness.jobs.runtime import Runtime
    from harness.launching.slurm import array_in_slurm, array_in_words, check_no_jobs_in_slurm
    from harness.places import check_run_name, user_path

    runtime, run = Runtime.of(config.get("runtime") or {}), check_run_name("run", str(config.get("run", "main")))
    directory, sections = user_path(runtime.runs) / run, (config.get("model"), config.get("dataset"))
    labelled = any(isinstance(each, Mapping) and each.get("label") for each in sections)
    if runtime.quiet and not labelled:
        return
    known = directory in arrays
    if not known:
        arrays[directory] = array_in_slurm([directory])
    if arrays[directory] and labelled:
        check_no_jobs_in_slurm([directory])
    if arrays[directory] and not known and not runtime.quiet:
        print(
            f"Slurm has jobs of this run, {array_in_words(arrays[directory])}: cells that neither they nor this "
            "command have finished are measured twice; harness watch shows the jobs",
            file=sys.stderr,
        )


def supervised(config: Mapping[str, Any]) -> bool:
    """Whether a job is measured in a process of its own, which is watched."""
    return SUPERVISES and (config.get("runtime") or {}).get("supervise", True) is not False


def measure_settings(
    config: dict[str, Any],
    in_sweep: bool,
    watched: "Watched | None" = None,
    console: Any = None,
    output: Any = None,
    *,
    of_all: bool = True,
) -> int:
    """Measure a job in this process and print its table to ``output``; 1 if more cells failed than are allowed, and
    NOT_JOINED if shards of the same cells differ.

    ``watched`` and ``console`` come from a supervisor, which prints what is said. Without ``of_all`` further shards of
    the command follow: the table is left to the last one.
    """
    from harness.cli.table_rows import print_run  # not before names and options have been understood
    from harness.jobs.blocks import run_block
    from harness.jobs.parts import whole_of
    from harness.jobs.plan import Plan
    from harness.jobs.progress import Progress
    from harness.results.store import Store

    plan = Plan.of(config).with_control()
    counts = run_block(plan, Progress(plan.runtime.quiet, console), in_sweep=in_sweep, watched=watched)
    whole, measured = whole_of(plan), {cell.id for cell in plan.cells}
    with contextlib.redirect_stdout(output or sys.stdout):
        if whole is plan or (of_all and measured <= Store(whole.directory).latest().keys()):
            print_run(whole.directory, measured)
            print(f"results: {whole.place}/cells and scores; all metrics: {_table_command(plan)}")
    failed = counts["failed"] if of_all else counts.get("failed_here", counts["failed"])
    if failed > plan.runtime.max_failed:
        return 1
    return NOT_JOINED if counts.get("unjoined") else 0


def configs_of_shards(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One configuration for each shard; the given one if it has no shards, or names one."""
    from harness.jobs.runtime import Runtime

    runtime = Runtime.of(config.get("runtime") or {})
    if runtime.shards == 1 or runtime.shard is not None:
        return [dict(config)]
    return [{**config, "runtime": {**config["runtime"], "shard": number}} for number in range(runtime.shards)]


def _table_command(plan: "Plan") -> str:
    """The command that prints all results of a plan's run."""
    folder = [] if plan.runtime.runs == "runs" else ["--runs", plan.runtime.runs]
    return shlex.join(["harness", "table", plan.run, "--all", *folder])
