"""Names of options: each has one meaning, which the page lists, and former names still work and say the present one."""

import re
import warnings
from numbers import Number
from pathlib import Path

import pytest

import harness
from harness.cli.hydra_config import for_each_job
from harness.cli.main import main
from harness.errors import UserError
from harness.jobs.plan import Plan
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS

REGISTRIES = {"explainer": EXPLAINERS, "metric": METRICS, "dataset": DATASETS, "model": MODELS}
OWN = {
    kind: [e for e in registry.values() if e.function.__module__.startswith("harness.")]
    for kind, registry in REGISTRIES.items()
}
OPTIONS = [(entry, name) for entries in OWN.values() for entry in entries for name in entry.options]
RENAMED = [
    (kind, entry, *names) for kind, entries in OWN.items() for entry in entries for names in entry.renamed.items()
]
PAGE = (Path(__file__).parents[2] / "docs" / "options.md").read_text(encoding="utf-8")
CHOSEN = {"model": "digits_cnn", "dataset": "digits", "explainer": "saliency", "metric": "sparseness"}


def test_the_page_has_every_option_once_and_no_other_and_no_meaning_twice():
    listed = re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE.partition("<!-- capabilities")[0], flags=re.M)
    assert sorted(name for name, _ in listed) == sorted({name for _, name in OPTIONS})
    assert len({meaning for _, meaning in listed}) == len(listed)


def test_under_one_name_stand_values_of_one_kind():
    """A number under a name that is elsewhere a yes or no, or a text, is another thing."""
    kinds = {}
    for entry, name in OPTIONS:
        default = entry.options[name]
        kind = next((each for each in (bool, Number, str) if isinstance(default, each)), None)
        if kind is not None:
            kinds.setdefault(name, {}).setdefault(kind, entry.name)
    # An attention layer is counted, others are named.
    assert {name: found for name, found in kinds.items() if len(found) > 1 and name != "layer"} == {}


def test_a_metric_counts_draws_and_no_item_both_draws_and_samples():
    names = {entry.name: set(entry.options) for entries in OWN.values() for entry in entries}
    assert not [entry.name for entry in OWN["metric"] if "samples" in entry.options]
    assert not [name for name, options in names.items() if {"draws", "samples"} <= options]
    assert not [
        entry.name for kind in ("explainer", "dataset", "model") for entry in OWN[kind] if "draws" in entry.options
    ]


