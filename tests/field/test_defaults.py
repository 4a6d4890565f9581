"""Every metric and explainer works as it is on every kind of input, or says in one line which one thing it lacks."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import harness
from budgets import small
from default_worlds import COUNT, NETS, World, tried_with_what_it_asks_for
from harness.api import make_batch, samples_of
from harness.engine.explain import Explaining
from harness.engine.score import score_batch
from harness.registry import EXPLAINERS, METRICS
from harness.removal.segments import patch_side
from harness.units import Units
from small_nets import few_steps

pytestmark = pytest.mark.usefixtures("seed")
SCORED = [name for name, entry in METRICS.items() if entry.kind != "cost"]
# What serves some kinds of input alone: distances of units, in-filling from neighbours, mosaics of four classes, spans.
SEQUENCES = ("tokens", "series")
SERVES = {
    "road": ("image",),
    "truth_emd": ("image", *SEQUENCES),
    "grid_pointing": (),
    "focus": (),
    "difull": (),
    "dipart": (),
    "impact_coverage": ("image",),
    "plausibility_iou_f1": SEQUENCES,
    "aic": ("image",),
    "sic": ("image",),
}
# Images that do not lose their class when they are blurred have no curve, explanations that no other input shares no
# consistency, samples without a part that tells their class from another no sensitivity to it, and images that keep
# their class under every patch no coverage.
UNDEFINED_FOR_SOME = (
    *("aic", "sic", "explanation_consistency", "explanation_sufficiency", "target_sensitivity", "impact_coverage"),
)
# What needs another model: one with attention, with the layers that a library knows, or of trees.
NEEDS_A_MODEL = {
    "attention",
    "attention_rollout",
    "attn_lrp",
    "cp_lrp",
    "transformer_attribution",
    "att_cat",
    "captum_lrp",
    "tree_shap",
}
DIFFERENCES = (Path(__file__).parents[2] / "docs" / "differences.md").read_text()


def score(name, world, explainer="input_x_gradient"):
    return harness.score(name, world.model, world.given, world.maps, explainer=explainer, **world.options)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", SCORED)
def test_a_metric_has_a_score_for_every_sample_or_asks_for_one_thing_with_which_it_has(name, kind):
    for classes, train in ((2, True), (3, False)):
        found = tried_with_what_it_asks_for(lambda world: score(name, world), World(kind, classes, train))
        if kind in SERVES.get(name, NETS):
            assert isinstance(found, torch.Tensor), found
            assert found.shape == (COUNT,) and (found.isfinite().all() or name in UNDEFINED_FOR_SOME)
        else:
            assert isinstance(found, harness.NotApplicable)


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("name", EXPLAINERS)
def test_an_explainer_has_a_map_for_every_sample_or_asks_for_one_thing_with_which_it_has(name, kind):
    entry = EXPLAINERS[name]
    for train in (True, False):
        found = tried_with_what_it_asks_for(
            lambda world: harness.explain(name, world.model, world.given, **few_steps(name), **world.options),
            World(kind, 3, train),
        )
        if isinstance(found, torch.Tensor):
            assert len(found) == COUNT and found.isfinite().all()
        else:
            assert kind not in entry.modalities or name in NEEDS_A_MODEL or entry.stored, found


# The papers of these fix another baseline, or none: each departure is in docs/differences.md.
OTHER_BASELINES = {
    "completeness": None,  # that of the explainer
    **dict.fromkeys(("aucse_top", "aucse_f_score"), "gaussian_noise"),  # noise like the signal
    **dict.fromkeys(("adcc", "average_drop", "average_gain", "average_increase", "cam_coherency"), "zero"),  # a product
    "monotonicity_correlation": "resampled",  # an expectation over the data
    "non_sensitivity": "resampled",
    "roar": "train_mean",
    "deep_lift": "zero",
    "expected_gradients": "train_sample",
    "guided_ig": "zero",
    "extremal_perturbation": None,
    "idgi": "zero",
    "integrated_gradients": "zero",
    "integrated_hessians": "zero",
    "rise": "zero",
    "score_cam": "zero",
}


def test_whatever_removes_units_removes_them_to_the_same_baseline():
    entries = [*METRICS.values(), *(entry for entry in EXPLAINERS.values() if entry.source == "harness")]
    defaults = {entry.name: entry.options["baseline"] for entry in entries if "baseline" in entry.options}
    assert len(defaults) > 25
    others = {
        name: value
        for name, value in defaults.items()
        if value != ("typical" if name in METRICS else "typical_or_zero")
    }
    assert others == OTHER_BASELINES
    assert others.keys() <= {name for name, option, _ in defaults_of_the_page() if option == "baseline"}


def defaults_of_the_page():
    """The rows of the page's table of defaults: item, option and default, one for each item that is named."""
    table = DIFFERENCES.split("## Defaults", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if row.startswith("| `")]
    return [(name, row[1].strip("`"), row[2].strip("`")) for row in rows for name in re.findall(r"`(\w+)`", row[0])]


