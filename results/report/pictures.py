"""The pictures that ``harness view`` drew of a run, if there are any."""

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from harness.results.report.blocks import ReportBlock
from harness.results.report.elements import note
from harness.results.report.markup import Raw, tag
from harness.results.run_files import content_of

MOST_PICTURE_BYTES = 4 << 20  # of all pictures together; the names of those that do not fit are listed
MOST_WIDTH = 1200


def pictures_part(blocks: Sequence[ReportBlock]) -> Raw | None:
    """Figures of the runs' pictures, each once, as many as fit; None where none were drawn."""
    paths = [path for folder in dict.fromkeys(block.directory for block in blocks) for path in _drawn_pictures(folder)]
    if not paths:
        return None
    figures, left, room = [], [], MOST_PICTURE_BYTES
    for path in paths:
        encoded = _as_webp(path)
        if encoded is None or len(encoded) > room:
            left.append(path.name)
            continue
        room -= len(encoded)
        figures.append(_captioned_figure(path, encoded))
    rest = note(f"Not shown because they are too large or cannot be read: {', '.join(left)}.") if left else ""
    return tag("div", figures, rest, class_="pictures")


def _drawn_pictures(folder: Path) -> list[Path]:
    return sorted((folder / "views").glob("*.png"))


def _captioned_figure(path: Path, encoded: str) -> Raw:
    shown = tag("img", src=f"data:image/webp;base64,{encoded}", alt=path.stem, loading="lazy")
    return tag("figure", shown, tag("figcaption", path.name))


def _as_webp(path: Path) -> str | None:
    """A picture as WebP in base64, no wider than the page; None where it cannot be read."""
    try:
        with Image.open(BytesIO(content_of(path))) as image:
            image.load()
            picture = image.convert("RGB")
    except Exception:  # on foreign content, a decoder can raise anything
        return None
    picture.thumbnail((MOST_WIDTH, 10 * MOST_WIDTH))
    buffer = BytesIO()
    picture.save(buffer, "WEBP", quality=88)
    return base64.b64encode(buffer.getvalue()).decode()
