"""A label belongs to one model or data set of a run, and each has one label, whatever happens to a command."""

import os
import random
import shutil
import threading
from itertools import product

import pytest

import harness
from harness.cli.main import main
from harness.cli.plan import _printed_states
from harness.errors import UserError
from harness.jobs import run_labels, runner
from harness.jobs.calibration import estimate_job
from harness.jobs.plan import Plan
from harness.jobs.progress import Progress
from harness.jobs.run_labels import claimed_labels, row_of_labels
from harness.places import process_mark
from harness.results import disk
from harness.results.label_claims import LabelClaim
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


def test_the_plan_and_the_estimate_of_a_shard_call_a_model_as_the_run_does_and_count_what_the_run_lacks(
    config, tmp_path, capsys
):
    block = block_of(config, "shards", metrics=[3.0])
    for number, label in ((0, "first"), (1, "second")):  # shard 0 keeps the label under which it was measured
        part = block_of(config, "shards", label)
        harness.run({**part, "runtime": {**part["runtime"], "shard": number}})
    harness.run({**block_of(config, "", "second", metrics=[4.0]), "protocol": block["protocol"]})
    block["metric"]["more4.0"] = {"name": "toys:total", "scale": 4.0}
    block = {**block, "runtime": {**block["runtime"], "shard": 0}}
    states = _printed_states(block)
    assert capsys.readouterr().out.startswith("second on toys:images: 12 cells in ")
    assert sorted(states.values()) == ["done"] * 6 + ["new"] * 6, "the control and one metric are new"
    plan = Plan.of(block)
    assert estimate_job(plan, tmp_path / "estimate", Progress(quiet=True)).title == "second on toys:images"


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


def net_of(config, parts, seed, label=None):
    """A block with a net that has the same label for every seed, unless it is given one."""
    given = {} if label is None else {"label": label}
    return block_of(config, parts) | {"model": {"name": "python", "factory": "toys:net", "seed": seed, **given}}


@pytest.fixture
def at_work(config, tmp_path):
    """``at_work(seed, label)``: another process that measures a net in the run, and has written no row yet."""
    claims = []

    def begin(seed, label=None):
        claims.append(LabelClaim(tmp_path / "night"))
        claims[-1].write(row_of_labels(Plan.of(net_of(config, "", seed, label))))

    yield begin
    for claim in claims:
        claim.withdraw()
    assert not (tmp_path / "night" / "labels").exists()


@in_parts
def test_a_model_gets_another_label_than_that_of_a_process_at_work(config, parts, at_work):
    at_work(seed=0)
    assert models_of(harness.run(net_of(config, parts, seed=1))) == {"toys:net(seed=1)"}


@in_parts
def test_a_model_that_a_process_at_work_measures_has_its_label(config, parts, at_work, tmp_path):
    at_work(seed=0, label="theirs")
    for label, section in (("mine", 0), ("theirs", 1)):  # the same model, and another one
        with pytest.raises(UserError, match="model.label is"):
            harness.run(net_of(config, parts, section, label))
    assert not (tmp_path / "night" / "cells").exists()
    assert models_of(harness.run(net_of(config, parts, seed=0))) == {"theirs"}
    with pytest.raises(UserError, match="another command measures this model as 'theirs' at the moment"):
        harness.run(net_of(config, parts, 0, "mine"))  # all is done: the rows would be renamed


@in_parts
@pytest.mark.parametrize("label", [None, "mine"])
def test_of_two_processes_that_begin_at_once_the_one_that_sees_the_other_gives_way(
    config, parts, label, at_work, monkeypatch
):
    write, claimed = LabelClaim.write, []

    def write_after_another(claim, labels):
        if not claimed:  # it had read no claim either
            claimed.append(claim)
            at_work(seed=0, label=label)
        write(claim, labels)

    monkeypatch.setattr(LabelClaim, "write", write_after_another)
    if label is None:
        assert models_of(harness.run(net_of(config, parts, seed=1))) == {"toys:net(seed=1)"}
    else:
        with pytest.raises(UserError, match="model.label is 'mine', which is another model in this run"):
            harness.run(net_of(config, parts, 1, label))


