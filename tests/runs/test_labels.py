"""A label belongs to one model or data set of a run, and each has one label, whatever happens to a command."""

import pytest

import harness
from harness.cli.main import main
from harness.errors import UserError
from harness.jobs import runner
from harness.jobs.plan import Plan
from harness.results import disk
from harness.results.store import Store

CUT = {"shards": {"protocol": {"explain_batch": 2}, "shards": 2}, "rounds": {"protocol": {"precision": 1e-9}}, "": {}}
in_parts = pytest.mark.parametrize("parts", CUT)


def block_of(config, parts, label=None, metrics=(), **options):
    """A block of toys, measured at once or in parts."""
    model = {"name": "toys:net", **options} | ({} if label is None else {"label": label})
    more = {f"more{scale}": {"name": "toys:total", "scale": scale} for scale in metrics}
    cut = dict(CUT[parts])
    runtime = {**config["runtime"], **({"shards": cut.pop("shards")} if "shards" in cut else {})}
    return {**config, "model": model, "metric": {**config["metric"], **more}, "runtime": runtime, **cut}


def models_of(run):
    """The labels of a run's models; fails if one model has two labels, or two models have one."""
    pairs = {(row["model"], str(row["config"]["model"])) for row in Store(run).latest().values()}
    labels, settings = zip(*pairs, strict=True)
    assert len(set(labels)) == len(set(settings)) == len(pairs), pairs
    return set(labels)


@in_parts
def test_what_is_measured_again_has_the_label_that_its_model_was_given_last(config, parts, monkeypatch):
    run = harness.run(block_of(config, parts, "first"))
    harness.run(block_of(config, parts, "second"))
    assert models_of(run) == {"second"}
    real = Plan.stick
    changed = lambda plan, metric: "changed" if metric.label == "total" else real(plan, metric)
    monkeypatch.setattr(Plan, "stick", changed)
    harness.run(block_of(config, parts))
    assert models_of(run) == {"second"}
    assert {row["stick"] for row in Store(run).latest().values() if row["metric"] == "total"} == {"changed"}


def test_shards_of_two_models_that_come_by_turns_have_different_labels(config):
    for number, seed in ((0, 0), (1, 1), (1, 0), (0, 1)):
        block = block_of(config, "shards")
        model = {"name": "python", "factory": "toys:net", "seed": seed}
        run = harness.run({**block, "model": model, "runtime": {**block["runtime"], "shard": number}})
    assert models_of(run) == {"toys:net", "toys:net(seed=1)"}


def test_shards_that_were_measured_under_two_labels_are_joined_under_the_last(config):
    for number, label in ((0, "first"), (1, "second")):
        block = block_of(config, "shards", label)
        run = harness.run({**block, "runtime": {**block["runtime"], "shard": number}})
    assert models_of(run) == {"second"}


@in_parts
@pytest.mark.parametrize("refused", ["device", "data", "error"])
def test_a_command_that_is_refused_renames_nothing_and_one_that_fails_leaves_one_label(
    config, parts, refused, monkeypatch
):
    run = harness.run(block_of(config, parts, "first"))
    block = block_of(config, parts, "second", metrics=[3.0])

    def fail(*given):
        raise UserError("no such data") if refused == "data" else RuntimeError("a bug")

    if refused == "device":
        block["runtime"] = {**block["runtime"], "device": "cuda:99"}
    else:
        monkeypatch.setattr(runner, "load_stage", fail)
    with pytest.raises(UserError):
        harness.run(block)
    labels = {row["model"] for row in Store(run).latest().values()}
    assert labels == ({"second"} if refused == "error" and not parts else {"first"})


def test_rows_are_renamed_all_or_none(config, monkeypatch):
    run = harness.run(block_of(config, "", "first"))
    before = len(Store(run).files())
    replace = disk.os.replace

    def killed(source, target):
        if "cells" in str(target):
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(disk.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            harness.run(block_of(config, "", "second"))
    assert models_of(run) == {"first"}
    harness.run(block_of(config, "", "second"))
    assert models_of(run) == {"second"} and len(Store(run).files()) == before + 1


def test_runs_with_one_label_for_two_models_are_not_merged(config, tmp_path, capsys):
    for number in (0, 1):
        harness.run({**block_of(config, "", "mine", seed=number), "run": f"run{number}"})
    assert main(["merge", "run0", "run1", "--into", "both", "--runs", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "model 'mine' of" in told and "run1 has other options than that of" in told and told.count("\n") == 1
    assert not (tmp_path / "both").exists()


@in_parts
def test_a_model_with_two_labels_in_two_runs_has_that_of_the_first_when_they_are_merged(config, parts, tmp_path):
    harness.run({**block_of(config, parts, "first"), "run": "one"})
    harness.run({**block_of(config, parts, "second", metrics=[3.0]), "run": "other"})
    assert main(["merge", "one", "other", "--into", "both", "--runs", str(tmp_path)]) == 0
    assert models_of(tmp_path / "both") == {"first"}
    assert {row["metric"] for row in Store(tmp_path / "both").latest().values()} == {"total", "drop", "more3.0"}
