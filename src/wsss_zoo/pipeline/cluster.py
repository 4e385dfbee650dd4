"""The `cluster` step: features of images to sub-categories of their classes, and pictures of these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from wsss_zoo.artifacts.cluster_table import ClusterTable
from wsss_zoo.artifacts.features import load_features
from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.artifacts.folder import folder_bytes
from wsss_zoo.artifacts.subcategories import Subcategories
from wsss_zoo.errors import DataError, WsssZooError
from wsss_zoo.methods.sccam.labels import assemble_labels, rows_of_classes
from wsss_zoo.pipeline.refine import require_artifacts
from wsss_zoo.pipeline.signatures import import_class
from wsss_zoo.refine.subcategories import distances_to_centre
from wsss_zoo.tracking.contact_sheet import compose_contact_sheet

if TYPE_CHECKING:
    from wsss_zoo.data import Record
    from wsss_zoo.data.image_datamodule import ImageDataModule
    from wsss_zoo.pipeline.recipe import Cluster

#: The table of all images in the stage's folder.
TABLE = "clusters.npz"
#: Pictures of each sub-category: folder in the stage's folder, and how many images a sub-category shows.
SHEETS, SHEET_IMAGES = "contact_sheets", 8


def cluster(
    settings: Cluster,
    features_folder: Path,
    records: Sequence[Record],
    datamodule: ImageDataModule,
    folder: Path,
    *,
    stage: str,
) -> dict[str, Any]:
    """Cluster all images; the first process alone does so, so that all train on the same labels.

    Leaves `subcategories/<image id>.npz`, `clusters.npz` (`ClusterTable`, rows in the order of the official
    SC-CAM release) and `contact_sheets/<class>.png`.

    Args:
        settings: the stage's `cluster` block.
        features_folder: one feature vector an image.
        records: the images of all splits, each once.
        datamodule: reads the images.
        folder: the stage's folder.
        stage: name of the stage, for messages.

    Returns:
        Facts for the stage's state: images, bytes.

    Raises:
        DataError: no image has a class, features are missing or of different lengths.
    """
    if not records:
        raise WsssZooError(f"the stage {stage!r} has no image to cluster in {', '.join(settings.splits)}")
    facts = {"images": len(records)}
    if (folder / TABLE).is_file():  # written last; results of other settings have been set aside
        return facts | {"bytes": _bytes(folder)}
    require_artifacts({"features": features_folder}, records, f"stages.{stage}.cluster")
    labels = np.stack([record.labels for record in records])
    if not labels.any():
        raise DataError(f"stages.{stage}.cluster: no image of {', '.join(settings.splits)} has a class")
    features = _read_features(features_folder, records, stage)
    clusterer = import_class(settings.clusterer.class_path)(**settings.clusterer.init_args)
    clusters = [np.asarray(found) for found in clusterer(features, labels)]
    names = [record.image_id for record in records]
    assembled = assemble_labels(names, labels, clusters, clusterer.k)

    distances = np.zeros_like(labels)
    for index, (rows, found) in enumerate(zip(rows_of_classes(labels), clusters, strict=True)):
        distances[rows, index] = distances_to_centre(features[rows], found)
    row_of = {name: row for row, name in enumerate(names)}
    order = [row_of[name] for name in assembled.image_ids]
    table = ClusterTable(assembled.image_ids, assembled.classes, assembled.subcategories, distances[order])
    _write_subcategories(table, records, folder / "subcategories")
    _write_sheets(table, {record.image_id: record for record in records}, datamodule, folder / SHEETS, stage)
    table.save(folder / TABLE)
    return {
        "images": len(records),
        "bytes": sum(map(folder_bytes, (folder / "subcategories", folder / SHEETS))),
    }


def sheet_name(index: int, class_name: str) -> str:
    """File name of the contact sheet of a class: sorted like the classes, whatever they are called."""
    return f"{index:02d}_{re.sub(r'[^A-Za-z0-9-]+', '_', class_name)}.png"


def _bytes(folder: Path) -> int:
    return sum(folder_bytes(folder / name) for name in ("subcategories", SHEETS))


def _read_features(folder: Path, records: Sequence[Record], stage: str) -> npt.NDArray[np.float32]:
    first = load_features(folder / f"{records[0].image_id}.npz")
    features = np.empty((len(records), len(first)), dtype=np.float32)
    for row, record in enumerate(tqdm(records, desc=f"{stage}: read features", unit="img", leave=False)):
        vector = load_features(folder / f"{record.image_id}.npz")
        if len(vector) != len(first):
            raise DataError(
                f"{folder / record.image_id}.npz has {len(vector)} features, {records[0].image_id} has "
                f"{len(first)}; they are of different networks: delete the folder and run again"
            )
        features[row] = vector
    return features


def _write_subcategories(table: ClusterTable, records: Sequence[Record], folder: Path) -> None:
    clusters = dict(zip(table.image_ids, table.clusters, strict=True))
    none = np.full(table.num_classes, -1, dtype=np.int16)
    for record in records:
        found = clusters.get(record.image_id, none)
        classes = np.flatnonzero(found >= 0)
        artifact = Subcategories(classes.astype(np.int16), found[classes], table.k)
        artifact.save(folder / f"{record.image_id}.npz")


def _write_sheets(
    table: ClusterTable,
    records: dict[str, Record],
    datamodule: ImageDataModule,
    folder: Path,
    stage: str,
) -> None:
    progress = tqdm(datamodule.class_names, desc=f"{stage}: contact sheets", unit="class", leave=False)
    for index, class_name in enumerate(progress):
        rows = []
        for number in range(table.k):
            members = np.flatnonzero(table.clusters[:, index] == number)
            # the most typical first; a stable sort keeps the list order of equals
            typical = members[np.argsort(table.distances[members, index], kind="stable")][:SHEET_IMAGES]
            images = [datamodule.read_image(records[table.image_ids[row]]) for row in typical]
            if images:
                rows.append(
                    (f"{number}: {len(members)} {'image' if len(members) == 1 else 'images'}", images)
                )
        if rows:
            with atomic_write(folder / sheet_name(index, class_name)) as file:
                Image.fromarray(compose_contact_sheet(rows)).save(file, format="PNG")
