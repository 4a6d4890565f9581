"""``harness choose``: which explainer to use for a model and data, with a guarantee."""

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from harness.cli.overrides import USAGE, add_overrides, add_quiet, hydra_arguments
from harness.cli.parser import Parser, add_verb
from harness.cli.sections import full_setting
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.jobs.channel import Watched

DEFAULT_BUDGET = "10m"
NO_ANSWER = 3
# What is a setting of the choice and none of the configuration.
OWN_SETTINGS = ("budget", "purpose", "max_seconds_per_sample", "alpha", "tune")
CANDIDATES = "candidates"  # what the choice calls the section ``explainer``
EXAMPLES = {
    "harness choose model=digits_cnn dataset=digits": "which of all explainers to use for a small CNN on digits",
    "harness choose candidates=standard budget=15m": "the standard explainers for EfficientNet-Lite0 on 20 photos",
    "harness choose model=digits_cnn dataset=digits purpose=realtime max_seconds_per_sample=0.01": (
        "only explainers that take less than 10 ms a sample"
    ),
    "harness choose model=mine:make dataset=arrays dataset.path=data.npz '+explainer.mine={name: \"mine:bright\"}'": (
        "your own net and data, and your own explainer among the candidates"
    ),
    "harness choose model=digits_cnn dataset=digits budget=1h --json": "goes on from the first example; prints JSON",
}


def add_parser(verbs: Any) -> Parser:
    """Add the verb to the tree."""
    parser = add_verb(
        verbs,
        "choose",
        "find out which explainer to use for a model and data",
        f"""
Tests which metric can be trusted on this model and data, lets all explainers race on growing numbers of samples, tunes
the best, and confirms the answer on samples that took no part. The answer misses the best of them with a probability of
at most alpha. docs/choosing.md says what that rests on.

  model=, dataset=          as in harness run, with their options
  candidates=NAME           the explainers: all (the default), standard or another group, or a list [A,B]
  +explainer.LABEL={{...}}    adds an explainer of your own, as in harness run
  budget=10m                what may be spent: a time (90s, 10m, 2h) or a number of model evaluations (50000); null for
                            all samples (default: {DEFAULT_BUDGET})
  purpose=NAME              debug: signed and complete maps; report: maps that depend on the class and are stable;
                            realtime: maps within a time. Without it: the cheapest of the best
  max_seconds_per_sample=X  no explainer that takes longer (realtime: 0.1)
  alpha=X                   probability that the best explainer is not in the answer (default: 0.05)
  metric=NAME               judge by this metric instead of the mean of srg under several baselines
  tune=false                do not tune the options of the best explainers
  run=NAME                  the folder of the results, below runtime.runs (default: choice)
  protocol.*, runtime.*     as in harness run

What was measured stays on disk: the same command goes on after a kill, and a larger budget goes on where the smaller
one stopped. harness table, report, view and verify take its RUN too. The exit status is 0 for an answer, 3 if no
explainer can be recommended, 2 for a mistake, 1 if the model could not be loaded for another reason.""",
        EXAMPLES,
        usage=USAGE,
    )
    parser.add_argument("--json", action="store_true", help="print the answer as JSON instead of words")
    add_quiet(parser, "no progress and no messages, only the answer and mistakes")
    add_overrides(parser)
    return parser


def execute(chosen: argparse.Namespace) -> int:
    """Choose for every job; 0 for an answer, 3 if no explainer can be recommended."""
    from harness.cli.hydra_config import for_each_job, in_sweep
    from harness.cli.run import supervised
    from harness.jobs.supervisor import Supervisor
    from harness.launching.settings import Here, launcher_of

    choose, chosen.overrides = separated(chosen.overrides)
    supervisor = Supervisor()

    def measure(config: dict[str, Any]) -> int:
        section = config.pop("launcher", None)
        if launcher_of(section) != Here():
            raise UserError(f"launcher={section['name']} came, expected none: a choice is made in one process")
        settings = {**config, "choose": {**choose, "json": chosen.json}}
        if supervised(config):
            return supervisor.measure(settings, in_sweep(), work="choose")
        return choose_settings(settings)

    try:
        return for_each_job(hydra_arguments(chosen), measure, with_launcher=True)
    finally:
        supervisor.end()


def separated(overrides: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings of the choice, and the overrides for the configuration with what a choice adds to them."""
    from harness.choosing.settings import Settings

    own: dict[str, Any] = {"budget": DEFAULT_BUDGET}
    rest, names = [], set()
    for override in overrides:
        name, equals, value = override.partition("=")
        if equals and name in OWN_SETTINGS:
            own[name] = _value(name, value)
            continue
        if name != CANDIDATES:
            _refuse_misspelt(name)
        names.add(name.lstrip("+~"))
        rest.append(f"explainer={value}" if equals and name == CANDIDATES else override)
    if CANDIDATES in names and "explainer" in names:
        raise UserError("candidates= and explainer= came both, expected one of them: they mean the same")
    given = {CANDIDATES, "explainer"} & names
    Settings.of(own)  # refused here, before anything is loaded
    own["metric"] = "metric" in {name.partition(".")[0] for name in names}
    defaults = [] if given else ["explainer=all"]
    defaults += [] if own["metric"] else ["metric=srg"]
    defaults += [] if "run" in names else ["run=choice"]
    return own, [*defaults, *rest]


def _refuse_misspelt(name: str) -> None:
    """UserError for a name that is nearly that of a setting of the choice, and none of the configuration."""
    known = (*OWN_SETTINGS, CANDIDATES)
    if full_setting(name) is None and get_close_matches(name, known):
        raise unknown("setting of harness choose", name, known)


def _value(name: str, text: str) -> Any:
    """The value of a setting as it is typed: a number, yes or no, null, or a text."""
    if text in ("null", "None", ""):
        return None
    if text in ("true", "false"):
        return text == "true"
    if name in ("alpha", "max_seconds_per_sample"):
        try:
            return float(text)
        except ValueError:
            raise UserError(f"{name} is {text!r}, expected a number: {name}=0.1") from None
    return text


def choose_settings(
    config: dict[str, Any], watched: "Watched | None" = None, console: Any = None, output: Any = None
) -> int:
    """Choose for one job and print the answer to ``output``; 3 if no explainer can be recommended."""
    from harness.choosing.in_run import choose_in_run
    from harness.choosing.settings import Settings
    from harness.jobs.plan import Plan
    from harness.jobs.progress import Progress

    own = dict(config["choose"])
    as_json, judges = own.pop("json"), own.pop("metric")
    plan = Plan.of({name: value for name, value in config.items() if name != "choose"})
    if judges and len(plan.metrics) != 1:
        raise UserError(f"metric names {len(plan.metrics)} metrics, expected one: explainers are judged by one score")
    given = plan.metrics[0] if judges else None
    progress = Progress(plan.runtime.quiet, console)
    choice = choose_in_run(plan, Settings.of(own), progress, given=given, watched=watched)
    with contextlib.redirect_stdout(output or sys.stdout):
        print(json.dumps(choice.facts(), indent=1) if as_json else choice)
        if not as_json:
            print(f"evidence: {plan.place}/choice.html")
    return 0 if choice.status == "answer" else NO_ANSWER
