"""Puts MiniVOC's polygons on the canvas: filling, light, shadows, exposure and the void ring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from wsss_zoo.data.minivoc.shapes import Part
from wsss_zoo.data.minivoc.textures import Pixels, noise

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]

#: Pictures are drawn this many times larger and reduced, which smooths the edges.
SUPERSAMPLING = 3


@dataclass(frozen=True)
class Item:
    """An object on the canvas.

    Attributes:
        name: its class; None for clutter.
        parts: polygons in pixels of the large canvas, back to front.
        feet: row of its lowest point at rest; nearer things have larger ones.
    """

    name: str | None
    parts: list[Part]
    feet: float


@dataclass(frozen=True)
class Drawing:
    """An object filled on an empty canvas of its own.

    Attributes:
        colours: uint8 `(H, W, 3)`, black where the object is not.
        shape: bool `(H, W)`, its silhouette.
        key: bool `(H, W)`, the part that tells the class, where nothing of itself covers it.
    """

    colours: Labels
    shape: Mask
    key: Mask


def fill(item: Item, height: int, width: int) -> Drawing:
    """Fill an object's polygons on a canvas of `height` x `width`."""
    colours = Image.new("RGB", (width, height))
    layers = Image.new("L", (width, height))
    paint, label = ImageDraw.Draw(colours), ImageDraw.Draw(layers)
    for part in item.parts:
        outline = [(float(x), float(y)) for x, y in part.points]
        paint.polygon(outline, fill=part.colour)
        label.polygon(outline, fill=2 if part.key else 1)
    layer = np.asarray(layers)
    return Drawing(np.asarray(colours), layer > 0, layer == 2)


def share_inside(parts: list[Part], height: int, width: int) -> float:
    """Share of the parts' bounding box that lies on the canvas, in [0, 1]."""
    points = np.concatenate([part.points for part in parts])
    low, high = points.min(0), points.max(0)
    clipped = np.clip(np.minimum(high, (width, height)) - np.maximum(low, 0.0), 0.0, None)
    return float(np.prod(clipped) / np.prod(high - low))


def paint_item(rng: np.random.Generator, canvas: Pixels, item: Item, drawing: Drawing) -> None:
    """Put one object on the canvas, in place: a shadow, light from above, a rough surface."""
    height, width = drawing.shape.shape
    rows, columns = np.nonzero(drawing.shape)
    if rows.size == 0:
        return
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    if item.name != "aeroplane":
        half = 0.55 * (right - left)
        y, x = np.ogrid[:height, :width]
        shadow = ((x - columns.mean()) / half) ** 2 + ((y - item.feet) / (0.12 * half + 2)) ** 2 < 1.0
        canvas[shadow] *= 0.72
    light = np.linspace(1.12, 0.82, bottom - top)[:, None]
    surface = 1.0 + 0.1 * noise(rng, bottom - top, right - left, rng.uniform(4, 20), 2)
    window = np.s_[top:bottom, left:right]
    shape = drawing.shape[window]
    lit = drawing.colours[window] * (light * surface)[..., None]
    canvas[window][shape] = lit[shape]


def expose(rng: np.random.Generator, canvas: Pixels) -> Labels:
    """Take the photograph: float32 canvas -> uint8 picture, `SUPERSAMPLING` times smaller.

    Light from one side, gain, contrast and colour cast on the canvas; then reduction, sometimes a little
    blur, and noise.
    """
    height, width = canvas.shape[:2]
    angle = rng.uniform(0.0, 2.0 * np.pi)
    across, down = np.linspace(-1, 1, width)[None], np.linspace(-1, 1, height)[:, None]
    gain = rng.uniform(0.7, 1.15) * (
        1.0 + rng.uniform(0.0, 0.18) * (np.cos(angle) * across + np.sin(angle) * down)
    )
    cast = rng.uniform(0.92, 1.08, 3)
    lit = (canvas - 128.0) * rng.uniform(0.75, 1.1) + 128.0
    lit = np.clip(lit * gain[..., None] * cast, 0, 255).astype(np.uint8)
    picture = Image.fromarray(lit).reduce(SUPERSAMPLING)
    if rng.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    grain = rng.normal(0.0, rng.uniform(1.0, 5.0), (picture.height, picture.width, 1))
    return np.clip(np.rint(np.asarray(picture) + grain), 0, 255).astype(np.uint8)


def void_ring(instances: Labels) -> Mask:
    """Pixels with a 4-neighbour of another instance or of the background, `(H, W)`: two pixels wide."""
    ring = np.zeros(instances.shape, bool)
    across, down = instances[:, 1:] != instances[:, :-1], instances[1:] != instances[:-1]
    ring[:, 1:] |= across
    ring[:, :-1] |= across
    ring[1:] |= down
    ring[:-1] |= down
    return ring
