"""Writing files so that a full disk or a killed process leaves the earlier content intact; reading files of a run.

A run may come from somebody else: a link in it could lead to any file of this machine, and a pipe never ends.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from harness.errors import UserError
from harness.places import temporary_file_in

MOST_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # of a file of a run: the memory of this machine
REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EACCES: "get the right to write there or choose another folder",
    errno.EPERM: "get the right to write there or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "put a folder in its place",
}


def opened(path: Path, *, named_folder: bool = False) -> BinaryIO:
    """A file of a run, opened to be read; OSError for a link, for what is no file, and for one that fills the memory.

    Its folder may be no link either, unless it is a ``named_folder``: the user has named it, such as that of the run.
    """
    if not named_folder:
        check_no_link(path.parent)
    try:
        # Without O_NONBLOCK a pipe would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise OSError(error.errno, "it is a link" if error.errno == errno.ELOOP else error.strerror) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size <= MOST_BYTES:
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if stat.S_ISREG(status.st_mode):
        raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES / 2**30:.1f} GiB, the memory of this machine")
    raise OSError(errno.EINVAL, "it is no file")


def check_no_link(folder: Path) -> None:
    """OSError if a folder of a run is a link."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"the folder {folder.name} is a link, which can lead out of the run")


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
