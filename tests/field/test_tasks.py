"""For every task, maps and scores are those of a formula, through explain, score, evaluate and the command line."""

import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.errors import UserError
from harness.predictor import pick, picked_not_finite
from harness.registry import EXPLAINERS, METRICS
from harness.results.frames import read_cells, read_scores
from harness.task import TASKS
from task_worlds import CLASSES, POINTS, WORLDS, ZERO_ONE, linear

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
    line = f"run model={model} dataset=arrays dataset.path=points.npz explainer=[gradient] metric=[deletion]"
    more = "metric.deletion.baseline=zero runtime.runs=. protocol.target=label model.task=probabilities"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(harness.__file__).parents[1])])
    ran = subprocess.run(
        [sys.executable, "-m", "harness.cli", *line.split(), *more.split()],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert ran.returncode == 0 and "task probabilities" in ran.stderr + ran.stdout, ran.stderr


def test_the_unit_of_a_score_is_what_was_measured():
    world = WORLDS["regression"]()
    frame = harness.evaluate(world.model, world.data, explainers="gradient", metrics={"deletion": {"baseline": "zero"}})
    assert set(frame.unit) == {"output"}


def one_line(refusal):
    return "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


WAYS = {
    "explain": lambda model, data, maps: harness.explain("gradient", model, data),
    "score": lambda model, data, maps: harness.score("deletion", model, data, maps, baseline="zero"),
    "evaluate": lambda model, data, maps: harness.evaluate(model, data, explainers="gradient", metrics="srg"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_softmax_that_nobody_speaks_of_stops_with_one_line(way):
    model = linear(3, nn.Softmax(1))
    with pytest.raises(UserError, match="model.task=probabilities.*model.task=classes") as refusal:
        WAYS[way](model, harness.Data(POINTS, CLASSES), torch.ones(4, 3))
    assert one_line(refusal)


def test_a_softmax_that_nobody_speaks_of_stops_a_run_before_anything_is_measured(tmp_path, monkeypatch):
    model, _ = as_files("probabilities", tmp_path, monkeypatch)
    np.savez(tmp_path / "points.npz", inputs=POINTS.numpy(), labels=CLASSES.numpy())
    config = {
        "model": model,
        "dataset": {"name": "arrays", "path": "points.npz"},
        "explainer": ["gradient"],
        "metric": ["sparseness"],
        "runtime": {"runs": "runs", "quiet": True, "sheet": 0},
    }
    with pytest.raises(UserError, match="model.task=probabilities") as refusal:
        harness.run(config)
    assert one_line(refusal) and not list(tmp_path.glob("runs/*/cells/*"))
    told = harness.run({**config, "model": {"name": model, "task": "probabilities"}})
    assert set(read_cells(told).task) == {"probabilities"}


CONTRADICTED = {
    "logits as probabilities": (linear(3), {"task": "probabilities"}, CLASSES, "use task=classes"),
    "labels as probabilities": (linear(3, nn.Sigmoid()), {"task": "probabilities"}, CLASSES, "task=labels_probability"),
    "one output as classes": (linear(1), {"task": "classes"}, ZERO_ONE, "use task=binary"),
    "three outputs as binary": (linear(3), {"task": "binary"}, ZERO_ONE, "use task=classes"),
    "an unknown task": (linear(3), {"task": "classification"}, CLASSES, "task"),
    "one of several numbers, none of them named": (
        linear(3),
        {},
        torch.randn(4, 3),
        "say which is explained: targets=0",
    ),
    "a class that one output lacks": (linear(1), {}, torch.tensor([0, 1, 2, 1]), "task=regression"),
    "labels of other numbers": (linear(3), {}, torch.tensor([[0, 1, 2]] * 4), "expected 0 or 1"),
    "one label each": (linear(3), {}, torch.eye(3, dtype=torch.long)[CLASSES], r"labels.argmax\(1\)"),
    "several labels and no target": (linear(3), {}, torch.tensor([[1, 1, 0]] * 4), "the one to explain for each"),
    "sigmoids and classes": (linear(3, nn.Sigmoid()), {}, CLASSES, "task=labels_probability.*task=classes"),
    "0.0 and 1.0 of one output": (linear(1), {}, ZERO_ONE.float(), "regression.*binary"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", CONTRADICTED)
def test_a_task_that_outputs_or_targets_contradict_is_refused_with_what_to_say(what, way):
    model, told, targets, expected = CONTRADICTED[what]
    with pytest.raises(UserError, match=expected) as refusal:
        WAYS[way](model, harness.Data(POINTS, targets, **told), torch.ones(4, 3))
    assert one_line(refusal)


@pytest.mark.parametrize("model", [linear(1), linear(1, flat=True), linear(1, nn.Sigmoid())])
def test_class_0_of_one_output_is_class_1_with_the_other_sign(model):
    one, zero = torch.ones(4, dtype=torch.long), torch.zeros(4, dtype=torch.long)
    maps = [harness.explain("gradient", model, POINTS, targets, task="binary") for targets in (one, zero)]
    assert maps[0].abs().sum() > 0
    torch.testing.assert_close(maps[1], -maps[0])
    options = {"task": "binary", "baseline": "zero", "score": "probability"}
    areas = [harness.score("random_order", model, POINTS, targets, maps[0], **options) for targets in (one, zero)]
    torch.testing.assert_close(areas[1], 1 - areas[0])


def worth(model, targets, **given):
    """Scores in probability and in log-odds of fixed maps, under all metrics that remove units."""
    maps = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    points = torch.randn(8, 3, generator=torch.Generator().manual_seed(2))
    found = {}
    for name, score in product(WITH_SCORES, ("probability", "log_odds")):
        data = harness.Data(points, targets, train=points, train_labels=targets, **given)
        options = {"similarity": "spearman"} if "similarity" in METRICS[name].options else {}
        try:
            found[name, score] = harness.score(
                name, model, data, maps, explainer="input_magnitude", score=score, **options
            )
        except harness.NotApplicable as refusal:
            found[name, score] = str(refusal)
    return found


WITH_SCORES = [name for name, entry in METRICS.items() if "score" in entry.options]
TRAINING = ("idsds", "f_fidelity")  # each trains a copy of the model, and how that learns depends on its outputs


class TwoLogits(nn.Module):
    """A classifier of two classes, whose logits differ by one linear output."""

    def __init__(self):
        super().__init__()
        self.one = linear(1)

    def forward(self, x):
        return torch.cat([torch.full_like(x[:, :1], 0.3), self.one(x) + 0.3], 1)


def other_ways(two):
    """The classifier of two logits as one logit, with a softmax and with a sigmoid: way -> model and fields of data."""
    return {
        "one logit": (linear(1), {"task": "binary"}),
        "softmax": (nn.Sequential(two, nn.Softmax(1)).eval(), {"task": "probabilities"}),
        "sigmoid": (linear(1, nn.Sigmoid()), {}),
    }


TWO_CLASSES = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])


def test_a_classifier_written_in_any_way_has_the_same_probabilities_and_odds():
    """Two logits, one logit, a softmax and a sigmoid."""
    targets, two = TWO_CLASSES, TwoLogits().eval()
    expected = worth(two, targets)
    assert sum(isinstance(each, torch.Tensor) for each in expected.values()) > 30
    for way, (model, given) in other_ways(two).items():
        for (name, score), scores in worth(model, targets, **given).items():
            same = expected[name, score]
            assert isinstance(scores, torch.Tensor) == isinstance(same, torch.Tensor), (way, name, scores, same)
            if name not in TRAINING and isinstance(scores, torch.Tensor):
                what = f"{name} in {score} of {way}"
                torch.testing.assert_close(scores, same, atol=1e-5, rtol=1e-5, equal_nan=True, msg=what)


OF_PROBABILITIES = [
    (name, {option: value})
    for name, entry in EXPLAINERS.items()
    for option, value in product(("score", "fit"), ("probability", "log_odds", "log_loss"))
    if option in entry.options and "table" in entry.modalities
]


def test_a_classifier_written_in_any_way_has_the_same_maps_of_probabilities_and_odds():
    """Two logits, one logit, a softmax and a sigmoid, under each explainer that can ask for a probability."""
    generator = torch.Generator().manual_seed(2)
    points, train = torch.randn(8, 3, generator=generator), torch.randn(40, 3, generator=generator)
    labels, two = torch.arange(40) % 2, TwoLogits().eval()

    def explained(name, options, model, **given):
        data = harness.Data(points, TWO_CLASSES, train=train, train_labels=labels, **given)
        try:
            return harness.explain(name, model, data, **options)
        except (harness.NotApplicable, UserError) as refusal:  # some have no such score
            return type(refusal)

    found = 0
    for name, options in OF_PROBABILITIES:
        expected = explained(name, options, two)
        for way, (model, given) in other_ways(two).items():
            maps, what = explained(name, options, model, **given), f"{name} with {options} of {way}"
            if isinstance(expected, torch.Tensor):
                torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-4, msg=what)
                found += 1
            else:
                assert maps is expected, what
    assert found > 40


@pytest.mark.parametrize(
    ("name", "options"), [("permutation_importance", {"score": "log_loss"}), ("tree_surrogate", {"fit": "probability"})]
)
def test_outputs_that_may_be_numbers_have_no_probability_for_a_global_explainer_either(name, options):
    told = {"train": POINTS, "train_labels": CLASSES}
    data = lambda **more: harness.Data(POINTS, torch.zeros(4, dtype=torch.long), **told, **more)
    with pytest.raises(harness.NotApplicable, match="say task='classes'"):
        harness.explain(name, linear(3), data(), **options)
    assert harness.explain(name, linear(3), data(task="classes"), **options).isfinite().all()


def test_a_log_loss_that_is_infinite_is_told():
    """The second class has the probability 0, for all rows."""
    certain = harness.LoadedModel(lambda x: np.stack([np.ones(len(x)), np.zeros(len(x))], 1), task="probabilities")
    data = harness.Data(POINTS, ZERO_ONE, train=POINTS, train_labels=ZERO_ONE)
    with pytest.raises(harness.NotApplicable, match="log_loss is not finite"):
        harness.explain("permutation_importance", certain, data, score="log_loss")


SCORED = [name for name, entry in METRICS.items() if entry.kind != "cost"]
SMALL = {"epochs": 2, "weight_seeds": 1, "least_accuracy": 0.0, "draws": 50}
# No score where no unit counts, where the explained class is improbable, or where no part matters.
UNDEFINED_FOR_SOME = ("aucse_f_score", "aucse_top", "distractibility", "effective_complexity")


@pytest.mark.parametrize("metric", SCORED)
def test_every_metric_as_it_is_has_scores_under_every_task_or_says_in_one_line_why_not(metric):
    entry = METRICS[metric]
    for name, make in WORLDS.items():
        world, generator = make(), torch.Generator().manual_seed(7)
        count, units = len(world.inputs), world.inputs.shape[2:] if world.inputs.dim() == 4 else world.inputs.shape[1:]
        train = torch.randn(9, *world.inputs.shape[1:], generator=generator)
        labels = torch.randn(9, generator=generator) if world.numbers else torch.arange(9) % 2
        given = {"masks": torch.arange(units.numel()).view(units).expand(count, *units) % 2 == 0}
        given |= {"truth": torch.randn(count, *units, generator=generator), "train": train, "train_labels": labels}
        data = harness.Data(world.inputs, world.targets, **{**given, **world.given})
        options = {each: value for each, value in SMALL.items() if each in entry.options}
        options |= {"similarity": "spearman"} if "similarity" in entry.options else {}
        options |= {"margin": 0.0} if metric == "pointing_game" else {}
        try:
            found = harness.score(metric, world.model, data, drawn_maps(world), explainer="gradient", **options)
        except harness.NotApplicable as refusal:
            assert "\n" not in str(refusal) and len(str(refusal)) < 250
            assert "score" not in entry.options or "image" in str(refusal) or "train" in str(refusal), (name, refusal)
            continue
        assert found.shape == (count,) and not found.isinf().any()
        if "score" in entry.options:
            assert found.isfinite().any() if metric in UNDEFINED_FOR_SOME else found.isfinite().all(), (name, found)


class Surface(nn.Module):
    """A number that grows and falls, times a factor, plus a constant."""

    def __init__(self, factor=1.0, constant=0.0):
        super().__init__()
        self.factor, self.constant = factor, constant
        self.eval()

    def forward(self, x):
        surface = 2 * x[:, 0] - x[:, 1] + x[:, 0] * x[:, 2] - 3 * x[:, 1] * x[:, 2]
        return self.factor * surface + self.constant


AREAS = ("deletion", "insertion", "selectivity", "aopc", "random_order", "irof", "srg", "abpc")


def of_surface(metric, model, maps, **options):
    data = harness.Data(POINTS, task="regression")
    return harness.score(metric, model, data, maps, baseline="zero", **options)


def test_curves_of_a_number_are_measured_from_the_straight_line():
    """For x = (1, 1, 1) without x_0, x_1, x_2 in this order f goes -1, -4, 0, 0; the line goes -1, -2/3, -1/3, 0."""
    data = harness.Data(torch.ones(1, 3), task="regression")
    of = lambda metric, **more: harness.score(
        metric, Surface(), data, torch.tensor([[3.0, 2.0, 1.0]]), baseline="zero", **more
    ).item()
    assert of("deletion") == pytest.approx((-4 + 2 / 3 + 1 / 3) / 3)
    assert of("selectivity") == pytest.approx(of("deletion"))
    assert of("aopc") == pytest.approx(-(-4 + 2 / 3 + 1 / 3) / 4)
    assert of("irof") == pytest.approx((4 - 1) / 3 / 1)
    assert of("irof", normalised=False) == pytest.approx(1)
    # inserted: 0, 2 (x_0), 1 (x_0, x_1), -1; the line goes 0, -1/3, -2/3, -1
    assert of("insertion") == pytest.approx((2 + 1 / 3 + 1 + 2 / 3) / 3)
    assert of("srg") == pytest.approx(of("insertion") - of("deletion"))


@pytest.mark.parametrize("metric", (*AREAS, "monotonicity", "comprehensiveness", "sufficiency"))
def test_a_number_plus_a_constant_and_its_negative_have_the_same_curves(metric):
    """The negative of a number has the negative areas under the same order, and the same steps towards f(x)."""
    maps = torch.randn(4, 3)
    plain, moved, negative = (
        of_surface(metric, model, maps) for model in (Surface(), Surface(1.0, 50.0), Surface(-1.0))
    )
    torch.testing.assert_close(moved, plain, atol=1e-5, rtol=0)
    torch.testing.assert_close(negative, plain if metric == "monotonicity" else -plain, atol=1e-5, rtol=0)


def test_an_order_that_has_nothing_to_do_with_a_sum_scores_zero():
    data = harness.Data(POINTS, task="regression")
    found = harness.score("random_order", linear(1), data, torch.ones(4, 3), baseline="zero")
    torch.testing.assert_close(found, torch.zeros(4, dtype=torch.float64), atol=1e-6, rtol=0)


def test_imputed_images_of_a_number_are_measured_from_the_straight_line():
    """The value of one pixel falls at the first step to the mean of its neighbours, which is that of the image."""
    images = torch.zeros(1, 1, 5, 5)
    images[0, 0, 2, 2] = 1.0

    class Middle(nn.Module):
        def forward(self, x):
            return 7 + x[:, 0, 2, 2]

    data = harness.Data(images, task="regression")
    found = harness.score("road", Middle().eval(), data, images, percents=[20, 40], absolute_noise=0.0)
    ends = 8.0, 7 + 1 / 25
    line = [ends[0] + (ends[1] - ends[0]) * share for share in (0.2, 0.4)]
    assert found.item() == pytest.approx(sum(7.0 - each for each in line) / 2, abs=1e-4)


def test_neighbours_of_numbers_are_all_taken_whichever_number_is_the_largest():
    net, x = linear(3), torch.randn(4, 3, generator=torch.Generator().manual_seed(3))
    alone = nn.Linear(3, 1).eval()
    alone.load_state_dict({name: values[1:2] for name, values in net.state_dict().items()})
    train = torch.randn(30, 3, generator=torch.Generator().manual_seed(4))
    scores = [
        harness.score(
            "relative_input_stability",
            model,
            harness.Data(x, target, task="regression", train=train),
            harness.explain("input_x_gradient", model, harness.Data(x, target, task="regression", train=train)),
            explainer="input_x_gradient",
            radius=1.0,  # so large that another of the numbers is often the largest
        )
        for model, target in ((net, 1), (alone, 0))
    ]
    assert torch.allclose(*scores)


def test_a_linear_surrogate_of_one_of_several_numbers_has_its_coefficients():
    net, train = linear(3), torch.randn(30, 3, generator=torch.Generator().manual_seed(5))
    for target in range(3):
        data = harness.Data(POINTS, target, task="regression", train=train)
        found = harness.explain("linear_surrogate", net, data, penalty=0.0)
        assert torch.allclose(found, net.weight[target].expand(4, -1), atol=1e-4)


def test_log_odds_of_a_probability_of_0_or_1_are_nan_and_not_infinite():
    outputs = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    tracked = TASKS["probabilities"].track(outputs, torch.tensor([0, 0]))
    assert torch.equal(pick(tracked, "probability"), outputs[:, 0])
    assert torch.allclose(pick(tracked, "log_odds"), torch.tensor([float("nan"), -1.0986123]), equal_nan=True)
    assert picked_not_finite.get()
