"""F-Fidelity on a model that is not trained further, whose outputs without random units are known."""

import os

import pytest
import torch
from torch import nn

import harness
from harness.errors import NotApplicable, UserError
from harness.metrics import f_fidelity
from metric_worlds import draw

SEED = int(os.environ["HARNESS_TEST_SEED"])
NOT_TRAINED = {"epochs": 0, "baseline": "zero"}


def linear():
    model = nn.Linear(10, 2, bias=False)
    model.weight.data = torch.stack([torch.arange(1.0, 11), torch.zeros(10)])
    return model.eval()


def score(maps, labels=None, model=None, **options):
    inputs, labels = torch.ones(len(maps), 10), torch.zeros(len(maps)).long() if labels is None else labels
    train = {"train": draw((10,), SEED, 20), "train_labels": torch.arange(20) % 2}
    data = harness.Data(inputs, torch.zeros(len(maps)).long(), labels=labels, **train)
    return harness.score("f_fidelity", model or linear(), data, maps, **{**NOT_TRAINED, **options})


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_a_logit_loses_the_expected_part_of_the_contributions(order):
    maps = draw((10,), SEED, 3)
    for percents, most_chance, removed_share, chance in (
        (40, 0.5, 1.0, 0.5),
        (40, 0.5, 0.1, 0.25),
        (10, 0.5, 0.1, 0.5),
    ):
        options = {
            "percents": percents,
            "most_chance": most_chance,
            "removed_share": removed_share,
            "draws": 3000,
            "order": order,
        }
        part = maps.argsort(1, descending=order == "morf")[:, : percents // 10]
        expected = chance * torch.arange(1.0, 11)[part].sum(1).double()
        torch.testing.assert_close(score(maps, score="logit", **options), expected, rtol=0.1, atol=0)


def test_accuracy_is_of_the_label():
    model = linear()
    model.weight.data[1, 0] = 50.0  # against 55 for class 0, and 45 without the last column
    maps = torch.zeros(2, 10)
    maps[:, 9] = 1
    found = score(maps, labels=torch.tensor([0, 1]), model=model, percents=10, removed_share=1.0, draws=2000)
    assert found.tolist() == pytest.approx([0.5, -0.5], abs=0.06)


def test_training_with_missing_units_changes_the_copy_and_not_the_model():
    model, maps = linear(), draw((10,), SEED, 3)
    before = model.weight.clone()
    first, second = (score(maps, model=model, epochs=3, score="logit") for _ in range(2))
    assert torch.equal(first, second) and torch.equal(model.weight, before)
    assert not torch.equal(first, score(maps, model=model, score="logit"))


@pytest.mark.parametrize(("count", "missing"), [(4, 1), (8, 1), (16, 2), (30, 3)])
def test_training_and_draws_lack_equally_many_units_and_at_least_one(count, missing, monkeypatch):
    built, original = [], f_fidelity.train_model

    def note(model, task, build, *rest):
        built.append(build(torch.arange(20), torch.Generator().manual_seed(SEED)))
        return original(model, task, build, *rest)

    monkeypatch.setattr(f_fidelity, "train_model", note)
    model = nn.Linear(count, 2, bias=False).eval()
    model.weight.data = torch.stack([torch.ones(count), torch.zeros(count)])
    data = harness.Data(
        torch.ones(3, count),
        torch.zeros(3).long(),
        train=torch.ones(20, count),
        train_labels=torch.arange(20) % 2,
    )
    options = {**NOT_TRAINED, "percents": 100, "draws": 3000, "score": "logit"}
    lost = harness.score("f_fidelity", model, data, draw((count,), SEED, 3), **options)
    assert ((built[0] == 0).sum(1) == missing).all()
    torch.testing.assert_close(lost, torch.full((3,), float(missing)).double(), rtol=0.1, atol=0)


def test_what_does_not_fit_is_said():
    maps = draw((10,), SEED, 3)
    for options, text in (
        ({"most_chance": 0.0}, "most_chance"),
        ({"removed_share": 2.0}, "removed_share"),
        ({"draws": 0}, "draws"),
    ):
        with pytest.raises(UserError, match=text):
            score(maps, **options)
    with pytest.raises(NotApplicable, match="train"):
        harness.score("f_fidelity", linear(), torch.ones(3, 10), torch.zeros(3).long(), maps)
