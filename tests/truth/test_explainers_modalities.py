"""Perturbation explainers on tables, tokens and series: which numbers go together, and what they are given."""

import pytest
import torch
from torch import nn

import harness
from explainer_worlds import near
from harness.api import samples_of
from harness.removal.baselines import BASELINES

# Each with options under which its value of a segment on an additive model is that segment's contribution.
SEGMENTED = {
    "feature_ablation": {},
    "exact_shapley": {"background": 0},
    "kernel_shap": {"samples": 64, "background": 0},
    "shapley_sampling": {"permutations": 2, "background": 0},
    "lime": {"penalty": 0.0, "samples": 200},
}
SHAPES = {"table": (6,), "tokens": (6, 4), "series": (3, 6)}
CHANNELS = {"table": None, "tokens": 2, "series": 1}


class Additive(nn.Module):
    """Class c's logit is a sum over the numbers of an input, each through a curve of its own: no interactions."""

    def __init__(self, shape):
        super().__init__()
        self.w, self.v = nn.Parameter(torch.randn(3, *shape)), nn.Parameter(torch.randn(3, *shape))

    def parts(self, inputs, targets):
        return self.w[targets] * inputs + self.v[targets] * torch.sin(2 * inputs)

    def forward(self, inputs):
        every = torch.arange(3)
        return torch.stack([self.parts(inputs, every[c].expand(len(inputs))).flatten(1).sum(1) for c in every], 1)


@pytest.fixture(params=SHAPES)
def world(request, seed):
    """A modality, an additive model, inputs, targets and training inputs."""
    shape = SHAPES[request.param]
    net = Additive(shape).eval()
    return request.param, net, torch.randn(3, *shape), torch.tensor([0, 2, 1]), torch.randn(8, *shape)


def contributions(world, baseline):
    """What each unit adds to the targets' logits: (3, units)."""
    modality, net, x, targets, train = world
    removed = samples_of(net, x, targets, modality=modality, train=train).baseline(baseline)
    parts = (net.parts(x, targets) - net.parts(removed, targets)).detach()
    return parts if CHANNELS[modality] is None else parts.sum(CHANNELS[modality])


def per_unit(found, modality):
    """Attributions with one channel as (3, units)."""
    assert found.shape == {"table": (3, 6), "tokens": (3, 6, 1), "series": (3, 1, 6)}[modality]
    return found if CHANNELS[modality] is None else found.squeeze(CHANNELS[modality])


@pytest.mark.parametrize("baseline", sorted(set(BASELINES) - {"black", "blur", "mask", "pad"}))
@pytest.mark.parametrize("name", [*SEGMENTED, "occlusion"])
def test_a_columns_a_tokens_and_a_steps_value_is_what_it_adds_with_all_its_channels(name, baseline, world):
    modality, net, x, targets, train = world
    options = {"window": 1} if name == "occlusion" else SEGMENTED[name] | {"segments": "unit"}
    found = harness.explain(
        name, net, harness.Data(x, targets, modality=modality), train=train, baseline=baseline, **options
    )
    assert near(per_unit(found, modality), contributions(world, baseline), 1e-4)


@pytest.mark.parametrize("name", SEGMENTED)
def test_the_units_of_a_segment_share_what_they_add_together(name, world):
    modality, net, x, targets, _ = world
    segments = torch.tensor([0, 1, 1, 2, 0, 0])
    found = harness.explain(
        name, net, harness.Data(x, targets, modality=modality), segments=segments, baseline="zero", **SEGMENTED[name]
    )
    added = contributions(world, "zero")
    for segment in range(3):
        own = segments == segment
        share = added[:, own].sum(1, keepdim=True) / own.sum()
        assert near(per_unit(found, modality)[:, own], share.expand(3, int(own.sum())), 1e-4)


@pytest.mark.parametrize("name", SEGMENTED)
@pytest.mark.parametrize(("segments", "labels"), [("grid:3", [0, 0, 1, 1, 2, 2]), ("patch:4", [0, 0, 0, 0, 1, 1])])
def test_windows_of_neighbours_are_segments_of_tokens_and_steps_but_not_of_columns(name, segments, labels, world):
    modality, net, x, targets, _ = world
    explain = lambda **options: harness.explain(name, net, harness.Data(x, targets, modality=modality), **options)
    if modality == "table":
        with pytest.raises(harness.NotApplicable, match="columns have no neighbours"):
            explain(segments=segments, **SEGMENTED[name])
    else:
        named = explain(segments=segments, **SEGMENTED[name])
        assert near(named, explain(segments=torch.tensor(labels), **SEGMENTED[name]))


def test_occlusion_moves_its_window_along_tokens_and_steps_and_averages_over_windows(world):
    modality, net, x, targets, _ = world
    if modality == "table":
        with pytest.raises(harness.NotApplicable, match="the columns of a table are not"):
            harness.explain("occlusion", net, harness.Data(x, targets, modality=modality), window=3)
        return
    found = per_unit(
        harness.explain(
            "occlusion", net, harness.Data(x, targets, modality=modality), window=3, stride=2, baseline="zero"
        ),
        modality,
    )
    added = contributions(world, "zero")
    drops = [added[:, start : start + 3].sum(1) for start in (0, 2, 4)]  # the last one is cut at the end
    covering = [(0,), (0,), (0, 1), (1,), (1, 2), (2,)]
    by_hand = torch.stack([torch.stack([drops[w] for w in windows]).mean(0) for windows in covering], 1)
    assert near(found, by_hand, 1e-4)


@pytest.mark.parametrize("name", [*SEGMENTED, "occlusion"])
def test_the_same_numbers_as_tokens_and_as_series_are_explained_alike(name, seed):
    """A series is tokens with its two axes exchanged."""
    net = Additive((6, 4)).eval()

    class Turned(nn.Module):
        def forward(self, inputs):
            return net(inputs.transpose(1, 2))

    x, targets = torch.randn(3, 6, 4), torch.tensor([0, 2, 1])
    options = {"window": 2, "stride": 1} if name == "occlusion" else SEGMENTED[name] | {"segments": "grid:3"}
    options["baseline"] = "zero"
    if name in ("lime", "kernel_shap", "shapley_sampling"):
        options |= {"lime": {"samples": 400}, "kernel_shap": {"samples": 6}}.get(name, {})
    tokens = harness.explain(name, net, harness.Data(x, targets, modality="tokens"), **options)
    series = harness.explain(
        name, Turned().eval(), harness.Data(x.transpose(1, 2).contiguous(), targets, modality="series"), **options
    )
    assert near(series.transpose(1, 2), tokens, 1e-4)


@pytest.mark.parametrize("name", [*SEGMENTED, "occlusion"])
def test_the_defaults_serve_every_kind_of_input(name, world):
    modality, net, x, targets, train = world
    budget = {"lime": {"samples": 50}, "kernel_shap": {"samples": 50}}.get(name, {})
    found = harness.explain(name, net, harness.Data(x, targets, modality=modality, train=train), **budget)
    assert per_unit(found, modality).abs().sum() > 0


@pytest.mark.parametrize("name", [*SEGMENTED, "occlusion"])
def test_a_blurred_baseline_is_for_images(name, world):
    modality, net, x, targets, _ = world
    with pytest.raises(harness.NotApplicable, match="blur baseline needs images"):
        harness.explain(name, net, harness.Data(x, targets, modality=modality), baseline="blur")
