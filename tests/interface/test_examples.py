"""The examples in the docstrings of explainers and metrics give the numbers that they show."""

import doctest
import inspect

import pytest

from example_world import names
from harness.registry import EXPLAINERS, METRICS

# Registries of which every item shows an example.
COMPLETE = {"explainer": EXPLAINERS}

ITEMS = {f"{registry.kind}-{name}": entry for registry in (EXPLAINERS, METRICS) for name, entry in registry.items()}


def examples_of(entry):
    """The examples in an item's docstring, as one test."""
    function = entry.function
    return doctest.DocTestParser().get_doctest(inspect.getdoc(function), {}, entry.name, inspect.getfile(function), 0)


@pytest.mark.parametrize("entry", ITEMS.values(), ids=ITEMS)
def test_its_example_gives_the_numbers_that_it_shows(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test, printed = examples_of(entry), []
    test.globs.update(names())
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test, out=printed.append)
    assert not printed, "".join(printed)


@pytest.mark.parametrize("kind", COMPLETE)
def test_every_item_shows_an_example(kind):
    without = [name for name, entry in COMPLETE[kind].items() if not examples_of(entry).examples]
    assert not without, f"{kind}s without an example: {', '.join(without)}"
