"""What the metrics of Quantus 0.6 compute by themselves, on inputs where a definition has a known answer."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy, pearsonr
from sklearn.metrics import roc_auc_score
from torch import nn

from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.guards import guarded
from harness.metrics._similarity import ssim
from harness.registry import EXPLAINERS, METRICS

pytestmark = pytest.mark.usefixtures("seed")
RAW = {"normalise": False, "abs": False}
ZERO = {"perturb_baseline": 0.0, "softmax": False}


class Constant(nn.Module):
    """The same logits for every input."""

    def forward(self, x):
        return torch.tensor([0.7, -0.2], device=x.device).expand(len(x), 2)


def linear(shape=(1, 12, 12), classes=2):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), classes)).eval()


def images(shape=(1, 12, 12), count=4):
    return torch.randn(count, *shape)


def contributions(model, inputs):
    return (inputs * model[1].weight[0].view(inputs.shape[1:])).detach()


def gradient(model, inputs, targets):
    inputs = inputs.requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


def theirs(name, model, inputs, attributions=None, *, by=None, targets=None, masks=None, **options):
    """Scores of Quantus; attributions are those of ``by`` where none are given."""
    targets = torch.zeros(len(inputs), dtype=torch.long) if targets is None else targets
    samples = samples_of(model, inputs, targets, masks=masks)
    explaining = by and Explaining(EXPLAINERS.entry("mine", by, {}), {}, model)
    attributions = explaining(samples) if attributions is None else attributions
    entry = METRICS[f"quantus.{name}"]
    with guarded(model):
        return score_batch(entry, entry.complete(options), make_batch(samples, attributions, explaining))


def close(found, expected, rtol=1e-4, atol=1e-5):
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


# Faithfulness


def test_faithfulness_estimate_is_the_correlation_of_attributions_and_drops():
    model, inputs, maps = linear(), images(), images()
    found = theirs("FaithfulnessEstimate", model, inputs, maps, **RAW, **ZERO)
    parts = contributions(model, inputs).flatten(1)
    close(found.values, [pearsonr(a, c)[0] for a, c in zip(maps.flatten(1), parts, strict=True)])
    close(theirs("FaithfulnessEstimate", model, inputs, contributions(model, inputs), **RAW, **ZERO).values, 1)


def test_selectivity_is_the_curve_of_what_is_left_after_each_patch():
    model, inputs, maps = linear(), images(), images()
    found = theirs("Selectivity", model, inputs, maps, patch_size=4, **RAW, **ZERO)
    sums = lambda values: nn.functional.avg_pool2d(values, 4).flatten(1) * 16
    order = sums(maps).argsort(1, descending=True)
    left = model(inputs)[:, :1] - sums(contributions(model, inputs)).gather(1, order).cumsum(1)
    close(found.curves, left.detach())


def test_monotonicity_is_true_also_where_every_step_lowers_the_score():
    model, inputs = linear(), images().abs()
    with torch.no_grad():
        model[1].weight[0] = -model[1].weight[0].abs()
    assert (theirs("Monotonicity", model, inputs, images(), **ZERO).values == 1).all()
    truth = model(torch.cat([0 * inputs[:1], inputs[:1]]))[:, 0]
    assert truth[1] < truth[0]


def test_monotonicity_correlation_ranks_squared_changes_by_the_size_of_attributions():
    model, inputs = linear(), images()
    maps = contributions(model, inputs)
    found = theirs("MonotonicityCorrelation", model, inputs, maps.abs() ** 0.5, nr_samples=1, normalise=False, **ZERO)
    close(found.values, 1, atol=1e-3)
    turned = theirs("MonotonicityCorrelation", model, inputs, 1 / maps, nr_samples=1, normalise=False, **ZERO)
    close(turned.values, -1, atol=1e-3)


def test_irof_of_a_model_that_does_not_react_is_one_and_not_zero():
    close(theirs("IROF", Constant().eval(), images(), images()).values, 1)


def test_road_fills_a_constant_image_with_its_constant():
    model, inputs = linear(classes=3), torch.full((3, 1, 12, 12), 0.7)
    predicted = model(inputs).argmax(1)
    assert (theirs("ROAD", model, inputs, images(count=3), targets=predicted, noise=0.0).curves == 1).all()
    other = (predicted + 1) % 3
    assert (theirs("ROAD", model, inputs, images(count=3), targets=other, noise=0.0).curves == 0).all()


def test_sufficiency_is_zero_as_soon_as_one_attribution_is_the_same_in_all_maps():
    maps = images()
    assert (theirs("Sufficiency", Constant().eval(), images(), maps, threshold=1.0).values == 1).all()
    maps[:, :, 0, 0] = 0.5
    assert (theirs("Sufficiency", Constant().eval(), images(), maps, threshold=1.0, normalise=False).values == 0).all()


# Robustness


def test_continuity_looks_at_horizontal_shifts_only():
    inputs = images()
    found = theirs("Continuity", linear(), inputs, by=lambda m, x, t: 2 * x + 20, nr_steps=8, **RAW)

    def shifted(by):
        black = inputs.amin((1, 2, 3), keepdim=True).expand_as(inputs)
        return torch.roll(torch.cat([inputs, black], 3), by, 3)[..., :12]

    gaps = [inputs - shifted(by) for by in range(-9, 13, 3)]
    ratios = [2 * gap.flatten(1).abs().sum(1) / gap.flatten(1).norm(dim=1).clamp(min=1e-9) for gap in gaps]
    close(found.values, torch.stack(ratios).amax(0))


def test_local_lipschitz_of_a_multiple_of_the_input_is_the_factor():
    found = theirs("LocalLipschitzEstimate", linear(), images(), by=lambda m, x, t: 3 * x, nr_samples=2, **RAW)
    close(found.values, 3, rtol=1e-3)


def test_sensitivities_to_a_known_shift_are_its_relative_size():
    inputs, shift = images(), {"lower_bound": 0.1, "upper_bound": 0.1 + 1e-9, "nr_samples": 2}
    expected = 0.1 * 12 / inputs.flatten(1).norm(dim=1)
    for name in ("AvgSensitivity", "MaxSensitivity"):
        close(theirs(name, linear(), inputs, by=lambda m, x, t: x.clone(), **shift).values, expected)


def test_consistency_sees_the_signs_of_the_first_five_numbers_of_a_map_only():
    maps, options = images(), {**RAW}
    maps.flatten(1)[:, :5].abs_()
    assert maps.flatten(1)[:, :5].min() >= 0
    close(theirs("Consistency", Constant().eval(), images(), maps, **options).values, 1)
    maps[0, 0, 0, 0] *= -1
    close(theirs("Consistency", Constant().eval(), images(), maps, **options).values, [0, 1, 1, 1])


SHIFT = {"perturb_func_kwargs": {"lower_bound": 0.1, "upper_bound": 0.1 + 1e-9}, "nr_samples": 2}
STAYS = {"return_nan_when_prediction_changes": False}


def test_relative_stabilities_under_a_known_shift_are_ratios_of_relative_changes():
    model, inputs = linear(), 1 + images().abs()
    same = lambda m, x, t: x.clone()
    relative = (0.1 / inputs).flatten(1).norm(dim=1)
    close(theirs("RelativeInputStability", model, inputs, by=same, **SHIFT, **STAYS).values, 1, rtol=1e-3)
    change = (model(inputs + 0.1) - model(inputs)).norm(dim=1).detach()
    found = theirs("RelativeOutputStability", model, inputs, by=same, **SHIFT, **STAYS)
    close(found.values, relative / change, rtol=1e-3)
    fixed = torch.rand(4, 1, 12, 12)
    for kind in ("Input", "Output", "Representation"):
        unmoved = theirs(f"Relative{kind}Stability", model, inputs, by=lambda m, x, t: fixed, **SHIFT, **STAYS)
        assert (unmoved.values == 0).all()


def test_relative_stabilities_add_noise_that_is_never_negative_and_give_up_where_a_class_changes():
    inputs, noises = images(), []

    def watch(model, given, targets):
        noises.append(given - inputs)
        return given.clone()

    theirs("RelativeInputStability", linear(), inputs, by=watch, nr_samples=2, **STAYS)
    noise = torch.stack(noises[1:])
    assert 0.02 - 1e-5 <= noise.min() and noise.max() <= 0.2 + 1e-5 and noise.mean() > 0.1
    model = linear()
    with torch.no_grad():
        model[1].weight[0], model[1].weight[1], model[1].bias[:] = 1.0, 0.0, 0.0
    inputs[0], inputs[1] = -1e-3, 1.0
    found = theirs("RelativeInputStability", model, inputs[:2], by=lambda m, x, t: x.clone() + 5, nr_samples=2)
    assert found.values.isnan().tolist() == [True, False] and "predicted class changed" in found.reason


# Localisation


@pytest.fixture
def masks():
    masks = torch.zeros(4, 12, 12, dtype=torch.bool)
    masks[:, 2:7, 3:9] = True
    return masks


def test_the_pointing_game_is_won_where_the_largest_attribution_lies_inside(masks):
    maps = torch.rand(4, 1, 12, 12)
    maps[:2, :, 4, 5], maps[2:, :, 0, 0] = 2.0, 2.0
    assert theirs("PointingGame", linear(), images(), maps, masks=masks).values.tolist() == [1, 1, 0, 0]


def test_top_k_intersection_and_relevance_rank_are_shares_of_the_highest_attributions_inside(masks):
    maps, flat = images(), masks.flatten(1)
    for name, k, options in (("TopKIntersection", 20, {"k": 20}), ("RelevanceRankAccuracy", 30, {})):
        highest = maps.flatten(1).topk(k).indices
        close(theirs(name, linear(), images(), maps, masks=masks, **options).values, flat.gather(1, highest).sum(1) / k)


def test_relevance_mass_is_a_share_of_positive_maps_and_leaves_the_unit_interval_otherwise(masks):
    maps = torch.rand(4, 1, 12, 12)
    inside = (maps[:, 0] * masks).sum((1, 2)) / maps.sum((1, 2, 3))
    for name in ("RelevanceMassAccuracy", "AttributionLocalisation"):
        close(theirs(name, linear(), images(), maps, masks=masks).values, inside)
    signed = torch.where(masks, 2 / 30, -1 / 114)[:, None]
    close(theirs("RelevanceMassAccuracy", linear(), images(), signed, masks=masks).values, 2, rtol=1e-3)


def test_auc_is_that_of_the_map_as_a_detector_of_the_mask(masks):
    maps = images()
    expected = [roc_auc_score(m.flatten(), a.flatten()) for m, a in zip(masks, maps, strict=True)]
    close(theirs("AUC", linear(), images(), maps, masks=masks).values, expected)


# Complexity, randomisation and axioms


def test_effective_complexity_counts_what_is_large_beside_the_largest_of_the_batch():
    maps = images()
    count = (maps.abs() > 0.1).flatten(1).sum(1)
    close(theirs("EffectiveComplexity", linear(), images(), maps, eps=0.1, normalise=False).values, count)
    alone = theirs("EffectiveComplexity", linear(), images(count=1), maps[:1], eps=0.1).values[0]
    maps[1:] *= 1000
    assert theirs("EffectiveComplexity", linear(), images(), maps, eps=0.1).values[0] == 0 < alone


def test_smooth_mprt_never_calls_the_explainer_it_is_given():
    calls = []

    def count(model, inputs, targets):
        calls.append(len(inputs))
        return gradient(model, inputs, targets)

    found = theirs("SmoothMPRT", linear(), images(), by=count, nr_samples=2)
    assert len(calls) == 1 and found.values.isfinite().all()  # before Quantus was called


def test_efficient_mprt_is_the_relative_change_of_the_entropy_of_the_maps_histogram():
    model, inputs, before, after = linear(), images(), images(), images() ** 3
    found = theirs("EfficientMPRT", model, inputs, by=lambda m, x, t: before if m is model else after)
    first, last = (np.array([entropy(np.histogram(one.flatten(), 100)[0]) for one in maps]) for maps in (before, after))
    close(found.values, (last - first) / first)
    assert (theirs("EfficientMPRT", model, inputs, by=lambda m, x, t: x.clone()).values == 0).all()


def test_random_logit_compares_maps_as_rows_of_numbers_and_not_as_images():
    first, second = nn.Linear(144, 2), images(count=2)
    flat = {}
    for shape in ((1, 12, 12), (1, 8, 18)):
        model = nn.Sequential(nn.Flatten(), first).eval()
        flat[shape] = theirs("RandomLogit", model, second.reshape(2, *shape), by=gradient, num_classes=2, **RAW).values
        a, b = (first.weight[row].detach().view(1, *shape[1:]) for row in (0, 1))
        flat[shape, "in two dimensions"] = ssim(a, b)
    close(flat[1, 12, 12], flat[1, 8, 18], rtol=1e-6)
    assert (flat[1, 12, 12] < 0.99).all()  # the other class has another map
    two = flat[(1, 12, 12), "in two dimensions"], flat[(1, 8, 18), "in two dimensions"]
    assert (two[0] - two[1]).abs() > 1e-6


def test_non_sensitivity_counts_where_map_and_model_disagree_on_what_does_not_matter():
    model, inputs = linear(), 0.5 + torch.rand(4, 1, 12, 12)
    with torch.no_grad():
        model[1].weight[0] = 0.5 + torch.rand(144)
        model[1].weight[0, :50] = 0
    maps, options = contributions(model, inputs), {"normalise": False, **ZERO}
    assert (theirs("NonSensitivity", model, inputs, maps, **options).values == 0).all()
    maps.flatten(1)[:, :3] = 1.0
    assert (theirs("NonSensitivity", model, inputs, maps, **options).values == 3).all()


def test_input_invariance_leaves_the_first_pixel_unshifted_and_so_fails_the_gradient():
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Softplus(), nn.Flatten(), nn.Linear(800, 2)).eval()
    seen = []

    def watch(model, inputs, targets):
        seen.append((model, inputs.clone()))
        return 1000 * gradient(model, inputs, targets)

    inputs = images()
    assert (theirs("InputInvariance", net, inputs, by=watch).values == 0).all()
    model, shifted = seen[-1]
    shift = (shifted - inputs).flatten(1)
    assert (shift[:, 0] == 0).all()
    close(shift[:, 1:], -1)
    targets = torch.zeros(4, dtype=torch.long)
    close(gradient(model, inputs - 1, targets), gradient(net, inputs.clone(), targets), atol=1e-6)  # it is invariant
