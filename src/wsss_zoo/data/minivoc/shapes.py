"""The drawn objects of MiniVOC: polygons in a small frame of their own.

Every object lives in a unit frame: about one unit long (a person: one unit tall), standing on `y = 0`,
`y` pointing down (so an object's points have negative `y`), looking towards positive `x`. The scene
scales, mirrors and turns the points before they are filled.

What makes the set hard for image-level labels is decided here. Classes share their plain parts: `cat`,
`dog` and `cow` stand on one body whose coat comes from one palette; `bus` and `train` are one box of one
palette of paints, and `boat` and `aeroplane` use the same paints. What tells the class is one part alone,
drawn with `key=True`: a head, a front, a sail, a tail fin. A classifier needs nothing else, so its
localization maps stop there, while the ground truth goes on to the end of the tail. Things without class
(`distractors`) use the same palettes and wear the plain parts without the key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Colour = tuple[int, int, int]
Points = npt.NDArray[np.float64]

COATS: tuple[Colour, ...] = (
    (196, 128, 62), (120, 80, 50), (64, 54, 50), (150, 146, 142),
    (214, 198, 172), (236, 232, 224), (90, 98, 110),
)  # fmt: skip
PAINTS: tuple[Colour, ...] = (
    (178, 52, 46), (44, 92, 160), (58, 132, 84), (222, 220, 214),
    (206, 146, 46), (86, 92, 100), (126, 74, 132),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (*PAINTS, (40, 46, 70), (150, 110, 84))
SKINS: tuple[Colour, ...] = ((244, 204, 170), (214, 164, 124), (160, 108, 76), (104, 70, 52))
HAIRS: tuple[Colour, ...] = ((44, 34, 30), (110, 70, 36), (208, 164, 84), (140, 140, 142))
GLASS: Colour = (150, 196, 218)
BLACK: Colour = (26, 26, 30)
WHITE: Colour = (244, 242, 236)


@dataclass(frozen=True)
class Part:
    """One filled polygon.

    Attributes:
        points: `(N, 2)` x and y in the object's unit frame.
        colour: RGB, 0..255.
        key: belongs to the part that tells the class.
    """

    points: Points
    colour: Colour
    key: bool = False


def polygon(*xy: tuple[float, float]) -> Points:
    """Corner points as an `(N, 2)` array."""
    return np.array(xy, dtype=np.float64)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """The four corners of an upright rectangle, `(4, 2)`."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Points:
    """A 24-gon along an ellipse with centre, radii and turn (radians), `(24, 2)`."""
    angle = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    cx, cy = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack([x + cx * np.cos(turn) - cy * np.sin(turn), y + cx * np.sin(turn) + cy * np.cos(turn)], 1)


def pick(rng: np.random.Generator, palette: Sequence[Colour], spread: int = 14) -> Colour:
    """One colour of a palette, each channel moved by at most `spread`."""
    base = np.array(palette[int(rng.integers(len(palette)))])
    red, green, blue = np.clip(base + rng.integers(-spread, spread + 1, 3), 0, 255)
    return int(red), int(green), int(blue)


def tint(colour: Colour, factor: float) -> Colour:
    """A colour made darker (factor below 1) or lighter (above 1)."""
    red, green, blue = (int(min(255, channel * factor)) for channel in colour)
    return red, green, blue


