"""Which way each metric points, from the papers, and what it says where it has no value."""

import os

import pytest
import torch
from torch import nn

import harness
from harness.registry import METRICS
from metric_worlds import Additive, Constant, Interacting, draw, explaining, generator, gradient, samples, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])

# By hand: the metric, options that bear on it, the direction, and where the definition says so.
DIRECTIONS = [
    ("deletion", {}, "lower"),  # Petsiuk et al. 2018: "a sharp drop and thus a low area under the curve"
    ("deletion", {"order": "lerf"}, "higher"),  # the unimportant go first: the score should stay
    ("insertion", {}, "higher"),  # Petsiuk et al. 2018
    ("srg", {}, "higher"),  # Blücher et al. 2024: area between LIF and MIF
    ("aopc", {}, "higher"),  # Samek et al. 2017: the drop under most relevant first
    ("aopc", {"order": "lerf"}, "lower"),  # least relevant first should drop little
    ("abpc", {}, "higher"),  # Samek et al. 2017: AOPC of most less that of least relevant first
    ("selectivity", {}, "lower"),  # Montavon et al. 2018: f should drop fast
    ("irof", {}, "higher"),  # Rieger and Hansen 2020: the area over the curve
    ("road", {}, "lower"),  # Rong et al. 2022: accuracy when the most important go first
    ("road", {"order": "lerf"}, "higher"),  # ... and when the least important do
    ("random_order", {}, None),  # a reference: it looks at no attribution
    ("sensitivity_n", {}, "higher"),  # Ancona et al. 2018: correlation
    ("faithfulness_correlation", {}, "higher"),  # Bhatt et al. 2020
    ("seg_sensitivity_n", {}, "higher"),  # Gevaert et al. 2024: correlation
    ("faithfulness_estimate", {}, "higher"),  # Alvarez-Melis and Jaakkola 2018: correlation
    ("single_deletion", {}, "higher"),
    ("idsds", {}, "higher"),  # Hesse et al. 2024: rank correlation
    ("non_sensitivity", {}, "lower"),  # Nguyen and Martinez 2020: size of a symmetric difference
    ("monotonicity", {}, "higher"),
    ("monotonicity", {"verdict": True}, "higher"),  # Arya et al. 2019
    ("monotonicity_correlation", {}, "higher"),  # Nguyen and Martinez 2020: rank correlation
    ("comprehensiveness", {}, "higher"),  # DeYoung et al. 2020: the class should be lost without the rationale
    ("sufficiency", {}, "lower"),  # ... and be kept by the rationale alone
    ("roar", {}, "lower"),  # Hooker et al. 2019: accuracy should fall
    ("roar", {"keep": True}, "higher"),  # KAR: accuracy should stay
    ("infidelity", {}, "lower"),  # Yeh et al. 2019: a squared error
    ("infidelity", {"scaling": "normalised"}, "lower"),
    ("max_sensitivity", {}, "lower"),  # Yeh et al. 2019: a change
    ("avg_sensitivity", {}, "lower"),  # Yeh et al. 2019: a change
    ("local_lipschitz", {}, "lower"),  # Alvarez-Melis and Jaakkola 2018: robust is a small constant
    ("local_lipschitz", {"relative": True}, "lower"),
    ("relative_input_stability", {}, "lower"),  # Agarwal et al. 2022: higher values are less stable
    ("relative_output_stability", {}, "lower"),  # Agarwal et al. 2022
    ("relative_representation_stability", {}, "lower"),  # Agarwal et al. 2022
    ("input_invariance", {}, "lower"),  # Kindermans et al. 2019: the map should not change
    ("pointing_game", {}, "higher"),  # Zhang et al. 2018: hits
    ("relevance_mass", {}, "higher"),
    ("relevance_rank", {}, "higher"),  # Arras et al. 2022: accuracy
    ("top_k_intersection", {}, "higher"),  # Theiner et al. 2021
    ("localization_auc", {}, "higher"),  # a detector's area under the ROC curve
    ("sic", {}, "higher"),  # Kapishnikov et al. 2019: areas under rising curves
    ("aic", {}, "higher"),
    ("average_drop", {}, "lower"),  # Chattopadhay et al. 2018: "a low value"
    ("average_increase", {}, "higher"),
    ("average_gain", {}, "higher"),  # Zhang et al. 2023
    ("cam_coherency", {}, "higher"),  # Poppi et al. 2021
    ("cam_complexity", {}, "lower"),
    ("adcc", {}, "higher"),
    ("naopc", {}, "higher"),  # Edin et al. 2025: as aopc
    ("naopc", {"order": "lerf"}, "lower"),
    ("abc", {}, "higher"),  # Hama et al. 2022: far from the line, on the right side of it
    ("abc", {"test": "deletion"}, "higher"),
    ("f_fidelity", {}, "higher"),  # Zheng et al. 2025: FFid+, the loss without important units
    ("f_fidelity", {"order": "lerf"}, "lower"),  # FFid-, that without unimportant ones
    ("prediction_gap_important", {}, "higher"),  # Agarwal et al. 2022
    ("prediction_gap_unimportant", {}, "lower"),
    ("feature_agreement", {}, "higher"),  # Krishna et al. 2022: with the known right map
    ("rank_agreement", {}, "higher"),
    ("sign_agreement", {}, "higher"),
    ("signed_rank_agreement", {}, "higher"),
    ("pairwise_rank_agreement", {}, "higher"),
    ("explainer_disagreement", {}, None),  # either of two maps that disagree may be wrong
    ("minimal_subset", {}, "lower"),  # Dabkowski and Gal 2017: smallest regions
    ("impact_score", {}, "higher"),  # Lin et al. 2019
    ("impact_coverage", {}, "higher"),  # Lin et al. 2019: the patch should be covered
    ("plausibility_f1", {}, "higher"),  # DeYoung et al. 2020: agreement with the human rationale
    ("plausibility_iou", {}, "higher"),
    ("plausibility_iou_f1", {}, "higher"),
    ("plausibility_auprc", {}, "higher"),
    ("plausibility_mean_iou", {}, "higher"),
    ("truth_correlation", {}, "higher"),
    ("truth_correlation", {"rank": True}, "higher"),  # Liu et al. 2021
    ("truth_cosine", {}, "higher"),
    ("truth_sign", {}, "higher"),  # of what is right
    ("truth_error", {}, "lower"),
    ("truth_error", {"scaled": False}, "lower"),  # an error
    ("truth_precision", {}, "higher"),
    ("truth_emd", {}, "higher"),  # Clark et al. 2024: 1 less a distance
    ("false_mass", {}, "lower"),  # what lies where nothing is
    ("grid_pointing", {}, "higher"),  # Rao et al. 2022: share in the right cell
    ("focus", {}, "higher"),  # Arias-Duart et al. 2022: share in the cells of the class
    ("difull", {}, "higher"),  # Rao et al. 2022: share in the cell that the model sees
    ("dipart", {}, "higher"),  # ... or that its classifier sees
    ("distractibility", {}, "higher"),  # Hesse et al. 2023: 1 less the share of irrelevant parts that are called
    ("background_independence", {}, None),  # about the model, and the same for every map
    ("target_sensitivity", {}, "higher"),  # Hesse et al. 2023: share of right answers
    ("explanation_consistency", {}, "higher"),  # Dasgupta et al. 2022: a probability of agreement
    ("explanation_sufficiency", {}, "higher"),  # Dasgupta et al. 2022
    ("aucse_top", {}, "higher"),  # Turbé et al. 2023: the score should drop
    ("aucse_f_score", {}, "higher"),  # ... and should not for what is least relevant
    ("cumulative_prediction_difference", {}, "higher"),  # Jang et al. 2025: what matters changes the prediction
    ("cumulative_prediction_preservation", {}, "lower"),  # ... and what does not, does not
    ("effective_complexity", {}, "lower"),  # Nguyen 2020: fewer units suffice
    ("effective_complexity", {"definition": "threshold"}, "lower"),
    ("parameter_randomization", {}, "lower"),  # Adebayo et al. 2018: a similarity that should vanish
    ("parameter_randomization", {"similarity": "ssim"}, "lower"),
    ("parameter_randomization", {"mode": "bottom_up"}, "lower"),
    ("parameter_randomization", {"similarity": "hog"}, "lower"),  # Adebayo et al. 2018
    ("chance_similarity", {}, None),  # what unrelated maps have: a yardstick
    ("efficient_parameter_randomization", {}, "higher"),  # Hedström et al. 2024: the entropy should rise
    ("smooth_parameter_randomization", {}, "lower"),  # Hedström et al. 2024: a similarity
    ("random_logit", {}, "lower"),  # Sixt et al. 2020: about 1 for maps that ignore the class
    ("random_logit", {"other": "runner_up"}, "lower"),
    ("label_randomization", {}, "lower"),  # Adebayo et al. 2018: a similarity that should vanish
    ("sanity", {}, "higher"),  # share of draws in which the map depends on weights and class
    ("complexity", {}, "lower"),  # Bhatt et al. 2020: an entropy
    ("sparseness", {}, "higher"),  # Chalasani et al. 2020: a Gini index
    ("completeness", {}, "lower"),  # Sundararajan et al. 2017: the size of the breach
    ("seconds_per_sample", {}, "lower"),
    ("setup_seconds", {}, "lower"),
    ("forward_passes", {}, "lower"),
    ("backward_passes", {}, "lower"),
    ("peak_memory_mb", {}, "lower"),
]
# The metrics by which explainers have no rank, because maps that know nothing of the model can have the best score.
CHECKS = {
    "completeness",  # any map that is scaled to the right sum
    "distractibility",  # a map that is the same everywhere calls none of many parts important
    "input_invariance",  # every map that does not look at the input's values: a random one, the centre
    "monotonicity",  # of an additive model every order has the same score; on digits a random map has the best one
}
ON_CURVES = ("deletion", "insertion", "srg", "aopc")
LOOKING = (*ON_CURVES, "sensitivity_n", "faithfulness_correlation", "infidelity")


