"""Your own images: a folder of photos and a table of what is in them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.data.datamodule import SegmentationDataModule
from wsss_zoo.data.images import IMAGE_EXTENSIONS, stems
from wsss_zoo.data.label_csv import LabelRow, multi_hot, read_label_csv
from wsss_zoo.data.record import Record, Split
from wsss_zoo.errors import DataError, suggest

LABEL_FILE = "labels.csv"
CLASS_FILE = "classes.txt"


class ImageFolderDataModule(SegmentationDataModule):
    """A folder with `images/` and `labels.csv`; `masks/` and `classes.txt` may be added.

    `labels.csv` has the header `image,labels` and one line an image, for example `rex.jpg,dog;sofa`. The
    extension may be left out. The word `background` tells that none of the classes is in an image. Images
    that are not listed, or whose labels are empty, are unlabelled: they form the split `unlabeled`, which
    can be predicted.

    `masks/<name>.png` are ground-truth masks (indices: 0 background, 1..C in the order of the classes,
    255 ignore) for scoring; any part of the images may have one.

    **Classes** are, in this order: `class_names`, the lines of `classes.txt`, or the names in
    `labels.csv`, sorted. Where the first two are both given they must agree.

    **Splits**: a column `split` in `labels.csv` (any names; `train` and `val` are the defaults of
    training), otherwise `train` and `val` are drawn: `val_fraction` of the labelled images, chosen by
    `split_seed` (and not by `seed`, so that runs of several seeds are scored on the same images). There
    are also `labeled` (all labelled images), `unlabeled`, and `all`.

    Args:
        root: the folder.
        train_split: see `SegmentationDataModule`.
        val_split: see `SegmentationDataModule`.
        class_names: the foreground classes in the order of their mask values.
        val_fraction: share of the labelled images in `val` when there is no `split` column; in (0, 1).
        split_seed: chooses these images.
        **kwargs: arguments of `SegmentationDataModule`.

    Raises:
        DataError: an argument is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        train_split: str = "train",
        val_split: str = "val",
        class_names: list[str] | tuple[str, ...] | None = None,
        val_fraction: float = 0.2,
        split_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, train_split=train_split, val_split=val_split, **kwargs)
        if not 0 < val_fraction < 1:
            raise DataError(f"val_fraction must be between 0 and 1 (both excluded), got {val_fraction}.")
        if split_seed < 0:
            raise DataError(f"split_seed must be 0 or more, got {split_seed}.")
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self._given_classes = None if class_names is None else tuple(class_names)
        self.ground_truth = "masks/"

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes.

        Raises:
            DataError: none, one twice, more than 254, or `class_names` and `classes.txt` differ.
        """
        given, where = self._given_classes, "class_names"
        path = self.root / CLASS_FILE
        if path.is_file():
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            listed = tuple(line.strip() for line in lines if line.strip())
            if given is not None and given != listed:
                raise DataError(
                    f"{path}: lists {', '.join(listed)}, but class_names is {', '.join(given)}. "
                    "Their order gives the mask values: keep one, or make them equal."
                )
            given, where = listed, str(path)
        if given is None:
            named = {label for row in self._rows for label in row.labels or ()}
            given, where = tuple(sorted(named)), str(self.root / LABEL_FILE)
        if not given:
            raise DataError(f"{where}: names no class. Expected at least one.")
        # 255 marks pixels to ignore
        if len(given) > 254 or len(set(given)) < len(given):
            raise DataError(f"{where}: expected up to 254 different classes, got {len(given)} names.")
        return given

    @property
    def split_names(self) -> tuple[str, ...]:
        """Splits that hold images."""
        return tuple(name for name, members in self._members.items() if members)

    def prepare_data(self) -> None:
        """Check that images and labels are there.

        Raises:
            DataError: `images/` or `labels.csv` is missing or broken.
        """
        self._members  # noqa: B018  # reading them is the check

    def load_split(self, name: str) -> Split:
        """Take the images of a split.

        Raises:
            DataError: no such split, or a label is not one of the classes.
        """
        if name not in self._members:
            column = "" if self._has_split_column else f" ({LABEL_FILE} has no column 'split')"
            raise DataError(
                f"{self.root}: there is no split '{name}'{column}; {suggest(name, self.split_names)}"
            )
        masks = stems(self.root / "masks", [".png"])
        images = self._images
        records = tuple(
            Record(image_id, images[image_id], masks.get(image_id), self._labels(image_id))
            for image_id in self._members[name]
        )
        labelled = all(image_id in self._row_of for image_id in self._members[name])
        source = LABEL_FILE if labelled else "none for some images"
        truth = self.ground_truth if masks else "none"
        return Split(name, records, (), source, truth, labelled)

    def read_mask(self, record: Record) -> npt.NDArray[np.uint8]:
        """Read a ground-truth mask and compare its size with the image's.

        Raises:
            DataError: there is none, it cannot be used, or it has another size than its image.
        """
        mask = super().read_mask(record)
        with Image.open(record.image) as image:
            width, height = image.size
        if mask.shape != (height, width):
            raise DataError(
                f"{record.mask}: the mask is {mask.shape[1]} x {mask.shape[0]}, but its image {record.image} "
                f"is {width} x {height} (width x height). Make the mask at the size of the image."
            )
        return mask

    def masks_without_image(self) -> list[Path]:
        """Masks in `masks/` whose image is missing."""
        masks = stems(self.root / "masks", [".png"])
        return [path for stem, path in masks.items() if stem not in self._images]

    @cached_property
    def _rows(self) -> list[LabelRow]:
        return read_label_csv(self.root / LABEL_FILE)

    @cached_property
    def _images(self) -> dict[str, Path]:
        folder = self.root / "images"
        if not folder.is_dir():
            raise DataError(f"{self.root}: there is no folder images/. Put the photos into {folder}.")
        found = stems(folder, IMAGE_EXTENSIONS)
        if not found:
            raise DataError(f"{folder}: holds no image ({', '.join(IMAGE_EXTENSIONS)}).")
        return found

    @cached_property
    def _row_of(self) -> dict[str, LabelRow]:
        """Image id -> line with its labels; images whose labels are not known are left out."""
        rows: dict[str, LabelRow] = {}
        for row in self._rows:
            image_id = self._image_id(row)
            if image_id in rows:
                raise DataError(
                    f"{self.root / LABEL_FILE}, line {row.line}: {row.image} is the same image as "
                    f"{rows[image_id].image} in line {rows[image_id].line}. Remove one of them."
                )
            rows[image_id] = row
        return {image_id: row for image_id, row in rows.items() if row.labels is not None}

    def _image_id(self, row: LabelRow) -> str:
        for stem in (row.image, Path(row.image).stem):
            path = self._images.get(stem)
            if path is not None and row.image in (path.name, stem):
                return stem
        namesake = self._images.get(Path(row.image).stem)
        names = [path.name for path in self._images.values()]
        hint = f"did you mean '{namesake.name}'?" if namesake else suggest(row.image, names)
        # a list of every file of the folder would help nobody
        hint = f"; {hint}" if hint.startswith("did you mean") else "."
        raise DataError(
            f"{self.root / LABEL_FILE}, line {row.line}: there is no image images/{row.image}{hint} "
            "Add the image or remove the line."
        )

    @cached_property
    def _has_split_column(self) -> bool:
        return any(row.split is not None for row in self._rows)

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        """Split -> image ids, sorted."""
        labelled = sorted(self._row_of)
        members: dict[str, list[str]] = {}
        if self._has_split_column:
            for image_id in labelled:
                row = self._row_of[image_id]
                if not row.split:
                    raise DataError(f"{self.root / LABEL_FILE}, line {row.line}: the split is missing.")
                members.setdefault(row.split, []).append(image_id)
        elif len(labelled) > 1:
            count = min(max(1, round(self.val_fraction * len(labelled))), len(labelled) - 1)
            chosen = np.random.default_rng(self.split_seed).permutation(len(labelled))[:count]
            members["val"] = [labelled[index] for index in sorted(chosen)]
            members["train"] = sorted(set(labelled) - set(members["val"]))
        else:
            members["train"] = labelled
        members["labeled"] = labelled
        members["unlabeled"] = sorted(set(self._images) - set(labelled))
        members["all"] = sorted(self._images)
        return members

    def _labels(self, image_id: str) -> npt.NDArray[np.float32]:
        row = self._row_of.get(image_id)
        if row is None or row.labels is None:
            return np.zeros(self.num_classes, dtype=np.float32)
        return multi_hot(row.labels, self.class_names, f"{self.root / LABEL_FILE}, line {row.line}")
