"""Shapley values by the library shap are those of the explainers here, for the target that is asked for."""

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from sklearn.tree import DecisionTreeRegressor
from torch import nn

import harness

shap = pytest.importorskip("shap")
TARGETS = torch.tensor([0, 3, 1])


@pytest.fixture(autouse=True)
def numpy_seeded(seed):
    """numpy draws from the same seed as torch."""
    np.random.seed(seed % 2**32)


def world(width=7):
    net = nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, 4)).eval()
    return net, torch.randn(3, width), torch.randn(width)


def called(net):
    def of_numpy(rows):
        with torch.no_grad():
            return net(torch.from_numpy(np.asarray(rows)).float()).double().numpy()

    return of_numpy


def of_targets(values):
    """shap's values (N, columns, classes), or a list of (N, columns) by class, of each row's target."""
    values = np.stack(values, -1) if isinstance(values, list) else np.asarray(values)
    assert values.shape == (3, 7, 4)
    return torch.from_numpy(values[np.arange(3), :, TARGETS.numpy()])


def near(found, expected, tolerance):
    return float((found.double() - expected).abs().max()) <= tolerance * float(expected.abs().max())


def test_exact_values_are_those_of_shaps_exact_explainer():
    net, x, r = world()
    expected = of_targets(shap.ExactExplainer(called(net), shap.maskers.Independent(r[None].numpy()))(x.numpy()).values)
    found = harness.explain("exact_shapley", net, x, TARGETS, baseline=r)
    assert near(found, expected, 1e-4)


def test_kernel_shap_over_all_coalitions_is_shaps():
    net, x, r = world()
    theirs = shap.KernelExplainer(called(net), r[None].numpy()).shap_values(
        x.numpy(), nsamples=2**7, l1_reg=False, silent=True
    )
    assert near(harness.explain("kernel_shap", net, x, TARGETS, baseline=r, samples=2**7), of_targets(theirs), 1e-4)


@pytest.mark.parametrize("link", ["logit", "probability"])
def test_over_a_background_of_several_rows_values_are_shaps(link):
    """The value function is the mean over the rows; shap's maskers and KernelExplainer take the same ones."""
    net, x, _ = world()
    train, of_rows = torch.randn(12, 7), called(net if link == "logit" else nn.Sequential(net, nn.Softmax(1)))
    kernel = shap.KernelExplainer(of_rows, train.numpy())
    theirs = of_targets(kernel.shap_values(x.numpy(), nsamples=2**7, l1_reg=False, silent=True))
    exact = of_targets(shap.ExactExplainer(of_rows, shap.maskers.Independent(train.numpy()))(x.numpy()).values)
    for name, options in (("kernel_shap", {"samples": 2**7}), ("exact_shapley", {})):
        found = harness.explain(name, net, x, TARGETS, train=train, background=12, score=link, **options)
        assert near(found, theirs, 1e-4) and near(found, exact, 1e-4), name


def test_kernel_shap_with_fewer_coalitions_is_about_as_near_the_truth_as_shaps():
    """shap draws until enough coalitions differ, which near the number of all is an advantage."""
    net, x, r = world()
    exact = harness.explain("exact_shapley", net, x, TARGETS, baseline=r).double()
    explainer, theirs, ours = shap.KernelExplainer(called(net), r[None].numpy()), [], []
    for run in range(15):
        values = of_targets(explainer.shap_values(x.numpy(), nsamples=40, l1_reg=False, silent=True))
        found = harness.explain("kernel_shap", net, x, TARGETS, baseline=r, samples=40, seed=run)
        theirs.append((values - exact).square().mean())
        ours.append((found - exact).square().mean())
    assert sum(theirs) / 4 < sum(ours) < 4 * sum(theirs)


def test_shapley_sampling_tends_to_the_values_of_shaps_exact_explainer():
    net, x, r = world()
    expected = of_targets(shap.ExactExplainer(called(net), shap.maskers.Independent(r[None].numpy()))(x.numpy()).values)
    runs = torch.stack(
        [
            harness.explain("shapley_sampling", net, x, TARGETS, baseline=r, permutations=10, seed=run)
            for run in range(40)
        ]
    ).double()
    error = runs.std(0) / 40**0.5
    assert ((runs.mean(0) - expected).abs() < 6 * error + 1e-5).all()


def test_expected_gradients_tend_to_shaps_gradient_explainers_values():
    """Both average over training inputs and places on the line to them; shap draws its own."""
    net, x, _ = world()
    train = torch.randn(6, 7)
    theirs = shap.GradientExplainer(net, train).shap_values(x, nsamples=4000)
    found = harness.explain("expected_gradients", net, x, TARGETS, train=train, samples=2000)
    assert near(found, of_targets(theirs), 0.15)


def test_the_exact_values_of_several_classes_differ_so_that_a_wrong_target_would_show():
    net, x, r = world()
    values = shap.ExactExplainer(called(net), shap.maskers.Independent(r[None].numpy()))(x.numpy()).values
    found = harness.explain("exact_shapley", net, x, (TARGETS + 1) % 4, baseline=r)
    assert not near(found, of_targets(values), 0.05)


def test_owen_values_are_those_of_shaps_partition_explainer():
    """Of the same tree, that of shap's clustering by correlation, with all contexts."""
    net, x, r = world()
    train = torch.randn(30, 7)
    distance = 1 - np.abs(np.corrcoef(train.double().numpy(), rowvar=False))
    tree = linkage(squareform(distance, checks=False), "single")
    masker = shap.maskers.Partition(r[None].numpy(), clustering=tree)
    theirs = shap.PartitionExplainer(called(net), masker)(x.numpy(), max_evals=2000, fixed_context=None, silent=True)
    found = harness.explain("partition_shap", net, x, TARGETS, baseline=r, train=train)
    assert near(found, of_targets(theirs.values), 1e-5)


def test_interactions_are_those_of_shaps_tree_explainer():
    """shap removes a column along the branches, by their numbers of training rows. On a full grid of training rows each
    column is independent of the others, and this is the mean over the grid."""
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * 4)
    response = (grid[:, 0] * grid[:, 1] + (grid[:, 2] > 1) * grid[:, 3]).numpy()
    tree = DecisionTreeRegressor(max_depth=5, random_state=0).fit(grid.numpy(), response)
    rows = grid[[5, 40, 77]]
    expected = shap.TreeExplainer(tree).shap_interaction_values(rows.double().numpy())
    found = harness.interactions(tree, rows, 0 * TARGETS, train=grid, background=len(grid)).values
    assert near(found, torch.from_numpy(np.asarray(expected)), 1e-5)
    assert float((found - torch.diag_embed(found.diagonal(dim1=1, dim2=2))).abs().max()) > 0.1
