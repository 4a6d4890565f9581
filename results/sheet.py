"""The contact sheet of a block: photos down, explainers across, each attribution as a heat map over its photo."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from harness.errors import UserError
from harness.results.disk import whole_file
from harness.results.fonts import broken, cut, fitting, font, line_height, text_width, write_text
from harness.results.heat import coloured, heat_tile, resized

WIDTH, LARGEST_TILE, SMALLEST_TILE = 2400, 224, 96
MARGIN, GAP, ROW_GAP, CONTROL_GAP, CAPTION_WIDTH = 44, 6, 10, 34, 196
INK, GREY, RULE, WRONG, PAPER, BLANK = "#1d1d1f", "#6e6e73", "#c7c7cc", "#b3400a", "#ffffff", "#f0f0f2"
LEAST_WIDTH = 760
BAR_WIDTH, BAR_HEIGHT, FOOT = 190, 14, 96
SCALING = (
    "Each map has its own scale. Full colour: the 99.5th percentile of |attribution| in the tile, "
    "after averaging to the tile's size. No colour: zero."
)


@dataclass(frozen=True)
class Caption:
    """The text beside a photo: its name, its label, the model's prediction and its probability."""

    title: str = ""
    label: str = ""
    prediction: str = ""
    probability: float | None = None

    @property
    def wrong(self) -> bool:
        """Whether the model predicts another class than the label."""
        return bool(self.label and self.prediction and self.label != self.prediction)


def contact_sheet(
    path: str | Path,
    images: Any,
    maps: Mapping[str, Any],
    *,
    captions: Sequence[Caption] = (),
    signed: Collection[str] | None = None,
    controls: Collection[str] = (),
    reasons: Mapping[str, str] | None = None,
    title: str = "",
    subtitle: str = "",
    drawings: bool = False,
) -> None:
    """Draw images (N, C, H, W), grey or RGB in 0..1, and each explainer's maps (N, H, W) to a PNG file.

    maps       explainer -> maps, or None where it has none: its tiles are blank and say why
    captions   one per image, or none at all
    signed     the explainers whose signs mean something; None for those with a negative number
    controls   the explainers that come last, set apart
    reasons    explainer -> why it has no maps, in a few words
    drawings   whether images are black on white; they are then drawn over the heat instead of pale under it

    A map that is not finite has a blank tile that says so. Raises UserError for shapes that do not fit, and where the
    file cannot be written.
    """
    photos = _as_photos(images)
    if captions and len(captions) != len(photos):
        raise UserError(f"captions are {len(captions)}, expected one for each of {len(photos)} images")
    checked = {
        name: None if values is None else _maps_like_photos(name, values, photos) for name, values in maps.items()
    }
    names = sorted(checked, key=lambda name: name in controls)  # stable: otherwise in the order given
    with_sign = [n for n in names if (_has_negative(checked[n]) if signed is None else n in signed)]
    sheet = _Sheet(photos, names, [name for name in names if name in controls], captions, title, subtitle, drawings)
    for row, photo in enumerate(sheet.photos):
        sheet.paste(row, 0, photo)
        for column, name in enumerate(names, start=1):
            heat = None if checked[name] is None else checked[name][row]
            sheet.heat(row, column, heat, name in with_sign, (reasons or {}).get(name, "no map"))
    sheet.legend(with_sign != [], len(with_sign) < len(names))
    with whole_file(Path(path)) as temporary:
        sheet.image.save(temporary, format="PNG")


