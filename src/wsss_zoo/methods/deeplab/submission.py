"""The archive that the PASCAL VOC test server takes (host.robots.ox.ac.uk, segmentation challenge)."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from wsss_zoo.artifacts.files import atomic_write
from wsss_zoo.artifacts.masks import VOC_PALETTE, load_mask
from wsss_zoo.errors import ArtifactError

#: Foreground classes of VOC 2012.
_LAST_LABEL = 20
#: Images in `ImageSets/Segmentation/test.txt` of VOC 2012.
VOC2012_TEST_IMAGES = 1456


def write_submission(
    masks_dir: str | Path,
    image_ids: Sequence[str],
    out: str | Path,
    comp: Literal["comp5", "comp6"] = "comp6",
    *,
    sizes: Mapping[str, tuple[int, int]] | None = None,
    expected: int | None = VOC2012_TEST_IMAGES,
) -> Path:
    """Check predicted masks and pack them as the VOC 2012 test server wants them.

    The archive holds `results/VOC2012/Segmentation/<comp>_test_cls/<image id>.png`, for each image one 8-bit
    PNG with the VOC palette and values 0..20. The same masks give the same bytes. Everything is checked
    before the file appears: ids, number of images, labels, sizes.

    Args:
        masks_dir: folder with `<image id>.png`; other files in it are left out.
        image_ids: the lines of `ImageSets/Segmentation/test.txt`.
        out: the archive, ending in .tar.gz or .tgz (the server expects `results.tar.gz`), or a folder to put
            `results.tar.gz` into.
        comp: `comp5` for training on the VOC data alone, `comp6` for anything else (SBD, ImageNet weights).
        sizes: `(H, W)` of the JPEG by image id; without it sizes are not checked.
        expected: how many ids there must be; None for a list of one's own.

    Returns:
        The path of the archive.

    Raises:
        ArtifactError: ids are doubled or their number is wrong, masks are missing, or a mask cannot be read,
            has a label above 20 or another size than its image.
    """
    if comp not in ("comp5", "comp6"):
        raise ArtifactError(f"the competition is comp5 or comp6, got {comp!r}")
    path = _archive_path(Path(out))
    masks_dir = Path(masks_dir)
    _check_ids(masks_dir, image_ids, expected)
    unsized = [image_id for image_id in image_ids if sizes is not None and image_id not in sizes]
    if unsized:
        raise ArtifactError(f"sizes has no entry for {len(unsized)} images, first {min(unsized)!r}")
    folder = f"results/VOC2012/Segmentation/{comp}_test_cls"
    # mtime 0 in the gzip header and in every entry: equal masks, equal bytes
    with (
        atomic_write(path) as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for image_id in image_ids:
            mask = _checked_mask(masks_dir / f"{image_id}.png", sizes[image_id] if sizes else None)
            content = _palette_png(mask)
            entry = tarfile.TarInfo(f"{folder}/{image_id}.png")
            entry.size = len(content)
            entry.mode = 0o644
            archive.addfile(entry, io.BytesIO(content))
    return path


def _archive_path(out: Path) -> Path:
    if out.name.endswith((".tar.gz", ".tgz")):
        return out
    if out.suffix and not out.is_dir():
        raise ArtifactError(f"{out}: the archive ends in .tar.gz or .tgz (the server expects results.tar.gz)")
    return out / "results.tar.gz"


def _check_ids(masks_dir: Path, image_ids: Sequence[str], expected: int | None) -> None:
    doubled = [image_id for image_id, count in Counter(image_ids).items() if count > 1]
    if doubled:
        raise ArtifactError(f"the list of images has {len(doubled)} ids twice, first {min(doubled)}")
    if expected is not None and len(image_ids) != expected:
        raise ArtifactError(
            f"the VOC 2012 test set has {expected} images, the list has {len(image_ids)}; read the ids from "
            "ImageSets/Segmentation/test.txt, or pass expected=None for a list of your own"
        )
    if not image_ids:
        raise ArtifactError("the list of images is empty: there is nothing to submit")
    missing = [image_id for image_id in image_ids if not (masks_dir / f"{image_id}.png").is_file()]
    if missing:
        raise ArtifactError(
            f"{masks_dir}: {len(missing)} of {len(image_ids)} masks are missing, first {min(missing)}.png; "
            "predict the test split first"
        )


def _checked_mask(path: Path, size: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    mask = load_mask(path)
    if mask.max() > _LAST_LABEL:
        hint = " (255 is for ignored pixels, a prediction has none)" if mask.max() == 255 else ""
        raise ArtifactError(f"{path}: labels are 0..{_LAST_LABEL}, found {mask.max()}{hint}")
    if size is not None and mask.shape != tuple(size):
        raise ArtifactError(f"{path}: the image has (H, W) {tuple(size)}, the mask {mask.shape}")
    return mask


def _palette_png(mask: npt.NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(mask)
    image.putpalette(VOC_PALETTE.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
