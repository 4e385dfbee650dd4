"""The dense CRF against pydensecrf: the same labels, how much faster, in how much memory.

    python benchmarks/dense_crf.py --voc-root VOCdevkit/VOC2012 [--images 100] [--json result.json]
        [--plot scaling.png]

Needs pydensecrf (pip install "wsss-zoo[crf]") and Linux (peak memory is read from /proc). Scores are made
from the masks: blurred, with noise, normalised; so are the ones of classes that an image does not show,
where it shows too few. Parameters are those of "psa", T = 10.

Each row is measured in turns within this run, a few images at a time, and the best of the repetitions
counts for each side: other work on the machine then hits all alike. pydensecrf is called image by image on
one core, and by two processes with half of the images each. Making scores is not timed, energies are: each
side takes probabilities. The ratio of processor times (cpu) says what one core does against one core, and
depends less on what else runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.refine import CRF_PARAMETERS, DenseCRF
from wsss_zoo.refine.crf.numba_lattice import appearance_lattice, smoothness_lattice
from wsss_zoo.refine.crf.numba_mean_field import _BLUR, _UPDATE

# Images whose scores are held at once; a multiple of the cores.
CHUNK = 10
PSA = CRF_PARAMETERS["psa"]

Scores = npt.NDArray[np.float32]
Pair = tuple[npt.NDArray[np.uint8], Scores]


def scores_like(mask: npt.NDArray[np.uint8], planes: int, seed: int) -> Scores:
    """Probabilities `(planes, H, W)` of background, the classes of a mask and, if these are few, others."""
    rng = np.random.default_rng(seed)
    present = [label for label in np.unique(mask) if 0 < label < 255]
    absent = [label for label in range(1, 255) if label not in present]
    height, width = mask.shape
    coarse = (height // 30 + 2, width // 30 + 2)
    factors = (height / coarse[0], width / coarse[1])
    scores = [
        gaussian_filter((mask == label).astype(np.float32), 12)
        + 0.25 * zoom(rng.uniform(0.01, 1, coarse).astype(np.float32), factors, order=1, mode="nearest")
        for label in [0, *present, *absent][:planes]
    ]
    stacked = np.stack(scores)
    return stacked / stacked.sum(0)


def read(root: Path, name: str, planes: int) -> Pair:
    """Image `(H, W, 3)` and scores; 0 planes stands for background and the classes present."""
    with Image.open(root / "JPEGImages" / f"{name}.jpg") as opened:
        image = np.array(opened.convert("RGB"))
    mask = load_mask(root / "SegmentationClassAug" / f"{name}.png")
    count = planes or 1 + len(np.setdiff1d(mask, (0, 255)))
    return image, scores_like(mask, count, seed=int(name.replace("_", "")) % 2**32)


def to_tensors(pair: Pair) -> tuple[Tensor, Tensor]:
    """As DenseCRF takes them."""
    return torch.from_numpy(pair[0]).permute(2, 0, 1), torch.from_numpy(pair[1])


def reference(
    image: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """pydensecrf as the published code of the field calls it."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    planes, height, width = probabilities.shape
    crf = DenseCRF2D(width, height, planes)
    crf.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(probabilities)))
    crf.addPairwiseGaussian(sxy=PSA.sxy_gauss, compat=PSA.compat_gauss)
    crf.addPairwiseBilateral(
        sxy=PSA.sxy_bilateral, srgb=PSA.srgb, rgbim=np.ascontiguousarray(image), compat=PSA.compat_bilateral
    )
    return np.array(crf.inference(PSA.iterations)).reshape(probabilities.shape)


