"""Writing files so that a full disk or a killed process leaves the earlier content intact."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.places import temporary_file_in

REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EACCES: "get the right to write there or choose another folder",
    errno.EPERM: "get the right to write there or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
}


@contextmanager
def told_in_one_line(path: Path, safe: str) -> Iterator[None]:
    """Turn an OSError into a UserError that says what could not be written, what is ``safe`` and what to do."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno, "see that the folder can be written to")
        reason = error.strerror or str(error)
        raise UserError(f"cannot write {path}: {reason}; {safe}; {remedy}, then give the same command again") from error


@contextmanager
def whole_file(path: Path, safe: str = "the earlier file is intact") -> Iterator[Path]:
    """A temporary path in the folder of ``path``, moved to ``path`` once written; nothing is left if that fails."""
    temporary = temporary_file_in(path.parent)
    with told_in_one_line(path, safe):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            sync(temporary)  # the rename need not be synchronised: file systems with a journal keep the order
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def append_line(path: Path, line: bytes) -> None:
    """Add one line to a file in one write and wait until it is on the disk; OSError if not all of it could be.

    What was written of a line that does not fit is taken back, so that the file still ends with a whole line.
    """
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        before = os.fstat(descriptor).st_size
        try:
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)
    if new:
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's contents, or a folder's list of names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
