"""What items print, read by the supervisor: its beginning and its end are kept in a file, the rest is counted.

A worker writes a mark between the output of one piece of work and that of the next, which tells them apart exactly.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KEPT_BYTES = 2**15  # of the beginning, and of the end


def output_mark(number: int) -> bytes:
    """What a worker writes to standard output before its piece of work of this number."""
    return b"\0harness %d\0" % number


class ItemOutput:
    """The output of one piece of work, such as explaining with one explainer."""

    def __init__(self, title: str, path: Path) -> None:
        self.title, self.path = title, path
        self.first, self.last, self.total = b"", b"", 0

    def take(self, data: bytes) -> None:
        """Add some output."""
        self.total += len(data)
        room = KEPT_BYTES - len(self.first)
        self.first += data[:room]
        self.last = (self.last + data[room:])[-KEPT_BYTES:]

    def text(self) -> str:
        """What is kept, with the number of bytes that are not."""
        left_out = self.total - len(self.first) - len(self.last)
        gap = f"\n... {left_out} bytes are left out here ...\n".encode() if left_out else b""
        return (self.first + gap + self.last).decode("utf-8", "replace")

    def save(self) -> bool:
        """Write the file if anything was printed; whether it was. A disk that does not take it is no failure."""
        if not self.total:
            return False
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(f"# {self.title}\n{self.text()}", encoding="utf-8")
        return True


class MarkedOutput:
    """The output of a worker, cut at its marks: ``taken`` is called with each part, ``reached`` at each mark."""

    def __init__(self, taken: Callable[[bytes], None], reached: Callable[[int], None]) -> None:
        self.taken, self.reached, self.waiting = taken, reached, b""
        self.marks: list[int] = []

    def expect(self, number: int) -> None:
        """A mark will come, or has come in what is fed next."""
        self.marks.append(number)

    def feed(self, data: bytes) -> None:
        """Some more output."""
        self.waiting += data
        while self.marks and (mark := output_mark(self.marks[0])) in self.waiting:
            before, _, self.waiting = self.waiting.partition(mark)
            self.taken(before)
            self.reached(self.marks.pop(0))
        kept = len(output_mark(self.marks[0])) - 1 if self.marks else 0  # a mark may have come in part
        sure = len(self.waiting) - kept
        if sure > 0:
            self.taken(self.waiting[:sure])
            self.waiting = self.waiting[sure:]

    def end(self) -> None:
        """Nothing more will come."""
        self.taken(self.waiting)
        self.waiting = b""
        while self.marks:
            self.reached(self.marks.pop(0))


def read_waiting(descriptor: int, most: int = 2**16) -> bytes | None:
    """What can be read from a descriptor that does not wait; None at its end, b"" if there is nothing at the moment."""
    try:
        return os.read(descriptor, most) or None
    except BlockingIOError:
        return b""
    except OSError:
        return None
