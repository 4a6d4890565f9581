"""Arguments that say what to run: overrides of the configuration, and the flags of Hydra, which reads both."""

import argparse
from collections.abc import Sequence
from typing import Any

from harness.cli.parser import Parser, some_text
from harness.errors import UserError

USAGE = "%(prog)s [OVERRIDE ...] [-m] [flags]"

OVERRIDES_HELP = """\
An OVERRIDE changes one thing of the configuration:

  model=NAME             the model; harness list models
  dataset=NAME           the data; harness list datasets
  explainer=[A,B]        the explainers, or one of the named groups; harness list explainers
  metric=[C,D]           the metrics, or one of the named groups; harness list metrics
  experiment=NAME        all of this at once, from a file; harness list experiments
  protocol.SETTING=VALUE what else decides the scores: samples, seed, target, dtype, reduction, explain_batch,
                         precision, apart
  runtime.SETTING=VALUE  how it is run (device, chunk, threads and compile can change the last digits of scores, the
                         others change none): device, chunk, threads, compile, lease, warm_up, retry, control (random
                         is in every run, unless false), sheet, max_failed, runs, outputs, supervise, cell_timeout,
                         memory, quiet, shards, shard
  launcher=NAME          where harness run measures: here, processes, slurm or ray; launcher.SETTING=VALUE
  run=NAME               the folder of the results, below runtime.runs (default: main)

Options of a model or a data set are set as model.OPTION=VALUE, those of an explainer or a metric as
explainer.NAME.OPTION=VALUE; `harness list explainers NAME` shows them with their defaults. model.label=TEXT and
dataset.label=TEXT are what tables and files call them.
A NAME may be an import, package.module:function, also from the working directory: explainer=[rise,mine:bright] and
explainer.bright.power=3; model=mine:make is model=python with this factory.
+metric.shared.OPTION=VALUE sets an option of all chosen metrics that have it, unless its default is null or you set it
for the metric itself.
+explainer.LABEL={name: NAME, OPTION: VALUE} adds an item under a label of your own. ~metric.NAME leaves an item out.
--cfg job prints the configuration that results. Quote brackets, braces, spaces and ~ where your shell reads them; a
text with signs such as , = # [ or an umlaut stands in further quotes: 'dataset.path="my photos, 2024"'.

-m runs every combination of values with commas between them: model=lite0,digits_cnn protocol.seed=0,1 -m"""


class _ForHydra(argparse.Action):
    """Stores a flag and its value as the user typed them."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        value = [values] if isinstance(values, str) else []
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), str(option), *value])


def add_overrides(parser: Parser) -> None:
    """Let a verb take what ``harness run`` takes: overrides, and the flags of Hydra."""
    parser.set_defaults(takes_overrides=True)
    group = parser.add_argument_group("flags of Hydra, which composes the configuration")

    def flag(*names: str, words: str, **settings: Any) -> None:
        group.add_argument(*names, action=_ForHydra, dest="hydra", default=[], help=words, **settings)

    flag("-m", "--multirun", nargs=0, words="run every combination of comma-separated values")
    flag(
        "-c",
        "--cfg",
        metavar="{job,hydra,all}",
        choices=("job", "hydra", "all"),
        words="print the configuration (of the job, of Hydra, or both) and run nothing",
    )
    flag("--resolve", nargs=0, words="with --cfg: print values instead of references (always done for job)")
    flag("-p", "--package", metavar="PART", type=some_text, words="with --cfg: only this part, such as metric.srg")
    flag(
        "-cd",
        "--config-dir",
        metavar="FOLDER",
        type=some_text,
        words="a folder with your own configuration files, such as explainer/mine.yaml",
    )
    flag(
        "-cn",
        "--config-name",
        metavar="NAME",
        type=some_text,
        words="the configuration file to start from (default: config)",
    )
    flag(
        "-cp",
        "--config-path",
        metavar="FOLDER",
        type=some_text,
        words="a configuration folder to use instead of the one that harness has",
    )
    flag(
        "-i",
        "--info",
        nargs="?",
        const="all",
        metavar="PART",
        choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        words="print how the configuration was composed: all, config, defaults, defaults-tree, plugins or searchpath",
    )
    flag("-r", "--run", nargs=0, words="run one job (the default)")
    flag("-sc", "--shell-completion", nargs=0, words="install or remove completion in the shell; see --hydra-help")
    flag(
        "--experimental-rerun",
        metavar="FILE",
        type=some_text,
        words="run a job again from the file in which Hydra saved it",
    )
    flag("--hydra-help", nargs=0, words="print Hydra's own help")


def add_quiet(parser: Parser, words: str = "print only the result and errors") -> None:
    """``--quiet``."""
    parser.add_argument("--quiet", action="store_true", help=words)


def hydra_arguments(chosen: argparse.Namespace, defaults: Sequence[str] = ()) -> list[str]:
    """The arguments for Hydra: its flags first, then overrides, ``defaults`` before those of the user.

    Raises UserError for an argument that is no override.
    """
    for argument in chosen.overrides:
        if "=" not in argument and not argument.startswith("~"):
            expected = "expected GROUP=NAME or GROUP.OPTION=VALUE"
            raise UserError(f"{argument!r} is no override, {expected}; {chosen.parser.prog} --help explains them")
    flags = list(chosen.hydra)
    shows_configuration = any(flag in ("--cfg", "-c") for flag in flags)
    if not shows_configuration:
        for flag, example in (("--resolve", ""), ("--package", " metric.srg"), ("-p", " metric.srg")):
            if flag in flags:
                raise UserError(f"{flag} came without --cfg, expected --cfg job {flag}{example}")
    if shows_configuration and "job" in flags and "--resolve" not in flags:
        flags.append("--resolve")  # options of metrics are references until they are read
    if chosen.overrides:
        from harness.cli.override_text import parsed_overrides  # Hydra's grammar; help texts do without it

        parsed_overrides([*flags, *chosen.overrides], chosen.parser.prog)
    quiet = ["++runtime.quiet=true"] if chosen.quiet else []
    return [*flags, *defaults, *chosen.overrides, *quiet]
