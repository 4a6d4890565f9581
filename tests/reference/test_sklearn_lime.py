"""LIME's regression is scikit-learn's weighted ridge, as in the authors' package, on the same coalitions."""

import os

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.transform import resize
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances

from harness.explainers._expected_ridge import coalition_weights, ridge
from harness.removal.segments import superpixels


@pytest.mark.parametrize("alpha", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("width", [0.1, 0.25, 1.0])
def test_lime_is_a_ridge_regression_weighted_by_the_cosine_distance(alpha, width):
    seed = int(os.environ["HARNESS_TEST_SEED"])
    print(f"seed {seed}")
    torch.manual_seed(seed)
    masks = torch.rand(2, 60, 7) < 0.5
    masks[:, 0] = True
    worth = torch.randn(2, 60, dtype=torch.float64)
    found = ridge(masks, coalition_weights(masks, width), worth, alpha)
    for own, y, coefficients in zip(masks.double().numpy(), worth.numpy(), found, strict=True):
        distance = pairwise_distances(own, own[:1], metric="cosine")[:, 0]
        kernel = np.sqrt(np.exp(-(distance**2) / width**2))  # the authors' form
        fitted = Ridge(alpha=alpha, fit_intercept=True).fit(own, y, sample_weight=kernel)
        assert np.allclose(fitted.coef_, coefficients, atol=1e-9)


def test_limes_quickshift_leaves_few_superpixels_of_a_small_photograph():
    """With the settings of the authors' ``explain_instance``."""
    wrappers = pytest.importorskip("lime.wrappers.scikit_image")
    photograph = resize(astronaut(), (32, 32))
    quickshift = wrappers.SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=0)
    assert len(np.unique(quickshift(photograph))) <= 5
    assert 25 <= superpixels(photograph, 50).max() + 1 <= 75
