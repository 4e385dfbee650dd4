"""The `evaluate` step, and the same scores for any two folders (`wsss-zoo evaluate`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from wsss_zoo.artifacts.folder import finished_ids
from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS
from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.errors import DataError
from wsss_zoo.metrics import MeanIoU, SeedQuality, ThresholdSweep

if TYPE_CHECKING:
    from wsss_zoo.data.image_datamodule import ImageDataModule
    from wsss_zoo.pipeline.recipe import Evaluate

Kind = Literal["maps", "masks"]


def evaluate(
    settings: Evaluate,
    datamodule: ImageDataModule,
    folder: Path,
    *,
    stage: str,
    title: str,
) -> list[dict[str, Any]]:
    """Score every artifact of a stage on every split.

    Args:
        settings: the stage's `evaluate` block.
        datamodule: reads the ground truth.
        folder: the stage's folder.
        stage: name of the stage.
        title: what the stage is called in tables.

    Returns:
        One row an artifact and split, see `score_maps`, `score_masks` and `saliency_row`; fractions.

    Raises:
        DataError: an image has no ground truth, or no result.
    """
    rows = []
    scored = ("maps", "masks", "masks_crf") if datamodule.num_classes else ("saliency",)
    for kind in scored:
        if not (folder / kind).is_dir():
            continue
        for split in settings.splits:
            records = [record for record in datamodule.records(split) if record.mask is not None]
            if not records:
                raise DataError(f"stages.{stage}.evaluate: no image of {split!r} has a ground-truth mask")
            have = finished_ids(folder / kind, ARTIFACT_KINDS[kind].extension)
            missing = [record.image_id for record in records if record.image_id not in have]
            if missing:
                raise DataError(
                    f"stages.{stage}.evaluate: {len(missing)} of {len(records)} images of {split!r} have no "
                    f"result in {folder / kind}, first {missing[0]}; add the split to the stage's predict or "
                    "refine"
                )
            pairs = ((folder / kind / (r.image_id + ARTIFACT_KINDS[kind].extension), r) for r in records)
            progress = tqdm(
                pairs, total=len(records), desc=f"{title}: score {split}", unit="img", leave=False
            )
            truth = ((path, datamodule.read_mask(record)) for path, record in progress)
            count = datamodule.num_classes
            if kind == "saliency":
                scores, label = saliency_row(truth), title
            elif kind == "maps":
                scores = score_maps(truth, count, settings.threshold, _thresholds(settings.thresholds))
                label = f"{title} (best threshold)"
            else:
                scores = score_masks(truth, count)
                label = title if kind == "masks" else f"{title} + CRF"
            rows.append({"stage": stage, "artifact": kind, "split": split, "label": label, **scores})
    return rows


def saliency_row(pairs: Iterable[tuple[Path, np.ndarray]]) -> dict[str, Any]:
    """Saliency maps against masks: all metrics of the field, and the error by distance from the edge.

    Args:
        pairs: file of saliency maps, mask `(H, W)`.

    Returns:
        `scores` (see `SaliencyMetrics`), `n_images`, `details` with the curves; `miou` and `iou` are empty.
    """
    from wsss_zoo.metrics.saliency_metrics import SCORES
    from wsss_zoo.pipeline.evaluate_saliency import score_saliency

    scores = score_saliency(pairs)
    return {
        "miou": None,
        "iou": [],
        "scores": {name: scores[name] for name in SCORES},
        "n_images": scores["n_images"],
        "details": scores["details"],
    }


def score_maps(
    pairs: Iterable[tuple[Path, np.ndarray]],
    num_classes: int,
    threshold: float,
    thresholds: Sequence[float],
) -> dict[str, Any]:
    """Localization maps against masks: the best threshold (an oracle), a fixed one, the curve, PxAP.

    Args:
        pairs: file of localization maps, ground truth `(H, W)`.
        num_classes: foreground classes.
        threshold: the fixed background threshold.
        thresholds: the searched background thresholds.

    Returns:
        `miou`, `iou` (at the best threshold), `n_images`, `details`.
    """
    # the first rank alone evaluates; waiting for the others in compute() would never end
    sweep = ThresholdSweep(
        num_classes, thresholds=thresholds, fixed_threshold=threshold, sync_on_compute=False
    )
    count = 0
    for path, truth in pairs:
        maps = LocalizationMaps.load(path)
        if tuple(maps.size) != truth.shape:
            raise DataError(f"{path} is for an image of {maps.size}, its ground truth is {truth.shape}")
        sweep.update(maps.full_size(), maps.classes, truth)
        count += 1
    result = sweep.compute()
    return {
        "miou": _number(result["best_miou"]),
        "iou": _numbers(result["best_iou"]),
        "n_images": count,
        "details": {
            "best_threshold": _number(result["best_threshold"]),
            "fixed_threshold": threshold,
            "fixed_miou": _number(result["fixed_miou"]),
            "fixed_iou": _numbers(result["fixed_iou"]),
            "pxap": _number(result["pxap"]),
            "curve": {"thresholds": _numbers(result["thresholds"]), "miou": _numbers(result["miou"])},
        },
    }


def score_masks(pairs: Iterable[tuple[Path, np.ndarray]], num_classes: int) -> dict[str, Any]:
    """Masks against masks by the VOC mIoU; where a label is missing (255), the quality of the others, too.

    Pixels without a label count as background in the mIoU.

    Args:
        pairs: mask file, ground truth `(H, W)`.
        num_classes: foreground classes.

    Returns:
        `miou`, `iou`, `n_images`, `details`; the details of masks with pixels without a label are those of
        `SeedQuality`, of masks without such pixels none.
    """
    metric = MeanIoU(num_classes + 1, sync_on_compute=False)  # as in `score_maps`
    seeds = SeedQuality(num_classes + 1, sync_on_compute=False)
    count = 0
    for path, truth in pairs:
        mask = load_mask(path)
        if mask.shape != truth.shape:
            raise DataError(f"{path} is {mask.shape[::-1]} pixels, its ground truth {truth.shape[::-1]}")
        labels, true = torch.from_numpy(mask).long(), torch.from_numpy(truth).long()
        metric.update(labels.masked_fill(labels == 255, 0), true)
        seeds.update(labels, true)
        count += 1
    result = metric.compute()
    quality = seeds.compute()
    partial = float(quality["coverage"]) < 1
    return {
        "miou": _number(result["miou"]),
        "iou": _numbers(result["iou"]),
        "n_images": count,
        "details": {key: _number(value) for key, value in quality.items()} if partial else {},
    }


def evaluate_folders(
    predictions: Path, truth: Path, *, num_classes: int, ids: Path | None = None, threshold: float = 0.2
) -> dict[str, Any]:
    """Score a folder of masks (.png) or localization maps (.npz) against a folder of masks.

    Args:
        predictions: one file an image.
        truth: ground-truth PNG of the same names.
        num_classes: foreground classes.
        ids: text file with one image id a line; default: every prediction.
        threshold: fixed background threshold of localization maps.

    Raises:
        DataError: a folder is missing or empty, or an image has no partner.
    """
    for folder in (predictions, truth):
        if not folder.is_dir():
            raise DataError(f"there is no folder {folder}")
    kind: Kind = "maps" if any(predictions.glob("*.npz")) else "masks"
    have = finished_ids(predictions, ARTIFACT_KINDS[kind].extension)
    if not have:
        raise DataError(f"{predictions} holds neither masks (.png) nor localization maps (.npz)")
    names = sorted(have)
    if ids is not None:
        if not ids.is_file():
            raise DataError(f"there is no list file {ids}")
        names = [line.split()[0] for line in ids.read_text(encoding="utf-8").splitlines() if line.strip()]
    for where, known in ((predictions, have), (truth, finished_ids(truth, ".png"))):
        missing = [name for name in names if name not in known]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(names)} images have no file in {where}, first {missing[0]}"
            )
    progress = tqdm(names, desc="score", unit="img", leave=False)
    pairs = (
        (predictions / (name + ARTIFACT_KINDS[kind].extension), load_mask(truth / f"{name}.png"))
        for name in progress
    )
    if kind == "maps":
        scores = score_maps(pairs, num_classes, threshold, _thresholds((0.0, 0.59, 0.01)))
    else:
        scores = score_masks(pairs, num_classes)
    return {"artifact": kind, "label": predictions.name, **scores}


def _thresholds(first_last_step: tuple[float, float, float]) -> list[float]:
    first, last, step = first_last_step
    count = round((last - first) / step) + 1
    return [round(first + index * step, 10) for index in range(count)]


def _number(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _numbers(values: Tensor) -> list[float | None]:
    return [_number(value) for value in values]
