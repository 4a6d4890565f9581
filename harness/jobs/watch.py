"""Follows a worker: prints what it says, keeps what its items print, and finds out why it ended."""

import os
import re
import selectors
import signal
import sys
import sysconfig
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from harness.errors import NotMeasured, UserError, printable
from harness.interrupts import asked_to_end, name_of_signal
from harness.jobs.channel import LOST_STATUS, Hearing
from harness.jobs.item_output import ItemOutput, MarkedOutput, read_waiting
from harness.jobs.limits import Limits
from harness.jobs.screen import Screen
from harness.jobs.worker_process import WorkerProcess
from harness.results.announcements import announced_cells, announced_rows, remove_announcement
from harness.results.store import Store

POLL_SECONDS = 0.2
MOST_LETTERS = 500  # of an error in a row
MOST_READS = 1000  # of what is left
FRAME = re.compile(r'File "([^"]+)", line (\d+) in (\S+)')
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
SIGNALS_IN_WORDS = {
    signal.SIGKILL: " (if nobody killed it, the system was out of memory)",
    signal.SIGSEGV: " (segmentation fault in compiled code)",
}


class Watch:
    """Follows the workers of one job.

    repeats   whether a worker that goes on takes the steps of the one before again, and tells of them again
    status    the job's exit status, once it is done
    measured  whether the job had anything to measure
    reason    why the last worker ended before the job was done
    settled   folder of a run -> cells that need nothing more, as the workers tell: the status of the row that this
              command has written, None for a cell that needs no row. Other processes may write rows there too
    whole     folder of the run of which ``folder`` is a shard or round; "" if it is none
    fatal     folder of a run that is measured in parts -> cells that have ended a worker in one of them, in this job or
              an earlier one of the command: the cell of the run has failed, whatever becomes of it in other parts
    """

    def __init__(
        self, limits: Limits, quiet: bool = False, repeats: bool = False, fatal: dict[str, list[str]] | None = None
    ) -> None:
        self.limits, self.quiet, self.screen = limits, quiet, Screen()
        self.repeats, self.said, self.said_before = repeats, Counter[str](), Counter[str]()
        self.status: int | None = None
        self.measured, self.reason, self.renewed = False, "", False
        self.strays = 0
        self.label = ""
        self.announcement: Path | None = None
        self.whole = ""
        self.fatal: dict[str, list[str]] = defaultdict(list) if fatal is None else fatal
        self.announced: dict[str, set[str]] = defaultdict(set)
        self.settled: dict[str, dict[str, str | None]] = defaultdict(dict)
        self.settled_last: set[str] = set()
        self.output: ItemOutput | None = None
        self.outputs: dict[int, ItemOutput | None] = {}
        self.files: set[Path] = set()

    def follow(self, worker: WorkerProcess) -> None:
        """Follow a worker until the job is done or the worker has ended; then its cells have their rows."""
        self.renewed, self.false_end, self.outputs = False, "", {}
        self._leave_announcement()  # of the worker before
        self.announced.clear()
        self.said_before = self.said.copy() if self.repeats else Counter()
        self.hearing = Hearing(worker.token)
        self.printed = MarkedOutput(self._take_output, self._next_output)
        with selectors.DefaultSelector() as selector:
            for descriptor in (worker.messages, worker.output):
                selector.register(descriptor, selectors.EVENT_READ)
            while not self._finished:
                selector.select(POLL_SECONDS)
                for descriptor in self._read(worker):
                    if descriptor in selector.get_map():  # a descriptor at its end would be ready for ever
                        selector.unregister(descriptor)
                if asked_to_end() is not None:
                    raise KeyboardInterrupt
                reason = self._end_of(worker) if not self._finished else None
                if reason is not None:
                    self._read_rest(worker)
                    if not self._finished:
                        self._died(*reason)
                    break
        self.printed.end()
        self._end_output()
        self.strays += self.hearing.strays

    @property
    def _finished(self) -> bool:
        return self.status is not None or self.renewed

    def _end_of(self, worker: WorkerProcess) -> tuple[str, str] | None:
        """Why the worker has ended, or is ended now, and its stack; None if it goes on."""
        code = worker.process.poll()
        if code is not None:
            return _end_in_words(code), worker.stack(ask=False)
        passed = self.false_end or self.limits.exceeded(worker.memory_gib)
        if not passed:
            return None
        stack = worker.stack(ask=True)
        worker.end(patience=0)
        return passed, stack

    def failed_cells(self) -> dict[str, list[str]]:
        """By folder, the cells that were tried without success: they are left for the next command."""
        of_folders = {
            folder: [cell for cell, status in cells.items() if status == "failed"]
            for folder, cells in self.settled.items()
        }
        return {**of_folders, **self.fatal}

    def amount_done(self) -> int:
        """How many cells have got a row by this command; failed ones count twice, since they are not tried again."""
        statuses = [status for cells in self.settled.values() for status in cells.values() if status is not None]
        return len(statuses) + statuses.count("failed")

    @property
    def folder(self) -> str:
        """The folder of the run, shard or round in which the last worker was at work; "" before there is one."""
        return "" if self.announcement is None else str(self.announcement.parent.parent)

    def close(self) -> None:
        """The job is done or has been ended."""
        self._end_output()
        self.screen.show(None)
        if self.announcement is not None:
            remove_announcement(self.announcement)
        if self.strays and not self.quiet:
            self.screen.say(f"{self.strays} lines were ignored: an item wrote them to a file that is not its own")
        if self.files and not self.quiet:
            for folder, count in Counter(path.parent for path in sorted(self.files)).items():
                self.screen.say(f"what items printed is in {os.path.relpath(folder)} ({count} files)")

    def _read(self, worker: WorkerProcess) -> list[int]:
        """Read what has come; returns the descriptors that are at their end."""
        # In this order: whatever mark is in the output has been told of in the messages.
        printed, told = read_waiting(worker.output), read_waiting(worker.messages)
        for message in self.hearing.messages_in(told or b""):
            self._heed(message)
        self.printed.feed(printed or b"")
        return [number for number, data in ((worker.output, printed), (worker.messages, told)) if data is None]

    def _read_rest(self, worker: WorkerProcess) -> None:
        """Read what a worker that has ended has left; a child of it may still print."""
        for _ in range(MOST_READS):
            if len(self._read(worker)) == 2:
                break
        self.printed.end()

    def _take_output(self, data: bytes) -> None:
        if self.output is not None:
            self.output.take(data)
        elif data:  # no item is at work: it is meant for the user
            sys.stderr.write(data.decode("utf-8", "replace"))
            sys.stderr.flush()

    def _next_output(self, mark: int) -> None:
        self._end_output()
        self.output = self.outputs.pop(mark)

    def _heed(self, message: dict[str, Any]) -> None:
        self.limits.alive()
        match message:
            case {"at": stage}:
                self._begins(stage, message)
            case {"say": text}:
                self._say(text)
            case {"status": text}:
                self.screen.show(text)
            case {"print": text}:
                sys.stdout.write(text)
                sys.stdout.flush()
            case {"trace": text}:
                sys.stderr.write(text)
            case {"refused": text, "mistake": mistake}:
                raise (UserError if mistake else NotMeasured)(text)
            case {"renew": reason}:
                self.renewed, self.reason = True, reason
                if not self.quiet:
                    self.screen.say(f"{reason}: the rest is measured in a new process")
            case {"settled": cells, "folder": folder}:
                self._settle(folder, cells)
            case {"done": status}:
                left = self._cells_left() if status == 0 else 0
                if left:
                    self.false_end = f"the process told that the run was done, with {left} of its cells left out"
                else:
                    self.status, self.measured = status, message["measured"]

    def _say(self, text: str) -> None:
        """Print a line of progress, unless an earlier worker of this job has."""
        if self.said_before[text] > 0:
            self.said_before[text] -= 1
            return
        self.said[text] += 1
        self.screen.say(text)

    def _cells_left(self) -> int:
        """How many cells were announced by this worker and have neither a row of this command nor older scores."""
        self._note_announced()
        left = {folder: cells - self.settled[folder].keys() for folder, cells in self.announced.items()}
        return sum(len(cells - _scored_in(folder)) for folder, cells in left.items() if cells)

    def _settle(self, folder: str, cells: dict[str, str | None]) -> None:
        self.settled[folder] |= cells
        self.settled_last |= cells.keys()

    def _note_announced(self) -> None:
        """Note which cells the worker has announced so far in the present folder."""
        if self.announcement is not None:
            self.announced[self.folder] |= announced_cells(self.announcement)

    def _leave_announcement(self) -> None:
        """The worker is at work in another folder, or there is another worker: the file is no longer needed."""
        if self.announcement is not None:
            self._note_announced()
            remove_announcement(self.announcement)

    def _begins(self, stage: str, message: dict[str, Any]) -> None:
        self.limits.begins(stage)
        if self.announcement != Path(message["file"]):
            self._leave_announcement()
        self.label, self.announcement, self.whole = message["label"], Path(message["file"]), message["whole"]
        self.settled_last.clear()
        output = ItemOutput(f"{stage} {self.label}", Path(message["output"])) if stage else None
        self.outputs[message["mark"]] = output
        self.printed.expect(message["mark"])

    def _end_output(self) -> None:
        if self.output is not None and self.output.save():
            self.files.add(self.output.path)
        self.output = None

    def _died(self, reason: str, stack: str) -> None:
        """Write the rows of the cells that were being measured when the worker ended."""
        stage, printed = self.limits.stage, self.output.text() if self.output else ""
        seconds = self.limits.seconds
        self.reason = printable(f"{reason} after {seconds:.1f} s{_place_in(stack)}")[:MOST_LETTERS]
        self.limits.begins("")
        rows = self._rows_that_hold(stage) if self.announcement and stage else []
        whole = self.whole if stage != "load" else ""
        for folder in filter(None, (self.folder, whole)):  # the run last: its row is not older than that of its part
            store = Store(folder)
            for row in rows:
                store.append({**row, "error": self.reason, "seconds": round(seconds / len(rows), 4)})
                store.write_error(row["cell"], f"{stage} {self.label}: {self.reason}\n\n{stack}\n{printed}")
        self._settle(self.folder, {row["cell"]: "failed" for row in rows})
        if whole:
            self.fatal[whole] += [row["cell"] for row in rows]
        if self.announcement is not None:
            remove_announcement(self.announcement)
        if stage == "load":
            raise NotMeasured(f"{self.label} could not be loaded: {self.reason}")
        if rows and not self.quiet:
            self.screen.say(f"{'':>9}{self.label} failed: {self.reason}")
            self.screen.say(f"{'':>9}the rest is measured in a new process")

    def _rows_that_hold(self, stage: str) -> list[dict[str, Any]]:
        """The announced rows of the cells that have no row yet. While a model is loaded, older scores stay, although
        they are stale, as they do where an error ends the loading."""
        kept = self.settled_last | (_scored_in(self.folder) if stage == "load" else set())
        return [row for row in announced_rows(self.announcement) if row["cell"] not in kept]


def _scored_in(folder: str) -> set[str]:
    """The cells of a run, shard or round that have scores."""
    return {cell for cell, row in Store(folder).latest().items() if row["status"] == "ok"}


def _place_in(stack: str) -> str:
    """The innermost function of a stack that belongs to no library, in words; "" if the stack tells none."""
    frames = FRAME.findall(stack.partition("Current thread")[2] or stack)
    own = [frame for frame in frames if not frame[0].startswith(LIBRARIES)]
    return "".join(f"; last in {file}:{line} ({name})" for file, line, name in (own or frames)[:1])


def _end_in_words(code: int) -> str:
    """Why a worker ended, from its exit code as ``subprocess`` gives it."""
    if code == LOST_STATUS:
        return "the process was ended because its file descriptors had been closed"
    if code >= 0:
        return f"the process ended itself with exit status {code}"
    name = name_of_signal(-code) or f"signal {-code}"
    return f"the process was ended by {name}{SIGNALS_IN_WORDS.get(-code, '')}"
