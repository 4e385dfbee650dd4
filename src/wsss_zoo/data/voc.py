"""PASCAL VOC 2012 with the extra training images of SBD, whole or in part."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from wsss_zoo.data.datamodule import SegmentationDataModule
from wsss_zoo.data.images import stems
from wsss_zoo.data.record import Record, Split
from wsss_zoo.data.sbd import SBD, find_sbd
from wsss_zoo.data.voc_labels import VOCLabels
from wsss_zoo.data.voc_layout import find_voc, read_image_list, repeated
from wsss_zoo.errors import DataError, suggest

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
#: File names under which the list of 10,582 training images goes around.
_TRAIN_AUG = ("train_aug", "trainaug")


class VOC2012DataModule(SegmentationDataModule):
    """PASCAL VOC 2012 segmentation in the VOCdevkit layout.

    **Splits**: every list in `ImageSets/Segmentation`, or the path of a list file. Lists hold bare ids or,
    as PSA's, a path to the image and one to the mask. `train_aug` (also `trainaug`) is read from such a
    list where there is one, otherwise made as (VOC train + SBD train + SBD val) without VOC val: 10,582
    images on the full set. `trainval` is made from train and val where its list is missing.

    **Partial copies**: listed images whose file is missing are left out, which `describe` tells.

    **Image-level labels** (`label_source`): `"xml"`, all boxes in `Annotations`, difficult ones too, as
    the field does; `"table"`, the file `label_table` or else `cls_labels.npz`, `.csv` or `.npy` in the
    VOC2012 folder; `"masks"`, the classes with a pixel in the ground truth. `"auto"` takes the first of:
    `label_table` where given; XML where every image of the split has one; a `cls_labels` table; masks
    where every image has one. `describe` tells which it was. Images of the list `test` may have none.

    **Ground truth**: `"SegmentationClass"`, VOC's own masks for the images of VOC's train and val, and
    SBD's for the others; `"SegmentationClassAug"`, the folder of that name, or where it is missing SBD's
    `.mat` files and VOC's masks for images that SBD lacks. Published figures use `SegmentationClass`; the
    other one moves scores by several points. `"auto"` takes `SegmentationClass` if that folder holds
    masks; the attribute `ground_truth` and `describe` tell what was taken.

    Args:
        root: the VOC2012 folder, VOCdevkit, or the folder above.
        train_split: see `SegmentationDataModule`.
        val_split: see `SegmentationDataModule`.
        label_source: see above.
        label_table: `.npz`, `.csv` or `.npy` file, see `read_label_table`.
        ground_truth: see above.
        sbd_root: folder of SBD (with `cls/`, `train.txt`, `val.txt`); None looks in and beside the devkit.
        **kwargs: arguments of `SegmentationDataModule`.

    Raises:
        DataError: an argument is out of range, or two contradict each other.
    """

    def __init__(
        self,
        root: str | Path,
        train_split: str = "train_aug",
        val_split: str = "val",
        label_source: Literal["auto", "xml", "table", "masks"] = "auto",
        label_table: str | None = None,
        ground_truth: Literal["SegmentationClass", "SegmentationClassAug", "auto"] = "auto",
        sbd_root: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, train_split=train_split, val_split=val_split, **kwargs)
        sources = ("auto", "xml", "table", "masks")
        if label_source not in sources:
            raise DataError(f"label_source: unknown value '{label_source}'; {suggest(label_source, sources)}")
        truths = ("SegmentationClass", "SegmentationClassAug", "auto")
        if ground_truth not in truths:
            raise DataError(f"ground_truth: unknown value '{ground_truth}'; {suggest(ground_truth, truths)}")
        if label_table is not None and label_source not in ("auto", "table"):
            raise DataError(
                f"label_table ({label_table}) is given, but label_source is '{label_source}'. "
                "Set label_source to table, or remove label_table."
            )
        self.label_source = label_source
        self.label_table = None if label_table is None else Path(label_table).expanduser()
        self.sbd_root = None if sbd_root is None else Path(sbd_root).expanduser()
        self._ground_truth = ground_truth

    @property
    def class_names(self) -> tuple[str, ...]:
        """The 20 classes of VOC."""
        return VOC_CLASSES

    @cached_property
    def folder(self) -> Path:
        """The VOC2012 folder, found from `root`.

        Raises:
            DataError: there is none.
        """
        return find_voc(self.root)

    @cached_property
    def sbd(self) -> SBD | None:
        """SBD, where it is there.

        Raises:
            DataError: `sbd_root` is given, but holds no SBD.
        """
        if self.sbd_root is None:
            return find_sbd([self.folder, *self.folder.parents[:2], self.root])
        found = find_sbd([self.sbd_root])
        if found is None:
            raise DataError(f"sbd_root: {self.sbd_root} holds no SBD (a folder cls/ with .mat files).")
        return found

    @cached_property
    def ground_truth(self) -> str:
        """The ground truth in use, `"auto"` resolved: `SegmentationClass` or `SegmentationClassAug`."""
        if self._ground_truth != "auto":
            return self._ground_truth
        if self._official_masks:
            return "SegmentationClass"
        return "SegmentationClassAug" if self._augmented_masks or self.sbd else "none"

    @property
    def split_names(self) -> tuple[str, ...]:
        """Lists in `ImageSets/Segmentation`, and `train_aug` and `trainval` where they can be made."""
        names = set(self._lists)
        if {"train", "val"} <= names:
            names.add("trainval")
            if self.sbd is not None and not names.intersection(_TRAIN_AUG):
                names.add("train_aug")
        return tuple(sorted(names))

    def prepare_data(self) -> None:
        """Check that the data are there; nothing is downloaded here (`wsss-zoo data prepare voc2012`)."""
        find_voc(self.root)

    def load_split(self, name: str) -> Split:
        """Read a list and find images, masks and labels of its ids.

        Raises:
            DataError: no such list, an id is listed twice, no image is there, or labels are missing.
        """
        ids = self._ids(name)
        present = [image_id for image_id in ids if image_id in self._images]
        if not present:
            raise DataError(
                f"{self.folder / 'JPEGImages'}: holds none of the {len(ids):,} images of the split '{name}'; "
                f"looked for {ids[0]}.jpg and the others among {len(self._images):,} images. "
                "Check that root is the right folder and that it was unpacked completely."
            )
        masks = {image_id: self._mask_path(image_id) for image_id in present}
        labels, source = self._labels.find(present, masks, optional=name == "test")
        records = tuple(
            Record(image_id, self._images[image_id], masks[image_id], label)
            for image_id, label in zip(present, labels, strict=True)
        )
        missing = tuple(image_id for image_id in ids if image_id not in self._images)
        return Split(name, records, missing, source or "none", self.ground_truth, labelled=source is not None)

    def masks_without_image(self) -> list[Path]:
        """Masks in `SegmentationClass` and `SegmentationClassAug` whose image is missing."""
        both = [*self._official_masks.items(), *self._augmented_masks.items()]
        return [path for stem, path in both if stem not in self._images]

    @cached_property
    def _labels(self) -> VOCLabels:
        return VOCLabels(
            self.folder, self.class_names, self.label_source, self.label_table, self.ground_truth
        )

    @cached_property
    def _lists(self) -> dict[str, Path]:
        return stems(self.folder / "ImageSets" / "Segmentation", [".txt"])

    @cached_property
    def _images(self) -> dict[str, Path]:
        return stems(self.folder / "JPEGImages", [".jpg"])

    @cached_property
    def _official_masks(self) -> dict[str, Path]:
        return stems(self.folder / "SegmentationClass", [".png"])

    @cached_property
    def _augmented_masks(self) -> dict[str, Path]:
        return stems(self.folder / "SegmentationClassAug", [".png"])

    @cached_property
    def _official_ids(self) -> frozenset[str]:
        """Ids that have a mask of VOC's own on the full set."""
        lists = [self._lists[name] for name in ("train", "val", "trainval") if name in self._lists]
        return frozenset(image_id for path in lists for image_id in read_image_list(path))

    def _ids(self, name: str) -> list[str]:
        ids = self._listed_ids(name)
        twice = repeated(ids)
        if twice is not None:
            raise DataError(f"split '{name}': {twice} is listed more than once. Remove the repeated lines.")
        return ids

    def _listed_ids(self, name: str) -> list[str]:
        if name in self._lists:
            return read_image_list(self._lists[name])
        if name.endswith(".txt") or os.sep in name:
            return read_image_list(Path(name).expanduser())
        if name in _TRAIN_AUG:
            same = next((other for other in _TRAIN_AUG if other in self._lists), None)
            return read_image_list(self._lists[same]) if same else self._compose_train_aug()
        if name == "trainval" and {"train", "val"} <= set(self._lists):
            return sorted(self._ids("train") + self._ids("val"))
        raise DataError(
            f"{self.folder / 'ImageSets' / 'Segmentation'}: there is no list {name}.txt; "
            f"{suggest(name, self.split_names) or 'the folder holds no list at all.'}"
        )

    def _compose_train_aug(self) -> list[str]:
        if self.sbd is None:
            raise DataError(
                f"{self.folder}: train_aug needs ImageSets/Segmentation/train_aug.txt (or trainaug.txt), or "
                "SBD with cls/, train.txt and val.txt. Add one of them, give sbd_root, or train on 'train'. "
                "`wsss-zoo data prepare voc2012` downloads SBD."
            )
        return sorted({*self._ids("train"), *self.sbd.ids()} - set(self._ids("val")))

    def _mask_path(self, image_id: str) -> Path | None:
        official = self._official_masks.get(image_id)
        extra = self._augmented_masks.get(image_id)
        if extra is None and self.sbd is not None and self.sbd.mask_path(image_id).is_file():
            extra = self.sbd.mask_path(image_id)
        if self.ground_truth == "SegmentationClass":
            # a missing official mask is not replaced by another kind of ground truth in silence
            return official if official is not None or image_id in self._official_ids else extra
        if self._augmented_masks:
            return self._augmented_masks.get(image_id)
        return extra if extra is not None else official
