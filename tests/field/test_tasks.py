"""For every task, maps and scores are those of a formula, through explain, score, evaluate and the command line."""

import math
import os
import subprocess
import sys
from pathlib import Path
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.errors import UserError
from harness.registry import EXPLAINERS, METRICS
from harness.results.frames import read_cells, read_scores
from task_worlds import BIAS, CLASSES, POINTS, WEIGHT, WORLDS, ZERO_ONE, linear, logits, sigmoid

pytestmark = pytest.mark.filterwarnings("ignore:the model has one output", "ignore:explained is the")


def array(world, n):
    return world.inputs[n].double().numpy()


def units_of(x):
    """For each unit of an input (D,) or (C, H, W) the mask of its numbers."""
    places = np.arange(x.size).reshape(-1) if x.ndim == 1 else np.arange(x[0].size)
    wholes = places if x.ndim == 1 else np.broadcast_to(places.reshape(x.shape[1:]), x.shape)
    return [wholes == place for place in places]


def curve(of, world, n, order):
    """The score of sample n, without its first k units in this order, for each k."""
    x, units, values = array(world, n).copy(), units_of(array(world, n)), []
    values.append(of(x, n))
    for unit in order:
        x[units[unit]] = 0
        values.append(of(x, n))
    return np.array(values)


def by_hand(world, maps, of, order="morf"):
    """The area (N,) under the curve of removal to zero; for numbers between it and the straight line."""
    areas = []
    for n in range(len(world.inputs)):
        values = maps[n].double().numpy() if maps[n].dim() == 1 else maps[n].double().sum(0).flatten().numpy()
        ranked = np.argsort(-values if order == "morf" else values)
        heights = curve(of, world, n, ranked)
        if world.numbers:
            heights = heights - np.linspace(heights[0], heights[-1], len(heights))
        areas.append(np.trapezoid(heights, dx=1 / (len(heights) - 1)))
    return torch.tensor(np.array(areas))


