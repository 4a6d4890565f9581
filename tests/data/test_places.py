"""Places that are not as they should be cost one line: no home, no temporary folder, a full disk, names too long."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch

from harness import assets, places
from harness.assets import cached_state, clear_unfinished
from harness.errors import UserError
from harness.jobs.plan import Plan
from harness.places import (
    LONGEST_RUN_NAME,
    clear_abandoned,
    file_name,
    ignored_temporary_place,
    temporary_folder,
    user_path,
)
from harness.results.frames import find_run
from harness.results.store import Store


@pytest.fixture
def no_home(monkeypatch):
    for name in ("HOME", "HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where the user is in no list of users


@pytest.fixture
def no_place(monkeypatch, tmp_path):
    monkeypatch.setattr(places.tempfile, "tempdir", None)
    monkeypatch.setattr(places.tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "gone")])


def weights():
    return {"weight": torch.arange(4.0)}


def test_without_a_home_the_model_is_trained_and_used_and_one_line_says_that_it_is_not_kept(no_home, caplog):
    assert cached_state("net", {}, weights)["weight"].tolist() == [0, 1, 2, 3]
    (line,) = caplog.messages
    assert "set HARNESS_CACHE" in line
    clear_unfinished()


def test_without_a_home_a_path_with_a_tilde_is_a_mistake_in_one_line(no_home):
    assert user_path("photos") == Path("photos")
    for make in (lambda: user_path("~/photos"), lambda: assets.fetch(assets.Wheel("a-1-py3-none-any.whl", ""))):
        with pytest.raises(UserError, match="home directory"):
            make()


def test_a_temporary_folder_that_does_not_exist_is_told_and_another_is_used(monkeypatch, tmp_path):
    monkeypatch.setattr(places.tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    line = ignored_temporary_place()
    assert str(tmp_path / "gone") in line and "temporary files go to" in line
    monkeypatch.setattr(places.tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert ignored_temporary_place() == ""


def test_without_any_temporary_folder_one_line_says_what_to_do(no_place):
    with pytest.raises(UserError, match="set TMPDIR") as error:
        temporary_folder()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["é" * 200, "x" * 400, "模" * 90, "short", "a/b c"])
def test_names_of_files_fit_the_file_system_and_stay_apart(text, tmp_path):
    names = {file_name(text), file_name(text + "1")}
    assert len(names) == 2 and all(len(name.encode()) <= 150 for name in names)
    for name in names:
        (tmp_path / f"{name}.parquet").write_text("")


def test_a_table_with_a_long_name_is_kept(tmp_path):
    import pandas as pd

    store = Store(tmp_path)
    path = store.write_table("owner", "ü" * 300, pd.DataFrame({"a": [1.0]}))
    assert store.run_files.table(tmp_path / path)["a"].tolist() == [1.0]


def test_a_run_name_that_is_too_long_is_refused_in_one_line_and_a_long_one_is_not_found():
    config = {"model": "digits_cnn", "dataset": "digits", "explainer": ["random"], "metric": ["sparseness"]}
    Plan.of({**config, "run": "x" * LONGEST_RUN_NAME})
    with pytest.raises(UserError, match="a name of 402 bytes; expected at most 200"):
        Plan.of({**config, "run": "ü" * 201})
    with pytest.raises(UserError, match="no run"):
        find_run("x" * 5000)


def test_a_label_that_is_too_long_gives_files_that_can_be_written():
    chosen = {"model": {"name": "digits_cnn", "label": "ü" * 300}, "dataset": "digits"}
    name = Plan.of({**chosen, "explainer": ["random"], "metric": ["sparseness"]}).name
    assert len(name.encode()) <= 150


def test_temporary_folders_of_ended_processes_are_cleared_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(places.tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    with temporary_folder() as mine:
        left = Path(mine.replace(f"-{os.getpid()}-", f"-{ended.pid}-"))
        left.mkdir()
        (left / "0.npy").write_bytes(b"16 MB")
        others = [tmp_path / "harness-leases-0", tmp_path / f"harness-elsewhere.1-{ended.pid}-abcdefgh"]
        for folder in others:
            folder.mkdir()
        assert clear_abandoned(tmp_path) == 1
        assert sorted(tmp_path.iterdir()) == sorted([Path(mine), *others])


@pytest.mark.parametrize("damage", ["flipped", "cut off", "empty", "another's", "no checksum", "a folder"])
def test_damaged_weights_are_named_in_one_line_and_trained_again(damage, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    cached_state("net", {}, weights)
    cached_state("net", {"seed": 1}, lambda: {"weight": torch.ones(4)})
    (path,) = (each for each in (tmp_path / "trained").iterdir() if each.stem == "net-44136fa355b3678a")
    (other,) = (each for each in (tmp_path / "trained").iterdir() if each != path)
    content = path.read_bytes()
    flipped = content.replace(torch.arange(4.0).numpy().tobytes(), torch.arange(1.0, 5.0).numpy().tobytes())
    contents = {"flipped": flipped, "cut off": content[:-300], "another's": other.read_bytes(), "empty": b""}
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage == "no checksum":
        torch.save({"weight": torch.ones(4)}, path)
    else:
        assert contents[damage] != content
        path.write_bytes(contents[damage])
    for _ in range(2):
        assert cached_state("net", {}, weights)["weight"].tolist() == [0, 1, 2, 3]
    lines = [line for line in caplog.messages if "trained again" in line]
    assert path.name in lines[0] and (len(caplog.messages) == 1 or damage == "a folder")


def test_a_full_cache_costs_one_line_and_no_weights(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cached_state("net", {}, weights)["weight"].tolist() == [0, 1, 2, 3]
    (line,) = caplog.messages
    assert "not kept for another run" in line and "No space left" in line
    assert list((tmp_path / "trained").iterdir()) == []
