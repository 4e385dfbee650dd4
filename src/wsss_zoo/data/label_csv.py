"""The text form of image-level labels: `image,labels`, several labels separated by `;`. Needs no torch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError, suggest

#: Written in place of labels where none of the classes is in the image.
BACKGROUND = "background"


@dataclass(frozen=True)
class LabelRow:
    """A line of the file.

    Attributes:
        line: its number, the header being 1.
        image: as written, stripped.
        labels: class names; empty for `background`; None where the field is empty (not known).
        split: the `split` column; None where the file has no such column.
    """

    line: int
    image: str
    labels: tuple[str, ...] | None
    split: str | None


def read_label_csv(path: Path) -> list[LabelRow]:
    """Read `image,labels[,split]`; the columns may stand in any order and others are ignored.

    Raises:
        DataError: the file is missing, not UTF-8, lacks a column, or a line has too many or too few
            fields, no image, or an image of an earlier line.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _rows(path, csv.DictReader(file, skipinitialspace=True))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file. Write one line an image below the header `image,labels`, "
            "for example `cat1.jpg,cat;sofa`."
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8 ({error}). Save it again as such.") from error


def _rows(path: Path, reader: csv.DictReader[str]) -> list[LabelRow]:
    header = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    for column in ("image", "labels"):
        if column not in header:
            given = ", ".join(header) or "nothing"
            raise DataError(f"{path}: the first line must name the columns image,labels; it names {given}.")
    rows: list[LabelRow] = []
    seen: dict[str, int] = {}
    for fields in reader:
        line = reader.line_num
        # DictReader puts surplus fields under None and fills missing ones with None
        if None in fields or any(value is None for value in fields.values()):
            raise DataError(
                f"{path}, line {line}: expected {len(header)} fields ({','.join(header)}). "
                "Several labels of an image are separated by `;`, not by a comma."
            )
        image = fields["image"].strip()
        if not image:
            raise DataError(f"{path}, line {line}: the image is missing.")
        if image in seen:
            raise DataError(
                f"{path}, line {line}: {image} is listed a second time (first in line {seen[image]}). "
                "Put all its labels on one line, separated by `;`."
            )
        seen[image] = line
        split = fields["split"].strip() if "split" in header else None
        rows.append(LabelRow(line, image, _labels(path, line, fields["labels"]), split))
    return rows


def _labels(path: Path, line: int, field: str) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(name.strip() for name in field.split(";") if name.strip()))
    if BACKGROUND in names:
        if len(names) > 1:
            raise DataError(
                f"{path}, line {line}: `{BACKGROUND}` means that no class is in the image and cannot stand "
                f"beside {', '.join(name for name in names if name != BACKGROUND)}. Remove one of them."
            )
        return ()
    return names or None


def multi_hot(names: Sequence[str], class_names: Sequence[str], where: str) -> npt.NDArray[np.float32]:
    """Class names as float32 `(C,)` of 0 and 1.

    Args:
        names: what is in the image.
        class_names: the C foreground classes.
        where: file and line, for the message.

    Raises:
        DataError: a name is not one of the classes.
    """
    labels = np.zeros(len(class_names), dtype=np.float32)
    for name in names:
        if name not in class_names:
            raise DataError(
                f"{where}: unknown class '{name}'; {suggest(name, class_names)} "
                "Correct the name or add it to the classes."
            )
        labels[list(class_names).index(name)] = 1
    return labels