@pytest.fixture(params=[SEED, 1], ids=lambda seed: f"seed={seed}")
def seed(request):
    return request.param


def test_there_is_a_direction_here_for_every_metric():
    assert {name for name, *_ in DIRECTIONS} == set(METRICS)


def test_what_anyone_can_win_is_a_check_and_ranks_nothing():
    assert {name for name, entry in METRICS.items() if entry.kind == "check"} == CHECKS


def test_a_map_that_knows_nothing_of_the_model_has_the_best_score_of_every_check(seed):
    model, inputs = Additive((1, 6, 5), generator=generator(seed)), draw((1, 6, 5), seed + 1)
    sums, noise = model.contributions(inputs, torch.zeros_like(inputs)).flatten(1).sum(1), draw((1, 6, 5), seed + 2)
    scaled = noise * (sums / noise.flatten(1).sum(1)).view(-1, 1, 1, 1)
    zero, blind = {"baseline": "zero"}, explaining(lambda model, inputs, targets: noise[: len(inputs)].clone(), model)
    assert (scores("completeness", model, inputs, scaled, options=zero).values < 1e-4).all()
    assert (scores("input_invariance", model, inputs, noise, by=blind).values == 0).all()
    many, flat = draw((1, 12, 12), seed), torch.ones(3, 1, 12, 12)
    ignored = scores("distractibility", Additive((1, 12, 12)), many, flat, options={**zero, "segments": "unit"}).values
    assert (ignored == 1).all()
    model.w.data = model.w.abs() * inputs[0].sign()  # every unit of the first sample raises the score
    assert scores("monotonicity", model, inputs[:1], noise[:1], options=zero).values.item() == 1


