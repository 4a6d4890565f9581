"""Retraining and fine-tuning, on tiny data of which it is known what can be learnt from what is left."""

import copy

import pytest
import torch
from torch import nn

import harness
from harness.api import make_batch
from harness.errors import NotApplicable, UserError
from harness.metrics import _training, retraining
from harness.metrics._training import Training, copied, seed_of, train_model, with_fresh_weights
from harness.registry import METRICS
from harness.task import CLASSES
from metric_worlds import explaining, on, samples

SHORT = {"weight_seeds": 2, "epochs": 8, "rate": 0.02, "batch_size": 32}
TUNING = {"segments": "unit", "epochs": 3, "batch_size": 16}

pytestmark = pytest.mark.usefixtures("seed")


def pointing_at(column):
    """An explainer that always finds this column the most important, and then the columns after it."""

    def explainer(model, inputs, targets):
        return ((inputs.shape[1] + column - torch.arange(inputs.shape[1]) - 1) % inputs.shape[1]).float().expand_as(
            inputs
        ) + 0 * inputs

    return explainer


def after(column):
    """The most important column is the one after this one, which comes last."""
    return pointing_at(column + 1)


class World:
    """A table of six columns, of which the third alone holds the class; the model itself has learnt nothing."""

    def __init__(self, columns=6, holds=2):
        self.model = nn.Sequential(
            nn.Linear(columns, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2)
        ).eval()
        self.train, self.inputs = torch.randn(160, columns), torch.randn(60, columns)
        for part in (self.train, self.inputs):
            part[:, holds] += part[:, holds].sign()
        self.train_labels, self.labels = (self.train[:, holds] > 0).long(), (self.inputs[:, holds] > 0).long()

    def samples(self, **more):
        given = {"train": self.train, "train_labels": self.train_labels, "labels": self.labels} | more
        return samples(self.model, self.inputs, self.labels, **given)

    def batch(self, explainer, made=None):
        made = made or self.samples()
        by = explaining(explainer, self.model)
        return make_batch(made, by(made), by)


@pytest.fixture
def world(seed):
    return World()


def test_a_map_that_finds_the_column_of_the_class_takes_it_from_the_retrained_models(world):
    found = on("roar", world.batch(pointing_at(2)), **SHORT)
    missed = on("roar", world.batch(after(2)), **SHORT)
    assert found.curves.shape == (60, 6) and missed.curves[:, 0].mean() > 0.9
    assert torch.equal(found.curves[:, 0], missed.curves[:, 0])  # whole inputs are the same for all explainers
    assert 0.3 < found.values.mean() < 0.7 and missed.values.mean() > 0.9
    torch.testing.assert_close(found.values, found.curves[:, 1:].mean(1))
    assert set((found.curves * 2).unique().tolist()) <= {0, 1, 2}


def test_what_is_kept_alone_is_what_is_learnt(world):
    found = on("roar", world.batch(pointing_at(2)), **SHORT, keep=True, percents="15 40")
    missed = on("roar", world.batch(after(2)), **SHORT, keep=True, percents="15 40")
    assert found.values.mean() > 0.9 and 0.3 < missed.values.mean() < 0.7


def test_right_is_what_the_data_says_and_not_the_class_that_is_explained(world):
    by = explaining(after(2), world.model)
    made = samples(
        world.model,
        world.inputs,
        1 - world.labels,
        train=world.train,
        train_labels=world.train_labels,
        labels=world.labels,
    )
    assert on("roar", make_batch(made, by(made), by), **SHORT).values.mean() > 0.9


@pytest.mark.parametrize("keep", [False, True])
def test_the_top_share_becomes_the_training_mean_in_training_and_test_inputs_alike(world, keep, monkeypatch):
    learnt = []
    monkeypatch.setattr(retraining, "_retrained", lambda train, inputs, recipe, seeds: learnt.append(inputs) or [])
    monkeypatch.setattr(
        retraining, "_accuracy_of", lambda samples, models, inputs: learnt.append(inputs) or inputs.new_zeros(60)
    )
    monkeypatch.setattr(retraining, "_learnt_nothing", lambda train, models: False)
    on("roar", world.batch(pointing_at(0)), percents="1 50 99", keep=keep)
    mean = world.train.mean(0)
    for whole, *parts in ((world.train, *learnt[:4]), (world.inputs, *learnt[4:])):
        assert torch.equal(parts[0], whole)
        for part, top in zip(parts[1:], (1, 3, 5), strict=True):
            gone = (torch.arange(6) < top) ^ keep
            torch.testing.assert_close(part[:, gone], mean[gone].expand_as(part[:, gone]))
            assert torch.equal(part[:, ~gone], whole[:, ~gone])


