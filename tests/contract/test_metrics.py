"""What every registered metric promises, on every modality it serves."""

import copy
import functools
import math
import os
import re

import pytest
import torch
from torch import nn

import harness
from harness.metric_facts import what_it_asks
from harness.registry import EXPLAINERS, METRICS
from pairs import LOOKING_AT_MAPS, SCORED, WITHOUT_EXPLAINER, Case, explainer_of, small_options

scored_on = pytest.mark.parametrize("pair", **SCORED)

# Metrics of |a| alone cannot tell the oracle from its opposite (G26); those that retrain have tests of their own.
ORACLE_OPTIONS = {"infidelity": {"scaling": "none"}, "irof": {"normalised": False}, "selectivity": {"patch": 2}}
GAPS = ("prediction_gap_important", "prediction_gap_unimportant")
CUMULATIVE = ("cumulative_prediction_difference", "cumulative_prediction_preservation")
BLIND_TO_SIGN = ("monotonicity_correlation", *GAPS, *CUMULATIVE)
RETRAINING = ("roar", "idsds", "f_fidelity")
# What tests/truth/test_metrics_contract.py shows of the other metrics on tables, tokens and images, with more options.
ALONE_HERE_ALONE = (
    *("grid_pointing", "focus", "difull", "dipart", "target_sensitivity", "plausibility_iou_f1"),
    *("minimal_subset", "impact_score", "impact_coverage", "aic", "sic"),
)
# What explains again, what counts rises of the score as 0 (so that improbable classes have no order), what compares
# with training inputs, what is undefined unless the explained class is predicted (and, for some, lost when the image is
# blurred), and yes or no have tests of their own.
AGAIN, OF_DROPS, ALIKE = ("adcc",), ("aucse_f_score",), ("explanation_consistency", "explanation_sufficiency")
OF_PREDICTED = ("aic", "sic", "minimal_subset", "impact_score")
FAITHFUL = [
    entry
    for entry in METRICS.values()
    if entry.kind == "faithfulness"
    and entry.name not in BLIND_TO_SIGN + RETRAINING + AGAIN + OF_DROPS + ALIKE + OF_PREDICTED
]


def scored(entry, case, attributions, rows=slice(None), **options):
    """Scores of the case's samples, or a skipped test where the metric declines."""
    explainer = explainer_of(entry)
    if entry.name == "completeness":
        options = {"baseline": "zero", **options}
    try:
        return harness.score(
            entry.function,
            case.model,
            harness.Data(
                case.inputs[rows],
                case.targets[rows],
                modality=case.modality,
                train_labels=case.train_labels,
                value_range=(-4.0, 4.0),
                truth=case.truth[rows],
            ),
            attributions[rows],
            explainer=explainer,
            train=case.train,
            masks=case.masks[rows],
            **small_options(entry, case.modality),
            **options,
        )
    except harness.NotApplicable as reason:
        assert str(reason)
        pytest.skip(f"not applicable to {case.kind}: {reason}")


@functools.cache
def _attributions(kind, seed):
    case = Case(kind, seed)
    return harness.explain(
        "input_x_gradient", case.model, harness.Data(case.inputs, case.targets, modality=case.modality)
    )


def attributions_of(case):
    """The attributions of the case's samples, computed once for all metrics."""
    return _attributions(case.kind, case.seed).clone()


def assert_close(first, second):
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4, equal_nan=True)