def _body(rng: np.random.Generator, coat: Colour) -> list[Part]:
    """Four legs, trunk, tail, neck and, on some, patches: the same for every animal."""
    stride = rng.uniform(-0.05, 0.05)
    parts = [Part(box(x + s * stride, -0.28, x + s * stride + 0.075, 0.0), tint(coat, 0.72))
             for x, s in ((-0.24, 1), (0.16, -1))]  # fmt: skip
    lift = rng.uniform(-0.16, 0.12)
    parts += [
        Part(
            polygon(
                (-0.28, -0.42), (-0.36, -0.44), (-0.5, -0.36 + lift), (-0.46, -0.3 + lift), (-0.28, -0.33)
            ),
            coat,
        ),
        Part(polygon((0.08, -0.46), (0.28, -0.62), (0.4, -0.5), (0.24, -0.24)), coat),
        Part(ellipse(-0.04, -0.35, 0.3, rng.uniform(0.13, 0.165)), coat),
        *(
            Part(box(x - s * stride, -0.3, x - s * stride + 0.08, 0.0), coat)
            for x, s in ((-0.32, 1), (0.1, -1))
        ),
    ]
    if rng.random() < 0.35:
        patch = pick(rng, COATS)
        for x in rng.uniform(-0.24, 0.14, 2):
            y, rx, ry = rng.uniform((-0.4, 0.04, 0.04), (-0.32, 0.08, 0.07))
            parts.append(Part(ellipse(x, y, rx, ry), patch))
    return parts


def cat(rng: np.random.Generator) -> list[Part]:
    """Round head, upright pointed ears, green eyes."""
    coat = pick(rng, COATS)
    head = [
        (polygon((0.21, -0.6), (0.2, -0.84), (0.34, -0.68)), tint(coat, 0.85)),
        (polygon((0.52, -0.6), (0.54, -0.84), (0.4, -0.68)), tint(coat, 0.85)),
        (polygon((0.24, -0.64), (0.225, -0.77), (0.3, -0.68)), (226, 150, 150)),
        (polygon((0.5, -0.64), (0.515, -0.77), (0.44, -0.68)), (226, 150, 150)),
        (ellipse(0.37, -0.57, 0.17, 0.14), coat),
        (ellipse(0.37, -0.51, 0.09, 0.06), WHITE),
        (ellipse(0.30, -0.59, 0.042, 0.042), (128, 204, 74)),
        (ellipse(0.44, -0.59, 0.042, 0.042), (128, 204, 74)),
        (ellipse(0.30, -0.59, 0.014, 0.04), BLACK),
        (ellipse(0.44, -0.59, 0.014, 0.04), BLACK),
        (polygon((0.345, -0.54), (0.395, -0.54), (0.37, -0.51)), (220, 120, 124)),
    ]
    return _body(rng, coat) + [Part(points, colour, key=True) for points, colour in head]


def dog(rng: np.random.Generator) -> list[Part]:
    """Long snout with a black nose, hanging dark ears, red tongue."""
    coat = pick(rng, COATS)
    ear = tint(coat, 0.5)
    head = [
        (polygon((0.45, -0.47), (0.52, -0.47), (0.52, -0.36), (0.46, -0.36)), (226, 74, 84)),
        (ellipse(0.34, -0.6, 0.14, 0.13), coat),
        (ellipse(0.48, -0.54, 0.14, 0.075), tint(coat, 1.15)),
        (ellipse(0.6, -0.57, 0.045, 0.04), BLACK),
        (ellipse(0.4, -0.64, 0.03, 0.03), BLACK),
        (ellipse(0.24, -0.54, 0.065, 0.16, 0.25), ear),
    ]
    return _body(rng, coat) + [Part(points, colour, key=True) for points, colour in head]


def cow(rng: np.random.Generator) -> list[Part]:
    """Ivory horns, white blaze, broad pink muzzle, ears to the sides."""
    coat = pick(rng, COATS)
    horn = (238, 222, 178)
    head = [
        (polygon((0.3, -0.68), (0.16, -0.72), (0.13, -0.86), (0.22, -0.78), (0.34, -0.74)), horn),
        (polygon((0.46, -0.68), (0.6, -0.72), (0.63, -0.86), (0.54, -0.78), (0.42, -0.74)), horn),
        (ellipse(0.22, -0.62, 0.09, 0.04, 0.3), tint(coat, 0.8)),
        (ellipse(0.54, -0.62, 0.09, 0.04, -0.3), tint(coat, 0.8)),
        (polygon((0.25, -0.72), (0.51, -0.72), (0.47, -0.42), (0.29, -0.42)), coat),
        (polygon((0.35, -0.72), (0.41, -0.72), (0.43, -0.48), (0.33, -0.48)), WHITE),
        (ellipse(0.38, -0.42, 0.125, 0.075), (232, 156, 160)),
        (ellipse(0.33, -0.42, 0.022, 0.022), (120, 60, 66)),
        (ellipse(0.43, -0.42, 0.022, 0.022), (120, 60, 66)),
        (ellipse(0.3, -0.62, 0.025, 0.03), BLACK),
        (ellipse(0.46, -0.62, 0.025, 0.03), BLACK),
    ]
    return _body(rng, coat) + [Part(points, colour, key=True) for points, colour in head]


