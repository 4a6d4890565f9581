"""HTML and SVG from Python; all text that is not ``Raw`` is escaped, so that it cannot become markup."""

import html
import json
from typing import Any


class Raw(str):
    """Text that is markup already."""


def escaped(value: Any) -> Raw:
    """A value as markup: ``Raw`` as it is, a list one after the other, None as nothing, all else escaped."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, list | tuple):
        return Raw("".join(map(escaped, value)))
    return Raw("" if value is None else html.escape(str(value), quote=True))


def tag(name: str, /, *children: Any, **attributes: Any) -> Raw:
    """An element: ``tag("a", "text", href="#x", class_="y")``; ``_`` stands for ``-``, None and False leave out."""
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if name in ("br", "circle", "img", "input", "line", "meta", "path", "polygon", "polyline", "rect"):
        return Raw(f"<{name}{given}/>")
    return Raw(f"<{name}{given}>{escaped(children)}</{name}>")


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True or value is False:
        return f" {name}" if value else ""
    return f' {name}="{escaped(value) if not isinstance(value, Raw) else html.escape(value)}"'


def soft(text: Any) -> Raw:
    """Text that may break after its underscores, as long names must."""
    return Raw(escaped(text).replace("_", "_<wbr/>"))


def joined(parts: list[Any], between: str) -> Raw:
    """Parts with a text between them."""
    return Raw(escaped(between).join(escaped(part) for part in parts))


def script_data(name: str, value: Any) -> Raw:
    """Data for the page's script as JSON that no text in it can end."""
    return Raw(f'<script type="application/json" id="{escaped(name)}">{json_text(value)}</script>')


def json_text(value: Any) -> str:
    """JSON without ``<``, ``>`` and ``&``, so that nothing in it is read as markup."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
