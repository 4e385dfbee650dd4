"""Things without class in MiniVOC: background in the colours and plain parts of the classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wsss_zoo.data.minivoc.shapes import (
    COATS,
    GLASS,
    PAINTS,
    WHITE,
    Part,
    box,
    carriage,
    ellipse,
    pick,
    polygon,
    tint,
)


def _tree(rng: np.random.Generator) -> list[Part]:
    leaf = pick(rng, ((58, 104, 54), (96, 122, 50), (150, 110, 50)))
    trunk = Part(box(-0.05, -0.4, 0.05, 0.0), (92, 66, 46))
    return [trunk, *(Part(ellipse(x, y, 0.22, 0.2), tint(leaf, f)) for x, y, f in
                     ((-0.14, -0.5, 0.85), (0.14, -0.52, 0.9), (0.0, -0.72, 1.05)))]  # fmt: skip


def _house(rng: np.random.Generator) -> list[Part]:
    wall, roof = pick(rng, (*PAINTS, *COATS)), pick(rng, ((150, 70, 56), (96, 84, 84)))
    parts = [
        Part(box(-0.4, -0.5, 0.4, 0.0), wall),
        Part(polygon((-0.48, -0.5), (0.0, -0.8), (0.48, -0.5)), roof),
    ]
    return parts + [Part(box(x, -0.38, x + 0.14, -0.22), tint(GLASS, 0.7)) for x in (-0.3, -0.07, 0.16)]


def _hut(rng: np.random.Generator) -> list[Part]:
    """The carriage of bus and train without a front."""
    return carriage(rng, pick(rng, PAINTS), right=0.44)


def _bench(rng: np.random.Generator) -> list[Part]:
    """Four legs and a top in a coat's colour: an animal's silhouette without a head."""
    coat = pick(rng, COATS)
    legs = [Part(box(x, -0.3, x + 0.07, 0.0), tint(coat, 0.8)) for x in (-0.36, -0.22, 0.16, 0.3)]
    return [*legs, Part(box(-0.4, -0.44, 0.4, -0.28), coat)]


def _boulder(rng: np.random.Generator) -> list[Part]:
    outline = ellipse(0.0, -0.2, 0.4, 0.22) * rng.uniform(0.85, 1.1, (24, 1))
    return [
        Part(outline, pick(rng, COATS)),
        Part(ellipse(-0.08, -0.26, 0.2, 0.08), tint(pick(rng, COATS), 1.1)),
    ]


def _ball(rng: np.random.Generator) -> list[Part]:
    paint = pick(rng, PAINTS)
    return [Part(ellipse(0.0, -0.25, 0.25, 0.25), paint), Part(ellipse(0.0, -0.25, 0.25, 0.08), WHITE)]


def _pole(rng: np.random.Generator) -> list[Part]:
    board = box(-0.12, -1.0, 0.12, -0.72) if rng.random() < 0.5 else ellipse(0.0, -0.86, 0.14, 0.14)
    return [Part(box(-0.025, -0.8, 0.025, 0.0), (120, 122, 126)), Part(board, pick(rng, PAINTS))]


def _raft(rng: np.random.Generator) -> list[Part]:
    """A hull without mast and sail."""
    paint = pick(rng, PAINTS)
    return [Part(polygon((-0.5, -0.2), (0.5, -0.2), (0.36, 0.0), (-0.38, 0.0)), paint),
            Part(box(-0.46, -0.2, 0.46, -0.16), tint(paint, 0.7))]  # fmt: skip


def _shrub(rng: np.random.Generator) -> list[Part]:
    leaf = pick(rng, ((58, 104, 54), (96, 122, 50), (120, 96, 60)))
    return [Part(ellipse(x, -0.18, 0.2, rng.uniform(0.14, 0.24)), tint(leaf, rng.uniform(0.8, 1.1)))
            for x in (-0.26, 0.26, 0.0)]  # fmt: skip


#: Things without class, by the place they stand in: background that shares colours and plain parts.
CLUTTER: dict[str, tuple[Callable[[np.random.Generator], list[Part]], ...]] = {
    "airfield": (_pole, _hut, _ball),
    "meadow": (_tree, _house, _boulder, _bench, _shrub),
    "rails": (_pole, _hut, _house, _shrub),
    "road": (_tree, _house, _hut, _pole, _bench),
    "room": (_bench, _ball, _pole, _shrub),
    "water": (_boulder, _raft, _ball),
}
#: The smaller of them, which also stand before the objects.
NEAR_CLUTTER: dict[str, tuple[Callable[[np.random.Generator], list[Part]], ...]] = {
    "airfield": (_pole, _ball),
    "meadow": (_boulder, _shrub, _bench),
    "rails": (_pole, _shrub, _boulder),
    "road": (_pole, _shrub, _bench),
    "room": (_ball, _shrub, _bench),
    "water": (_boulder, _ball, _raft),
}
