"""Digits and breast cancer: one split each, and small models that are trained on it once."""

from dataclasses import replace

import pytest
import torch

from harness.datasets import breast_cancer
from harness.errors import UserError
from harness.models import cancer_mlp, digits_cnn, training
from harness.registry import MODELS
from named_options import data_set, model_named

PAIRS = {"digits_cnn": ("digits", 0.97), "cancer_mlp": ("breast_cancer", 0.93)}
SPLITS = {"digits": (1297, 500, 10), "breast_cancer": (400, 169, 2)}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def accuracy(module, data):
    with torch.inference_mode():
        return (module(data.inputs).argmax(1) == data.labels).float().mean()


@pytest.mark.parametrize("name", PAIRS)
def test_the_model_is_right_on_samples_it_was_not_trained_on(name):
    data, floor = PAIRS[name]
    loaded = model_named(name)()
    assert accuracy(loaded.module, data_set(data)()) > floor
    assert not loaded.module.training and not any(p.requires_grad for p in loaded.module.parameters())
    assert loaded.classes == data_set(data)().classes


@pytest.fixture
def trainings(monkeypatch):
    """Grows by one with each training."""
    made, adam = [], torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda *given, **options: made.append(1) or adam(*given, **options))
    return made


@pytest.mark.parametrize("name", PAIRS)
def test_a_second_load_trains_nothing_and_gives_the_same_weights(name, trainings):
    first, again = (model_named(name)(epochs=3).module.state_dict() for _ in range(2))
    assert len(trainings) == 1
    assert all(torch.equal(tensor, again[key]) for key, tensor in first.items())


def test_another_seed_number_of_epochs_or_code_is_another_training(trainings, monkeypatch):
    for options in ({"epochs": 1}, {"epochs": 2}, {"epochs": 1, "seed": 3}, {"epochs": 1}):
        model_named("cancer_mlp")(**options)
    assert len(trainings) == 3
    monkeypatch.setattr(training, "source_digest", lambda *_: "changed")
    model_named("cancer_mlp")(epochs=1)
    assert len(trainings) == 4


def test_the_training_code_covers_the_network_the_trainer_and_the_split():
    network, split, trainer = cancer_mlp.build, breast_cancer.load_split, training.train_network
    sets = ((network, split, trainer), (network, split), (split, trainer), (network, trainer))
    assert len({training.source_digest(*functions) for functions in sets}) == 4


def test_training_repeats_bit_by_bit_whatever_the_threads_and_leaves_the_random_state_alone(seed):
    once = replace(digits_cnn.RECIPE, epochs=1)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        first = training.train_network(once, seed=seed)
        torch.set_num_threads(threads + 1)
        second = training.train_network(once, seed=seed)
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", ["digits_cnn", "cancer_mlp", "torchvision"])
def test_the_seed_of_a_model_is_one_of_its_options(name):
    assert MODELS[name].options["seed"] == 0


def test_the_digits_cnn_uses_relu_alone_and_none_in_place():
    module = digits_cnn.build()
    activations = [part for part in module if not list(part.parameters()) and not hasattr(part, "kernel_size")]
    assert {type(part).__name__ for part in activations} == {"ReLU", "Flatten"}
    assert not any(getattr(part, "inplace", False) for part in module)
    assert sum(parameter.numel() for parameter in module.parameters()) == 22_954


@pytest.mark.parametrize("name", SPLITS)
def test_a_split_has_no_sample_twice_and_keeps_the_shares_of_the_classes(name):
    train_size, test_size, classes = SPLITS[name]
    parts = {split: data_set(name)(split=split) for split in ("train", "test")}
    assert (len(parts["train"]), len(parts["test"])) == (train_size, test_size)
    assert len({*parts["train"].ids, *parts["test"].ids}) == train_size + test_size
    shares = [parts[split].labels.bincount(minlength=classes) / len(parts[split]) for split in parts]
    assert (shares[0] - shares[1]).abs().max() < 0.01
    assert torch.equal(parts["test"].train, parts["train"].inputs)


@pytest.mark.parametrize("name", SPLITS)
def test_an_unknown_split_is_one_line(name):
    with pytest.raises(UserError, match="option split of .* is 'tset', expected test or train; did you mean 'test'"):
        data_set(name)(split="tset")


def test_digits_are_the_ones_of_scikit_learn_between_nought_and_one():
    from sklearn.datasets import load_digits

    data, original = data_set("digits")(), load_digits()
    row = int(data.ids[7].removeprefix("digit_"))
    assert torch.equal(data.inputs[7], torch.tensor(original.images[row]).float()[None] / 16)
    assert data.labels[7] == original.target[row] and data.modality == "image"
    assert data.inputs.min() == 0 and data.inputs.max() == 1 and data.value_range == (0.0, 1.0)


def test_the_cancer_table_is_standardised_by_its_training_part():
    data = data_set("breast_cancer")()
    assert torch.allclose(data.train.mean(0), torch.zeros(30), atol=1e-5)
    assert torch.allclose(data.train.std(0, unbiased=False), torch.ones(30), atol=1e-5)
    low, high = data.value_range
    assert low.shape == high.shape == (30,) and (data.train >= low).all() and (data.train <= high).all()
    assert len(data.unit_names) == 30 and data.unit_names[0] == "mean radius" and data.modality == "table"
    radius, malignant = data.inputs[:, 0], data.labels == data.classes.index("malignant")
    assert radius[malignant].mean() > radius[~malignant].mean()
