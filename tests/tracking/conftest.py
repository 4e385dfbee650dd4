from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from wsss_zoo.artifacts.masks import heatmap_overlay, overlay
from wsss_zoo.tracking.panels import compose_panel

CLASS_NAMES = [
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus"),
    *("car", "cat", "chair", "cow", "diningtable", "dog", "horse"),
    *("motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
]
THRESHOLDS = [round(0.01 * i, 2) for i in range(60)]


def iou(mean: float, seed: int) -> list[float]:
    values = np.random.default_rng(seed).normal(mean, 0.12, len(CLASS_NAMES)).clip(0.05, 0.95)
    return [float(value) for value in values + mean - values.mean()]


def curve(peak: float, at: float) -> list[float]:
    return [peak * math.exp(-(((threshold - at) / 0.35) ** 2)) for threshold in THRESHOLDS]


def metrics(name: str, stage: str = "cam", gain: float = 0.0) -> dict[str, Any]:
    """What the pipeline writes for a run with localization maps, pseudo labels and DeepLab."""
    title = stage.upper()
    network = {
        "stage": stage,
        "method": f"wsss_zoo.methods.{stage}.{title}",
        "backbone": "resnet50",
        "initial_weights": "imagenet",
        "trained_on": "train",
        "masks": "image-level labels only",
    }
    deeplab = {**network, "stage": "deeplab", "method": "wsss_zoo.methods.deeplab.DeepLab", "masks": "pseudo"}
    shared = {
        "images": "1,464 of 1,464 images of train.txt",
        "ground_truth": "VOC SegmentationClass",
        "seed": 0,
    }
    maps = curve(0.4823 + gain, 0.17)
    best = max(range(60), key=lambda i: maps[i])
    val = {**shared, "images": "1,449 images of val.txt"}
    return {
        "recipe": name,
        "title": f"{title} on VOC 2012 <tags & masks>",
        "description": "Localization maps, dense CRF pseudo labels and DeepLab v2.",
        "created": "2025-11-21T05:13:00+00:00",
        "class_names": CLASS_NAMES,
        "rows": [
            {
                "stage": stage,
                "artifact": "maps",
                "split": "train",
                "label": f"{title} (best threshold)",
                "miou": maps[best],
                "iou": iou(maps[best], 1),
                "n_images": 1464,
                "details": {
                    "best_threshold": THRESHOLDS[best],
                    "fixed_threshold": 0.3,
                    "fixed_miou": maps[30],
                    "fixed_iou": iou(maps[30], 2),
                    "pxap": 0.5512,
                    "curve": {"thresholds": THRESHOLDS, "miou": maps},
                },
                "provenance": {
                    **shared,
                    "networks": [network],
                    "scales": [0.5, 1.0, 1.5, 2.0],
                    "flip": True,
                    "crf": None,
                    "image_labels_used": True,
                    "threshold": THRESHOLDS[best],
                    "threshold_chosen_on": "ground truth of train (oracle)",
                },
            },
            {
                "stage": "pseudo",
                "artifact": "masks",
                "split": "train",
                "label": "Pseudo labels",
                "miou": 0.5391 + gain,
                "iou": iou(0.5391 + gain, 3),
                "n_images": 1464,
                "details": {},
                "provenance": {**shared, "networks": [network], "image_labels_used": True},
            },
            *(
                {
                    "stage": "deeplab",
                    "artifact": artifact,
                    "split": "val",
                    "label": label,
                    "miou": miou + gain,
                    "iou": [*iou(miou + gain, 4)[:-1], None],
                    "n_images": 1449,
                    "details": {},
                    "provenance": {
                        **val,
                        "networks": [network, deeplab],
                        "scales": [1.0],
                        "flip": False,
                        "crf": crf,
                    },
                }
                for artifact, label, miou, crf in (
                    ("masks", "DeepLab", 0.6174, None),
                    ("masks_crf", "DeepLab + CRF", 0.6288, "deeplab"),
                )
            ),
        ],
        "stages": [
            {
                "name": stage,
                "title": title,
                "status": "done",
                "seconds": {"fit": 3671.2, "predict": 401.3, "evaluate": 21.0},
                "images_per_second": {"fit": 60.2, "predict": 3.64},
                "bytes": 123_456_789,
                "peak_memory_mb": 900,
                "peak_gpu_memory_mb": 11_264,
                "host": "node-07",
            },
            {
                "name": "pseudo",
                "title": "Pseudo labels",
                "status": "done",
                "seconds": {"refine": 612.0},
                "images_per_second": {"refine": 2.39},
                "bytes": 23_000_000,
                "peak_memory_mb": 1900,
                "host": "node-07",
            },
        ],
        "software": {"wsss-zoo": "0.1.0", "torch": "2.9.0"},
    }


def scene(seed: int, height: int = 375, width: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """A picture of one or two blobs on a gradient, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ground = np.stack([60 + 90 * y / height, 90 + 60 * x / width, 140 - 60 * y / height], axis=-1)
    image = Image.fromarray((ground + rng.normal(0, 8, ground.shape)).clip(0, 255).astype(np.uint8))
    mask = Image.new("L", (width, height), 0)
    for label in rng.integers(1, 21, 2):
        cx, cy, r = (
            rng.integers(120, width - 120),
            rng.integers(100, height - 100),
            int(rng.integers(60, 110)),
        )
        box = (cx - r, cy - r * 0.8, cx + r, cy + r * 0.8)
        ImageDraw.Draw(image).ellipse(box, fill=tuple(int(c) for c in rng.integers(60, 230, 3)))
        ImageDraw.Draw(mask).ellipse(box, fill=int(label))
    return np.asarray(image), np.asarray(mask)


def panel(seed: int) -> np.ndarray:
    image, mask = scene(seed)
    heat = (
        np.asarray(Image.fromarray(np.uint8(mask > 0) * 255).resize((16, 12)).resize(mask.shape[::-1])) / 255
    )
    grown = np.where(heat > 0.35, mask.max(), 0).astype(np.uint8)
    tiles = [
        ("ground truth", overlay(image, mask)),
        (f"CAM: {CLASS_NAMES[mask.max()]}", heatmap_overlay(image, heat)),
        ("Pseudo labels", overlay(image, grown)),
        ("DeepLab + CRF", overlay(image, np.roll(mask, 7, axis=1))),
    ]
    return compose_panel(image, tiles)


def write_training_log(path: Path, steps: int = 900, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "lr-SGD/pg1", "lr-SGD/pg2", "step", "train/loss", "val/miou"])
        writer.writeheader()
        for step in range(9, steps, 10):
            rate = 0.01 * (1 - step / steps) ** 0.9
            writer.writerow({"step": step, "lr-SGD/pg1": rate, "lr-SGD/pg2": 10 * rate})
            loss = 0.12 + 0.5 * math.exp(-step / 200) + rng.normal(0, 0.02)
            writer.writerow({"epoch": step // 100, "step": step, "train/loss": loss})
            if step % 100 == 99:
                miou = 0.6 * (1 - math.exp(-step / 300))
                writer.writerow({"epoch": step // 100, "step": step, "val/miou": miou})


def write_run(
    root: Path, name: str = "voc2012/cam", stage: str = "cam", gain: float = 0.0, pictures: int = 2
) -> Path:
    folder = root / "runs" / name
    (folder / "panels").mkdir(parents=True)
    content = metrics(name, stage, gain)
    (folder / "metrics.json").write_text(json.dumps(content))
    (folder / "recipe.yaml").write_text(f"name: {name}\nseed: 0\n")
    for i in range(pictures):
        Image.fromarray(panel(i)).save(folder / "panels" / f"2007_{i:06d}.png")
    write_training_log(folder / stage / "logs" / "metrics.csv", seed=len(name))
    write_training_log(folder / "deeplab" / "logs" / "metrics.csv", seed=len(name) + 1)
    return folder


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a whole run folder below `tmp_path / "runs"` and returns it."""
    return partial(write_run, tmp_path)
