"""Series (N, C, T), images (N, C, H, W) and volumes (N, C, D, H, W) are explained along their own axes, at defaults."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import harness
from harness.api import samples_of
from harness.errors import NotApplicable
from harness.explainers.rise import RiseMasks, bilinear_strips
from harness.registry import EXPLAINERS
from small_nets import CONVOLUTIONS, POOLING, SHAPES, few_steps, inputs_of, small_net

TARGETS = torch.tensor([0, 1])
SPATIAL = ("series", "image", "volume")
NEEDS_MORE = ("precomputed", "oracle")  # a file of maps, the true attributions
CAMS = [name for name, entry in EXPLAINERS.items() if "volume" in entry.modalities and entry.access == "activations"]
# Options that keep the number of evaluations small.
FEWER = {"kernel_shap": {"samples": 200}, "lime": {"samples": 200}, "rise": {"samples": 300}}


class Bright(nn.Module):
    """Class 0 is as likely as the sum of what is brighter than 0.5; its only layer with places sees each by itself."""

    def __init__(self, modality):
        super().__init__()
        self.layer, self.relu = CONVOLUTIONS[modality](1, 2, 1), nn.ReLU()
        self.pool, self.head = POOLING[modality](1), nn.Linear(2, 2)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([1.0, -1.0]).view_as(self.layer.weight))
            self.layer.bias.copy_(torch.tensor([-0.5, 0.0]))
            self.head.weight.copy_(torch.tensor([[50.0, 0.0], [0.0, 0.0]]))
            self.head.bias.zero_()

    def forward(self, x):
        return self.head(self.pool(self.relu(self.layer(x))).flatten(1))


def world(modality, length=12):
    """A bright object in a corner of a dark input: the net, the input, and where the object is."""
    axes = {"series": 1, "image": 2, "volume": 3}[modality]
    inputs = torch.zeros(1, 1, *[length] * axes)
    place = (slice(None), slice(None), *[slice(1, 5)] * axes)
    inputs[place] = 1.0
    return Bright(modality).eval(), inputs, inputs > 0.5


@pytest.mark.parametrize("modality", SPATIAL)
@pytest.mark.parametrize("name", [*CAMS, "occlusion", "rise", "feature_ablation", "kernel_shap", "gradient", "lrp"])
def test_the_object_is_found_in_one_two_and_three_dimensions(name, modality):
    net, inputs, there = world(modality)
    data = harness.Data(inputs, TARGETS[:1], modality=modality)
    found = harness.explain(name, net, data, **FEWER.get(name, {}))
    assert found.shape == inputs.shape
    assert found[there].mean() > 4 * found[~there].abs().mean()


@pytest.mark.parametrize("modality", SPATIAL)
def test_the_map_of_the_last_layer_sums_to_the_logit(modality):
    """HiResCAM before pooling and a linear layer, enlarged by a whole factor, which keeps the mean."""
    torch.manual_seed(0)
    conv, pool = CONVOLUTIONS[modality], POOLING[modality]
    net = nn.Sequential(conv(2, 5, 2, 2), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(5, 3)).eval()
    inputs = torch.rand(2, 2, *[8] * {"series": 1, "image": 2, "volume": 3}[modality])
    found = harness.explain("hires_cam", net, harness.Data(inputs, TARGETS, modality=modality), layer="1")
    factor = inputs[0, 0].numel() / net[0](inputs)[0, 0].numel()
    logits = (net(inputs) - net[-1].bias).gather(1, TARGETS[:, None])[:, 0]
    assert torch.allclose(found.flatten(1).sum(1) / factor, logits, atol=1e-4)


@pytest.mark.parametrize("modality", SPATIAL)
def test_occlusion_of_an_additive_model_is_what_each_place_adds_with_all_its_channels(modality):
    inputs = torch.rand(2, 2, *[4] * {"series": 1, "image": 2, "volume": 3}[modality])
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0].numel(), 3)).eval()
    found = harness.explain(
        "occlusion", net, harness.Data(inputs, TARGETS, modality=modality), window=1, baseline="zero"
    )
    added = net[1].weight.detach()[TARGETS].view_as(inputs) * inputs
    assert torch.allclose(found, added.sum(1, keepdim=True), atol=1e-5)


SIZES = [
    ("series", (1, 30)),
    ("series", (1, 5000)),
    ("image", (3, 8, 8)),
    ("image", (1, 64, 1000)),
    ("image", (1, 512, 512)),
    ("volume", (1, 4, 16, 16)),
    ("volume", (1, 16, 16, 12)),
    ("volume", (1, 8, 64, 64)),
    ("volume", (1, 32, 32, 32)),
]


@pytest.mark.parametrize(("modality", "shape"), SIZES, ids=str)
def test_the_number_of_windows_hardly_depends_on_the_size_of_the_input(modality, shape):
    class Counted(nn.Module):
        rows = 0

        def forward(self, x):
            Counted.rows += len(x)
            return x.flatten(1)[:, :2]

    data = harness.Data(torch.rand(1, *shape), TARGETS[:1], modality=modality)
    harness.explain("occlusion", Counted().eval(), data)
    assert Counted.rows <= {"series": 200, "image": 600, "volume": 800}[modality]


def test_a_window_and_a_stride_that_are_given_hold_for_every_axis():
    net, inputs = nn.Sequential(nn.Flatten(), nn.Linear(60, 3)).eval(), torch.rand(1, 1, 5, 12)
    found = harness.explain("occlusion", net, inputs, TARGETS[:1], window=2, stride=2, baseline="zero")
    drops = net[1].weight.detach()[0].view_as(inputs) * inputs
    first = drops[..., :2, :2].sum()
    assert torch.allclose(found[..., :2, :2], first.expand(1, 1, 2, 2), atol=1e-5)


@pytest.mark.parametrize("shape", [(9,), (9, 11), (5, 9, 7)], ids=str)
def test_masks_of_rise_are_grids_enlarged_linearly_and_cut_out(shape):
    cells, strips = 3, tuple(bilinear_strips(length, 3) for length in shape)
    masks = RiseMasks(torch.tensor([5, 6]), cells, 0.5, strips)
    sample, draw = torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0])
    made = masks.of_rows(sample, draw)
    assert made.shape == (3, *shape) and made.min() >= 0 and made.max() <= 1
    size = [(cells + 1) * -(-length // cells) for length in shape]
    # Enlarging as in the released code mirrors about the outermost cells' centres, which torch clamps: only what lies
    # between them is the same.
    inner = tuple(slice(s // (2 * cells) + 1, s - s // (2 * cells) - 1) for s in size)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(shape)]
    coins, own = masks._factors(torch.tensor([7]))
    large = F.interpolate(coins[:, None], size, mode=mode, align_corners=False)[0, 0]
    whole = coins[0]
    for axis, length in enumerate(shape):
        full = size[axis]
        weights = torch.zeros(cells, full)
        for shift, strip in enumerate(strips[axis]):
            weights[:, shift : shift + length] = strip
        whole = torch.tensordot(whole, weights, ([0], [0]))
    assert torch.allclose(whole[inner], large[inner], atol=1e-6)


@pytest.mark.parametrize("shape", [(9,), (9, 11), (5, 9, 7)], ids=str)
def test_masks_of_rise_are_summed_without_being_made(shape):
    masks = RiseMasks(torch.tensor([5, 6]), 3, 0.5, tuple(bilinear_strips(length, 3) for length in shape))
    weights = torch.randn(2, 7)
    each = masks.of_rows(torch.arange(2).repeat_interleave(7), torch.arange(7).repeat(2)).view(2, 7, *shape)
    expected = torch.einsum("nd,nd...->n...", weights, each)
    assert torch.allclose(masks.weighted_sum(weights), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "segments"), [("auto", 64), ("few", 12), ("grid:2", 8), ("patch:5", 8), ("unit", 600)]
)
def test_a_volume_is_divided_along_its_three_axes(spec, segments):
    samples = samples_of(small_net("volume"), inputs_of("volume"), TARGETS, modality="volume")
    found = samples.segments(spec)
    assert found.most == segments and found.labels.shape == (2, 6, 10, 10)


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2), (4, 8, 8), (1, 1, 1)], ids=str)
def test_a_volume_whose_depth_shrinks_by_another_factor_has_a_layer_for_maps(factors):
    torch.manual_seed(0)
    features = [nn.Conv3d(1, 4, factors, factors), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1)]
    net = nn.Sequential(*features, nn.Flatten(), nn.Linear(4, 2)).eval()
    data = harness.Data(torch.rand(2, 1, 8, 16, 16), TARGETS, modality="volume")
    for name in ("grad_cam", "eigen_cam", "score_cam"):
        assert harness.explain(name, net, data).shape == (2, 1, 8, 16, 16)


def data_of(modality, outputs):
    labels = torch.arange(12) % outputs if outputs > 1 else torch.rand(12, generator=torch.Generator().manual_seed(3))
    targets = TARGETS if outputs > 1 else torch.zeros(2, dtype=torch.long)
    train = torch.rand(12, *SHAPES[modality], generator=torch.Generator().manual_seed(2))
    return harness.Data(inputs_of(modality), targets, modality=modality, train=train, train_labels=labels)


# Of several outputs, tests/field/test_defaults.py tries the other kinds of input.
@pytest.mark.parametrize(("modality", "outputs"), [("volume", 3), *((modality, 1) for modality in SHAPES)])
@pytest.mark.parametrize("name", [name for name in EXPLAINERS if name not in NEEDS_MORE])
def test_every_explainer_at_its_defaults_serves_every_kind_of_input_or_says_why_not(name, modality, outputs):
    net, data = small_net(modality, outputs), data_of(modality, outputs)
    try:
        found = harness.explain(name, net, data, **few_steps(name))
    except NotApplicable as reason:
        assert "\n" not in str(reason) and (name, modality) not in MUST
    else:
        assert found.isfinite().all() and len(found) == 2


MUST = {
    *((name, modality) for name in CAMS for modality in SPATIAL if name != "guided_grad_cam"),
    *((name, modality) for name in ("occlusion", "kernel_shap", "lime", "feature_ablation") for modality in SHAPES),
    *(("exact_shapley", modality) for modality in ("series", "image", "volume", "tokens", "table")),
    *((name, "table") for name in ("permutation_importance", "mutual_information", "random_forest", "rfe")),
    *((name, modality) for name in ("gradient", "integrated_gradients", "deep_lift", "lrp") for modality in SHAPES),
    *((name, modality) for name in ("random", "input_magnitude") for modality in SHAPES),
}


@pytest.mark.parametrize("modality", ["image", "series", "volume", "tokens"])
def test_rise_serves_every_input_whose_units_have_neighbours(modality):
    found = harness.explain("rise", small_net(modality), data_of(modality, 3), samples=50)
    assert found.isfinite().all() and found.abs().sum() > 0


def test_permutation_importance_of_a_regression_is_the_growth_of_its_squared_error():
    """Of f(x) = 3 x1 and its own outputs as labels, a permutation of x1 costs 9 times twice the variance of x1."""
    net, train = nn.Linear(4, 1, bias=False).eval(), torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 0, 0, 0]]))
    zeros, labels = torch.zeros(2, dtype=torch.long), net(train)[:, 0].detach()
    data = harness.Data(train[:2], zeros, train=train, train_labels=labels)
    found = harness.explain("permutation_importance", net, data)[0]
    assert abs(float(found[0]) - 18 * float(train[:, 0].var())) < 1.5 and not found[1:].any()


def test_exact_shapley_says_what_to_type_where_there_are_too_many_columns():
    net, x = nn.Linear(20, 3).eval(), torch.rand(2, 20)
    with pytest.raises(NotApplicable, match="give segments= of at most 12, or take kernel_shap"):
        harness.explain("exact_shapley", net, x, TARGETS)
    halves = torch.arange(20) // 10
    assert harness.explain("exact_shapley", net, x, TARGETS, segments=halves).abs().sum() > 0


class MaskedSeries(nn.Module):
    """A convolution over the time steps that are not zero in all channels."""

    def __init__(self):
        super().__init__()
        self.conv, self.out = nn.Conv1d(2, 5, 3, padding=1), nn.Linear(5, 3)

    def forward(self, x):
        mask = (x != 0).any(1, keepdim=True).to(x.dtype)
        hidden = torch.relu(self.conv(x)) * mask
        return self.out(hidden.sum(2) / mask.sum(2).clamp(min=1))


def padded_series(length):
    """Series of 9, 6 and 4 steps, padded with zeros, and which steps are units."""
    steps = torch.rand(3, 2, 9, generator=torch.Generator().manual_seed(0)) + 0.1
    inputs, present = torch.zeros(3, 2, length), torch.zeros(3, length, dtype=torch.bool)
    for row, count in enumerate((9, 6, 4)):
        inputs[row, :, :count], present[row, :count] = steps[row, :, :count], True
    return inputs, present


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_series_has_the_same_maps_and_scores_at_any_length_to_which_it_is_padded(reduction):
    torch.manual_seed(0)
    net, frames = MaskedSeries().eval(), []
    for length in (10, 24):
        inputs, present = padded_series(length)
        data = harness.Data(inputs, torch.tensor([0, 1, 2]), modality="series", present=present)
        for name in ("gradient", "integrated_gradients", "occlusion", "random", "rise"):
            found = harness.explain(name, net, data)
            assert (found * ~present[:, None] == 0).all()
        frames.append(
            harness.evaluate(
                net,
                data,
                explainers=["gradient", "occlusion", "random"],
                metrics=["deletion", "srg", "sparseness", "sensitivity_n", "max_sensitivity", "random_logit"],
                reduction=reduction,
            )
        )
    statuses = frames[0].groupby("explainer")["status"].unique()
    assert set(statuses["gradient"]) == {"ok"} and "failed" not in set(frames[0]["status"])
    assert frames[0]["status"].equals(frames[1]["status"])
    assert np.allclose(frames[0]["value"], frames[1]["value"], atol=1e-5, equal_nan=True)
