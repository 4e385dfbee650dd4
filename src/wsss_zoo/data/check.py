"""Look at every file of a data set and tell what is wrong: `wsss-zoo data check NAME --root DIR`."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from wsss_zoo.data import DATASETS
from wsss_zoo.errors import DataError, suggest

if TYPE_CHECKING:
    from wsss_zoo.data.image_datamodule import ImageDataModule
    from wsss_zoo.data.record import Record

_SHOWN = 5


@dataclass
class CheckReport:
    """What was found; `print` it.

    Attributes:
        title: data set and folder.
        splits: split -> (images found, images listed).
        descriptions: one line a split: counts, source of labels and of masks.
        images: how many different images were decoded.
        problems: kind of problem -> one line a case.
        notes: things to know that are no mistakes, such as images missing from a partial copy.
    """

    title: str
    splits: dict[str, tuple[int, int]] = field(default_factory=dict)
    descriptions: list[str] = field(default_factory=list)
    images: int = 0
    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No problem was found."""
        return not any(self.problems.values())

    def __str__(self) -> str:
        lines = [self.title, *(f"  {line}" for line in self.descriptions)]
        lines.append(f"  {self.images:,} images decoded")
        for kind, cases in self.problems.items():
            lines.append(f"{kind}: {len(cases):,}")
            lines += [f"  {case}" for case in cases[:_SHOWN]]
            if len(cases) > _SHOWN:
                lines.append(f"  ... and {len(cases) - _SHOWN:,} more")
        lines += [f"note: {note}" for note in self.notes]
        lines.append("no problem found" if self.ok else f"{sum(map(len, self.problems.values())):,} problems")
        return "\n".join(lines)


def check(
    data: str | ImageDataModule, root: str | os.PathLike[str] | None = None, progress: bool = True
) -> CheckReport:
    """Decode every image and mask of every split and compare them.

    For a saliency set also: masks with grey levels, without object, or stored as 0 and 1, and how many images
    the published set has.

    Problems: a split that cannot be read; images or masks that cannot be decoded; masks of another size
    than their image or with values outside 0..C and 255; the same image in the training and the
    validation split, or twice under different names; masks without image. Notes: images of a list that
    are not there (a partial copy), and labelled images with none of the classes.

    Args:
        data: a data module, or the name of a data set.
        root: folder of the data set, with a name.
        progress: show a progress bar.

    Raises:
        DataError: unknown name, no root, or the data set cannot be opened at all.
    """
    if isinstance(data, str):
        data = _open(data, root)
    report = CheckReport(f"{type(data).__name__} in {data.root}")
    records: dict[str, Record] = {}
    for name in data.split_names:
        try:
            split = data.split(name)
        except DataError as error:
            report.problems["splits that cannot be used"].append(f"{name}: {error}")
            continue
        report.splits[name] = (len(split.records), split.listed)
        report.descriptions.append(data.describe(name))
        if split.missing:
            report.notes.append(f"{len(split.missing):,} images of {name} are not here (a partial copy)")
        report.notes += [f"{name}: {remark}" for remark in data.split_remarks(name)]
        if split.labelled:
            empty = [record.image_id for record in split.records if not record.labels.any()]
            if empty:
                report.notes.append(
                    f"{len(empty):,} images of {name} have none of the classes, first {empty[0]}: "
                    "background only, or labels forgotten?"
                )
        records.update((record.image_id, record) for record in split.records)
    _compare_splits(data, report)
    _decode(data, records.values(), report, progress)
    _add(report, "masks without image", (str(path) for path in data.masks_without_image()))
    report.problems = dict(report.problems)
    return report


def _open(name: str, root: str | os.PathLike[str] | None) -> ImageDataModule:
    from importlib import import_module

    if name not in DATASETS:
        raise DataError(f"unknown data set '{name}'; {suggest(name, DATASETS)}")
    if root is None:
        raise DataError(f"root is missing: give the folder of the data set '{name}'.")
    module, _, class_name = DATASETS[name].rpartition(".")
    datamodule: ImageDataModule = getattr(import_module(module), class_name)(root=os.fspath(root))
    return datamodule


def _add(report: CheckReport, kind: str, cases: Iterable[str]) -> None:
    found = list(cases)
    if found:
        report.problems[kind] += found


def _compare_splits(data: ImageDataModule, report: CheckReport) -> None:
    if data.train_split in report.splits and data.val_split in report.splits:
        train = {record.image_id for record in data.records(data.train_split)}
        both = (record.image_id for record in data.records(data.val_split) if record.image_id in train)
        _add(report, f"images in both {data.train_split} and {data.val_split}", both)


def _decode(data: ImageDataModule, records: Iterable[Record], report: CheckReport, progress: bool) -> None:
    by_content: dict[bytes, str] = {}
    remarks: dict[str, list[str]] = defaultdict(list)
    for record in tqdm(list(records), desc="Checking", unit="image", disable=not progress):
        try:
            image = data.read_image(record)
        except DataError as error:
            report.problems["images that cannot be read"].append(str(error))
            continue
        report.images += 1
        digest = hashlib.sha256(image.tobytes() + repr(image.shape).encode()).digest()
        first = by_content.setdefault(digest, record.image_id)
        if first != record.image_id:
            report.problems["images that are identical"].append(f"{first} and {record.image_id}")
        if record.mask is None:
            continue
        try:
            mask = data.read_mask(record)
        except DataError as error:
            report.problems["masks that cannot be used"].append(str(error))
            continue
        for remark in data.mask_remarks(mask):
            remarks[remark].append(record.image_id)
        problem = data.mask_problem(mask)
        if problem is not None:
            report.problems[problem].append(record.image_id)
        if mask.shape != image.shape[:2]:
            report.problems["masks of another size than their image"].append(
                f"{record.image_id}: mask {mask.shape[1]} x {mask.shape[0]}, "
                f"image {image.shape[1]} x {image.shape[0]}"
            )
    for remark, image_ids in remarks.items():
        report.notes.append(f"{len(image_ids):,} {remark}, first {image_ids[0]}")
