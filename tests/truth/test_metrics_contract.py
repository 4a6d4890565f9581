"""What holds for every metric: kinds of input, company, order, chunks, repetition, direction, untouched arguments."""

import os
import re
from dataclasses import fields

import pytest
import torch

from harness.registry import METRICS
from harness.removal.baselines import BASELINES
from metric_worlds import SHAPES, Additive, Interacting, draw, explaining, generator, gradient, samples, scores

SEED = int(os.environ["HARNESS_TEST_SEED"])

# Every metric with options that bring all its code to bear.
CASES = {
    "deletion": [{}, {"order": "lerf"}, {"granularity": "patch", "patch": 2}, {"tie_draws": 3}],
    "insertion": [{}, {"baseline": "uniform_noise", "imputations": 3}],
    "srg": [{}, {"granularity": "segment", "segments": "patch:2"}],
    "aopc": [{}, {"order": "lerf", "score": "log_odds"}],
    "abpc": [{}],
    "selectivity": [{"patch": 2}, {"granularity": "unit"}],
    "irof": [{"granularity": "unit"}, {"segments": "patch:2", "normalised": False}],
    "random_order": [{"draws": 2}],
    "road": [{}, {"order": "lerf", "score": "logit", "imputations": 2}],
    "sensitivity_n": [{"draws": 20}, {"draws": 20, "granularity": "segment", "segments": "patch:2"}],
    "faithfulness_correlation": [{"draws": 20}, {"baseline": "gaussian_noise"}],
    "seg_sensitivity_n": [{"draws": 20, "segments": "patch:2", "segment_reduce": "mean"}],
    "faithfulness_estimate": [{}, {"granularity": "ranked"}],
    "single_deletion": [{"segments": "unit"}],
    "idsds": [{"segments": "unit", "epochs": 1}],
    "non_sensitivity": [{"draws": 5}, {"baseline": "uniform_noise", "draws": 5}],
    "monotonicity": [{}],
    "distractibility": [{"segments": "unit"}, {"segments": "unit", "relevant_drop": 0.5}],
    "background_independence": [{"segments": "unit"}],
    "explanation_consistency": [{"top_share": 1.0, "rows": 12}],
    "explanation_sufficiency": [{"closeness": 50.0}],
    "aucse_top": [{}, {"score": "logit", "imputations": 2}],
    "aucse_f_score": [{"baseline": "train_sample"}],
    "cumulative_prediction_difference": [{}, {"largest_share": 1.0, "steps": 3}],
    "cumulative_prediction_preservation": [{"largest_share": 0.5, "baseline": "uniform_noise"}],
    "monotonicity_correlation": [{"draws": 10}],
    "comprehensiveness": [{}],
    "sufficiency": [{"percents": "20 60"}],
    "roar": [{"epochs": 30, "rate": 0.05, "weight_seeds": 1, "percents": "30 60"}],
    "infidelity": [
        {"perturbation": "subset"},
        {"perturbation": "square", "scaling": "optimal"},
        {"perturbation": "gaussian", "convention": "local", "scaling": "normalised"},
    ],
    "max_sensitivity": [{}, {"absolute": True}],
    "avg_sensitivity": [{}, {"absolute": True}],
    "local_lipschitz": [{}, {"distribution": "uniform", "relative": True}],
    "relative_input_stability": [{}],
    "relative_output_stability": [{"log10": True}],
    "relative_representation_stability": [{}, {"layer": "first"}],
    "input_invariance": [{}, {"shift": "texture"}],
    "parameter_randomization": [
        {},
        {"mode": "independent", "similarity": "spearman_abs", "explained_class": "reargmax"},
        {"mode": "bottom_up"},
    ],
    "chance_similarity": [{}],
    "efficient_parameter_randomization": [{}],
    "smooth_parameter_randomization": [{"draws": 5, "similarity": "spearman"}],
    "random_logit": [{}, {"other": "runner_up", "similarity": "spearman_abs"}],
    "label_randomization": [{"epochs": 2, "least_accuracy": 0.0}],
    "sanity": [{}],
    "pointing_game": [{"margin": 0.0}],
    "relevance_mass": [{}, {"sign": "abs"}],
    "relevance_rank": [{}],
    "top_k_intersection": [{"top_share": 0.2}],
    "localization_auc": [{}],
    "average_drop": [{}],
    "average_increase": [{}],
    "average_gain": [{}],
    "cam_coherency": [{}],
    "cam_complexity": [{}],
    "adcc": [{}],
    "naopc": [{"granularity": "unit", "beam": 2}, {"segments": "patch:2", "most_exact": 4, "order": "lerf"}],
    "abc": [{}, {"test": "deletion", "relative": True}],
    "f_fidelity": [{"epochs": 1, "draws": 5}, {"epochs": 1, "draws": 5, "order": "lerf", "score": "probability"}],
    "prediction_gap_important": [{"draws": 5}],
    "prediction_gap_unimportant": [{"draws": 5}],
    "feature_agreement": [{}],
    "rank_agreement": [{"top_share": 0.5}],
    "sign_agreement": [{}],
    "signed_rank_agreement": [{"top_share": 0.5}],
    "pairwise_rank_agreement": [{}],
    "explainer_disagreement": [{}, {"measure": "pairwise_rank"}],
    "plausibility_f1": [{}],
    "plausibility_iou": [{"top_share": 0.5}],
    "plausibility_auprc": [{}],
    "plausibility_mean_iou": [{}],
    "truth_correlation": [{}, {"rank": True}, {"unsigned": True}],
    "truth_cosine": [{}],
    "truth_error": [{}, {"scaled": False}],
    "truth_sign": [{}, {"weighted": False}],
    "truth_precision": [{}],
    "truth_emd": [{}, {"pool": 2}],
    "false_mass": [{}],
    "effective_complexity": [{"baseline": "zero", "least_probability": 0.0}, {"definition": "threshold"}],
    "complexity": [{}, {"normalised": True}],
    "sparseness": [{}],
    "completeness": [{}, {"relative": True, "baseline": "zero"}],
}
# They need a model of images of several sizes, texts, inputs that are predicted as explained, or images that lose
# their class when blurred: they have all this in tests of their own.
HELD_ELSEWHERE = {
    "grid_pointing",
    "focus",
    "difull",
    "dipart",
    "target_sensitivity",
    "plausibility_iou_f1",
    "minimal_subset",
    "impact_score",
    "impact_coverage",
    "aic",
    "sic",
}
OF_IMAGES, OF_GRIDS = ("road",), ("truth_emd",)
NEED_NEIGHBOURS = ("patch", "segment", "square", "patch:2")


