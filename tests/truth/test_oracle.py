"""The oracle: it gives the truth and nothing else, is first wherever the truth is asked for, and controls are last."""

import os

import pytest
import torch
from torch import nn

import harness
from harness.datasets.causal import CausalGraph, causal
from harness.datasets.gaussian import gaussian
from harness.datasets.gaussian_terms import GaussianFunction
from harness.datasets.logic import GATES, LogicGate, logic
from harness.errors import NotApplicable
from harness.models.planted import causal_function, gaussian_function, logic_net
from harness.registry import EXPLAINERS, METRICS

TRUTH = [name for name, entry in METRICS.items() if entry.kind == "truth"]
FAMILIES = {
    **{
        f"gaussian {function}": (
            lambda seed, function=function: gaussian(
                planted=GaussianFunction(function), count=60, values="interventional", seed=seed
            ),
            lambda function=function: gaussian_function(planted=GaussianFunction(function)),
        )
        for function in ("linear", "additive", "piecewise")
    },
    "gaussian conditional": (lambda seed: gaussian(count=60, seed=seed), gaussian_function),
    **{
        f"causal {graph}": (
            lambda seed, graph=graph: causal(planted=CausalGraph(graph), count=60, seed=seed),
            lambda graph=graph: causal_function(planted=CausalGraph(graph)),
        )
        for graph in ("chain", "fork", "collider", "network")
    },
    **{
        f"logic {gate}": (
            lambda seed, gate=gate: logic(planted=LogicGate(gate), copies=10, seed=seed),
            lambda gate=gate: logic_net(planted=LogicGate(gate)),
        )
        for gate in GATES
    },
}
# Explainers whose values are exact, or nearly, for these functions: controls must not come before them.
EXPLAINERS_THAT_LOOK = {"exact_shapley": {}, "occlusion": {}}

pytestmark = pytest.mark.usefixtures("seed")


class Single(nn.Module):
    """One output."""

    def forward(self, inputs):
        return inputs.flatten(1).sum(1, keepdim=True)


class Pair(nn.Module):
    """Two logits."""

    def forward(self, inputs):
        first = inputs.flatten(1).sum(1)
        return torch.stack([first, -first], 1)


@pytest.mark.parametrize(
    ("shape", "units", "modality"),
    [
        ((3, 6, 5), (6, 5), "image"),
        ((1, 6, 5), (6, 5), "image"),
        ((7,), (7,), "table"),
        ((4, 3), (4,), "tokens"),
    ],
)
def test_it_gives_the_truth_as_it_was_told(shape, units, modality):
    truth = torch.randn(4, *units)
    inputs, targets = torch.randn(4, *shape), torch.zeros(4, dtype=torch.long)
    found = harness.explain("oracle", Pair().eval(), harness.Data(inputs, targets, truth=truth, modality=modality))
    assert torch.equal(harness.units.Units.of(inputs, modality).reduce(found), truth)
    # One channel: a sum over channels must not count it several times.
    assert found.numel() == truth.numel()


def test_columns_of_several_numbers_have_one_truth_each():
    truth, columns = torch.randn(4, 3), (0, 1, 1, 1, 2)
    found = harness.explain(
        "oracle",
        Pair().eval(),
        harness.Data(torch.randn(4, 5), torch.zeros(4, dtype=torch.long), truth=truth, columns=columns),
    )
    assert torch.equal(found, truth)


def test_without_a_truth_it_does_not_apply():
    with pytest.raises(NotApplicable, match="the data has no truth"):
        harness.explain("oracle", Pair().eval(), torch.randn(2, 5), torch.zeros(2, dtype=torch.long))


def _evaluated(module, labels, target):
    """The truth's cosine in a run in which the explained class is chosen by the protocol."""
    data = harness.sources.Data(
        torch.tensor([[1.0, 2], [-1, -2], [3, 1], [-3, -1]]),
        labels=labels,
        truth=torch.tensor([[1.0, 2], [1, 2], [3, 1], [3, 1]]),
    )
    stage = harness.engine.stage.set_stage(
        harness.sources.LoadedModel(module.eval()),
        data,
        harness.engine.protocol.Protocol(target=target),
        torch.device("cpu"),
    )
    recorder = harness.jobs.recorders.FrameRecorder()
    recorder.stage = stage
    cells = [
        harness.engine.selection.Cell(*each)
        for each in zip(
            harness.engine.selection.choose_several(EXPLAINERS, ["oracle"]),
            harness.engine.selection.choose_several(METRICS, ["truth_cosine"]),
            strict=True,
        )
    ]
    harness.engine.block.measure_block(stage, cells, recorder, alone=True)
    return recorder.frame()


