"""Whatever is wrong with attributions is told by a run, by evaluate and by check, as data and in words."""

import json
import os
import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import harness
from harness.engine.audit import (
    Audit,
    Auditor,
    Trial,
    alone_difference,
    equal_to,
    relative_difference,
    repeat_difference,
)
from harness.jobs.checking import check_plan
from harness.jobs.plan import Plan
from harness.registry import EXPLAINERS
from harness.results.frames import read_cells
from harness.sources import Data
from harness.units import Units

COUNT = 6
METRIC = "sparseness"


@pytest.fixture(autouse=True)
def audited_net(seed, monkeypatch):
    """The net and the images of a test, which runs make anew by import, are those of its seed."""
    monkeypatch.setenv("AUDITED_NET", str(seed))


class Counting(nn.Module):
    """Two layers on 3 x 6 x 6 images, which count the rows they are given."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
        self.rows = 0

    def forward(self, inputs):
        self.rows += len(inputs)
        return self.layers(inputs)


def net():
    """The net of this test."""
    torch.manual_seed(int(os.environ["AUDITED_NET"]))
    return Counting().eval().requires_grad_(False)


def images():
    """Noise images."""
    torch.manual_seed(int(os.environ["AUDITED_NET"]) + 1)
    return Data(torch.randn(COUNT, 3, 6, 6), labels=torch.arange(COUNT) % 4)


def gradient_of(model, inputs, targets):
    inputs.requires_grad_()
    return torch.autograd.grad(model(inputs).gather(1, targets[:, None]).sum(), inputs)[0]


def clean(model, inputs, targets):
    """Nothing is wrong with it."""
    return inputs**3


def copy_of_the_gradient(model, inputs, targets):
    """The gradient under another name."""
    return gradient_of(model, inputs, targets)


def input_x_gradient_in_one_channel(model, inputs, targets):
    """Input times gradient, summed over the channels."""
    return (inputs.detach() * gradient_of(model, inputs, targets)).sum(1, keepdim=True)


def of_its_batch(model, inputs, targets):
    """Depends on the company."""
    return inputs - inputs.mean(0)


def random_under_one_seed(model, inputs, targets):
    """Draws from nobody's seed."""
    return torch.from_numpy(np.random.default_rng().standard_normal(inputs.shape))


def nan_for_the_first(model, inputs, targets):
    """NaN where the first pixel is that of the first image."""
    first = images().inputs[0, 0, 0, 0]
    return (inputs**3).masked_fill(inputs[:, :1, :1, :1] == first, float("nan"))


def flat(model, inputs, targets):
    """One number throughout."""
    return torch.ones_like(inputs)


def vandal(model, inputs, targets):
    """Spoils the model."""
    model.layers[0].weight.data.zero_()
    return inputs


def of_the_output(model, inputs, targets, *, share=1.0):
    """Distributes a share of the output evenly."""
    with torch.no_grad():
        output = model(inputs).gather(1, targets[:, None])
    tilt = 0.01 * (inputs**3 - (inputs**3).mean((1, 2, 3), keepdim=True))  # adds nothing to the sum, and is no constant
    return tilt + share * (output / 108).view(-1, 1, 1, 1)


def torn_apart(model, inputs, targets):
    """Distributes the output, in values that are a thousand times as large and cancel."""
    shares = of_the_output(model, inputs, targets)
    with torch.no_grad():
        output = model(inputs).gather(1, targets[:, None]).view(-1, 1, 1)
    shares[:, 0] += 1000 * output
    shares[:, 1] -= 1000 * output
    return shares


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """What is planted, under its own name; capabilities that a plain function cannot have are given here."""
    for function in (
        clean,
        copy_of_the_gradient,
        input_x_gradient_in_one_channel,
        of_its_batch,
        random_under_one_seed,
        nan_for_the_first,
        flat,
        vandal,
    ):
        plant(monkeypatch, function)
    plant(monkeypatch, of_the_output, complete_to="output")
    plant(monkeypatch, torn_apart, complete_to="output")
    plant(monkeypatch, from_a_library, source="somelib", caveat="wrong on Sundays", access="none")


