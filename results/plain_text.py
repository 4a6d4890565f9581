"""Texts of others, such as names and errors of items, made harmless for the format that shows them: one home for all.

Markdown, LaTeX, CSV and pictures each take some characters for commands. HTML is escaped in
``harness.results.report.markup``.
"""

import re
import unicodedata

import pandas as pd

from harness.errors import printable

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
MARKDOWN = {
    **{mark: f"\\{mark}" for mark in r"\`*_[]|~#"},
    **{"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "@": "&#64;"},
}
TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    '"': r"\char34{}",
    "·": r"$\cdot$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "°": r"$^\circ$",
    "µ": r"$\mu$",
}
OF_TEX_FONTS = "ÆæØøÅåŒœŁłßı"  # beside letters with an accent
NO_ACCENT = "0328"  # the ogonek, for which TeX's own fonts have no mark


def markdown_text(text: object) -> str:
    """A text that Markdown shows as it is: on one line, no character of it is a mark, a tag, a link or a formula."""
    plain = "".join(MARKDOWN.get(letter, letter) for letter in printable(text))
    plain = re.sub(r"^(\d+)([.)])(?=\s|$)|^([-+=])(?=[\s=-]|$)", _not_a_list, plain)
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;")


def _not_a_list(found: re.Match) -> str:
    return rf"\{found[3]}" if found[3] else rf"{found[1]}\{found[2]}"


def fenced(text: str) -> str:
    """A block of code in Markdown that no text in it can end."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def tex_text(text: object) -> str:
    """A text that LaTeX shows as it is, on one line; letters that it has in no font by their code, ``[U+4E2D]``."""
    return "".join(map(_tex_letter, printable(text)))


def _tex_letter(letter: str) -> str:
    if letter in TEX or letter.isascii() or letter in OF_TEX_FONTS or _is_accented_latin(letter):
        return TEX.get(letter, letter)
    return f"[U+{ord(letter):04X}]"


def _is_accented_latin(letter: str) -> bool:
    base, *accent = unicodedata.decomposition(letter).split() or [""]
    return ord(letter) < 0x180 and bool(accent) and not base.startswith("<") and accent != [NO_ACCENT]


def csv_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of which no text is a formula for a spreadsheet: an apostrophe comes before those that would be.

    Texts that are numbers stay. What cannot be encoded is written as its code.
    """
    columns = [
        column if _holds_no_text(column) else column.astype(object).map(_csv_cell) for _, column in frame.items()
    ]
    safe = pd.concat(columns, axis=1) if columns else frame
    return safe.set_axis([_csv_cell(name) for name in frame.columns], axis=1)


def _holds_no_text(column: pd.Series) -> bool:
    kind = column.dtype
    return pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind)


def _csv_cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "backslashreplace").decode("utf-8")
    # A carriage return would not be quoted, so that what follows it would begin a row.
    safe = text.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{safe}" if text.startswith(FORMULA) and not _reads_as_number(text) else safe


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def drawable(text: object) -> str:
    """A text that a font library can lay out: breaks of lines become spaces, and controls, marks of direction and lone
    surrogates are left out. Spaces stay, for tokens begin with one."""
    spaced = re.sub(r"\s", " ", str(text))
    return "".join(letter for letter in spaced if letter.isprintable())


def drawable_lines(text: str) -> str:
    """A text in lines, each of which a font library can lay out."""
    return "\n".join(map(drawable, text.split("\n")))
