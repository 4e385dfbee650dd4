"""SaliencyMetrics against PySODMetrics: the same numbers, how much faster.

    python benchmarks/saliency_metrics.py --reference-python /path/to/other/env/bin/python
        [--pairs 48] [--size 352 352] [--threads 2] [--json result.json]

The other environment has pysodmetrics==1.6.2 (it pins packages, so it cannot live in this one). Both
sides score the same synthetic pairs with MAE, F, E, S and weighted F, taking turns in groups, so that a
busy machine slows both down. The reference runs alone in its process meanwhile, one pair after the other,
as it has no other way; ours is timed one pair an update, in lists and in batches. Images are in memory;
processor time is that of all threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

GROUP = 16
SCORES = ("mae", "adp_f", "f", "precision", "recall", "adp_e", "e", "s", "wf")


def synthetic_pairs(count: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Noisy blobs against ellipses, uint8 `(count, H, W)`; hardly any level of the background is 0."""
    rng = np.random.default_rng(0)
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    maps, masks = np.empty((2, count, height, width), np.uint8)
    for i in range(count):
        centre, radius = rng.uniform(0.3, 0.7, 2) * size, rng.uniform(0.1, 0.3, 2) * size
        distance = np.hypot((rows - centre[0]) / radius[0], (columns - centre[1]) / radius[1])
        noise = rng.normal(0, 20, size)
        maps[i] = np.clip(np.rint(255 * np.exp(-(distance**3)) + noise), 0, 255)
        masks[i] = 255 * (distance < 1)
    return maps, masks


def serve_reference(file: Path) -> None:
    """Score the group whose first and last index is on each line read; answer its seconds, then scores."""
    import py_sod_metrics as reference

    warnings.simplefilter("ignore")
    pairs = np.load(file, allow_pickle=False)
    maps, masks = pairs["maps"], pairs["masks"]
    f, e = reference.Fmeasure(), reference.Emeasure()
    mae, s, wf = reference.MAE(), reference.Smeasure(), reference.WeightedFmeasure()
    for line in sys.stdin:
        start, stop = map(int, line.split())
        wall, cpu = time.perf_counter(), time.process_time()
        for i in range(start, stop):
            for metric in (mae, f, e, s, wf):
                metric.step(maps[i], masks[i])
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
    f_results, e_results = f.get_results(), e.get_results()["em"]
    values = (
        mae.get_results()["mae"],
        f_results["fm"]["adp"],
        f_results["fm"]["curve"],
        f_results["pr"]["p"],
        f_results["pr"]["r"],
        e_results["adp"],
        e_results["curve"],
        s.get_results()["sm"],
        wf.get_results()["wfm"],
    )
    print(json.dumps({name: np.asarray(value).tolist() for name, value in zip(SCORES, values, strict=True)}))


def main() -> int:
    """Run both sides, print the figures; the exit status is 1 where the scores differ by more than 1e-6."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference-python", required=True)
    parser.add_argument("--pairs", type=int, default=48)
    parser.add_argument("--size", type=int, nargs=2, default=(352, 352), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()

    import torch

    from wsss_zoo.metrics import SaliencyMetrics

    torch.set_num_threads(args.threads)
    maps, masks = synthetic_pairs(args.pairs, tuple(args.size))
    floats = maps / np.float32(255)
    metrics = {name: SaliencyMetrics() for name in ("single", "list", "batch")}
    ways: dict[str, Callable[[int, int], None]] = {
        "single": lambda start, stop: (
            [metrics["single"].update([floats[i]], [masks[i]]) for i in range(start, stop)] and None
        ),
        "list": lambda start, stop: metrics["list"].update(list(floats[start:stop]), list(masks[start:stop])),
        "batch": lambda start, stop: metrics["batch"].update(floats[start:stop], masks[start:stop]),
    }
    seconds = {name: np.empty((0, 2)) for name in ("reference", *ways)}

    def note(name: str, wall: float, cpu: float, count: int) -> None:
        seconds[name] = np.append(seconds[name], [[wall / count, cpu / count]], axis=0)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.npz"
        np.savez(file, maps=maps, masks=masks)
        command = [args.reference_python, __file__, "--serve", str(file)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reference:
            assert reference.stdin is not None
            assert reference.stdout is not None
            for start in range(0, args.pairs, GROUP):
                stop = min(start + GROUP, args.pairs)
                print(start, stop, file=reference.stdin, flush=True)
                note("reference", *map(float, reference.stdout.readline().split()), stop - start)
                for name, way in ways.items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    way(start, stop)
                    note(name, time.perf_counter() - wall, time.process_time() - cpu, stop - start)
            reference.stdin.close()
            expected = json.loads(reference.stdout.readline())

    difference = max(
        float(np.abs(metric.compute()[name].numpy() - np.asarray(expected[name])).max())
        for metric in metrics.values()
        for name in SCORES
    )
    figures: dict[str, float | int | list[int]] = {
        "pairs": args.pairs,
        "size": list(args.size),
        "threads": args.threads,
    }
    medians = {name: 1000 * np.median(values, axis=0) for name, values in seconds.items()}
    for name, (wall, cpu) in medians.items():
        figures[f"{name}_ms_per_pair"] = round(float(wall), 2)
        figures[f"{name}_cpu_ms_per_pair"] = round(float(cpu), 2)
    for name in ways:
        figures[f"{name}_times_faster"] = round(float(medians["reference"][0] / medians[name][0]), 1)
    figures["largest_difference"] = difference
    for key, value in figures.items():
        print(f"{key:28} {value}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if difference < 1e-6 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve_reference(Path(sys.argv[2]))
    else:
        sys.exit(main())
