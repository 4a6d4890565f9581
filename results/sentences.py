"""Texts with each token's attribution as its background colour: as a picture, and as a page for a browser.

Full colour is the largest |attribution| in the text. Padding is drawn as one token with the sum of its attributions.
"""

import html
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from harness.errors import UserError
from harness.results.disk import whole_file
from harness.results.fonts import cut, font, line_height, text_width, write_text
from harness.results.heat import coloured
from harness.results.sheet import Caption

WIDTH, MARGIN, NAMES, ROW_GAP, TEXT_GAP, CONTROL_GAP = 1500, 44, 250, 5, 30, 10
LETTERS, SPACE, INSET = 15, 3, 3  # of the tokens: size, between two of them, and within one beside its letters
INK, PALE_INK, GREY, RULE, WRONG, PAPER = "#1d1d1f", "#ffffff", "#6e6e73", "#d5d5da", "#b3400a", "#ffffff"
BAR_WIDTH, BAR_HEIGHT = 190, 14
LINE_SCALING = "Each line has its own scale: full colour is its largest |attribution|, no colour is zero. "
PADDING = "▢ × n: n tokens of padding, with the sum of their attributions."


@dataclass(frozen=True)
class PassageLine:
    """One explainer's line for one text: tokens with shares in -1..1 of the largest attribution, or a reason."""

    name: str
    tokens: Sequence[str] = ()
    shares: Sequence[float] = ()
    signed: bool = True
    control: bool = False
    reason: str = ""

    def colours(self) -> np.ndarray:
        """The background of each token, (tokens, 3) in 0..255."""
        shares = np.asarray(self.shares, dtype=np.float64)
        return np.rint(coloured(np.ones((len(shares), 3)), shares, self.signed) * 255).astype(int)


@dataclass(frozen=True)
class Passage:
    """One text: its caption, and a line per explainer."""

    caption: Caption
    lines: Sequence[PassageLine]


def passages(
    tokens: Sequence[Sequence[str]],
    maps: Mapping[str, Any],
    *,
    captions: Sequence[Caption] = (),
    signed: Collection[str] | None = None,
    controls: Collection[str] = (),
    reasons: Mapping[str, str] | None = None,
) -> list[Passage]:
    """Tokens of N texts and each explainer's maps (N, T), T at least a text's number of tokens, as lines to draw.

    maps       explainer -> maps, or None where it has none: its lines say why
    captions   one per text, or none at all
    signed     the explainers whose signs mean something; None for those with a negative number
    controls   the explainers that come last
    reasons    explainer -> why it has no maps, in a few words

    A map that is not finite has a line that says so. Raises UserError for shapes that do not fit.
    """
    if captions and len(captions) != len(tokens):
        raise UserError(f"captions are {len(captions)}, expected one for each of {len(tokens)} texts")
    checked = {name: None if values is None else _maps_of_texts(name, values, tokens) for name, values in maps.items()}
    names = sorted(checked, key=lambda name: name in controls)  # stable: otherwise in the order given
    found = []
    for number, text in enumerate(tokens):
        lines = []
        for name in names:
            values = checked[name]
            with_sign = bool((values < 0).any()) if signed is None and values is not None else name in (signed or ())
            reason = (reasons or {}).get(name, "no map")
            lines.append(
                _passage_line(
                    name, text, None if values is None else values[number], with_sign, reason, name in controls
                )
            )
        found.append(Passage(captions[number] if captions else Caption(), lines))
    return found


def sentence_sheet(path: str | Path, found: Sequence[Passage], *, title: str = "", subtitle: str = "") -> None:
    """Draw passages below one another to a PNG file; UserError where it cannot be written."""
    height = _draw_passages(
        ImageDraw.Draw(Image.new("RGB", (1, 1))), found, title, subtitle
    )  # drawn once to measure its height
    image = Image.new("RGB", (WIDTH, height), PAPER)
    _draw_passages(ImageDraw.Draw(image), found, title, subtitle)
    with whole_file(Path(path)) as temporary:
        image.save(temporary, format="PNG")


