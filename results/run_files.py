"""Reads and writes the files of a run; every one is checked before its content is used.

Scores, tables, maps and indices are sealed with their name within the run (``harness.seals``). Files of text whose
name ends with a digest of their content (``config``, ``environment``) need no seal.
"""

import hashlib
import json
import logging
import math
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from harness.errors import one_line, printable
from harness.results.disk import opened, whole_file
from harness.seals import Damaged, blank_seal, check_seal, sealed, with_seal_behind

if TYPE_CHECKING:  # they take a second to import, and the supervisor of a run does without them
    import numpy as np
    import pandas as pd

SEAL = "seal"  # the key of a JSON object that holds its seal
CODE = "harness-code "  # begins the text in a table of scores that names the code and weights that made it
DEEPEST = 64  # levels of lists and mappings in JSON
MOST_DIGITS = 300  # of a whole number in JSON; floats end at 309
LOG = logging.getLogger(__name__)
_NAMED: set[tuple[Any, ...]] = set()


class RunFiles:
    """The files of a run directory below ``cells``.

    Readers raise Damaged for a file that is lacking, unreadable, of another kind, or not what was written under its
    name. Where an older version wrote to the run, which knew no seals, a file without one is read as far as it makes
    sense.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def all_sealed(self) -> bool:
        """Whether no older version wrote to the run: the names of its files of rows do not begin with a number."""
        return all(path.name.split("-")[0].isdecimal() for path in (self.directory / "cells").glob("*.jsonl"))

    def name(self, path: Path) -> str:
        """The name in a file's seal: its path within the run, without the suffix."""
        *folders, file = path.parts[len(self.directory.parts) :]  # three times as fast as relative_to
        return "/".join((*folders, file.rpartition(".")[0] or file))

    def write_table(self, path: Path, table: Any, safe: str, code: str = "") -> None:
        """Write an arrow table or a frame as Parquet; with the ``code`` that made it, if given (``code_text``)."""
        write_content(path, sealed(_parquet(table, self.name(path), code)), safe)

    def write_array(self, path: Path, values: "np.ndarray") -> None:
        """Write an array in numpy's format."""
        write_content(path, array_content(values, self.name(path)))

    def write_json(self, path: Path, values: Mapping[str, Any]) -> None:
        """Write a mapping as JSON, whose last key holds the seal."""
        text = json.dumps({**values, SEAL: blank_seal(self.name(path))}, indent=1)
        write_content(path, sealed(text.encode()))

    def write_text(self, folder: str, name: str, text: str, safe: str) -> Path:
        """Write text into ``<folder>/<name><digest of the text>.json`` unless it is there."""
        path = self.directory / folder / f"{name}{text_digest(text)}.json"
        try:
            self.text(path)
        except Damaged:
            write_content(path, text.encode(), safe)
        return path

    def arrow_table(self, path: Path, *, required: bool = False) -> Any:
        """The arrow table in a Parquet file; a seal can be ``required`` although an older version wrote to the run."""
        content = self._checked(path, required)

        def parse() -> Any:
            import pyarrow as pa
            from pyarrow import parquet

            return parquet.read_table(pa.BufferReader(content))

        return _parsed_as(parse, "Parquet")

    def table(self, path: Path) -> "pd.DataFrame":
        """The frame in a Parquet file."""
        table = self.arrow_table(path)
        return _parsed_as(table.to_pandas, "a table")

    def array(self, path: Path) -> "np.ndarray":
        """The array in a file in numpy's format; no code in it is executed."""
        return array_of(self._checked(path))

    def json(self, path: Path) -> dict[str, Any]:
        """The mapping in a sealed file of JSON."""
        values = sound_json(self._checked(path))
        if not isinstance(values, dict):
            raise Damaged("it is no JSON object")
        return {key: value for key, value in values.items() if key != SEAL}

    def text(self, path: Path) -> Any:
        """The values in a file of JSON whose name ends with a digest of its content."""
        content = content_of(path)
        if self.all_sealed and text_digest(content) != path.stem.rpartition("-")[2]:
            raise Damaged("its content is not that of its name")
        return sound_json(content)

    def check_text(self, path: Path) -> bool:
        """Raise Damaged for a damaged file below ``config`` or ``environment``; whether it carries a checksum."""
        if path.name.startswith("scoring-"):  # a calibration
            self.json(path)
            return self.check(path)
        self.text(path)
        return self.all_sealed

    def check(self, path: Path, *, required: bool = False, code: str = "") -> bool:
        """Raise Damaged if the seal of a file is wrong, or names other ``code`` than this; whether it has a seal."""
        content = content_of(path)
        is_sealed = check_seal(content, self.name(path), required=required or self.all_sealed)
        if code and CODE.encode() in content and code.encode() not in content:
            raise Damaged("it was measured with other code or weights than its row says")
        return is_sealed

    def _checked(self, path: Path, required: bool = False) -> bytes:
        content = content_of(path)
        check_seal(content, self.name(path), required=required or self.all_sealed)
        return content


