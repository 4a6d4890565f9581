"""The examples in the docstrings of metrics give the numbers that they show."""

import doctest
import inspect

import pytest

from harness.registry import METRICS
from metric_example_world import metric_names


def examples_of(entry):
    """The examples in a metric's docstring, as one test."""
    function = entry.function
    return doctest.DocTestParser().get_doctest(inspect.getdoc(function), {}, entry.name, inspect.getfile(function), 0)


@pytest.mark.parametrize("entry", METRICS.values(), ids=METRICS)
def test_its_example_gives_the_numbers_that_it_shows(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test, printed = examples_of(entry), []
    test.globs.update(metric_names())
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(test, out=printed.append)
    assert not printed, "".join(printed)


def test_every_metric_shows_an_example():
    without = [name for name, entry in METRICS.items() if not examples_of(entry).examples]
    assert not without, f"metrics without an example: {', '.join(without)}"
