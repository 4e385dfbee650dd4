"""One lattice filter, built in several ways: which technique should the dense CRF's CPU engine use?

    python benchmarks/dense_crf_techniques.py IMAGE [--planes 4 21] [--json result.json]

Splat, blur and slice of the appearance kernel of "psa" (80 pixels, 13 of 255) over K planes of a photo,
all on the same lattice, one thread, processor time, best of several turns:

    index_add      torch: gather and `index_add_`, corner by corner
    embedding_bag  torch: a weighted sum of rows for each step (the "torch" backend)
    sparse CSR     torch: splat and slice as sparse matrices (MKL on x86), blur by gathering
    numba loops    plain loops over planes, vectorised by LLVM if it likes
    numba vectors  the same loops on vectors of 4 or 8 planes (what the "numba" backend is made of)

Beside each: what a user has to install for it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wsss_zoo.refine.crf.compiled import compiled
from wsss_zoo.refine.crf.numba_lattice import Lattice, appearance_lattice
from wsss_zoo.refine.crf.numba_mean_field import _BLUR
from wsss_zoo.refine.crf.torch_lattice import (
    TorchLattice,
    build_lattice,
    colour_features,
    largest_features,
    position_features,
)
from wsss_zoo.refine.crf.vector import broadcast, load, multiply_add, store


def by_index_add(lattice: TorchLattice, values: Tensor) -> Tensor:
    """Gather and scatter, corner by corner."""
    corners = values.new_zeros(len(lattice.blur_weights), values.shape[1])
    for vertices, weights in zip(lattice.vertices.T, lattice.weights.T, strict=True):
        corners.index_add_(0, vertices, values * weights[:, None])
    for direction in lattice.neighbours:
        corners = corners + 0.5 * (corners[direction[:, 1]] + corners[direction[:, 2]])
        corners[-1] = 0
    result = torch.zeros_like(values)
    for vertices, weights in zip(lattice.vertices.T, lattice.weights.T, strict=True):
        result.addcmul_(corners[vertices], weights[:, None])
    return result


def sparse_matrices(lattice: TorchLattice) -> tuple[Tensor, Tensor]:
    """Splat `(M + 1, N)` and slice `(N, M + 1)`."""
    pixels, corners = lattice.vertices.shape
    count = len(lattice.blur_weights)
    rows = torch.cat([lattice.first_pixel, lattice.first_pixel[-1:]])
    splat = torch.sparse_csr_tensor(rows, lattice.pixels, lattice.pixel_weights, (count, pixels))
    starts = torch.arange(0, pixels * corners + 1, corners)
    slices = (starts, lattice.vertices.flatten(), lattice.weights.flatten())
    return splat, torch.sparse_csr_tensor(*slices, (pixels, count))


def by_sparse(lattice: TorchLattice, splat: Tensor, slices: Tensor, values: Tensor) -> Tensor:
    """Sparse products for splat and slice."""
    corners = splat @ values
    for direction in lattice.neighbours:
        corners = corners + 0.5 * (corners[direction[:, 1]] + corners[direction[:, 2]])
        corners[-1] = 0
    return slices @ corners


@compiled
def by_loops(vertices: Any, weights: Any, neighbours: Any, values: Any, result: Any) -> None:
    """Plain loops."""
    corners, count, _ = neighbours.shape
    pixels, planes = values.shape
    old = np.zeros((count + 1, planes), np.float32)
    new = np.zeros((count + 1, planes), np.float32)
    for pixel in range(pixels):
        for corner in range(corners):
            vertex, weight = vertices[pixel, corner], weights[pixel, corner]
            for plane in range(planes):
                old[vertex, plane] += weight * values[pixel, plane]
    for direction in range(corners):
        for vertex in range(count):
            before, after = neighbours[direction, vertex, 0], neighbours[direction, vertex, 1]
            for plane in range(planes):
                sides = old[before, plane] + old[after, plane]
                new[vertex, plane] = old[vertex, plane] + np.float32(0.5) * sides
        old, new = new, old
    for pixel in range(pixels):
        for plane in range(planes):
            result[pixel, plane] = 0
        for corner in range(corners):
            vertex, weight = vertices[pixel, corner], weights[pixel, corner]
            for plane in range(planes):
                result[pixel, plane] += weight * old[vertex, plane]


def vector_kernels(lanes: int) -> tuple[Any, Any]:
    """Splat and slice on vectors."""

    @compiled
    def splat(vertices: Any, weights: Any, values: Any, corners: Any, blocks: int) -> None:
        for pixel in range(vertices.shape[0]):
            for block in range(blocks):
                value = load(values, pixel * blocks + block, lanes)
                for corner in range(6):
                    at = vertices[pixel, corner] * blocks + block
                    weight = broadcast(weights[pixel, corner], lanes)
                    store(corners, at, multiply_add(weight, value, load(corners, at, lanes)))

    @compiled
    def slices(vertices: Any, weights: Any, corners: Any, result: Any, blocks: int) -> None:
        for pixel in range(vertices.shape[0]):
            for block in range(blocks):
                value = broadcast(0, lanes)
                for corner in range(6):
                    weight = broadcast(weights[pixel, corner], lanes)
                    row = load(corners, vertices[pixel, corner] * blocks + block, lanes)
                    value = multiply_add(weight, row, value)
                store(result, pixel * blocks + block, value)

    return splat, slices


def by_vectors(lattice: Lattice, kernels: tuple[Any, Any], values: Any) -> Any:
    """Loops on vectors; values `(N, blocks, lanes)`."""
    pixels, blocks, lanes = values.shape
    old = np.zeros(((lattice.neighbours.shape[1] + 1) * blocks, lanes), np.float32)
    kernels[0](lattice.vertices, lattice.weights, values.reshape(-1, lanes), old, blocks)
    blurred, _ = _BLUR[lanes](old, np.empty_like(old), lattice.neighbours, blocks)
    result = np.empty((pixels * blocks, lanes), np.float32)
    kernels[1](lattice.vertices, lattice.weights, blurred, result, blocks)
    return result.reshape(pixels, -1)


def main() -> None:
    """Time all, check that they agree, print one row each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--planes", type=int, nargs="+", default=[4, 21])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with Image.open(args.image) as opened:
        image = np.array(opened.convert("RGB"))
    size, cpu = [image.shape[:2]], torch.device("cpu")
    ours = appearance_lattice(image, 80.0, 13.0, 10.0)
    picture = torch.from_numpy(image).permute(2, 0, 1)
    features = torch.cat([position_features(size, 80.0, cpu), colour_features([picture], 13.0, cpu)])
    theirs = build_lattice(features, largest_features(size, 80.0, 13.0), [features.shape[1]], 10.0)
    splat, slices = sparse_matrices(theirs)
    rows: dict[str, dict[str, Any]] = {}
    for planes in args.planes:
        lanes = 4 if planes <= 4 else 8
        values = np.zeros((features.shape[1], -(-planes // lanes), lanes), np.float32)
        flat = values.reshape(len(values), -1)
        flat[:, :planes] = np.random.default_rng(0).random((len(values), planes), dtype=np.float32)
        compact = np.ascontiguousarray(flat[:, :planes])
        tensor = torch.from_numpy(compact)
        looped = np.empty_like(compact)
        kernels = vector_kernels(lanes)

        def loops() -> Any:
            by_loops(ours.vertices, ours.weights, ours.neighbours, compact, looped)  # noqa: B023
            return looped  # noqa: B023

        ways: dict[str, tuple[str, Callable[[], Any]]] = {
            "index_add": ("nothing", lambda: by_index_add(theirs, tensor)),  # noqa: B023
            "embedding_bag": ("nothing", lambda: theirs.filter(tensor)),  # noqa: B023
            "sparse CSR": ("nothing", lambda: by_sparse(theirs, splat, slices, tensor)),  # noqa: B023
            "numba loops": ("numba (wheels)", loops),
            "numba vectors": ("numba (wheels)", lambda: by_vectors(ours, kernels, values)[:, :planes]),  # noqa: B023
        }
        best: dict[str, float] = {}
        results = {name: np.array(way()) for name, (_, way) in ways.items()}
        for _ in range(args.turns):
            for name, (_, way) in ways.items():
                start = time.process_time()
                way()
                best[name] = min(best.get(name, np.inf), time.process_time() - start)
        for name, (install, _) in ways.items():
            np.testing.assert_allclose(results[name], results["embedding_bag"], rtol=2e-3, atol=1e-4)
            rows.setdefault(name, {"technique": name, "to install": install})
            rows[name][f"ms, {planes} planes"] = round(1e3 * best[name], 1)
    print(f"{image.shape[0]} x {image.shape[1]}, {ours.neighbours.shape[1]} vertices, one thread")
    print(" | ".join(next(iter(rows.values()))))
    for row in rows.values():
        print(" | ".join(str(value) for value in row.values()))
    if args.json:
        args.json.write_text(json.dumps(list(rows.values()), indent=2) + "\n")


if __name__ == "__main__":
    main()
