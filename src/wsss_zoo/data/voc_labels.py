"""Which source gives the image-level labels of a VOC split. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from wsss_zoo.data.images import stems
from wsss_zoo.data.labels import Labels, labels_from_mask, labels_from_xml, read_label_table, select
from wsss_zoo.errors import DataError

#: Tables looked for in the VOC2012 folder when no `label_table` is given, in this order.
TABLE_NAMES = ("cls_labels.npz", "cls_labels.csv", "cls_labels.npy")


@dataclass(frozen=True)
class VOCLabels:
    """Image-level labels of a VOC folder; the order of `"auto"` is told in `VOC2012DataModule`.

    Attributes:
        folder: the VOC2012 folder.
        class_names: the C foreground classes.
        source: `auto`, `xml`, `table` or `masks`.
        table: the `label_table` argument, or None.
        ground_truth: name of the masks in use, for the description.
    """

    folder: Path
    class_names: tuple[str, ...]
    source: str
    table: Path | None
    ground_truth: str

    def find(
        self, ids: Sequence[str], masks: Mapping[str, Path | None], optional: bool = False
    ) -> tuple[list[Labels], str | None]:
        """Labels of images.

        Args:
            ids: the images.
            masks: their ground truth.
            optional: images may be without labels (VOC's test list).

        Returns:
            One float32 `(C,)` an image, and the source in words; zeros and None where the labels are
            not known, which only `optional` allows.

        Raises:
            DataError: the source asked for lacks an image, or there is no source at all.
        """
        source = self._first_complete(ids, masks) if self.source == "auto" else self.source
        if source == "xml":
            folder = self.folder / "Annotations"
            return (
                [labels_from_xml(folder / f"{image_id}.xml", self.class_names) for image_id in ids],
                "boxes in Annotations",
            )
        if source == "table":
            path = self._table_path
            if path is None:
                raise DataError(
                    f"{self.folder}: label_source is 'table', but there is no {', '.join(TABLE_NAMES)} here. "
                    "Give label_table."
                )
            return select(self._table, ids, path), f"table {path.name}"
        if source == "masks":
            return self._from_masks(ids, masks), f"masks of {self.ground_truth}"
        if optional:
            return [np.zeros(len(self.class_names), dtype=np.float32) for _ in ids], None
        raise DataError(
            f"{self.folder}: no image-level labels for all {len(ids):,} images: looked for "
            f"Annotations/<id>.xml, {', '.join(TABLE_NAMES)}, and masks of {self.ground_truth}. "
            "Add one of them, or give label_table."
        )

    def _first_complete(self, ids: Sequence[str], masks: Mapping[str, Path | None]) -> str | None:
        if self.table is not None:
            return "table"
        if self._annotated.issuperset(ids):
            return "xml"
        if self._table_path is not None and all(image_id in self._table for image_id in ids):
            return "table"
        return "masks" if all(masks[image_id] is not None for image_id in ids) else None

    @cached_property
    def _annotated(self) -> frozenset[str]:
        return frozenset(stems(self.folder / "Annotations", [".xml"]))

    @cached_property
    def _table_path(self) -> Path | None:
        if self.table is not None:
            return self.table
        return next((self.folder / name for name in TABLE_NAMES if (self.folder / name).is_file()), None)

    @cached_property
    def _table(self) -> dict[str, Labels]:
        assert self._table_path is not None
        return read_label_table(self._table_path, self.class_names)

    def _from_masks(self, ids: Sequence[str], masks: Mapping[str, Path | None]) -> list[Labels]:
        lacking = [image_id for image_id in ids if masks[image_id] is None]
        if lacking:
            raise DataError(
                f"{self.folder}: label_source is 'masks', but {len(lacking):,} of {len(ids):,} images have "
                f"no mask in {self.ground_truth}, first {lacking[0]}. Use xml or table."
            )
        # 10,582 masks take half a minute: show that something happens, but not for a handful
        progress = tqdm(ids, desc="Labels from masks", unit="mask", leave=False, disable=len(ids) < 500)
        return [labels_from_mask(str(masks[image_id]), len(self.class_names)) for image_id in progress]
