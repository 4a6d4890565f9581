"""What explainers remove at once if nobody says: a token, a time step, a superpixel; of long inputs windows, told."""

import numpy as np
import pytest
import skimage.segmentation
import torch
from torch import nn

import harness
from harness.api import samples_of
from harness.messages import heard_by
from harness.removal.segments import MOST_STEPS, superpixels

# Each with options under which its value of a unit on an additive model is what the unit adds.
PERTURBING = {
    "occlusion": {},
    "feature_ablation": {},
    "kernel_shap": {},
    "shapley_sampling": {"permutations": 2},
    "lime": {"penalty": 0.0},
}
ON_SEGMENTS = [*(name for name in PERTURBING if name != "occlusion"), "captum_kernel_shap"]
AXIS = {"tokens": 2, "series": 1}


class Additive(nn.Module):
    """Two logits, each a weighted sum of the numbers of an input; only the first ``used`` positions have a weight."""

    def __init__(self, shape, position_axis, used):
        super().__init__()
        weights = torch.randn(2, *shape)
        weights.narrow(position_axis, used, shape[position_axis - 1] - used).zero_()
        self.weights = weights

    def forward(self, inputs):
        return inputs.flatten(1) @ self.weights.flatten(1).T


def sequences(modality, length, used=12):
    """An additive model of the first positions, data, and what each position adds (2, length)."""
    shape = (length, 3) if modality == "tokens" else (3, length)
    net, inputs = Additive(shape, 1 if modality == "tokens" else 2, used).eval(), torch.randn(2, *shape)
    added = (net.weights * inputs).sum(AXIS[modality])
    return net, harness.Data(inputs, torch.tensor([0, 1]), modality=modality), added


def correlations(found, truth):
    pairs = zip(found.flatten(1), truth.flatten(1), strict=True)
    return [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]


@pytest.mark.parametrize("modality", AXIS)
@pytest.mark.parametrize("name", PERTURBING)
def test_twelve_tokens_among_128_positions_are_told_apart(name, modality, seed):
    net, data, added = sequences(modality, MOST_STEPS)
    with heard_by(pytest.fail):
        found = harness.explain(name, net, data, baseline="zero", **PERTURBING[name])
    assert min(correlations(found, added)) > 0.99


@pytest.mark.parametrize("name", PERTURBING)
def test_more_positions_are_explained_in_short_windows_which_is_told_in_one_line(name, seed):
    net, data, added = sequences("series", 3 * MOST_STEPS, 100)
    with pytest.warns(UserWarning) as told:
        found = harness.explain(name, net, data, baseline="zero", **PERTURBING[name])
    (line,) = [str(each.message) for each in told]
    assert line.startswith("384 time steps are explained in windows of neighbours, since they are more than 128; ")
    assert min(correlations(found, added)) > 0.45
    assert min(correlations(found.view(2, -1, 3).mean(2), added.view(2, -1, 3).mean(2))) > 0.8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ON_SEGMENTS)
def test_images_are_explained_by_superpixels(name, channels, seed):
    net = nn.Sequential(nn.Flatten(), nn.Linear(channels * 400, 2)).eval()
    x, targets = torch.rand(2, channels, 20, 20), torch.tensor([0, 1])
    own = {"samples": 200} if "samples" in harness.registry.EXPLAINERS[name].options else {}
    by_default, spelt = (harness.explain(name, net, x, targets, **own, **o) for o in ({}, {"segments": "slic:50"}))
    assert torch.equal(by_default, spelt)
    values = len(by_default[0, 0].unique())
    assert 20 < values <= 81


@pytest.mark.parametrize(
    ("shape", "modality", "spec"),
    [((3, 8, 8), "image", "unit"), ((2, 20, 20), "image", "grid:7"), ((1, 9, 9, 9), "volume", "grid:4")],
)
def test_other_inputs_are_divided_as_they_were(shape, modality, spec, seed):
    net = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 2)).eval()
    samples = samples_of(net, torch.rand(2, *shape), torch.tensor([0, 1]), modality=modality)
    assert torch.equal(samples.segments("auto").labels, samples.segments(spec).labels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 32, 64])
def test_noise_falls_into_about_as_many_superpixels_as_are_asked_for(side, channels, seed):
    rng = np.random.default_rng(seed)
    for number in (20, 50, 100):
        for image in (rng.random((side, side, channels)), np.zeros((side, side, channels))):
            assert number / 2 <= superpixels(image, number).max() + 1 <= 1.5 * number


def test_superpixels_do_not_cross_an_edge(seed):
    image = np.zeros((40, 40, 3))
    image[:, 23:] = (0.9, 0.2, 0.1)
    labels = superpixels(image + 0.01 * np.random.default_rng(seed).random(image.shape), 50)
    assert not set(np.unique(labels[:, :23])) & set(np.unique(labels[:, 23:]))


def test_superpixels_are_computed_once_a_block(monkeypatch, seed):
    calls, real = [], skimage.segmentation.slic
    monkeypatch.setattr(skimage.segmentation, "slic", lambda *a, **o: calls.append(1) or real(*a, **o))
    net = nn.Sequential(nn.Flatten(), nn.Linear(1200, 2)).eval()
    x = torch.nn.functional.interpolate(torch.rand(5, 3, 4, 4), (20, 20), mode="bilinear")
    small = {"samples": 200}
    harness.evaluate(
        net,
        x,
        torch.tensor([0, 1, 0, 1, 0]),
        explainers={
            "lime": small,
            "kernel_shap": small,
            "feature_ablation": {},
            "shapley_sampling": {"permutations": 2},
        },
        metrics=["sparseness"],
    )
    assert len(calls) == 5
