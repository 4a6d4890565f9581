"""Every option of every item says which values it takes, and every other value is one line before anything runs."""

import warnings
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args

import pytest
import torch

import harness
from harness.engine.protocol import DTYPES, Protocol
from harness.errors import UserError
from harness.explainers._lrp_composites import COMPOSITES
from harness.explainers._tabular import EXPLAINED
from harness.explainers.attention import HEADS
from harness.explainers.extrmask import NETWORKS
from harness.explainers.permutation_importance import LOSSES
from harness.identity import canonical
from harness.jobs.plan import Plan, Runtime
from harness.metrics._similarity import SIMILARITIES
from harness.metrics.agreement import _AMONG_TOP
from harness.metrics.efficient_randomization import OVER_SEEDS
from harness.option_kinds import Kind, Number, Text, kind_of
from harness.option_types import Count, Range, Share, Sized
from harness.registry import DATASETS, EXPLAINERS, METRICS, MODELS, Entry, Registry
from harness.removal.baselines import BASELINES, BaselineName
from harness.removal.infilling import INFILLINGS
from harness.units import REDUCTIONS
from option_values import INF, NAN, SENSELESS, WRONG, alternatives, edges, plain_type

ITEMS = {
    f"{registry.kind}-{name}": entry
    for registry in (EXPLAINERS, METRICS, DATASETS, MODELS)
    for name, entry in registry.items()
    if entry.function.__module__.startswith("harness.")
}
# Texts that only the user's files, layers and columns can tell right from wrong.
FREE = {
    *("architecture", "categorical", "classes", "column", "concept", "concepts", "drop", "factory", "file_column"),
    *("fixed", "groups", "id_column", "ids", "label_column", "labels_path", "layer", "masks", "modality", "na", "of"),
    *("path", "preprocess", "reference", "root", "split", "split_column", "target", "text_column", "train_path"),
    *("transforms", "weights", "which"),
}


@pytest.mark.parametrize("item", ITEMS)
def test_senseless_values_are_refused_in_one_line(item):
    entry = ITEMS[item]
    for option, default in entry.options.items():
        kind = entry.kind_of(option)
        for value in [*SENSELESS, *WRONG.get(plain_type(default, kind), [])]:
            if not _makes_sense(option, value, kind):
                refused(entry, option, value)
        if default is None or _may_be_none(entry, option):
            assert entry.complete({option: None})[option] is None
        else:
            refused(entry, option, None)


def _may_be_none(entry: Entry, option: str) -> bool:
    """Whether an option takes None though its default is another value: the item then makes a choice by itself."""
    removes_segments, trained = {"background", "segments"} <= entry.options.keys(), entry.name in MODELS
    return (removes_segments and option == "background") or (trained and option == "epochs") or option == "categorical"


def _makes_sense(option: str, value: Any, kind: Kind) -> bool:
    """Whether a value that is wrong for most options of its kind is right for this one."""
    lists = option in ("categorical", "groups", "drop", "na", "mean", "std", "options", "ordinal")
    numbers = option in ("columns_per_split", "na")
    return kind.takes(value) and (
        (lists and isinstance(value, list | dict)) or (numbers and isinstance(value, int | float))
    )


def refused(entry: Entry, option: str, value: Any) -> None:
    with pytest.raises(UserError) as error, warnings.catch_warnings():
        warnings.simplefilter("error")
        entry.complete({option: value})
    line = str(error.value)
    assert line.startswith(f"option {option} of {entry.name} is ") and ", expected " in line, line
    assert "\n" not in line and len(line) < 600, line


@pytest.mark.parametrize("item", ITEMS)
def test_every_number_has_a_range_and_every_text_its_words(item):
    """Without them a count of 10^9 would run for years, and a wrong word would be found after hours."""
    entry = ITEMS[item]
    for option, default in entry.options.items():
        kind = entry.kind_of(option)
        assert type(kind) is not Kind, f"{option} has no annotation"
        assert kind.takes(default) and "_Just" not in repr(kind), f"the default of {option} is not of its kind"
        for each in alternatives(kind):
            if isinstance(each, Number) and option != "na":
                assert each.within.least > -float("inf") and each.within.most < float("inf"), option
            if isinstance(each, Text):
                assert each.form or option in FREE, f"{option} is any text: which words does it take?"


@pytest.mark.parametrize("item", ITEMS)
def test_values_at_the_edge_of_the_range_are_taken_and_keep_their_form(item):
    entry = ITEMS[item]
    for option, default in entry.options.items():
        for value in edges(entry.kind_of(option)):
            taken = entry.complete({option: value})[option]
            assert taken == value and (default is None or type(taken) is type(value)), (option, value)