def test_training_maps_are_of_the_predicted_class_and_made_once(world):
    calls = []

    def explainer(model, inputs, targets):
        calls.append((inputs, targets))
        return inputs.clone()

    made = world.samples()
    batch = world.batch(explainer, made)
    calls.clear()
    for options in ({}, {"keep": True}, {"percents": "30"}):
        on("roar", batch, **SHORT | {"epochs": 1, "weight_seeds": 1}, **options)
    explained, classes = (torch.cat(parts) for parts in zip(*calls, strict=True))
    predicted = world.model(world.train).argmax(1)
    mine = torch.isin(explained[:, 0], world.train[:, 0])  # the others are samples with another target
    assert torch.equal(explained[mine], world.train) and torch.equal(classes[mine], predicted)
    assert not torch.equal(predicted, world.train_labels)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("target", ["label", "predicted"])
def test_a_map_that_codes_nothing_but_the_class_cannot_foretell_random_labels(target, keep, seed):
    """Its units are those of one half for class 0 and those of the other for class 1; what is in them is noise."""
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    train, inputs, train_labels, labels = (
        torch.randn(300, 20),
        torch.randn(200, 20),
        torch.randint(2, (300,)),
        torch.randint(2, (200,)),
    )

    def codes_the_class(model, inputs, targets):
        return ((torch.arange(20) < 10) == (targets[:, None] == 1)).float() + 0 * inputs

    made = samples(
        model,
        inputs,
        labels if target == "label" else model(inputs).argmax(1),
        train=train,
        train_labels=train_labels,
        labels=labels,
    )
    by = explaining(codes_the_class, model)
    found = on("roar", make_batch(made, by(made), by), **SHORT, keep=keep, percents=50).values.mean()
    assert abs(found - 0.5) < 0.15  # four standard errors


def test_models_are_trained_once_for_an_explainer_and_on_whole_inputs_once_for_all(world, monkeypatch):
    trained = []
    original = retraining.train_model
    monkeypatch.setattr(retraining, "train_model", lambda *given: trained.append(given[-1]) or original(*given))
    frame = harness.evaluate(
        world.model,
        harness.Data(world.inputs, world.labels, train_labels=world.train_labels),
        explainers=["input_x_gradient", "saliency"],
        metrics={"roar": {**SHORT, "epochs": 1}},
        train=world.train,
    )
    assert (frame.status == "ok").all() and len(trained) == 2 * (1 + 2 * 5)
    assert sorted(set(trained)) == sorted({seed_of(0, f"roar {number}") for number in range(2)})


@pytest.mark.parametrize("metric", ["roar", "idsds"])
def test_model_inputs_and_random_numbers_come_back_as_they_were_and_scores_are_the_same_again(metric, world):
    options = SHORT | {"epochs": 2} if metric == "roar" else TUNING
    explainer = lambda model, inputs, targets: inputs * torch.rand(inputs.shape[1]) + model[0].weight.sum(0)
    weights, train, state = copy.deepcopy(world.model.state_dict()), world.train.clone(), torch.get_rng_state()
    first = on(metric, world.batch(explainer), **options)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(world.train, train)
    assert all(torch.equal(weights[name], tensor) for name, tensor in world.model.state_dict().items())
    assert all(each.grad is None for each in world.model.parameters()) and not world.model.training
    torch.rand(3)
    threads = torch.get_num_threads()
    second = on(metric, world.batch(explainer), **options)
    assert torch.equal(first.values, second.values) and first.values.std() > 0
    assert torch.get_num_threads() == threads
    other = on(metric, world.batch(explainer, world.samples(seed=1)), **options)
    assert not torch.equal(first.values, other.values)


@pytest.mark.parametrize("metric", ["roar", "idsds"])
def test_a_sample_alone_scores_as_in_company(metric, world):
    options = SHORT | {"epochs": 2} if metric == "roar" else TUNING
    explainer = lambda model, inputs, targets: inputs * model[0].weight.sum(0).detach()
    together = on(metric, world.batch(explainer), **options).values[:3]
    for i in range(3):
        world.inputs, world.labels, (inputs, labels) = (
            world.inputs[i:][:1],
            world.labels[i:][:1],
            (world.inputs, world.labels),
        )
        torch.testing.assert_close(on(metric, world.batch(explainer), **options).values, together[i:][:1])
        world.inputs, world.labels = inputs, labels


