"""What region growing and the dense CRF add to DSRG's training step.

    python benchmarks/dsrg_step.py [--batch 20] [--steps 5] [--classes 20] [--variant vgg16_aspp]
        [--device cpu] [--threads 1] [--backend auto] [--json result.json]

One step is what the release trains with: images of 321 x 321, score maps of 41 x 41, all 21 planes in the
CRF, ten iterations. Timed are its parts on the same score maps: the network forward and backward, the CRF of
the batch (which serves both the boundary loss and the growth), region growing on its marginals, and the rest
of the losses. `--variant none` leaves the network out, where only the cost of an image is wanted. On the CPU
processor time is counted, of all threads, which other work on the machine does not change much.

Region growing is timed beside a plain reading of the release: for each image and class one labelling call,
then one look at every component. Both must grow the same seeds; the benchmark fails otherwise. Score maps
are smooth noise that favours the classes of the image, seeds the places where it is highest, so that there
is something to grow.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from wsss_zoo.methods import DSRG
from wsss_zoo.methods.dsrg import (
    balanced_seed,
    constrain,
    crf_images,
    crf_log_marginals,
    grow,
    smooth_probabilities,
)
from wsss_zoo.normalization import CAFFE_BGR
from wsss_zoo.refine import DenseCRF

PIXELS, GRID = 321, 41


def draw(batch: int, classes: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, logits, labels (background first) and seeds; one or two classes an image, as in VOC."""
    generator = torch.Generator().manual_seed(0)
    coarse = 127 * torch.randn(batch, 3, 12, 12, generator=generator)
    images = F.interpolate(coarse, (PIXELS, PIXELS), mode="bicubic").clamp(-100, 130)
    labels = torch.zeros(batch, classes + 1)
    labels[:, 0] = 1
    for index, row in enumerate(labels):
        row[[1 + index % classes, 1 + (7 * index + index % 2) % classes]] = 1
    coarse = 4 * torch.randn(batch, classes + 1, 7, 7, generator=generator)
    logits = F.interpolate(coarse, (GRID, GRID), mode="bicubic") + 5 * labels[:, :, None, None]
    highest = logits.flatten(2).quantile(0.9, dim=2)[:, :, None, None]
    seeds = ((logits > highest) & (labels[:, :, None, None] > 0)).float()
    return tuple(item.to(device) for item in (images, logits, labels, seeds))  # type: ignore[return-value]


def plain_grow(seeds: Tensor, probabilities: Tensor, labels: Tensor, bg: float, fg: float) -> Tensor:
    """Region growing image by image, class by class, component by component."""
    grown = seeds.cpu().numpy().copy()
    arrays = (seeds.cpu().numpy(), probabilities.cpu().numpy(), labels.cpu().numpy())
    for given, scores, present, result in zip(*arrays, grown, strict=True):
        classes = np.flatnonzero(present)
        best = classes[scores[classes].argmax(0)]
        value = scores[classes].max(0)
        candidates = np.full(best.shape, -1)
        for plane in classes:
            candidates[given[plane] > 0] = plane
        sure = np.where(best == 0, value > bg, value > fg)
        candidates[sure] = best[sure]
        alone = given.sum(0) == 1
        for plane in classes:
            components, count = ndimage.label(candidates == plane, structure=np.ones((3, 3)))
            for component in range(1, count + 1):
                inside = components == component
                if (given[plane][inside] > 0).any():
                    result[plane][inside & ~(alone & (given[plane] == 0))] = 1
    return torch.from_numpy(grown).to(seeds.device)


def seconds(run: Callable[[], object], device: str, steps: int) -> float:
    """Median seconds of a call after one to warm up; on the CPU those of the processor."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    times = []
    for turn in range(steps + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = clock()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        if turn:
            times.append(clock() - start)
    return statistics.median(times)


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of every part for a batch, and what they are an image and as shares of the step."""
    images, logits, labels, seeds = draw(args.batch, args.classes, args.device)
    crf = DenseCRF("dsrg_loss", args.backend)
    probabilities = smooth_probabilities(logits)
    small = crf_images(images, (GRID, GRID), CAFFE_BGR)
    log_marginals = crf_log_marginals(small, probabilities, crf=crf)
    marginals = log_marginals.exp()
    grown = grow(seeds, marginals, labels)

    def losses() -> None:
        leaf = logits.clone().requires_grad_()
        scores = smooth_probabilities(leaf)
        (balanced_seed(scores, grown) + constrain(scores, log_marginals)).backward()

    parts: dict[str, Callable[[], object]] = {
        "crf": lambda: crf_log_marginals(crf_images(images, (GRID, GRID), CAFFE_BGR), probabilities, crf=crf),
        "grow": lambda: grow(seeds, marginals, labels),
        "losses": losses,
    }
    if args.variant != "none":
        model = DSRG(variant=args.variant, num_classes=args.classes).to(args.device).train()

        def network() -> None:
            model.zero_grad()
            model(images).backward(torch.ones_like(logits) / logits.numel())

        parts["network"] = network
    figures = {f"{name}_seconds": seconds(part, args.device, args.steps) for name, part in parts.items()}
    step = sum(figures.values())
    for name in ("crf", "grow"):
        figures[f"{name}_milliseconds_an_image"] = 1000 * figures[f"{name}_seconds"] / args.batch
        figures[f"{name}_share_of_step"] = figures[f"{name}_seconds"] / step
    plain = seconds(lambda: plain_grow(seeds, marginals, labels, 0.99, 0.85), args.device, args.steps)
    figures["grow_seconds_plain"] = plain
    figures["grow_ratio"] = plain / figures["grow_seconds"]
    figures["seeds"] = seeds.sum().item()
    figures["grown_seeds"] = grown.sum().item()
    figures["difference"] = (grown != plain_grow(seeds, marginals, labels, 0.99, 0.85)).sum().item()
    return figures


def main() -> int:
    """Print the table; exit status 1 where both sides grow different seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--variant", choices=("vgg16_aspp", "largefov", "v2", "none"), default="vgg16_aspp")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", choices=("auto", "numba", "torch", "pydensecrf"), default="auto")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = measure(args)
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}")
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        args.json.write_text(json.dumps(settings | figures, indent=2) + "\n")
    return 0 if figures["difference"] == 0 and figures["grown_seeds"] > figures["seeds"] else 1


if __name__ == "__main__":
    sys.exit(main())