# Values with which an item measures nothing, though a number of their kind: by the name of the option.
MEANINGLESS = {
    "noise": [1e9, 11],
    "radius": [1e-10, 0.0, 11],
    "step_size": [0.0, 11],
    "relative_noise": [0.0, 1e9],
    "percents": [100, (50, 100)],
    "epochs": [0],
}
MEANT = {
    "percents": {
        "plausibility_mean_iou",  # of the largest attribution, not of the units
        *("comprehensiveness", "sufficiency"),  # all tokens whose attribution is positive
        "f_fidelity",  # of which parts are removed at random, as in the released code's list
    },
    "epochs": {"f_fidelity", "idsds"},  # the model as it is
}


@pytest.mark.parametrize("item", ITEMS)
def test_values_that_measure_nothing_are_refused(item):
    entry = ITEMS[item]
    for option in MEANINGLESS.keys() & entry.options.keys():
        if entry.name not in MEANT.get(option, ()):
            for value in MEANINGLESS[option]:
                refused(entry, option, value)


def test_equal_copies_have_no_variance():
    refused(EXPLAINERS["vargrad"], "noise", 0.0)
    assert EXPLAINERS["smoothgrad"].complete({"noise": 0.0})["noise"] == 0.0


@pytest.mark.parametrize("name", METRICS.bridged())
def test_numbers_of_another_librarys_items_have_ranges_too(name):
    pytest.importorskip("quantus")
    entry = METRICS[name]
    for option, default in entry.options.items():
        assert entry.kind_of(option).takes(default), option
        if isinstance(default, bool | int | float):
            for value in [NAN, INF, None, 10**400, [default], {}, "x"]:
                refused(entry, option, value)


# The words of an option whose values are the keys of a table.
TABLES = {
    ("lrp", "composite"): COMPOSITES,
    ("rfe", "labels"): EXPLAINED,
    ("attention", "heads"): HEADS,
    ("extrmask", "network"): NETWORKS,
    ("permutation_importance", "score"): LOSSES,
    ("sanity", "similarity"): SIMILARITIES,
    ("explainer_disagreement", "measure"): {*_AMONG_TOP, "pairwise_rank"},
    ("efficient_parameter_randomization", "over_seeds"): OVER_SEEDS,
}


@pytest.mark.parametrize(("name", "option"), TABLES)
def test_the_words_of_an_option_are_those_of_its_table(name, option):
    entry = EXPLAINERS[name] if name in EXPLAINERS else METRICS[name]
    assert set(entry.kind_of(option).words()) == set(TABLES[name, option])


def test_the_words_for_baselines_and_of_the_protocol_are_those_that_exist():
    assert set(get_args(BaselineName)) == {*BASELINES, *INFILLINGS}
    kinds = {each.name: kind_of(each.type) for each in fields(Protocol)}
    assert set(kinds["dtype"].words()) == set(DTYPES) and set(kinds["reduction"].words()) == {*REDUCTIONS, "none"}


# A class index, a large seed, and seconds or none of them where the default is a word.
MEANT_SETTINGS = [("target", 3), ("seed", 10**18), *(("cell_timeout", each) for each in (3, 0.5, None))]


@pytest.mark.parametrize(("section", "settings"), [("protocol", Protocol), ("runtime", Runtime)])
def test_senseless_settings_are_refused_in_one_line(section, settings):
    for each in fields(settings):
        kind = kind_of(each.type)
        for value in [*SENSELESS, *WRONG.get(plain_type(each.default, kind), [])]:
            if (each.name, value) in MEANT_SETTINGS:
                continue
            with pytest.raises(UserError) as error:
                settings.of({each.name: value})
            line = str(error.value)
            assert line.startswith(f"{section}.{each.name} is ") and "\n" not in line and len(line) < 400, line
        if each.default is not None and (each.name, None) not in MEANT_SETTINGS:
            with pytest.raises(UserError, match=rf"{section}\.{each.name} is None, expected"):
                settings.of({each.name: None})