def test_of_another_class_than_the_label_it_knows_nothing_and_these_samples_are_invalid():
    found = _evaluated(Pair(), torch.tensor([0, 0, 0, 1]), "predicted")  # the second is predicted to be of class 1
    assert found.value.isna().tolist() == [False, True, False, False]
    assert found.valid.tolist() == [True, False, True, True]
    assert _evaluated(Pair(), torch.tensor([0, 0, 0, 1]), "label").value.notna().all()


def test_the_output_of_a_regression_is_explained_whatever_the_labels():
    for labels in (torch.tensor([0.5, 0.1, 2.0, -1.0]), None):
        assert _evaluated(Single(), labels, "predicted").value.notna().all()


def test_it_is_no_control_and_asks_the_model_nothing():
    entry = EXPLAINERS["oracle"]
    assert entry.access == "none" and not entry.control and not entry.stochastic


@pytest.mark.parametrize("metric", ["max_sensitivity", "relative_input_stability", "random_logit", "input_invariance"])
def test_of_changed_inputs_and_other_classes_it_knows_nothing(metric):
    """Else it would be called perfectly stable, for giving the truth of other inputs."""
    frame = harness.evaluate(
        Pair().eval(),
        harness.Data(torch.randn(3, 4), torch.zeros(3, dtype=torch.long), truth=torch.randn(3, 4)),
        explainers=["oracle"],
        metrics=[metric],
    )
    assert set(frame.status) == {"not_applicable"} and frame.error.str.contains("oracle attributions cannot").all()


@pytest.fixture(scope="module", params=FAMILIES)
def means(request):
    """Mean scores by explainer and metric of one family, better ones higher, and the explainers that are controls."""
    make_data, make_model = FAMILIES[request.param]
    data, loaded = make_data(int(os.environ["HARNESS_TEST_SEED"])), make_model()
    controls = [name for name, entry in EXPLAINERS.items() if entry.control and "table" in entry.modalities]
    baseline = "zero" if request.param.startswith("logic") else "mean"
    looking = {name: {**options, "baseline": baseline} for name, options in EXPLAINERS_THAT_LOOK.items()}
    frame = harness.evaluate(
        loaded.module,
        harness.Data(data.inputs, torch.zeros(len(data), dtype=torch.long), truth=data.truth),
        train=data.train,
        explainers={"oracle": {}, **looking, **{name: {} for name in controls}},
        metrics=TRUTH,
    )
    # A sample on which one of them is undefined is compared for none.
    table = frame[frame.status == "ok"].pivot_table(
        index=["metric", "sample"], columns="explainer", values="value", dropna=False
    )
    return table, set(controls)


def _better(table, metric):
    rows = table.loc[metric].dropna(axis=1, how="all").dropna()
    sign = {"higher": 1, "lower": -1}[METRICS[metric].direction(METRICS[metric].options)]
    return sign * rows.mean()


def test_the_oracle_is_first_or_tied_first_in_every_metric_of_the_truth(means):
    table, _ = means
    seen = set()
    for metric in table.index.unique("metric"):
        scores = _better(table, metric)
        if scores.isna().all():  # no zero in the truth, so that nothing could be false
            continue
        seen.add(metric)
        assert scores["oracle"] >= scores.max() - 1e-6, (metric, scores)
        assert scores["oracle"] == pytest.approx(0 if metric in ("truth_error", "false_mass") else 1, abs=1e-6)
    assert len(seen) >= 4


# They look at few units of largest |a| alone, in which a map of the input's size can agree with the truth by chance.
OF_TOP_UNITS = [name for name in TRUTH if name.endswith("_agreement")]


def test_controls_are_last_in_every_metric_of_the_truth(means):
    table, controls = means
    for metric in table.index.unique("metric").difference(OF_TOP_UNITS):
        scores = _better(table, metric)
        inside = [name for name in scores.index if name in controls]
        others = [name for name in scores.index if name not in controls]
        if scores.isna().all() or not inside:
            continue
        assert scores[inside].max() < scores[others].min() + 1e-6, (metric, scores)
        assert scores["oracle"] > scores[inside].max() + 1e-3, (metric, scores)