def from_a_library(model, inputs, targets):
    """What a library gives."""
    return inputs**5


def plant(monkeypatch, function, **capabilities):
    entry = EXPLAINERS.entry(function.__name__, function, EXPLAINERS.resolve(function).options, **capabilities)
    assert len(EXPLAINERS) and monkeypatch.setitem(EXPLAINERS._entries, function.__name__, entry) is None


def evaluated(explainers, metrics=METRIC, **options):
    """status, error, flags and audit of each explainer, as evaluate gives them."""
    data = images()
    frame = harness.evaluate(net(), data.inputs, data.labels, explainers=explainers, metrics=metrics, **options)
    first = frame.groupby("explainer").first()
    return {
        name: (row["status"], row["error"], [f for f in row["flags"].split("; ") if f], frame.attrs["audit"].get(name))
        for name, row in first.iterrows()
    }


def config(explainers, folder, **more):
    return {
        "model": "test_auditing:net",
        "dataset": "test_auditing:images",
        "explainer": explainers,
        "metric": METRIC,
        "protocol": {"target": "label"},
        "run": "night",
        **more,
        "runtime": {"runs": str(folder), "quiet": True, "chunk": 16, "lease": "share", "sheet": 0},
    }


def ran(explainers, folder):
    """The same as a run's rows give it."""
    cells = read_cells(harness.run(config(explainers, folder))).set_index("explainer")
    return {name: (row["status"], row["error"], list(row["flags"]), row["audit"]) for name, row in cells.iterrows()}


def checked(explainers, folder):
    """The same as check gives it."""
    rows = check_plan(Plan.of(config(explainers, folder))).set_index("explainer")
    return {name: (row["status"], row["error"], row["flags"], row["audit"]) for name, row in rows.iterrows()}


WAYS = {
    "evaluate": lambda explainers, folder: evaluated(explainers),
    "run": ran,
    "check": checked,
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)

PLANTED = {
    "copy_of_the_gradient": ("equal to gradient", lambda audit: audit["equal_to"]["explainer"] == "gradient"),
    "input_x_gradient_in_one_channel": (
        "equal to input_x_gradient",
        lambda audit: audit["equal_to"]["difference"] <= 1e-5,
    ),
    "of_its_batch": (
        "a sample alone and in its batch differ",
        lambda audit: audit["alone_difference"] > 0.1 and audit["repeat_difference"] == 0,
    ),
    "random_under_one_seed": ("two calls under one seed differ", lambda audit: audit["repeat_difference"] > 0.1),
    "nan_for_the_first": ("1 of 6 attributions hold NaN", lambda audit: audit["not_finite"] == 1),
    "flat": ("6 of 6 attributions are constant", lambda audit: audit["constant"] == COUNT),
    "from_a_library": (
        "somelib: wrong on Sundays",
        lambda audit: (audit["source"], audit["caveat"]) == ("somelib", "wrong on Sundays"),
    ),
}


@ways
@pytest.mark.parametrize("name", PLANTED)
def test_what_is_wrong_is_told_and_nothing_else(name, way, tmp_path):
    words, in_data = PLANTED[name]
    status, _, flags, audit = way([name], tmp_path)[name]
    assert status == "ok" and in_data(audit)
    assert len(flags) == 1 and words in flags[0]


@ways
def test_an_explainer_with_nothing_wrong_has_no_flag(way, tmp_path):
    status, error, flags, audit = way(["clean"], tmp_path)["clean"]
    assert (status, error, flags) == ("ok", "", [])
    assert audit == {"not_finite": 0, "constant": 0, "alone_difference": 0.0, "repeat_difference": 0.0}