def code_text(row: Mapping[str, Any]) -> str:
    """What a table of scores tells of the code and weights that its row names; "" for a row that names none."""
    stick, subject = row.get("stick"), row.get("subject")
    return _code_text(f"{stick} {subject}") if stick and subject else ""


@lru_cache  # the rows of a block have few
def _code_text(code: str) -> str:
    return f"{CODE}{quote(code)};"


def content_of(path: Path, *, named_folder: bool = False) -> bytes:
    """The bytes of a file; Damaged where there is none that can be read (``harness.results.disk.opened``)."""
    try:
        with opened(path, named_folder=named_folder) as file:
            return file.read()
    except FileNotFoundError:
        raise Damaged("there is no such file") from None
    except IsADirectoryError:
        raise Damaged("it is a folder") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise Damaged(f"it cannot be read: {getattr(error, 'strerror', None) or error}") from error


def write_content(path: Path, content: bytes, safe: str = "the earlier file is intact") -> None:
    """Write a file in one step; a folder in its place is moved aside."""
    if path.is_dir() and not path.is_symlink():
        set_aside(path)
    with whole_file(path, safe) as temporary:
        temporary.write_bytes(content)


def set_aside(path: Path) -> None:
    """Move a damaged file of a run, or a folder in its place, into the run's folder ``damaged``.

    Another process may do so at the same moment.
    """
    place = _place_aside(path)
    with suppress(FileNotFoundError):
        path.rename(place)


def copy_aside(path: Path) -> None:
    """Copy a damaged file of a run into the run's folder ``damaged``."""
    place = _place_aside(path)
    with suppress(Damaged):
        place.write_bytes(content_of(path))


def _place_aside(path: Path) -> Path:
    """A path of its own for a damaged file, in the run's folder ``damaged``."""
    folder = path.parent.parent / "damaged"
    folder.mkdir(exist_ok=True)
    number = sum(1 for _ in folder.iterdir())
    return folder / f"{number}-{secrets.token_hex(4)}-{path.parent.name}-{path.name}"


def array_content(values: "np.ndarray", name: str) -> bytes:
    """An array as the content of a sealed file."""
    import numpy as np

    file = BytesIO()
    np.save(file, values, allow_pickle=False)
    return with_seal_behind(file.getvalue(), name)


def array_of(content: bytes) -> "np.ndarray":
    """The array in a content; Damaged if there is none, or less of it than its header says."""
    import numpy as np

    file = BytesIO(content)

    def parse() -> "np.ndarray":
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, columns_first, kind = read[np.lib.format.read_magic(file)[0]](file)
        values = np.frombuffer(bytearray(content), kind, math.prod(shape), file.tell())
        return values.reshape(shape, order="F" if columns_first else "C")

    return _parsed_as(parse, "an array")


def sound_json(content: bytes) -> Any:
    """The values in JSON; Damaged if it is not JSON, or holds values that programs trip over (``check_sound``)."""
    values = json_values(content)
    if not _is_plainly_sound(content):
        check_sound(values)
    return values


def _is_plainly_sound(content: bytes) -> bool:
    """Whether the text of JSON alone tells that nothing in it is unsound; much faster than a look at each value."""
    shallow = content.count(b"[") + content.count(b"{") <= DEEPEST
    return shallow and content.isascii() and b"\\u" not in content


def json_values(content: bytes) -> Any:
    """The values in JSON; Damaged if it is not JSON in UTF-8, or holds a whole number that is beyond every float."""
    return _parsed_as(lambda: DECODER.decode(content.decode()), "JSON")


def _whole_number_of(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


DECODER = json.JSONDecoder(parse_int=_whole_number_of)


def check_sound(value: Any, depth: int = 0) -> None:
    """Raise Damaged for values that programs trip over: nested without end, or with text that is no Unicode."""
    if depth > DEEPEST:
        raise Damaged(f"it is nested more than {DEEPEST} levels deep")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Damaged("a text in it is no Unicode") from None
    elif isinstance(value, Mapping):
        for key, each in value.items():
            check_sound(key, depth + 1)
            check_sound(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            check_sound(each, depth + 1)


def _parsed_as(parse: Callable[[], Any], kind: str) -> Any:
    try:
        return parse()
    except Exception as error:  # on foreign content, a parser can raise anything
        raise Damaged(f"it is not {kind}: {one_line(error)[:120]}") from error


def _parquet(table: Any, name: str, code: str) -> bytes:
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pandas(table, preserve_index=False) if isinstance(table, pd.DataFrame) else table
    file = BytesIO()
    with parquet.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"harness": blank_seal(name), **({"code": code} if code else {})})
    return file.getvalue()


def text_digest(text: str | bytes) -> str:
    """Twelve hexadecimal digits of a text."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:12]


def name_damage(path: Path, reason: object, consequence: str) -> None:
    """Say in one line, once per process and state of the file, that a file is damaged and what follows from it."""
    try:
        state = path.stat().st_mtime_ns
    except OSError:
        state = 0
    if (path, str(reason), state) not in _NAMED:
        _NAMED.add((path, str(reason), state))
        LOG.warning("%s is damaged (%s): %s", printable(path), printable(reason), printable(consequence))
