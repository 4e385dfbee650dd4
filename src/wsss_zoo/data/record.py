"""One image of a data set, and a split as a tuple of them. Needs no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Record:
    """An image, what is known of it, and where its files are.

    Attributes:
        image_id: unique in the data set and usable as a file name; artifacts are named after it.
        image: the image file.
        mask: the ground-truth mask, or None where there is none.
        labels: float32 `(C,)`, 1 for every foreground class in the image and 0 elsewhere; all 0 where
            the labels are not known (see `Split.labelled`).
    """

    image_id: str
    image: Path
    mask: Path | None
    labels: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Split:
    """The images of a split that are on disk, and what the split should hold.

    Attributes:
        name: as asked for.
        records: images that are there, in the order of the list.
        missing: ids that are listed but have no image file.
        label_source: where the image-level labels come from, in words.
        ground_truth: where the masks come from, in words.
        labelled: the labels are known; False for images to predict only.
    """

    name: str
    records: tuple[Record, ...]
    missing: tuple[str, ...]
    label_source: str
    ground_truth: str
    labelled: bool = True

    @property
    def listed(self) -> int:
        """How many ids the split's list holds."""
        return len(self.records) + len(self.missing)

    def fingerprint(self, class_names: Sequence[str]) -> str:
        """SHA-256 over class names, ids, labels and the kind of ground truth; 64 hexadecimal digits.

        It does not depend on where the data lie, so that a run can be continued on another machine.
        """
        digest = hashlib.sha256()
        digest.update("\n".join([*class_names, self.ground_truth, ""]).encode())
        for record in self.records:
            digest.update(f"{record.image_id}:".encode() + record.labels.astype("<f4").tobytes() + b"\n")
        return digest.hexdigest()
