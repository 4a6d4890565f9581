"""Whatever an item does, it costs its own cells: the others are measured, and are those of a calm run."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import harness
from attacks import CHANGES, ENDS, ERRORS, METRICS, PROCESS
from harness.errors import NotMeasured, UserError
from harness.jobs.channel import Hearing
from harness.jobs.plan import Plan
from harness.jobs.supervisor import Supervisor
from harness.results.frames import read
from harness.results.store import Store

HERE = Path(__file__).parent
ATTACKS = [attack for section in (ERRORS, CHANGES, PROCESS) for attack in section.attacks]
RIGHT = (
    "forking",
    "forking_silently",
    "settings",
    "deaf",
    "one_buffer",
    "in_place",
    "lingering",
    "scribbler",
    "leaver",
)  # their maps are the gradients
GRADIENT = {"name": "toys:gradient_map"}
GOOD = {"before": GRADIENT, "after": {**GRADIENT, "factor": 2.0}}
RUNTIME = {"chunk": 7, "quiet": True, "lease": "share", "sheet": 0, "control": False}
TOTAL = {"total": {"name": "toys:total"}}


def settings(folder, explainers, metrics, **runtime):
    """A block of toys in the run ``night`` below a folder."""
    return {
        "model": "hostile:net",
        "dataset": "hostile:images",
        "explainer": explainers,
        "metric": metrics,
        "protocol": {"explain_batch": 3},
        "run": "night",
        "runtime": {**RUNTIME, "runs": str(folder), **runtime},
    }


def supervised(config):
    """The exit status of a supervised run."""
    supervisor = Supervisor()
    try:
        return supervisor.measure(config, in_sweep=False)
    finally:
        supervisor.end()


def cells_of(folder):
    cells = read(folder / "night")[0].set_index(["explainer", "metric"])
    cells["row"] = cells["status"] + ": " + cells["error"].fillna("") + " " + cells["flags"].map("; ".join)
    return cells


def hostile(label):
    return {"name": f"hostile:{label}"}


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The cells of the good explainers, measured in this process."""
    folder = tmp_path_factory.mktemp("calm")
    harness.run(settings(folder, GOOD, TOTAL | {"sharing": hostile("sharing")}))
    return cells_of(folder)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A run with every hostile explainer between two good ones: its folder, exit status and cells."""
    folder = tmp_path_factory.mktemp("attacked")
    bad = {attack.means: hostile(attack.means) for attack in ATTACKS}
    explainers = {"before": GOOD["before"], **bad, "after": GOOD["after"]}
    return folder, supervised(settings(folder, explainers, TOTAL, cell_timeout=8, memory=2)), cells_of(folder)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.means)
def test_the_row_of_a_hostile_explainer_says_what_it_did(attack, attacked, calm):
    _, status, cells = attacked
    assert re.match(attack.row, cells.loc[(attack.means, "total"), "row"])
    assert status == 1
    if attack.means in RIGHT:
        assert cells.loc[(attack.means, "total"), "value"] == calm.loc[("before", "total"), "value"]


def test_the_explainers_before_and_after_are_those_of_a_calm_run(attacked, calm):
    _, _, cells = attacked
    assert len(cells) == len(ATTACKS) + 2
    for label in GOOD:
        assert cells.loc[(label, "total"), "value"] == calm.loc[(label, "total"), "value"]
        assert cells.loc[(label, "total"), "status"] == "ok"


def test_no_row_is_doubled_and_nothing_is_left_in_the_folder(attacked):
    folder, _, cells = attacked
    lines = [json.loads(line) for path in Store(folder / "night").files() for line in path.read_text().splitlines()]
    twice = [row["explainer"] for row in lines if [each["cell"] for each in lines].count(row["cell"]) > 1]
    assert set(twice) <= {"closer"}  # whose process has failed before it ended
    assert {row["cell"] for row in lines} == set(cells["cell"])
    assert {path.name for path in folder.iterdir()} == {"night"}
    assert {path.name for path in (folder / "night").iterdir()} == {
        *("cells", "config", "environment", "errors", "output", "scores")
    }


def test_what_an_item_prints_is_kept_and_bounded(attacked):
    folder, _, cells = attacked
    (last_words,) = (folder / "night" / "output").glob("*exit_status*")
    assert last_words.read_text() == "# explain exit_status\ngood bye\n"
    (endless,) = (folder / "night" / "output").glob("*endless*")
    assert endless.stat().st_size < 70_000 and re.search(r"\.\.\. \d{6,} bytes are left out", endless.read_text())
    trace = folder / "night" / "errors" / f"{cells.loc[('exit_status', 'total'), 'cell']}.txt"
    assert "good bye" in trace.read_text()


def test_what_an_item_has_left_ends_with_its_worker(attacked):
    _, _, cells = attacked
    assert cells.loc[("leaver", "total"), "status"] == "ok"
    assert not [line for line in command_lines() if f"left-under-{os.getpid()}".encode() in line]


def test_the_stack_of_a_dead_process_is_kept(attacked):
    folder, _, cells = attacked
    trace = (folder / "night" / "errors" / f"{cells.loc[('segfault', 'total'), 'cell']}.txt").read_text()
    assert "Segmentation fault" in trace and "in segfault" in trace and "run_plan" in trace


def test_a_cell_that_ends_its_process_twice_is_left(attacked):
    folder, _, before = attacked
    config = settings(folder, {"exit_status": hostile("exit_status"), **GOOD}, TOTAL)
    assert supervised(config) == 1
    rows = Store(folder / "night").latest()
    assert before.loc[("exit_status", "total"), "attempt"] == 1 and not Plan.of(config).pending(rows)
    assert {row["attempt"] for row in rows.values() if row["explainer"] == "exit_status"} == {2}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The cells of two good explainers by every hostile metric, and by metrics before and after these."""
    folder = tmp_path_factory.mktemp("measured")
    bad = {attack.means: hostile(attack.means) for attack in METRICS.attacks}
    metrics = {**TOTAL, **bad, "sharing": hostile("sharing")}
    supervised(settings(folder, {"before": GOOD["before"]}, metrics))
    return cells_of(folder)