def carriage(rng: np.random.Generator, paint: Colour, right: float = 0.36) -> list[Part]:
    """A painted box with windows on wheels: the same for bus, train and cabins."""
    parts = [Part(ellipse(x, -0.05, 0.055, 0.055), BLACK) for x in (-0.36, -0.1, 0.2)]
    parts += [
        Part(box(-0.5, -0.42, right, -0.06), paint),
        Part(box(-0.5, -0.14, right, -0.1), tint(paint, 0.75)),
    ]
    pane = tint(GLASS, rng.uniform(0.45, 1.0))
    width = rng.uniform(0.08, 0.12)
    return parts + [
        Part(box(x, -0.36, x + width, -0.24), pane) for x in np.arange(-0.46, right - width, width + 0.05)
    ]


def bus(rng: np.random.Generator) -> list[Part]:
    """Flat front with a tall windscreen and a yellow and black route board."""
    paint = pick(rng, PAINTS)
    front = [
        (box(0.3, -0.48, 0.5, -0.06), tint(paint, 1.1)),
        (box(0.31, -0.48, 0.5, -0.39), (246, 206, 40)),
        *((box(x, -0.46, x + 0.025, -0.41), BLACK) for x in (0.335, 0.385, 0.435)),
        (box(0.36, -0.36, 0.49, -0.18), tint(GLASS, 1.1)),
        (ellipse(0.45, -0.11, 0.03, 0.03), (255, 246, 180)),
        (ellipse(0.37, -0.05, 0.055, 0.055), BLACK),
    ]
    return carriage(rng, paint) + [Part(points, colour, key=True) for points, colour in front]


def train(rng: np.random.Generator) -> list[Part]:
    """Sloping nose with red and white warning stripes, one lamp, a slit of a window."""
    paint = pick(rng, PAINTS)
    front = [
        (polygon((0.3, -0.42), (0.4, -0.42), (0.56, -0.16), (0.56, -0.06), (0.3, -0.06)), tint(paint, 1.1)),
        (polygon((0.36, -0.38), (0.41, -0.38), (0.48, -0.27), (0.36, -0.27)), BLACK),
        (box(0.3, -0.2, 0.555, -0.06), WHITE),
        *((polygon((x, -0.06), (x + 0.05, -0.2), (x + 0.09, -0.2), (x + 0.04, -0.06)), (214, 40, 40))
          for x in (0.3, 0.38, 0.46)),
        (ellipse(0.5, -0.23, 0.028, 0.028), (255, 246, 180)),
    ]  # fmt: skip
    return carriage(rng, paint) + [Part(points, colour, key=True) for points, colour in front]


def boat(rng: np.random.Generator) -> list[Part]:
    """A plain hull; mast and striped sail tell it."""
    paint = pick(rng, PAINTS)
    hull = [
        Part(polygon((-0.5, -0.24), (0.54, -0.24), (0.38, 0.0), (-0.4, 0.0)), paint),
        Part(box(-0.46, -0.24, 0.5, -0.2), tint(paint, 0.7)),
        Part(box(-0.4, -0.34, -0.08, -0.24), tint(paint, 1.2)),
        Part(box(-0.34, -0.31, -0.24, -0.26), tint(GLASS, 0.7)),
    ]
    levels = np.linspace(-0.84, -0.3, 6)
    slant = 0.1 + 0.36 * (levels + 0.84) / 0.54
    sail = [(box(0.05, -0.9, 0.09, -0.24), (92, 64, 44))]
    for i in range(5):
        corners = (0.1, levels[i]), (slant[i], levels[i]), (slant[i + 1], levels[i + 1]), (0.1, levels[i + 1])
        sail.append((polygon(*corners), WHITE if i % 2 else (206, 54, 50)))
    return hull + [Part(points, colour, key=True) for points, colour in sail]


