"""DCSM's derivatives, all classes batched, against one backward a class: the same numbers, time, peak memory.

    python benchmarks/dcsm_backward.py [--classes 4] [--scales 400 500 600] [--repeats 3] [--threads 2]

Both sides take VGG16 (random weights) and one image at each scale, and end with the channel maxima of the
derivatives at the nine layers for every class.

*ours* goes forward once a scale, records nothing below pool2, goes back once for all classes, layer by layer,
and keeps one derivative at a time; fc6 is a matrix product over windows. *per class* is the plain reading of
the method: the network in modules, fc6 a 7x7 convolution, a backward hook on each ReLU, hooks that keep the
derivatives, and for every class the score's own `backward()`, which ends at the image. It goes forward once a
scale, too; *release* goes forward for every class again.

Each side runs in a process of its own, so that the peak of its memory is its own, and the sides take turns;
medians are compared.
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
from torch import Tensor, nn

from wsss_zoo.backbones import create_backbone
from wsss_zoo.methods.dcsm.derivatives import class_derivatives
from wsss_zoo.methods.dcsm.maps import channel_maxima
from wsss_zoo.methods.dcsm.network import DCSMNetwork

Maxima = dict[str, Tensor]
Side = Callable[[DCSMNetwork, Tensor, list[int]], Maxima]


def build_network() -> DCSMNetwork:
    """VGG16 with random weights; nothing learns."""
    torch.manual_seed(0)
    network = DCSMNetwork(create_backbone("vgg16_fcn"), 20).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    return network


def ours(network: DCSMNetwork, image: Tensor, classes: list[int]) -> Maxima:
    """One way back for all classes."""
    traced = network.trace(image)
    ways = class_derivatives(traced.score_map, traced.maps, classes)
    return {layer: channel_maxima(derivative) for layer, derivative in ways}


class Plain:
    """The network in modules with hooks."""

    def __init__(self, forward_each_class: bool) -> None:
        self.forward_each_class = forward_each_class
        self.network: nn.Sequential | None = None
        self.derivatives: Maxima = {}

    def build(self, network: DCSMNetwork) -> nn.Sequential:
        backbone = network.backbone
        modules: dict[str, nn.Module] = {}
        for group, count in enumerate((2, 2, 3, 3, 3), 1):
            for index in range(1, count + 1):
                modules[f"conv{group}_{index}"] = backbone.get_submodule(f"conv{group}_{index}")
                modules[f"relu{group}_{index}"] = nn.ReLU()
            modules[f"pool{group}"] = nn.MaxPool2d(2, 2, ceil_mode=True)
        for name, side in (("fc6", 7), ("fc7", 1)):
            linear = backbone.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            layer = nn.Conv2d(linear.in_features // side**2, linear.out_features, side)
            layer.weight.data, layer.bias.data = linear.weight.view_as(layer.weight), linear.bias  # type: ignore[union-attr]
            modules[name], modules[f"relu_{name}"] = layer, nn.ReLU()
        modules["fc8"] = network.classifier
        plain = nn.Sequential()
        for name, module in modules.items():
            plain.add_module(name, module)
            if isinstance(module, nn.ReLU):
                module.register_full_backward_hook(lambda module, inputs, outputs: (inputs[0].clamp(min=0),))
            elif name in network.layers:
                module.register_full_backward_hook(self._keeper(name))
        return plain.eval().requires_grad_(False)

    def _keeper(self, name: str) -> Callable[..., None]:
        def keep(module: nn.Module, inputs: tuple[Tensor], outputs: tuple[Tensor]) -> None:
            self.derivatives[name] = inputs[0]

        return keep

    def __call__(self, network: DCSMNetwork, image: Tensor, classes: list[int]) -> Maxima:
        """One `backward()` a class."""
        if self.network is None:
            self.network = self.build(network)
        image = image.clone().requires_grad_()
        rows, scores = [], None
        for index in classes:
            if scores is None or self.forward_each_class:
                scores = self.network(image)
            scores[:, index].sum().backward(retain_graph=not self.forward_each_class)
            rows.append({layer: self.derivatives[layer].abs().amax(1) for layer in network.layers})
        return {layer: torch.cat([row[layer] for row in rows]) for layer in rows[0]}


SIDES: dict[str, Callable[[], Side]] = {
    "ours": lambda: ours,
    "per class": lambda: Plain(forward_each_class=False),
    "release": lambda: Plain(forward_each_class=True),
}


def serve(name: str, scales: list[int], classes: list[int], threads: int, pipe: Any) -> None:
    """A side in its own process: runs once for every request."""
    torch.set_num_threads(threads)
    network, side = build_network(), SIDES[name]()
    generator = torch.Generator().manual_seed(0)
    images = [50 * torch.randn(1, 3, scale, scale, generator=generator) for scale in scales]
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while pipe.recv():
        begin = time.perf_counter()
        results = [side(network, image, classes) for image in images]
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        means = {
            f"{n}/{layer}": m.mean((1, 2)).tolist() for n, r in enumerate(results) for layer, m in r.items()
        }
        pipe.send((seconds, (peak - start) / 1024, means))


def main() -> int:
    """Run all sides, print the table; exit status 1 where they differ or ours is not 1.5 times faster."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--scales", type=int, nargs="+", default=[400, 500, 600])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    processes, pipes = [], {}
    for name in args.sides:
        pipes[name], end = context.Pipe()
        arguments = (name, args.scales, list(range(args.classes)), args.threads, end)
        processes.append(context.Process(target=serve, args=arguments, daemon=True))
        processes[-1].start()
    times: dict[str, list[float]] = {name: [] for name in args.sides}
    figures: dict[str, Any] = {}
    for repeat in range(args.repeats + 1):  # the first round warms up
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds, peak, means = pipe.recv()
            if repeat:
                times[name].append(seconds)
            figures[name] = {"peak_mib": peak, "means": means}
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()

    reference = figures[args.sides[0]]["means"]
    for name in args.sides:
        figures[name]["seconds"] = statistics.median(times[name])
        figures[name]["difference"] = max(
            abs(a - b) / max(abs(b), 1e-30)
            for key, row in figures[name].pop("means").items()
            for a, b in zip(row, reference[key], strict=True)
        )
    for name, row in figures.items():
        ratio = row["seconds"] / figures[args.sides[0]]["seconds"]
        print(
            f"{name:16} {row['seconds']:8.2f} s  {ratio:5.2f} x  peak {row['peak_mib']:7.0f} MiB  "
            f"difference {row['difference']:.1e}"
        )
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        args.json.write_text(json.dumps(settings | figures, indent=2) + "\n")
    same = all(row["difference"] < 1e-3 for row in figures.values())
    compared = figures.get("per class", figures[args.sides[-1]])
    return 0 if same and compared["seconds"] >= 1.5 * figures[args.sides[0]]["seconds"] else 1


if __name__ == "__main__":
    sys.exit(main())