@ways
def test_a_sum_that_misses_what_was_promised_is_told_with_its_share_of_the_output(way, tmp_path):
    chosen = {"kept": {"name": "of_the_output"}, "lost": {"name": "of_the_output", "share": 0.2}}
    found = way(chosen, tmp_path)
    assert found["kept"][2] == []
    assert found["kept"][3]["completeness_error"]["median"] < 1e-3
    assert found["kept"][3]["relevance_over_output"]["median"] == pytest.approx(1, abs=1e-3)
    assert found["lost"][2] == ["the sum of the attributions differs from what it should be by 80% of it (median)"]
    assert found["lost"][3]["completeness_error"]["median"] == pytest.approx(0.8, abs=1e-3)
    assert found["lost"][3]["relevance_over_output"]["median"] == pytest.approx(0.2, abs=1e-3)


@ways
def test_values_that_are_far_larger_than_the_output_are_told_though_their_sum_is_right(way, tmp_path):
    status, _, flags, audit = way(["torn_apart"], tmp_path)["torn_apart"]
    assert status == "ok" and audit["completeness_error"]["median"] < 0.01
    assert audit["largest_over_output"]["median"] == pytest.approx(1000, rel=0.2)
    assert flags == ["single values are up to 1e+03 times the output that they share (median), and cancel"]


@ways
def test_an_explainer_that_changes_the_model_is_a_failure_and_the_next_finds_the_model_whole(way, tmp_path):
    found = way(["vandal", "copy_of_the_gradient"], tmp_path)
    status, error, _, audit = found["vandal"]
    assert status == "failed" and "the explainer changed the model: the values of layers.0.weight" in error
    assert not audit and found["copy_of_the_gradient"][2] == ["equal to gradient"]


def test_the_completeness_told_is_the_metrics():
    data, chosen = images(), {"lost": {"name": "of_the_output", "share": 0.2}}
    frame = harness.evaluate(
        net(), data.inputs, data.labels, explainers=chosen, metrics={"completeness": {"relative": True}}
    )
    told = frame.attrs["audit"]["lost"]["completeness_error"]
    assert told["median"] == pytest.approx(frame["value"].quantile(0.5), rel=1e-9)
    assert told["max"] == pytest.approx(frame["value"].max(), rel=1e-9)


def told(model, inputs, targets, *, context):
    """Tells a number for each sample, NaN, so that it can be counted how many came; a layer, and rows of its own."""
    context.tell(seen=torch.full((len(inputs),), float("nan")), layer="features.8", completeness_error=0.5)
    context.tell(repeats=pd.DataFrame({"column": ["a", "b"], "drop": [0.25, float(len(inputs))]}))
    return inputs**3


def test_facts_are_of_the_measured_calls_alone(tmp_path):
    _, _, _, audit = evaluated([told], metrics=["max_sensitivity", METRIC], explain_batch=4)["told"]
    assert audit["seen"] == {"not_finite": COUNT} and audit["layer"] == "features.8"
    assert audit["completeness_error"] == 0.5


def test_a_number_told_by_the_explainer_itself_stands(monkeypatch):
    plant(monkeypatch, told, complete_to="output")
    status, _, flags, audit = evaluated(["told"])["told"]
    assert audit["completeness_error"] == 0.5 and "relevance_over_output" not in audit
    assert flags == ["the sum of the attributions differs from what it should be by 50% of it (median)"]


def test_tables_are_kept_once_for_an_explainer_and_named_in_its_cells(monkeypatch, tmp_path):
    plant(monkeypatch, told)
    directory = harness.run(config(["told"], tmp_path, metric=[METRIC, "complexity"]))
    paths = {audit["tables"]["repeats"] for audit in read_cells(directory)["audit"]}
    (path,) = paths
    assert [path] == [file.relative_to(directory).as_posix() for file in (directory / "tables").iterdir()]
    assert pd.read_parquet(directory / path).to_dict("list") == {"column": ["a", "b"], "drop": [0.25, COUNT]}
    other = harness.run(config(["told"], tmp_path, metric=METRIC, protocol={"target": "label", "seed": 1}))
    assert len(list((other / "tables").iterdir())) == 2