@pytest.mark.parametrize(("name", "options", "better"), DIRECTIONS, ids=str)
def test_the_direction_is_the_papers(name, options, better):
    assert METRICS[name].direction(METRICS[name].complete(options)) == better


@pytest.mark.parametrize(("name", "options", "better"), [d for d in DIRECTIONS if d[0] in LOOKING], ids=str)
def test_the_right_map_of_an_additive_model_is_better_than_its_opposite(name, options, better, seed):
    model, inputs = Additive((1, 6, 5), generator=generator(seed)), draw((1, 6, 5), seed + 1)
    right = model.contributions(inputs, torch.zeros_like(inputs))
    options = {**options, "baseline": "zero", "score": "logit"}
    if name == "infidelity" and options.get("scaling") == "normalised":  # which hides the sign
        wrong = right.flip(1, 2, 3)
    else:
        wrong = -right
    good, bad = (scores(name, model, inputs, maps, options=options).values for maps in (right, wrong))
    assert ((good > bad) if better == "higher" else (good < bad)).all()


@pytest.mark.parametrize(("name", "better"), [("complexity", "lower"), ("sparseness", "higher")])
def test_a_map_of_one_unit_is_better_than_one_of_many(name, better, seed):
    inputs, many = draw((1, 6, 5), seed), draw((1, 6, 5), seed + 1)
    one = torch.zeros_like(many)
    one[:, 0, 2, 3] = 1
    simple, rich = (scores(name, Constant(), inputs, maps).values for maps in (one, many))
    assert ((simple > rich) if better == "higher" else (simple < rich)).all()