def drawn_maps(world):
    return torch.randn(world.inputs.shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", WORLDS)
def test_a_gradient_is_the_derivative_of_the_explained_output_with_its_sign(name):
    world, step = WORLDS[name](), 1e-5
    maps = harness.explain("gradient", world.model, world.data)
    for n in range(len(world.inputs)):
        x = array(world, n)
        slopes = np.empty_like(x)
        for place in np.ndindex(x.shape):
            moved = np.zeros_like(x)
            moved[place] = step
            slopes[place] = (world.output(x + moved, n) - world.output(x - moved, n)) / (2 * step)
        np.testing.assert_allclose(maps[n].numpy(), slopes, atol=1e-5)


@pytest.mark.parametrize("name", WORLDS)
def test_what_removes_a_unit_gives_the_change_of_the_explained_output(name):
    world = WORLDS[name]()
    maps = harness.explain("feature_ablation", world.model, world.data, baseline="zero")
    for n in range(len(world.inputs)):
        x = array(world, n)
        for unit in units_of(x):
            changed = world.output(x, n) - world.output(np.where(unit, 0, x), n)
            share = maps[n].expand(world.inputs.shape[1:]).numpy()[unit]
            assert share.mean() == pytest.approx(changed, abs=1e-5) or share.sum() == pytest.approx(changed, abs=1e-5)


CURVES = {"deletion": ("morf", 1), "insertion": ("lerf", 1)}
ASKED = ("as it is", "output", "probability", "log_odds")


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", WORLDS)
def test_areas_are_those_of_the_formula_for_every_score_that_the_task_has(name, asked):
    world = WORLDS[name]()
    maps, steps = drawn_maps(world), {"baseline": "zero", "steps": 64}
    odds = lambda x, n: math.log(world.probability(x, n) / (1 - world.probability(x, n)))
    of = {"as it is": world.score, "output": world.output, "probability": world.probability, "log_odds": odds}[asked]
    options = {} if asked == "as it is" else {"score": asked}
    if asked in ("probability", "log_odds") and world.probability is None:
        with pytest.raises(harness.NotApplicable, match=r"^[^\n]*use score=output$"):
            harness.score("deletion", world.model, world.data, maps, **steps, **options)
        return
    deleted = harness.score("deletion", world.model, world.data, maps, **steps, **options)
    torch.testing.assert_close(deleted, by_hand(world, maps, of), atol=1e-5, rtol=0)
    inserted = harness.score("insertion", world.model, world.data, maps, **steps, **options)
    torch.testing.assert_close(inserted, by_hand(world, maps, of, "lerf"), atol=1e-5, rtol=0)
    gain = harness.score("srg", world.model, world.data, maps, **steps, **options)
    torch.testing.assert_close(gain, inserted - deleted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", WORLDS)
def test_evaluate_measures_what_explain_and_score_do(name):
    world = WORLDS[name]()
    frame = harness.evaluate(
        world.model,
        world.data,
        explainers={"input_x_gradient": {}, "feature_ablation": {"baseline": "zero"}},
        metrics={"deletion": {"baseline": "zero", "steps": 64}, "srg": {"baseline": "zero"}},
    )
    assert set(frame.status) == {"ok"} and not frame.error.any()
    for explainer, options in (("input_x_gradient", {}), ("feature_ablation", {"baseline": "zero"})):
        maps = harness.explain(explainer, world.model, world.data, **options)
        of_cell = frame[(frame.explainer == explainer) & (frame.metric == "deletion")].value.to_numpy()
        np.testing.assert_allclose(of_cell, by_hand(world, maps, world.score).numpy(), atol=1e-5)


def as_files(name, folder, monkeypatch):
    """A module of a user's with the model and the data of a world; the names of its two functions."""
    module = f"users_{name}"
    (folder / f"{module}.py").write_text(
        "from task_worlds import WORLDS\n\n\n"
        f"def model():\n    return WORLDS[{name!r}]().model\n\n\n"
        f"def data():\n    return WORLDS[{name!r}]().data\n"
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    return f"{module}:model", f"{module}:data"


@pytest.mark.parametrize("name", WORLDS)
def test_a_run_measures_the_same(name, tmp_path, monkeypatch):
    world, (model, data) = WORLDS[name](), as_files(name, tmp_path, monkeypatch)
    directory = harness.run(
        {
            "model": model,
            "dataset": data,
            "explainer": ["input_x_gradient"],
            "metric": {"deletion": {"baseline": "zero", "steps": 64}},
            "protocol": {"target": "given"},
            "runtime": {"runs": str(tmp_path), "quiet": True, "sheet": 0},
        }
    )
    scores = read_scores(directory, read_cells(directory))
    values = scores[scores.explainer == "input_x_gradient"].value.to_numpy()
    maps = harness.explain("input_x_gradient", world.model, world.data)
    np.testing.assert_allclose(values, by_hand(world, maps, world.score).numpy(), atol=1e-5)


def test_the_command_line_takes_a_module_and_its_task(tmp_path, monkeypatch):
    model, _ = as_files("probabilities", tmp_path, monkeypatch)
    np.savez(tmp_path / "points.npz", inputs=POINTS.numpy(), labels=CLASSES.numpy())
    line = f"{sys.executable} -m harness.cli run model={model} dataset=arrays dataset.path=points.npz"
    more = "explainer=[gradient] metric=[deletion] metric.deletion.baseline=zero runtime.runs=. protocol.target=label"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(harness.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": paths}
    run = lambda *task: subprocess.run(
        [*line.split(), *more.split(), *task], capture_output=True, text=True, env=environment
    )
    unasked = run()
    assert unasked.returncode == 2 and "model.task=probabilities" in unasked.stderr + unasked.stdout
    assert "Traceback" not in unasked.stderr
    told = run("model.task=probabilities")
    assert told.returncode == 0 and "task probabilities" in told.stderr + told.stdout, told.stderr
