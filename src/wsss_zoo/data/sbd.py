"""The Semantic Boundaries Dataset (SBD): masks of 11,355 VOC images in MATLAB files. Needs no torch.

Hariharan et al., Semantic Contours from Inverse Detectors, ICCV 2011. Its masks are the extra 9,118 of
the usual 10,582 training images of VOC 2012. They are coarser than VOC's and know no 255.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError

#: Where the archive (`benchmark_RELEASE/dataset`) and torchvision's downloader leave SBD.
_FOLDERS = ("", "dataset", "benchmark_RELEASE/dataset", "sbd", "SBD")


@dataclass(frozen=True)
class SBD:
    """A folder with `cls/<id>.mat`, `train.txt` and `val.txt`.

    Attributes:
        root: the folder that holds `cls`.
    """

    root: Path

    def ids(self) -> list[str]:
        """Ids of `train.txt` and `val.txt`, in this order, each once.

        Raises:
            DataError: one of the lists is missing.
        """
        ids: dict[str, None] = {}
        for name in ("train.txt", "val.txt"):
            path = self.root / name
            if not path.is_file():
                raise DataError(f"{path}: SBD's list is missing. It belongs beside the folder cls/.")
            ids.update(dict.fromkeys(path.read_text(encoding="utf-8").split()))
        return list(ids)

    def mask_path(self, image_id: str) -> Path:
        """Where the mask of an image would be."""
        return self.root / "cls" / f"{image_id}.mat"


def find_sbd(places: Iterable[Path]) -> SBD | None:
    """The first SBD in or directly below the given folders; None where there is none."""
    for place in places:
        for folder in _FOLDERS:
            if (place / folder / "cls").is_dir():
                return SBD(place / folder)
    return None


def read_sbd_mask(path: Path) -> npt.NDArray[np.uint8]:
    """Read the category mask of an SBD file: `GTcls.Segmentation`.

    Returns:
        uint8 `(H, W)`: 0 background, 1..20.

    Raises:
        DataError: the file is missing, broken, or of another structure.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["GTcls"])
        mask = content["GTcls"]["Segmentation"][0, 0]
    except FileNotFoundError:
        raise DataError(f"{path}: no such SBD mask. Restore the file.") from None
    # scipy tells a broken file by whatever its parser ran into (zlib, KeyError, its own exceptions)
    except Exception as error:
        raise DataError(
            f"{path}: expected a MATLAB file of SBD with GTcls.Segmentation ({error}); re-download it."
        ) from error
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype.kind not in "ui":
        raise DataError(f"{path}: GTcls.Segmentation is not a mask of integers (H, W); re-download it.")
    return mask.astype(np.uint8)
