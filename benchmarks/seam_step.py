"""SEAM's training step against a plain reading of its equations: the same numbers, how much faster.

    python benchmarks/seam_step.py [--steps 5] [--batch 2] [--crop 448] [--backbone resnet38d] [--threads 1]

Timed is a step from two views to the gradients: forward, all loss terms, backward. The backbone is the same
on both sides and would hide the difference, so by default its feature maps are given (random, of the shapes
of ResNet38d's) and what is left is what SEAM adds: classifier, pixel correlation, enlargement, losses.
`--backbone` puts a real one in front.

The plain side normalises, resizes and compares all 21 planes at the full size, and keeps the similarities of
all pairs of positions as the equations are written. Both sides run in this process with the same number of
threads and take turns; medians are compared. Before that, the correlation alone on the grid of a 1000 x 750
image, as inference at scale 2 meets it, with the peak of memory that each side adds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.backbones import create_backbone
from wsss_zoo.backbones.backbone import Backbone, Stage
from wsss_zoo.methods.seam.correlation import correlate
from wsss_zoo.methods.seam.losses import seam_losses
from wsss_zoo.methods.seam.network import SEAMNetwork
from wsss_zoo.methods.seam.planes import resize
from wsss_zoo.normalization import IMAGENET

NUM_CLASSES = 20


class GivenFeatures(Backbone):
    """Random maps of the shapes of ResNet38d's, the same for every call with images of a size."""

    stages = (Stage("conv4", 512, 8), Stage("conv5", 1024, 8), Stage("conv6", 4096, 8))
    normalization = IMAGENET

    def __init__(self) -> None:
        super().__init__()
        self.maps: dict[tuple[int, ...], dict[str, Tensor]] = {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        batch, _, height, width = images.shape
        if (height, width) not in self.maps:
            size = (-(-height // 8), -(-width // 8))
            self.maps[height, width] = {
                stage.name: torch.rand(batch, stage.channels, *size, device=images.device).requires_grad_()
                for stage in self.stages
            }
        return self.maps[height, width]


def plain_normalisation(maps: Tensor) -> Tensor:
    batch, planes = maps.shape[:2]
    positive = F.relu(maps)
    high = positive.view(batch, planes, -1).max(dim=-1)[0].view(batch, planes, 1, 1)
    low = positive.view(batch, planes, -1).min(dim=-1)[0].view(batch, planes, 1, 1)
    return F.relu(positive - low - 1e-5) / (high - low + 1e-5)


def plain_suppression(maps: Tensor) -> Tensor:
    highest = maps[:, 1:].max(dim=1, keepdim=True)[0]
    foreground = torch.where(maps[:, 1:] == highest, maps[:, 1:], torch.zeros_like(maps[:, 1:]))
    return torch.cat([maps[:, :1], foreground], dim=1)


def plain_correlation(maps: Tensor, keys: Tensor) -> Tensor:
    batch, _, height, width = keys.shape
    vectors = keys.flatten(2)
    vectors = vectors / (vectors.norm(dim=1, keepdim=True) + 1e-5)
    similarity = F.relu(vectors.transpose(1, 2) @ vectors)
    similarity = similarity / (similarity.sum(dim=1, keepdim=True) + 1e-5)
    return (maps.flatten(2) @ similarity).view(batch, -1, height, width)


def plain_forward(network: SEAMNetwork, images: Tensor) -> tuple[Tensor, Tensor]:
    maps = network.backbone(images)
    pcm, deepest = network.head.correlation, maps[network.backbone.stages[-1].name]
    assert pcm is not None
    assert network.pcm_stages is not None
    size, grid = images.shape[2:], deepest.shape[2:]
    activations = network.head.classifier(network.head.dropout(deepest))
    with torch.no_grad():
        positive = F.relu(activations)
        highest = positive.flatten(2).max(dim=-1)[0][:, :, None, None] + 1e-5
        cleaned = F.relu(positive - 1e-5) / highest
        cleaned = torch.cat([1 - cleaned[:, 1:].max(dim=1, keepdim=True)[0], cleaned[:, 1:]], dim=1)
        cleaned = plain_suppression(cleaned)
    levels = [F.interpolate(images, grid, mode="bilinear", align_corners=True)]
    for layer, name in zip((pcm.shallow, pcm.deep), network.pcm_stages, strict=True):
        level = maps[name].detach()
        levels.append(F.relu(layer(F.interpolate(level, grid, mode="bilinear", align_corners=True))))
    refined = plain_correlation(cleaned, pcm.key(torch.cat(levels, dim=1)))
    return (
        F.interpolate(activations, size, mode="bilinear", align_corners=True),
        F.interpolate(refined, size, mode="bilinear", align_corners=True),
    )


def plain_loss(views: list[tuple[Tensor, Tensor]], labels: Tensor) -> Tensor:
    (cam1, refined1), (cam2, refined2) = views
    label = F.pad(labels, (1, 0), value=1.0)[:, :, None, None]
    size = cam2.shape[2:]

    def shrink(maps: Tensor) -> Tensor:
        return F.interpolate(maps, size, mode="bilinear", align_corners=True)

    def smallest(maps: Tensor) -> Tensor:
        highest = (maps * label)[:, 1:].max(dim=1)[0].flatten(1)
        count = highest.shape[1] // 4
        values = torch.topk(highest, count, dim=-1, largest=False)[0]
        return F.relu(values).sum() / (count * len(maps))

    def classified(maps: Tensor) -> Tensor:
        scores = F.adaptive_avg_pool2d(maps, (1, 1))
        return F.multilabel_soft_margin_loss(scores[:, 1:, 0, 0], labels)

    def hardest(difference: Tensor) -> Tensor:
        flat = difference.flatten(1)
        return torch.topk(flat, int(flat.shape[1] * 0.2), dim=-1)[0].mean()

    loss = (classified(cam1) + classified(cam2) + smallest(refined1) + smallest(refined2)) / 2
    cam1 = shrink(plain_normalisation(cam1)) * label
    refined1 = shrink(plain_normalisation(refined1)) * label
    cam2 = plain_normalisation(cam2) * label
    refined2 = plain_normalisation(refined2) * label
    loss = loss + (cam1[:, 1:] - cam2[:, 1:]).abs().mean()
    cam1 = torch.cat([1 - cam1[:, 1:].max(dim=1, keepdim=True)[0], cam1[:, 1:]], dim=1)
    cam2 = torch.cat([1 - cam2[:, 1:].max(dim=1, keepdim=True)[0], cam2[:, 1:]], dim=1)
    target1, target2 = plain_suppression(cam1.detach()), plain_suppression(cam2.detach())
    return loss + hardest((target2 - refined1).abs()) + hardest((target1 - refined2).abs())


def seconds(run: Callable[[], object], device: str) -> float:
    """Wall-clock seconds of a call."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def inference(device: str) -> dict[str, float]:
    """The correlation alone: seconds and added memory of each side, ours first as the peak only rises."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(1, NUM_CLASSES + 1, 94, 125, generator=generator).to(device)
    keys = torch.randn(1, 192, 94, 125, generator=generator).to(device)
    correlate(maps[..., :8], keys[..., :8])
    figures, results = {}, []
    for name, compute in (("ours", correlate), ("plain", plain_correlation)):
        before = peak_bytes(device)
        figures[f"inference_seconds_{name}"] = seconds(
            lambda f=compute: results.append(f(maps, keys)), device
        )
        figures[f"inference_megabytes_{name}"] = (peak_bytes(device) - before) / 1e6
    figures["inference_difference"] = (results[0] - results[1]).abs().max().item()
    return figures


def peak_bytes(device: str) -> float:
    """The most memory that was in use so far."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def training(args: argparse.Namespace) -> dict[str, float]:
    """Median seconds of a step of each side, and how far loss and gradients are apart."""
    torch.manual_seed(0)
    backbone = create_backbone(args.backbone) if args.backbone else GivenFeatures()
    # dropout draws random numbers: off, so that both sides compute the same
    network = SEAMNetwork(backbone, NUM_CLASSES, dropout=0.0).to(args.device).eval()
    images = torch.randn(args.batch, 3, args.crop, args.crop, device=args.device)
    views = [images, resize(images, [int(0.3 * args.crop)] * 2)]
    labels = torch.zeros(args.batch, NUM_CLASSES, device=args.device)
    for index, row in enumerate(labels):  # one, two, one, two ... classes: 1.5 an image, as in VOC
        row[[index % NUM_CLASSES, (7 * index + index % 2) % NUM_CLASSES]] = 1

    def ours() -> Tensor:
        return torch.stack(list(seam_losses([network(x) for x in views], labels).values())).sum()

    def plain() -> Tensor:
        return plain_loss([plain_forward(network, x) for x in views], labels)

    results: dict[str, tuple[float, list[Tensor]]] = {}
    times: dict[str, list[float]] = {"ours": [], "plain": []}

    def step(name: str, loss: Callable[[], Tensor]) -> None:
        network.zero_grad()
        value = loss()
        value.backward()
        results[name] = value.item(), [p.grad.clone() for p in network.head.parameters()]

    for turn in range(args.steps + 1):
        for name, loss in (("ours", ours), ("plain", plain)):
            elapsed = seconds(lambda n=name, f=loss: step(n, f), args.device)
            if turn:  # the first turn warms up
                times[name].append(elapsed)
    ours_seconds, plain_seconds = (statistics.median(times[name]) for name in ("ours", "plain"))
    pairs = zip(results["ours"][1], results["plain"][1], strict=True)
    return {
        "step_seconds_ours": ours_seconds,
        "step_seconds_plain": plain_seconds,
        "step_ratio": plain_seconds / ours_seconds,
        "loss": results["ours"][0],
        "loss_difference": abs(results["ours"][0] - results["plain"][0]),
        "gradient_difference": max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs),
    }


def main() -> int:
    """Run both sides, print the table; exit status 1 where they differ or ours is over 5 % (noise) slower."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--crop", type=int, default=448)
    parser.add_argument("--backbone", help="a name of wsss_zoo.backbones; default: given feature maps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    figures = inference(args.device) | training(args)
    for name, value in figures.items():
        print(f"{name:28} {value:.4g}")
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        args.json.write_text(json.dumps(settings | figures, indent=2) + "\n")
    same = (
        figures["inference_difference"] < 1e-5
        and figures["loss_difference"] < 1e-5 * figures["loss"]
        and figures["gradient_difference"] < 1e-3
    )
    return 0 if same and figures["step_ratio"] >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