class _Sheet:
    """A white page with titles, captions and headings, and the places of its tiles."""

    def __init__(
        self,
        photos: np.ndarray,
        names: list[str],
        controls: list[str],
        captions: Sequence[Caption],
        title: str = "",
        subtitle: str = "",
        drawings: bool = False,
    ) -> None:
        self.drawings = drawings
        self.gutter = CAPTION_WIDTH if captions else 0
        self.tile = _tile_size(photos.shape[1:3], len(names) + 1, self.gutter + (CONTROL_GAP if controls else 0))
        self.photos = [_to_tile(photo, self.tile) for photo in photos]
        self.lefts = self._lefts(len(names), len(controls))
        self.headings = [_broken_heading(name, self.tile[0]) for name in ("input", *names)]
        tallest = max(len(lines) * line_height(letters) for lines, letters in self.headings)
        self.title_height = (44 if title else 0) + (26 if subtitle else 0) + (14 if title or subtitle else 0)
        self.top = MARGIN + self.title_height + (24 if controls else 0) + tallest + 8
        self.step = max(self.tile[1], 76 if captions else 0) + ROW_GAP
        self.width = max(LEAST_WIDTH, self.lefts[-1] + self.tile[0] + MARGIN)
        self.bottom = self.top + len(photos) * self.step
        self.image = Image.new("RGB", (self.width, self.bottom + FOOT), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self._write_titles(title, subtitle)
        self._write_headings(controls)
        for row, caption in enumerate(captions):
            self._write_caption(row, caption)

    def _lefts(self, explainers: int, controls: int) -> list[int]:
        first = MARGIN + self.gutter
        after_photo = [2 * GAP * (column > 0) for column in range(explainers + 1)]
        to_controls = [CONTROL_GAP * (column > explainers - controls) for column in range(explainers + 1)]
        steps = [first + column * (self.tile[0] + GAP) for column in range(explainers + 1)]
        return [sum(parts) for parts in zip(steps, after_photo, to_controls, strict=False)]

    def place(self, row: int, column: int) -> tuple[int, int]:
        """Left and top of a tile."""
        return self.lefts[column], self.top + row * self.step

    def paste(self, row: int, column: int, pixels: np.ndarray) -> None:
        """Put pixels (h, w, 3) in 0..1 on a tile."""
        picture = Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        self.image.paste(picture, self.place(row, column))

    def heat(self, row: int, column: int, heat: np.ndarray | None, signed: bool, reason: str) -> None:
        """Draw a map over its row's photo, or a blank tile that says why there is none."""
        if heat is None or not np.isfinite(heat).all():
            self._blank(row, column, reason if heat is None else "not finite")
        else:
            photo = self.photos[row]
            ground, over = (np.ones_like(photo), photo) if self.drawings else (photo, 1.0)
            self.paste(row, column, heat_tile(ground, resized(heat, *self.tile), signed) * over)
            if not heat.any():
                self._label(row, column, "all zero")

    def legend(self, signed: bool, unsigned: bool) -> None:
        """The colour bars and what their colours mean."""
        left, top = MARGIN, self.bottom + 22
        self.draw.line((MARGIN, top - 12, self.width - MARGIN, top - 12), RULE)
        if signed:
            left = self._bar(left, top, np.linspace(-1, 1, BAR_WIDTH), "against the class", "for it")
        if unsigned:
            left = self._bar(left, top, np.linspace(0, 1, BAR_WIDTH), "none", "strong, without sign")
        letters = font(12)
        for line, text in enumerate(broken(SCALING.split(), letters, self.width - MARGIN - left)):
            write_text(self.draw, (left, top + line * line_height(letters)), text, GREY, letters)

    def _bar(self, left: int, top: int, shares: np.ndarray, low: str, high: str) -> int:
        ground = np.full((BAR_HEIGHT, BAR_WIDTH, 3), 0.86)
        colours = coloured(ground, np.tile(shares, (BAR_HEIGHT, 1)), signed=shares[0] < 0)
        self.image.paste(Image.fromarray(np.rint(colours * 255).astype(np.uint8)), (left, top))
        write_text(self.draw, (left, top + BAR_HEIGHT + 6), low, GREY, font(12))
        write_text(self.draw, (left + BAR_WIDTH, top + BAR_HEIGHT + 6), high, GREY, font(12), anchor="ra")
        return left + BAR_WIDTH + 36

    def _blank(self, row: int, column: int, reason: str) -> None:
        width, height = self.tile
        tile = Image.new("RGB", self.tile, BLANK)
        strokes = ImageDraw.Draw(tile)
        for start in range(-height, width, 9):
            strokes.line((start, height, start + height, 0), RULE)
        self.image.paste(tile, self.place(row, column))
        self._label(row, column, reason)

    def _label(self, row: int, column: int, text: str) -> None:
        """A few words on a light plate in the middle of a tile."""
        letters, (left, top) = font(12), self.place(row, column)
        lines = broken(text.split(), letters, self.tile[0] - 16, most_lines=max(1, self.tile[1] // 20))
        x, y, height = left + self.tile[0] / 2, top + self.tile[1] / 2, line_height(letters)
        wide, high = max((text_width(line, letters) for line in lines), default=0) / 2 + 5, len(lines) * height / 2 + 3
        self.draw.rectangle((x - wide, y - high, x + wide, y + high), BLANK)
        for i, line in enumerate(lines):
            place = x, y + (i - (len(lines) - 1) / 2) * height
            write_text(self.draw, place, line, GREY, letters, anchor="mm")

    def _write_titles(self, title: str, subtitle: str) -> None:
        room = self.width - 2 * MARGIN
        write_text(self.draw, (MARGIN, MARGIN - 10), cut(title, font(27, bold=True), room), INK, font(27, bold=True))
        write_text(self.draw, (MARGIN, MARGIN + (34 if title else -8)), cut(subtitle, font(15), room), GREY, font(15))

    def _write_headings(self, controls: list[str]) -> None:
        for left, (lines, letters) in zip(self.lefts, self.headings, strict=False):
            for up, line in enumerate(reversed(lines)):
                place = left + self.tile[0] / 2, self.top - 10 - up * line_height(letters)
                write_text(self.draw, place, line, INK, letters, anchor="ms")
        if controls:
            left, right, top = self.lefts[-len(controls)], self.lefts[-1] + self.tile[0], MARGIN + self.title_height
            write_text(self.draw, (left, top), "controls", GREY, font(12))
            word = left + text_width("controls", font(12)) + 8
            if word < right:
                self.draw.line((word, top + 8, right, top + 8), RULE)

    def _write_caption(self, row: int, caption: Caption) -> None:
        room, small, strong = CAPTION_WIDTH - 20, font(13), font(13, bold=True)
        sure = "" if caption.probability is None else f" ({caption.probability:.2f})"
        prediction = cut(f"→ {caption.prediction}", small, room - int(text_width(sure, small))) + sure
        lines = [(caption.title, INK, strong), (caption.label, INK, small)]
        lines += [(prediction, WRONG if caption.wrong else GREY, small)] * bool(caption.prediction)
        lines += [("wrong", WRONG, strong)] * caption.wrong
        lines = [line for line in lines if line[0]]
        top = self.place(row, 0)[1] + (self.tile[1] - len(lines) * line_height(small)) / 2
        for i, (text, colour, letters) in enumerate(lines):
            write_text(self.draw, (MARGIN, top + i * line_height(small)), cut(text, letters, room), colour, letters)


def _tile_size(shape: tuple[int, int], columns: int, beside: int) -> tuple[int, int]:
    """Width and height of a tile, as large as the page allows; small images are enlarged a whole number of times."""
    height, width = shape
    room = (WIDTH - 2 * MARGIN - beside) // columns - GAP
    room = min(LARGEST_TILE, max(SMALLEST_TILE, room))
    longest = max(height, width)
    scale = room // longest if longest <= room else room / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def _to_tile(photo: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    return np.stack([resized(photo[..., channel], *tile) for channel in range(3)], axis=-1)


def _broken_heading(name: str, width: int) -> tuple[list[str], Any]:
    words = name.replace("_", " ").split()
    letters = fitting(words, 13, width, smallest=9)
    return broken(words, letters, width), letters


def _as_photos(images: Any) -> np.ndarray:
    """Images (N, C, H, W) as (N, H, W, 3)."""
    photos = _as_numbers(images)
    if photos.ndim != 4 or photos.shape[1] not in (1, 3) or 0 in photos.shape:
        raise UserError(f"images have shape {photos.shape}, expected (N, 1, H, W) or (N, 3, H, W)")
    return np.broadcast_to(photos.transpose(0, 2, 3, 1), (len(photos), *photos.shape[2:], 3))


def _maps_like_photos(name: str, values: Any, photos: np.ndarray) -> np.ndarray:
    maps = _as_numbers(values)
    if maps.shape != photos.shape[:3]:
        raise UserError(f"maps of {name} have shape {maps.shape}, expected {photos.shape[:3]}, one per image and pixel")
    return maps


def _as_numbers(values: Any) -> np.ndarray:
    values = values.detach().cpu() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=np.float64)


def _has_negative(maps: np.ndarray | None) -> bool:
    return maps is not None and bool((maps < 0).any())
