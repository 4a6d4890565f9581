"""What a piece of code does beside its answer: what it imports, unpickles, starts, connects to, and where it writes.

Python tells of all of it to an audit hook (``sys.addaudithook``), whichever library does it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pty.spawn")
CONNECTS = ("socket.connect", "socket.getaddrinfo", "urllib.Request")
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod")
OF_TWO_PATHS = ("os.rename", "os.link", "os.symlink")
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class SideEffects:
    """Names of modules and of unpickled objects, commands, addresses, and absolute paths of files."""

    imported: list[str] = field(default_factory=list)
    unpickled: list[str] = field(default_factory=list)
    started: list[str] = field(default_factory=list)
    connected: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)

    def imports_of(self, module: str) -> list[str]:
        """The imports of a module and of what is in it; ``importlib`` tells of them only by the files that it reads."""
        return [each for each in (*self.imported, *map(os.path.basename, self.read)) if each.startswith(module)]

    def written_outside(self, *folders: Path) -> list[str]:
        """What was written that does not lie in these folders."""
        inside = tuple(os.path.realpath(folder) + os.sep for folder in folders)
        return [path for path in self.written if not (os.path.realpath(path) + os.sep).startswith(inside)]

    def note(self, event: str, told: tuple) -> None:
        """Take down an event of Python."""
        if event == "import":
            self.imported.append(str(told[0]))
        elif event == "pickle.find_class":
            self.unpickled.append(".".join(map(str, told)))
        elif event in STARTS:
            self.started.append(f"{event} {told}"[:200])
        elif event in CONNECTS:
            self.connected.append(f"{event} {told}"[:200])
        elif event in CHANGES:
            paths = told[: 2 if event in OF_TWO_PATHS else 1]
            self.written += [_absolute(path) for path in paths if isinstance(path, str | bytes | os.PathLike)]
        elif event == "open" and isinstance(told[0], str | bytes):
            writes = isinstance(told[2], int) and told[2] & FOR_WRITING
            (self.written if writes else self.read).append(_absolute(told[0]))


def _absolute(path: str | bytes | os.PathLike) -> str:
    return os.path.abspath(os.fsdecode(path))


_NOTING: list[SideEffects] = []  # a hook cannot be taken away again, so that one hook serves all tests of the process


def _note(event: str, told: tuple) -> None:
    for effects in _NOTING:
        effects.note(event, told)


sys.addaudithook(_note)


@contextmanager
def side_effects() -> Iterator[SideEffects]:
    """The side effects of what is done within."""
    effects = SideEffects()
    _NOTING.append(effects)
    try:
        yield effects
    finally:
        _NOTING.remove(effects)