@pytest.mark.parametrize(
    ("kind", "entry", "former", "present"), RENAMED, ids=lambda each: getattr(each, "name", str(each))
)
def test_a_former_name_gives_the_present_option_and_says_so_and_both_are_refused(kind, entry, former, present):
    default = entry.options[present]
    text = next((word for word in entry.kind_of(present).words() if word != default), "other")
    value = next((each for each in (7, 0.125, True, 50, text) if entry.kind_of(present).takes(each)), text)
    value = float(value) if isinstance(default, float) else value
    with pytest.warns(UserWarning, match=f"option {former} of {entry.name} is called {present} now") as told:
        options = entry.complete({former: value})
    assert options == {**entry.options, present: value} and len(told) == 1
    with pytest.raises(UserError, match=f"keep {present}"):
        entry.complete({former: value, present: value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert entry.complete({present: value}) == options


def planned(*arguments):
    """The plans of every job that a command line describes."""
    plans = []
    keys = {argument.lstrip("+").partition("=")[0] for argument in arguments}
    rest = [f"{group}={name}" for group, name in CHOSEN.items() if not keys & {group, "experiment"}]
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the line is printed once, and is no warning
        for_each_job([*arguments, *rest], lambda config: plans.append(Plan.of(config)))
    return plans


def named(items, label):
    """The item of a plan under a label."""
    return next(each for each in items if each.label == label)


def infidelity_draws(plan):
    return named(plan.metrics, "infidelity").options["draws"]


TYPED = {  # what is typed, where the value arrives, and what is said
    "a metric": (
        ["metric=infidelity", "metric.infidelity.samples=7"],
        lambda plan: plan.metrics[0].options["draws"],
        "metric.infidelity.samples is called metric.infidelity.draws now",
    ),
    "an explainer": (
        ["explainer=rise", "explainer.rise.probability=0.7"],
        lambda plan: 10 * plan.explainers[0].options["keep_probability"],
        "explainer.rise.probability is called explainer.rise.keep_probability now",
    ),
    "a data set": (
        ["dataset=causal", "model=causal_function", "dataset.samples=7"],
        lambda plan: plan.dataset.options["count"],
        "dataset.samples is called dataset.count now",
    ),
    "a label of one's own": (
        ["+metric.mine={name: infidelity, samples: 7}"],
        lambda plan: plan.metrics[-1].options["draws"],
        "metric.mine.samples is called metric.mine.draws now",
    ),
    "shared by metrics": (
        ["metric=[sensitivity_n,infidelity]", "+metric.shared.subsets=7"],
        lambda plan: plan.metrics[0].options["draws"],
        "metric.shared.subsets is called metric.shared.draws for sensitivity_n now",
    ),
    "several settings": (
        ["+metric.mine={name: infidelity, over: {samples: [7]}}"],
        lambda plan: int(plan.metrics[-1].label == "mine[draws=7]") * plan.metrics[-1].options["draws"],
        "metric.mine.over.samples is called metric.mine.over.draws now",
    ),
    "over the value of a group": (
        ["metric=standard", "++metric.infidelity.samples=7"],
        infidelity_draws,
        "metric.infidelity.samples is called metric.infidelity.draws now",
    ),
    "a mapping": (
        ["metric=standard", "metric.infidelity={samples: 7}"],
        infidelity_draws,
        "metric.infidelity.samples is called metric.infidelity.draws now",
    ),
    "a mapping of an explainer": (
        ["explainer=rise", "explainer.rise={probability: 0.7, samples: 5}"],
        lambda plan: 10 * plan.explainers[0].options["keep_probability"],
        "explainer.rise.probability is called explainer.rise.keep_probability now",
    ),
    "a label of this package": (
        ["metric=subsets", "+metric.infidelity_normalised.samples=7"],
        lambda plan: named(plan.metrics, "infidelity_normalised").options["draws"],
        "metric.infidelity_normalised.samples is called metric.infidelity_normalised.draws now",
    ),
    "left out": (
        ["metric=standard", "~metric.infidelity.samples"],
        lambda plan: (
            7 if named(plan.metrics, "infidelity").options["draws"] == METRICS["infidelity"].options["draws"] else None
        ),
        "metric.infidelity.samples is called metric.infidelity.draws now",
    ),
    "a point of an experiment": (
        ["experiment=tradeoff", "hydra.mode=RUN", "experiment.point=l1", "experiment.points.l1.kind=l2"],
        lambda plan: 7 if plan.model.options["change"] == "l2" else None,
        "experiment.points.l1.kind is called experiment.points.l1.change now",
    ),
}


@pytest.mark.parametrize(("arguments", "of", "said"), TYPED.values(), ids=TYPED)
def test_a_former_name_on_the_command_line_is_read_as_the_present_one(arguments, of, said, capsys):
    (plan,) = planned(*arguments)
    assert of(plan) == 7
    assert capsys.readouterr().err == f"harness: {said}\n"


FILES = {  # the group, the file, what is typed besides, and where the value arrives
    "a metric": ("metric", "defaults: [infidelity, _self_]\ninfidelity: {samples: 7}", [], infidelity_draws),
    "an explainer": (
        "explainer",
        "defaults: [rise, _self_]\nrise: {probability: 0.7}",
        [],
        lambda plan: 10 * plan.explainers[0].options["keep_probability"],
    ),
    "over a group": ("metric", "defaults: [standard, _self_]\ninfidelity: {samples: 7}", [], infidelity_draws),
    "over another group": (
        "metric",
        "defaults: [robustness, _self_]\nmax_sensitivity: {samples: 7}",
        [],
        lambda plan: named(plan.metrics, "max_sensitivity").options["draws"],
    ),
    "over an experiment": (
        "experiment",
        "# @package _global_\ndefaults: [reviews, _self_]\nmetric: {max_sensitivity: {samples: 7}}",
        [],
        lambda plan: named(plan.metrics, "max_sensitivity").options["draws"],
    ),
    "over a data set of an experiment": (
        "experiment",
        "# @package _global_\ndefaults: [causal, _self_]\ndataset: {samples: 7}",
        [],
        lambda plan: plan.dataset.options["count"],
    ),
    "over points of an experiment": (
        "experiment",
        "# @package _global_\ndefaults: [tradeoff, _self_]\nexperiment: {points: {l1: {kind: l2}}}",
        ["hydra.mode=RUN", "experiment.point=l1"],
        lambda plan: 7 if plan.model.options["change"] == "l2" else None,
    ),
    "under what is typed": (
        "metric",
        "defaults: [standard, _self_]\ninfidelity: {samples: 20}",
        ["metric.infidelity.samples=7"],
        infidelity_draws,
    ),
}


@pytest.mark.parametrize(("group", "text", "typed", "of"), FILES.values(), ids=FILES)
def test_a_former_name_in_a_file_is_read_as_the_present_one(group, text, typed, of, tmp_path, capsys):
    (plan,) = planned_with(tmp_path, group, text, *typed)
    assert of(plan) == 7 and " now\n" in capsys.readouterr().err


def planned_with(folder, group, text, *arguments):
    """The plans with a file of the user's in a group."""
    (folder / group).mkdir()
    (folder / group / "mine.yaml").write_text(text)
    return planned("--config-dir", str(folder), f"{group}=mine", *arguments)


def test_both_names_in_a_users_file_are_refused_also_where_one_has_the_value_of_the_group(tmp_path, capsys):
    text = "defaults: [standard, _self_]\ninfidelity: {samples: 20, draws: 50}"
    assert planned_with(tmp_path, "metric", text) == []
    assert "metric.infidelity has samples and draws, two names of one option: keep draws" in capsys.readouterr().err


BOTH = {
    "arguments": ["metric=infidelity", "metric.infidelity.samples=7", "metric.infidelity.draws=8"],
    "a mapping": ["+metric.mine={name: infidelity, samples: 7, draws: 7}"],
    "a mapping of an item": ["metric=infidelity", "metric.infidelity={samples: 7, draws: 8}"],
    "shared": ["metric=infidelity", "+metric.shared={samples: 7, draws: 8}"],
}


@pytest.mark.parametrize("arguments", BOTH.values(), ids=BOTH)
def test_both_names_of_one_option_are_refused_in_one_line(arguments, capsys):
    rest = [
        f"{group}={name}" for group, name in CHOSEN.items() if group != "metric" or "metric=infidelity" not in arguments
    ]
    assert main(["plan", *rest, *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "keep" in error and "draws" in error


def test_a_former_name_works_as_a_keyword_also_where_data_have_a_field_of_that_name():
    torch = pytest.importorskip("torch")
    net, inputs = torch.nn.Linear(6, 2).eval(), torch.randn(3, 6)
    given = (net, inputs, torch.zeros(3, dtype=torch.long), torch.randn(3, 6))
    with pytest.warns(UserWarning, match="option groups of faithfulness_estimate is called most_groups now"):
        found = harness.score("faithfulness_estimate", *given, groups=3, baseline="zero")
    assert torch.equal(found, harness.score("faithfulness_estimate", *given, most_groups=3, baseline="zero"))


def test_the_identity_of_a_cell_has_the_present_names():
    cells = []
    for name in ("samples", "draws"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cells.append(Plan.of({**CHOSEN, "metric": {"infidelity": {name: 7}}}).cells[0].id)
    assert cells[0] == cells[1]


@pytest.mark.parametrize("added", [{"power2": 1.0}, {"steps": "many"}])
def test_an_added_option_that_is_none_or_has_no_such_value_is_refused(added):
    def mine(batch, *, power=2.0, steps=3):
        """Mine."""

    with pytest.raises(UserError):
        METRICS._checked_entry("mine", mine, added=added)


WRONG = {"an option that is there": {"power": "steps"}, "no option": {"old": "power2"}}


@pytest.mark.parametrize("renamed", WRONG.values(), ids=WRONG)
def test_a_declaration_that_names_no_option_is_refused(renamed):
    def mine(batch, *, power=2.0, steps=3):
        """Mine."""

    with pytest.raises(UserError, match="renames"):
        METRICS._checked_entry("mine", mine, renamed=renamed)