@scored_on
def test_it_gives_each_sample_one_number_the_same_again_alone_and_in_any_order_and_changes_nothing(metric, case):
    attributions = attributions_of(case)
    state, inputs, maps = copy.deepcopy(case.model.state_dict()), case.inputs.clone(), attributions.clone()
    values = scored(metric, case, attributions)
    assert all(torch.equal(state[name], tensor) for name, tensor in case.model.state_dict().items())
    assert torch.equal(case.inputs, inputs) and torch.equal(attributions, maps)

    assert values.shape == (5,) and values.dtype == torch.float64
    # The labels of the cases are drawn, so that a model retrained on them is at chance, for which roar has no score.
    assert values.isfinite().any() or metric.name in (*OF_PREDICTED, *ALIKE, "roar"), (
        "an ordinary map on an ordinary net has a score"
    )
    assert torch.equal(values.nan_to_num(-9e9), scored(metric, case, attributions).nan_to_num(-9e9))
    low, high = metric.span_of(metric.complete(small_options(metric, case.modality)))
    known = values[values.isfinite()]
    assert (known >= (-math.inf if low is None else low) - 1e-5).all(), "the declared range holds"
    assert (known <= (math.inf if high is None else high) + 1e-5).all(), "the declared range holds"
    if case.kind in ("series", "attention image") or metric.name in ALONE_HERE_ALONE:
        for rows in ([2], [4, 0, 3]):
            assert_close(scored(metric, case, attributions, rows), values[rows])


@pytest.mark.parametrize("pair", **LOOKING_AT_MAPS)
def test_every_accepted_shape_of_the_same_attributions_scores_alike(metric, case):
    per_unit = case.units.reduce(attributions_of(case))
    assert_close(scored(metric, case, per_unit), scored(metric, case, case.units.expand(per_unit)))


@pytest.mark.parametrize("metric", FAITHFUL, ids=lambda metric: metric.name)
def test_the_oracle_beats_random_and_random_beats_the_anti_oracle(metric):
    torch.manual_seed(seed := int(os.environ["HARNESS_TEST_SEED"]) % 10_000)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval().requires_grad_(False)
    inputs, targets = torch.randn(12, 3, 4, 4), torch.randint(3, (12,))
    contributions = (model[1].weight[targets] * inputs.flatten(1)).view_as(inputs)
    maps = {"oracle": contributions, "random": torch.randn_like(inputs) * contributions.std(), "anti": -contributions}
    options = {name: value for name, value in (("score", "logit"), ("baseline", "zero")) if name in metric.options}
    options |= ORACLE_OPTIONS.get(metric.name, {})
    means = {
        name: float(
            harness.score(
                metric.function, model, harness.Data(inputs, targets, value_range=(-4.0, 4.0)), values, **options
            ).mean()
        )
        for name, values in maps.items()
    }
    direction = {"higher": 1, "lower": -1}[metric.direction({**metric.options, **options})]
    oracle, random, anti = (direction * means[name] for name in ("oracle", "random", "anti"))
    assert oracle > random > anti, f"seed {seed}: {means}"


@pytest.mark.parametrize("pair", **WITHOUT_EXPLAINER)
def test_a_metric_that_explains_again_says_so_when_it_cannot(metric, case):
    attributions = attributions_of(case)
    try:
        harness.score(
            metric.function,
            case.model,
            harness.Data(case.inputs, case.targets, value_range=(-4.0, 4.0), modality=case.modality),
            attributions,
            **small_options(metric, case.modality),
        )
    except harness.NotApplicable as reason:
        assert str(reason)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_its_docstring_direction_and_options_can_be_listed(metric):
    assert metric.summary.endswith(".") and len(metric.summary) < 400
    assert metric.direction(metric.options) in ("higher", "lower", None)
    assert metric.unit_of(metric.options) and len(metric.span_of(metric.options)) == 2
    asks = what_it_asks(metric)
    assert asks[0].isupper() and asks.endswith(".") and not re.search(r"[`|()=]|\d{4}", asks), "a stranger can read it"
    kinds = (int, float, str, bool, tuple)
    assert all(value is None or isinstance(value, kinds) for value in metric.options.values())


def test_every_control_is_registered_as_one():
    controls = {name for name, entry in EXPLAINERS.items() if entry.control}
    assert {"random", "edge", "center", "input_magnitude", "blurred_random"} <= controls
    assert all(EXPLAINERS[name].access == "none" for name in controls)
