"""Composes one MiniVOC picture: a place, one to three objects, clutter, light.

The picture is a pure function of `(seed, split, index)`, so a set can be continued at any image and its
first images do not depend on how many follow.

Difficulty, beside the shared plain parts (`minivoc_shapes`): a class is mostly, not always, met in its
own place (`PREFERENCE`), so the place is evidence for the class and a classifier's maps leak into water
and rails; objects are `SCALE` times the shorter side long (a factor of three), mirrored, turned a little
and hide each other; clutter wears the same colours and plain parts and stands before objects as well as
behind; light, contrast, colour cast, blur and noise differ from picture to picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsss_zoo.data.minivoc.clutter import CLUTTER, NEAR_CLUTTER
from wsss_zoo.data.minivoc.render import (
    SUPERSAMPLING,
    Drawing,
    Item,
    Labels,
    Mask,
    expose,
    fill,
    paint_item,
    share_inside,
    void_ring,
)
from wsss_zoo.data.minivoc.shapes import SHAPES, Part
from wsss_zoo.data.minivoc.textures import PLACES

CLASS_NAMES: tuple[str, ...] = tuple(SHAPES)
VOID = 255
#: Length of an object (height of a person) relative to the shorter side of the picture.
SCALE = (0.5, 1.5)
#: Shares of the places a class is met in, when it is the subject of the picture.
PREFERENCE: dict[str, dict[str, float]] = {
    "aeroplane": {"airfield": 0.6, "meadow": 0.2, "water": 0.1, "road": 0.1},
    "boat": {"water": 0.6, "meadow": 0.15, "airfield": 0.1, "rails": 0.1, "road": 0.05},
    "bus": {"road": 0.6, "meadow": 0.15, "airfield": 0.15, "rails": 0.1},
    "cat": {"room": 0.6, "meadow": 0.2, "road": 0.1, "rails": 0.1},
    "cow": {"meadow": 0.6, "road": 0.2, "water": 0.1, "rails": 0.1},
    "dog": {"meadow": 0.25, "road": 0.2, "room": 0.3, "water": 0.15, "airfield": 0.1},
    "person": {"road": 0.2, "room": 0.2, "meadow": 0.15, "rails": 0.2, "airfield": 0.1, "water": 0.15},
    "train": {"rails": 0.6, "road": 0.15, "meadow": 0.15, "airfield": 0.1},
}
#: Who joins the subject: shares of the classes by place.
COMPANY: dict[str, dict[str, float]] = {
    "airfield": {"aeroplane": 0.35, "person": 0.4, "bus": 0.25},
    "meadow": {"cow": 0.35, "dog": 0.25, "person": 0.3, "cat": 0.1},
    "rails": {"train": 0.35, "person": 0.4, "dog": 0.15, "bus": 0.1},
    "road": {"bus": 0.3, "person": 0.4, "dog": 0.2, "cat": 0.1},
    "room": {"cat": 0.4, "dog": 0.3, "person": 0.3},
    "water": {"boat": 0.5, "aeroplane": 0.15, "person": 0.25, "dog": 0.1},
}
#: Share of pictures with one, two and three objects.
COUNTS = (0.55, 0.32, 0.13)
#: An object must show at least this share of itself and of its key part.
MIN_VISIBLE, MIN_KEY_VISIBLE = 0.5, 0.7
_ATTEMPTS = 12


@dataclass(frozen=True)
class SceneObject:
    """One object as it can be seen.

    Attributes:
        name: class.
        box: first and last column and row of its labelled pixels: x0, y0, x1, y1, from 0, inclusive.
        truncated: part of it lies beyond the border of the picture.
        occluded: something stands before part of it.
    """

    name: str
    box: tuple[int, int, int, int]
    truncated: bool
    occluded: bool


@dataclass(frozen=True)
class Scene:
    """A picture and everything that is known about it.

    Attributes:
        image: RGB uint8 `(H, W, 3)`.
        mask: uint8 `(H, W)`: 0 background, 1..C classes, 255 a ring along the outlines, as in VOC.
        instances: uint8 `(H, W)`: 0, 1..N objects in the order of `objects`, 255 the same ring.
        silhouette: bool `(H, W)`: any object, without a ring: the saliency ground truth.
        key: bool `(H, W)`: the parts that tell the class.
        objects: from back to front.
        place: the background, a key of `PLACES`.
    """

    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.uint8]
    silhouette: npt.NDArray[np.bool_]
    key: npt.NDArray[np.bool_]
    objects: tuple[SceneObject, ...]
    place: str


def _draw(rng: np.random.Generator, shares: dict[str, float]) -> str:
    weights = np.array(list(shares.values()))
    return list(shares)[int(rng.choice(len(weights), p=weights / weights.sum()))]


def _place(
    rng: np.random.Generator, name: str | None, parts: list[Part], size: float, x: float, y: float
) -> Item:
    """Scale to `size` pixels, mirror, turn, stretch a little and put the feet at `(x, y)`."""
    turn = np.deg2rad(rng.uniform(-18, 18) if name == "aeroplane" else rng.uniform(-5, 5))
    flip = 1.0 if rng.random() < 0.5 else -1.0
    stretch = np.diag([flip * rng.uniform(0.9, 1.15), 1.0])
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = size * rotate @ stretch
    moved = [Part(part.points @ matrix.T + (x, y), part.colour, part.key) for part in parts]
    return Item(name, moved, y)


def _arrange(
    rng: np.random.Generator, names: list[str], place: str, height: int, width: int, horizon: float
) -> list[Item]:
    """Objects and clutter, each with a random spot and size, from back to front."""
    side = min(height, width)
    placed = []
    low, high = SCALE
    largest = (high, 1.1, 0.85)[len(names) - 1]
    for name in names:
        length = float(np.exp(rng.uniform(np.log(low), np.log(largest))))
        nearness = (length - low) / (high - low)
        ground = horizon + (1.0 - horizon) * float(
            np.clip(0.2 + 0.75 * nearness + rng.uniform(-0.12, 0.15), 0.08, 1.0)
        )
        if name == "aeroplane" and rng.random() < 0.6:
            ground = rng.uniform(0.35, 0.75)
        x = rng.uniform(0.2, 0.8) if len(names) > 1 else rng.uniform(0.35, 0.65)
        placed.append(_place(rng, name, SHAPES[name](rng), length * side, x * width, ground * height))
    for _ in range(int(rng.integers(0, 3))):
        near = rng.random() < 0.25
        shapes = NEAR_CLUTTER[place] if near else CLUTTER[place]
        parts = shapes[int(rng.integers(len(shapes)))](rng)
        length = rng.uniform(0.18, 0.34) if near else rng.uniform(0.2, 0.55)
        ground = rng.uniform(0.92, 1.1) if near else horizon + (1.0 - horizon) * rng.uniform(0.02, 0.35)
        placed.append(_place(rng, None, parts, length * side, rng.uniform(0.0, 1.0) * width, ground * height))
    return sorted(placed, key=lambda item: item.feet)


def render_scene(seed: int, split: str, index: int, image_size: int) -> Scene:
    """Draw picture `index` of a split.

    The subject goes round through the classes, so that any eight pictures in a row hold every class.

    Args:
        seed: seed of the set.
        split: ``"train"`` or ``"val"``.
        index: number of the picture within the split, from 0.
        image_size: longer side in pixels; the shorter one is 0.7 to 1 of it.

    Returns:
        The picture with its masks; every object in `objects` has labelled pixels.
    """
    rng = np.random.default_rng([seed, ("train", "val").index(split), index])
    short = round(image_size * float(rng.uniform(0.7, 1.0)))
    height, width = (short, image_size) if rng.random() < 0.7 else (image_size, short)
    big_height, big_width = height * SUPERSAMPLING, width * SUPERSAMPLING
    subject = CLASS_NAMES[index % len(CLASS_NAMES)]
    place = _draw(rng, PREFERENCE[subject])
    horizon = rng.uniform(0.5, 0.75) if place in ("airfield", "room") else rng.uniform(0.25, 0.5)
    count = int(rng.choice(3, p=COUNTS)) + 1
    names = [subject, *(_draw(rng, COMPANY[place]) for _ in range(count - 1))]

    while True:
        for _ in range(_ATTEMPTS):
            items = _arrange(rng, names, place, big_height, big_width, horizon)
            drawings = [fill(item, big_height, big_width) for item in items]
            owner = np.zeros((big_height, big_width), np.uint8)
            for number, drawing in enumerate(drawings, 1):
                owner[drawing.shape] = number
            if all(_shows(item, drawings[i], owner == i + 1) for i, item in enumerate(items)):
                canvas = PLACES[place](rng, big_height, big_width, horizon)
                for item, drawing in zip(items, drawings, strict=True):
                    paint_item(rng, canvas, item, drawing)
                return _label(expose(rng, canvas), place, items, drawings, owner)
        # Too crowded: try with one object fewer. A single one finds its place sooner or later.
        names = names[: max(1, len(names) - 1)]


def _shows(item: Item, drawing: Drawing, seen: Mask) -> bool:
    """Whether enough of an object can be seen (clutter need not be); what is off the canvas is hidden."""
    if item.name is None:
        return True
    height, width = seen.shape
    keys = [part for part in item.parts if part.key]
    visible = (seen.sum() / max(1, drawing.shape.sum())) * share_inside(item.parts, height, width)
    key_visible = ((drawing.key & seen).sum() / max(1, drawing.key.sum())) * share_inside(keys, height, width)
    return bool(visible >= MIN_VISIBLE and key_visible >= MIN_KEY_VISIBLE)


def _label(image: Labels, place: str, items: list[Item], drawings: list[Drawing], owner: Labels) -> Scene:
    """Reduce the canvas' owners to the picture's masks and describe the objects."""
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    small = owner[middle, middle]
    instances, mask = np.zeros_like(small), np.zeros_like(small)
    key = np.zeros(small.shape, bool)
    classed = [(number, item) for number, item in enumerate(items, 1) if item.name is not None]
    for instance, (number, item) in enumerate(classed, 1):
        instances[small == number] = instance
        mask[small == number] = CLASS_NAMES.index(str(item.name)) + 1
        key |= (small == number) & drawings[number - 1].key[middle, middle]
    silhouette = instances > 0
    ring = void_ring(instances)
    mask[ring] = instances[ring] = VOID
    objects = []
    for instance, (number, item) in enumerate(classed, 1):
        rows, columns = np.nonzero(instances == instance)
        shape = drawings[number - 1].shape
        objects.append(
            SceneObject(
                name=str(item.name),
                box=(int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())),
                truncated=share_inside(item.parts, *shape.shape) < 0.995,
                occluded=bool((owner[shape] != number).any()),
            )
        )
    return Scene(image, mask, instances, silhouette, key, tuple(objects), place)