def test_fresh_weights_are_new_for_each_seed_and_forget_running_statistics(seed):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False)).eval()
    model[1].running_mean.fill_(7.0), model[2].running_mean.fill_(7.0)
    model[1].weight.data.fill_(5.0)
    first, again, other = (with_fresh_weights(model, seed) for seed in (1, 1, 2))
    assert torch.equal(first[0].weight, again[0].weight) and not torch.equal(first[0].weight, other[0].weight)
    assert not torch.equal(first[0].weight, model[0].weight) and (first[1].weight == 1).all()
    assert (first[1].running_mean == 0).all() and (first[2].running_mean == 0).all()
    assert (model[1].running_mean == 7).all()


def test_training_draws_from_its_seed_alone_and_follows_its_recipe(world):
    def train(seed, **recipe):
        model = train_model(
            with_fresh_weights(world.model, 0),
            CLASSES,
            lambda rows, _: world.train[rows],
            world.train_labels,
            Training(**{"epochs": 2, "rate": 0.01, "batch_size": 50} | recipe),
            seed,
        )
        assert not model.training and all(each.grad is None for each in model.parameters())
        return model[0].weight.detach()

    first = train(3)
    assert torch.equal(train(3), first)
    for other in (train(4), train(3, epochs=3), train(3, rate=0.02), train(3, batch_size=80)):
        assert not torch.equal(other, first)
    assert torch.equal(train(3, epochs=0), with_fresh_weights(world.model, 0)[0].weight)
    world.model.requires_grad_(False)
    assert torch.equal(train(3), first)  # whether the model's own weights are frozen makes no difference
    with torch.inference_mode():
        assert torch.equal(train(3), first)
        tuned = copied(world.model)
        train_model(tuned, CLASSES, lambda rows, _: world.train[rows], world.train_labels, Training(1, 0.01, 50), 0)
    assert not torch.equal(tuned[0].weight, world.model[0].weight)


def test_what_fails_in_training_leaves_no_trace(world, monkeypatch):
    def failing(*_):
        raise RuntimeError("no")

    kernels, state, threads = torch.backends.cudnn.deterministic, torch.get_rng_state(), torch.get_num_threads()
    with pytest.raises(RuntimeError, match="no"):
        train_model(copy.deepcopy(world.model), CLASSES, failing, world.train_labels, Training(1, 0.1, 8), 0)
    assert torch.backends.cudnn.deterministic == kernels and torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state) and torch.is_grad_enabled()


def test_without_an_epoch_in_domain_deletion_is_single_deletion(world):
    explainer = lambda model, inputs, targets: inputs * model[0].weight.sum(0)
    for options in ({"segments": "unit"}, {"segments": "unit", "score": "probability", "baseline": "train_mean"}):
        plain = on("single_deletion", world.batch(explainer), **options)
        tuned = on("idsds", world.batch(explainer), **options, epochs=0)
        torch.testing.assert_close(tuned.values, plain.values, equal_nan=True)
        assert not torch.equal(on("idsds", world.batch(explainer), **options).values, plain.values)


def test_the_fine_tuned_copy_is_what_is_explained_and_what_deletions_are_made_on(world):
    models = []

    def contributions(model, inputs, targets):
        models.append(model)
        return inputs * (model.weight[targets])

    world.model = nn.Linear(6, 2).eval()
    made = world.samples()
    by = explaining(contributions, world.model)
    wrong = make_batch(made, torch.randn(60, 6), by)  # the map of the model itself has no part in it
    found = on("idsds", wrong, **TUNING, score="logit", baseline="zero")
    torch.testing.assert_close(found.values, torch.ones(60).double())
    assert world.model not in models and len({id(model) for model in models}) == 1
    assert not torch.equal(models[0].weight, world.model.weight)


def test_half_of_the_inputs_are_whole_and_half_lack_one_group_in_fine_tuning(world, monkeypatch):
    seen = []

    def note(model, task, build, labels, recipe, seed):
        seen.append(build(torch.arange(160), torch.Generator().manual_seed(seed)))
        return model

    monkeypatch.setattr(retraining, "train_model", note)
    on("idsds", world.batch(pointing_at(2)), **TUNING, baseline="zero")
    missing = (seen[0] == 0) & (world.train != 0)
    assert torch.equal(seen[0][~missing], world.train[~missing])
    assert set(missing.sum(1).tolist()) == {0, 1} and 0.3 < missing.any(1).double().mean() < 0.7
    assert (missing.sum(0) > 0).all()


