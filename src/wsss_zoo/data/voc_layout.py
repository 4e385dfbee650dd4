"""Where things are in a VOCdevkit folder, and how its lists are written. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsss_zoo.data.images import image_id_of
from wsss_zoo.errors import DataError

_FOLDERS = ("", "VOC2012", "VOCdevkit/VOC2012")


def find_voc(root: Path) -> Path:
    """The VOC2012 folder (with `JPEGImages`) at, in, or one devkit below `root`.

    Raises:
        DataError: there is none; the message tells where it was looked for.
    """
    for folder in _FOLDERS:
        if (root / folder / "JPEGImages").is_dir():
            return root / folder
    looked = ", ".join(str(root / folder / "JPEGImages") for folder in _FOLDERS)
    raise DataError(
        f"{root}: no PASCAL VOC here; looked for {looked}. Give root as VOC2012, VOCdevkit or the folder "
        "above, or download it with `wsss-zoo data prepare voc2012 --root DIR`."
    )


def read_image_list(path: Path) -> list[str]:
    """Ids of a list file, in its order.

    A line is a bare id (`2007_000032`) or, in PSA's lists, an image path and perhaps a mask path
    (`/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png`), whose first file name without
    the extension is the id. Empty lines are skipped.

    Raises:
        DataError: the file is missing, not text, or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: this list of images cannot be read ({error}).") from error
    ids = [image_id_of(line.split()[0]) for line in lines if line.strip()]
    if not ids:
        raise DataError(f"{path}: this list of images is empty. Expected one image id a line.")
    return ids


def repeated(ids: Sequence[str]) -> str | None:
    """The first id that stands in a list a second time."""
    seen: set[str] = set()
    for image_id in ids:
        if image_id in seen:
            return image_id
        seen.add(image_id)
    return None
