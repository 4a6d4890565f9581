"""Nothing that explains or scores makes a tensor on the wrong device, which a CPU alone would not show.

Everything runs on a device that is only pretended (``pretend.py``). It refuses what a GPU refuses and gives the CPU's
values, so that a tensor made without a device raises, and one that lost its values differs.
"""

import sys
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

import harness
from harness.registry import EXPLAINERS, METRICS
from harness.removal.baselines import BASELINES, INFILLINGS
from items import data_of, explained, maps_of, scored, stay
from pairs import NETS, Case, small_options
from pretend import Away, away, counted_waits, pretended

# Where a run leaves the training data, and where a notebook may put it.
TRAIN = {"train on the cpu": stay, "train on the device": away}
PLACES = [
    ("image", "train on the cpu"),
    ("series", "train on the cpu"),
    ("attention tokens", "train on the device"),
    ("table", "train on the cpu"),
    ("table", "train on the device"),
]
# A metric asks the model for outputs and gradients, whatever its layers are, and tables for nothing that tokens lack.
OF_METRICS = [*PLACES[:2], ("tokens", "train on the device"), ("table", "train on the cpu")]
# Items that wait for the GPU more often the more samples there are, and why. Each time costs some microseconds.
WAITING = {
    "agi": "the paths of some samples need more steps than those of others, and each step asks which go on",
    "mfaba": "as agi",
    "guided_ig": "each step asks which samples still move",
    "anchors": "a search, sample by sample",
    "counterfactuals": "a search, sample by sample",
    "captum_lime": "the library's loop over samples",
    "captum_kernel_shap": "the library's loop over samples",
    "vit_cx": "the clusters of a sample's features are found on the CPU",
    "truth_emd": "the transport of a sample is found on the CPU",
    "roar": "training asks after each epoch whether to go on",
    **dict.fromkeys(("difull", "dipart", "focus", "grid_pointing"), "each mosaic is put together by itself"),
    **dict.fromkeys(
        (
            "avg_sensitivity",
            "impact_coverage",
            "local_lipschitz",
            "max_sensitivity",
            "relative_input_stability",
            "relative_output_stability",
            "relative_representation_stability",
            "smooth_parameter_randomization",
            "chance_similarity",  # here of smooth maps
        ),
        "every batch of changed samples that is explained is checked",
    ),
}
COUNTED, FEW = [PLACES[0], PLACES[3]], slice(2)  # as a run has them
SEGMENTS = ("slic:30", "grid:3", "patch:4", "unit", "few")


def everywhere(entries, places=PLACES):
    """Each entry in each place that it can serve, as ``parametrize`` takes them."""
    tried = [
        (entry, *place)
        for entry in entries
        for place in places
        if place[0].split()[-1] in getattr(entry, "modalities", place[0])
    ]
    return {"argvalues": tried, "ids": ["-".join((entry.name, *place)) for entry, *place in tried]}


def assert_same(there, here):
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4 * float(here.nan_to_num().abs().max()), equal_nan=True)


def or_skip(function, *arguments, **options):
    """The function's answer, or a skipped test where an item says that it does not apply."""
    try:
        return function(*arguments, **options)
    except harness.NotApplicable as reason:
        pytest.skip(f"not applicable: {reason}")


@cache
def on_the_cpu(name, kind):
    """The explainer's maps on the CPU, which are the same wherever the training data is elsewhere."""
    return explained(EXPLAINERS[name], kind, stay)


@pytest.mark.parametrize(("entry", "kind", "train"), **everywhere(EXPLAINERS.values()))
def test_an_explainer_works_where_its_inputs_are(entry, kind, train):
    here = or_skip(on_the_cpu, entry.name, kind)
    with pretended(), counted_waits() as of_all:
        there = explained(entry, kind, away, TRAIN[train])
    assert isinstance(there, Away)
    assert_same(there.held, here)
    with pretended(), counted_waits() as of_few:
        if (kind, train) in COUNTED and entry.name not in WAITING:
            explained(entry, kind, away, TRAIN[train], FEW)
            assert of_all() <= of_few(), "the GPU is waited for sample by sample"


@pytest.mark.parametrize(
    ("entry", "kind", "train"), **everywhere((entry for entry in METRICS.values() if entry.kind != "cost"), OF_METRICS)
)
def test_a_metric_works_where_its_inputs_are(entry, kind, train):
    maps = maps_of(kind)
    here = or_skip(scored, entry, kind, maps, stay)
    with pretended(), counted_waits() as of_all:
        there = scored(entry, kind, maps, away, TRAIN[train])
    assert not isinstance(there, Away), "scores are on the CPU, wherever the inputs are"
    assert_same(there, here)
    with pretended(), counted_waits() as of_few:
        if kind == "image" and entry.name not in WAITING:
            scored(entry, kind, maps, away, TRAIN[train], FEW)
            assert of_all() <= of_few(), "the GPU is waited for sample by sample"


