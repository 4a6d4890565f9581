"""What a run leaves on the disk survives torn lines, several writers, NaN, other versions and a full disk."""

import errno
import json
import logging
import os
import random
import resource
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from harness.cli.main import main
from harness.errors import UserError
from harness.results import disk
from harness.results import store as store_module
from harness.results.frames import read
from harness.results.rows import CELL_COLUMNS
from harness.results.run_files import set_aside
from harness.results.score_table import SCORE_COLUMNS
from harness.results.store import Store


def row(cell, **more):
    about = {"model": "m", "dataset": "d", "explainer": "e", "metric": "srg", "kind": "faithfulness"}
    return {"cell": cell, "status": "ok", **about, **more}


def only_file(store):
    (path,) = store.files()
    return path


def scores(*values):
    return {"sample": [f"s{i}" for i in range(len(values))], "value": np.array(values), "valid": np.isfinite(values)}


def test_a_row_comes_back_with_every_column_in_order(tmp_path):
    store = Store(tmp_path / "night")
    store.append(row("a", value=0.25, n=4, flags=["x"], config={"metric": {"steps": 32}}))
    (back,) = store.latest().values()
    assert tuple(back) == CELL_COLUMNS
    assert (back["value"], back["n"], back["flags"], back["config"]) == (0.25, 4, ["x"], {"metric": {"steps": 32}})
    assert back["run"] == "night" and back["std"] is None
    assert abs(datetime.fromisoformat(back["finished"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_reading_creates_nothing(tmp_path):
    assert Store(tmp_path / "none").latest() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", [b'{"cell": "b", "status"', b'{"cell": "b"', b"\xff\xfe{", b"{"])
def test_a_torn_last_line_is_ignored_in_silence(tmp_path, torn, caplog):
    store = Store(tmp_path)
    store.append(row("a"))
    with open(only_file(store), "ab") as file:
        file.write(torn)
    assert list(store.latest()) == ["a"]
    assert not caplog.records


def test_a_later_writer_never_glues_its_row_to_a_torn_line(tmp_path):
    killed = Store(tmp_path)
    killed.append(row("a"))
    with open(only_file(killed), "ab") as file:
        file.write(b'{"cell": "b", "sta')
    Store(tmp_path).append(row("c"))
    assert set(Store(tmp_path).latest()) == {"a", "c"}


@pytest.mark.parametrize("wrong", [b"\x00\x00\x00", b"not json", b"[1, 2]", b'{"value": 1}', b'{"cell": 3}', b"\xff"])
def test_an_unreadable_line_in_the_middle_costs_only_itself_and_is_told(tmp_path, wrong, caplog):
    store = Store(tmp_path)
    store.append(row("a"))
    with open(only_file(store), "ab") as file:
        file.write(wrong + b"\n")
    store.append(row("b"))
    with caplog.at_level(logging.WARNING):
        assert set(store.latest()) == {"a", "b"}
    assert "line 2 cannot be used" in caplog.text and caplog.text.count("WARNING") == 1


@pytest.mark.parametrize("future", ["2031-01-01T00:00:00.000000+00:00", "9999-12-31T23:59:59+00:00"])
def test_the_last_row_of_a_cell_wins_by_its_place_whatever_clocks_say(tmp_path, future):
    Store(tmp_path).append(row("a", value=1.0, finished=future))
    later = Store(tmp_path)
    later.append(row("a", value=2.0))
    later.append(row("b", value=3.0, finished=future))
    later.append(row("b", value=4.0))
    assert {cell: r["value"] for cell, r in Store(tmp_path).latest().items()} == {"a": 2.0, "b": 4.0}


def test_a_new_writer_comes_after_the_files_of_older_versions_and_of_clocks_in_the_future(tmp_path):
    (tmp_path / "cells").mkdir()
    old = {**row("a", value=1.0), "finished": "2099-01-01T00:00:00+00:00"}
    (tmp_path / "cells" / "20990101T000000.000000-host-7-abcdef.jsonl").write_text(json.dumps(old) + "\n")
    for value in range(2, 13):
        Store(tmp_path).append(row("a", value=float(value)))
        assert Store(tmp_path).latest()["a"]["value"] == value


def test_nan_and_infinity_are_null_and_the_file_is_strict_json(tmp_path):
    store = Store(tmp_path)
    config = {"scale": [np.float32("inf"), 1]}
    store.append(row("a", value=float("nan"), ci_low=np.float64("-inf"), n=np.int64(3), config=config))

    def refuse(word):
        raise AssertionError(word)

    (line,) = only_file(store).read_text().splitlines()
    back = json.loads(line, parse_constant=refuse)
    assert (back["value"], back["ci_low"], back["n"], back["config"]) == (None, None, 3, {"scale": [None, 1]})


@pytest.mark.parametrize("wrong", [{"colour": 1}, {"status": "fine"}, {"cell": ""}])
def test_a_row_with_an_unknown_column_or_status_is_refused_and_not_written(tmp_path, wrong):
    with pytest.raises(UserError):
        Store(tmp_path).append({**row("a"), **wrong})
    assert Store(tmp_path).files() == []


def test_rows_of_older_and_newer_versions_are_read(tmp_path):
    (tmp_path / "cells").mkdir()
    old = {"cell": "a", "model": "m", "dataset": "d", "explainer": "e", "metric": "srg", "status": "failed"}
    new = {**old, "cell": "b", "energy": 7.0, "finished": "2031-01-01T00:00:00.000000+00:00"}
    (tmp_path / "cells" / "1.jsonl").write_text(json.dumps(old) + "\n" + json.dumps(new) + "\n")
    cells, samples = read(tmp_path)
    assert tuple(cells.columns) == (*CELL_COLUMNS, "energy")
    assert list(cells["cell"]) == ["a", "b"] and cells["energy"].isna().tolist() == [True, False]
    assert samples.empty


@pytest.mark.parametrize("seed", range(5))
def test_the_row_that_was_written_last_counts_whoever_began_first(tmp_path, seed):
    """Several processes measure the same cells: whatever order their files have, no row is hidden by an older one."""
    draw, stores, last = random.Random(seed), [Store(tmp_path) for _ in range(3)], {}
    for number in range(40):
        cell, status = draw.choice("abcd"), draw.choice(["ok", "failed"])
        rows = [row(cell, status=status, n=number)]
        if draw.random() < 0.2:
            draw.choice(stores).append_all([*rows, row("e", n=number)])
            last["e"] = ("ok", number)
        else:
            draw.choice(stores).append(*rows)
        last[cell] = (status, number)
        assert {cell: (row["status"], row["n"]) for cell, row in Store(tmp_path).latest().items()} == last


def in_child(work):
    """Do ``work`` in another process; its identifier."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def exit_status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_two_processes_append_at_once_and_no_row_is_lost(tmp_path):
    def append(name):
        store = Store(tmp_path)
        for i in range(100):
            store.append(row(f"{name}{i}", error="x" * 20_000))

    writers = [in_child(lambda name=name: append(name)) for name in "ab"]
    assert [exit_status(writer) for writer in writers] == [0, 0]
    store = Store(tmp_path)
    assert set(store.latest()) == {f"{name}{i}" for name in "ab" for i in range(100)}
    assert len(store.files()) == 2


def test_a_forked_child_is_another_writer(tmp_path):
    store = Store(tmp_path)
    store.append(row("a"))
    assert exit_status(in_child(lambda: store.append(row("b")))) == 0
    assert set(store.latest()) == {"a", "b"} and len(store.files()) == 2


def test_scores_come_back_joined_with_their_cells_columns(tmp_path):
    store = Store(tmp_path)
    curves = np.arange(6.0).reshape(3, 2)
    store.write_scores("a", {**scores(1.0, np.nan, 3.0), "target": [1, 2, 3], "prediction": [1, 2, 0], "curve": curves})
    store.append(row("a", explainer="lrp"))
    cells, samples = read(tmp_path)
    assert list(samples.columns) == [
        "cell",
        "model",
        "dataset",
        "explainer",
        "metric",
        "better",
        "least",
        "most",
        *SCORE_COLUMNS[1:],
    ]
    assert set(samples["explainer"]) == {"lrp"} and samples["target"].tolist() == [1, 2, 3]
    assert samples["value"].isna().tolist() == [False, True, False] and samples["valid"].tolist() == [True, False, True]
    assert [list(curve) for curve in samples["curve"]] == curves.tolist()
    assert samples["tied"].isna().all()


def test_scores_of_cells_that_failed_later_or_have_no_row_are_not_read(tmp_path):
    store = Store(tmp_path)
    for cell in ("ok", "failed", "orphan"):
        store.write_scores(cell, scores(1.0))
    store.append(row("ok"))
    store.append(row("failed"))
    store.append(row("failed", status="failed"))
    assert set(read(tmp_path)[1]["cell"]) == {"ok"}


def test_an_ok_cell_whose_scores_are_gone_is_a_failure_not_a_gap(tmp_path, caplog):
    Store(tmp_path).append(row("a", value=1.0))
    cells, samples = read(tmp_path)
    assert cells.loc[0, ["status", "stage"]].tolist() == ["failed", "files"] and cells["value"].isna().all()
    assert "a.parquet is damaged (there is no such file)" in cells["error"][0] and samples.empty
    assert caplog.text.count("a.parquet") == 1


def test_scores_with_an_unknown_column_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(UserError, match="valeu"):
        Store(tmp_path).write_scores("a", {"valeu": [1.0], "value": [1.0]})
    assert not (tmp_path / "scores").exists()


def test_equal_environments_are_kept_once(tmp_path):
    store = Store(tmp_path)
    hashes = [store.write_environment(facts) for facts in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3})]
    assert hashes[0] == hashes[1] != hashes[2]
    assert json.loads((tmp_path / "environment" / f"{hashes[0]}.json").read_text()) == {"a": 1, "b": 2}


def test_errors_and_configurations_are_kept_as_text(tmp_path):
    store = Store(tmp_path)
    assert store.write_error("a", "Traceback …").read_text(encoding="utf-8") == "Traceback …"
    path = store.write_config("block", "{}")
    assert path.parent == tmp_path / "config" and path.name.startswith("block-") and path.read_text() == "{}"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_while_scores_are_written_leaves_the_earlier_ones_whole(tmp_path, monkeypatch, call):
    store = Store(tmp_path)
    store.write_scores("a", scores(1.0, 2.0))
    store.append(row("a"))
    full_disk(monkeypatch, call)
    with pytest.raises(UserError) as error:
        store.write_scores("a", scores(9.0))
    monkeypatch.undo()
    assert_one_line_that_helps(error.value, tmp_path)
    assert read(tmp_path)[1]["value"].tolist() == [1.0, 2.0]
    assert [path.name for path in (tmp_path / "scores").iterdir()] == ["a.parquet"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_several_rows_are_written_all_or_none(tmp_path, monkeypatch, call):
    store = Store(tmp_path)
    store.append(row("a", n=1))
    full_disk(monkeypatch, call)
    with pytest.raises(UserError) as error:
        store.append_all([row("a", n=2), row("b", n=2)])
    monkeypatch.undo()
    assert_one_line_that_helps(error.value, tmp_path)
    assert {cell: each["n"] for cell, each in store.latest().items()} == {"a": 1} and len(store.files()) == 1
    store.append_all([row("a", n=3), row("b", n=3)])
    store.append(row("b", n=4))
    assert {cell: each["n"] for cell, each in Store(tmp_path).latest().items()} == {"a": 3, "b": 4}


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_while_a_row_is_written_leaves_the_earlier_rows_whole(tmp_path, monkeypatch, call):
    store = Store(tmp_path)
    store.append(row("a"))
    before = only_file(store).read_bytes()
    full_disk(monkeypatch, call)
    with pytest.raises(UserError) as error:
        store.append(row("b"))
    monkeypatch.undo()
    assert_one_line_that_helps(error.value, tmp_path)
    assert only_file(store).read_bytes() == before
    store.append(row("c"))
    assert set(store.latest()) == {"a", "c"}


def full_disk(monkeypatch, call):
    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk.os, call, fail)


def assert_one_line_that_helps(error, directory):
    text = str(error)
    assert "\n" not in text and "No space left" in text and "make room" in text
    assert f"the cells finished before are safe in {directory}" in text


def test_what_fits_only_in_part_is_taken_back(tmp_path):
    """A real limit on the size of files cuts a write in the middle, as a disk does that fills up."""
    store = Store(tmp_path)

    def fill_up():
        store.append(row("a"))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (only_file(store).stat().st_size + 100, hard))
        with pytest.raises(UserError, match="cannot write"):
            store.append(row("b"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        store.append(row("c"))

    assert exit_status(in_child(fill_up)) == 0
    assert set(store.latest()) == {"a", "c"} and len(store.files()) == 2
    assert all(path.read_bytes().endswith(b"\n") for path in store.files())


def test_scores_that_do_not_fit_leave_the_earlier_ones(tmp_path):
    store = Store(tmp_path)
    store.write_scores("a", scores(1.0))
    store.append(row("a"))

    def fill_up():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        with pytest.raises(UserError, match="cannot write"):
            store.write_scores("a", scores(*range(5000)))

    assert exit_status(in_child(fill_up)) == 0
    assert read(tmp_path)[1]["value"].tolist() == [1.0]
    assert len(list((tmp_path / "scores").iterdir())) == 1


def test_a_folder_without_permission_is_told_in_one_line(tmp_path):
    tmp_path.chmod(0o500)

    def try_to_write():
        if os.geteuid() == 0:  # root may write anywhere: be somebody else
            os.setuid(65534)
        with pytest.raises(UserError, match="get the right to write there"):
            Store(tmp_path).append(row("a"))

    assert exit_status(in_child(try_to_write)) == 0


def test_a_file_where_a_folder_should_be_is_told_in_one_line(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        Store(tmp_path / "run").append(row("a"))
    with pytest.raises(UserError, match="cannot write"):
        Store(tmp_path / "run").write_scores("a", scores(1.0))


def test_a_store_that_has_read_a_file_sees_what_becomes_of_it(tmp_path, monkeypatch):
    """Rows are read again only if a file has changed; it must never matter to what is found."""
    store, other = Store(tmp_path / "run"), Store(tmp_path / "run")
    other.append(row("a"))
    reads = []
    read = store_module.read_rows
    monkeypatch.setattr(store_module, "read_rows", lambda path: reads.append(path) or read(path))
    monkeypatch.setattr(store_module, "SETTLED_NS", 10**12)  # it has just changed, and may within the same tick
    assert list(store.latest()) == list(store.latest()) == ["a"] and len(reads) == 2
    monkeypatch.setattr(store_module, "SETTLED_NS", -1)
    assert list(store.latest()) == list(other.latest()) == list(Store(tmp_path / "run").latest()) == ["a"]
    assert len(reads) == 3
    other.append(row("b"))
    assert list(store.latest()) == ["a", "b"]
    path = only_file(store)
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"model": "m"', b'"model": "x"'))
    assert not store.latest()  # as long as before, and no longer what was sealed
    path.write_bytes(content)
    assert list(store.latest()) == ["a", "b"]
    elsewhere = path.rename(tmp_path / "elsewhere")
    path.symlink_to(elsewhere)
    assert not store.latest()
    path.unlink()
    assert not store.latest()
    elsewhere.rename(path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", lambda *arguments: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many")))
        assert not store.latest()
    assert list(store.latest()) == ["a", "b"]  # what could not be read once is read again
    folder = path.parent.rename(tmp_path / "cells")
    path.parent.symlink_to(folder)
    assert not store.latest()


ELSEWHERE = "elsewhere.1-77-abcdef12"  # the mark of a process of another machine
TORN = b'{"cell": "b", "sta'


@pytest.mark.parametrize("begun", [b"", TORN])
@pytest.mark.parametrize("whole_lines", [0, 1])
def test_a_file_that_a_process_of_another_machine_may_write_is_left_to_it(tmp_path, begun, whole_lines, caplog):
    """The row that it adds next is not lost; after an hour of silence the file counts as that of a killed process."""
    Store(tmp_path).append(row("a"))
    path = only_file(Store(tmp_path))
    path = path.rename(path.with_name(f"000001-{ELSEWHERE}.jsonl"))
    line = path.read_bytes()
    path.write_bytes(line * whole_lines + begun)
    with open(path, "ab") as its_file:
        assert not Store(tmp_path).clear_away() and not caplog.records
        its_file.write(b"" if begun else line)
    if not begun:
        assert list(Store(tmp_path).latest()) == ["a"]
        return
    os.utime(path, (time.time() - 4000, time.time() - 4000))
    assert Store(tmp_path).clear_away() and "000001" in caplog.text
    assert list(Store(tmp_path).latest()) == ["a"] * whole_lines
    (aside,) = (tmp_path / "damaged").iterdir()
    assert aside.read_bytes() == line * whole_lines + begun


def torn_file(directory):
    """A file of rows with a whole line and a torn one, whose writer was killed."""
    Store(directory).append(row("a"))
    path = only_file(Store(directory))
    with open(path, "ab") as file:
        file.write(TORN)
    machine, _, digits = path.stem.partition("-")[2].rsplit("-", 2)
    return path.rename(path.with_name(f"000001-{machine}-{2**22 + 1}-{digits}.jsonl"))


def test_rows_are_never_away_while_a_damaged_file_is_mended(tmp_path, monkeypatch):
    path = torn_file(tmp_path)
    with monkeypatch.context() as patched:
        full_disk(patched, "replace")
        with pytest.raises(UserError):
            Store(tmp_path).clear_away()
    assert list(Store(tmp_path).latest()) == ["a"] and path.exists()
    Store(tmp_path).clear_away()
    assert list(Store(tmp_path).latest()) == ["a"] and TORN not in path.read_bytes()


def test_two_processes_that_mend_one_file_at_once_go_on(tmp_path, monkeypatch):
    path = torn_file(tmp_path)
    path.write_bytes(TORN)  # nothing of it can be used
    real = store_module.set_aside
    monkeypatch.setattr(store_module, "set_aside", lambda path: (real(path), real(path)))
    assert Store(tmp_path).clear_away() and not Store(tmp_path).files()


def test_what_is_set_aside_replaces_nothing(tmp_path):
    contents = [f"content {number}" for number in range(4)]
    for content in contents:
        path = tmp_path / "config" / "a.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        set_aside(path)
        if content == contents[1]:  # somebody tidies up: the number of files says nothing about their names
            next(file for file in (tmp_path / "damaged").iterdir() if file.read_text() == contents[0]).unlink()
    assert {file.read_text() for file in (tmp_path / "damaged").iterdir()} == set(contents[1:])


@pytest.mark.parametrize("changed", ["stick", "subject"])
def test_scores_of_other_code_than_their_row_are_not_taken_for_its_own(tmp_path, changed, caplog):
    """A process was killed between the scores and the row of a cell, and then its code was as before."""
    store, first = Store(tmp_path), row("a", n=1, n_invalid=0, stick="one", subject="code-weights")
    for each in (first, first, {**first, changed: "another"}):
        store.write_scores("a", scores(1.0), each)
        if each is first:
            store.append(first)
            assert not store.flaw(first)
    assert "other code or weights" in store.flaw(first) and not store.flaw({**first, changed: "another"})
    assert main(["verify", tmp_path.name, "--runs", str(tmp_path.parent)]) == 1
