"""``shared`` in a file of metrics: options for every metric chosen beside it that has them and sets them nowhere."""

import pytest
import yaml

from harness.cli.hydra_config import for_each_job
from harness.cli.main import main
from harness.jobs.plan import Plan
from harness.registry import METRICS

SMALL = ["model=digits_cnn", "dataset=digits", "explainer=gradient"]
FILE = """
defaults: [srg, deletion, sparseness, _self_]
deletion: {steps: 8}
dropped: {name: deletion, baseline: mean}
shared: {baseline: zero, steps: 4}
"""


@pytest.fixture
def planned(tmp_path):
    """The metrics of every job that a command line describes: label -> options."""
    (tmp_path / "metric").mkdir()
    (tmp_path / "metric" / "mine.yaml").write_text(FILE)

    def metrics_of(*arguments):
        jobs = []
        chosen = arguments if any(each.startswith("metric=") for each in arguments) else ("metric=mine", *arguments)
        for_each_job(["--config-dir", str(tmp_path), *SMALL, *chosen], lambda config: jobs.append(Plan.of(config)))
        return [{each.label: dict(each.options) for each in plan.metrics} for plan in jobs]

    return metrics_of


def test_metrics_that_set_nothing_take_shared_values_and_those_without_the_option_stay_as_they_are(planned):
    (metrics,) = planned()
    assert set(metrics) == {"srg", "deletion", "sparseness", "dropped"}
    assert metrics["srg"] == {**METRICS["srg"].options, "baseline": "zero", "steps": 4}
    assert metrics["sparseness"] == METRICS["sparseness"].options


def test_what_a_file_sets_for_a_metric_wins_also_under_a_label_of_ones_own(planned):
    (metrics,) = planned()
    assert metrics["deletion"] == {**METRICS["deletion"].options, "baseline": "zero", "steps": 8}
    assert metrics["dropped"] == {**METRICS["deletion"].options, "baseline": "mean", "steps": 4}


def test_a_value_on_the_command_line_wins_also_where_it_is_the_default(planned):
    default = METRICS["srg"].options["steps"]
    assert default != 4
    (metrics,) = planned(f"metric.srg.steps={default}")
    assert metrics["srg"]["steps"] == default and metrics["dropped"]["steps"] == 4


def test_a_metric_chosen_beside_the_file_takes_part_in_either_order(planned):
    for chosen in ("metric=[mine,aopc]", "metric=[aopc,mine]"):
        (metrics,) = planned(chosen)
        assert metrics["aopc"] == {**METRICS["aopc"].options, "baseline": "zero", "steps": 4}


def test_shared_values_can_be_given_and_swept_on_the_command_line(planned):
    (metrics,) = planned("metric=[srg,sparseness]", "+metric.shared.steps=5")
    assert metrics["srg"] == {**METRICS["srg"].options, "steps": 5}
    jobs = planned("-m", "metric.shared.steps=2,3")
    assert [job["srg"]["steps"] for job in jobs] == [2, 3] and [job["deletion"]["steps"] for job in jobs] == [8, 8]


def test_a_metric_of_another_library_takes_part(planned):
    option = next(name for name in METRICS["quantus.IROF"].options if name == "normalise")
    default = METRICS["quantus.IROF"].options[option]
    chosen = ("metric=[quantus.IROF,sparseness]", f"+metric.shared.{option}={not default}")
    (metrics,) = planned(*chosen)
    assert metrics["quantus.IROF"][option] is not default
    (metrics,) = planned(*chosen, f"metric.quantus.IROF.{option}={default}")
    assert metrics["quantus.IROF"][option] is default


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (
            "+metric.shared.stesp=3",
            "unknown option of the chosen metrics in metric.shared 'stesp': did you mean 'steps'",
        ),
        ("+metric.shared.over=3", "unknown option of the chosen metrics in metric.shared 'over'"),
        ("+metric.shared=3", "metric.shared is 3, expected a mapping of options to values"),
        ("+metric.shared.steps=many", "option steps of srg is 'many', expected a whole number"),
    ],
)
def test_a_mistake_in_it_is_one_line(argument, words, capsys):
    assert main(["plan", *SMALL, "metric=[srg,sparseness]", argument]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("harness: ")]
    assert len(lines) == 1 and words in lines[0]


def test_an_option_that_follows_the_explainer_takes_no_shared_value(planned, capsys):
    (metrics,) = planned("metric=[srg,completeness]", "+metric.shared.baseline=zero")
    assert metrics["srg"]["baseline"] == "zero" and metrics["completeness"]["baseline"] is None
    assert main(["plan", *SMALL, "metric=completeness", "+metric.shared.baseline=zero"]) == 2
    assert "unknown option of the chosen metrics in metric.shared 'baseline'" in capsys.readouterr().err


def test_the_configuration_shows_the_values_that_hold(capsys):
    assert main(["run", *SMALL, "metric=srg", "+metric.shared.steps=5", "--cfg", "job", "--resolve"]) == 0
    metrics = yaml.safe_load(capsys.readouterr().out)["metric"]
    assert metrics["srg"] == {**METRICS["srg"].options, "steps": 5, "over": None}
