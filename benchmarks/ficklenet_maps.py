"""FickleNet's localization maps without expanded map and backward pass, against both: time, memory, numbers.

    python benchmarks/ficklenet_maps.py [--size 41] [--kernel 9] [--maps 200] [--compared 20] [--classes 2]

All sides take the same features `512 x size x size`, weights and selections, and end with the average and the
maximum of N normalised maps of every class.

*ours* projects the features once and adds the kept parts of each selection. *expanded* is the published way:
windows laid side by side, a mask on the s^2 times larger map, a convolution with stride s, and for each class
a backward pass to the features. *unfolded* is the same with the windows in columns and a matrix product in
place of the convolution, whose backward pass is slow on CPUs. The two make `--compared` maps one after the
other, and their time is scaled to N: each map costs the same. (`--compared 200` measures all.)

Each side runs in a process of its own, so that the peak of its memory is its own. Afterwards the training
step of the head (scores and gradients of a batch) is measured against an ordinary convolution of the same
kernel, which is the deterministic classifier.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.methods.ficklenet.expansion import expanded_selection, gradient_maps
from wsss_zoo.methods.ficklenet.head import FickleHead
from wsss_zoo.methods.ficklenet.localization import SampledMaps, over_maximum, sample_maps

_CHANNELS, _CLASSES = 512, 20


def ours(head: FickleHead, x: Tensor, classes: list[int], count: int) -> SampledMaps:
    """The closed form."""
    return sample_maps(head, x, torch.tensor(classes), count, torch.Generator().manual_seed(0))


def expanded(head: FickleHead, x: Tensor, classes: list[int], count: int) -> SampledMaps:
    """The published form, one selection after the other."""
    return one_by_one(gradient_maps, head, x, classes, count)


def unfolded(head: FickleHead, x: Tensor, classes: list[int], count: int) -> SampledMaps:
    """Windows in columns."""
    return one_by_one(unfolded_maps, head, x, classes, count)


def unfolded_maps(x: Tensor, head: FickleHead, kept: Tensor, classes: list[int]) -> Tensor:
    """As `gradient_maps`."""
    x = x.detach().requires_grad_()
    offsets, size = head.kernel**2, x.shape[2:]
    blocks = expanded_selection(kept, head, x)[0, 0].unflatten(0, (size[0], -1)).unflatten(2, (size[1], -1))
    factors = blocks.permute(1, 3, 0, 2).reshape(1, offsets, -1)
    windows = F.unfold(x, head.kernel, padding=head.kernel // 2)[0].unflatten(0, (-1, offsets)) * factors
    scores = (head.weight.detach().flatten(1) @ windows.flatten(0, 1)).mean(1)
    gradients = (torch.autograd.grad(scores[index], x, retain_graph=True)[0] for index in classes)
    return torch.stack([(x * gradient).sum(1).relu() for gradient in gradients], 1).detach()


def one_by_one(
    maps_of: Callable[..., Tensor], head: FickleHead, x: Tensor, classes: list[int], count: int
) -> SampledMaps:
    """The running average and maximum of `count` maps."""
    generator = torch.Generator().manual_seed(0)
    mean = maximum = torch.zeros(len(classes), *x.shape[2:])
    for _ in range(count):
        maps = over_maximum(maps_of(x, head, head.draw(1, x, generator), classes)[0])
        mean, maximum = mean + maps / count, torch.maximum(maximum, maps)
    return SampledMaps(mean, maximum)


SIDES: dict[str, Callable[..., SampledMaps]] = {"ours": ours, "expanded": expanded, "unfolded": unfolded}


def setting(args: argparse.Namespace, batch: int = 1) -> tuple[FickleHead, Tensor]:
    """The same weights and features everywhere."""
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    head = FickleHead(_CHANNELS, _CLASSES, args.kernel, 0.9)
    return head, torch.randn(batch, _CHANNELS, args.size, args.size).relu()


def serve(name: str, args: argparse.Namespace, pipe: Any) -> None:
    """A side in its own process: makes the compared maps, ours then all of them."""
    head, x = setting(args)
    classes = list(range(args.classes))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = args.compared
    begin = time.perf_counter()
    maps = SIDES[name](head, x, classes, count)
    seconds = time.perf_counter() - begin
    if name == "ours":  # warm now
        count = args.maps
        begin = time.perf_counter()
        SIDES[name](head, x, classes, count)
        seconds = time.perf_counter() - begin
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024
    pipe.send((seconds * args.maps / count, peak, maps.mean.numpy(), maps.maximum.numpy()))


def training_step(args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of scores and gradients of a batch: ours, and the convolution of the same kernel."""
    head, x = setting(args, args.batch)
    x.requires_grad_()

    def convolution(x: Tensor) -> Tensor:
        return F.conv2d(x, head.weight, head.bias, padding=args.kernel // 2).mean((2, 3))

    seconds = {}
    for name, scores in (("ours", head), ("convolution", convolution)):
        times = []
        for _ in range(args.repeats + 1):  # the first warms up
            begin = time.perf_counter()
            scores(x).sum().backward()
            times.append(time.perf_counter() - begin)
        seconds[name] = statistics.median(times[1:])
    return seconds


def main() -> int:
    """Run all sides; exit status 1 unless they agree and ours is 50 times faster in a tenth of the memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=41)
    parser.add_argument("--kernel", type=int, default=9)
    parser.add_argument("--maps", type=int, default=200)
    parser.add_argument("--compared", type=int, default=20)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    figures: dict[str, Any] = {}
    results: dict[str, Any] = {}
    for name in SIDES:
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=serve, args=(name, args, send), daemon=True)
        process.start()
        seconds, peak, *results[name] = receive.recv()
        process.join()
        pairs = zip(results["ours"], results[name], strict=True)
        difference = max(float(abs(a - b).max()) for a, b in pairs)
        figures[name] = {"seconds": seconds, "peak_mib": peak, "difference": difference}
        print(
            f"{name:9} {seconds:9.2f} s for {args.maps} maps  peak {peak:6.0f} MiB  "
            f"difference {difference:.0e}",
            flush=True,
        )
    plain = [figures[name] for name in SIDES if name != "ours"]
    speed = min(row["seconds"] for row in plain) / figures["ours"]["seconds"]
    memory = figures["ours"]["peak_mib"] / min(row["peak_mib"] for row in plain)
    print(f"at least {speed:.0f} times faster, in at most {100 * memory:.1f} % of the memory")
    step = training_step(args)
    print(
        f"scores and gradients of {args.batch} images: {step['ours']:.3f} s, "
        f"as a convolution {step['convolution']:.3f} s"
    )
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        summary = {"speed": speed, "memory": memory, "training_step": step}
        args.json.write_text(json.dumps(settings | figures | summary, indent=2) + "\n")
    same = all(row["difference"] < 1e-4 for row in plain)
    return 0 if speed >= 50 and memory < 0.1 and same else 1


if __name__ == "__main__":
    sys.exit(main())