@pytest.mark.parametrize(("name", "option", "default"), defaults_of_the_page())
def test_the_defaults_that_the_page_of_differences_lists_are_those_of_the_registry(name, option, default):
    entry = METRICS[name] if name in METRICS else EXPLAINERS[name]
    assert ("null" if entry.options[option] is None else str(entry.options[option])) == default


def test_who_lacks_the_typical_baseline_is_told_which_one_it_is():
    world = World("table", 3)
    with pytest.raises(harness.NotApplicable, match=r"typical is train_mean for a table.*\(give train=\)"):
        score("deletion", world)


@pytest.mark.parametrize(("side", "patch"), [(3, 1), (4, 2), (12, 2), (28, 2), (32, 2), (64, 5), (224, 16), (280, 20)])
def test_a_patch_is_a_fourteenth_of_the_image(side, patch):
    assert patch_side((side, side)) == patch_side((2 * side, side)) == patch
    images = torch.rand(1, 1, side, side)
    samples = samples_of(nn.Sequential(nn.Flatten(), nn.Linear(side * side, 2)).eval(), images, torch.tensor([0]))
    assert samples.segments("patch").most == math.ceil(side / patch) ** 2


class Recording(nn.Module):
    """Logits of a table; keeps every row that it is given."""

    def __init__(self, ranges):
        super().__init__()
        self.seen, self.out = [], nn.Linear(3, 3)
        self.register_buffer("ranges", ranges)

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return self.out(x / self.ranges)


# Ages, incomes and shares: a range, a spread or a mean over them would be that of the incomes.
LOW, HIGH = torch.tensor([18.0, 10_000.0, 0.0]), torch.tensor([90.0, 100_000.0, 1.0])
OPTIONS = {
    "": {},
    "gaussian": {"perturbation": "gaussian", "convention": "local"},
    "noise": {"baseline": "uniform_noise"},
}
NOISY = [
    *((name, "") for name in SCORED if name not in (*SERVES, "input_invariance", "completeness")),
    ("infidelity", "gaussian"),
    ("deletion", "noise"),
]


def table():
    rows = lambda count: LOW + (HIGH - LOW) * torch.rand(count, 3)
    return Recording(HIGH - LOW).eval(), rows(COUNT), torch.cat([rows(10), LOW[None], HIGH[None]])


@pytest.mark.parametrize(("name", "setting"), NOISY)
def test_no_column_of_a_table_gets_the_noise_of_another(name, setting):
    """Neither the model nor the explainer meets a value far from what its column can be."""
    model, inputs, train = table()
    seen = []

    def recording(module, x, targets):
        seen.append(x.detach().clone())
        return x * module.out.weight[targets]

    data = harness.Data(
        inputs,
        torch.zeros(COUNT, dtype=torch.long),
        task="classes",
        train=train,
        train_labels=torch.arange(12) % 3,
        masks=torch.eye(3)[:1].expand(COUNT, 3) > 0,
        truth=torch.ones(COUNT, 3),
    )
    options = {"least_accuracy": 0.0, "epochs": 2, "similarity": "spearman"}
    options = {each: value for each, value in options.items() if each in METRICS[name].options} | OPTIONS[setting]
    options |= {"margin": 0.0} if name == "pointing_game" else {}
    harness.score(name, model, data, torch.randn(COUNT, 3), explainer=recording, **options)
    met, margin = torch.cat([*model.seen, *seen]), HIGH - LOW
    assert ((met >= LOW - margin) & (met <= HIGH + margin)).all()