def sentence_page(path: str | Path, found: Sequence[Passage], *, title: str = "", subtitle: str = "") -> None:
    """Write passages to an HTML file that needs no other; texts and names are escaped."""
    body = "\n".join(_passage_html(passage) for passage in found)
    page = PAGE.format(
        title=html.escape(title or "texts"), subtitle=html.escape(subtitle), note=LINE_SCALING + PADDING, body=body
    )
    with whole_file(Path(path)) as temporary:
        Path(temporary).write_text(page, encoding="utf-8", errors="backslashreplace")


def _passage_line(
    name: str, tokens: Sequence[str], values: np.ndarray | None, signed: bool, reason: str, control: bool
) -> PassageLine:
    if values is None or not np.isfinite(values).all():
        return PassageLine(name, reason=reason if values is None else "not finite", control=control)
    padding = len(values) - len(tokens)
    if padding:
        tokens = [*tokens, f"▢ × {padding}"]
        values = np.append(values[: len(tokens) - 1], values[len(tokens) - 1 :].sum())
    largest = np.abs(values).max()
    if largest == 0:
        return PassageLine(name, tokens, values, signed, control, "all zero")
    return PassageLine(name, tokens, values / largest, signed, control)


def _maps_of_texts(name: str, values: Any, tokens: Sequence[Sequence[str]]) -> np.ndarray:
    values = values.detach().cpu() if hasattr(values, "detach") else values
    maps = np.asarray(values, dtype=np.float64)
    longest = max(map(len, tokens), default=0)
    if maps.ndim != 2 or len(maps) != len(tokens) or maps.shape[1] < longest:
        raise UserError(
            f"maps of {name} have shape {maps.shape}, expected {len(tokens)} texts of at least {longest} tokens"
        )
    return maps


def _draw_passages(draw: ImageDraw.ImageDraw, found: Sequence[Passage], title: str, subtitle: str) -> int:
    """Draw the whole page; gives its height."""
    top = _draw_titles(draw, title, subtitle)
    for passage in found:
        top = _draw_caption(draw, top, passage.caption)
        control = False
        for line in passage.lines:
            top += CONTROL_GAP * (line.control and not control)
            top, control = _draw_tokens(draw, top, line), line.control
        top += TEXT_GAP
    return _draw_legend(draw, top, {line.signed for passage in found for line in passage.lines if line.tokens})


def _draw_titles(draw: ImageDraw.ImageDraw, title: str, subtitle: str) -> int:
    room, top = WIDTH - 2 * MARGIN, MARGIN - 10
    for text, size, bold, colour, step in ((title, 27, True, INK, 42), (subtitle, 15, False, GREY, 26)):
        if text:
            write_text(draw, (MARGIN, top), cut(text, font(size, bold), room), colour, font(size, bold))
            top += step
    return top + 14


def _draw_caption(draw: ImageDraw.ImageDraw, top: int, caption: Caption) -> int:
    draw.line((MARGIN, top, WIDTH - MARGIN, top), RULE)
    left, top = MARGIN, top + 10
    for text, bold, wrong in _caption_parts(caption):
        letters = font(14, bold)
        write_text(draw, (left, top), text, WRONG if wrong else INK if bold else GREY, letters)
        left += int(text_width(text, letters)) + 18
    return top + (line_height(font(14)) + 8 if left > MARGIN else 0)


def _caption_parts(caption: Caption) -> Iterator[tuple[str, bool, bool]]:
    """The parts of a caption: text, whether it is bold, and whether it marks a wrong prediction."""
    sure = "" if caption.probability is None else f" ({caption.probability:.2f})"
    parts = (
        (caption.title, True, False),
        (caption.label and f"label {caption.label}", False, False),
        (caption.prediction and f"→ {caption.prediction}{sure}", False, caption.wrong),
        ("wrong" * caption.wrong, True, True),
    )
    return (part for part in parts if part[0])