def seconds(call: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def core_seconds(call: Callable[[], Any]) -> float:
    """Processor time of one call on one thread, which other programs lengthen less than they do wall time."""
    start = time.process_time()
    call()
    return time.process_time() - start


def clocks(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall-clock time and processor time of all threads of one call."""
    start = time.process_time()
    wall = seconds(call)
    return wall, time.process_time() - start


def _reference_process(
    barrier: Barrier, inbox: multiprocessing.Queue[Any], outbox: multiprocessing.Queue[Any]
) -> None:
    """Run the reference on lists of images; the clock starts when both processes hold theirs."""
    torch.set_num_threads(1)
    while (pairs := inbox.get()) is not None:
        barrier.wait()
        start = time.perf_counter()
        for image, sets in pairs:
            for probabilities in sets:
                reference(image, probabilities)
        outbox.put(time.perf_counter() - start)


class TwoProcesses:
    """The reference in two processes, half of the images each."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.barrier = context.Barrier(2)
        self.inboxes = [context.Queue(), context.Queue()]
        self.outbox = context.Queue()
        self.processes = [
            context.Process(target=_reference_process, args=(self.barrier, inbox, self.outbox), daemon=True)
            for inbox in self.inboxes
        ]
        for process in self.processes:
            process.start()

    def seconds(self, pairs: list[tuple[Any, Any]]) -> float:
        """Time until the slower of the two is finished."""
        for index, inbox in enumerate(self.inboxes):
            inbox.put(pairs[index::2])
        return max(self.outbox.get() for _ in self.processes)

    def close(self) -> None:
        """End both."""
        for inbox in self.inboxes:
            inbox.put(None)
        for process in self.processes:
            process.join()


def throughput(
    root: Path, names: list[str], planes: int, repeats: int, pair_of_sets: bool, others: TwoProcesses
) -> dict[str, Any]:
    """One row of the table: seconds an image of each side, and how far the labels agree."""
    crf = DenseCRF("psa")
    best = dict.fromkeys(("ours", "ours_cpu", "reference", "reference_cpu", "reference_two_processes"), 0.0)
    agreement: list[float] = []
    difference = 0.0
    for first in range(0, len(names), CHUNK):
        pairs = [read(root, name, planes) for name in names[first : first + CHUNK]]
        # PSA's pair: background made strong and made weak
        sets = [[p, p * np.linspace(0.5, 1, len(p), dtype=np.float32)[:, None, None]] for _, p in pairs]
        if not pair_of_sets:
            sets = [[p] for _, p in pairs]
        images = [to_tensors(pair)[0] for pair in pairs]
        tensors = [[torch.from_numpy(p) for p in s] for s in sets]
        results: list[list[Tensor]] = []
        references: list[list[Any]] = []

        def run_ours() -> None:
            results[:] = crf(images, tensors)  # noqa: B023

        def run_reference() -> None:
            references[:] = [[reference(i, p) for p in s] for (i, _), s in zip(pairs, sets, strict=True)]  # noqa: B023

        rounds = [
            (
                *clocks(run_ours),
                *clocks(run_reference),
                others.seconds([(i, s) for (i, _), s in zip(pairs, sets, strict=True)]),
            )
            for _ in range(repeats)
        ]
        for key, column in zip(best, zip(*rounds, strict=True), strict=True):
            best[key] += min(column)
        for mine, theirs in zip(results, references, strict=True):
            for marginals, expected in zip(mine, theirs, strict=True):
                agreement.append(float((marginals.numpy().argmax(0) == expected.argmax(0)).mean()))
                difference = max(difference, float(np.abs(marginals.numpy() - expected).mean()))
    each = {key: value / len(names) for key, value in best.items()}
    return {
        "images": len(names),
        "planes": planes or "present",
        "sets": 2 if pair_of_sets else 1,
        **{f"ms_{key}": round(1e3 * value, 1) for key, value in each.items()},
        "ratio": round(each["reference"] / each["ours"], 2),
        "ratio_two_processes": round(each["reference_two_processes"] / each["ours"], 2),
        "ratio_cpu": round(each["reference_cpu"] / each["ours_cpu"], 2),
        "agreement_worst": min(agreement),
        "agreement_mean": round(float(np.mean(agreement)), 6),
        "mean_difference_worst": difference,
    }


def _status(key: str) -> float:
    """A line of /proc/self/status in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {key}; peak memory is measured on Linux only")


def peak_memory(root: Path, names: list[str], planes: int, side: str) -> None:
    """Run in a process of its own: print MB before the first image and at the peak."""
    image, scores = read(root, names[0], planes)
    small = image[:32, :32], np.ascontiguousarray(scores[:, :32, :32])
    crf = DenseCRF("psa")
    _ = reference(*small) if side == "reference" else crf([to_tensors(small)[0]], [to_tensors(small)[1]])
    del image, scores
    pairs: Iterator[Pair] = (read(root, name, planes) for name in names)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    if side == "reference":
        for pair in pairs:
            reference(*pair)
    else:
        for _ in crf.stream(to_tensors(pair) for pair in pairs):
            pass
    print(json.dumps({"before": before, "peak": _status("VmHWM")}))


def memory(arguments: argparse.Namespace, planes: int) -> dict[str, Any]:
    """Peak memory of both sides, each in a process of its own with the same imports."""
    row: dict[str, Any] = {"planes": planes}
    for side in ("ours", "reference"):
        command = [
            *(sys.executable, __file__, "--voc-root", str(arguments.voc_root), "--split", arguments.split),
            *("--images", "12", "--threads", str(arguments.threads)),
            *("--memory-of", side, "--planes", str(planes)),
        ]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        figures = json.loads(output.splitlines()[-1])
        row[f"mb_peak_{side}"] = round(figures["peak"])
        row[f"mb_added_{side}"] = round(figures["peak"] - figures["before"])
    row["peak_ratio"] = round(row["mb_peak_ours"] / row["mb_peak_reference"], 2)
    row["added_ratio"] = round(row["mb_added_ours"] / row["mb_added_reference"], 2)
    return row


def phases(image: npt.NDArray[np.uint8], planes: int, repeats: int) -> dict[str, Any]:
    """Where the processor time of one image goes, ms, beside what moving the bytes would take."""
    height, width, _ = image.shape
    pixels = height * width
    lanes = 4 if planes <= 4 else 8
    blocks = -(-planes // lanes)
    smooth = smoothness_lattice(height, width, PSA.sxy_gauss, PSA.compat_gauss)
    appear = appearance_lattice(image, PSA.sxy_bilateral, PSA.srgb, PSA.compat_bilateral)
    rng = np.random.default_rng(0)
    scores = rng.random((pixels * blocks, lanes), dtype=np.float32)
    sizes = [(kernel.neighbours.shape[1] + 1) * blocks for kernel in (smooth, appear)]
    old, new = ([np.zeros((size, lanes), np.float32) for size in sizes] for _ in range(2))
    row = np.empty((blocks, lanes), np.float32)

    def update(last: bool) -> None:
        lattices = smooth.vertices, smooth.weights, appear.vertices, appear.weights
        _UPDATE[lanes](scores, *lattices, *old, *new, row, 1, blocks, last)

    def blur() -> None:
        for index, kernel in enumerate((smooth, appear)):
            _BLUR[lanes](new[index], old[index], kernel.neighbours, blocks)

    calls: dict[str, Callable[[], Any]] = {
        "appearance_lattice": lambda: appearance_lattice(image, PSA.sxy_bilateral, PSA.srgb, 10.0),
        "smoothness_lattice": lambda: smoothness_lattice.__wrapped__(height, width, PSA.sxy_gauss, 3.0),
        "slice_and_softmax": lambda: update(True),
        "update": lambda: update(False),
        "blur": blur,
    }
    best = {key: min(core_seconds(call) for _ in range(repeats)) for key, call in calls.items()}
    large = np.zeros(2**26, np.float32)
    copy = np.empty_like(large)
    bandwidth = 2 * large.nbytes / min(core_seconds(lambda: np.copyto(copy, large)) for _ in range(repeats))
    # Each update reads the scores and both lattices once, and the values at the vertices go in and out;
    # these stay in the cache, the rest does not.
    streamed = scores.nbytes + sum(k.vertices.nbytes + k.weights.nbytes for k in (smooth, appear))
    return {
        "planes": planes,
        "size": f"{height}x{width}",
        "vertices": [kernel.neighbours.shape[1] for kernel in (smooth, appear)],
        **{f"ms_{key}": round(1e3 * value, 2) for key, value in best.items()},
        "ms_splat": round(1e3 * (best["update"] - best["slice_and_softmax"]), 2),
        "mb_streamed_an_update": round(streamed / 1e6, 1),
        "gb_a_second_copy": round(bandwidth / 1e9, 1),
        "ms_bandwidth_limit_an_update": round(1e3 * streamed / bandwidth, 2),
    }


def scaling(image: Image.Image, mask: Image.Image, repeats: int) -> list[dict[str, Any]]:
    """Processor time of one image on one thread over size (4 planes) and planes (375 x 500)."""
    settings = [(factor, 4) for factor in (0.25, 0.5, 1, 1.5, 2)] + [(1, k) for k in (2, 8, 16, 21, 40, 81)]
    crf = DenseCRF("psa")
    rows = []
    for factor, planes in settings:
        size = (round(500 * factor), round(375 * factor))
        pixels = np.array(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
        scores = scores_like(np.array(mask.resize(size, Image.Resampling.NEAREST)), planes, seed=0)
        tensors = to_tensors((pixels, scores))
        ours = min(core_seconds(lambda: crf([tensors[0]], [tensors[1]])) for _ in range(repeats))  # noqa: B023
        theirs = min(core_seconds(lambda: reference(pixels, scores)) for _ in range(repeats))  # noqa: B023
        rows.append(
            {
                "height": size[1],
                "width": size[0],
                "planes": planes,
                "ms_ours": round(1e3 * ours, 1),
                "ms_reference": round(1e3 * theirs, 1),
                "ratio": round(theirs / ours, 2),
            }
        )
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Two log-log panels: over pixels and over planes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    panels: list[tuple[str, Callable[[dict[str, Any]], float], Callable[[dict[str, Any]], bool]]] = [
        ("pixels (4 planes)", lambda row: row["height"] * row["width"], lambda row: row["planes"] == 4),
        ("planes (375 x 500)", lambda row: row["planes"], lambda row: row["width"] == 500),
    ]
    for axis, (title, x_of, chosen) in zip(axes, panels, strict=True):
        points = sorted((row for row in rows if chosen(row)), key=x_of)
        for key, label in (("ms_reference", "pydensecrf"), ("ms_ours", "DenseCRF, one thread")):
            axis.loglog([x_of(p) for p in points], [p[key] for p in points], marker="o", label=label)
        axis.set(xlabel=title, ylabel="ms of processor time an image, T = 10")
        axis.minorticks_off()
        axis.set_xticks([x_of(p) for p in points], [f"{x_of(p):,}" for p in points], fontsize=7)
        axis.grid(alpha=0.3, which="both")
        axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """Print rows under their keys."""
    print(f"\n{title}")
    print(" | ".join(rows[0]))
    for row in rows:
        print(" | ".join(str(value) for value in row.values()), flush=True)


def main() -> int:
    """Run everything; the exit status is 1 where labels of an image agree on less than 99.9 % of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--voc-root", type=Path, required=True)
    parser.add_argument("--split", default="small_val", help="list in ImageSets/Segmentation")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--planes", type=int, nargs="+", default=[4, 21])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--plot", type=Path, help="write a picture of the scaling over size and planes")
    parser.add_argument("--memory-of", choices=["ours", "reference"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    names = (args.voc_root / "ImageSets" / "Segmentation" / f"{args.split}.txt").read_text().split()
    names = names[: args.images]
    if args.memory_of:
        peak_memory(args.voc_root, names, args.planes[0], args.memory_of)
        return 0

    image, scores = read(args.voc_root, names[0], 21)
    picture, planes = to_tensors((image, scores))
    crf = DenseCRF("psa")
    first_calls = seconds(lambda: crf([picture], [planes[:4]])), seconds(lambda: crf([picture], [planes]))
    print(f"first calls (compiled or read from the cache): {first_calls[0]:.1f} s, {first_calls[1]:.1f} s")
    others = TwoProcesses()
    rows = [throughput(args.voc_root, names, k, args.repeats, False, others) for k in args.planes]
    rows.append(throughput(args.voc_root, names, 0, args.repeats, True, others))
    others.close()
    show(f"throughput, {args.threads} threads; ms an image", rows)
    peaks = [memory(args, k) for k in args.planes]
    show("peak memory of a process, MB; added: after imports and a first small image", peaks)
    parts = [phases(image, k, 3 * args.repeats) for k in args.planes]
    show("one image on one core, ms of processor time", parts)
    with (
        Image.open(args.voc_root / "JPEGImages" / f"{names[0]}.jpg") as opened,
        Image.open(args.voc_root / "SegmentationClassAug" / f"{names[0]}.png") as mask,
    ):
        torch.set_num_threads(1)
        scales = scaling(opened, mask, args.repeats)
    show("scaling, one thread, ms of processor time", scales)
    if args.plot:
        plot(scales, args.plot)
    if args.json:
        figures = {"throughput": rows, "memory": peaks, "phases": parts, "scaling": scales}
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if min(row["agreement_worst"] for row in rows) >= 0.999 else 1


if __name__ == "__main__":
    sys.exit(main())
