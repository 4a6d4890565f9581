"""What a supervisor takes for the work of its workers: what they tell, whatever else is written into their folders."""

import mmap
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.cli.main import main
from harness.errors import NotMeasured
from harness.jobs.channel import Channel, Watched
from harness.jobs.limits import Limits
from harness.jobs.plan import Plan
from harness.jobs.runner import run_plan
from harness.jobs.supervisor import Supervisor
from harness.jobs.watch import Watch
from harness.jobs.worker_process import _held_bytes
from harness.places import process_mark
from harness.results import announcements, store
from harness.results.announcements import Announcements, announced_rows, remove_announcement, taken_by_force
from harness.results.part_folders import round_folders, shard_folders
from harness.results.store import Store

MIB = 2**20


class Worker:
    """Stands in for a worker: its messages are those of ``work``, which gets a ``Watched``; then it has ``ended``."""

    def __init__(self, work, ended=True):
        self.token, self.ended = "token", ended
        self.process = SimpleNamespace(poll=lambda: 4 if self.ended else None)
        self.messages, tells = os.pipe()
        self.output, prints = os.pipe()
        watched = Watched(Channel(tells, self.token), os.getpid())
        work(watched)
        for descriptor in (tells, prints):
            os.close(descriptor)
        for descriptor in (self.messages, self.output):
            os.set_blocking(descriptor, False)

    def stack(self, ask):
        return ""

    def memory_gib(self):
        return 0.0

    def end(self, patience):
        self.ended = True


@pytest.fixture
def watch():
    return Watch(Limits(), quiet=True)


@pytest.fixture
def follow(watch):
    """Let the supervisor follow a worker that does this; the worker."""

    def done(work, **settings):
        worker = Worker(work, **settings)
        try:
            watch.follow(worker)
        finally:
            os.close(worker.messages), os.close(worker.output)
        return worker

    return done


def row(cell, **columns):
    names = dict.fromkeys(("model", "dataset", "explainer", "metric"), "x")
    return {"cell": cell, "status": "failed", **names, **columns}


def begins(watched, folder, stage, *cells):
    watched.begins(folder, stage, "x", [row(cell, stage=stage) for cell in cells], "output/x.txt")


def measured(watched, folder, *cells, status="ok", stage="score"):
    """A worker announces each cell and writes its row."""
    for cell in cells:
        begins(watched, folder, stage, cell)
        Store(folder).append(row(cell, status=status))
        watched.settles(folder, {cell: status})
        watched.rests()


def statuses(folder):
    return {cell: found["status"] for cell, found in Store(folder).latest().items()}


def test_rows_of_another_process_are_neither_tried_nor_done(watch, follow, tmp_path):
    def work(watched):
        begins(watched, tmp_path, "explain", "mine")
        Store(tmp_path).append(row("theirs", finished="2999-01-01T00:00:00.000000+00:00"))

    follow(work)
    assert watch.failed_cells() == {str(tmp_path): ["mine"]} and watch.amount_done() == 2
    follow(lambda watched: Store(tmp_path).append(row("another")))
    assert watch.amount_done() == 2, "the second worker has done nothing"


