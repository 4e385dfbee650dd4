"""Contact sheets: many small images in rows, one row a group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

Pixels = npt.NDArray[np.uint8]

_GAP = 6
_FONT_SIZE = 15
_PAPER = (255, 255, 255)
_MOUNT = (236, 238, 241)
_INK = (32, 36, 42)


def compose_contact_sheet(rows: Sequence[tuple[str, Sequence[Pixels]]], *, side: int = 96) -> Pixels:
    """Lay groups of images out in rows, with the caption on the left of each.

    Images keep their aspect ratio and are fitted whole into squares.

    Args:
        rows: caption and images uint8 `(H, W, 3)` of every group; rows may differ in length.
        side: pixels of a square.

    Returns:
        uint8 `(H', W', 3)` on white; the size depends on the longest caption and the longest row.

    Raises:
        ValueError: there is no row.
    """
    if not rows:
        raise ValueError("a contact sheet needs at least one row")
    font = ImageFont.load_default(_FONT_SIZE)
    left = 2 * _GAP + int(max(font.getlength(caption) for caption, _ in rows)) + 1
    width = left + max(len(images) for _, images in rows) * (side + _GAP)
    canvas = Image.new("RGB", (width, _GAP + len(rows) * (side + _GAP)), _PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (caption, images) in enumerate(rows):
        top = _GAP + number * (side + _GAP)
        draw.text((_GAP, top + side // 2), caption, fill=_INK, font=font, anchor="lm")
        for column, pixels in enumerate(images):
            square = ImageOps.pad(Image.fromarray(pixels), (side, side), Image.Resampling.LANCZOS, _MOUNT)
            canvas.paste(square, (left + column * (side + _GAP), top))
    return np.asarray(canvas)
