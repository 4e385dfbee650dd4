"""The `refine` step: localization maps to pseudo labels, in parallel over images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss_zoo.artifacts.folder import finished_ids, folder_bytes
from wsss_zoo.errors import DataError, WsssZooError
from wsss_zoo.pipeline.signatures import import_class
from wsss_zoo.refine.folder import refine_folder

if TYPE_CHECKING:
    from wsss_zoo.data import Record
    from wsss_zoo.pipeline.recipe import Refine


def refine(
    settings: Refine, maps: Path, records: Sequence[Record], folder: Path, *, stage: str
) -> dict[str, Any]:
    """Refine what is not refined yet.

    Args:
        settings: the stage's `refine` block.
        maps: folder of localization maps.
        records: the images of all splits, each once.
        folder: the stage's folder; masks go to `masks/`.
        stage: name of the stage, for messages.

    Returns:
        Facts for the stage's state: images, bytes.
    """
    if not records:
        raise WsssZooError(f"the stage {stage!r} has no image to refine in {', '.join(settings.splits)}")
    have = finished_ids(maps, ".npz")
    missing = [record.image_id for record in records if record.image_id not in have]
    if missing:
        raise DataError(
            f"stages.{stage}.refine: {len(missing)} of {len(records)} images have no localization maps in "
            f"{maps}, first {missing[0]}; add their split to the stage {settings.maps!r}"
        )
    refiner = import_class(settings.refiner.class_path)(**settings.refiner.init_args)
    items = [(record.image_id, record.image, maps / f"{record.image_id}.npz") for record in records]
    out = folder / "masks"
    refine_folder(refiner, items, out, workers=settings.workers, progress=stage)
    return {"images": len(records), "bytes": folder_bytes(out)}
