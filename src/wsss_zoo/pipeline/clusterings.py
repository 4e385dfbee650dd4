"""All clusterings of a run: how large sub-categories are, and how far they stay from round to round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.cluster_table import ClusterTable
from wsss_zoo.pipeline.cluster import SHEETS, TABLE, sheet_name
from wsss_zoo.pipeline.recipe import Stage


def summarise_clusterings(
    stages: Sequence[tuple[Stage, Path]], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """What `metrics.json` says of the stages that cluster, in their order.

    Args:
        stages: stages of the recipe with the folders of their results.
        class_names: foreground classes.

    Returns:
        For each finished one `stage`, `title`, `k`, `images`, `compared_with` (the clustering before it, or
        None), `nmi` (mean of the classes', or None) and `classes`: `name`, `images`, `sizes` (of the K
        sub-categories), `inertia`, `nmi` (see `cluster_agreement`) and `sheet` (file in `contact_sheets/`).
    """
    summary = []
    before: tuple[str, ClusterTable] | None = None
    for stage, folder in stages:
        if stage.cluster is None or not (folder / TABLE).is_file():
            continue
        table = ClusterTable.load(folder / TABLE)
        agreement = [None] * len(class_names) if before is None else cluster_agreement(before[1], table)
        known = [value for value in agreement if value is not None]
        summary.append(
            {
                "stage": stage.name,
                "title": stage.title,
                "k": table.k,
                "images": len(table.image_ids),
                "compared_with": before[0] if before else None,
                "nmi": float(np.mean(known)) if known else None,
                "classes": [
                    _class_facts(table, index, name) | {"nmi": agreement[index]}
                    for index, name in enumerate(class_names)
                ],
            }
        )
        before = (stage.name, table)
    return summary


def cluster_agreement(first: ClusterTable, second: ClusterTable) -> list[float | None]:
    """Normalised mutual information of two clusterings inside every class, over the images of both.

    Mutual information over the mean of the two entropies: 1 where one clustering tells the other, 0 where it
    tells nothing. How clusters are numbered does not matter.

    Returns:
        One a class, in [0, 1]; None where a clustering has a single cluster, which has no information.
    """
    # here, because a run that clusters nothing shall not need it
    from sklearn.metrics import normalized_mutual_info_score

    row_of = {name: row for row, name in enumerate(first.image_ids)}
    shared = [row for row, name in enumerate(second.image_ids) if name in row_of]
    left = first.clusters[[row_of[second.image_ids[row]] for row in shared]]
    right = second.clusters[shared]
    values: list[float | None] = []
    for index in range(second.num_classes):
        present = (left[:, index] >= 0) & (right[:, index] >= 0)
        pair = left[present, index], right[present, index]
        informative = all(len(np.unique(side)) > 1 for side in pair)
        values.append(float(normalized_mutual_info_score(*pair)) if informative else None)
    return values


def contact_sheets(
    stages: Sequence[tuple[Stage, Path]], class_names: Sequence[str]
) -> dict[str, npt.NDArray[np.uint8]]:
    """The contact sheets of all clusterings, for loggers: `<stage>/<class>` -> uint8 `(H, W, 3)`."""
    sheets = {}
    for stage, folder in stages:
        for index, name in enumerate(class_names):
            file = folder / SHEETS / sheet_name(index, name)
            if stage.cluster is not None and file.is_file():
                with Image.open(file) as picture:
                    sheets[f"{stage.name}/{name}"] = np.asarray(picture.convert("RGB"))
    return sheets


def _class_facts(table: ClusterTable, index: int, name: str) -> dict[str, Any]:
    clusters = table.clusters[:, index]
    present = clusters >= 0
    return {
        "name": name,
        "images": int(present.sum()),
        "sizes": np.bincount(clusters[present], minlength=table.k).tolist(),
        "inertia": float((table.distances[present, index].astype(np.float64) ** 2).sum()),
        "sheet": sheet_name(index, name),
    }
