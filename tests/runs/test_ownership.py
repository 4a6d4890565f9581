"""A run that somebody else made imports nothing unless its reader says so."""

import json
import textwrap

import pytest

from harness.errors import UserError
from harness.jobs import ownership
from harness.jobs.ownership import KEY_FILE, SUFFIX, programs_named
from harness.views.drawing import draw_views


@pytest.fixture
def run_with_own_net(tmp_path, monkeypatch):
    """A run of a net from the file owned.py, which counts its imports in a file."""
    import harness

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "owned.py").write_text(
        textwrap.dedent("""
        from torch import nn

        def make():
            open("called", "a").write(".")
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()
        """)
    )
    harness.run(
        {
            "model": "owned:make",
            "dataset": {"name": "digits"},
            "explainer": ["saliency"],
            "metric": ["complexity"],
            "protocol": {"samples": 2},
            "runtime": {"runs": str(tmp_path / "runs"), "sheet": 0, "quiet": True},
            "run": "theirs",
        }
    )
    (tmp_path / "called").unlink()
    return tmp_path / "runs" / "theirs"


def drawn(run, **options):
    return draw_views(run, ["activations"], **options)


@pytest.mark.parametrize("foreign", ["no mark", "changed", "another key"])
def test_a_foreign_run_imports_nothing_unless_it_is_trusted(run_with_own_net, tmp_path, monkeypatch, foreign):
    (config,) = (run_with_own_net / "config").glob("owned*.json")
    if foreign == "no mark":
        config.with_name(config.name + SUFFIX).unlink()
    elif foreign == "changed":
        config.write_text(json.dumps(json.loads(config.read_text()), indent=3))
    else:
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache of another user"))
    # A changed configuration has another digest than its name says, so that it is damaged and left out.
    asked = "would import and run owned:make; if you trust it, add --trust"
    words = "nothing to draw" if foreign == "changed" else asked
    with pytest.raises(UserError, match=words):
        drawn(run_with_own_net)
    assert not (tmp_path / "called").exists()
    if foreign == "changed":
        return
    assert drawn(run_with_own_net, trust=True) and (tmp_path / "called").exists()


def test_ones_own_run_is_drawn_without_a_question(run_with_own_net):
    assert drawn(run_with_own_net)


def test_views_of_scores_alone_import_nothing(run_with_own_net, tmp_path):
    for mark in (run_with_own_net / "config").glob(f"*{SUFFIX}"):
        mark.unlink()
    with pytest.raises(UserError, match="nothing to draw"):
        draw_views(run_with_own_net, ["curves"])
    assert not (tmp_path / "called").exists()


def test_programs_are_found_wherever_a_configuration_names_them():
    config = {
        "model": {"name": "python", "factory": "mine:make", "options": {"depth": [{"block": "theirs.nets:Block"}]}},
        "dataset": {"name": "image_folder", "path": "C:\\photos", "note": "12:30"},
        "explainer": [{"name": "os:system"}, {"name": "saliency"}],
        "metric": [{"name": "exported", "path": "net.pt2"}],
    }
    assert programs_named(config) == ["mine:make", "theirs.nets:Block", "os:system", "net.pt2"]


@pytest.mark.parametrize("links", [True, False])
def test_a_key_that_was_not_written_is_drawn_again(links, tmp_path, monkeypatch):
    """A process that is killed while it draws the key leaves none; where the file is empty all the same, it counts as
    none. Processes that draw it at once have one key."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    key = tmp_path / "cache" / KEY_FILE
    key.parent.mkdir()
    if not links:

        def refuse(*given):
            raise PermissionError("this file system has no links")

        monkeypatch.setattr(ownership.os, "link", refuse)
    with monkeypatch.context() as patched:

        def killed(*given):
            raise KeyboardInterrupt

        patched.setattr(ownership, "sync", killed)
        with pytest.raises(KeyboardInterrupt):
            ownership._user_key()
        assert not list(key.parent.iterdir())
    key.touch()
    drawn_key = ownership._user_key()
    assert len(drawn_key) == 32 and key.stat().st_mode & 0o777 == 0o600
    assert ownership._drawn_key(key) == drawn_key == ownership._user_key() and list(key.parent.iterdir()) == [key]
