"""The `refine` step: results of other stages to pseudo labels, in parallel over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsss_zoo.artifacts.folder import finished_ids, folder_bytes
from wsss_zoo.artifacts.kinds import ARTIFACT_KINDS, ROLES, ArtifactKind, Content
from wsss_zoo.errors import DataError, WsssZooError
from wsss_zoo.pipeline.inputs import refiner_outputs
from wsss_zoo.pipeline.signatures import import_class
from wsss_zoo.refine.folder import RefineItem, refine_folder

if TYPE_CHECKING:
    from wsss_zoo.data import Record
    from wsss_zoo.pipeline.recipe import Refine


def refine(
    settings: Refine,
    inputs: Mapping[str, Path],
    records: Sequence[Record],
    folder: Path,
    *,
    stage: str,
) -> dict[str, Any]:
    """Refine what is not refined yet.

    Args:
        settings: the stage's `refine` block.
        inputs: role -> folder of artifacts, named after their kind where the role does not tell it.
        records: the images of all splits, each once.
        folder: the stage's folder; results go to a folder for each kind.
        stage: name of the stage, for messages.

    Returns:
        Facts for the stage's state: images, bytes.
    """
    if not records:
        raise WsssZooError(f"the stage {stage!r} has no image to refine in {', '.join(settings.splits)}")
    require_artifacts(inputs, records, f"stages.{stage}.refine")
    refiner = import_class(settings.refiner.class_path)(**settings.refiner.init_args)
    items = [
        RefineItem(
            record.image_id,
            record.image,
            {role: _artifact(role, source, record.image_id) for role, source in inputs.items()},
        )
        for record in records
    ]
    refine_folder(refiner, items, folder, workers=settings.workers, progress=stage)
    made = refiner_outputs(settings.refiner)
    return {"images": len(records), "bytes": sum(folder_bytes(folder / kind) for kind in made)}


def require_artifacts(inputs: Mapping[str, Path], records: Sequence[Record], key: str) -> None:
    """Raise DataError when an image has no artifact in a folder that a step reads."""
    for role, folder in inputs.items():
        have = finished_ids(folder, _kind(role, folder).extension)
        missing = [record.image_id for record in records if record.image_id not in have]
        if missing:
            raise DataError(
                f"{key}.inputs.{role}: {len(missing)} of {len(records)} images have no {folder.name} in "
                f"{folder}, first {missing[0]}; add their split to the stage {folder.parent.name!r}, or "
                "their files to the folder"
            )


def _artifact(role: str, folder: Path, image_id: str) -> tuple[Content, Path]:
    kind = _kind(role, folder)
    return kind.content, folder / f"{image_id}{kind.extension}"


def _kind(role: str, folder: Path) -> ArtifactKind:
    """What lies in a folder: what the role reads, for roles of a user's own class what its name says."""
    if role not in ROLES:
        return ARTIFACT_KINDS[folder.name]
    return next(kind for kind in ARTIFACT_KINDS.values() if kind.content == ROLES[role])
