"""Image-level labels from XML boxes, from a table, or from masks. Needs no torch.

The field trains on the names in VOC's box annotations: every object counts, also those marked difficult.
Labels taken from masks differ a little, because some boxed objects have no pixel in the mask.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.data.images import IGNORE, image_id_of, read_ground_truth
from wsss_zoo.data.label_csv import multi_hot, read_label_csv
from wsss_zoo.data.pickled_labels import read_pickled_labels
from wsss_zoo.errors import DataError

Labels = npt.NDArray[np.float32]


def labels_from_xml(path: str | os.PathLike[str], class_names: Sequence[str]) -> Labels:
    """Classes of the boxes in a VOC annotation; difficult and truncated objects count.

    Args:
        path: an annotation file.
        class_names: the C foreground classes.

    Returns:
        float32 `(C,)`.

    Raises:
        DataError: the file is missing, broken, or names a class that is not in `class_names`.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise DataError(f"{path}: no such annotation. Restore it or use another label_source.") from None
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: broken XML ({error}); re-download it.") from error
    # only <object><name>: parts of a person (<part><name>head</name>) are no classes
    names = [(item.findtext("name") or "").strip() for item in root.iterfind("object")]
    return multi_hot(names, class_names, str(path))


def labels_from_mask(path: str | os.PathLike[str], num_classes: int) -> Labels:
    """Classes that have at least one pixel in a mask; 0 and 255 are none.

    Returns:
        float32 `(C,)`.

    Raises:
        DataError: the mask cannot be used.
    """
    counts = np.bincount(read_ground_truth(path, num_classes).ravel(), minlength=IGNORE + 1)
    return (counts[1 : num_classes + 1] > 0).astype(np.float32)


def read_label_table(path: str | os.PathLike[str], class_names: Sequence[str]) -> dict[str, Labels]:
    """Read labels of many images from one file.

    ============ ===================================================================================
    ``.npz``     `ids` `(N,)` text, `labels` `(N, C)` of 0 and 1, optional `class_names` `(C,)` text
    ``.csv``     header `image,labels`; class names separated by `;`, or `background`
    ``.npy``     the field's pickled dictionary id -> float32 `(C,)`, read without running pickle freely
    ============ ===================================================================================

    Args:
        path: the table.
        class_names: the C foreground classes.

    Returns:
        id -> float32 `(C,)` of 0 and 1.

    Raises:
        DataError: the table is missing, broken, harmful, or made for other classes.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such label table. Give a .npz, .csv or .npy file.")
    if path.suffix == ".npz":
        table = _read_npz(path, class_names)
    elif path.suffix == ".csv":
        table = {
            image_id_of(row.image): multi_hot(row.labels, class_names, f"{path}, line {row.line}")
            for row in read_label_csv(path)
            if row.labels is not None
        }
    elif path.suffix == ".npy":
        table = read_pickled_labels(path)
    else:
        raise DataError(f"{path}: a label table ends in .npz, .csv or .npy.")
    for image_id, labels in table.items():
        if labels.shape != (len(class_names),):
            raise DataError(
                f"{path}: {image_id} has {labels.size} labels, expected one for each of the "
                f"{len(class_names)} classes. Is it the table of another data set?"
            )
        if not np.isin(labels, (0, 1)).all():
            raise DataError(f"{path}: the labels of {image_id} are not 0 or 1 but {np.unique(labels)}.")
    return table


def save_label_table(
    path: str | os.PathLike[str], table: Mapping[str, Labels], class_names: Sequence[str]
) -> None:
    """Write a `.npz` table that `read_label_table` and NumPy read without pickle.

    Raises:
        ArtifactError: the file could not be written.
    """
    ids = sorted(table)
    labels = np.stack([table[image_id] for image_id in ids]) if ids else np.zeros((0, len(class_names)))
    with atomic_write(path) as file:
        np.savez_compressed(
            file,
            ids=np.array(ids, dtype=str),
            labels=labels.astype(np.uint8),
            class_names=np.array(class_names),
        )


def select(table: Mapping[str, Labels], image_ids: Iterable[str], path: Path) -> list[Labels]:
    """The labels of the given images, in order.

    Raises:
        DataError: the table lacks images.
    """
    image_ids = list(image_ids)
    missing = [image_id for image_id in image_ids if image_id not in table]
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} of {len(image_ids):,} images are not in this table, "
            f"first {missing[0]}. Use a complete table or another label_source."
        )
    return [table[image_id] for image_id in image_ids]


def _read_npz(path: Path, class_names: Sequence[str]) -> dict[str, Labels]:
    try:
        with np.load(path, allow_pickle=False) as content:
            ids, labels = content["ids"], content["labels"].astype(np.float32)
            named = content["class_names"].tolist() if "class_names" in content else list(class_names)
    # numpy tells a damaged archive as BadZipFile, zlib.error, ValueError or KeyError
    except Exception as error:
        raise DataError(
            f"{path}: expected an .npz file with `ids` (N,) as text and `labels` (N, C) ({error})."
        ) from error
    if named != list(class_names):
        raise DataError(
            f"{path}: this table is for the classes {', '.join(map(str, named))}; "
            f"the data set has {', '.join(class_names)}."
        )
    if ids.ndim != 1 or ids.dtype.kind != "U" or labels.ndim != 2 or len(ids) != len(labels):
        raise DataError(
            f"{path}: expected `ids` (N,) as text and `labels` (N, {len(class_names)}), "
            f"got {ids.dtype} {ids.shape} and {labels.shape}."
        )
    return dict(zip(ids.tolist(), labels, strict=True))
