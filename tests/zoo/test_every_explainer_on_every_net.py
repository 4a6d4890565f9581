"""Every explainer on every kind of net: it is right for it or says why not, and none repeats another in silence."""

import itertools

import pytest
import torch

import harness
from budgets import small
from harness.engine.block import explain_each
from harness.engine.item_guard import Failure, ItemGuard
from harness.engine.protocol import Protocol
from harness.engine.selection import choose_several
from harness.engine.stage import set_stage
from harness.errors import NotApplicable
from harness.registry import EXPLAINERS
from harness.sources import LoadedModel
from nets import NETS, SERIES

COUNT = 2

NEED_MORE_THAN_A_NET = {"oracle", "precomputed"}  # a known truth, and a file of maps
SHAPLEY = ("exact_shapley", "kernel_shap", "shapley_sampling", "shapley_interactions")
# Different methods whose maps are equal by definition, and where.
EQUAL_BY_DEFINITION = {
    frozenset({"occlusion", "feature_ablation"}): "on a table a window is a column",
    **{frozenset(pair): "with every coalition enumerated" for pair in itertools.combinations(SHAPLEY, 2)},
    # Owen values are Shapley values where segments hardly interact across branches, as in this Swin.
    **{frozenset({"partition_shap", name}): "with every coalition" for name in SHAPLEY},
    frozenset({"grad_cam", "xgrad_cam"}): "before global average pooling and a linear layer (2008.02312)",
    frozenset({"grad_cam", "hires_cam"}): "before global average pooling and a linear layer (2011.08891)",
    frozenset({"hires_cam", "xgrad_cam"}): "before global average pooling and a linear layer",
    frozenset({"lrp", "attn_lrp"}): "without convolutions: both have the epsilon rule",
    frozenset({"lrp", "input_x_gradient"}): "on dense layers with ReLUs alone",
    frozenset({"grad_cam_pp", "smoothgrad_cam_pp"}): "before a linear layer, whose gradient no noise changes",
}


@pytest.fixture(scope="module", params=NETS)
def tried(request):
    """A net, the error of every explainer that was tried on it and failed, and the maps of the others.

    Each explainer is called on two samples and on one, under the guards of a run, and its maps are audited.
    """
    net, seed = NETS[request.param], 20_261
    torch.manual_seed(seed)
    model = net.make().eval().requires_grad_(False)
    _enliven(model)
    inputs, train = torch.randn(COUNT, *net.shape), torch.randn(40, *net.shape)
    train_labels = torch.randint(net.classes, (40,))
    targets = torch.randint(net.classes, (COUNT,))
    inputs, targets = torch.cat([inputs, inputs[:1] / 2]), targets[[0, 1, 1]]  # the third is explained alone
    data = harness.Data(
        inputs, targets, modality=net.modality, train=train, train_labels=train_labels, value_range=(-4.0, 4.0)
    )
    protocol = Protocol(target="given", explain_batch=COUNT)
    stage = set_stage(LoadedModel(model), data, protocol, torch.device("cpu"))
    explainers = choose_several(EXPLAINERS, {name: _small(entry, net) for name, entry in EXPLAINERS.items()})
    errors, maps = {}, {}
    for chosen, outcome in explain_each(stage, explainers, ItemGuard(stage), alone=True, warm_up=False):
        if isinstance(outcome, Failure):
            errors[chosen.label] = outcome.error
        else:
            maps[chosen.label] = torch.cat(list(outcome.parts))
    return net, errors, maps


def _enliven(model):
    """BatchNorm with statistics as of trained nets, and heads that start at zero given weights."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean.abs().sum() == 0:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.Linear) and module.weight.abs().sum() == 0:
            torch.nn.init.normal_(module.weight, std=0.1)


def _small(entry, net):
    """Options that make it quick: small budgets, few segments and windows."""
    options = small(entry, samples=26, steps=4, permutations=2)
    if net.modality == "image":
        options |= {"samples": 12} if "samples" in options else {}
        options |= {"rows": 8} if "rows" in entry.options else {}
        options |= {"segments": "grid:2"} if "segments" in entry.options else {}
        options |= {"window": net.shape[-1] // 4} if "window" in entry.options else {}
    if net.modality == "series":
        options |= {"segments": "grid:4"} if "segments" in entry.options else {}
    return options | net.options.get(entry.name, {})


def test_every_explainer_explains_or_says_why_not(tried):
    net, errors, _ = tried
    failed = {name: error for name, error in errors.items() if not isinstance(error, NotApplicable)}
    assert not failed, failed
    refused = {name: str(error) for name, error in errors.items()}
    assert min(map(len, refused.values())) > 10
    ours = {name for name in refused if EXPLAINERS[name].source == "harness"}
    of_series = set() if net.modality == "series" else SERIES
    assert ours == net.not_applicable | of_series | NEED_MORE_THAN_A_NET, refused


def test_no_explainer_returns_what_another_returns(tried):
    _, _, maps = tried
    for (one, first), (other, second) in itertools.combinations(maps.items(), 2):
        flagged = EXPLAINERS[one].caveat or EXPLAINERS[other].caveat
        if first.shape == second.shape and not flagged and frozenset({one, other}) not in EQUAL_BY_DEFINITION:
            largest = float(second.abs().max())
            assert float((first - second).abs().max()) > 1e-5 * largest, f"{one} equals {other}"


def test_every_map_is_finite_and_not_blank(tried):
    _, _, maps = tried
    for name, found in maps.items():
        assert found.isfinite().all(), name
        assert EXPLAINERS[name].caveat or float(found.abs().max()) > 0, f"{name} is blank"
