"""Seals: a file that carries its name and a checksum of all its bytes, so that damage is seen before anything is read.

A seal is one piece of text within the file:

    harness-seal 5f0c9b07a3e1d24886b1f0c4a7d2935e scores%2F0c1d2e3f4a5b;

Every format has a place for it that other readers do not mind: the metadata of a Parquet file, the last key of a JSON
object, a line behind the end of an array (.npy) or of weights (.pt). The 32 digits are blake2b of the file's bytes with
zeros in their place. So one check covers all formats, costs a reading of the bytes, and no parser sees damaged content.
"""

import hashlib
from urllib.parse import quote

MARK = b"harness-seal "
DIGITS = 32
ZEROS = b"0" * DIGITS


class Damaged(Exception):
    """What is in a file is not what was written there; its one line says what is wrong with it."""


def blank_seal(name: str) -> str:
    """The text to put into the content of a file before ``sealed`` fills in its checksum."""
    return f"{MARK.decode()}{ZEROS.decode()} {quote(name, safe='')};"


def sealed(content: bytes) -> bytes:
    """The content with the checksum in its last, blank seal."""
    start = content.rindex(MARK + ZEROS) + len(MARK)
    return content[:start] + _checksum(content, start) + content[start + DIGITS :]


def with_seal_behind(content: bytes, name: str) -> bytes:
    """Content whose readers ignore what follows its end, with a sealed line behind it."""
    return sealed(content + f"\n{blank_seal(name)}\n".encode())


def check_seal(content: bytes, name: str, *, required: bool = True) -> bool:
    """Whether content has a seal; Damaged if the seal does not fit the content or this name, or is lacking though
    it is ``required``.
    """
    start = content.rfind(MARK) + len(MARK)
    if start < len(MARK):
        if required:
            raise Damaged("it is empty" if not content else "it carries no checksum")
        return False
    if _checksum(content, start) != content[start : start + DIGITS]:
        raise Damaged("its checksum is wrong")
    own = content[start + DIGITS + 1 : content.find(b";", start)]
    if own != quote(name, safe="").encode():
        raise Damaged(f"it is the content of {own.decode(errors='replace')[:80]}")
    return True


def _checksum(content: bytes, start: int) -> bytes:
    """Of the content with zeros in place of the digits at ``start``."""
    whole, state = memoryview(content), hashlib.blake2b(digest_size=DIGITS // 2)
    for part in (whole[:start], ZEROS, whole[start + DIGITS :]):
        state.update(part)
    return state.hexdigest().encode()
