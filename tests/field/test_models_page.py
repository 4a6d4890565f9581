"""Every line of docs/models.md is true: its example runs with the task it names, and what it refuses is refused."""

import re
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch

import harness
from harness.api import samples_of
from harness.cli.hydra_config import for_each_job
from harness.errors import UserError
from harness.task import TASKS

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
KIND, PYTHON, COMMAND, TASK, EXPLAINED, REFUSED = range(6)


def rows_below(heading):
    """The cells of the rows of the tables whose first column is called so."""
    tables = re.findall(rf"^\| {heading} \|.*\n\| --- .*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")[1:-1]] for table in tables for row in table.splitlines()]


def code(cell):
    return re.findall(r"`([^`]+)`", cell)


ROWS = rows_below("your model")
EVERY = pytest.mark.parametrize("row", ROWS, ids=lambda row: row[KIND])


@cache
def names():
    """What the first block of the page defines."""
    found = {}
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's about its quantised layers
        exec(compile(block, "models.md", "exec"), found)
    return found


def model_and_data(text):
    torch.manual_seed(0)
    return eval(text if not text.startswith("lambda") else f"({text.replace(', Data', '), Data', 1)}", names())


@EVERY
@pytest.mark.filterwarnings("ignore")
def test_the_example_runs_with_the_task_that_the_line_names(row):
    (text,), (task,) = code(row[PYTHON]), code(row[TASK])
    model, data = model_and_data(text)
    assert samples_of(model, data).task is TASKS[task]
    frame = harness.evaluate(model, data, explainers=["occlusion", "random"], metrics=["deletion", "sparseness"])
    assert set(frame["status"]) == {"ok"} and frame["valid"].all(), frame["error"].tolist()
    assert set(frame.loc[frame["metric"] == "deletion", "unit"]) == {TASKS[task].default}


@EVERY
@pytest.mark.filterwarnings("ignore")
def test_what_the_line_says_is_refused_is_refused_in_one_line(row):
    if not row[REFUSED]:
        pytest.skip("nothing is refused")
    model, data = model_and_data(code(row[REFUSED])[0])
    with pytest.raises((UserError, harness.NotApplicable)) as refusal:
        harness.evaluate(model, data, explainers="occlusion", metrics="sparseness")
    assert "\n" not in str(refusal.value)


@EVERY
def test_the_settings_of_the_line_are_settings_of_a_model(row):
    settings = [each for each in code(row[COMMAND]) if re.match(r"(model|protocol)\.\w+=", each) and "=X" not in each]
    for setting in settings:
        jobs = []
        for_each_job(["model=mine:make", "explainer=saliency", "metric=srg", *setting.split()], jobs.append)
        assert len(jobs) == 1
        name, value = setting.split()[0].split("=")
        if name.startswith("model."):
            assert jobs[0]["model"][name.removeprefix("model.")] == value


def test_the_table_of_tasks_is_that_of_the_package():
    table = {code(row[0])[0]: row for row in rows_below("task")}
    short = {"binary", "labels"}
    assert set(table) == set(TASKS) - short
    for name, row in table.items():
        default, *others = code(row[4])
        assert default == TASKS[name].default and {default, *others} == set(TASKS[name].scores), name
    assert all(f"`{name}`" in PAGE for name in short)
