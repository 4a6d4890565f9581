"""What a worker tells its supervisor: one line for each message, with the worker's token and then JSON.

The token tells a message from what an item writes to a descriptor that is not its own.

at       the work that begins: stage (empty: no item is at work), label, the files of announcement and output, and of
         a shard or round the folder of the whole run
say      a line of progress           status   what is being done, for a terminal; null for nothing
print    a part of the result         trace    an error of the harness itself
alive    a sign of life               done     the job's exit status, and whether anything was measured
refused  it cannot be measured      renew    the job is to go on in a new process, for this reason
settled  cells of a run, shard or round that need nothing more: the status of the row that was written; null for none
"""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.jobs.item_output import output_mark
from harness.results.announcements import Announcements

LOST_STATUS = 71  # of a worker whose descriptors an item has closed
EVERY_SECONDS = 1.0  # between two signs of life
LONGEST_LINE = 2**24  # bytes; the printed table of a run has less


class Channel:
    """Writes messages to a descriptor, as long as it leads where it led at the start.

    A process that is not the worker itself, but was forked by an item, ends at its first message, and so does a worker
    that can no longer be heard.
    """

    def __init__(self, descriptor: int, token: str) -> None:
        self.descriptor, self.token, self.process, self.last = descriptor, token, os.getpid(), 0.0
        self.file = self._present_file()

    def send(self, **message: Any) -> None:
        """Send a message; OSError never comes out."""
        if os.getpid() != self.process or self._present_file() != self.file:
            os._exit(LOST_STATUS)
        data = f"{self.token}{json.dumps(message)}\n".encode()
        try:
            while data:
                data = data[os.write(self.descriptor, data) :]
        except OSError:  # the supervisor has ended
            os._exit(LOST_STATUS)

    def alive(self) -> None:
        """Send a sign of life, at most one a second."""
        now = time.monotonic()
        if now - self.last >= EVERY_SECONDS:
            self.last = now
            self.send(alive=True)

    def _present_file(self) -> tuple[int, int] | None:
        try:
            status = os.fstat(self.descriptor)
        except OSError:
            return None
        return status.st_dev, status.st_ino


class Hearing:
    """Finds the messages of the worker with this token in what comes; ``strays`` counts the lines that hold others."""

    def __init__(self, token: str) -> None:
        self.token, self.part, self.strays = token.encode(), b"", 0

    def messages_in(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that end in some more data."""
        *lines, self.part = (self.part + data).split(b"\n")
        if len(self.part) > LONGEST_LINE:
            lines, self.part = [*lines, self.part], b""
        return [message for line in lines if (message := self._message(line)) is not None]

    def _message(self, line: bytes) -> dict[str, Any] | None:
        before, _, text = line.partition(self.token)  # half a line of an item's may stand before it
        message = None
        with suppress(ValueError, RecursionError):
            message = json.loads(text)
        self.strays += bool(before) or message is None
        return message


class FarConsole:
    """Stands in for a console of ``rich``: the supervisor prints."""

    def __init__(self, channel: Channel, is_terminal: bool) -> None:
        self.channel, self.is_terminal = channel, is_terminal

    def print(self, text: str, markup: bool = False) -> None:
        """Print a line of progress."""
        self.channel.send(say=text)

    def status(self, text: str) -> "FarStatus":
        """Something that shows a text between ``start`` and ``stop``."""
        return FarStatus(self.channel, text)


class FarStatus:
    """A text that the supervisor shows while something is done."""

    def __init__(self, channel: Channel, text: str) -> None:
        self.channel, self.text = channel, text

    def start(self) -> None:
        """Show it."""
        self.channel.send(status=self.text)

    def stop(self) -> None:
        """Show it no longer."""
        self.channel.send(status=None)


class FarFile:
    """Stands in for standard output: the supervisor writes what is written here to its own."""

    encoding = "utf-8"

    def __init__(self, channel: Channel, is_terminal: bool) -> None:
        self.channel, self.is_terminal = channel, is_terminal

    def write(self, text: str) -> int:
        """Send the text."""
        self.channel.send(print=text)
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def isatty(self) -> bool:
        """Whether the supervisor writes to a terminal."""
        return self.is_terminal


@dataclass
class Watched:
    """What a job knows of its supervisor.

    channel   tells the supervisor what is done
    owner     the supervisor's process
    tried     folder of a run, shard or round -> cells that this command has tried there, in an earlier process: all
              parts of a run have the same cells. That of the whole run has those that ended a process in a part of it
    stopped   the folder in which the process before this one has stopped; "" for the first process of a command
    measured  whether there was anything to measure; set by the job
    works     number of pieces of work so far
    """

    channel: Channel
    owner: int
    tried: Mapping[str, Sequence[str]] = field(default_factory=dict)
    stopped: str = ""
    measured: bool = False
    works: int = 0
    _announcements: Announcements | None = None

    def begins(
        self,
        directory: Path,
        stage: str,
        label: str,
        rows: Sequence[Mapping[str, Any]],
        output: str,
        whole: Path | None = None,
    ) -> None:
        """Announce work on cells of the run in ``directory``, by the rows that hold if the process ends now.

        What is printed meanwhile goes into the file ``output`` of that folder. ``whole`` is the folder of the run of
        which the other one is a shard or round: there the rows hold too.
        """
        self.channel.send(alive=True)  # a process that is no longer heard ends here, at the work that it has done
        if self._announcements is None or self._announcements.directory != directory.absolute():
            self._announcements = Announcements(directory, self.owner)
        self._announcements.announce(rows)
        self._at(stage, label, str(directory / output), "" if whole is None else str(whole))

    def settles(self, directory: Path, cells: Mapping[str, str | None]) -> None:
        """Say which cells of the run in ``directory`` need nothing more: the status of the row that this process has
        written, or None for a cell that was announced and needs no row."""
        if cells:
            self.channel.send(settled=cells, folder=str(directory.absolute()))

    def tried_in(self, *directories: Path) -> frozenset[str]:
        """The cells that this command has tried already in the runs in these folders, in an earlier process."""
        return frozenset(cell for each in directories for cell in self.tried.get(str(each.absolute()), ()))

    def resumes(self, directory: Path) -> bool:
        """Whether the process before this one has stopped in the midst of the run in ``directory``."""
        return str(directory.absolute()) == self.stopped

    def rests(self) -> None:
        """Say that no item is at work: the rows of all cells that were announced have been written."""
        self._at("", "", "")

    def _at(self, stage: str, label: str, output: str, whole: str = "") -> None:
        self.works += 1
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError, OSError):  # an item has put something else in its place
                stream.flush()
        file = str(self._announcements.path)
        self.channel.send(at=stage, label=label, file=file, output=output, whole=whole, mark=self.works)
        with suppress(OSError):  # an item has closed standard output
            os.write(1, output_mark(self.works))
