"""Pictures of a run: for a few images, what every stage made of them, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.localization_maps import LocalizationMaps
from wsss_zoo.artifacts.masks import heatmap_overlay, load_mask, overlay
from wsss_zoo.artifacts.saliency import load_saliency
from wsss_zoo.pipeline.recipe import Stage
from wsss_zoo.tracking.panels import choose_image_ids

if TYPE_CHECKING:
    from wsss_zoo.data import Record
    from wsss_zoo.data.image_datamodule import ImageDataModule

#: Pictures for each split that is evaluated.
PICTURES_PER_SPLIT = 8
#: Localization maps shown of one image.
MAPS_PER_PICTURE = 2


def run_tiles(
    stages: Sequence[tuple[Stage, Path]], datamodule: ImageDataModule, splits: Sequence[str]
) -> dict[str, dict[str, npt.NDArray[np.uint8]]]:
    """Pictures of a few images: the image, its ground truth, and the result of every stage.

    Args:
        stages: stages in order with the folder that holds their results.
        datamodule: reads images and ground truth.
        splits: the same few images of each are shown in every run.

    Returns:
        image id -> caption -> uint8 `(H, W, 3)`, all of the image's size.
    """
    tiles = {}
    for split in splits:
        records = {record.image_id: record for record in datamodule.records(split)}
        labels = {name: np.flatnonzero(record.labels).tolist() for name, record in records.items()}
        for image_id in choose_image_ids(list(records), n=PICTURES_PER_SPLIT, labels=labels):
            record = records[image_id]
            image = datamodule.read_image(record)
            columns = {"image": image}
            if record.mask is not None:
                columns["ground truth"] = _ground_truth(image, datamodule, record)
            for stage, folder in stages:
                columns |= _columns(stage, folder, image_id, image, datamodule.class_names)
            tiles[image_id] = columns
    return tiles


def _ground_truth(
    image: npt.NDArray[np.uint8], datamodule: ImageDataModule, record: Record
) -> npt.NDArray[np.uint8]:
    mask = datamodule.read_mask(record)
    if datamodule.num_classes:
        return overlay(image, mask)
    return _grey(mask, image.shape[:2])


def _grey(levels: npt.NDArray[np.uint8], size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """A grey map as a picture of the image's size (a few published masks have another)."""
    resized = Image.fromarray(levels).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.repeat(np.asarray(resized)[..., None], 3, axis=2)


def _columns(
    stage: Stage, folder: Path, image_id: str, image: npt.NDArray[np.uint8], class_names: Sequence[str]
) -> dict[str, npt.NDArray[np.uint8]]:
    columns = {}
    maps_file = folder / "maps" / f"{image_id}.npz"
    if maps_file.exists():
        maps = LocalizationMaps.load(maps_file)
        for index, heat in list(zip(maps.classes, maps.full_size(), strict=True))[:MAPS_PER_PICTURE]:
            columns[f"{stage.title}: {class_names[int(index)]}"] = heatmap_overlay(image, heat)
    for kind, suffix in (("masks", ""), ("masks_crf", " + CRF")):
        mask_file = folder / kind / f"{image_id}.png"
        if mask_file.exists():
            columns[stage.title + suffix] = overlay(image, load_mask(mask_file))
    for kind in ("saliency", "body", "detail"):
        grey_file = folder / kind / f"{image_id}.png"
        if grey_file.exists():
            levels = np.rint(load_saliency(grey_file) * 255).astype(np.uint8)
            columns[f"{stage.title}: {kind}"] = _grey(levels, image.shape[:2])
    return columns
