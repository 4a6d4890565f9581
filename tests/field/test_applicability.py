"""Where perturbation and global explainers are not applicable, and why: everywhere else they serve."""

import pytest
import torch
from torch import nn

import harness
from harness.registry import EXPLAINERS
from small_nets import SHAPES, inputs_of, small_net

PERTURBATIONS = (
    "occlusion feature_ablation rise lime kernel_shap shapley_sampling exact_shapley shapley_interactions "
    "sobol_attribution hsic_attribution"
).split()
GLOBALS = (
    "permutation_importance mutual_information rfe random_forest linear_surrogate tree_surrogate rule_list"
).split()
# For each task: the model's outputs, what it ends in, what is told, and whether training labels can be given.
TASKS = {
    "classes": (3, None, "classes", True),
    "probabilities": (3, nn.Softmax(1), "probabilities", True),
    "binary": (1, None, "binary", True),
    "binary probability": (1, nn.Sigmoid(), "binary", True),
    "labels": (3, None, "labels", False),
    "label probabilities": (3, nn.Sigmoid(), "labels", False),
    "a number (N, 1)": (1, None, "regression", True),
    "a number (N,)": (1, nn.Flatten(0), "regression", True),
    "several numbers": (3, None, "regression", False),
}
NUMBERS = [name for name, (_, _, task, _) in TASKS.items() if task == "regression"]
NEIGHBOURS = "needs image or tokens or series or volume inputs"  # RISE's masks are smooth
TABLES = "needs table inputs"  # one number for each column of the data
# (explainer, modality, task) -> why it is not applicable, with None for all.
REASONS = {
    ("rise", "table", None): NEIGHBOURS,
    ("rise", "other", None): NEIGHBOURS,
    **{(name, modality, None): TABLES for name in GLOBALS for modality in SHAPES if modality != "table"},
    **{("rule_list", "table", task): "decides between classes" for task in NUMBERS},
    **{
        ("permutation_importance", "table", task): "needs the labels of the training inputs"
        for task, (_, _, _, labelled) in TASKS.items()
        if not labelled
    },
}
FEW = {"permutations": 2, "trees": 5, "repeats": 2}


def data_of(modality, task):
    """A net, and data for it with training inputs and, where a task's labels are one number a row, their labels."""
    outputs, end, told, labelled = TASKS[task]
    net = small_net(modality, outputs)
    net = net if end is None else nn.Sequential(net, end).eval()
    train = torch.rand(40, *SHAPES[modality], generator=torch.Generator().manual_seed(2))
    labels = net(train).detach().flatten() if told == "regression" else torch.arange(40) % max(outputs, 2)
    given = {"task": told, "train": train, "train_labels": labels if labelled else None}
    single = told == "regression" and outputs == 1
    return net, harness.Data(inputs_of(modality), None if single else torch.tensor([1, 1]), modality=modality, **given)


@pytest.mark.parametrize("modality", SHAPES)
@pytest.mark.parametrize("name", [*PERTURBATIONS, *GLOBALS])
def test_an_explainer_serves_every_kind_of_input_and_task_but_for_a_reason(name, modality, seed):
    options = {option: few for option, few in FEW.items() if option in EXPLAINERS[name].options}
    options |= {"samples": 250} if name in ("lime", "kernel_shap", "rise") else {}
    options |= {"samples": 8} if name in ("sobol_attribution", "hsic_attribution") else {}
    few = name in ("exact_shapley", "shapley_interactions") and modality != "table"
    options |= {"segments": "parts:6"} if few else {}
    for task in TASKS:
        net, data = data_of(modality, task)
        reason = REASONS.get((name, modality, None)) or REASONS.get((name, modality, task))
        if reason is None:
            found = harness.explain(name, net, data, **options)
            assert found.isfinite().all() and found.abs().sum() > 0, task
        else:
            with pytest.raises(harness.NotApplicable, match=reason):
                harness.explain(name, net, data, **options)


@pytest.mark.parametrize("task", ["labels", "several numbers"])
def test_permutation_importance_of_one_of_several_outputs_is_the_growth_of_its_own_squared_error(task, seed):
    """Of z_k = 3 x_k and its own outputs as labels, a permutation of x_k costs 9 times twice the variance of x_k."""
    net, train = nn.Linear(4, 3, bias=False).eval(), torch.randn(400, 4)
    with torch.no_grad():
        net.weight.copy_(3 * torch.eye(3, 4))
    data = harness.Data(train[:2], torch.tensor([1, 1]), train=train, task=TASKS[task][2])
    found = harness.explain("permutation_importance", net, data, labels="predicted")[0]
    assert abs(float(found[1]) - 18 * float(train[:, 1].var())) < 1.5 and not found[[0, 2, 3]].any()


def test_a_rule_list_of_a_label_finds_the_column_that_decides_it(seed):
    net, train = nn.Linear(4, 3).eval(), torch.randn(200, 4)
    with torch.no_grad():
        net.weight.copy_(torch.eye(3, 4) * 5)
        net.bias.zero_()
    for end, target in ((None, 0), (nn.Sigmoid(), 2)):
        model = net if end is None else nn.Sequential(net, end).eval()
        data = harness.Data(train[:2], torch.tensor([target] * 2), train=train, task="labels")
        found = harness.explain("rule_list", model, data)
        assert found[0].argmax() == target and (found[0].sum() - found[0, target]).abs() < 1e-6


def test_exact_shapley_takes_the_datas_own_segments_of_a_wide_table(seed):
    net, x, groups = nn.Linear(20, 3).eval(), torch.rand(2, 20), torch.arange(20) // 4
    data = harness.Data(x, torch.tensor([0, 1]), segments=groups)
    found = harness.explain("exact_shapley", net, data, baseline="zero")
    added = (net.weight.detach()[[0, 1]] * x).view(2, 5, 4).sum(2)
    assert torch.allclose(found.view(2, 5, 4), added[..., None].expand(-1, -1, 4) / 4, atol=1e-5)
