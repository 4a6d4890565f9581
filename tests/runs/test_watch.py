"""``harness watch``: the progress of a run, read from its files while it goes on and afterwards."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

import harness
from harness.cli.launch import Launch, LaunchContext
from harness.cli.main import main
from harness.cli.watch_text import progress_lines
from harness.launching.settings import Processes
from harness.places import TIME_OF_LAUNCH, process_mark
from harness.results import run_traces
from harness.results.block_plans import BlockPlan, titles_of
from harness.results.block_progress import StateCounts
from harness.results.rows import CELL_COLUMNS, row_line
from harness.results.run_files import RunFiles
from harness.results.run_progress import RunFollower
from harness.results.time_left import End, expected_end

HERE = Path(__file__).parent
START = 1_800_000_000.0  # seconds since 1970
FAR = "node7.4026531836-88-0123abcd"  # the mark of a process on another machine
MODEL, DATASET = {"name": "net", "seed": 0}, {"name": "images"}
PROTOCOL = {"samples": 8, "seed": 0}


class Planted:
    """A folder of a run that is written by hand; rows and announcements as the harness writes them."""

    def __init__(self, folder, explainers="abc", metrics="mn", protocol=PROTOCOL, **runtime):
        self.folder, self.protocol = folder, protocol
        self.explainers, self.metrics, self.runtime = explainers, metrics, runtime

    def config(self, folder=None, written=None, used=None):
        """Write the configuration of the block, ``written`` and last ``used`` so many seconds after START."""
        folder = folder or self.folder
        config = {
            "run": "night",
            "model": {"label": "net", **MODEL},
            "dataset": {"label": "images", **DATASET},
            "explainer": {label: {"name": f"toys:{label}", "k": 1.0} for label in self.explainers},
            "metric": {label: {"name": f"toys:{label}"} for label in self.metrics},
            "protocol": self.protocol,
            "runtime": {"shards": 1, "shard": None, **self.runtime},
        }
        path = RunFiles(folder).write_text("config", "net-images-", json.dumps(config), "")
        mark = path.with_name(f"{path.name}.own")
        for each, time_ in ((path, written), (mark, used)):
            if time_ is not None:
                each.touch()
                os.utime(each, (START + time_, START + time_))
        return self

    def row(self, cell, finished=0.0, **columns):
        """A row of a cell such as ``am``, explainer ``a`` and metric ``m``, ``finished`` seconds after START."""
        explainer, metric = cell
        return {
            **dict.fromkeys(CELL_COLUMNS),
            "run": "night",
            "cell": f"{explainer}{metric}{self.protocol['seed']}",
            **{"model": "net", "dataset": "images", "explainer": explainer, "metric": metric},
            **{"status": "ok", "stick": "1", "subject": "2-3", "flags": [], "finished": _iso(finished)},
            "config": {
                **{"model": MODEL, "dataset": DATASET, "protocol": self.protocol},
                "explainer": {"k": 1.0, "name": f"toys:{explainer}"},
                "metric": {"name": f"toys:{metric}"},
            },
            **columns,
        }

    def write(self, *rows, mark=FAR, number=1, folder=None):
        """Append rows to the file of a process."""
        path = (folder or self.folder) / "cells" / f"{number:06d}-{mark}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(b"".join(map(row_line, rows)))
        return path

    def announce(self, *cells, stage="score", mark=FAR, started=0.0, changed=0.0, folder=None):
        """Announce cells in the file of a process that was ``started``, ``changed`` seconds after START."""
        name = datetime.fromtimestamp(START + started, UTC).strftime("%Y%m%dT%H%M%S.%f")
        path = (folder or self.folder) / "working" / f"{name}-{mark}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps([self.row(cell, status="failed", stage=stage, finished=0) for cell in cells]) + "\n")
        os.utime(path, (START + changed, START + changed))
        return path


def _iso(seconds):
    return datetime.fromtimestamp(START + seconds, UTC).isoformat(timespec="microseconds")


def launched(folder, began, *logs):
    """A folder of a launch that ``began`` so many seconds after START, whose jobs have written their ``logs`` since."""
    launch = folder / "jobs" / datetime.fromtimestamp(START + began, UTC).strftime(TIME_OF_LAUNCH)
    launch.mkdir(parents=True)
    os.utime(launch.parent, (START + began, START + began))
    for number, changed in enumerate(logs, 1):
        (launch / f"{number}.log").touch()
        os.utime(launch / f"{number}.log", (START + changed, START + changed))


def looked(folder, now=0.0):
    return RunFollower(folder).look(START + now)


def shown(progress, width=80):
    return "\n".join(progress_lines(progress, width))


def once(folder, capsys, *flags):
    """Exit status and output of ``harness watch --once``."""
    status = main(["watch", str(folder), "--once", *flags])
    return status, capsys.readouterr().out


@pytest.fixture
def planted(tmp_path):
    """A block of three explainers and two metrics with its configuration."""
    return Planted(tmp_path / "night").config()


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_a_run_in_the_middle_then_killed_then_done(config, tmp_path, monkeypatch, capsys):
    config["explainer"] = {"gradient": config["explainer"]["gradient"], "patient": {"name": "toys:patient"}}
    config["runtime"]["control"] = False
    monkeypatch.setenv("MENDED", str(tmp_path / "mended"))
    code = (
        f"import sys, json; sys.path.insert(0, {str(HERE)!r}); from harness.jobs.supervisor import Supervisor; "
        "Supervisor().measure(json.loads(sys.argv[1]), False)"
    )
    run, follower = tmp_path / "night", RunFollower(tmp_path / "night")
    process = subprocess.Popen([sys.executable, "-c", code, json.dumps(config)], stderr=subprocess.DEVNULL)
    try:
        waited = time.monotonic()
        while [each.explainer for each in follower.look().processes] != ["patient"]:
            assert process.poll() is None and time.monotonic() - waited < 240
            time.sleep(0.1)
        progress = follower.look()
        (block,), (worker,) = progress.blocks, progress.processes
        assert block.title == "toys:net on toys:images" and block.counts == StateCounts(done=2, left=2)
        assert (worker.process, worker.state, worker.stage) == (str(process.pid), "alive", "explain")
        assert len(worker.pairs) == 2 and block.seconds is not None
        status, text = once(run, capsys)
        assert (
            status == 1 and f"process {process.pid}: toys:net on toys:images\n    explaining with patient, for" in text
        )
        assert "2 of 4 cells measured (50 %)\nend: " in text
    finally:
        process.kill()
        process.wait()
    progress = follower.look()
    assert not progress.alive and progress.end == End(None, "no process is at work")
    assert "dead; its last work: explaining with patient" in shown(progress)
    (tmp_path / "mended").touch()
    harness.run(config)
    assert follower.look().counts == StateCounts(done=4)
    files = lambda: {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in run.rglob("*")}
    before = files()
    status, text = once(run, capsys)
    assert status == 0 and "4 of 4 cells measured (100 %)\nend: nothing is left" in text and "process" not in text
    assert files() == before, "nothing is written"


def test_the_shards_of_a_run_as_the_harness_writes_them(config, tmp_path, capsys):
    config["explainer"]["fragile"] = {"name": "toys:not_for_you"}
    cut = {**config, "runtime": {**config["runtime"], "shards": 2, "shard": 0}}
    run = harness.run(cut)
    (block,) = RunFollower(run).look().blocks
    assert block.counts == StateCounts(left=6)
    first, second = block.parts
    assert first.name == "shard 0 of 2" and first.counts == StateCounts(done=4, not_applicable=2)
    assert not second.begun and second.counts == StateCounts(left=6)
    assert once(run, capsys)[0] == 1
    harness.run({**cut, "runtime": {**cut["runtime"], "shard": 1}})
    (block,) = RunFollower(run).look().blocks
    assert block.counts == StateCounts(done=4, not_applicable=2) and not block.parts
    status, text = once(run, capsys)
    assert status == 0 and "of 2 shards" not in text


def test_the_rounds_of_a_run_end_when_the_scores_say_so(config, tmp_path, capsys):
    config["dataset"] = {"name": "toys:images", "count": 50}
    config["protocol"] = {"explain_batch": 5, "precision": 1e-9}
    done = harness.run(config)
    assert RunFollower(done).look().counts == StateCounts(done=4)
    for path in [*(done / "cells").iterdir(), *(done / "rounds" / "2" / "cells").iterdir()]:
        path.unlink()
    progress = RunFollower(done).look()
    (block,) = progress.blocks
    assert [(part.name, part.counts.done) for part in block.parts] == [("round 0", 4), ("round 1", 4)]
    assert block.counts == StateCounts(left=4) and block.seconds is None and "rounds follow" in block.unknown


def test_the_end_follows_from_what_the_cells_have_taken(planted):
    planted.write(
        planted.row("am", 0, seconds=2.0),  # the first row of a process: scoring is all that is known
        planted.row("an", 10, seconds=4.0),  # 10 seconds after it
        planted.row("bm", 16, status="not_applicable"),  # 6 seconds
    )
    left = 10 + (2 + 6) / 2 + 10  # bn, cm, cn by the means of their metrics
    progress = looked(planted.folder, 19)
    assert progress.blocks[0].seconds == left and progress.end == End(None, "no process is at work")
    planted.announce("bn", changed=16)
    assert looked(planted.folder, 19).end == End(left - 3)  # it is at work on bn for 3 seconds
    assert looked(planted.folder, 99).end == End(left - 10), "a cell that takes longer than expected counts as done"
    other = Planted(planted.folder, protocol={**PROTOCOL, "seed": 1}, metrics="mn", explainers="ab").config()
    other.write(other.row("am", 0), other.row("an", 8), other.row("bm", 16), mark=FAR.replace("88", "89"), number=2)
    assert [block.seconds for block in looked(planted.folder, 19).blocks] == [left - 3, 8]
    assert [block.title for block in looked(planted.folder).blocks] == [f"net on images (seed={n})" for n in (0, 1)]
    progress = looked(planted.folder, 19)
    assert progress.end == End(left - 3 + 8), "one process measures one block after the other"
    assert progress.busy_end == End(left - 3) and "left, with nobody at work on them: 1 cell of 1 block" in shown(
        progress
    )
    assert "of the blocks that are being measured: in about 21 s" in shown(progress)
    other.announce("bn", mark=FAR.replace("88", "89"), changed=19)
    assert looked(planted.folder, 19).end == End(left - 3), "the longer of both"


def test_processes_share_what_is_left_and_none_ends_before_the_longest_portion():
    assert expected_end([10.0, 10.0, 10.0], 2, "") == End(15.0)
    assert expected_end([30.0, 1.0], 2, "") == End(30.0)
    assert expected_end([30.0, None], 2, "why") == End(None, "why")
    assert expected_end([], 0, "") == End(0.0)


def test_a_block_of_which_nothing_is_measured_has_no_known_end(planted):
    planted.announce("am", "an", "bm", "bn", "cm", "cn", stage="load")
    progress = looked(planted.folder, 5)
    assert progress.end == End(None, "nothing tells yet how long cells of net on images take")
    assert "loading model and data, for 5 s; last sign of life 5 s ago" in shown(progress)
    assert "unknown" in shown(progress)


def test_the_end_is_a_guess_while_nothing_is_measured_of_a_block(planted):
    planted.write(planted.row("am", 0, seconds=2.0), planted.row("an", 10))
    planted.announce("bm", changed=10)
    Planted(planted.folder, protocol={**PROTOCOL, "seed": 1}, explainers="ax").config()
    progress = looked(planted.folder, 10)
    known, guess = 2 * (2 + 10), 2 * (2 + 10)  # b and c by the metrics; a and x of the other block too
    assert progress.end == End(known + guess, guessed=1) and progress.busy_end == End(known)
    text = shown(progress)
    assert "a guess: nothing is measured of 1 block, expected to\n  last like the others" in text
    assert re.search(r"\(seed=1\) .* ~ 24 s\nall .* ~ 48 s", text)


def test_blocks_of_the_same_title_are_told_apart(planted):
    other = Planted(planted.folder, explainers="a", metrics="m")
    text = next((planted.folder / "config").glob("*.json")).read_text()
    RunFiles(planted.folder).write_text("config", "b-", text.replace(f'"seed": {MODEL["seed"]}', '"seed": 7', 1), "")
    other.write(other.row("am"))
    planted.announce("an")
    assert "left, with nobody at work on them: 6 cells of 1 block" in shown(looked(planted.folder))


def test_where_no_cell_is_known_it_does_not_say_that_nothing_is_left(tmp_path):
    (tmp_path / "night" / "config").mkdir(parents=True)
    text = shown(looked(tmp_path / "night"))
    assert "0 of 0 cells measured\nend: nothing is known yet: no configuration and no process tells" in text


def test_titles_of_twice_as_many_blocks_take_twice_the_work():
    class Protocol(dict):
        asked = 0

        def get(self, *words):
            Protocol.asked += 1
            return super().get(*words)

    def asked(count):
        Protocol.asked = 0
        plans = [BlockPlan(str(n), ("net", "images"), Protocol(samples=8, seed=n), {}, {}) for n in range(count)]
        assert titles_of(plans)["3"] == "net on images (seed=3)"
        return Protocol.asked

    assert asked(200) < 2.5 * asked(100)


def test_cells_are_known_before_there_is_a_configuration(tmp_path):
    planted = Planted(tmp_path / "night")
    planted.announce("am", "an", "bm", stage="load")
    progress = looked(planted.folder)
    assert progress.counts == StateCounts(left=3) and progress.blocks[0].title == "net on images"


def test_what_shards_have_taken_tells_how_long_the_others_take(tmp_path):
    planted = Planted(tmp_path / "night", explainers="a", shards=4)
    shards = [planted.folder / "shards" / f"{number}-of-4" for number in range(4)]
    planted.config(shards[0]).config(shards[2])
    rows = planted.row("am", 0, seconds=3.0), planted.row("an", 5)
    planted.write(*rows, folder=shards[0])
    planted.write(planted.row("am", 2, seconds=1.0), folder=shards[2])
    planted.announce("an", changed=2, folder=shards[2])
    progress = looked(planted.folder, 3)
    (block,) = progress.blocks
    assert "0 of 2 cells measured (37 % with those in shards)" in shown(progress)
    assert [part.seconds for part in block.parts] == [0, 2 + 5, 5 - 1, 2 + 5]
    assert [part.counts.left for part in block.parts] == [0, 2, 1, 2] and block.counts == StateCounts(left=2)
    assert progress.end == End(7 + 4 + 7)
    assert "net on images, shard 2 of 4\n    scoring a by n, for 1 s" in shown(progress)
    assert re.search(r"shard 2 of 4 +2 +1 +0 +0 +1 +4 s\n  of 4 shards 1 done, 2 not begun", shown(progress))


def test_a_cell_that_fails_in_one_shard_is_a_failed_cell(tmp_path):
    planted = Planted(tmp_path / "night", explainers="a", shards=2)
    folder = planted.folder / "shards" / "1-of-2"
    planted.config(folder).write(planted.row("am", 0, status="failed", error="no"), planted.row("an", 1), folder=folder)
    assert looked(planted.folder).counts == StateCounts(failed=1, left=1)


def test_shards_that_are_measured_and_not_joined_are_named(tmp_path):
    planted = Planted(tmp_path / "night", explainers="a", metrics="m", shards=2)
    for number in range(2):
        folder = planted.folder / "shards" / f"{number}-of-2"
        planted.config(folder).write(planted.row("am", 0), folder=folder)
    assert (
        "all shards of net on images are measured and not joined (harness merge)" in looked(planted.folder).end.unknown
    )


def test_failures_are_grouped_by_reason_with_their_numbers(planted, capsys):
    failed = {"status": "failed", "stage": "score"}
    planted.write(
        planted.row("am", 0, **failed, error="no end after 12.5 s"),
        planted.row("an", 1, **failed, error="no end after 13.1 s"),
        planted.row("bm", 2, **failed, error="RuntimeError: not mended yet"),
        *(planted.row(cell, 3) for cell in ("bn", "cm", "cn")),
    )
    status, text = once(planted.folder, capsys)
    assert status == 1 and "6 of 6 cells measured (100 %)\nend: nothing is left; 3 cells failed" in text
    told = "failed: 3 cells\n  a by m and 1 more:\n    no end after 12.5 s\n  b by m:\n    RuntimeError: not mended yet"
    assert told in text


def test_many_reasons_are_cut(tmp_path):
    planted = Planted(tmp_path / "night", explainers="abcdefgh", metrics="m").config()
    rows = [planted.row(f"{label}m", status="failed", error=f"{label} " * 200) for label in planted.explainers]
    planted.write(*rows)
    lines = progress_lines(looked(planted.folder), 80)
    assert "  and 3 more" in lines and max(map(len, lines)) == 80 and len(lines) < 25


def test_each_cell_counts_once_by_its_last_row(planted):
    planted.write(planted.row("am", 5, status="failed", error="x"), number=1)
    planted.write(planted.row("am", 1), planted.row("am", 2), mark=FAR.replace("88", "90"), number=2)
    progress = looked(planted.folder)
    assert progress.counts == StateCounts(done=1, left=5)


def test_cells_of_other_settings_or_another_block_do_not_count(planted):
    other = planted.row("am")
    other["cell"], other["config"] = "x1", {**other["config"], "explainer": {"name": "toys:a", "k": 2.0}}
    seed = Planted(planted.folder, protocol={**PROTOCOL, "seed": 1})
    planted.write(planted.row("am"), other, seed.row("bm"))
    progress = looked(planted.folder)
    assert progress.counts == StateCounts(done=1, left=5) and progress.others == 2
    assert "not counted: 2 cells of earlier commands" in shown(progress)


def test_the_configuration_that_was_used_last_counts(tmp_path):
    first = Planted(tmp_path / "night", explainers="abc").config()
    first.write(*(first.row(cell) for cell in ("am", "an", "bm", "bn", "cm", "cn")))
    Planted(first.folder, explainers="a", metrics="m").config()
    old, new = sorted((first.folder / "config").iterdir(), key=lambda path: path.stat().st_size, reverse=True)
    os.utime(old, (START, START)), os.utime(new, (START + 1, START + 1))
    assert looked(first.folder).counts == StateCounts(done=1) and looked(first.folder).others == 5
    used = old.with_name(f"{old.name}.own")
    used.touch(), os.utime(used, (START + 2, START + 2))  # the command was given once more
    assert looked(first.folder).counts == StateCounts(done=6)


def test_all_jobs_of_the_newest_launch_count_whatever_else_was_configured(tmp_path):
    folder = tmp_path / "night"
    job = lambda explainers: Planted(folder, explainers=explainers, metrics="m")
    job("d").config(written=-90, used=-80)  # of an earlier command, which was killed
    launched(folder, -70)
    job("e").config(written=-69, used=-69)  # of an earlier launch
    first, follower = job("ab").config(written=-90, used=-60), RunFollower(folder)
    follower.look(START)
    launched(folder, 0, 20, 30)
    first.config(written=-90, used=1)  # used in an earlier command too
    job("bc").config(written=2, used=2)  # with a cell that the other job has too
    assert follower.look(START + 10).counts == StateCounts(left=3), "a, b and c"
    first.write(first.row("am"), first.row("bm"))
    job("f").config(written=40, used=40)  # of a command that was given after the jobs had begun, which was killed
    first.config(written=-90, used=50)  # the command was given once more, by hand
    progress = follower.look(START + 60)
    assert progress.counts == StateCounts(done=2, left=1) and "nothing is left" not in shown(progress)


def test_a_launch_as_the_harness_writes_it_is_known_while_all_its_jobs_wait(config, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "harness.launching.launchers.launch_function", lambda launcher: lambda jobs, settings, reports: reports.ready()
    )
    (tmp_path / "night" / "config").mkdir(parents=True)
    (tmp_path / "night" / "config" / "multirun.yaml").touch()  # Hydra writes it before the first job
    config["runtime"] |= {"control": False, "quiet": True}
    launch = Launch([])
    for label, settings in config["explainer"].items():
        job = {**config, "explainer": {label: settings}}
        launch.add(Processes(), job, [f"explainer={label}"], LaunchContext(True, {}))
    assert launch.run() == 1
    assert main(["watch", "latest", "--once", "--runs", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert "0 of 4 cells measured (0 %)\nend: unknown" in text and "a sweep" not in text


def test_of_a_sweep_only_the_jobs_that_have_begun_are_known(planted):
    planted.config(written=2, used=2)
    first = Planted(planted.folder, explainers="x", metrics="m").config(written=1, used=1)
    (planted.folder / "config" / "multirun.yaml").touch()
    planted.write(*(planted.row(cell) for cell in ("am", "an", "bm", "bn", "cm", "cn")), first.row("xm"))
    text = shown(looked(planted.folder))
    assert "end: nothing is left of the jobs that have begun\n" in text
    assert "not counted: 1 cell of earlier commands or earlier jobs of a sweep\na sweep: its jobs that" in text


def test_cells_of_older_code_are_left(planted):
    planted.write(planted.row("am", 0), planted.row("an", 1), planted.row("bm", 2))
    planted.write(planted.row("cm", 9, stick="new"), mark=FAR.replace("88", "90"), number=2)
    assert looked(planted.folder).counts == StateCounts(done=2, left=4), "am and bm are of another metric m"
    planted.write(planted.row("an", 12, subject="2-retrained"), mark=FAR.replace("88", "91"), number=3)
    assert looked(planted.folder).counts == StateCounts(done=2, left=4), "am is of another explainer a"


def test_a_cell_that_is_measured_once_more_is_left_until_it_has_a_new_row(planted):
    rows = [planted.row(cell, 0) for cell in ("am", "an", "bm", "bn", "cm")]
    planted.write(*rows, planted.row("cn", 0, status="failed", error="x"))
    assert looked(planted.folder).counts == StateCounts(done=5, failed=1)
    planted.announce("cn", stage="load", started=10, changed=10)
    assert looked(planted.folder, 11).counts == StateCounts(done=5, left=1)
    planted.write(planted.row("cn", 12), number=2)
    progress = looked(planted.folder, 13)
    assert progress.counts == StateCounts(done=6) and "between two pieces of work, for 1 s" in shown(progress)


def test_rows_under_another_label_do_not_tell_how_long_a_cell_takes(planted):
    planted.write(planted.row("am", 0, seconds=1.0), planted.row("an", 4))
    copies = [planted.row(cell, when, model="renamed") for cell, when in (("am", 0), ("an", 4))]
    planted.write(*copies, planted.row("bm", 90_000, seconds=3.0), mark=FAR.replace("88", "90"), number=2)
    assert looked(planted.folder).blocks[0].seconds == 4 + (1 + 3) / 2 + 4  # bn, cm, cn


def test_damaged_lines_and_files_are_ignored(planted, capsys):
    path = planted.write(planted.row("am"), planted.row("an"), planted.row("bm"))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"bm0"', b'"bx0"') + b"{}\n[1]\n\xff\n" + whole[:50])
    (planted.folder / "config" / "net-images-000000000000.json").write_text("{")
    planted.announce("bn").write_text('[{"cell": "x"}]\n7\n[nothing')
    (planted.folder / "working" / "unnamed.jsonl").touch()
    (planted.folder / "cells" / "000009-folder.jsonl").mkdir()
    progress = looked(planted.folder)
    assert progress.counts == StateCounts(done=2, left=4) and progress.damaged == 6
    assert "ignored: 6 damaged lines and files (harness verify names them)" in once(planted.folder, capsys)[1]


def test_a_further_look_reads_only_what_is_new(planted, monkeypatch):
    read, real = [], run_traces.usable_row
    monkeypatch.setattr(run_traces, "usable_row", lambda line, path: read.append(line) or real(line, path))
    follower = RunFollower(planted.folder)
    path = planted.write(planted.row("am"), planted.row("an"))
    assert follower.look().counts.done == 2 and len(read) == 2
    with path.open("ab") as file:
        line = row_line(planted.row("bm", 3))
        file.write(line[:100])
        file.flush()
        assert follower.look().counts.done == 2 and len(read) == 2, "half a line is no row yet"
        file.write(line[100:])
    assert follower.look().counts.done == 3 and len(read) == 3
    path.rename(path.with_suffix(".old"))  # as harness run does with a damaged file
    planted.write(planted.row("cn"))
    assert follower.look().counts == StateCounts(done=1, left=5) and len(read) == 4


def test_a_dead_process_of_this_machine_is_said_to_be_dead(planted, dead):
    planted.write(planted.row("am", seconds=1.0))
    planted.announce("an", mark=process_mark(dead), changed=4)
    progress = looked(planted.folder, 5)
    assert not progress.alive and progress.end == End(None, "no process is at work")
    assert f"process {dead}: net on images\n    dead; its last work: scoring a by n" in shown(progress)


def test_a_process_of_another_machine_is_told_by_its_last_sign_of_life(planted):
    planted.write(planted.row("am", 30, seconds=1.0))
    planted.announce("am", "an", stage="explain", changed=20)
    progress = looked(planted.folder, 60)
    assert "node7, process 88: net on images\n" in shown(progress)
    assert "explaining with a, for 40 s; last sign of life 30 s ago" in shown(progress)
    assert len(progress.alive) == 1 and progress.end.seconds is not None
    progress = looked(planted.folder, 8000)
    assert not progress.alive and progress.end == End(None, "no process is at work")
    assert "last sign of life 2 h 13 min ago, so it does not count" in shown(progress)


def test_a_process_that_announces_nothing_is_told_by_its_rows(planted):
    path = planted.write(planted.row("am", 0, seconds=2.0), mark=process_mark())
    progress = looked(planted.folder, 30)
    assert len(progress.alive) == 1 and progress.end == End(10.0)
    assert f"process {os.getpid()}: net on images\n    writing rows, without telling" in shown(progress)
    assert not looked(planted.folder, 9000).alive
    with path.open("ab") as file:
        rows = [planted.row(cell, 1) for cell in ("an", "bm", "bn", "cm", "cn")]
        file.write(b"".join(map(row_line, rows)))
    assert not looked(planted.folder, 30).processes, "nothing is left"


def test_a_process_that_writes_into_two_folders_counts_once(tmp_path):
    planted = Planted(tmp_path / "night", explainers="a", shards=3)
    shard, mark = planted.folder / "shards" / "1-of-3", process_mark()
    planted.config(shard).write(planted.row("am", 5, seconds=1.0), folder=shard, mark=mark)
    planted.write(planted.row("an", 3), mark=mark)
    (process,) = looked(planted.folder, 6).processes
    assert process.alive and process.part == "shard 1 of 3"
    planted.announce("an", folder=shard, changed=6)  # by the supervisor of that process
    assert [each.machine for each in looked(planted.folder, 6).processes] == ["node7"]


def test_text_from_files_cannot_command_the_terminal(tmp_path):
    planted = Planted(tmp_path / "night", explainers=["\x1b[2Jred", "[bold]b[/bold]"], metrics="m").config()
    error = "\x1b]0;title\x07 [link=x]y[/link] \r\n two \u202e lines"
    planted.write(planted.row(("\x1b[2Jred", "m"), status="failed", error=error, model="\x1b[31m"))
    planted.announce(("[bold]b[/bold]", "m"), mark="\x1b[0m.9-7-0123abcd")
    text = shown(looked(planted.folder))
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    assert "[2Jred by m:\n    ]0;title [link=x]y[/link] two  lines" in text
    assert "scoring [bold]b[/bold] by m" in text


def test_folders_with_other_names_are_no_parts(planted):
    for name in ("shards/1-of-2\x1b[2J\x07", "shards/\x1b]0;x\x07-of-3", "rounds/1\x1b[2J"):
        planted.config(planted.folder / name)
        planted.announce("am", folder=planted.folder / name)
    progress = looked(planted.folder)
    assert not progress.processes and progress.counts == StateCounts(left=6) and "\x1b" not in shown(progress)


def test_settings_that_are_nested_without_end_are_no_cell(planted):
    deep = row = planted.row("am")
    row["config"]["explainer"] = deep = {"name": "tensor"}
    for _ in range(800):
        deep["k"] = deep = {}
    planted.write(row)
    planted.announce("bn").write_text(json.dumps([row]) + "\n")
    assert looked(planted.folder).counts == StateCounts(left=6)


def test_pipes_devices_and_files_beyond_all_bounds_are_not_read(planted):
    path = planted.write(planted.row("am"))
    for folder, ending in (("config", "json"), ("cells", "jsonl"), ("working", "jsonl")):
        (planted.folder / folder).mkdir(exist_ok=True)
        os.mkfifo(planted.folder / folder / f"000001-pipe.{ending}")
        (planted.folder / folder / f"000002-zero.{ending}").symlink_to("/dev/zero")
    with (planted.folder / "config" / "net-large.json").open("wb") as file:
        file.truncate(1 << 40)
    command = [sys.executable, "-m", "harness.cli", "watch", "latest", "--once", "--runs", path.parents[2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=HERE.parents[1])
    assert "1 of 6 cells measured" in done.stdout and "ignored: 5 damaged lines and files" in done.stdout


def test_links_to_rows_are_not_followed(planted):
    """A run may come from somebody else: what a link in it leads to is none of its rows."""
    planted.config()
    path = planted.write(planted.row("am"))
    elsewhere = path.rename(planted.folder / "elsewhere.jsonl")
    path.symlink_to(elsewhere)
    assert looked(planted.folder).counts == StateCounts(left=6) and looked(planted.folder).damaged == 1
    path.unlink()
    elsewhere.rename(path)
    assert looked(planted.folder).counts.done == 1
    path.parent.rename(planted.folder / "others")
    path.parent.symlink_to(planted.folder / "others")
    assert looked(planted.folder).counts == StateCounts(left=6)


def test_values_of_a_wrong_kind_in_sealed_rows_do_no_harm(planted):
    for number, value in enumerate([1, None, {"x": [2]}, "text", 10**400, -1, 1e300]):
        names = ("seconds", "finished", "error", "stick", "subject", "explainer")
        planted.write({**planted.row("am"), **dict.fromkeys(names, value)}, number=number + 1)
        planted.write(planted.row("cm", number, seconds=value), number=number + 1)
        shown(looked(planted.folder))
    planted.write({**planted.row("am"), "status": [1]}, {**planted.row("an"), "config": "{"}, number=9)
    planted.announce("bn").write_text(json.dumps([{**planted.row("bn"), "stage": 4, "metric": [1]}]) + "\n")
    assert looked(planted.folder).counts.done == 1 and looked(planted.folder).blocks[0].seconds < 10
    shown(looked(planted.folder))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_asked_for_and_numbers_stand_below_their_heads(tmp_path, width):
    planted = Planted(tmp_path / ("night" * 20), explainers="abc").config()
    text = (planted.folder / "config").glob("*.json").__next__().read_text()
    RunFiles(planted.folder).write_text("config", "b-", text.replace('"images"', '"images of ' + "x" * 150 + '"'), "")
    planted.write(planted.row("am", status="failed", error="y" * 300))
    planted.announce("an")
    lines = progress_lines(looked(planted.folder), width)
    assert max(map(len, lines)) <= width
    head = next(line for line in lines if line.startswith("block"))
    row = next(line for line in lines if re.search(r"\b6 +0 +0 +1 +5\b", line))
    assert row.index("6") == head.index("cells") + 4


def test_finished_blocks_become_one_line_where_there_is_no_room(planted):
    for seed in range(1, 30):
        block = Planted(planted.folder, explainers="a", metrics="m", protocol={**PROTOCOL, "seed": seed}).config()
        block.write(block.row("am"), number=seed)
    progress = looked(planted.folder)
    assert len(progress_lines(progress, 80)) > 30
    lines = progress_lines(progress, 80, height=20)
    assert len(lines) < 20 and any(re.match(r"29 finished blocks +29 +29 ", line) for line in lines)


def test_latest_is_the_run_with_the_last_row_or_process(planted, tmp_path, capsys, monkeypatch):
    planted.write(planted.row("am", 5))
    later = Planted(tmp_path / "later")
    later.announce("am", started=9)
    sharded = Planted(tmp_path / "cut", shards=2)
    sharded.write(sharded.row("am", 7), folder=sharded.folder / "shards" / "0-of-2")
    sharded.config(sharded.folder / "shards" / "0-of-2")
    monkeypatch.chdir(tmp_path)

    def assert_shows(name, folder):
        assert main(["watch", name, "--once", "--runs", "."]) == 1
        assert capsys.readouterr().out.splitlines()[0].endswith(f"  {folder}")

    for name, folder in (("latest", "later"), ("previous", "cut"), ("night", "night")):
        assert_shows(name, folder)
    waiting = Planted(tmp_path / "waiting").config(written=11)
    launched(waiting.folder, 11)
    assert_shows("latest", "waiting")
    assert_shows("previous", "later")
    Planted(tmp_path / "second").config(written=12)  # of the same launch, whose folder is in the first of its runs
    assert_shows("latest", "second")


def test_a_mistake_is_told_in_one_line(planted, tmp_path, capsys):
    (tmp_path / "empty" / "config").mkdir(parents=True)
    for words, told in (
        (["nightly"], "no run 'nightly'"),
        (["empty"], "holds no configuration and no cells yet"),
        (["latest", "--runs", str(tmp_path / "none")], "no latest run"),
        (["night", "--every", "0"], "expected seconds from 0.1 to 86400"),
        (["night", "--every", "often"], "expected seconds from 0.1 to 86400"),
        (["night", "later"], "one argument too many"),
    ):
        assert main(["watch", *words, "--once", *([] if "--runs" in words else ["--runs", str(tmp_path)])]) == 2
        error = capsys.readouterr().err
        assert told in error and error.count("\n") == 1


def terminal(folder, ending=None):
    """What ``harness watch`` shows in a terminal of 80 columns, and its exit status; ``ending`` once it shows."""
    ours, theirs = pty.openpty()
    settings = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    command = [sys.executable, "-m", "harness.cli", "watch", str(folder), "--every", "0.1"]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=settings, cwd=HERE.parents[1])
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        text += part
        if not part:
            break
        if ending is not None and text.count(b"measured") > 2:
            process.send_signal(ending)
            ending = None
    os.close(ours)
    return text.decode(), process.wait(60)


def test_in_a_terminal_it_is_shown_in_place_until_everything_is_done(planted):
    planted.write(*(planted.row(cell) for cell in ("am", "an", "bm", "bn", "cm", "cn")))
    text, status = terminal(planted.folder)
    assert status == 0 and "6 of 6 cells measured (100 %)" in text and "end: nothing is left" in text


def test_ctrl_c_ends_it_with_the_status_of_what_was_shown_last(planted):
    planted.write(planted.row("am"))
    text, status = terminal(planted.folder, signal.SIGINT)
    assert status == 1 and "Traceback" not in text and "interrupted" not in text
    assert text.count("\x1b[1A") > 5, "the lines are drawn over"


def test_a_look_needs_neither_torch_nor_pandas_nor_hydra(planted):
    planted.write(planted.row("am"))
    code = (
        "import sys; from harness.cli.main import main; main(['watch', sys.argv[1], '--once']); "
        "print([name for name in ('hydra', 'torch', 'pandas', 'numpy', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, planted.folder], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
