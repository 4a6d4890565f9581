"""Where files go on this machine: folders that users name, temporary files and folders, and names of files.

Temporary files carry the machine and the process that made them, so that those of a killed process can be told from
those of a run that is going on, and be cleared away.
"""

import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import UserError

MOST_SHARDS = 10_000
SHARDS, ROUNDS = "shards", "rounds"  # the folders in a run that hold its shards, and the rounds of its samples
TIME_OF_LAUNCH = "%Y%m%d-%H%M%S.%f"  # in UTC, the name of a folder in JOBS
JOBS = "jobs"  # the folder in a run that holds what the jobs of launchers have printed
LONGEST_RUN_NAME = 200  # bytes
LONGEST_PATH, LONGEST_PART = 4000, 255  # bytes of a path, and of the name of one file or folder
LONGEST_NAME = 150  # bytes of a file's name that is made from labels; file systems take 255
MARKED = re.compile(r"(?P<machine>.+)-(?P<process>\d+)-\w{8}")
TEMPORARY = re.compile(rf"\.?harness-{MARKED.pattern}(\.tmp)?")


def user_path(text: str | Path) -> Path:
    """A path as a user gives it, where ``~`` is the home directory; UserError if there is no home directory, and for a
    name that no file can have."""
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{str(text)!r} needs a home directory, and there is none: set HOME, or give a path") from error
    name = _name_in_bytes(str(path))
    if len(name) > LONGEST_PATH or max(map(len, name.split(b"/"))) > LONGEST_PART:
        raise UserError(f"{str(text)[:40]!r}... is too long for the name of a file")
    return path


def _name_in_bytes(name: str) -> bytes:
    """The name of a file as the system has it; UserError for one that no file can have."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise UserError(f"{name[:40]!r} is no name that a file can have")
    return encoded


def check_run_name(setting: str, name: str) -> str:
    """The name of a run; UserError if it is not that of one folder, or has a meaning of its own."""
    control = any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)
    if not name or control or Path(name).name != name or name in (".", "..", "latest", "previous"):
        raise UserError(f"{setting} is {name!r}, expected the name of one folder (and not latest or previous)")
    length = len(_name_in_bytes(name))
    if length > LONGEST_RUN_NAME:
        raise UserError(f"{setting} is {name[:40]!r}..., a name of {length} bytes; expected at most {LONGEST_RUN_NAME}")
    return name


def is_file_name(text: object) -> bool:
    """Whether a text from a file can be the name of a file: no path, no hidden file, no control characters, not long.

    Files of a run name cells, tables and maps, and the run may come from somebody else.
    """
    if not isinstance(text, str) or not text.isprintable() or text.startswith(".") or {"/", "\\"} & {*text}:
        return False
    return 0 < len(text.encode()) <= LONGEST_RUN_NAME


def shard_folder(number: int, count: int) -> str:
    """The folder of a shard within its run."""
    return f"{SHARDS}/{number}-of-{count}"


def file_name(text: str, most: int = LONGEST_NAME) -> str:
    """Text as a part of a file name: other characters become _; a digest replaces what is beyond ``most`` bytes."""
    name = re.sub(r"[^\w.=+-]+", "_", text)
    if len(name.encode()) <= most:
        return name
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=4).hexdigest()
    return f"{name.encode()[: most - 9].decode(errors='ignore')}-{digest}"


def process_mark(process: int | None = None) -> str:
    """A text of its own for a file of a process, this one by default: machine, number of the process, random digits."""
    return f"{_machine()}-{os.getpid() if process is None else process}-{secrets.token_hex(4)}"


def process_of(name: str) -> str:
    """``alive`` or ``gone``, of the process whose mark a file's name ends with; ``unknown`` on other machines."""
    found = MARKED.fullmatch(name)
    if found is None or found["machine"] != _machine():
        return "unknown"
    try:
        os.kill(int(found["process"]), 0)
    except (ProcessLookupError, OverflowError):
        return "gone"
    except PermissionError:  # it belongs to somebody else
        pass
    return "alive"


def temporary_file_in(folder: Path) -> Path:
    """The path of a hidden temporary file in ``folder``."""
    return folder / f".harness-{process_mark()}.tmp"


def temporary_folder() -> TemporaryDirectory:
    """A temporary folder in the system's place for such, deleted with the object; UserError if it cannot be made."""
    place = temporary_place()
    try:
        return temporary_folder_in(place, hidden="")
    except OSError as error:
        raise UserError(
            f"cannot make a temporary folder in {place}: {error.strerror or error}; "
            "make room, or set TMPDIR to a folder that can be written to"
        ) from error


def temporary_folder_in(place: Path, hidden: str = ".") -> TemporaryDirectory:
    """A temporary folder, hidden in another one, deleted with the object; OSError if it cannot be made."""
    return TemporaryDirectory(dir=place, prefix=f"{hidden}harness-{_machine()}-{os.getpid()}-")


def temporary_place() -> Path:
    """The system's folder for temporary files; UserError if there is none that can be written to."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise UserError(
            f"there is no folder for temporary files ({error.strerror or error}); make room, or set TMPDIR to a folder "
            "that can be written to"
        ) from error


def ignored_temporary_place() -> str:
    """A line where TMPDIR names a folder that cannot be used, with the one that is used; "" otherwise."""
    asked, place = os.environ.get("TMPDIR"), temporary_place()
    if not asked or Path(asked).absolute() == place.absolute():
        return ""
    return f"TMPDIR is {asked!r}, which is no folder that can be written to: temporary files go to {place}"


def clear_abandoned(folder: Path) -> int:
    """Delete the temporary files and folders in ``folder`` whose process, of this machine, is gone; their number.

    What cannot be deleted stays.
    """
    cleared = 0
    for path in abandoned_in(folder):
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:
            continue
        cleared += 1
    return cleared


def abandoned_in(folder: Path) -> list[Path]:
    """The user's temporary files and folders in ``folder`` whose process, of this machine, is gone."""
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(each.path) for each in entries if _is_abandoned(each))
    except OSError:
        return []


def _is_abandoned(entry: os.DirEntry) -> bool:
    found = TEMPORARY.fullmatch(entry.name)
    if found is None or entry.is_symlink():
        return False
    mark = entry.name.removeprefix(".").removeprefix("harness-").removesuffix(".tmp")
    return process_of(mark) == "gone" and entry.stat(follow_symlinks=False).st_uid == os.getuid()


@lru_cache(maxsize=1)
def _machine() -> str:
    """The machine's name, with the number of the name space of processes: containers may share both name and folder."""
    try:
        space = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    except OSError:  # not Linux
        space = "0"
    return f"{re.sub(r'[^A-Za-z0-9.]', '.', socket.gethostname())[:64]}.{space}"
