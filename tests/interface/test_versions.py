"""What the project declares of versions: lower bounds that were tried, no upper ones, and the same in every place."""

import argparse
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import harness
from harness.cli import main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)]
REQUIREMENTS = {each.name: each for each in map(Requirement, DECLARED)}
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def lower_bound(specifiers):
    """The version of the only condition, which has to be a lower bound."""
    (condition,) = specifiers
    assert condition.operator == ">=", f"{condition}: expected a lower bound alone"
    return condition.version


def matrix():
    """Of each package in the page on versions: declared lower bound, version tried at it, newest versions tried."""
    rows = re.findall(
        r"^\| ([\w-]+) \| ([\d.]+) \| ([^|\n]+) \|(.*)\|$", (ROOT / "docs" / "versions.md").read_text(), re.M
    )
    return {
        name: (bound, lowest.strip(), [each.strip() for each in newest.split("|")])
        for name, bound, lowest, newest in rows
    }


@pytest.mark.parametrize("declared", DECLARED)
def test_a_dependency_has_a_lower_bound_and_no_upper_one(declared):
    assert lower_bound(Requirement(declared).specifier)


def test_python_has_a_lower_bound_and_no_upper_one():
    assert lower_bound(SpecifierSet(PROJECT["requires-python"])) == "3.11"


@pytest.mark.parametrize("name", sorted(REQUIREMENTS))
def test_the_page_on_versions_says_that_the_lower_bound_and_newer_versions_were_tried(name):
    bound, lowest, newest = matrix()[name]
    specifier = REQUIREMENTS[name].specifier
    assert bound == lower_bound(specifier)
    assert SpecifierSet(f"=={bound}.*").contains(lowest)
    assert newest and all(each == "not tried" or specifier.contains(each) for each in newest)


def test_the_page_on_versions_names_no_package_that_is_not_declared():
    assert matrix().keys() == REQUIREMENTS.keys()


def test_every_classified_python_was_tried():
    classified = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r"Python :: \d+\.\d+$", each)}
    tried = set(re.findall(r"^\| (3\.\d+)\.\d+ \|", (ROOT / "docs" / "versions.md").read_text(), re.M))
    assert classified == tried


def test_the_extra_of_the_tests_asks_for_the_same_versions_as_the_other_extras():
    tests = {Requirement(each).name: each for each in EXTRAS["test"]}
    others = [each for name, extra in EXTRAS.items() if name != "test" for each in extra]
    shared = {Requirement(each).name: each for each in others if Requirement(each).name in tests}
    assert shared and shared == {name: tests[name] for name in shared}


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert harness.__version__ == PROJECT["version"] == citation["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_the_page_leads_somewhere(page):
    links = [each for each in re.findall(r"\]\(([^)#]+)\)", page.read_text()) if "://" not in each]
    assert links and all((page.parent / each).exists() for each in links)


def refuse_help_that_is_no_text(parser, action):
    """What argparse does with every added option since Python 3.14."""
    if action.help and hasattr(parser, "_get_formatter"):
        try:
            parser._get_formatter()._expand_help(action)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError("badly formed help string") from error


@pytest.fixture
def argparse_of_python_3_14(monkeypatch):
    """An argparse that checks the help of every option that is added."""
    add_argument = argparse._ActionsContainer.add_argument

    def add_and_check(self, *arguments, **options):
        action = add_argument(self, *arguments, **options)
        self._check_help(action)
        return action

    monkeypatch.setattr(argparse._ActionsContainer, "_check_help", refuse_help_that_is_no_text, raising=False)
    monkeypatch.setattr(argparse._ActionsContainer, "add_argument", add_and_check)


def test_commands_work_with_an_argparse_that_checks_every_help(argparse_of_python_3_14, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="badly formed help string"):
        argparse.ArgumentParser().add_argument("--option", help=object())
    assert main(["plan", "model=digits_cnn", "dataset=digits", "explainer=saliency", "metric=deletion"]) == 0
    assert "new" in capsys.readouterr().out
    with pytest.raises(ValueError, match="badly formed help string"):  # as before the command
        argparse.ArgumentParser().add_argument("--option", help=object())
