"""Twins trained on permuted and on true labels: what they learn, how often they are trained, and what is compared."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from harness.api import make_batch
from harness.engine.output_cache import OutputCache
from harness.errors import NotApplicable, UserError
from harness.metrics import label_randomization as module
from harness.metrics._similarity import spearman, ssim
from metric_worlds import explaining, gradient, on, samples, scores

NAME = "label_randomization"
pytestmark = pytest.mark.usefixtures("seed")
SMALL = {"epochs": 30, "rate": 0.03, "batch_size": 16, "least_accuracy": 0.0}


class World:
    """Two classes that one column tells apart, and a net that was trained on nothing."""

    def __init__(self, rows=96, columns=8):
        self.train = torch.randn(rows, columns)
        self.labels = (self.train[:, 2] > 0).long()
        self.model = nn.Sequential(nn.Linear(columns, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2)).eval()
        self.inputs = torch.randn(5, columns)

    def samples(self, **more):
        return samples(self.model, self.inputs, **{"train": self.train, "train_labels": self.labels, **more})

    def batch(self, function=gradient, **more):
        by, made = explaining(function, self.model), self.samples(**more)
        return make_batch(made, by(made), by)

    def measured(self, function=gradient, **options):
        return on(NAME, self.batch(function), **{**SMALL, **options})


def test_a_map_that_ignores_the_model_is_found_out():
    world = World()
    noise = torch.randn(5, 8)
    found = world.measured(lambda m, x, t: noise)
    torch.testing.assert_close(found.curves[:, :2], torch.ones(5, 2, dtype=torch.float64))


def test_the_twin_of_true_labels_learns_and_the_other_one_can_at_best_memorise():
    world = World(rows=400)
    found = world.measured(epochs=10)
    assert found.curves.shape == (5, 4) and (found.values == found.curves[:, 0]).all()
    permuted, true = found.curves[0, 2:].tolist()
    assert true > 0.95 and permuted < 0.85 and (found.curves[:, 2:] == found.curves[:1, 2:]).all()


def test_with_enough_passes_permuted_labels_are_memorised():
    found = World(rows=40, columns=20).measured(epochs=300)
    assert found.curves[0, 2].item() > 0.95


def test_the_score_is_the_similarity_of_the_models_map_and_each_twins_for_the_same_class():
    world, seen = World(), []

    def spy(model, inputs, targets):
        seen.append((model, inputs.clone(), targets.clone(), gradient(model, inputs, targets)))
        return seen[-1][3]

    found = world.measured(spy)
    (model, inputs, targets, before), *after = seen
    assert model is world.model and len(after) == 2 and len({id(each[0]) for each in seen}) == 3
    for column, (_, own_inputs, own_targets, maps) in enumerate(after):
        assert torch.equal(own_inputs, inputs) and torch.equal(own_targets, targets)
        torch.testing.assert_close(found.curves[:, column], spearman(before, maps))


def test_twins_start_alike_and_differ_from_the_model_and_each_other(monkeypatch):
    world, starts, labels = World(), [], []

    def note(module_, task, build, targets, recipe, seed):
        starts.append({name: tensor.clone() for name, tensor in module_.state_dict().items()})
        labels.append(targets.clone())
        return module_

    monkeypatch.setattr(module, "train_model", note)
    world.measured()
    first, second = starts
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[name], tensor) for name, tensor in world.model.state_dict().items())
    assert torch.equal(labels[1], world.labels) and not torch.equal(labels[0], world.labels)
    assert torch.equal(labels[0].bincount(), world.labels.bincount())


def test_twins_are_trained_once_for_all_explainers_chunks_and_similarities(monkeypatch):
    world, calls, block = World(), [], {}
    true = module.train_model
    monkeypatch.setattr(module, "train_model", lambda *arguments: (calls.append(1), true(*arguments))[1])
    for function in (gradient, lambda m, x, t: x * gradient(m, x, t)):
        batch = world.batch(function)
        batch.samples.block = block
        for similarity in ("spearman", "spearman_abs"):
            on(NAME, batch, **SMALL, similarity=similarity)
    assert len(calls) == 2
    batch = world.batch()
    batch.samples.block = block
    on(NAME, batch, **SMALL, weight_seed=1)
    assert len(calls) == 4


def test_the_same_seed_gives_the_same_bits_whatever_else_is_drawn():
    world = World()
    first = world.measured().curves
    torch.rand(5)
    assert torch.equal(world.measured().curves, first)
    assert not torch.equal(world.measured(weight_seed=1).curves[:, 0], first[:, 0])


def test_model_data_and_global_randomness_come_back_as_they_were():
    world = World()
    batch, state = world.batch(), torch.get_rng_state()
    own = {name: tensor.clone() for name, tensor in world.model.state_dict().items()}
    train, labels = world.train.clone(), world.labels.clone()
    on(NAME, batch, **SMALL)
    assert torch.equal(torch.get_rng_state(), state) and not world.model.training
    assert all(torch.equal(tensor, own[name]) for name, tensor in world.model.state_dict().items())
    assert torch.equal(world.train, train) and torch.equal(world.labels, labels)
    assert all(each.grad is None and each.requires_grad for each in world.model.parameters())


def test_a_sample_alone_scores_as_in_company():
    world = World()
    together = world.measured().curves
    world.inputs = world.inputs[3:4]
    torch.testing.assert_close(world.measured().curves, together[3:4])


def test_what_an_explainer_prepares_is_prepared_for_each_twin():
    world = World()
    prepared = lambda model, context: model[0].weight.detach().clone()
    function = lambda m, x, t, *, prepared: prepared.sum(0).expand_as(x).clone()
    by, made = explaining(function, world.model, prepare=prepared), world.samples()
    by.prepare(made)
    kept = by.prepared
    found = on(NAME, make_batch(made, by(made), by), **SMALL)
    assert (found.curves[:, :2] < 0.9999).all() and by.prepared is kept


@pytest.mark.parametrize("shape", [(1, 6, 6), (5, 4)])
def test_images_and_tokens_are_compared_too(shape):
    train, labels = torch.randn(40, *shape), torch.randint(3, (40,))
    norm = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 12), nn.BatchNorm1d(12), nn.Tanh())
    model, seen = nn.Sequential(norm, nn.Linear(12, 3)).eval(), []
    by = explaining(lambda m, x, t: (seen.append(gradient(m, x, t)), seen[-1])[1], model)
    made = samples(model, torch.randn(2, *shape), train=train, train_labels=labels)
    batch = make_batch(made, by(made), by)
    found = on(NAME, batch, **SMALL, similarity="ssim" if len(shape) == 3 else "spearman")
    assert found.values.isfinite().all()
    if len(shape) == 3:
        torch.testing.assert_close(found.values, ssim(seen[0][:, 0], seen[1][:, 0]))


def test_a_constant_map_has_no_similarity_and_says_so():
    maps = torch.randn(5, 8)
    maps[1] = 1
    found = World().measured(lambda m, x, t: maps)
    assert found.values.isnan().tolist() == [False, True, False, False, False] and "constant" in found.reason


def test_what_the_model_answered_is_not_taken_for_the_twins_answer(tmp_path):
    world, seen = World(), []

    def function(model, inputs, targets, *, context):
        seen.append((context.clean(), model(inputs).gather(1, targets[:, None])[:, 0].detach()))
        return gradient(model, inputs, targets)

    batch = world.batch(function)
    batch.samples.clean()
    batch.samples.output_cache = OutputCache(tmp_path, "model")
    on(NAME, batch, **SMALL)
    assert len(seen) == 3
    for told, own in seen:
        torch.testing.assert_close(told, own)


def test_a_function_that_explains_its_own_model_is_not_taken_for_one_that_explains_the_twin():
    batch = World().batch()
    batch.explain_again = lambda samples: gradient(batch.samples.predictor.module, samples.inputs, samples.targets)
    with pytest.raises(NotApplicable, match="another model"):
        on(NAME, batch, **SMALL)


def test_twins_that_learnt_too_little_are_not_compared():
    with pytest.raises(NotApplicable, match="training accuracy"):
        World(rows=400).measured(epochs=1, rate=1e-6, least_accuracy=0.95)


def test_what_cannot_be_asked_is_said():
    world = World()
    for more in ({"train": None, "train_labels": None}, {"train_labels": None}, {"train_labels": world.train[:, 0]}):
        with pytest.raises(NotApplicable):
            on(NAME, world.batch(**more), **SMALL)
    with pytest.raises(NotApplicable, match="most_work"):
        world.measured(most_work=1000)
    with pytest.raises(NotApplicable):
        world.measured(similarity="ssim")
    with pytest.raises(NotApplicable):
        scores(NAME, world.model, world.inputs, world.inputs, train=world.train, train_labels=world.labels)
    for options in ({"epochs": 0}, {"rate": 0.0}, {"batch_size": 0}, {"similarity": "cosine"}):
        with pytest.raises(UserError):
            world.measured(**options)
    world.model = nn.Sequential(nn.Linear(8, 1)).eval()
    with pytest.raises(NotApplicable):
        on(NAME, replace(world.batch()), **SMALL)
