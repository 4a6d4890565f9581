"""Which runs this user has made: a run's configuration names code that is imported, and a foreign run's is not trusted.

Each configuration has a file ``.own`` beside it: a keyed hash (HMAC) of its text. The key is drawn once per user and
lies in the cache folder. A run that somebody else made, or changed, has no valid one.
"""

import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.assets import cache_folder
from harness.errors import UserError
from harness.options import IMPORT
from harness.places import temporary_file_in
from harness.results.block_plans import SUFFIX
from harness.results.disk import sync
from harness.results.run_files import content_of, write_content
from harness.results.store import Store
from harness.seals import Damaged

KEY_FILE = "runs.key"


def write_owned_config(store: Store, name: str, text: str) -> None:
    """Save a configuration under ``config/``, with its mark; without one if the user has no cache folder."""
    path, key = store.write_config(name, text), _user_key()
    if key is not None:
        write_content(path.with_name(path.name + SUFFIX), _mark(key, text).encode())


def is_own(path: Path, text: str) -> bool:
    """Whether this user's runs wrote the configuration ``text`` to ``path``."""
    key = _user_key()
    try:
        mark = content_of(path.with_name(path.name + SUFFIX))
    except Damaged:
        return False
    return key is not None and hmac.compare_digest(mark.strip(), _mark(key, text).encode())


def programs_named(config: Any) -> list[str]:
    """What a configuration would import or run: import paths, wherever they stand, and files that hold programs
    (``exported``)."""
    return list(dict.fromkeys(_programs_in(config)))


def _programs_in(value: Any) -> Iterator[str]:
    if isinstance(value, str) and IMPORT.fullmatch(value):
        yield value
    if isinstance(value, dict):
        if value.get("name") == "exported" and isinstance(value.get("path"), str):
            yield value["path"]
        for inner in (*value, *value.values()):  # an explainer can be named by its label
            yield from _programs_in(inner)
    if isinstance(value, list):
        for inner in value:
            yield from _programs_in(inner)


def _mark(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _user_key() -> bytes | None:
    """The user's key, drawn when it is first needed; None where it can be neither read nor written."""
    try:
        path = cache_folder() / KEY_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        return _key_in(path) or _drawn_key(path)
    except (OSError, UserError):  # UserError: there is no home folder
        return None


def _key_in(path: Path) -> bytes:
    """The key in a file; empty if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _drawn_key(path: Path) -> bytes:
    """Draw a key into a file, whole or not at all; that of another process, if it was faster."""
    temporary = temporary_file_in(path.parent)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        sync(temporary)
        try:
            os.link(temporary, path)
        except OSError:  # there is one; or this file system has no links
            if not _key_in(path):
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.read_bytes()
