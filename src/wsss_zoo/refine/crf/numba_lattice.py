"""The permutohedral lattice of an image, built on one CPU core.

Adams, Baek & Davis (Eurographics 2010), with the arithmetic of the CRF code of Krähenbühl & Koltun
(NeurIPS 2011), so that every pixel falls into the same simplex.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsss_zoo.refine.crf.compiled import compiled
from wsss_zoo.refine.crf.geometry import Geometry, blur_gain, lattice_geometry
from wsss_zoo.refine.crf.vector import broadcast, less, load, nearest, store

# Pixels that are lifted together.
_LANES = 8
# The table of vertices begins with 2^14 places and grows fourfold.
_FIRST_BITS = 14
_EMPTY = -1
# Sizes whose smoothness lattice is kept, 24 bytes a pixel: VOC has two frequent ones, training has one.
_SIZES_KEPT = 2
# Added to the sum of kernel values before the root, as in pydensecrf.
_TINY = 1e-20


class Lattice(NamedTuple):
    """One Gaussian kernel over the N pixels of an image, normalised and weighted.

    Attributes:
        vertices: uint32 `(N, d + 1)`, the corners of each pixel's simplex, 0..M-1.
        weights: float32 `(N, d + 1)`, barycentric weight times `n_i sqrt(compat * gain)`: used both to
            splat and to slice, they make the whole filter `compat * n K n`.
        neighbours: uint32 `(d + 1, M, 2)`, vertices before and after in each direction; M where none is.
    """

    vertices: npt.NDArray[np.uint32]
    weights: npt.NDArray[np.float32]
    neighbours: npt.NDArray[np.uint32]


def appearance_lattice(image: npt.NDArray[np.uint8], sxy: float, srgb: float, compat: float) -> Lattice:
    """Lattice of the kernel over position and colour.

    Args:
        image: uint8 `(H, W, 3)`, C-contiguous.
        sxy: standard deviation in space, pixels.
        srgb: standard deviation in colour, on 0..255.
        compat: weight of the kernel.

    Raises:
        DataError: the kernel is too narrow for the lattice.
    """
    height, width = image.shape[:2]
    geometry = lattice_geometry([(width - 1) / sxy, (height - 1) / sxy, 255 / srgb, 255 / srgb, 255 / srgb])
    features = _features(5, height * width)
    _fill_position(features, height, width, float(sxy))
    _fill_colour(features, image, float(srgb))
    return _build(features, height * width, geometry, compat)


@lru_cache(maxsize=_SIZES_KEPT)
def smoothness_lattice(height: int, width: int, sxy: float, compat: float) -> Lattice:
    """Lattice of the kernel over position, which all images of a size share.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        sxy: standard deviation, pixels.
        compat: weight of the kernel.

    Raises:
        DataError: the kernel is too narrow for the lattice.
    """
    geometry = lattice_geometry([(width - 1) / sxy, (height - 1) / sxy])
    features = _features(2, height * width)
    _fill_position(features, height, width, float(sxy))
    return _build(features, height * width, geometry, compat)


def _build(features: npt.NDArray[np.float32], pixels: int, geometry: Geometry, compat: float) -> Lattice:
    dimensions, padded = features.shape
    vertices = np.empty((pixels, dimensions + 1), dtype=np.uint32)
    weights = np.empty((pixels, dimensions + 1), dtype=np.float32)
    bits, count, group = _FIRST_BITS, 0, 0
    names, mass = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
    while True:
        # Half of the table stays empty, so that looking up is short.
        names = np.concatenate([names[:count], np.empty((1 << (bits - 1)) - count, dtype=np.int64)])
        mass = np.concatenate([mass[:count], np.zeros((1 << (bits - 1)) - count, dtype=np.float32)])
        table = np.full(1 << bits, _EMPTY, dtype=np.int64)
        places = np.empty(1 << bits, dtype=np.uint32)
        _enter(names[:count], table, places)
        group, count = _place(
            features, pixels, group, count, geometry, vertices, weights, table, places, names, mass
        )
        if group == padded // _LANES:
            break
        bits += 2
    neighbours = _neighbours(names[:count], table, places, geometry.steps)
    _normalise(vertices, weights, mass[:count], neighbours, blur_gain(dimensions), float(compat))
    return Lattice(vertices, weights, neighbours)


def _features(dimensions: int, pixels: int) -> npt.NDArray[np.float32]:
    """Room for `(dimensions, N)`, filled up to whole groups of pixels."""
    return np.zeros((dimensions, -(-pixels // _LANES) * _LANES), dtype=np.float32)


@compiled
def _fill_position(features: npt.NDArray[np.float32], height: int, width: int, sxy: float) -> None:
    for y in range(height):
        for x in range(width):
            features[0, y * width + x] = np.float32(x) / np.float32(sxy)
            features[1, y * width + x] = np.float32(y) / np.float32(sxy)


@compiled
def _fill_colour(features: npt.NDArray[np.float32], image: npt.NDArray[np.uint8], srgb: float) -> None:
    height, width, _ = image.shape
    scaled = np.empty(256, dtype=np.float32)
    for value in range(256):
        scaled[value] = np.float32(value) / np.float32(srgb)
    for y in range(height):
        for x in range(width):
            for channel in range(3):
                features[2 + channel, y * width + x] = scaled[image[y, x, channel]]


@compiled
def _find(name: int, table: npt.NDArray[np.int64]) -> int:
    """Where a vertex is in the table, or the empty place that it would take."""
    last = table.shape[0] - 1
    # Fibonacci hashing; the upper bits of the product are the well mixed ones
    place = np.int64((np.uint64(name) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & last
    while table[place] != name and table[place] != _EMPTY:
        place = (place + 1) & last
    return place


@compiled
def _enter(
    names: npt.NDArray[np.int64], table: npt.NDArray[np.int64], places: npt.NDArray[np.uint32]
) -> None:
    for vertex in range(names.shape[0]):
        place = _find(names[vertex], table)
        table[place] = names[vertex]
        places[place] = vertex


@compiled
def _place(
    features: npt.NDArray[np.float32],
    pixels: int,
    group: int,
    count: int,
    geometry: Geometry,
    vertices: npt.NDArray[np.uint32],
    weights: npt.NDArray[np.float32],
    table: npt.NDArray[np.int64],
    places: npt.NDArray[np.uint32],
    names: npt.NDArray[np.int64],
    mass: npt.NDArray[np.float32],
) -> tuple[int, int]:
    """Find the simplex of each pixel from `group` on, numbering vertices as they are met.

    Fills `vertices` and barycentric `weights`, and `mass`, the sum of weights at each vertex. Returns the
    group of pixels to go on with, which is not the end if `names` is full, and the number of vertices.
    """
    d = features.shape[0]
    corners = d + 1
    groups = features.shape[1] // _LANES
    rows = features.reshape(d * groups, _LANES)
    room = names.shape[0] - corners * _LANES
    # of the pixels of a group: coordinates, the nearest vertex, and how coordinates rank by what remains
    rest = np.empty((corners, _LANES), dtype=np.float32)
    base = np.empty((corners, _LANES), dtype=np.float32)
    rank = np.empty((corners, _LANES), dtype=np.float32)
    # of one pixel, smallest remainder first
    coordinate = np.empty(corners, dtype=np.uint32)
    remainder = np.empty(corners, dtype=np.float32)
    # neighbouring pixels mostly share vertices: those of the last pixel are not looked up again
    last_name = np.full(corners, _EMPTY, dtype=np.int64)
    last_vertex = np.zeros(corners, dtype=np.uint32)

    down = broadcast(np.float32(1 / corners), _LANES)
    up = broadcast(corners, _LANES)
    highest = broadcast(d, _LANES)
    zero = broadcast(0, _LANES)
    one = broadcast(1, _LANES)
    while group < groups:
        if count > room:
            break
        lifted = zero
        for j in range(d, 0, -1):
            feature = load(rows, (j - 1) * groups + group, _LANES) * broadcast(geometry.scales[j - 1], _LANES)
            store(rest, j, lifted - broadcast(j, _LANES) * feature)
            lifted = lifted + feature
        store(rest, 0, lifted)
        excess = zero
        for i in range(corners):
            whole = nearest(load(rest, i, _LANES) * down)
            excess = excess + whole
            store(base, i, whole * up)
            store(rest, i, load(rest, i, _LANES) - whole * up)
            store(rank, i, zero)
        for i in range(d):
            here = load(rest, i, _LANES)
            behind = load(rank, i, _LANES)
            for j in range(i + 1, corners):
                smaller = less(here, load(rest, j, _LANES))
                behind = behind + smaller
                store(rank, j, load(rank, j, _LANES) + (one - smaller))
            store(rank, i, behind)
        # where rounding left the plane of sum 0, the outermost coordinates go back by one period
        for i in range(corners):
            shifted = load(rank, i, _LANES) + excess
            wrap = (less(shifted, zero) - less(highest, shifted)) * up
            store(rank, i, shifted + wrap)
            store(base, i, load(base, i, _LANES) + wrap)
            store(rest, i, (load(rest, i, _LANES) - wrap) * down)

        for lane in range(min(_LANES, pixels - group * _LANES)):
            pixel = group * _LANES + lane
            for i in range(corners):
                ascending = np.uint32(np.float32(d) - rank[i, lane])
                coordinate[ascending] = i
                remainder[ascending] = rest[i, lane]
            name = np.int64(0)
            for i in range(d):
                name += (np.int64(base[i, lane]) - geometry.smallest[i]) * geometry.places[i]
            before = remainder[d] - np.float32(1)
            for corner in range(corners):
                if name != last_name[corner]:
                    place = _find(name, table)
                    if table[place] == _EMPTY:
                        table[place] = name
                        places[place] = count
                        names[count] = name
                        count += 1
                    last_name[corner] = name
                    last_vertex[corner] = places[place]
                weight = remainder[corner] - before
                before = remainder[corner]
                vertices[pixel, corner] = last_vertex[corner]
                weights[pixel, corner] = weight
                mass[last_vertex[corner]] += weight
                name += geometry.steps[coordinate[corner]]
        group += 1
    return group, count


@compiled
def _neighbours(
    names: npt.NDArray[np.int64],
    table: npt.NDArray[np.int64],
    places: npt.NDArray[np.uint32],
    steps: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint32]:
    count = names.shape[0]
    neighbours = np.full((steps.shape[0], count, 2), count, dtype=np.uint32)
    for direction in range(steps.shape[0]):
        for vertex in range(count):
            place = _find(names[vertex] - steps[direction], table)
            if table[place] != _EMPTY:
                neighbours[direction, vertex, 0] = places[place]
                neighbours[direction, places[place], 1] = vertex
    return neighbours


@compiled
def _normalise(
    vertices: npt.NDArray[np.uint32],
    weights: npt.NDArray[np.float32],
    mass: npt.NDArray[np.float32],
    neighbours: npt.NDArray[np.uint32],
    gain: float,
    compat: float,
) -> None:
    """Multiply the weights by `sqrt(compat * gain) / sqrt(kernel sum)`."""
    corners, count, _ = neighbours.shape
    old = np.zeros(count + 1, dtype=np.float32)
    new = np.zeros(count + 1, dtype=np.float32)
    old[:count] = mass
    for direction in range(corners):
        for vertex in range(count):
            sides = old[neighbours[direction, vertex, 0]] + old[neighbours[direction, vertex, 1]]
            new[vertex] = old[vertex] + np.float32(0.5) * sides
        old, new = new, old
    for pixel in range(vertices.shape[0]):
        kernel_sum = np.float32(0)
        for corner in range(corners):
            kernel_sum += weights[pixel, corner] * old[vertices[pixel, corner]]
        factor = np.float32(np.sqrt(compat * gain / (kernel_sum * gain + _TINY)))
        for corner in range(corners):
            weights[pixel, corner] *= factor