CHOSEN = {"model": "digits_cnn", "dataset": "digits", "explainer": "rise", "metric": "max_sensitivity"}
# What gave a plausible score, a traceback or no end, where it is given.
SEEN = {
    "max_sensitivity.radius is inf": {"metric": {"max_sensitivity": {"radius": float("inf")}}},
    "monotonicity is nan": {"metric": {"monotonicity": {"rounding": float("nan")}}},
    "label_randomization is nan": {"metric": {"label_randomization": {"least_accuracy": float("nan")}}},
    "an idle option": {"metric": {"deletion": {"granularity": "segment", "patch": -1}}},
    "no end": {"explainer": {"rise": {"samples": 10**9}}},
    "none for a number": {"explainer": {"rise": {"samples": None}}},
    "a list for a word": {"explainer": {"rise": {"score": ["logit"]}}},
    "a mapping for a word": {"explainer": {"rise": {"score": {"logit": 1}}}},
    "a value of over": {"metric": {"deletion": {"over": {"steps": [8, 0]}}}},
    "of a model": {"model": {"name": "digits_cnn", "epochs": 0}},
    "of a data set": {"dataset": {"name": "digits", "split": "tset"}},
}


@pytest.mark.parametrize("what", SEEN)
def test_a_plan_refuses_what_makes_no_sense(what):
    with pytest.raises(UserError, match="^option .* is .*, expected"):
        Plan.of({**CHOSEN, **SEEN[what]})


def test_python_refuses_what_makes_no_sense_before_the_model_is_called():
    class Never(torch.nn.Module):
        def forward(self, x):
            raise AssertionError("called")

    given = (Never().eval(), torch.rand(2, 1, 8, 8), torch.zeros(2, dtype=torch.long))
    with pytest.raises(UserError, match="option keep_probability of rise is nan, expected a number above 0 and below"):
        harness.explain("rise", *given, keep_probability=float("nan"))
    with pytest.raises(UserError, match="option radius of max_sensitivity is inf, expected a number from"):
        harness.score("max_sensitivity", *given, torch.rand(2, 8, 8), explainer="gradient", radius=float("inf"))


# --- what users' own functions declare ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shared:
    """Options of several items."""

    share: Share = 0.5
    draws: Annotated[int, Range(2, 9)] = 3


def mine(
    model,
    inputs,
    targets,
    *,
    shared=Shared(),
    steps: Count = 7,
    mode: Literal["soft", "hard"] = "soft",
    limit: float | None = None,
    grid: Annotated[str, Sized(("auto",), ("grid",), 9)] = "auto",
    bare=2.0,
    anything=None,
):
    """Mine."""


def own(function: Any = mine) -> Entry:
    return Registry("explainer", Entry, "", ("context", "prepared", "seed"))._checked_entry("mine", function)


WRONG_FOR_MINE = {
    "share": (1.5, "a number from 0 to 1"),
    "draws": (1, "a whole number from 2 to 9"),
    "steps": (0, "a whole number from 1 to 1,000,000"),
    "mode": ("hrd", "soft or hard; did you mean 'hard'?"),
    "limit": (float("nan"), "a finite number, or none"),
    "grid": ("grid:10", "one of auto, grid:N"),
    "bare": (float("inf"), "a finite number"),
}


@pytest.mark.parametrize("option", WRONG_FOR_MINE)
def test_options_of_ones_own_are_checked_by_their_annotations(option):
    value, expected = WRONG_FOR_MINE[option]
    with pytest.raises(UserError) as error:
        own().complete({option: value})
    assert str(error.value).endswith(f"expected {expected}")


def test_what_is_right_is_taken_and_an_option_without_annotation_and_default_takes_anything():
    given = {"share": 1, "draws": 9, "mode": "hard", "limit": 2.5, "grid": "grid:9", "bare": -3, "anything": [object]}
    options = own().complete(given)
    assert options["share"] == 1.0 and type(options["share"]) is float and options["anything"] == [object]


def test_annotations_that_cannot_be_read_and_defaults_of_another_kind_stop_nothing():
    def unknown(model, inputs, targets, *, steps: "Elsewhere" = 3, limit: float = float("inf"), many: int = None):  # noqa: F821, RUF013
        """Mine."""

    options = own(unknown).complete({"steps": 4, "limit": float("inf"), "many": None})
    assert options == {"steps": 4, "limit": float("inf"), "many": None}
    with pytest.raises(UserError, match="steps of mine is 'x', expected a whole number"):
        own(unknown).complete({"steps": "x"})


def test_a_range_is_no_part_of_the_identity():
    def wider(model, inputs, targets, *, steps: Annotated[int, Range(1, 99)] = 7):
        """Mine."""

    def narrower(model, inputs, targets, *, steps: int = 7):
        """Mine."""

    assert canonical(own(wider).complete({})) == canonical(own(narrower).complete({}))
