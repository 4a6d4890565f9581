"""The tasks on which ``harness choose`` is proved: they are many, repeatable, and their truth is exact."""

import sys
from pathlib import Path

import pytest
import torch

import harness
from harness.datasets._shapley import shapley_against
from harness.jobs.accuracy import chance_of_as_many

DOCS = Path(__file__).parents[2] / "docs"
FAMILIES = ("linear", "additive", "interactions", "logic", "causal", "cnn", "trained", "opaque", "untrained", "noise")
SAMPLES = 60


@pytest.fixture(scope="module")
def page():
    """The script with the tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import choosing_tasks

        yield choosing_tasks
        for name in ("choosing_tasks", "choosing_nets", "choosing_worlds", "choosing_terms"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def one_of_each(page):
    """The last task of each variant of a family, with few samples."""
    return list({(task.family, task.variant): task for task in page.tasks(samples=SAMPLES)}.values())


@pytest.fixture(scope="module")
def made(one_of_each):
    """Tasks with what they make."""
    return [(task, *task.make()) for task in one_of_each]


def reference(data):
    """What metrics put in the place of removed units: the training mean of a table, an image's own mean."""
    inputs = data.inputs
    means = data.train.mean(0) if inputs.dim() == 2 else inputs.mean((1, 2, 3), keepdim=True)
    return means.expand_as(inputs)


def explained(model, data, inputs):
    """The output that is explained, for each row."""
    outputs = model(inputs)
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs.gather(1, data.labels[:, None])[:, 0]


def right(task, outputs, labels):
    """The probability that a guess by the most frequent label is as often right."""
    count, most = len(labels), int(labels.bincount().max()) / len(labels)
    return chance_of_as_many(int((outputs.argmax(1) == labels).sum()), count, most)


def test_there_are_enough_tasks_of_every_kind(page):
    tasks = page.tasks()
    assert len(tasks) >= 200 and len({task.name for task in tasks}) == len(tasks)
    assert {task.family for task in tasks} == set(FAMILIES)
    assert {task.kind for task in tasks} == {"easy", "hard", "no_good_explainer", "untrained"}
    assert min(task.units for task in tasks) == 4 and max(task.units for task in tasks) == 256
    assert sum(task.expected == "none" for task in tasks) >= 50
    assert sum(task.outputs == 1 for task in tasks) >= 30
    assert tasks == page.tasks() and tasks[0].samples == 400
    assert len(page.tasks({"linear": 3})) == len(tasks) - page.FAMILIES["linear"].count + 3


def test_what_is_expected_follows_from_the_kind(page):
    for task in page.tasks():
        assert (task.expected == "answer") == (task.kind in ("easy", "hard")), task.name


def test_a_task_is_the_same_each_time(made):
    for task, model, data in made:
        again, same = task.make()
        assert torch.equal(data.inputs, same.inputs) and torch.equal(data.labels, same.labels), task.name
        assert torch.equal(data.train, same.train) and torch.equal(model(data.inputs), again(same.inputs)), task.name
        assert data.truth is None or torch.equal(data.truth, same.truth), task.name


def test_the_model_does_not_depend_on_the_number_of_samples(page, made):
    for task, model, data in made:
        if task.family != "cnn" and task.variant not in ("filters", "cnn"):  # of these the images come in one go
            other, _ = page.Task(**{**vars(task), "samples": SAMPLES}).make()
            assert torch.equal(model(data.inputs), other(data.inputs)), task.name


def test_data_has_what_the_harness_needs(made):
    for task, model, data in made:
        units = data.inputs.flatten(1)
        assert len(data.inputs) == SAMPLES and units.shape[1] == task.units, task.name
        assert model(data.inputs).shape == (SAMPLES, task.outputs) and not model.training, task.name
        assert data.task == ("regression" if task.outputs == 1 else "classes"), task.name
        assert data.masks is None or data.masks.shape == data.truth.shape, task.name


def test_the_truth_is_there_where_a_metric_is_named(page, made):
    for task, _, data in made:
        assert (data.truth is not None) == (page.truth_metric(task) is not None), task.name


def test_the_truth_sums_to_the_change_of_the_output(made):
    for task, model, data in made:
        if data.truth is not None:
            gap = explained(model, data, data.inputs) - explained(model, data, reference(data))
            assert torch.allclose(data.truth.flatten(1).sum(1), gap, atol=1e-4), task.name


def test_the_truth_is_the_shapley_value_of_the_model(page):
    small = {(task.family, task.variant): task for task in page.tasks(samples=4) if task.units <= 9}
    for task in small.values():
        model, data = task.make()
        if data.truth is None:
            continue
        value = lambda rows, model=model, data=data: explained(model, data, rows.float())
        found = shapley_against(value, data.inputs, data.train.mean(0), tuple(range(task.units)))
        assert torch.allclose(data.truth, found.float(), atol=1e-4), task.name
    assert len(small) >= 15


def test_most_of_the_truth_of_an_image_lies_where_the_pattern_is(made):
    _, _, data = next(each for each in made if each[0].variant == "patterns")
    sizes = data.truth.abs().flatten(1)
    share = (sizes * data.masks.flatten(1)).sum(1) / sizes.sum(1)
    assert float(share.mean()) > 1.5 * float(data.masks.float().mean()) and float(share.mean()) > 0.5


def test_the_truth_scores_better_than_random_maps(page, made):
    for task, model, data in made:
        if data.truth is not None:
            drawn = torch.randn(data.truth.shape, generator=torch.Generator().manual_seed(0))
            metric = page.truth_metric(task)
            exact, random = (harness.score(metric, model, data, maps).nanmean() for maps in (data.truth, drawn))
            assert exact > 0.999 and exact > random + 0.5, task.name


def test_probabilities_are_not_saturated(made):
    for task, model, data in made:
        if task.outputs > 1 and task.expected == "answer":
            probability = model(data.inputs).softmax(1)
            assert float(((probability > 0.99) | (probability < 0.01)).float().mean()) < 0.2, task.name
            assert float(probability[:, 1].std()) > 0.1, task.name


def test_untrained_models_and_those_of_noise_guess(page):
    tasks = [task for task in page.tasks() if task.kind == "untrained"]
    shares = []
    for task in tasks:
        model, data = task.make()
        shares.append(right(task, model(data.inputs), data.labels))
    assert sum(share > 0.05 for share in shares) >= 0.95 * len(tasks)


def test_models_with_an_answer_are_better_than_a_guess(page):
    tasks = [task for task in page.tasks() if task.expected == "answer" and task.outputs > 1]
    for task in tasks[::4]:
        model, data = task.make()
        assert right(task, model(data.inputs), data.labels) < 0.05, task.name


def test_of_parity_nothing_is_left_without_a_unit_and_copies_are_alike(page):
    tasks = {task.variant: task for task in page.tasks(samples=SAMPLES) if task.kind == "no_good_explainer"}
    model, data = tasks["parity"].make()
    changed = data.inputs.clone()
    changed[:, 3] = data.train.mean(0)[3]
    assert torch.allclose(model(changed), model(torch.zeros_like(changed)))
    model, data = tasks["copies"].make()
    without = [data.inputs.clone() for _ in range(2)]
    for unit, rows in enumerate(without):
        rows[:, unit] = data.train.mean(0)[unit]
    assert torch.allclose(model(without[0]), model(without[1]), atol=1e-6)