def undefined(found, rows, count=3):
    """The samples in ``rows`` and no others are NaN, and it is said why."""
    assert found.values.isnan().tolist() == [row in rows for row in range(count)]
    assert found.reason
    return found.reason


@pytest.mark.parametrize("scaling", ["none", "optimal", "normalised"])
@pytest.mark.parametrize("perturbation", ["square", "subset"])
def test_removing_units_of_an_input_that_is_the_baseline_changes_nothing(perturbation, scaling, seed):
    inputs, options = draw((3, 6, 5), seed), {"perturbation": perturbation, "scaling": scaling}
    inputs[1] = 0
    reason = undefined(
        scores("infidelity", Interacting((3, 6, 5)), inputs, draw((3, 6, 5), seed + 1), options=options), [1]
    )
    assert "no draw changes the input" in reason
    given = {**options, "baseline": inputs[2]}
    undefined(scores("infidelity", Interacting((3, 6, 5)), inputs, draw((3, 6, 5), seed + 1), options=given), [2])


def test_noise_in_the_spread_of_a_constant_image_is_none(seed):
    inputs, options = draw((3, 6, 5), seed), {"perturbation": "gaussian", "convention": "local"}
    inputs[0] = 0.75
    reason = undefined(
        scores("infidelity", Interacting((3, 6, 5)), inputs, draw((3, 6, 5), seed + 1), options=options), [0]
    )
    assert "no draw changes the input" in reason


@pytest.mark.parametrize("scaling", ["optimal", "normalised"])
@pytest.mark.parametrize("perturbation", ["square", "subset", "gaussian"])
def test_any_map_rescaled_would_fit_a_constant_model(perturbation, scaling, seed):
    options = {"perturbation": perturbation, "scaling": scaling, "convention": "local"}
    found = scores("infidelity", Constant(), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1), options=options)
    assert "changes the output" in undefined(found, [0, 1, 2])
    unscaled = scores(
        "infidelity",
        Constant(),
        draw((3, 6, 5), seed),
        draw((3, 6, 5), seed + 1),
        options={**options, "scaling": "none"},
    )
    assert (unscaled.values > 0).all()


@pytest.mark.parametrize("absolute", [False, True])
def test_a_constant_image_has_no_range_to_scale_noise_by_unless_one_is_declared(absolute, seed):
    model, inputs, options = Interacting((3, 6, 5)), draw((3, 6, 5), seed), {"absolute": absolute, "draws": 5}
    inputs[2] = -1.5
    by = explaining(gradient, model)
    maps = gradient(model, inputs.clone(), torch.zeros(3, dtype=torch.long))
    found = scores("max_sensitivity", model, inputs, maps, by=by, options=options)
    assert "range" in undefined(found, [2])
    declared = scores("max_sensitivity", model, inputs, maps, by=by, options=options, value_range=(-2.0, 2.0))
    assert (declared.values > 0).all() and not declared.reason


@pytest.mark.parametrize("name", ON_CURVES)
def test_a_sample_of_a_single_segment_has_no_order_and_the_others_do(name, seed):
    model, inputs, maps = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    labels = torch.arange(30).view(1, 6, 5) // torch.tensor([7, 30, 4]).view(3, 1, 1)
    options = {"granularity": "segment", "segments": "given"}
    reason = undefined(scores(name, model, inputs, maps, options=options, segments=labels), [1])
    assert "single segment" in reason