def needs_neighbours(metric, options):
    """Whether the metric under these options is for units that have neighbours."""
    return metric in OF_GRIDS or any(value in NEED_NEIGHBOURS for value in METRICS[metric].complete(options).values())


# Grey images differ from those in colour by channels alone, which the first options of each metric meet in both.
EVERY_KIND = [
    (metric, number, kind)
    for metric, cases in CASES.items()
    for number, options in enumerate(cases)
    for kind in SHAPES
    if (number == 0 or kind != "grey")
    and (kind in ("grey", "colour") or metric not in OF_IMAGES)
    and (kind != "table" or not needs_neighbours(metric, options))
]


def to_zero(model, inputs, targets, *, baseline="zero"):
    return gradient(model, inputs, targets)


def world(kind, seed, count=4):
    model, inputs = Interacting(SHAPES[kind], generator(seed)), draw(SHAPES[kind], seed, count)
    attributions = draw(SHAPES[kind], seed + 1, count)
    attributions.flatten(1)[0, :3] = 0.25  # ties
    first = attributions[:, :, 0, 0] if kind in ("grey", "colour") else attributions[:, 0]
    first.abs_()  # no map is without a positive value
    by = explaining(to_zero, model, complete_to="baseline")
    by.options = {"baseline": "zero"}
    train = draw(SHAPES[kind], seed + 2, 20)
    masks = (attributions if kind == "table" else attributions.sum({"tokens": 2}.get(kind, 1))) > 0
    masks.flatten(1)[:, :2] = torch.tensor([True, False])  # neither empty nor full
    truth = draw(tuple(masks.shape[1:]), seed + 3, count) * masks
    labels = torch.arange(20) % 3
    more = {"by": by, "train": train, "train_labels": labels, "value_range": (-3.0, 3.0)}
    more |= {"masks": masks, "truth": truth}
    return model, inputs, attributions, more


def assert_within_span(entry, options, values, rounding=1e-5):
    """Scores lie within the range that the metric declares under these options."""
    low, high = entry.span_of(entry.complete(options))
    assert low is None or values.min() >= low - rounding
    assert high is None or values.max() <= high + rounding


