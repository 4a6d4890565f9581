"""A table in other units of measurement, with a model that undoes them, has the same explanations and scores.

A column in cents instead of euros is the same column. So maps are the same as contributions: those of the local
convention, like gradients, times the unit of their column. Factors are powers of two, which floats multiply by exactly.
"""

import warnings

import pytest
import torch
from torch import nn

import harness
from harness.registry import EXPLAINERS, METRICS

UNITS = torch.tensor([1.0, 64.0, 1 / 64, 1024.0, 0.5, 8.0])
COLUMNS, COUNT, TRAIN = len(UNITS), 5, 80
SQUARED = ("smoothgrad_squared", "vargrad")  # in squared units
SMALL = {"samples": 60, "steps": 12, "permutations": 4, "draws": 8, "epochs": 2, "initialisations": 1, "repeats": 2}
NO_CLAIM = {
    "input_magnitude": "it is the size of the input in its own unit, as its docstring says",
    "captum_lime": "captum weighs coalitions by the cosine of inputs as they are",
    "explainer_disagreement": "its reference, the gradient, is in units of the columns",
    "input_invariance": "its shift is in units of the inputs, as its docstring says",
    **dict.fromkeys(
        (
            "parameter_randomization",
            "efficient_parameter_randomization",
            "smooth_parameter_randomization",
            "chance_similarity",
            "sanity",
        ),
        "random weights see inputs as they are",
    ),
    **dict.fromkeys(("roar", "idsds", "label_randomization", "f_fidelity"), "a net is trained on inputs as they are"),
}


@pytest.fixture(autouse=True)
def draws_of_the_same_samples(monkeypatch):
    """Random numbers depend on the content of a sample, which another unit changes; here on its number alone."""
    numbered = lambda inputs: torch.arange(len(inputs), device=inputs.device)
    for module in ("engine.stage", "engine.present_units", "removal.originals"):
        monkeypatch.setattr(f"harness.{module}.sample_keys", numbered)


def world(units):
    """The net and data in these units."""
    generator = torch.Generator().manual_seed(4)
    inputs, train = (torch.randn(count, COLUMNS, generator=generator) + 0.5 for count in (COUNT, TRAIN))
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(COLUMNS, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        labels = net(train).argmax(1)
        net[0].weight.div_(units)
    truth = torch.randn(COUNT, COLUMNS, generator=generator)
    return net, harness.Data(
        inputs * units,
        torch.arange(COUNT) % 3,
        train=train * units,
        train_labels=labels,
        truth=truth,
        masks=truth > 0,
        modality="table",
    )


def small(entry):
    options = {name: value for name, value in SMALL.items() if isinstance(entry.options.get(name), int)}
    return options | ({"beta": 10.0} if "beta" in entry.options else {})  # the net has ReLUs


def found_in(units, call):
    """What a call gives in each of the two worlds, or why it is not applicable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(*world(units))
    except harness.NotApplicable as refusal:
        return str(refusal)


def same(first, second):
    if isinstance(first, str):
        return first == second
    scale = float(first[first.isfinite()].abs().max()) if first.isfinite().any() else 1.0
    return torch.allclose(first, second, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)


@pytest.mark.parametrize(
    "name", [name for name, entry in EXPLAINERS.items() if "table" in entry.modalities and not entry.stored]
)
def test_the_unit_of_a_column_changes_no_explanation(name):
    if name in NO_CLAIM:
        pytest.skip(NO_CLAIM[name])
    entry = EXPLAINERS[name]
    plain, other = (
        found_in(units, lambda net, data: harness.explain(name, net, data, **small(entry)))
        for units in (torch.ones(COLUMNS), UNITS)
    )
    if entry.convention == "local" and not isinstance(other, str):
        other = other * UNITS ** (2 if name in SQUARED else 1)
    assert same(plain, other), (plain, other)


@pytest.mark.parametrize("name", [name for name, entry in METRICS.items() if entry.kind != "cost"])
def test_the_unit_of_a_column_changes_no_score(name):
    if name in NO_CLAIM:
        pytest.skip(NO_CLAIM[name])
    entry, options = METRICS[name], small(METRICS[name])
    if "similarity" in entry.options:
        options["similarity"] = "spearman"

    def score(net, data):
        maps = harness.explain("input_x_gradient", net, data)
        return harness.score(name, net, data, maps, explainer="input_x_gradient", **options)

    plain, other = (found_in(units, score) for units in (torch.ones(COLUMNS), UNITS))
    assert same(plain, other), (plain, other)


@pytest.mark.parametrize("perturbation", ["gaussian", "subset"])
def test_infidelity_of_a_gradient_is_the_same_in_other_units(perturbation):
    def score(net, data):
        maps = harness.explain("gradient", net, data)
        return harness.score("infidelity", net, data, maps, explainer="gradient", perturbation=perturbation, samples=50)

    assert same(*(found_in(units, score) for units in (torch.ones(COLUMNS), UNITS)))


@pytest.mark.parametrize("name", ["guided_ig", "idgi", "integrated_gradients"])
def test_a_column_that_is_constant_in_the_training_inputs_is_explained_the_same_in_every_unit(name):
    """Its scale is 0, and yet the sample and the baseline differ in it."""

    def explain(net, data):
        train = data.train.clone()
        train[:, 1] = 0
        return harness.explain(name, net, harness.Data(data.inputs, data.targets, train=train), baseline="zero")

    plain, other = (found_in(units, explain) for units in (torch.ones(COLUMNS), UNITS))
    assert same(plain, other) and plain[:, 1].abs().min() > 0


@pytest.mark.parametrize("name", ["smoothgrad", "guided_ig", "idgi"])
def test_without_training_inputs_it_is_said_that_columns_count_in_one_unit(name):
    net, data = world(UNITS)
    with pytest.warns(UserWarning, match="give train="):
        harness.explain(name, net, data.inputs, data.targets)