def test_fine_tuning_is_done_once_for_all_explainers_and_learns_to_do_without(world, monkeypatch):
    tuned = []
    original = retraining.train_model
    monkeypatch.setattr(retraining, "train_model", lambda *given: tuned.append(original(*given)) or tuned[-1])
    frame = harness.evaluate(
        world.model,
        harness.Data(world.inputs, world.labels, train_labels=world.train_labels),
        explainers=["input_x_gradient", "saliency", "occlusion"],
        metrics={"idsds": {**TUNING, "epochs": 20, "rate": 0.01}},
        train=world.train,
    )
    assert (frame.status == "ok").all() and len(tuned) == 1 and frame.value.notna().any()
    without = world.train.clone()
    without[:, 0] = 0  # a column that means nothing
    assert (tuned[0](without).argmax(1) == world.train_labels).double().mean() > 0.9


def test_images_and_their_patches_serve_too(seed):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    given = {
        "train": torch.randn(24, 2, 8, 8),
        "train_labels": torch.randint(3, (24,)),
        "labels": torch.tensor([0, 1, 2]),
    }
    made = samples(model, torch.randn(3, 2, 8, 8), torch.tensor([2, 1, 0]), **given)
    by = explaining(lambda model, inputs, targets: inputs.sum(1, keepdim=True), model)
    batch = make_batch(made, by(made), by)
    assert on("idsds", batch, epochs=1).values.isfinite().all()
    assert on("roar", batch, **SHORT | {"epochs": 30}).curves.shape == (3, 6)


@pytest.mark.parametrize("metric", ["roar", "idsds", "f_fidelity", "label_randomization"])
def test_training_that_diverges_gives_a_reason_and_no_score(world, metric):
    """Labels that nothing tells, at a rate at which weights grow into the hundreds."""
    options = {name: value for name, value in SHORT.items() if name in METRICS[metric].options} | {"rate": 10.0}
    world.train_labels = torch.randint(2, (160,))
    world.model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    with pytest.raises(NotApplicable, match=r"diverged: its loss went from .* \(give less than rate=10\)"):
        on(metric, world.batch(pointing_at(2)), **options)


def test_models_that_have_learnt_nothing_lose_nothing(world):
    found = on("roar", world.batch(pointing_at(2)), **SHORT | {"rate": 1e-9})
    assert found.values.isnan().all() and "right on no more" in found.reason


@pytest.mark.parametrize("metric", ["roar", "idsds"])
def test_what_cannot_be_is_said(metric, world):
    options = {"segments": "unit"} if metric == "idsds" else {}
    explainer = pointing_at(2)
    for missing, words in (
        ({"train": None, "train_labels": None}, "train"),
        ({"train_labels": None}, "train"),
        ({"train_labels": torch.randn(160)}, "classes"),
    ):
        with pytest.raises(NotApplicable, match=words):
            on(metric, world.batch(explainer, world.samples(**missing)), **options)
    with pytest.raises(NotApplicable, match="most_work=100"):
        on(metric, world.batch(explainer), **options, most_work=100)
    with pytest.raises(NotApplicable, match="explainer"):
        on(metric, make_batch(world.samples(), torch.randn(60, 6), None), **options)
    for wrong in ({"epochs": -1}, {"batch_size": 0}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            on(metric, world.batch(explainer), **options, **wrong)
    world.model = nn.Linear(6, 1).eval()
    world.labels = torch.zeros_like(world.labels)
    with pytest.raises(NotApplicable, match="classes"):
        on(metric, world.batch(explainer), **options)


def test_accuracy_needs_labels_and_an_order_needs_units(world):
    made = world.samples()
    made.labels = None
    with pytest.raises(NotApplicable, match="labels"):
        on("roar", world.batch(pointing_at(2), made))
    with pytest.raises(UserError, match="weight_seeds"):
        on("roar", world.batch(pointing_at(2)), weight_seeds=0)
    with pytest.raises(NotApplicable, match="single unit"):
        one = World(columns=1, holds=0)
        on("roar", one.batch(pointing_at(0)))


def test_maps_of_training_inputs_that_are_not_finite_are_an_error(world):
    explainer = lambda model, inputs, targets: inputs.log() if len(inputs) == 16 else inputs
    made = world.samples()
    by = explaining(explainer, world.model)
    with pytest.raises(UserError, match="NaN"):
        on("roar", make_batch(made, torch.randn(60, 6), by), **SHORT)


def test_parameters_make_the_size_of_what_is_trained(world):
    count = sum(each.numel() for each in world.model.parameters())
    made = world.samples()
    assert len(_training.training_samples(made, count * 160)) == 160
    with pytest.raises(NotApplicable):
        _training.training_samples(made, count * 160 - 1)
