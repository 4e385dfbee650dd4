"""Composed pictures: one image a row, its ground truth, maps and masks beside it under captions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from wsss_zoo.artifacts.masks import VOC_PALETTE

Pixels = npt.NDArray[np.uint8]

_MARGIN = 8
_CAPTION_SIZE = 18
_CAPTION_LINE = 27
_LEGEND_SIZE = 13
_SWATCH = 13
_LEGEND_LINE = 22
_PAPER = (255, 255, 255)
_INK = (32, 36, 42)
_EDGE = (176, 180, 186)


def compose_panel(
    image: Pixels,
    columns: Sequence[tuple[str, Pixels]],
    *,
    legend: Mapping[int, str] | None = None,
    height: int = 240,
) -> Pixels:
    """Put an image and what methods made of it side by side.

    Tiles keep their own aspect ratio and share one height. A caption that is wider than its tile is
    cut with an ellipsis.

    Args:
        image: uint8 `(H, W, 3)`; the first tile, captioned "image".
        columns: caption and uint8 `(H, W, 3)` of every further tile, left to right.
        legend: label -> class name of the colours to explain in a strip below; None for no strip.
        height: pixels of a tile.

    Returns:
        uint8 `(H', W', 3)` on white.

    Raises:
        ValueError: a tile is not uint8 `(H, W, 3)`.
    """
    tiles = [(caption, _tile(caption, pixels, height)) for caption, pixels in [("image", image), *columns]]
    width = _MARGIN + sum(tile.width + _MARGIN for _, tile in tiles)
    top = _MARGIN + _CAPTION_LINE
    canvas = Image.new("RGB", (width, top + height + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(_CAPTION_SIZE)
    left = _MARGIN
    for caption, tile in tiles:
        draw.text((left, _MARGIN), _shortened(caption, font, tile.width), fill=_INK, font=font)
        canvas.paste(tile, (left, top))
        left += tile.width + _MARGIN
    panel = np.asarray(canvas)
    if not legend:
        return panel
    return np.concatenate([panel, class_legend(legend, width)])


def class_legend(names: Mapping[int, str], width: int) -> Pixels:
    """Draw the VOC colour of each label before its name, wrapped to `width`.

    Args:
        names: label 0..255 -> class name.
        width: pixels.

    Returns:
        uint8 `(H, width, 3)` on white; `H` depends on how many lines are needed.
    """
    font = ImageFont.load_default(_LEGEND_SIZE)
    positions: list[tuple[int, int, int, str]] = []
    x, y = _MARGIN, 0
    for label, name in names.items():
        needed = _SWATCH + 6 + int(font.getlength(name))
        if x > _MARGIN and x + needed + _MARGIN > width:
            x, y = _MARGIN, y + _LEGEND_LINE
        positions.append((x, y, label, name))
        x += needed + 18
    strip = Image.new("RGB", (width, y + _LEGEND_LINE + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(strip)
    for x, y, label, name in positions:
        colour = tuple(int(value) for value in VOC_PALETTE[label])
        draw.rectangle((x, y + 3, x + _SWATCH, y + 3 + _SWATCH), fill=colour, outline=_EDGE)
        draw.text((x + _SWATCH + 6, y + 10), name, fill=_INK, font=font, anchor="lm")
    return np.asarray(strip)


def choose_image_ids(
    image_ids: Sequence[str],
    *,
    labels: Mapping[str, Sequence[int]] | None = None,
    n: int = 12,
    seed: int = 0,
) -> list[str]:
    """Choose the images to show: the same ones in every run over the same data.

    Images are ordered by a hash of their id, so neither the order of a list file nor the number of
    workers matters, and a run over a part of the data shows the images of the whole that it has. With
    labels, images that bring most classes not shown yet go first; equals keep the order of the hash.

    Args:
        image_ids: ids to choose from.
        labels: id -> classes in the image, or None.
        n: how many; fewer where there are fewer images.
        seed: another seed chooses other images.

    Returns:
        Ids in the order in which they were chosen.
    """
    order = sorted(
        dict.fromkeys(image_ids), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()
    )
    chosen: list[str] = []
    if labels is not None:
        unseen = {name: set(labels.get(name, ())) for name in order}
        while len(chosen) < n and any(unseen.values()):
            best = max(order, key=lambda name: len(unseen[name]))
            shown = set(unseen[best])
            chosen.append(best)
            for classes in unseen.values():
                classes -= shown
    rest = [name for name in order if name not in set(chosen)]
    return chosen + rest[: n - len(chosen)]


def _tile(caption: str, pixels: Pixels, height: int) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"tile {caption!r}: expected uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}")
    width = max(1, round(pixels.shape[1] * height / pixels.shape[0]))
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"