@pytest.mark.parametrize("attack", METRICS.attacks, ids=lambda attack: attack.means)
def test_a_hostile_metric_costs_its_own_cell(attack, measured, calm):
    assert re.match(attack.row, measured.loc[("before", attack.means), "row"])
    for metric in ("total", "sharing"):
        assert measured.loc[("before", metric), "value"] == calm.loc[("before", metric), "value"]


def test_messages_are_told_from_what_else_comes_through_their_descriptor():
    hearing = Hearing("token")
    sent = b'hello world\n{"done": 0}\nhalftoken{"say": "a token"}\ntoken{"al'
    assert hearing.messages_in(sent) == [{"say": "a token"}] and hearing.strays == 3
    assert hearing.messages_in(b'ive": true}\ntoken[broken\n') == [{"alive": True}] and hearing.strays == 4


def test_a_model_whose_loading_ends_the_process_is_told_in_one_line(tmp_path):
    assert "model" in {attack.means for attack in ENDS.attacks}
    config = {**settings(tmp_path, GOOD, TOTAL), "model": "hostile:dying_net"}
    expected = r"^hostile:dying_net on hostile:images could not be loaded: the process ended itself with exit status 4 "
    with pytest.raises(NotMeasured, match=expected) as lost:
        supervised(config)
    assert lost.value.status == 1  # a job that runs out of memory here is no mistake of the user
    assert set(cells_of(tmp_path)["stage"]) == {"load"} and len(cells_of(tmp_path)) == 2


@pytest.mark.parametrize(("chosen", "status"), [({"model": "hostile:lost_net"}, 1), ({"dataset": "toys:empty"}, 2)])
def test_only_a_mistake_that_stops_the_loading_ends_with_the_status_of_one(chosen, status, tmp_path):
    with pytest.raises(UserError, match="could not be loaded: ") as refused:
        supervised({**settings(tmp_path, GOOD, TOTAL), **chosen})
    assert refused.value.status == status


