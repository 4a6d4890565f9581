"""The experiment on planted tasks: it counts what was spent, also where a choice starts again on known scores."""

import sys
from pathlib import Path

import pytest

from harness.choosing.choose import Choosing
from harness.choosing.measuring import InMemory, Measuring
from harness.choosing.settings import Budget, Settings

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def experiment():
    """The script."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import choosing

        yield choosing
        for name in set(sys.modules) - before:
            if name.startswith("choosing"):
                del sys.modules[name]


def test_a_choice_on_known_scores_spends_what_a_fresh_one_spends(experiment, tmp_path):
    from choosing_tasks import tasks

    task = next(each for each in tasks(samples=60) if each.family == "linear" and each.units == 8)
    stage, keeper = experiment.staged(*task.make()), experiment.Replayed(tmp_path)
    first = experiment.choose(stage, keeper, None)
    again = experiment.choose(stage, keeper, None)
    plain = InMemory()
    fresh = experiment.staged(*task.make())
    settings = Settings(tune=False)
    Choosing(Measuring(fresh, plain, Budget()), experiment.explainers(), settings, lambda line: None).choose()
    assert again.explainers == first.explainers
    # Calls that warm up are not counted: how many there are depends on time.
    assert first.basis.evaluations == again.basis.evaluations
    assert 0.85 * plain.spent()[1] <= first.basis.evaluations <= plain.spent()[1]