def test_rows_count_whatever_the_clock_says(watch, follow, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_utc_now", lambda: "2001-01-01T00:00:00.000000+00:00")

    def work(watched):
        measured(watched, tmp_path, "a", status="failed")
        measured(watched, tmp_path, "b", status="not_applicable")
        watched.channel.send(done=0, measured=True)

    follow(work)
    assert watch.status == 0 and watch.failed_cells() == {str(tmp_path): ["a"]} and watch.amount_done() == 3


def test_work_in_several_folders_is_summed_and_each_folder_keeps_its_own(watch, follow, tmp_path):
    first, second = tmp_path / "rounds" / "0", tmp_path / "rounds" / "1"

    def work(watched):
        begins(watched, first, "load", "a", "b")
        measured(watched, first, "a", "b")
        begins(watched, second, "load", "a", "b")
        measured(watched, second, "a")
        begins(watched, second, "explain", "b")

    follow(work)
    assert statuses(first) == {"a": "ok", "b": "ok"} and statuses(second) == {"a": "ok", "b": "failed"}
    assert watch.amount_done() == 5 and watch.folder == str(second)
    assert watch.failed_cells() == {str(first): [], str(second): ["b"]}
    again = Watched(None, 0, watch.failed_cells(), watch.folder)
    assert again.tried_in(second) == {"b"} and not again.tried_in(first)
    assert again.resumes(second) and not again.resumes(first)
    assert not list(tmp_path.rglob("working"))


@pytest.mark.parametrize("lacking", [0, 1])
def test_a_run_is_done_when_the_cells_of_all_folders_are(lacking, watch, follow, tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]

    def work(watched):
        for number, folder in enumerate(folders):
            begins(watched, folder, "load", "a", "b", "older", "needless")
            Store(folder).append(row("older", status="ok"))
            watched.settles(folder, {"needless": None})
            measured(watched, folder, "a", *(["b"] if number != lacking else []))
        watched.channel.send(done=0, measured=True)

    worker = follow(work, ended=False)
    assert watch.status is None and worker.ended
    assert watch.reason.startswith("the process told that the run was done, with 1 of its cells left out")
    assert {len(statuses(folder)) for folder in folders} == {2, 3}


def test_cells_that_were_measured_already_count_anew_if_they_fail_later(watch, follow, tmp_path):
    """An estimate measures the same cells on more samples."""

    def work(watched, deadly):
        measured(watched, tmp_path, "a", "b")
        begins(watched, tmp_path, "explain", deadly)

    amounts = []
    for deadly in "ab":
        follow(lambda watched, deadly=deadly: work(watched, deadly))
        amounts.append(watch.amount_done())
        assert statuses(tmp_path)[deadly] == "failed"
    assert amounts[1] >= amounts[0] > 2


def test_a_cell_that_has_its_row_is_not_failed_with_the_others_of_its_announcement(watch, follow, tmp_path):
    def work(watched):
        begins(watched, tmp_path, "explain", "a", "b")
        Store(tmp_path).append(row("a", status="not_applicable"))
        watched.settles(tmp_path, {"a": "not_applicable"})

    follow(work)
    assert statuses(tmp_path) == {"a": "not_applicable", "b": "failed"}


@pytest.mark.parametrize("stage", ["load", "explain", "score"])
def test_older_scores_stay_where_a_process_ends_while_it_loads(stage, watch, follow, tmp_path):
    Store(tmp_path).append(row("older", status="ok"))
    work = lambda watched: begins(watched, tmp_path, stage, "older", "new")
    if stage == "load":
        with pytest.raises(NotMeasured, match="could not be loaded"):
            follow(work)
    else:
        follow(work)
    assert statuses(tmp_path) == {"older": "ok" if stage == "load" else "failed", "new": "failed"}


def test_cells_that_an_earlier_process_has_failed_keep_their_reason_where_the_next_one_cannot_load(config, tmp_path):
    plan, channel = Plan.of({**config, "model": "hostile:lost_net"}).with_control(), Channel(os.dup(2), "")
    first, *others = [cell.id for cell in plan.cells]
    Store(plan.directory).append(row(first, stage="explain"))
    channel.send = lambda **message: None
    with pytest.raises(NotMeasured, match="could not be loaded: OSError: no such host"):
        run_plan(plan, watched=Watched(channel, os.getpid(), {str(plan.directory): [first]}))
    stages = {cell: found["stage"] for cell, found in Store(plan.directory).latest().items()}
    assert stages == {first: "explain", **dict.fromkeys(others, "load")}


def test_what_a_worker_announces_until_it_has_ended_is_removed(config, tmp_path, monkeypatch):
    """The user ends a run while its worker begins with the next cell."""
    announced = []

    def begins_once_more(watched):
        begins(watched, tmp_path / "night", "explain", "a")
        announced.append(watched)

    worker, supervisor = Worker(begins_once_more, ended=False), Supervisor()
    worker.give, worker.close, worker.process.pid = lambda job: None, lambda: None, os.getpid()
    worker.end = lambda: announced[0]._announcements.announce([row("b")])
    monkeypatch.setattr(supervisor, "start", lambda: worker)
    monkeypatch.setattr("harness.jobs.watch.asked_to_end", lambda: 2 if announced else None)
    supervisor.worker = worker
    with pytest.raises(KeyboardInterrupt):
        supervisor.measure(config, in_sweep=False)
    assert len(announced) == 1 and not list(tmp_path.rglob("working"))


def test_files_that_items_have_printed_are_told_by_folder(tmp_path, monkeypatch):
    watch, said = Watch(Limits()), []
    monkeypatch.setattr(watch.screen, "say", said.append)
    monkeypatch.chdir(tmp_path)
    watch.files = {tmp_path / "rounds" / str(number // 2) / "output" / f"{number}.txt" for number in range(3)}
    watch.close()
    assert said == [f"what items printed is in rounds/{n}/output ({2 - n} files)" for n in range(2)]


@pytest.mark.parametrize("removals", [1, 3])
def test_an_announcement_is_written_although_another_process_removes_the_empty_folder(removals, tmp_path, monkeypatch):
    mine, left = Announcements(tmp_path / "run", os.getpid()), [None] * removals

    def after_its_removal(path, *arguments, **settings):
        if left:
            left.pop()
            remove_announcement(path.with_name("theirs.jsonl"))
        return open(path, *arguments, **settings)

    monkeypatch.setattr(announcements, "open", after_its_removal, raising=False)
    mine.announce([row("a")])
    assert announced_rows(mine.path) == [row("a")] and not left


@pytest.mark.parametrize("stage", ["load", "explain", "score"])
def test_no_item_was_at_work_when_a_run_was_killed_while_it_loaded(stage, tmp_path):
    process = subprocess.Popen(["true"])
    process.wait()
    dead = Announcements(tmp_path / "run", process.pid)
    assert process_mark(process.pid).rpartition("-")[0] in dead.path.name
    dead.announce([row("a", stage=stage), row("b", stage=stage)])
    assert [each["cell"] for each in taken_by_force(tmp_path / "run")] == [*("ab" if stage != "load" else "")]
    assert not dead.path.exists()


@pytest.mark.parametrize("again", ["here", "processes"])
@pytest.mark.parametrize("cut", [[], ["runtime.shards=2"], ["protocol.precision=1e-9"]], ids=["", "shards", "rounds"])
def test_what_a_run_that_was_killed_after_its_last_cell_has_left_is_cleared_away(cut, again, tmp_path):
    words = ["run", "--quiet", "model=toys:net", "dataset=toys:images", "explainer=saliency", "metric=sparseness", *cut]
    words += [f"runtime.runs={tmp_path}", "runtime.supervise=false", "runtime.sheet=0", "protocol.explain_batch=2"]
    assert main(words) == 0
    dead = subprocess.Popen(["true"])
    dead.wait()
    run = tmp_path / "main"
    cells = sorted(Store(run).latest())
    folders = [run, *shard_folders(run), *round_folders(run)]
    assert len(folders) == (1 if not cut else 3 if "shards" in cut[0] else 2)
    for folder in folders:
        for announced in ([row("a"), row(cells[0])], [row(cells[-1])]), ([row(cells[0]), row("elsewhere")],):
            left = Announcements(folder, dead.pid)
            for each in announced:
                left.announce(each)
    living = Announcements(run, os.getpid())
    living.announce([row(cells[0])])
    assert main([*words, f"launcher={again}"]) == 0
    for folder in folders:
        found = [[each["cell"] for each in announced_rows(path)] for path in (folder / "working").glob("*.jsonl")]
        expected = [[cells[0], "elsewhere"], *([[cells[0]]] if folder == run else [])]
        assert sorted(found) == sorted(expected), "what another command will measure, or somebody measures, stays"


def test_memory_of_its_own_counts_and_pages_of_a_file_do_not():
    """Large attributions lie in files that are mapped into memory."""
    largest = max((Path(torch.__file__).parent / "lib").iterdir(), key=lambda path: path.stat().st_size)
    before = _held_bytes(os.getpid())
    with open(largest, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        pages = min(len(mapped), 64 * MIB)
        assert np.frombuffer(mapped[:pages:4096], dtype=np.uint8).any()  # every page is read
        assert _held_bytes(os.getpid()) - before < pages / 4
    # not an array of numpy: that may be given memory which the process held already
    with mmap.mmap(-1, 64 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as own:
        own.write(b"1" * len(own))
        assert _held_bytes(os.getpid()) - before > len(own) * 3 / 4
