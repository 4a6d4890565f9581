"""The code version of the measurement: what changes it, what does not, and that it covers what it names."""

import pytest

from harness import code_version
from harness.code_version import ITEMS, MEASURING, code_of, imported_modules, measuring_code, normal_form
from harness.jobs.plan import Plan
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

CONFIG = {"model": "digits_cnn", "dataset": "digits", "explainer": ["saliency"], "metric": ["sparseness", "deletion"]}

# module, text, text that takes its place
HARMLESS = {
    "a comment": ("harness.task", "\nSCORES = ", "\n# Another comment.\nSCORES = "),
    "a docstring": ("harness.units", '"""How many units one sample has."""', '"""The number of units of a sample."""'),
    "a message": ("harness.units", "makes every number a unit; these units", "turns every number into a unit; these"),
    "the name of an axis": ("harness.metrics.curves", 'curve_across="share removed"', 'curve_across="removed"'),
    "an annotation": ("harness.predictor", "def _halve(self, rows: int) -> None:", "def _halve(self, rows):"),
    "the range of an option": ("harness.metrics.complexity", "normalised: bool", "normalised: int"),
    "the range of a shared option": ("harness.metrics._curve", "steps: Several = 32", "steps: Count = 32"),
    "a default of the runtime": ("harness.jobs.runtime", "quiet: bool = False", "quiet: bool = True"),
    "the report": ("harness.results.report.page", "import ", "import json\nimport "),
    "the table": ("harness.results.leaderboard", "import ", "import json\nimport "),
    "the store": ("harness.results.store", "import ", "import json\nimport "),
    "the command line": ("harness.cli.main", "import ", "import json\nimport "),
}
MEASURED = {
    "a metric's formula": ("harness.metrics.complexity", " * ", " + "),
    "the fill of a removed unit": ("harness.removal.baselines", "torch.zeros_like(", "torch.ones_like("),
    "the tracked score": ("harness.task", "logsigmoid(log_odds)", "logsigmoid(2 * log_odds)"),
    "the units": ("harness.units", "values.abs().sum(axis)", "values.abs().mean(axis)"),
    "the draws": ("harness.randomness", "2.0**-digits", "2.0**-(digits + 1)"),
    "which class is explained": ("harness.engine.targets", "return predictions()", "return predictions() + 1"),
    "the data": ("harness.datasets.digits", "split", "part"),
}


@pytest.fixture
def edited(monkeypatch):
    """``edited(module, old, new)``: from now on the code version reads that module with one text replaced."""
    true_source = code_version.source_of
    caches = (code_version._module_form, code_version._item_code, code_version.measuring_code)

    def forget():
        for each in caches:
            each.cache_clear()

    def edit(module, old, new):
        source = true_source(module)
        assert old in source, f"{module} holds no {old!r} any more: choose another text"
        changed = source.replace(old, new, 1)
        monkeypatch.setattr(code_version, "source_of", lambda name: changed if name == module else true_source(name))
        forget()

    forget()
    yield edit
    forget()


def sticks(**changed):
    plan = Plan.of({**CONFIG, **changed})
    return {metric.label: plan.stick(metric) for metric in plan.metrics}


@pytest.mark.parametrize("what", HARMLESS)
def test_what_makes_no_number_leaves_the_version_alone(edited, what):
    before = sticks()
    edited(*HARMLESS[what])
    assert sticks() == before


@pytest.mark.parametrize("what", MEASURED)
def test_what_makes_numbers_changes_the_version(edited, what):
    before = sticks()
    edited(*MEASURED[what])
    assert sticks()["sparseness"] != before["sparseness"]


def test_the_formula_of_one_metric_leaves_another_alone(edited):
    before = sticks()
    edited(*MEASURED["a metric's formula"])
    assert sticks()["deletion"] == before["deletion"]


def test_how_costs_are_measured_counts_for_costs_alone(edited):
    metrics = ["seconds_per_sample", "deletion"]
    before = sticks(metric=metrics)
    edited("harness.engine.cost", "time.perf_counter()", "time.process_time()")
    after = sticks(metric=metrics)
    assert [before[name] == after[name] for name in metrics] == [False, True]


def test_a_person_can_raise_the_version(edited, monkeypatch):
    before = sticks()
    monkeypatch.setattr(code_version, "MEASURING_VERSION", code_version.MEASURING_VERSION + 1)
    measuring_code.cache_clear()
    assert all(sticks()[name] != before[name] for name in before)


@pytest.mark.parametrize("name", ["harness.removals", "harness.engine.scores", "elsewhere.module"])
def test_a_module_that_does_not_exist_is_an_error_at_once(edited, name, monkeypatch):
    monkeypatch.setattr(code_version, "MEASURING", (*MEASURING, name))
    with pytest.raises(LookupError, match=name):
        measuring_code()


def test_every_module_that_fills_removed_units_counts():
    reached = {each for name in MEASURING for each in imported_modules(code_version.source_of(name))}
    filling = {name for name in reached if name.startswith("harness.removal.")}
    assert filling and filling <= set(MEASURING)


def test_every_item_has_a_version_of_its_own_module():
    for registry in (DATASETS, EXPLAINERS, METRICS, MODELS):
        for entry in registry.values():
            assert entry.function.__module__.startswith(ITEMS), entry.name
            assert code_of(entry.function)


def test_the_form_keeps_operations_and_drops_words():
    assert normal_form("x = a + b  # sum") == normal_form('"""Doc."""\nx = (a + b)')
    assert normal_form("x = a + b") != normal_form("x = a - b")
    assert normal_form("raise UserError(f'no {x}')") == normal_form("raise UserError('none')")
    assert normal_form("say(f'{n} left')") == normal_form("say(f'still {n}')")
    assert normal_form("say(x.add_(1))") != normal_form("say(x.add_(2))")
    assert normal_form("f(a, reason='a b')") == normal_form("f(a, reason='c')")
    assert normal_form("context.tell(error=a - b)") != normal_form("context.tell(error=a + b)")
    assert normal_form("class A:\n    n: ClassVar[int] = 3") != normal_form("class A:\n    n: int = 3")
    assert normal_form("class A:\n    n: Count = 3") == normal_form("class A:\n    n: int = 3")
    assert normal_form("from harness.option_types import Count") == normal_form("from typing import Annotated")
    assert normal_form("raise UserError('no')") != normal_form("raise NotApplicable('no')")
    assert normal_form("s = stream('ties')") != normal_form("s = stream('lots')")