def test_evaluate_gives_tables_as_columns_and_an_audit_that_a_file_can_hold(tmp_path):
    data = images()
    frame = harness.evaluate(net(), data.inputs, data.labels, explainers=[told, "of_its_batch"], metrics=METRIC)
    assert frame.attrs["audit"]["told"]["tables"] == {"repeats": {"column": ["a", "b"], "drop": [0.25, COUNT]}}
    assert json.loads(json.dumps(frame.attrs["audit"])) == frame.attrs["audit"]
    frame.to_parquet(tmp_path / "frame.parquet")


def tells_an_object(model, inputs, targets, *, context):
    """Reports a fact that JSON cannot represent."""
    context.tell(model=model)
    return inputs**3


def tells_a_mixed_table(model, inputs, targets, *, context):
    """Tells a table that no file can hold."""
    context.tell(rows=pd.DataFrame({"a": [1, "b", object()]}))
    return inputs**3


def tells_a_word_for_a_number(model, inputs, targets, *, context):
    """Tells a word where a number is read."""
    context.tell(relevance_over_output="much")
    return inputs**3


def tells_what_the_audit_tells(model, inputs, targets, *, context):
    """Tells under a name of the audit's own."""
    context.tell(equal_to="nobody")
    return inputs**3


@pytest.mark.parametrize(
    ("explainer", "words"),
    [
        (tells_an_object, "reported a fact that JSON cannot represent"),
        (tells_a_mixed_table, "table 'rows' cannot be saved as Parquet"),
        (tells_a_word_for_a_number, "reported relevance_over_output as 'much', expected a number"),
        (tells_what_the_audit_tells, "reported a fact named 'equal_to', which is a name of the audit's own"),
    ],
)
def test_what_cannot_be_kept_is_that_explainers_failure_in_one_line(explainer, words):
    found = evaluated([explainer, "clean"])
    status, error, _, _ = found[explainer.__name__]
    assert status == "failed" and words in error and "\n" not in error
    assert found["clean"][0] == "ok"


def test_the_one_that_copies_is_told_and_not_the_one_that_is_copied():
    found = evaluated(["copy_of_the_gradient", "gradient", "input_x_gradient"])
    assert found["copy_of_the_gradient"][2] == ["equal to gradient"]
    assert found["gradient"][2] == found["input_x_gradient"][2] == []


def test_a_librarys_row_is_never_whom_another_is_said_to_equal(monkeypatch):
    plant(monkeypatch, clean, source="somelib", caveat="mostly right", access="none")
    twin = {"clean": {}, "twin": {"name": lambda model, inputs, targets: inputs**3}}
    found = evaluated(twin)
    assert found["twin"][2] == []
    assert evaluated(dict(reversed(twin.items())))["clean"][2] == ["equal to twin", "somelib: mostly right"]


def test_smaller_numbers_of_samples_and_batches_of_one_are_compared_as_far_as_they_go():
    data = images()
    for count, batch in ((1, 10), (6, 1)):
        frame = harness.evaluate(
            net(),
            data.inputs[:count],
            data.labels[:count],
            explainers=["of_its_batch", "random_under_one_seed"],
            metrics=METRIC,
            explain_batch=batch,
        )
        audit = frame.attrs["audit"]
        assert "alone_difference" not in audit["of_its_batch"] and audit["of_its_batch"]["repeat_difference"] == 0
        assert audit["random_under_one_seed"]["repeat_difference"] > 0.1


def silent(model, inputs, targets):
    """Does not call the model."""
    return inputs**3


def rows_seen(explainers):
    model, data = net(), images()
    harness.evaluate(model, data.inputs, data.labels, explainers=explainers, metrics=METRIC, explain_batch=4)
    return model.rows


