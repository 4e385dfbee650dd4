"""Pictures of stages that integrate two masks: each mask, what is doubted in it, and what came of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.differences import Differences
from wsss_zoo.artifacts.masks import heatmap_overlay, load_mask, overlay
from wsss_zoo.tracking.panels import compose_panel

if TYPE_CHECKING:
    from wsss_zoo.data import Record
    from wsss_zoo.data.image_datamodule import ImageDataModule


def difference_panels(
    stage: str,
    folder: Path,
    inputs: Mapping[str, Path],
    records: Iterable[Record],
    datamodule: ImageDataModule,
) -> dict[str, npt.NDArray[np.uint8]]:
    """Show images in the order of SSDD's poster.

    Image, the mask before, its predicted difference (blue 0 to red 1), the mask after, its predicted
    difference, the refined mask, and the ground truth where there is any.

    Args:
        stage: name of a stage.
        folder: where its results lie.
        inputs: folders of the masks `before` and `after`.
        records: the images to show; those of which the stage has no differences are left out.
        datamodule: reads images and ground truth.

    Returns:
        `<stage>/<image id>` -> uint8 `(H, W, 3)`; nothing for stages that predict no differences.
    """
    if not {"before", "after"} <= inputs.keys() or not (folder / "differences").is_dir():
        return {}
    panels = {}
    for record in records:
        file = folder / "differences" / f"{record.image_id}.npz"
        if not file.is_file():
            continue
        image, mask = datamodule.read_image(record), f"{record.image_id}.png"
        probabilities = 1 / (1 + np.exp(-Differences.load(file).full_size()))
        columns = []
        for role, difference in zip(("before", "after"), probabilities, strict=True):
            columns.append((role, overlay(image, load_mask(inputs[role] / mask))))
            columns.append((f"d({role})", heatmap_overlay(image, difference)))
        if (folder / "masks" / mask).is_file():
            columns.append(("refined", overlay(image, load_mask(folder / "masks" / mask))))
        if record.mask is not None:
            columns.append(("ground truth", overlay(image, datamodule.read_mask(record))))
        panels[f"{stage}/{record.image_id}"] = compose_panel(image, columns)
    return panels
