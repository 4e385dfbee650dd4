"""The places of MiniVOC: textured backgrounds, each with the class that is mostly met there.

Every function paints a whole background as float32 `(H, W, 3)` RGB in 0..255 from a random generator,
with the horizon at `horizon` (a fraction of the height). None of these textures is ever part of a
class: rails without a train and water without a boat are background, which is what a classifier that
looks at them will get wrong.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.float32]


def rgb(red: int, green: int, blue: int) -> Pixels:
    """A colour to compute with, float32 `(3,)`."""
    return np.array((red, green, blue), np.float32)


def noise(rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 3) -> Pixels:
    """Smooth random values in about [-1, 1], float32 `(height, width)`.

    Args:
        rng: source of randomness.
        height: rows.
        width: columns.
        cells: blobs along the longer side in the coarsest octave.
        octaves: layers, each of twice the frequency and half the amplitude.
    """
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        step = max(height, width) / (cells * 2**octave)
        grid = rng.uniform(-1.0, 1.0, (int(height / step) + 2, int(width / step) + 2)).astype(np.float32)
        layer = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer) * 0.5**octave
    return total


def blend(low: tuple[int, int, int], high: tuple[int, int, int], amount: Pixels) -> Pixels:
    """Mix two colours by `amount` `(H, W)`, clipped to [0, 1] -> `(H, W, 3)`."""
    weight = np.clip(amount, 0.0, 1.0)[..., None]
    mixed: Pixels = rgb(*low) * (1.0 - weight) + rgb(*high) * weight
    return mixed


def _sky(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Blue to grey with clouds."""
    top = np.array([(86, 142, 206), (120, 160, 196), (164, 176, 190), (222, 168, 130)][int(rng.integers(4))])
    rows = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    sky = blend(tuple(top), (222, 228, 232), np.broadcast_to(rows * 0.9, (height, width)))
    clouds = np.clip(noise(rng, height, width, rng.uniform(3, 5)) - rng.uniform(0.0, 0.4), 0.0, 1.0)
    return sky + (rgb(245, 245, 245) - sky) * clouds[..., None] * 0.9


def _outdoors(rng: np.random.Generator, height: int, width: int, horizon: float, ground: Pixels) -> Pixels:
    """Sky, a ridge of hills or woods, and `ground` below the horizon."""
    canvas = _sky(rng, height, width)
    row = int(horizon * height)
    ridge = row - (np.abs(noise(rng, 1, width, 3)[0]) * rng.uniform(0.0, 0.16) * height).astype(int)
    hills = blend((54, 84, 62), (118, 134, 110), 0.5 + 0.5 * noise(rng, height, width, 14, 2))
    canvas = np.where((np.arange(height)[:, None] >= ridge[None])[..., None], hills, canvas)
    canvas[row:] = ground[row:]
    return canvas


def _depth(height: int, horizon: float) -> Pixels:
    """0 at the horizon (and above) to 1 at the lower edge, `(height, 1)`."""
    rows = np.arange(height, dtype=np.float32) / height
    depth = np.clip((rows - horizon) / (1.0 - horizon), 0.0, 1.0)[:, None]
    return depth.astype(np.float32)


