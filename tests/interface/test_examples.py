"""The examples in docstrings give the numbers that they show, and every registered item has one."""

import doctest
import inspect

import pytest

from example_world import names
from harness.registry import EXPLAINERS, METRICS
from metric_example_world import metric_names

# Registries of which every item shows an example, with the names that these examples may use.
SHOWN = [
    (EXPLAINERS, names),
    (METRICS, metric_names),
]

ITEMS = {f"{each.kind}-{name}": (entry, world) for each, world in SHOWN for name, entry in each.items()}


def examples_of(entry):
    """The examples in an item's docstring, as one test."""
    function = entry.function
    return doctest.DocTestParser().get_doctest(inspect.getdoc(function), {}, entry.name, inspect.getfile(function), 0)


@pytest.mark.parametrize(("entry", "world"), ITEMS.values(), ids=ITEMS)
def test_its_docstring_has_an_example_that_gives_the_numbers_it_shows(entry, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test, printed = examples_of(entry), []
    assert test.examples, "its docstring shows no example"
    test.globs.update(world())
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test, out=printed.append)
    assert not printed, "".join(printed)
