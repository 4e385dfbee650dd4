"""RandomWalk against PSA's squaring of the dense matrix: the same scores, how much time and memory.

    python benchmarks/random_walk.py [--threads 1] [--log-t 8] [--json result.json]

Grids are those of a 500 x 375 image (47 x 63 cells at stride 8) and of a 500 x 500 one (63 x 63). Affinities
are smooth inside made-up regions and low across their borders; scores are 21 planes, of which all or three
are not zero. Times are those of the whole call, from the affinities of the pairs to the walked scores. Each
measurement is a process of its own; memory is the peak of its resident set beyond what it had before the
call (Linux).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wsss_zoo.refine import PixelPairs, RandomWalk, affinity_matrix

GRIDS = ((47, 63), (63, 63))
PLANES = 21
PRESENT = (21, 3)
BETA = 8.0
REPEATS = {"sparse": 5, "dense": 1}


def inputs(height: int, width: int, present: int) -> tuple[Tensor, Tensor]:
    """Affinities `(34, sources)` and scores `(21, h, w)` of which `present` planes are not zero."""
    rng = np.random.default_rng(0)
    regions = np.kron(rng.random((6, 8)), np.ones((11, 8)))[:height, :width]
    embedding = torch.from_numpy(regions + 0.05 * rng.random((height, width)))
    pairs = PixelPairs(height, width)
    source = pairs.at_sources(embedding)
    distances = torch.stack(
        [(pairs.at_destinations(embedding, offset) - source).abs().flatten() for offset in pairs.offsets]
    )
    scores = torch.zeros(PLANES, height, width)
    scores[:present] = torch.from_numpy(rng.random((present, height, width)))
    return torch.exp(-distances).float(), scores


def sparse_walk(affinities: Tensor, scores: Tensor, log_t: int) -> Tensor:
    """Ours."""
    return RandomWalk(BETA, log_t)(affinities, scores)


def dense_walk(affinities: Tensor, scores: Tensor, log_t: int) -> Tensor:
    """PSA's: the transition matrix, squared `log_t` times."""
    transition = affinity_matrix(affinities, PixelPairs(*scores.shape[1:])).pow_(BETA)
    transition /= transition.sum(0)
    for _ in range(log_t):
        transition = transition @ transition
    return (scores.flatten(1) @ transition).view_as(scores)


SIDES: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {"sparse": sparse_walk, "dense": dense_walk}


def resident(kind: str) -> float:
    """`VmRSS` (now) or `VmHWM` (peak) of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024


def measure(side: str, height: int, width: int, present: int, log_t: int, out: Path) -> dict[str, float]:
    """One side on one grid: seconds and MB; the scores go to `out`."""
    walk = SIDES[side]
    walk(*inputs(9, 12, 2), 1)  # libraries load and allocate what they need once
    affinities, scores = inputs(height, width, present)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    walked = walk(affinities, scores, log_t)
    megabytes = resident("VmHWM") - before
    np.save(out, walked.numpy())
    seconds = []
    for _ in range(REPEATS[side]):
        start = time.perf_counter()
        walk(affinities, scores, log_t)
        seconds.append(time.perf_counter() - start)
    return {"seconds": median(seconds), "megabytes": megabytes}


def compare(height: int, width: int, present: int, log_t: int, threads: int, folder: Path) -> dict[str, Any]:
    """Both sides on one grid."""
    figures: dict[str, Any] = {"grid": f"{height} x {width}", "planes": f"{present} of {PLANES}"}
    walked = {}
    for side in SIDES:
        out = folder / f"{side}.npy"
        arguments = [side, height, width, present, log_t, threads, out]
        command = [sys.executable, __file__, "--measure", *map(str, arguments)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        figures |= {f"{side}_{name}": value for name, value in json.loads(printed).items()}
        walked[side] = np.load(out, allow_pickle=False)
    scale = np.abs(walked["dense"]).max(axis=(1, 2), keepdims=True)
    difference = np.abs(walked["sparse"] - walked["dense"]) / np.maximum(scale, 1e-30)
    figures["time_ratio"] = figures["dense_seconds"] / figures["sparse_seconds"]
    figures["memory_share"] = figures["sparse_megabytes"] / figures["dense_megabytes"]
    figures["largest_relative_difference"] = float(difference.max())
    return figures


def main() -> int:
    """Print the table; exit status 1 where scores differ by more than 1e-4 of their plane's maximum."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log-t", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--measure", nargs=7, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        side, *numbers, out = args.measure
        height, width, present, log_t, threads = map(int, numbers)
        torch.set_num_threads(threads)
        print(json.dumps(measure(side, height, width, present, log_t, Path(out))))
        return 0

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for height, width in GRIDS:
            for present in PRESENT:
                rows.append(compare(height, width, present, args.log_t, args.threads, Path(folder)))
                print(json.dumps(rows[-1]), flush=True)
    if args.json:
        args.json.write_text(
            json.dumps({"threads": args.threads, "log_t": args.log_t, "rows": rows}, indent=2)
        )
    return 0 if max(row["largest_relative_difference"] for row in rows) <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
