"""Who has a device to itself, and who only thought so."""

import os
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace

import pytest
import torch

from harness.errors import UserError
from harness.jobs.lease import devices_named, lease

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    return tmp_path


@pytest.fixture
def asleep(monkeypatch):
    """What happens while a run sleeps, in place of the sleep."""
    waits = []
    monkeypatch.setattr("harness.jobs.lease.time.sleep", lambda seconds: waits.pop(0)())
    return waits


def taken(mode, device=CPU):
    return lease(device, mode, lambda line: None)


@pytest.mark.parametrize("mode", ["wait", "share"])
def test_who_finds_a_free_device_is_alone(mode):
    with taken(mode) as alone:
        assert alone
    assert alone


def test_a_run_that_joins_makes_the_holders_timings_invalid_from_then_on():
    with taken("wait") as holder:
        assert holder
        with taken("share") as sharer:
            assert not sharer and not holder
        assert not holder
    assert not holder


def test_a_run_that_came_and_went_between_two_questions_is_seen():
    with taken("wait") as holder:
        with taken("share"):
            pass
        assert not holder


def test_the_end_of_a_lease_settles_it():
    with taken("wait") as unseen, taken("share"):
        pass
    with taken("wait") as next_one:
        assert next_one
    assert not unseen
    with taken("wait"), taken("share"):
        assert next_one


def test_who_shares_is_never_alone_even_after_the_holder_has_gone():
    holder = taken("wait")
    holder.__enter__()
    with taken("share") as sharer:
        holder.__exit__(None, None, None)
        assert not sharer


def test_a_new_run_beside_a_sharer_that_outlasted_its_holder_is_not_alone():
    holder = taken("wait")
    holder.__enter__()
    with taken("share"):
        holder.__exit__(None, None, None)
        with taken("share") as late:
            assert not late


def test_waiting_ends_when_holder_and_sharers_have_gone_and_then_one_is_alone(asleep):
    holder, sharer, said = taken("wait"), taken("share"), []
    holder.__enter__()
    sharer.__enter__()
    asleep += [lambda: holder.__exit__(None, None, None), lambda: None, lambda: sharer.__exit__(None, None, None)]
    with lease(CPU, "wait", said.append) as alone:
        assert alone and asleep == [] and len(said) == 1 and "held by a process" in said[0]


def test_who_waits_or_shares_is_told_who_holds_the_device_and_since_when(folder, asleep):
    holder, said = lease(CPU, "auto", lambda line: None, user="run runs/main"), []
    holder.__enter__()
    with lease(CPU, "auto", said.append, user="run runs/other") as alone:
        assert not alone
    asleep += [lambda: holder.__exit__(None, None, None)]
    with lease(CPU, "wait", said.append, user="run runs/third") as alone:
        assert alone and len(said) == 2
    held = rf"held by run runs/main \(process {os.getpid()}\) since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.match(rf"cpu is in use: {held}; scores are measured, costs are not", said[0])
    assert re.match(rf"waiting for cpu: {held} ", said[1])


def test_another_process_is_seen_and_its_end_however_it_ends_frees_the_device(folder):
    code = (
        f"import sys, tempfile; tempfile.gettempdir = lambda: {str(folder)!r}\n"
        "import torch; from harness.jobs.lease import lease\n"
        "with lease(torch.device('cpu'), sys.argv[1], print) as alone:\n"
        "    print(bool(alone), flush=True); sys.stdin.readline(); print(bool(alone), flush=True); sys.stdin.readline()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, "wait"], stdin=-1, stdout=-1, text=True)
    try:
        assert other.stdout.readline() == "True\n"
        with taken("share") as alone:
            assert not alone
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "False\n"
    finally:
        other.kill()
        other.communicate()
    with taken("wait") as alone:
        assert alone


def test_a_holder_that_was_killed_is_not_named_while_others_share_the_device(folder):
    holder, sharer, said = taken("wait"), taken("share"), []
    holder.__enter__()
    with sharer:
        holder.__exit__(None, None, None)
        (lock,) = folder.rglob("*.lock")
        lock.write_text("run runs/killed")  # which had no time to clear it
        with lease(CPU, "share", said.append, user="run runs/main"):
            assert "held by another run" in said[0]


def test_devices_are_leased_apart_and_a_gpu_by_what_it_is_and_not_by_its_number(folder, monkeypatch):
    visible = {0: "GPU-a", 1: "GPU-b"}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=visible[i]))
    with taken("wait") as cpu, taken("wait", torch.device("cuda", 1)) as second:
        with taken("wait", torch.device("cuda", 0)) as first:
            assert cpu and first and second
        visible[0] = "GPU-b"  # as a process sees it that is let see the second alone
        with taken("share", torch.device("cuda", 0)) as same:
            assert not same and not second and cpu


def test_of_several_gpus_a_run_takes_the_first_free_one_and_waits_where_none_is(folder, asleep, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"gpu-{number}"))
    said = []
    devices = devices_named("auto")
    assert [str(each) for each in devices] == ["cuda:0", "cuda:1"]
    first, second = lease(devices, "auto", said.append, user="a"), lease(devices, "auto", said.append, user="b")
    with first as one:
        with second as other:
            assert (one.device.index, other.device.index) == (0, 1)
            assert one and other and not said
            asleep.append(lambda: first.__exit__(None, None, None))
            with lease(devices, "auto", said.append, user="c") as third:  # it waits until the first one has ended
                assert third.device.index == 0 and third
    assert re.match(r"waiting for cuda:0: held by a .*, cuda:1: held by b ", said[0]) and len(said) == 1


def test_an_unknown_mode_is_told():
    with pytest.raises(UserError, match="runtime.lease is 'steal', expected auto, wait, share"), taken("steal"):
        pass