def test_auditing_takes_four_samples_gradients_and_one_clean_pass_for_a_whole_block(monkeypatch):
    def without_a_model(model, inputs, targets, *, baseline="zero"):
        """Promises a sum without looking."""
        return inputs**3 + 1

    plant(monkeypatch, without_a_model, access="none", complete_to="baseline")
    bare, probes = rows_seen(["from_a_library"]), 2  # of what the model computes, after each explainer and its scores
    # The gradients that it might be a copy of.
    assert rows_seen(["from_a_library", silent]) - bare == 4 + probes
    assert rows_seen(["without_a_model"]) - bare == 2 * COUNT  # outputs for all inputs, and for all baselines
    assert rows_seen(["without_a_model", silent, clean]) - bare == 4 + 2 * COUNT + 2 * probes


def test_the_audits_passes_are_not_the_explainers_cost():
    data = images()
    chosen = {"kept": {"name": "of_the_output"}}
    frame = harness.evaluate(net(), data.inputs, data.labels, explainers=chosen, metrics=["forward_passes"])
    assert set(frame["value"]) == {1.0}


def test_lower_precision_excuses_small_differences_of_a_batch():
    assert evaluated(["of_its_batch"], dtype="bfloat16")["of_its_batch"][2] == []


def test_differences_are_over_the_largest_value_and_what_is_not_finite_counts_as_zero():
    first, second = torch.tensor([1.0, -4.0, 0.0]), torch.tensor([1.0, -3.0, float("nan")])
    assert relative_difference(first, second) == 0.25 and relative_difference(first * 0, first * 0) == 0
    trial = Trial(alone=first[None], batch=torch.stack([first, first]))
    assert alone_difference(trial, torch.stack([second, first])) == 0.25
    assert repeat_difference(trial, torch.stack([second, first])) == 0.25
    assert alone_difference(Trial(), first[None]) is None and repeat_difference(Trial(), first[None]) is None
    assert repeat_difference(replace(trial, batch=None), torch.stack([first, first])) is None


def test_maps_count_as_equal_up_to_rounding_and_over_channels_only_where_one_has_a_single_one():
    maps = torch.randn(4, 3, 5, 5)
    units = Units.of(maps)
    others = {
        "abs": maps.abs(),
        "near": maps * (1 + 1e-4),
        "sum": maps.sum(1, keepdim=True),
        "equal": maps * (1 + 1e-7),
    }
    assert equal_to(maps, {name: others[name] for name in ("abs", "near")}, units) is None
    assert equal_to(maps, others, units)["explainer"] == "sum"
    assert equal_to(maps, {"near": others["near"], "equal": others["equal"]}, units)["explainer"] == "equal"
    assert equal_to(maps, {"other": maps.roll(1, 1)}, units) is None  # the same sum, but scored alike by no reduction


def test_rows_of_a_library_are_listed_marked_and_not_ranked(tmp_path, capsys):
    from harness.results.statistics import cell_ranks
    from harness.results.tables import print_table

    cells = read_cells(harness.run(config(["from_a_library", "clean", "gradient"], tmp_path)))
    of = cells.assign(rank=cell_ranks(cells)).set_index("explainer")["rank"]
    assert pd.isna(of["from_a_library"]) and sorted(of[["clean", "gradient"]]) == [1, 2]
    print_table(cells)
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.startswith("from_a_library"))
    assert line.startswith("from_a_library (somelib)") and "#" not in line and line.endswith("*")
    assert "* flag: from_a_library: somelib: wrong on Sundays" in printed


def flat_too(model, inputs, targets):
    """One number throughout here as well."""
    return torch.ones_like(inputs)


@ways
def test_constant_maps_are_told_to_be_constant_and_not_to_equal_each_other(way, tmp_path, monkeypatch):
    plant(monkeypatch, flat_too)
    found = way(["flat", "flat_too"], tmp_path)
    assert all(flags == ["6 of 6 attributions are constant"] for _, _, flags, _ in found.values())


