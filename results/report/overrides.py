"""Values as the command line takes them: Hydra's grammar of overrides, then the shell's.

Hydra reads ``[a,b]`` as a list, ``{a:1}`` as a mapping, ``null``, ``true`` and ``1e3`` as what they look like, and text
in quotes as text. In quotes a backslash counts only before a quote, and ``${`` begins a reference unless a backslash
stands before it.
"""

import re
import shlex
from collections.abc import Mapping
from typing import Any

# Text that Hydra reads as itself without quotes.
BARE = re.compile(r"[A-Za-z_][\w./:+-]*", re.ASCII)
READ_AS_VALUES = re.compile(r"(?:null|true|false|inf|nan)", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:e[+-]?\d[\d_]*)?|[+-]?(?:inf|nan)", re.IGNORECASE)
KEY = re.compile(r"[\w/+.$%*@?|()\[\]{}:=, -]+", re.ASCII)  # the characters that a key can hold


class Unwritable(ValueError):
    """A value that no override can give: a mapping with a key outside Hydra's grammar."""


def override_value(value: Any) -> str:
    """A value as the right side of an override; raises Unwritable where Hydra's grammar has no way to say it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{override_key(key)}:{override_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_value, value))}]"
    text = str(value)
    bare = BARE.fullmatch(text) and not READ_AS_VALUES.fullmatch(text)
    return text if bare else _quoted(text)


def override_key(key: Any) -> str:
    """A key of a mapping: keys cannot be quoted, and one that looks like a number is read as a number."""
    text = str(key)
    alike = NUMBER.fullmatch(text) or READ_AS_VALUES.fullmatch(text)
    if not KEY.fullmatch(text) or alike or not isinstance(key, str):
        raise Unwritable(f"the key {key!r}")
    return re.sub(r"([()\[\]{}:=, ])", r"\\\1", text)


def _quoted(text: str) -> str:
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    text = re.sub(r'(\\*)"', r"\1\1" + r"\"", text)
    text = re.sub(r"(\\+)$", r"\1\1", text)
    return f'"{text}"'


def shell_word(text: str) -> str:
    """A text as one word of bash or zsh; characters that cannot be shown are written as escapes."""
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_escaped, text))}'"


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    return f"\\x{ord(letter):02x}" if letter.isascii() else f"\\U{ord(letter):08x}"