def meadow(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Grass in tufts: where cows stand."""
    shade = 0.5 + 0.35 * noise(rng, height, width, 6) + 0.25 * noise(rng, height, width, 60, 2)
    grass = blend((56, 96, 38), (150, 176, 82), shade)
    return _outdoors(rng, height, width, horizon, grass)


def water(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Waves that widen towards the front: where boats float."""
    depth = _depth(height, horizon)
    phase = 70.0 * np.log1p(6.0 * depth) + 2.5 * noise(rng, height, width, 5)
    waves = 0.45 + 0.3 * np.sin(phase) + 0.3 * noise(rng, height, width, 24, 2)
    dark = [(24, 74, 110), (30, 92, 96), (62, 84, 104)][int(rng.integers(3))]
    return _outdoors(rng, height, width, horizon, blend(dark, (150, 190, 206), waves))


def rails(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Ballast, sleepers and steel along the picture: where trains run."""
    ground = blend((92, 84, 76), (176, 166, 152), 0.5 + 0.6 * noise(rng, height, width, 70, 2))
    columns = np.arange(width, dtype=np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None] / height
    period = width / rng.uniform(9.0, 13.0)
    for track in range(2):
        middle = horizon + (1.0 - horizon) * (0.24 + 0.46 * track)
        half = 0.05 + 0.05 * track
        bed = np.abs(rows - middle) < half
        sleepers = ((columns + 0.6 * rows * height) % period < 0.45 * period) & bed
        ground = np.where(sleepers[..., None], rgb(84, 62, 46), ground)
        for edge in (-0.6, 0.6):
            steel = np.abs(rows - middle - edge * half) < 0.009 + 0.004 * track
            ground = np.where(steel[..., None], rgb(206, 206, 212), ground)
    return _outdoors(rng, height, width, horizon, ground)


def road(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Asphalt with a broken white line: where buses go."""
    ground = blend((84, 84, 88), (132, 132, 134), 0.5 + 0.4 * noise(rng, height, width, 60, 2))
    columns = np.arange(width)[None]
    rows = np.arange(height, dtype=np.float32)[:, None] / height
    kerb = np.abs(rows - horizon - 0.03) < 0.03
    ground = np.where(kerb[..., None], rgb(176, 172, 162), ground)
    period = width / rng.uniform(3.0, 5.0)
    dash = (columns % period < 0.55 * period) & (np.abs(rows - horizon - 0.55 * (1 - horizon)) < 0.016)
    ground = np.where(dash[..., None], rgb(236, 234, 226), ground)
    return _outdoors(rng, height, width, horizon, ground)


def airfield(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Much sky and a strip of concrete with a piano-key threshold: where aeroplanes are."""
    ground = blend((140, 138, 130), (186, 182, 172), 0.5 + 0.4 * noise(rng, height, width, 40, 2))
    columns = np.arange(width)[None]
    rows = np.arange(height, dtype=np.float32)[:, None] / height
    keys = (columns % (width / 12.0) < width / 24.0) & (np.abs(rows - horizon - 0.5 * (1 - horizon)) < 0.05)
    return _outdoors(rng, height, width, horizon, np.where(keys[..., None], rgb(238, 238, 232), ground))


def room(rng: np.random.Generator, height: int, width: int, horizon: float) -> Pixels:
    """Striped or plain wallpaper over floor boards, with a rug: where cats live."""
    papers = ((196, 170, 140), (150, 168, 160), (176, 140, 140), (206, 196, 170), (130, 140, 166))
    paper = rgb(*papers[int(rng.integers(len(papers)))])
    columns = np.arange(width, dtype=np.float32)[None]
    rows = np.arange(height, dtype=np.float32)[:, None]
    stripes = np.sign(np.sin(columns * 2 * np.pi * rng.uniform(6, 14) / width)) * rng.uniform(0.0, 14.0)
    wall = paper + (stripes + 5.0 * noise(rng, height, width, 30, 2))[..., None]
    board = height / rng.uniform(12, 18)
    grain = 0.5 + 0.4 * noise(rng, height, 1, 40, 2) + 0.15 * noise(rng, height, width, 20, 2)
    floor = blend((116, 74, 42), (190, 138, 88), grain) - 26.0 * (rows % board < 0.14 * board)[..., None]
    rug = ((columns / width - rng.uniform(0.3, 0.7)) / 0.4) ** 2 + (
        (rows / height - horizon - 0.24) / 0.14
    ) ** 2
    weave = (
        rgb(*papers[int(rng.integers(len(papers)))]) * 0.8
        + 10.0 * noise(rng, height, width, 50, 1)[..., None]
    )
    floor = np.where((rug < 1.0)[..., None], weave, floor)
    return np.where((rows >= horizon * height)[..., None], floor, wall)


#: Places by name. `PREFERENCE` in the scene file tells how often each class is met in each.
PLACES: dict[str, Callable[[np.random.Generator, int, int, float], Pixels]] = {
    "airfield": airfield, "meadow": meadow, "rails": rails, "road": road, "room": room, "water": water,
}  # fmt: skip