@pytest.mark.parametrize("wrong", [{"cell_timeout": "soon"}, {"cell_timeout": -1}, {"memory": -1}, {"memory": True}])
def test_a_limit_that_is_none_is_refused_before_a_worker_starts(wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(Supervisor, "start", lambda self: pytest.fail("a worker was started"))
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=rf"runtime\.{name} is {value!r}, expected .*a number from"):
        supervised(settings(tmp_path, GOOD, TOTAL, **wrong))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def command(tmp_path):
    """Starts ``harness`` with arguments; gives the process."""
    settings = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])])}

    def start(*arguments):
        line = [sys.executable, "-m", "harness", *arguments]
        return subprocess.Popen(line, cwd=tmp_path, env=settings, stdout=-1, stderr=-1, text=True)

    return start


SLOW = [
    *("run", "model=hostile:net", "dataset=hostile:images", "explainer=[hostile:gradient_map,hostile:slow]"),
    *("metric=[sparseness]", "runtime.lease=share", "runtime.chunk=7", "runtime.sheet=0", "runtime.control=false"),
]


def processes_in(folder):
    """The processes whose working folder it is."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and os.readlink(path / "cwd") == str(folder):
                found.append(int(path.name))
        except OSError:
            continue
    return found


def sessions_in(folder):
    """How many of the processes in a folder began a session: the worker, and the child of the item ``slow``."""
    leaders = 0
    for process in processes_in(folder):
        with contextlib.suppress(ProcessLookupError):
            leaders += os.getsid(process) == process
    return leaders


def command_lines():
    """Those of all processes."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            yield path.read_bytes()


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert true()


def stopped(folder):
    """How many of the processes in a folder are stopped."""
    return sum(
        Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()[0] == "T" for each in processes_in(folder)
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_run_that_is_ended_says_so_in_one_line_and_takes_its_processes_along(number, status, command, tmp_path):
    process = command(*SLOW, "--quiet")
    wait_until(lambda: sessions_in(tmp_path) == 2)
    process.send_signal(signal.SIGTSTP)
    wait_until(lambda: stopped(tmp_path) == 2)
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: stopped(tmp_path) == 0)
    process.send_signal(number)
    printed, error = process.communicate(timeout=30)
    assert process.returncode == status and printed == ""
    assert error == "harness: interrupted; finished cells are on disk, the same command resumes\n"
    wait_until(lambda: not processes_in(tmp_path), 5)
    folder = tmp_path / "runs" / "main"
    assert [row["status"] for row in Store(folder).latest().values()] == ["ok"] and not (folder / "working").exists()


def test_a_worker_dies_with_its_supervisor_and_what_it_was_measuring_comes_last_next_time(command, tmp_path):
    backwards = [each.replace("gradient_map,hostile:slow", "slow,hostile:gradient_map") for each in SLOW]
    process = command(*backwards)
    wait_until(lambda: sessions_in(tmp_path) == 2)
    process.kill()
    process.communicate(timeout=30)
    wait_until(lambda: len(processes_in(tmp_path)) == 1, 5)  # the child that has left its session
    for child in processes_in(tmp_path):
        os.kill(child, signal.SIGKILL)
    _, error = command(*backwards, "runtime.cell_timeout=2").communicate(timeout=90)
    assert "the last run was killed while it measured slow: measured last this time" in error
    assert error.index("gradient_map  ") < error.index("slow failed: no end within runtime.cell_timeout=2 s")


def catches(number, process):
    """Whether a process has a handler for a signal."""
    line = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return bool(line) and bool(int(line[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.4, 0.8])
def test_ctrl_c_while_modules_are_imported_is_one_line(seconds, command):
    process = command(*SLOW, "--quiet")
    wait_until(lambda: catches(signal.SIGTERM, process.pid))
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=30)
    assert process.returncode == 130 and printed == "" and error.count("\n") == 1 and "harness: interrupted" in error


def test_ctrl_c_inside_a_text_that_a_module_executes_has_the_status_of_an_interrupt(command, tmp_path):
    text = "Path('begun').touch(); time.sleep(60)"
    (tmp_path / "slow_to_import.py").write_text(f"import time\nfrom pathlib import Path\nexec({text!r})\n")
    process = command("run", "model=slow_to_import:net", "dataset=digits", "runtime.supervise=false", "--quiet")
    wait_until((tmp_path / "begun").exists)
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=30)
    assert process.returncode == 130 and printed == "" and error.count("\n") == 1 and "harness: interrupted" in error