ROBUST = [name for name, entry in METRICS.items() if entry.kind == "robustness"] + ["smooth_parameter_randomization"]


@pytest.mark.parametrize("name", ROBUST)
def test_noise_on_a_table_is_scaled_by_each_columns_declared_range_or_asks_for_the_training_data(name):
    model, inputs, _ = table()
    seen = []

    def recording(module, x, targets):
        seen.append(x.detach().clone())
        return x * module.out.weight[targets]

    def measured(**more):
        data = harness.Data(inputs, torch.zeros(COUNT, dtype=torch.long), **more)
        options = {"similarity": "spearman"} if "similarity" in METRICS[name].options else {}
        return harness.score(name, model, data, torch.randn(COUNT, 3), explainer=recording, **options)

    with pytest.raises(harness.NotApplicable, match=r"\(give train=\)$"):
        measured()
    measured(value_range=(LOW, HIGH))
    moved = torch.cat(seen)[:, None] - inputs
    spread = (moved.abs() / (HIGH - LOW)).amax(2).amin(1)  # of each noisy row, from the row that it came from
    assert 0 < spread.max() < 0.6  # at most six times the standard deviation of a tenth of the range


def test_the_stability_of_an_explanation_does_not_hang_on_the_unit_of_a_column():
    """Incomes in another currency, with a weight to match: the same people, model and contributions."""
    _, inputs, train = table()
    weight, found = torch.randn(2, 3), []
    for currency in (1.0, 1e-3, 1e3):
        unit = torch.tensor([1.0, currency, 1.0])
        model = nn.Linear(3, 2).eval()
        model.load_state_dict({"weight": weight / unit, "bias": torch.zeros(2)})
        explaining = Explaining(EXPLAINERS["input_x_gradient"], {}, model)
        samples = samples_of(model, inputs * unit, torch.zeros(COUNT, dtype=torch.long), train=train * unit)
        samples = replace(samples, keys=torch.arange(COUNT))  # the same noise
        entry = METRICS["relative_input_stability"]
        batch = make_batch(samples, explaining(samples), explaining)
        found.append(score_batch(entry, entry.complete({}), batch).values)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-3, atol=0)


ODD = {
    "one pixel": ("image", (3, 1, 1)),
    "one column": ("table", (1,)),
    "one token": ("tokens", (1, 4)),
    "one step": ("series", (2, 1)),
    "one number": ("other", (1, 1, 1)),
    "two columns": ("table", (2,)),
    "a strip": ("image", (1, 2, 30)),
    "five channels": ("image", (5, 8, 8)),
}
MAPS = {"zero": torch.zeros_like, "constant": torch.ones_like, "random": torch.randn_like}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("name", SCORED)
def test_an_odd_input_or_a_constant_map_has_a_score_a_reason_or_a_refusal_in_one_line(name, what):
    kind, shape = ODD[what]
    model, entry = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 3)).eval(), METRICS[name]
    units = Units.of(torch.zeros(1, *shape), kind).shape
    data = harness.Data(
        torch.randn(COUNT, *shape),
        torch.arange(COUNT) % 3,
        modality=kind,
        train=torch.randn(12, *shape),
        train_labels=torch.arange(12) % 3,
        masks=torch.rand(COUNT, *units) < 0.5,
        truth=torch.randn(COUNT, *units),
    )
    options = small(entry, samples=5, draws=5)
    for make in MAPS.values():
        samples = samples_of(model, data)
        explaining = Explaining(EXPLAINERS["input_x_gradient"], {}, model)
        try:
            scores = score_batch(entry, entry.complete(options), make_batch(samples, make(data.inputs), explaining))
        except (harness.NotApplicable, harness.errors.UserError) as refusal:
            assert "\n" not in str(refusal) and len(str(refusal)) < 250
            continue
        assert not scores.values.isinf().any()
        assert scores.reason or not scores.values.isnan().any()
