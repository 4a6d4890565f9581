"""Every verb explains itself: what it does, all its flags, and examples that work as they stand."""

import argparse
import re
import shlex
import subprocess
import sys

import pytest
import torch

from harness import __version__
from harness.cli.choose import separated
from harness.cli.hydra_config import for_each_job
from harness.cli.main import main, parsed, parser_tree
from harness.cli.overrides import hydra_arguments
from harness.cli.words import MARKS
from harness.jobs.plan import Plan
from harness.jobs.runtime import Runtime
from harness.results.comparison import VERDICTS


def parsers_below(parser, words=("harness",)):
    """Every parser of the tree by the words that lead to it."""
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from parsers_below(below, (*words, name))


PARSERS = dict(parsers_below(parser_tree()))
VERBS = [words[1] for words in PARSERS if len(words) == 2]


def examples_of(text):
    """The commands of a help text's examples."""
    return re.findall(r"^  (harness .*)$", text.partition("examples:\n")[2], flags=re.M)


EXAMPLES = [example for parser in PARSERS.values() for example in examples_of(parser.format_help())]


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_help_shows_every_flag_and_an_example_and_ends_well(words, capsys):
    assert main([*words[1:], "--help"]) == 0
    text = capsys.readouterr().out
    assert examples_of(text) and (len(words) == 1 or all(e.startswith(" ".join(words[:2])) for e in examples_of(text)))
    for action in (each for each in PARSERS[words]._actions if each.help != argparse.SUPPRESS):
        assert action.help and all(flag in text for flag in action.option_strings) or not action.option_strings
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("words", PARSERS, ids=" ".join)
def test_every_verb_tells_the_versions_of_harness_torch_and_python_in_one_line(words, capsys):
    assert main([*words[1:], "--version"]) == 0
    told = capsys.readouterr()
    of_torch, of_python = torch.__version__.partition("+")[0], ".".join(map(str, sys.version_info[:3]))
    assert re.fullmatch(rf"harness {__version__}, torch {of_torch}\S*, Python {of_python}\S*\n", told.out)
    assert not told.err


def test_the_first_help_lists_every_verb_in_a_line(capsys):
    assert main(["--help"]) == 0
    first = capsys.readouterr().out
    assert main(["help"]) == 0 and capsys.readouterr().out == first
    assert main([]) == 2 and capsys.readouterr().out == first
    listed = re.findall(r"^    (\w+) +(?=\w)", first, flags=re.M)
    assert listed == VERBS
    assert listed[:6] == ["run", "choose", "reproduce", "plan", "list", "table"]
    assert listed[6:] == ["check", "view", "compare", "trend", "report", "merge", "verify", "watch"]


@pytest.mark.parametrize("verb", ["run", "plan", "check"])
def test_verbs_that_take_a_configuration_explain_it(verb, capsys):
    assert main([verb, "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for group in ("model", "dataset", "explainer", "metric", "experiment", "protocol.SETTING", "runtime.SETTING"):
        assert f" {group}=" in text
    for setting in (*Plan.__dataclass_fields__["protocol"].type.__dataclass_fields__, *Runtime.__dataclass_fields__):
        assert re.search(rf"\b{setting}\b", text), setting
    assert "harness list explainers NAME" in text and " -m" in text


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_can_be_typed(example):
    words = shlex.split(example)[1:]
    if "--help" in words:
        assert main(words) == 0
        return
    chosen = parsed(words)
    if chosen.verb == "choose":
        _, chosen.overrides = separated(chosen.overrides)
    if chosen.takes_overrides and any("=" in each for each in chosen.overrides):
        jobs = []
        assert for_each_job(hydra_arguments(chosen), lambda config: jobs.append(config)) == 0 and jobs


def test_the_verdicts_in_the_help_are_those_there_are():
    assert set(MARKS) == set(VERDICTS)


def test_the_parser_needs_neither_hydra_nor_statistics_nor_pictures():
    code = (
        "import sys; from harness.cli import main; main(['list', 'metrics', 'srg']); main(['--help']); "
        "print([name for name in ('hydra', 'torch', 'pandas', 'numpy', 'rich', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