@pytest.mark.parametrize("baseline", [*BASELINES, *INFILLINGS])
@pytest.mark.parametrize("kind", ["image", "table", "tokens"])
def test_a_removed_unit_becomes_the_same_there(baseline, kind, monkeypatch):
    monkeypatch.setattr(sys.modules[INFILLINGS["vae"].__module__], "STEPS", 10)  # of training, which take their time
    maps = maps_of(kind)
    here = or_skip(scored, METRICS["deletion"], kind, maps, stay, baseline=baseline, steps=4)
    with pretended():
        there = scored(METRICS["deletion"], kind, maps, away, stay, baseline=baseline, steps=4)
    assert_same(there, here)


@pytest.mark.parametrize("segments", SEGMENTS)
def test_segments_are_the_same_there(segments):
    maps = maps_of("image")
    here = scored(METRICS["irof"], "image", maps, stay, segments=segments)
    with pretended():
        there = scored(METRICS["irof"], "image", maps, away, segments=segments)
    assert_same(there, here)


@pytest.mark.parametrize("kind", ["image", "table"])
def test_a_whole_evaluation_gives_the_same_rows_there(kind):
    explainers = ["saliency", "occlusion", "integrated_gradients", "random"]
    metrics = ["srg", "sensitivity_n", "max_sensitivity", "parameter_randomization", "forward_passes"]

    def evaluated(move):
        case = Case(kind, seed=0)
        return harness.evaluate(
            move(case.model),
            data_of(case, move, stay, masks=move(case.masks)),
            explainers={name: small_options(EXPLAINERS[name], kind) for name in explainers},
            metrics={name: small_options(METRICS[name], kind) for name in metrics},
            tuned=True,
        )

    here = evaluated(stay)
    with pretended():
        there = evaluated(away)
    assert list(there["status"]) == list(here["status"]) and set(here["status"]) == {"ok"}
    np.testing.assert_allclose(there["value"], here["value"], rtol=1e-3, atol=1e-4)


MISTAKES = {
    "made without a device": lambda inputs: inputs + torch.ones(inputs.shape),
    "an array of what is elsewhere": lambda inputs: torch.from_numpy(inputs.detach().numpy()),
    "integers multiplied as matrices": lambda inputs: (
        inputs * (torch.ones_like(inputs).long().mT @ inputs.long()).sum()
    ),
    "an operation that GPUs do not have": lambda inputs: inputs * torch.histogram(inputs, 3).hist.sum(),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_that_a_cpu_lets_pass_does_not_pass_there(mistake):
    def careless(model, inputs, targets):
        """Makes the mistake."""
        return MISTAKES[mistake](inputs)

    if mistake == "an operation that GPUs do not have" and not torch.backends.cuda.is_built():
        pytest.skip("this build of torch does not know what GPUs have")
    case = Case("table", seed=0)
    harness.explain(careless, case.model, case.inputs, case.targets)
    with pretended(), pytest.raises((RuntimeError, TypeError, NotImplementedError)):
        harness.explain(careless, away(case.model), away(case.inputs), away(case.targets))


@pytest.mark.parametrize(
    "wait",
    [
        lambda values: values.sum().item(),
        lambda values: values.tolist(),
        lambda values: values.cpu(),
        lambda values: values[values > 0],
        lambda values: values.nonzero(),
        lambda values: bool((values > 0).any()),
        lambda values: values.repeat_interleave(torch.tensor([1, 2], device=values.device), 0),
        lambda values: values.masked_select(values > 0),
        lambda values: values.masked_scatter(values > 0, values).__setitem__(values > 0, values[values > 0]),
        lambda values: values.unique(),
    ],
)
def test_what_a_gpu_is_waited_for_is_seen(wait):
    with pretended():
        values = away(torch.randn(2, 3))
        with counted_waits() as waits:
            (values * 2 + values.sum(0)).where(values > 0, 0).masked_fill(values > 1, 3.0).argsort(1)
            assert waits() == 0
            wait(values)
            assert waits() > 0


def test_gradients_copies_and_indices_work_there_as_on_a_gpu():
    net, inputs = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), torch.randn(5, 4)
    (here,) = torch.autograd.grad(net(inputs.requires_grad_()).sum(), inputs)
    with pretended() as device:
        moved = away(inputs).requires_grad_()
        (there,) = torch.autograd.grad(away(net)(moved).sum(), moved)
        assert there.device == device and torch.equal(there.cpu(), here)
        assert torch.equal(moved[torch.tensor([1, 2])].cpu(), inputs[1:3])
        assert torch.equal((moved + torch.tensor(1.0)).cpu(), inputs + 1)
        moved.data[:, 0] = 7.0
        assert (moved[:, 0].cpu() == 7).all() and inputs[0, 0] != 7
        assert torch.tensor([1.0, 2.0], device=device).tolist() == [1.0, 2.0]
        assert torch.zeros(2).device.type == "cpu"


def test_every_kind_of_net_runs_there():
    for kind in NETS:
        case = Case(kind, seed=0)
        expected = case.model(case.inputs)
        with pretended():
            torch.testing.assert_close(away(case.model)(away(case.inputs)).cpu(), expected)
