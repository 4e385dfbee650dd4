"""Mean-field inference of the dense CRF on one CPU core, a single pass over the pixels for each update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

from wsss_zoo.refine.crf.compiled import compiled
from wsss_zoo.refine.crf.numba_lattice import appearance_lattice, smoothness_lattice
from wsss_zoo.refine.crf.vector import (
    broadcast,
    exponential,
    largest,
    load,
    maximum,
    multiply_add,
    store,
    total,
)
from wsss_zoo.refine.crf_parameters import CrfParameters
from wsss_zoo.refine.mean_field import unary_from_probabilities

# Corners of a simplex over position, and over position and colour.
_SMOOTHNESS = 3
_APPEARANCE = 6
# Energy of the planes that fill a row up to whole vectors: their marginal is exactly 0.
_NEVER = np.float32(1e30)
# 21 planes of them fill a third of a megabyte.
_PIXELS_A_PIECE = 4096


def numba_marginals(
    image: npt.NDArray[np.uint8],
    scores: Sequence[npt.NDArray[np.floating]],
    parameters: CrfParameters,
    probabilities: bool = False,
) -> list[npt.NDArray[np.float32]]:
    """Marginals of one or several CRFs over the same image.

    Both lattices are built once and serve all sets and updates.

    Args:
        image: uint8 `(H, W, 3)`.
        scores: float `(K, H, W)` of each set, finite energies; K may differ.
        parameters: kernels and number of updates.
        probabilities: the scores are probabilities, as `unary_from_probabilities` takes them.

    Returns:
        float32 `(K, H, W)` of each set.

    Raises:
        DataError: the kernels are too narrow for the lattice.
    """
    planes = max(len(planes) for planes in scores)
    lanes = 4 if planes <= 4 else 8
    blocks = -(-planes // lanes)
    shape = (image.shape[0] * image.shape[1], len(scores), blocks * lanes)
    # Pages of their own, given back at once: malloc keeps blocks of this size in the arena of each thread.
    rows = np.frombuffer(mmap(-1, 4 * math.prod(shape)), dtype=np.float32).reshape(shape)
    for index, planes_of_set in enumerate(scores):
        _gather(planes_of_set, rows, index, probabilities)
    _infer(image, rows.reshape(-1, lanes), len(scores), blocks, parameters)
    marginals = [np.empty(planes_of_set.shape, dtype=np.float32) for planes_of_set in scores]
    for index, result in enumerate(marginals):
        _scatter_planes(rows, index, result.reshape(len(result), -1))
    return marginals


def _gather(
    planes: npt.NDArray[np.floating], rows: npt.NDArray[np.float32], index: int, probabilities: bool
) -> None:
    """Copy planes to rows, in pieces that stay in the cache: a copy of all energies is never made."""
    flat = planes.reshape(len(planes), -1)
    for first in range(0, flat.shape[1], _PIXELS_A_PIECE):
        piece = flat[:, first : first + _PIXELS_A_PIECE]
        energies = unary_from_probabilities(piece) if probabilities else piece
        _gather_planes(np.ascontiguousarray(energies, dtype=np.float32), rows, index, first)


def _infer(
    image: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float32],
    sets: int,
    blocks: int,
    parameters: CrfParameters,
) -> None:
    """Turn rows of negative energies `(N * sets * blocks, lanes)` into marginals, in place."""
    height, width, _ = image.shape
    scale = parameters.scale_factor
    smoothness = smoothness_lattice(height, width, parameters.sxy_gauss / scale, parameters.compat_gauss)
    appearance = appearance_lattice(
        np.ascontiguousarray(image),
        parameters.sxy_bilateral / scale,
        parameters.srgb,
        parameters.compat_bilateral,
    )
    lanes = scores.shape[1]
    update, blur = _UPDATE[lanes], _BLUR[lanes]
    columns = sets * blocks
    # One vertex more, always 0: what is missing beside the outermost ones
    sizes = [(kernel.neighbours.shape[1] + 1) * columns for kernel in (smoothness, appearance)]
    filtered = [np.zeros((size, lanes), dtype=np.float32) for size in sizes]
    splatted = [np.zeros_like(values) for values in filtered]
    row = np.empty((blocks, lanes), dtype=np.float32)
    for iteration in range(parameters.iterations + 1):
        update(
            scores,
            smoothness.vertices,
            smoothness.weights,
            appearance.vertices,
            appearance.weights,
            *filtered,
            *splatted,
            row,
            sets,
            blocks,
            iteration == parameters.iterations,
        )
        if iteration < parameters.iterations:
            for index, kernel in enumerate((smoothness, appearance)):
                blurred, free = blur(splatted[index], filtered[index], kernel.neighbours, columns)
                filtered[index], splatted[index] = blurred, free
                free[:] = 0


def _update_kernel(lanes: int) -> Any:
    @compiled
    def update(
        scores: Any,
        smooth_vertices: Any,
        smooth_weights: Any,
        appear_vertices: Any,
        appear_weights: Any,
        smooth: Any,
        appear: Any,
        smooth_next: Any,
        appear_next: Any,
        row: Any,
        sets: int,
        blocks: int,
        last: bool,
    ) -> None:
        """Slice both kernels, add the scores, softmax, and splat the marginals for the next update.

        Done pixel by pixel, so that marginals never leave the cache. The first time `smooth` and `appear`
        are 0, the last time marginals replace `scores` and nothing is splatted.
        """
        width = sets * blocks
        for pixel in range(smooth_vertices.shape[0]):
            for first in range(0, width, blocks):
                top = broadcast(-np.inf, lanes)
                for block in range(blocks):
                    column = first + block
                    score = load(scores, pixel * width + column, lanes)
                    for corner in range(_SMOOTHNESS):
                        value = load(smooth, smooth_vertices[pixel, corner] * width + column, lanes)
                        score = multiply_add(broadcast(smooth_weights[pixel, corner], lanes), value, score)
                    for corner in range(_APPEARANCE):
                        value = load(appear, appear_vertices[pixel, corner] * width + column, lanes)
                        score = multiply_add(broadcast(appear_weights[pixel, corner], lanes), value, score)
                    store(row, block, score)
                    top = maximum(top, score)
                top = broadcast(largest(top), lanes)
                mass = broadcast(0, lanes)
                for block in range(blocks):
                    power = exponential(load(row, block, lanes) - top)
                    store(row, block, power)
                    mass = mass + power
                scale = broadcast(np.float32(1) / total(mass), lanes)
                for block in range(blocks):
                    column = first + block
                    marginal = load(row, block, lanes) * scale
                    if last:
                        store(scores, pixel * width + column, marginal)
                        continue
                    for corner in range(_SMOOTHNESS):
                        at = smooth_vertices[pixel, corner] * width + column
                        weight = broadcast(smooth_weights[pixel, corner], lanes)
                        store(smooth_next, at, multiply_add(weight, marginal, load(smooth_next, at, lanes)))
                    for corner in range(_APPEARANCE):
                        at = appear_vertices[pixel, corner] * width + column
                        weight = broadcast(appear_weights[pixel, corner], lanes)
                        store(appear_next, at, multiply_add(weight, marginal, load(appear_next, at, lanes)))

    return update


def _blur_kernel(lanes: int) -> Any:
    @compiled
    def blur(old: Any, new: Any, neighbours: Any, width: int) -> Any:
        """Blur with (1/2, 1, 1/2) along each direction in turn; gives the result and the other array."""
        half = broadcast(0.5, lanes)
        count = neighbours.shape[1]
        for column in range(width):
            store(new, count * width + column, broadcast(0, lanes))
        for direction in range(neighbours.shape[0]):
            for vertex in range(count):
                before = neighbours[direction, vertex, 0] * width
                after = neighbours[direction, vertex, 1] * width
                here = vertex * width
                for column in range(width):
                    sides = load(old, before + column, lanes) + load(old, after + column, lanes)
                    store(new, here + column, multiply_add(half, sides, load(old, here + column, lanes)))
            old, new = new, old
        return old, new

    return blur


# Up to 4 planes fill one vector of 4, more planes are cut into vectors of 8.
_UPDATE = {lanes: _update_kernel(lanes) for lanes in (4, 8)}
_BLUR = {lanes: _blur_kernel(lanes) for lanes in (4, 8)}


@compiled
def _gather_planes(energies: Any, rows: Any, index: int, first: int) -> None:
    """Negative energies `(K, n)` to rows of one set `(N, sets, at least K)`, surplus planes never chosen."""
    planes, pixels = energies.shape
    for pixel in range(pixels):
        for plane in range(planes):
            rows[first + pixel, index, plane] = -energies[plane, pixel]
        for plane in range(planes, rows.shape[2]):
            rows[first + pixel, index, plane] = -_NEVER


@compiled
def _scatter_planes(rows: Any, index: int, result: Any) -> None:
    """Rows of one set `(N, sets, at least K)` to planes `(K, N)`."""
    planes, pixels = result.shape
    for pixel in range(pixels):
        for plane in range(planes):
            result[plane, pixel] = rows[pixel, index, plane]
