"""ThresholdSweep against one labelling pass per threshold: the same numbers, how much faster.

    python benchmarks/threshold_sweep.py [--images 200] [--threads 1] [--json result.json]

Images are synthetic, 375 x 500 with 1 to 3 classes: blobs with a smooth halo, borders marked as ignore.
The slow side is the protocol of SEAM's evaluation script in numpy: for each threshold and image a
21-plane float32 stack with the threshold in plane 0, argmax, and pixel counts of each class.
Both sides run in this process with the same number of threads; loading or making images is not timed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import zoom

from wsss_zoo.metrics import ThresholdSweep
from wsss_zoo.metrics.threshold_sweep import DEFAULT_THRESHOLDS

NUM_CLASSES = 20
SIZE = (375, 500)

Item = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.uint8]]


def synthetic_images(count: int, seed: int = 0) -> Iterator[Item]:
    """Yield maps `(K, H, W)`, classes `(K,)` and ground truth `(H, W)` of `count` images."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for _ in range(count):
        classes = np.sort(rng.choice(NUM_CLASSES, size=rng.integers(1, 4), replace=False))
        target = np.zeros(SIZE, dtype=np.uint8)
        maps = np.zeros((len(classes), height, width), dtype=np.float32)
        for plane, class_index in enumerate(classes):
            centre_y, centre_x = rng.uniform(0.2, 0.8, 2) * SIZE
            radius_y, radius_x = rng.uniform(0.1, 0.35, 2) * SIZE
            distance = np.hypot((y - centre_y) / radius_y, (x - centre_x) / radius_x)
            target[distance < 1] = class_index + 1
            target[abs(distance - 1) < 0.04] = 255
            noise = zoom(rng.random((24, 32), dtype=np.float32), (height / 24, width / 32), order=1)
            halo = np.exp(-(distance**2)) * (0.6 + 0.8 * noise)
            maps[plane] = halo / (halo.max() + 1e-5)
        yield maps, classes, target


def count_per_threshold(item: Item, counts: npt.NDArray[np.int64]) -> None:
    """Add TP, P and T of each class and threshold of one image to `counts` `(3, T, 21)`."""
    maps, classes, target = item
    valid = target != 255
    for index, threshold in enumerate(DEFAULT_THRESHOLDS):
        stack = np.zeros((NUM_CLASSES + 1, *target.shape), dtype=np.float32)
        stack[classes + 1] = maps
        stack[0] = threshold
        predicted = stack.argmax(axis=0)
        hit = predicted == target
        for label in range(NUM_CLASSES + 1):
            counts[0, index, label] += np.sum((target == label) & hit & valid)
            counts[1, index, label] += np.sum((predicted == label) & valid)
            counts[2, index, label] += np.sum((target == label) & valid)


def main() -> int:
    """Run both sides, print the table; the exit status is 1 where the numbers differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    metric = ThresholdSweep(NUM_CLASSES, absent="zero")
    counts = np.zeros((3, len(DEFAULT_THRESHOLDS), NUM_CLASSES + 1), dtype=np.int64)
    seconds_sweep = seconds_passes = 0.0
    for item in synthetic_images(args.images):
        start = time.perf_counter()
        metric.update(*item)
        middle = time.perf_counter()
        count_per_threshold(item, counts)
        seconds_sweep += middle - start
        seconds_passes += time.perf_counter() - middle
    start = time.perf_counter()
    result = metric.compute()
    seconds_sweep += time.perf_counter() - start
    hit, predicted, true = counts
    passes = (hit / (true + predicted - hit + 1e-10)).mean(axis=1)

    difference = float(np.abs(result["miou"].numpy() - passes).max())
    figures = {
        "images": args.images,
        "size": SIZE,
        "thresholds": len(DEFAULT_THRESHOLDS),
        "threads": args.threads,
        "seconds_one_pass": round(seconds_sweep, 3),
        "seconds_pass_per_threshold": round(seconds_passes, 3),
        "ratio": round(seconds_passes / seconds_sweep, 1),
        "milliseconds_per_image": round(1000 * seconds_sweep / args.images, 2),
        "largest_miou_difference": difference,
        "best_threshold": float(result["best_threshold"]),
        "best_miou": float(result["best_miou"]),
        "best_threshold_pass_per_threshold": DEFAULT_THRESHOLDS[int(passes.argmax())],
    }
    for name, value in figures.items():
        print(f"{name:36} {value}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    # 1e-10 in the divisor of the published script is all that may differ
    same = difference < 1e-9 and figures["best_threshold"] == figures["best_threshold_pass_per_threshold"]
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