def outcomes_of(plans, store, schedule):
    """The label of each plan's model, or "refused", where processes read and write claims in the order of a schedule.

    Each process is a thread; those that get their labels keep them until all know theirs.
    """
    turns, found, news = list(schedule), {}, threading.Condition()

    def in_turn(done):
        def step(*given):
            mine = int(threading.current_thread().name)
            with news:
                while turns and turns[0] != mine:
                    if turns[0] in found:
                        turns.pop(0)
                    elif not news.wait(timeout=20):
                        raise TimeoutError
                result = done(*given)
                del turns[:1]
                news.notify_all()
            return result

        return step

    def tell(outcome):
        with news:
            found[int(threading.current_thread().name)] = outcome
            news.notify_all()

    def begin(plan):
        try:
            with claimed_labels(plan, store) as labelled:
                tell(labelled.model.label)
                with news:
                    assert news.wait_for(lambda: len(found) == len(plans), timeout=20)
        except UserError:
            tell("refused")

    with pytest.MonkeyPatch.context() as patched:
        for name in ("write", "of_others"):
            patched.setattr(LabelClaim, name, in_turn(getattr(LabelClaim, name)))
        patched.setattr(run_labels, "SECONDS_BETWEEN_LOOKS", 1e-3)
        threads = [threading.Thread(target=begin, args=[plan], name=str(i)) for i, plan in enumerate(plans)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    return [found[number] for number in range(len(plans))]


@pytest.mark.parametrize("given", ["one label", "one model", "no label"])
def test_of_processes_that_ask_at_the_same_time_one_gets_its_label_in_whatever_order_they_look(config, tmp_path, given):
    asked = {"one label": [(0, "mine"), (1, "mine"), (2, "mine")], "one model": [(0, "a"), (0, "b"), (0, "c")]}
    asked["no label"] = [(0, None), (1, None), (2, None)]
    plans = [Plan.of(net_of(config, "", seed, label)) for seed, label in asked[given]]
    schedules = [*product((0, 1), repeat=6), *random.Random(1).sample([*product((0, 1, 2), repeat=8)], 40)]
    for schedule in schedules:
        found = outcomes_of(plans[: max(schedule, default=0) + 1], Store(tmp_path / "night"), schedule)
        if given == "no label":
            assert "refused" not in found and len(set(found)) == len(found), schedule
        else:
            assert found.count("refused") == len(found) - 1, schedule
    assert not (tmp_path / "night" / "labels").exists()


def test_a_process_that_is_stopped_while_it_asks_is_not_waited_for_without_end(config, tmp_path, monkeypatch):
    monkeypatch.setattr(run_labels, "MOST_SECONDS_TO_WAIT", 0.1)
    plan, stopped = Plan.of(net_of(config, "", 0, "mine")), LabelClaim(tmp_path / "night")
    stopped.path = stopped.path.with_name(f"~{stopped.path.name}")  # it has to give way, and is of another machine
    stopped.write({**row_of_labels(Plan.of(net_of(config, "", 1, "mine"))), "asking": True})
    with pytest.raises(UserError, match="another model in this run"), claimed_labels(plan, Store(tmp_path / "night")):
        pass
    stopped.withdraw()


def test_claims_of_nobody_and_what_is_no_claim_change_nothing(config, at_work, tmp_path):
    at_work(seed=0, label="theirs")
    folder = tmp_path / "night" / "labels"
    (claim,) = folder.iterdir()
    content = claim.read_bytes()
    claim.rename(folder / f"{process_mark(2**22 + 1)}.json")
    (folder / f"{process_mark()}.json").write_bytes(content[:-5])
    (folder / f"{process_mark()}.json").write_bytes(b'{"model": 3, "config": {"model": "toys:net"}}')
    (folder / "elsewhere.1-77-abcdef12.json").write_bytes(content)
    os.utime(folder / "elsewhere.1-77-abcdef12.json", (0, 0))
    assert models_of(harness.run(net_of(config, "", 0, "mine"))) == {"mine"}
    assert len(list(folder.iterdir())) == 3, "that of the killed process is removed"
    shutil.rmtree(folder)


def test_a_run_without_a_place_for_claims_goes_on(config, tmp_path):
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "labels").touch()
    assert models_of(harness.run(block_of(config, "", "mine"))) == {"mine"}
