"""Tables about people: as published, encoded by their training part, with their sensitive attributes apart."""

import pytest
import torch

import harness
from harness.datasets.german_credit import STATUS_AND_SEX
from harness.datasets.people import SEX_AND_RACE
from harness.errors import UserError
from harness.models import training
from harness.models.table_linear import LINEAR_RECIPES
from harness.models.table_mlp import MLP_RECIPES
from named_options import data_set, model_named

# train, test, columns, numbers, numbers without the sensitive columns
SIZES = {
    "adult": (30_162, 15_060, 12, 87, 80),
    "compas": (4_114, 2_058, 8, 15, 7),
    "german_credit": (700, 300, 20, 61, 57),
    "diabetes": (331, 111, 10, 10, None),
}
SENSITIVE = ["adult", "compas", "german_credit"]
# What each is right about on samples that it has not seen, with room for another processor's rounding.
FLOORS = {
    "compas_mlp": ("compas", 0.65),
    "german_mlp": ("german_credit", 0.72),
    "compas_linear": ("compas", 0.65),
    "german_linear": ("german_credit", 0.72),
    "cancer_linear": ("breast_cancer", 0.93),
    "adult_linear": ("adult", 0.83),
}


@pytest.fixture(scope="module")
def tables():
    """The test part of every table."""
    return {name: data_set(name)() for name in SIZES}


@pytest.mark.parametrize("name", SIZES)
def test_a_table_has_the_published_number_of_rows_and_a_unit_for_each_column(name, tables):
    data, (train, test, columns, numbers, _) = tables[name], SIZES[name]
    assert (len(data.train), len(data)) == (train, test) and data.inputs.shape[1] == numbers
    assert len(data.unit_names) == columns and set(data.columns) == set(range(columns))
    assert len(data.labels) == test and len(data.train_labels) == train and len(set(data.ids)) == test


@pytest.mark.parametrize("name", SIZES)
def test_numbers_are_standardised_by_the_training_part_and_categories_are_one_hot(name, tables):
    data, columns = tables[name], torch.tensor(tables[name].columns)
    several = columns.bincount()[columns] > 1
    numbers, ones = data.train[:, ~several], torch.cat([data.train, data.inputs])[:, several]
    assert torch.allclose(numbers.mean(0), torch.zeros(numbers.shape[1]), atol=1e-4)
    assert torch.allclose(numbers.std(0, correction=0), torch.ones(numbers.shape[1]), atol=1e-3)
    assert ((ones == 0) | (ones == 1)).all()
    for column in columns[several].unique():
        assert (data.inputs[:, columns == column].sum(1) == 1).all()


@pytest.mark.parametrize("name", SENSITIVE)
def test_without_the_sensitive_columns_the_groups_remain(name, tables):
    data, without = tables[name], data_set(name)(with_sensitive=False)
    assert without.inputs.shape[1] == SIZES[name][4]
    missing = set(data.unit_names) - set(without.unit_names)
    assert missing == ({STATUS_AND_SEX} if name == "german_credit" else set(SEX_AND_RACE))
    assert without.groups == data.groups and without.ids == data.ids and torch.equal(without.labels, data.labels)


@pytest.mark.parametrize(
    ("name", "column", "group"),
    [
        ("adult", "sex", "sex"),
        ("adult", "race", "race"),
        ("compas", "race", "race"),
        ("compas", "sex", "sex"),
    ],
)
def test_the_groups_are_what_the_columns_say(name, column, group, tables):
    data = tables[name]
    own = torch.tensor(data.columns) == data.unit_names.index(column)
    order = sorted(set(data.groups[group]))
    codes = data.inputs[:, own].argmax(1).tolist()
    categories = sorted({*order}) if len(order) == int(own.sum()) else None
    assert categories is not None and [categories[code] for code in codes] == data.groups[group]


def test_counts_by_group_are_those_of_the_published_files(tables):
    whole = {name: [data_set(name)(split=part).groups for part in ("train", "test")] for name in SENSITIVE}
    count = lambda name, group, value: sum(part[group].count(value) for part in whole[name])
    assert count("adult", "sex", "Female") == 14_695
    assert count("compas", "race", "African-American") == 3_175 and count("compas", "race", "Caucasian") == 2_103
    assert count("german_credit", "sex", "female") == 310


@pytest.mark.parametrize(("name", "share"), [("adult", 0.2457), ("compas", 0.4552), ("german_credit", 0.3)])
def test_the_second_class_is_as_frequent_as_published(name, share, tables):
    assert tables[name].labels.float().mean().item() == pytest.approx(share, abs=1e-3)


def test_diabetes_is_a_number_to_predict_standardised_by_the_training_part(tables):
    data = tables["diabetes"]
    assert data.labels.is_floating_point() and data.classes is None
    assert abs(data.train_labels.mean()) < 1e-5 and abs(data.train_labels.std(correction=0) - 1) < 1e-5


@pytest.mark.parametrize("name", SIZES)
def test_an_unknown_part_is_one_line(name):
    words = f"option split of {name} is 'tset', expected test or train; did you mean 'test'"
    with pytest.raises(UserError, match=words):
        data_set(name)(split="tset")


@pytest.fixture
def cache(monkeypatch):
    """Models are trained here, whatever was trained before; wheels stay where they are."""
    monkeypatch.setattr(training, "cached_state", lambda name, identity, train: train())


@pytest.mark.parametrize("name", FLOORS)
def test_the_model_is_right_on_people_it_was_not_trained_on(name, cache):
    table, floor = FLOORS[name]
    data, loaded = data_set(table)(), model_named(name)()
    with torch.inference_mode():
        right = (loaded.module(data.inputs).argmax(1) == data.labels).float().mean()
    assert right > floor > data.labels.bincount().max() / len(data) - 0.01
    assert loaded.classes == data.classes and not any(p.requires_grad for p in loaded.module.parameters())


@pytest.mark.parametrize("name", ["diabetes_mlp", "diabetes_linear"])
def test_the_regressions_explain_half_of_the_variance(name, cache, tables):
    data = tables["diabetes"]
    left = (model_named(name)().module(data.inputs)[:, 0] - data.labels).square().sum()
    assert 1 - left / (data.labels - data.labels.mean()).square().sum() > 0.45


@pytest.mark.parametrize(
    "recipe",
    [*MLP_RECIPES.values(), *LINEAR_RECIPES.values()],
    ids=lambda recipe: recipe.name,
)
def test_a_network_fits_the_numbers_of_its_table(recipe):
    inputs, labels = recipe.load_split()["test"][:2]
    outputs = recipe.build()(inputs[:4])
    assert outputs.shape == (4, 1 if labels.is_floating_point() else 2)
    if recipe.shallow:
        assert recipe.shallow()(inputs[:4]).shape == outputs.shape


def test_a_single_output_has_no_class_that_is_right_or_wrong_whatever_numbers_the_labels_are():
    linear = torch.nn.Linear(3, 1).eval()
    frame = harness.evaluate(
        linear, torch.randn(2, 3), torch.zeros(2).long(), explainers="gradient", metrics="sparseness"
    )
    assert frame["label"].isna().all()
