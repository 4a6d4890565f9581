"""Text on pictures: fonts, and words broken or cut to a width or to a number of letters."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageDraw, ImageFont

from harness.results.plain_text import drawable


@cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the arrows and the letters of most languages."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def line_height(letters: ImageFont.FreeTypeFont) -> int:
    """Pixels from one line to the next."""
    return round(letters.size * 1.32)


def text_width(text: str, letters: ImageFont.FreeTypeFont) -> float:
    """Pixels that a text takes as ``write_text`` draws it."""
    return letters.getlength(drawable(text))


def write_text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    colour: str,
    letters: ImageFont.FreeTypeFont,
    anchor: str | None = None,
) -> None:
    """Draw a text at a place; all pictures draw theirs here, without the letters on which the font library fails."""
    draw.text(place, drawable(text), colour, letters, anchor=anchor)


def broken(words: Iterable[str], letters: ImageFont.FreeTypeFont, width: int, most_lines: int = 9) -> list[str]:
    """Words in lines no wider than ``width``; a long word and what exceeds ``most_lines`` are cut with an ellipsis."""
    lines: list[str] = []
    for word in words:
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and (text_width(longer, letters) <= width or len(lines) == most_lines):
            lines[-1] = longer
        else:
            lines.append(word)
    return [cut(line, letters, width) for line in lines]


def cut(text: str, letters: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, shortened with an ellipsis if it is wider than ``width``."""
    if text_width(text, letters) <= width:
        return text
    while text and text_width(text + "…", letters) > width:
        text = text[:-1]
    return text.rstrip() + "…"


def fitting(words: Iterable[str], size: int, width: int, smallest: int) -> ImageFont.FreeTypeFont:
    """The largest font up to ``size`` in which no single word is wider than ``width``."""
    words = list(words)
    sizes = (s for s in range(size, smallest, -1) if all(text_width(word, font(s)) <= width for word in words))
    return font(next(sizes, smallest))


def shortened(text: str, most: int) -> str:
    """A text of at most ``most`` letters, its end cut off with an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
