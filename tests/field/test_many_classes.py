"""A model of a hundred thousand classes is explained and scored as any other."""

import pytest
import torch

import harness

CLASSES = 100_000


@pytest.mark.parametrize("explainer", ["gradient", "rise"])
def test_a_model_of_a_hundred_thousand_classes_has_scores(explainer, seed):
    torch.manual_seed(seed)
    net, inputs = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, CLASSES)).eval(), torch.rand(2, 3, 4, 4)
    options = {"samples": 20} if explainer == "rise" else {}
    frame = harness.evaluate(
        net,
        inputs,
        net(inputs).argmax(1),
        explainers={explainer: options},
        metrics={"deletion": {"steps": 4}, "sparseness": {}},
    )
    assert set(frame["status"]) == {"ok"} and frame["value"].notna().all()
