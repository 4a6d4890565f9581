"""Reads a file to which another process appends lines, piece by piece: each look gives the whole lines that are new."""

import stat
from pathlib import Path

from harness.results.disk import opened


class GrowingFile:
    """One file.

    changed  when it was last written to, in seconds since 1970; 0 before the first look
    refused  whether it is a link or no regular file, or in a folder that is a link, and so is not read
    """

    def __init__(self, path: Path) -> None:
        self.path, self.changed, self.refused = path, 0.0, False
        self._place, self._node = 0, -1

    def look(self) -> tuple[list[bytes], bool]:
        """The whole lines that are new, and whether they are the first of the file.

        A file that has become shorter, or is another one under the same name, begins once more. One that cannot be
        read, or is a link, has no new lines.
        """
        try:
            status = self.path.lstat()
            self.refused = not stat.S_ISREG(status.st_mode) or self.path.parent.is_symlink()
            if self.refused:
                return [], False
            self.changed = status.st_mtime
            begins = status.st_ino != self._node or status.st_size < self._place
            if status.st_size == self._place and not begins:
                return [], False
            return self._lines_from(0 if begins else self._place, status.st_ino), begins
        except OSError:
            return [], False

    def _lines_from(self, place: int, node: int) -> list[bytes]:
        with opened(self.path) as file:
            file.seek(place)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._place, self._node = place + len(whole) + len(newline), node
        return whole.split(b"\n") if newline else []