def aeroplane(rng: np.random.Generator) -> list[Part]:
    """A plain tube with wings; the tail fin with its ring tells it."""
    paint = pick(rng, PAINTS)
    body = [
        Part(polygon((0.06, -0.3), (0.2, -0.3), (0.02, -0.56), (-0.06, -0.56)), tint(paint, 0.75)),
        Part(
            polygon((-0.48, -0.32), (-0.3, -0.39), (0.4, -0.39), (0.54, -0.29), (0.4, -0.2), (-0.3, -0.21)),
            paint,
        ),
        *(Part(box(x, -0.34, x + 0.05, -0.29), tint(GLASS, 0.7)) for x in np.arange(-0.22, 0.38, 0.09)),
        Part(polygon((-0.02, -0.26), (0.16, -0.26), (-0.08, 0.0), (-0.2, 0.0)), tint(paint, 0.85)),
    ]
    fin = [
        (polygon((-0.5, -0.33), (-0.58, -0.68), (-0.4, -0.68), (-0.2, -0.36)), (240, 240, 240)),
        (ellipse(-0.44, -0.52, 0.1, 0.1), (40, 70, 170)),
        (ellipse(-0.44, -0.52, 0.065, 0.065), WHITE),
        (ellipse(-0.44, -0.52, 0.035, 0.035), (210, 40, 44)),
    ]
    return body + [Part(points, colour, key=True) for points, colour in fin]


def person(rng: np.random.Generator) -> list[Part]:
    """A face tells it; shirt, arms and trousers are plain cloth of any colour."""
    shirt, trousers = pick(rng, CLOTHES), pick(rng, CLOTHES)
    skin, hair = pick(rng, SKINS, 8), pick(rng, HAIRS, 8)
    swing = rng.uniform(0.0, 0.14)
    body = [
        Part(polygon((-0.12, -0.46), (0.0, -0.46), (-0.02, 0.0), (-0.13 - swing / 2, 0.0)), trousers),
        Part(polygon((0.0, -0.46), (0.12, -0.46), (0.13 + swing / 2, 0.0), (0.02, 0.0)), tint(trousers, 0.9)),
        Part(
            polygon((-0.15, -0.73), (-0.08, -0.76), (-0.15 - swing, -0.4), (-0.23 - swing, -0.42)),
            tint(shirt, 0.85),
        ),
        Part(
            polygon((0.15, -0.73), (0.08, -0.76), (0.15 + swing, -0.4), (0.23 + swing, -0.42)),
            tint(shirt, 0.85),
        ),
        Part(polygon((-0.15, -0.75), (0.15, -0.75), (0.13, -0.42), (-0.13, -0.42)), shirt),
    ]
    face = [
        (box(-0.04, -0.79, 0.04, -0.73), tint(skin, 0.85)),
        (ellipse(0.0, -0.9, 0.115, 0.115), hair),
        (ellipse(0.015, -0.875, 0.095, 0.105), skin),
        (ellipse(-0.02, -0.89, 0.017, 0.02), BLACK),
        (ellipse(0.06, -0.89, 0.017, 0.02), BLACK),
        (ellipse(0.02, -0.82, 0.035, 0.014), (178, 60, 62)),
    ]
    return body + [Part(points, colour, key=True) for points, colour in face]


#: Foreground classes in label order: label 1 is the first. The drawing gives the parts back to front.
SHAPES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "aeroplane": aeroplane, "boat": boat, "bus": bus, "cat": cat,
    "cow": cow, "dog": dog, "person": person, "train": train,
}  # fmt: skip