def test_maps_are_compared_sample_by_sample_and_those_that_show_nothing_are_left_out():
    maps = torch.randn(3, 2, 5, 5)
    maps[0] *= 1e9  # beside which the others are nothing
    units, other = Units.of(maps), torch.cat([maps[:1], torch.randn(2, 2, 5, 5)])
    assert equal_to(maps, {"other": other}, units) is None
    nan, part = torch.full_like(maps, float("nan")), maps.clone()
    part[1:] = 0
    assert equal_to(nan, {"nan": nan}, units) is None and equal_to(maps * 0, {"zero": maps * 0}, units) is None
    assert equal_to(part, {"same": part}, units)["explainer"] == "same"
    one = torch.randn(4, 1)
    assert equal_to(one, {"same": one.clone()}, Units.of(one))["explainer"] == "same"
    assert equal_to(one, {"less": one * 0.9}, Units.of(one)) is None
    assert equal_to(maps[:2], {"longer": maps}, units)["difference"] == 0


@pytest.mark.parametrize("batch", [4, 10])
def test_scores_and_passes_are_the_same_bits_with_and_without_an_audit(batch, monkeypatch):
    data, names = images(), ("integrated_gradients", "copy_of_the_gradient", "random", "kernel_shap", "deep_lift")
    explainers = {name: {} for name in names} | {"kernel_shap": {"samples": 140}}
    metrics = ["max_sensitivity", "srg", "completeness", "sparseness", "infidelity", "forward_passes"]

    def scored():
        np.random.seed(0)
        torch.manual_seed(0)
        frame = harness.evaluate(
            net(), data.inputs, data.labels, explainers=explainers, metrics=metrics, explain_batch=batch
        )
        return frame, torch.rand(3).tolist(), np.random.rand(3).tolist()

    audited, *draws = scored()
    monkeypatch.setattr(Auditor, "audit", lambda self, *given: Audit({}, []))
    bare, *others = scored()
    columns = ["explainer", "metric", "sample", "value", "valid", "tied", "status", "error"]
    pd.testing.assert_frame_equal(audited[columns], bare[columns], check_exact=True)
    assert draws == others and (audited["status"] == "ok").sum() > 100


def test_a_cell_without_scores_says_what_the_audit_found_where_there_were_attributions(tmp_path):
    directory = harness.run(config(["clean", "vandal"], tmp_path, metric=["completeness"]))
    cells = read_cells(directory).set_index("explainer")
    assert cells.loc["clean", "status"] == "not_applicable" and cells.loc["clean", "audit"]["constant"] == 0
    assert cells.loc["vandal", "status"] == "failed" and cells.loc["vandal", "audit"] is None


@pytest.mark.parametrize("way", ["evaluate", "check"])
def test_one_explainers_attributions_are_let_go_before_the_next_is_at_work(way, monkeypatch, tmp_path):
    kept, alive = [], []

    def watched(self, chosen, parts, *others):
        kept.append(weakref.ref(parts[0]))
        return Audit({}, [])

    def looks_back(model, inputs, targets):
        alive.append(kept[0]() is not None)
        return inputs**3

    monkeypatch.setattr(Auditor, "audit", watched)
    plant(monkeypatch, looks_back)
    WAYS[way](["clean", "looks_back"], tmp_path)
    assert alive and not any(alive)


def test_a_sum_over_a_background_that_only_the_explainer_knows_is_told_by_it_alone():
    data = images()
    frame = harness.evaluate(
        net(),
        data.inputs,
        data.labels,
        explainers=["deep_lift_shap"],
        metrics=["completeness"],
        train=torch.randn(9, 3, 6, 6),
    )
    assert set(frame["status"]) == {"not_applicable"}
    assert "less the mean of f over training inputs that only the explainer knows" in frame["error"][0]
    assert frame.attrs["audit"]["deep_lift_shap"]["completeness_error"]["median"] < 1e-3