# Idsds trains a model; the others need images of several sizes.
BY_CHANCE = [name for name, entry in METRICS.items() if entry.chance is not None and name in CASES and name != "idsds"]


@pytest.mark.parametrize("metric", BY_CHANCE)
def test_maps_of_random_numbers_score_what_the_metric_declares(metric):
    model, inputs, _, more = world("grey", SEED, count=200)
    values = scores(metric, model, inputs, draw(SHAPES["grey"], SEED + 9, 200), options=CASES[metric][0], **more).values
    known = values[values.isfinite()]
    assert len(known) > 150
    assert abs(known.mean() - METRICS[metric].chance_of({})) < 5 * known.std() / len(known) ** 0.5


def test_every_metric_is_held_here():
    assert {name for name, entry in METRICS.items() if entry.kind != "cost"} == set(CASES) | HELD_ELSEWHERE


@pytest.mark.parametrize(("metric", "number", "kind"), EVERY_KIND)
def test_a_sample_scores_alone_as_it_does_in_company_in_any_order_and_chunk(metric, number, kind):
    """And the same seed gives the same bits, and nothing that is handed in is changed."""
    model, inputs, attributions, more = world(kind, SEED)
    targets, options = torch.tensor([0, 1, 2, 0]), CASES[metric][number]
    before = [inputs.clone(), attributions.clone(), *(p.detach().clone() for p in model.parameters())]
    state = torch.get_rng_state()
    whole = scores(metric, model, inputs, attributions, options=options, targets=targets, **more)
    assert all(torch.equal(a, b) for a, b in zip(before, [inputs, attributions, *model.parameters()], strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert whole.values.isfinite().all() and whole.values.shape == (4,)
    assert_within_span(METRICS[metric], options, whole.values)
    if whole.curves is not None:
        assert_says_where_points_are(METRICS[metric], options, whole.curves.shape[1])
    if kind == "colour":
        again = scores(metric, model, inputs, attributions, options=options, targets=targets, **more)
        assert torch.equal(again.values, whole.values)
    for rows, chunk in (([2], 1), ([3, 1, 1, 0], 5)):
        part = scores(
            metric,
            model,
            inputs[rows],
            attributions[rows],
            options=options,
            targets=targets[rows],
            chunk=chunk,
            **more | {name: more[name][rows] for name in ("masks", "truth")},
        )
        torch.testing.assert_close(part.values, whole.values[rows], rtol=1e-4, atol=1e-5, msg=f"seed={SEED}")
        if whole.curves is not None:
            torch.testing.assert_close(part.curves, whole.curves[rows], rtol=1e-4, atol=1e-5, msg=f"seed={SEED}")
        if whole.tied is not None:
            assert torch.equal(part.tied, whole.tied[rows])


def assert_says_where_points_are(entry, given, count):
    options, places = entry.complete(given), entry.curve_places
    assert entry.curve_across is None or (entry.curve_across and entry.curve_height)
    if isinstance(places, str) or callable(places):
        assert len(options[places] if isinstance(places, str) else places(options, count)) == count


@pytest.mark.parametrize(
    "metric",
    [
        "sensitivity_n",
        "seg_sensitivity_n",
        "faithfulness_correlation",
        "infidelity",
        "max_sensitivity",
        "local_lipschitz",
        "relative_input_stability",
        "monotonicity_correlation",
        "random_order",
        "chance_similarity",
    ],
)
def test_another_seed_draws_other_numbers(metric):
    model, inputs, attributions, more = world("colour", SEED)
    options = CASES[metric][0]
    first, second = (
        scores(metric, model, inputs, attributions, seed=seed, options=options, **more).values for seed in (0, 1)
    )
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    "metric",
    [
        "deletion",
        "insertion",
        "srg",
        "aopc",
        "abpc",
        "selectivity",
        "irof",
        "random_order",
        "sensitivity_n",
        "seg_sensitivity_n",
        "faithfulness_correlation",
        "faithfulness_estimate",
        "single_deletion",
        "comprehensiveness",
        "sufficiency",
        "infidelity",
    ],
)
@pytest.mark.parametrize("baseline", [*sorted(BASELINES.keys() - {"pad", "mask"}), "noisy_linear", "inpaint"])
def test_every_baseline_serves_every_metric_that_removes(metric, baseline):
    model, inputs, attributions, more = world("colour", SEED)
    options = {**CASES[metric][0], "baseline": baseline}
    found = scores(metric, model, inputs, attributions, options=options, **more)
    assert found.values.isfinite().all() and found.values.std() > 0


@pytest.mark.parametrize("shape", ["(N, C, H, W)", "(N, 1, H, W)", "(N, H, W)"])
@pytest.mark.parametrize("metric", ["deletion", "srg", "sensitivity_n", "infidelity", "complexity"])
def test_attributions_summed_over_channels_before_or_here_score_the_same(metric, shape):
    model, inputs, attributions, more = world("colour", SEED)
    given = {"(N, C, H, W)": attributions, "(N, 1, H, W)": attributions.sum(1, True), "(N, H, W)": attributions.sum(1)}[
        shape
    ]
    reference = scores(metric, model, inputs, attributions, **more).values
    torch.testing.assert_close(scores(metric, model, inputs, given, **more).values, reference, rtol=1e-5, atol=1e-6)


# The metrics that know contributions when they see them, and whether they see the sign.
DIRECTED = {
    "deletion": [{}, {"order": "lerf"}],
    "insertion": [{}],
    "srg": [{}, {"granularity": "patch", "patch": 2}],
    "aopc": [{}, {"order": "lerf"}],
    "sensitivity_n": [{}],
    "faithfulness_correlation": [{}],
    "infidelity": [{}, {"perturbation": "subset"}, {"scaling": "optimal"}, {"scaling": "normalised"}],
    "completeness": [{}],
}
BLIND_TO_SIGN = ("optimal", "normalised")


@pytest.mark.parametrize(("metric", "options"), [(m, o) for m, cases in DIRECTED.items() for o in cases], ids=str)
def test_true_contributions_beat_random_ones_and_those_beat_reversed_ones_in_the_declared_direction(metric, options):
    shape = (1, 6, 6)
    model, inputs = Additive(shape, torch.sin, generator(SEED)), draw(shape, SEED, 60)
    contributions = model.contributions(inputs, torch.zeros_like(inputs))
    unrelated = contributions.flatten(1).gather(1, draw((36,), SEED + 1, 60).argsort(1)).view_as(contributions)
    entry = METRICS[metric]
    options = {"baseline": "zero", **({"score": "logit"} if "score" in entry.options else {}), **options}
    sign = {"higher": 1, "lower": -1}[entry.direction(entry.complete(options))]
    true, random, reversed_ = (
        sign * scores(metric, model, inputs, maps, options=options).values.mean()
        for maps in (contributions, unrelated, -contributions)
    )
    if metric == "completeness":  # sums cannot tell which unit holds what
        assert true > reversed_
    elif options.get("scaling") in BLIND_TO_SIGN:
        assert true > random and true - reversed_ == pytest.approx(0, abs=1e-6)
    else:
        assert true > random > reversed_


BUNDLES = {type(bundle).__name__: type(bundle) for entry in METRICS.values() for bundle in entry.bundles.values()}


@pytest.mark.parametrize("bundle", BUNDLES.values(), ids=BUNDLES)
def test_options_that_metrics_share_are_explained_where_they_are_written(bundle):
    texts = [kind.__doc__ for kind in bundle.__mro__[:-1]]
    for option in fields(bundle):
        assert any(re.search(rf"^    {option.name}  ", text, re.MULTILINE) for text in texts), option.name


def test_directions_and_units_follow_the_options():
    direction = lambda name, **options: METRICS[name].direction(METRICS[name].complete(options))
    unit = lambda name, **options: METRICS[name].unit_of(METRICS[name].complete(options))
    assert [direction(name, order=order) for name in ("deletion", "aopc") for order in ("morf", "lerf")] == [
        "lower",
        "higher",
        "higher",
        "lower",
    ]
    for name in ("infidelity", "max_sensitivity", "parameter_randomization", "complexity", "completeness"):
        assert direction(name) == "lower"
    assert unit("srg", score="logit") == "logit" and unit("infidelity") == "logit squared"
    assert unit("infidelity", scaling="normalised") == "share" and unit("complexity") == "nats"


def test_predictions_are_of_the_explained_class():
    model, inputs, attributions, more = world("grey", SEED)
    for metric in ("deletion", "sensitivity_n", "infidelity"):
        found = [
            scores(metric, model, inputs, attributions, targets=torch.full((4,), k), **more).values for k in range(3)
        ]
        assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])
    assert samples(model, inputs).clean("probability").allclose(model(inputs).softmax(1)[:, 0])
