"""What is asked, explained and scored does not depend on the company of a sample, its padding or a wrapper."""

import pytest
import torch
from torch import nn

import harness


def classifier(outputs=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, outputs)).eval()


def test_a_classifier_is_scored_class_by_class_as_it_is_all_together():
    net, x, train = classifier(), torch.randn(9, 5), torch.randn(20, 5)
    targets = torch.arange(9) % 3
    together = harness.score("deletion", net, x, targets, x, train=train)
    for each in range(3):
        rows = targets == each
        alone = harness.score("deletion", net, x[rows], targets[rows], x[rows], train=train)
        assert torch.allclose(alone, together[rows])


def test_of_a_bare_linear_layer_and_one_target_for_all_it_is_asked_what_the_outputs_are():
    net, x = nn.Linear(5, 3).eval(), torch.randn(4, 5)
    targets, more = torch.ones(4, dtype=torch.long), {"baseline": "zero"}
    with pytest.raises(harness.NotApplicable, match="say task='classes'"):
        harness.score("deletion", net, x, targets, x, **more)
    told = harness.score("deletion", net, x, targets, x, task="classes", **more)
    assert torch.equal(told, harness.score("deletion", net, x, targets, x, labels=targets, **more))
    numbers = harness.score("deletion", net, x, targets, x, task="regression", **more)
    assert not torch.allclose(told, numbers)


@pytest.mark.parametrize("name", ["tree_surrogate", "linear_surrogate", "mutual_information", "random_forest"])
def test_of_independent_labels_a_global_explanation_is_about_the_explained_one(name):
    torch.manual_seed(0)
    net = nn.Linear(4, 2).eval()
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 0, 0, 0], [0, 0, 3.0, 0]]))
    x, train = torch.randn(5, 4), torch.randn(300, 4)
    tags = torch.tensor([[1, 1], [0, 1], [1, 0], [0, 0], [1, 1]])
    data = lambda targets: harness.Data(x, targets, labels=tags, train=train)
    first, second = (harness.explain(name, net, data(target)) for target in (0, 1))
    assert (first.abs().argmax(1) == 0).all() and (second.abs().argmax(1) == 2).all()
    with pytest.raises(harness.NotApplicable, match="one output for all samples"):
        harness.explain(name, net, data(torch.arange(5) % 2))


def test_the_change_of_one_output_is_the_same_whether_it_is_a_number_or_a_logit():
    net, x, train = classifier(1), torch.randn(6, 5), torch.randn(20, 5)
    more = {"train": train, "explainer": "gradient"}
    score = lambda task: harness.score(
        "relative_output_stability",
        net,
        x,
        None if task == "regression" else (net(x)[:, 0] > 0).long(),
        x,
        task=task,
        **more,
    )
    number, logit = score("regression"), score("binary")
    same = number.isfinite() & logit.isfinite()
    ratio = number[same] / logit[same]
    assert ((ratio - 1).abs() < 1e-4).any() and (ratio < 1.4).any()


def test_layers_keep_the_names_of_the_users_module_behind_a_wrapper():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    images = torch.rand(2, 3, 8, 8)
    maps = harness.explain("grad_cam", net, images, task="segmentation", layer="0")
    assert maps.shape[0] == 2 and maps.isfinite().all()