@pytest.mark.parametrize("name", ["sensitivity_n", "faithfulness_correlation"])
def test_over_a_single_segment_nothing_correlates(name, seed):
    model, inputs, maps = Interacting((3, 6, 5), generator(seed)), draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    labels = torch.arange(30).view(1, 6, 5) // torch.tensor([3, 30, 2]).view(3, 1, 1)
    # Sizes of one segment and of many would differ, were there more than one.
    share = "share" if name == "faithfulness_correlation" else "largest_share"
    options = {"granularity": "segment", "segments": "given", share: 0.5}
    undefined(scores(name, model, inputs, maps, options=options, segments=labels), [1])


@pytest.mark.parametrize("name", ["complexity", "sparseness"])
def test_a_map_of_zeros_has_no_distribution(name, seed):
    maps = draw((1, 6, 5), seed)
    maps[1] = 0
    assert "0 throughout" in undefined(scores(name, Constant(), draw((1, 6, 5), seed), maps), [1])


def test_a_relative_breach_of_a_promise_of_nothing_has_no_size(seed):
    found = scores(
        "completeness",
        Constant(),
        draw((1, 6, 5), seed),
        draw((1, 6, 5), seed + 1),
        options={"relative": True, "baseline": "zero"},
    )
    undefined(found, [0, 1, 2])


def test_slic_follows_what_a_grey_image_shows(seed):
    place, noise = torch.arange(32), 0.01 * draw((1, 32, 32), seed, 2)
    rows, columns = torch.randint(10, 22, (2,), generator=generator(seed)).tolist()
    across = (place < rows).view(1, 32, 1).expand(1, 32, 32)
    down = (place < columns).view(1, 1, 32).expand(1, 32, 32)
    bright = torch.stack([across, down])  # one image is bright at the top, the other on the left
    labels = samples(Constant(), 0.2 + 0.6 * bright + noise, value_range=(0.0, 1.0)).segments("slic:20").labels
    assert not torch.equal(labels[0], labels[1])
    for segments, lit in zip(labels, bright[:, 0], strict=True):
        shares = [lit[segments == k].double().mean().item() for k in segments.unique()]
        assert all(min(share, 1 - share) < 0.05 for share in shares)  # a segment ends where the light does


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("declared", [None, (0.0, 1.0)])
def test_slic_cuts_even_a_constant_image(channels, declared, seed):
    inputs = draw((channels, 16, 16), seed).clamp(0, 1)
    inputs[1] = inputs[1, 0, 0, 0]
    found = samples(Constant(), inputs, value_range=declared).segments("slic:9")
    assert found.labels.shape == (3, 16, 16) and 1 <= found.counts[1] <= 32
    for row in range(3):
        assert found.labels[row].unique().tolist() == list(range(found.counts[row]))


class BrokenByZeros(nn.Module):
    """Finite outputs for inputs without a zero, NaN for the others."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        outputs = torch.stack([x.flatten(1).sum(1), x.flatten(1).mean(1)], 1)
        return torch.where((x == 0).flatten(1).any(1)[:, None], torch.full_like(outputs, self.value), outputs)


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("name", LOOKING)
def test_outputs_that_are_not_finite_are_the_reason_given(name, value, seed):
    inputs, maps = draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    found = scores(name, BrokenByZeros(value), inputs, maps, options={"baseline": "zero"})
    if value == value and name not in ("sensitivity_n", "faithfulness_correlation"):
        return  # an infinite logit is a probability of 1
    assert "not finite" in undefined(found, [0, 1, 2])


@pytest.mark.parametrize("name", LOOKING)
def test_a_table_of_results_says_that_outputs_are_not_finite(name, seed):
    inputs, maps = draw((3, 6, 5), seed), draw((3, 6, 5), seed + 1)
    frame = harness.evaluate(
        BrokenByZeros(float("nan")).eval(),
        inputs,
        torch.tensor([0, 1, 0]),
        explainers={"mine": {"name": lambda model, x, targets: maps[: len(x)]}},
        metrics={"m": {"name": name, "baseline": "zero"}},
    )
    assert frame.value.isna().all() and len(frame) == 3
    assert frame.error.str.contains("not finite").all()