def _draw_tokens(draw: ImageDraw.ImageDraw, top: int, line: PassageLine) -> int:
    """Draw one explainer's line, broken where the page ends; gives where the next one begins."""
    letters, small = font(LETTERS), font(13)
    high, start = line_height(letters) + 2, MARGIN + NAMES
    name = cut(line.name.replace("_", " "), small, NAMES - 24)
    write_text(draw, (start - 14, top + high / 2), name, GREY if line.control else INK, small, anchor="rm")
    left = start
    for token, colour in zip(line.tokens, line.colours(), strict=True):
        token = cut(token, letters, WIDTH - MARGIN - start - 2 * INSET)
        wide = round(text_width(token, letters)) + 2 * INSET
        if left + wide > WIDTH - MARGIN and left > start:
            left, top = start, top + high + 1
        draw.rounded_rectangle((left, top, left + wide, top + high - 1), 3, tuple(colour.tolist()))
        write_text(draw, (left + INSET, top + high / 2), token, _readable_ink(colour), letters, anchor="lm")
        left += wide + SPACE
    if line.reason:
        write_text(draw, (left + SPACE * bool(line.tokens), top + high / 2), line.reason, GREY, small, anchor="lm")
    return top + high + ROW_GAP


def _readable_ink(background: np.ndarray) -> str:
    """Black or white, whichever is easier to read on a colour."""
    return PALE_INK if background @ np.array([0.299, 0.587, 0.114]) < 128 else INK


def _draw_legend(draw: ImageDraw.ImageDraw, top: int, signs: Collection[bool]) -> int:
    draw.line((MARGIN, top, WIDTH - MARGIN, top), RULE)
    left, top, letters = MARGIN, top + 16, font(12)
    for signed, low, high in ((True, "against the class", "for it"), (False, "none", "strong, without sign")):
        if signed in signs:
            shares = np.linspace(-1 if signed else 0, 1, BAR_WIDTH)
            for place, colour in enumerate(PassageLine("", shares=shares, signed=signed).colours().tolist()):
                draw.line((left + place, top, left + place, top + BAR_HEIGHT), tuple(colour))
            write_text(draw, (left, top + BAR_HEIGHT + 6), low, GREY, letters)
            write_text(draw, (left + BAR_WIDTH, top + BAR_HEIGHT + 6), high, GREY, letters, anchor="ra")
            left += BAR_WIDTH + 36
    for number, text in enumerate((LINE_SCALING, PADDING)):
        write_text(draw, (left, top + number * line_height(letters)), text, GREY, letters)
    return top + 2 * line_height(letters) + MARGIN // 2


def _passage_html(passage: Passage) -> str:
    said = " ".join(
        f'<span class="{"wrong" if wrong else "strong" if bold else "said"}">{html.escape(text)}</span>'
        for text, bold, wrong in _caption_parts(passage.caption)
    )
    return f"<section><h2>{said}</h2><table>\n" + "\n".join(map(_line_html, passage.lines)) + "\n</table></section>"


def _line_html(line: PassageLine) -> str:
    spans = " ".join(
        f'<span style="background:rgb({r},{g},{b});color:{_readable_ink(np.array((r, g, b)))}" title="{share:+.3f}">'
        f"{html.escape(token)}</span>"
        for token, share, (r, g, b) in zip(line.tokens, line.shares, line.colours().tolist(), strict=True)
    )
    reason = f"<em>{html.escape(line.reason)}</em>" if line.reason else ""
    kind = ' class="control"' if line.control else ""
    return f"<tr{kind}><th>{html.escape(line.name)}</th><td>{spans} {reason}</td></tr>"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.7 "DejaVu Sans", system-ui, sans-serif; color: #1d1d1f; margin: 2.5rem auto; max-width: 80rem }}
h2 {{ font-size: 14px; border-top: 1px solid #d5d5da; padding-top: .7rem }}
p, em, .said, .control th {{ color: #6e6e73 }}
th {{ font-weight: normal; font-size: 13px; text-align: right; padding-right: 1rem; white-space: nowrap }}
td span {{ border-radius: 3px; padding: .1rem .2rem }}
.wrong {{ color: #b3400a }} .said, .wrong {{ font-weight: normal }}
</style></head><body><h1>{title}</h1><p>{subtitle}</p><p>{note}</p>
{body}
</body></html>
"""
