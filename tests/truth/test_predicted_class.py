"""The class that outputs predict: none where an output is not a number or all are the same, wherever it is read."""

import math

import pytest
import torch
from torch import nn

import harness
from explainer_worlds import linear_net
from harness.api import make_batch
from harness.engine.clean_outputs import clean_outputs
from harness.engine.protocol import Protocol
from harness.engine.stage import set_stage
from harness.errors import OUTPUTS_NOT_FINITE, UserError
from harness.explainers._decisions import decided
from harness.jobs.accuracy import accuracy_lines
from harness.metrics._mosaic_pool import training_pool
from harness.metrics._outputs import same_class
from harness.predictor import NO_CLASS, UNDECIDED, Predictor, predicted_class
from harness.sources import LoadedModel
from harness.task import CLASSES
from metric_worlds import explaining, gradient, on, samples

pytestmark = pytest.mark.usefixtures("seed")
NAN = math.nan


def test_neither_nan_nor_outputs_that_are_all_the_same_predict_a_class():
    outputs = torch.tensor([[1.0, 3, 2], [NAN, 3, 2], [2, 2, 2], [0, 0, 0], [1, 2, 2], [NAN, NAN, NAN]])
    found = predicted_class(outputs)
    assert found.tolist() == [1, NO_CLASS, UNDECIDED, UNDECIDED, 1, NO_CLASS]
    assert decided(CLASSES, outputs, torch.zeros(6, dtype=torch.long)).tolist() == [False] * 6
    against_first = same_class(found, torch.zeros(6, dtype=torch.long))
    assert against_first.isnan().tolist() == [False, True, False, False, False, True] and not against_first.nansum()
    assert predicted_class(outputs[:, :1]).tolist() == [0, NO_CLASS, 0, 0, 0, NO_CLASS]  # of a single output


class SpoiltByInput(nn.Module):
    """A net whose outputs are multiplied by ``spoil`` where the first number of an input is above 9."""

    def __init__(self, net, spoil):
        super().__init__()
        self.net, self.spoil = net, spoil

    def forward(self, x):
        return self.net(x) * torch.where(x.flatten(1)[:, :1] > 9, self.spoil, 1.0)


def spoilt_rows(net, spoil):
    return SpoiltByInput(net, spoil).eval()


def tcav_table(spoil, **options):
    """The scores of a concept on 12 training images, of which 3 have spoilt outputs."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3))
    train, facts = torch.rand(12, 3, 8, 8), harness.Facts()
    train[3:6, 0, 0, 0] = 10.0
    data = harness.Data(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), train=train, value_range=(0, 1))
    few = {"runs": 10, "images": 2, "layer": "net.0", "concept": "stripes"}
    harness.explain("tcav", spoilt_rows(net, spoil), data, facts=facts, **few, **options)
    return facts.tables["scores"]


def test_tcav_counts_images_without_a_decision_for_no_class_and_refuses_outputs_that_are_no_numbers():
    scores = tcav_table(0.0)
    assert scores.drop_duplicates("class").images.sum() == 9
    for labels in ({}, {"train_labels": torch.zeros(12, dtype=torch.long), "labels": "label"}):
        with pytest.raises(UserError, match="outputs for train hold NaN"):
            tcav_table(NAN, **labels)


@pytest.mark.parametrize(
    ("metric", "options"),
    [("random_logit", {"other": "runner_up"}), ("roar", {"epochs": 30, "rate": 0.05, "weight_seeds": 1})],
)
def test_a_sample_whose_own_outputs_are_no_numbers_has_no_score(metric, options):
    net, _ = linear_net((6,))
    inputs, train = torch.randn(4, 6), torch.randn(30, 6)
    inputs[2, 0] = 10.0
    labels = {"train": train, "train_labels": net(train).argmax(1), "labels": torch.tensor([0, 1, 2, 0])}
    spoilt = spoilt_rows(net, NAN)
    made = samples(spoilt, inputs, torch.tensor([0, 1, 2, 0]), **labels)
    found = on(metric, make_batch(made, torch.randn(4, 6), explaining(gradient, spoilt)), **options)
    assert found.values.isnan().tolist() == [False, False, True, False] and found.reason
    assert metric != "roar" or found.reason == OUTPUTS_NOT_FINITE


def test_a_mosaic_shows_no_training_image_on_which_the_model_is_undecided():
    net, _ = linear_net((1, 4, 4))
    train = torch.randn(20, 1, 4, 4)
    train[:5, 0, 0, 0] = 10.0
    for spoil in (0.0, NAN):
        pool = training_pool(samples(spoilt_rows(net, spoil), torch.randn(2, 1, 4, 4), train=train), 1, 0.0)
        assert sorted(pool.images.tolist()) == list(range(5, 20))


def test_outputs_that_are_no_numbers_choose_no_class_to_explain():
    net, _ = linear_net((6,))
    inputs = torch.randn(3, 6)
    inputs[1, 0] = 10.0
    with pytest.raises(UserError, match="clean inputs hold NaN"):
        clean_outputs(Predictor(spoilt_rows(net, NAN)), inputs, {})


def test_a_run_says_where_the_model_decides_for_no_class_and_counts_it_as_wrong():
    net, _ = linear_net((6,))
    inputs = torch.randn(4, 6)
    inputs[1, 0] = 10.0
    labels = spoilt_rows(net, 0.0)(inputs).argmax(1)
    data = harness.Data(inputs, labels=labels)
    stage = set_stage(LoadedModel(spoilt_rows(net, 0.0)), data, Protocol(target="predicted"), torch.device("cpu"))
    assert any("no class on 1 of 4 samples" in flag for flag in stage.flags)
    assert "right on 3 of 4 samples" in accuracy_lines(stage)[0]
    given = set_stage(LoadedModel(net), data, Protocol(target="predicted"), torch.device("cpu"))
    assert given.flags == [] and "right on" in accuracy_lines(given)[0]
