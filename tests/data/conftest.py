"""A VOC devkit of eight small pictures, and a folder of tagged photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from wsss_zoo.artifacts.masks import save_mask
from wsss_zoo.data.voc import VOC_CLASSES

#: id -> classes of the boxes. Sizes differ so that a mix-up of width and height is seen.
VOC_OBJECTS = {
    "2007_000001": ["cat"],
    "2007_000002": ["dog", "person"],
    "2007_000003": ["aeroplane"],
    "2007_000004": ["tvmonitor", "sofa"],
    "2008_000005": ["bird"],
    "2008_000006": ["person"],
    "2008_000007": ["bus"],
    "2008_000008": ["cat", "dog"],
}
VOC_TRAIN = ["2007_000001", "2007_000002", "2007_000003"]
VOC_VAL = ["2007_000004", "2008_000008"]
SBD_TRAIN = ["2008_000005", "2008_000006", "2007_000001"]
SBD_VAL = ["2008_000007", "2008_000008"]


def draw(image_id: str, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """An RGB image of noise with a block of another brightness for each class, and its mask."""
    rng = np.random.default_rng(int(image_id[-6:]))
    height, width = 24 + int(image_id[-1]), 40 - 2 * int(image_id[-1])
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    for number, name in enumerate(classes):
        top = 2 + 9 * number
        mask[top : top + 8, 3:15] = 255
        mask[top + 1 : top + 7, 4:14] = VOC_CLASSES.index(name) + 1
    return image, mask


def write_annotation(path: Path, classes: list[str]) -> None:
    """A VOC annotation; the last object is difficult, and a person has a part `head`."""
    objects = []
    for number, name in enumerate(classes):
        part = "<part><name>head</name></part>" if name == "person" else ""
        difficult = int(number == len(classes) - 1)
        objects.append(f"<object><name>{name}</name><difficult>{difficult}</difficult>{part}</object>")
    path.write_text(f"<annotation>{''.join(objects)}</annotation>")


@pytest.fixture
def voc_root(tmp_path: Path) -> Path:
    """`VOCdevkit/VOC2012` with XML, masks of VOC's images, and SBD beside it."""
    voc = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Segmentation"):
        (voc / folder).mkdir(parents=True)
    (tmp_path / "sbd" / "cls").mkdir(parents=True)
    for image_id, classes in VOC_OBJECTS.items():
        image, mask = draw(image_id, classes)
        Image.fromarray(image).save(voc / "JPEGImages" / f"{image_id}.jpg", quality=95)
        write_annotation(voc / "Annotations" / f"{image_id}.xml", classes)
        if image_id in VOC_TRAIN + VOC_VAL:
            save_mask(voc / "SegmentationClass" / f"{image_id}.png", mask)
        if image_id in SBD_TRAIN + SBD_VAL:
            coarse = np.where(mask == 255, mask.max(where=mask < 255, initial=0), mask).astype(np.uint8)
            content = {"GTcls": {"Segmentation": coarse, "Boundaries": np.zeros((2, 2))}}
            savemat(tmp_path / "sbd" / "cls" / f"{image_id}.mat", content)
    lists = voc / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("\n".join(VOC_TRAIN) + "\n")
    (lists / "val.txt").write_text("\n".join(VOC_VAL) + "\n")
    (tmp_path / "sbd" / "train.txt").write_text("\n".join(SBD_TRAIN) + "\n")
    (tmp_path / "sbd" / "val.txt").write_text("\n".join(SBD_VAL) + "\n")
    return tmp_path


@pytest.fixture
def voc(voc_root: Path) -> Path:
    """The VOC2012 folder of `voc_root`."""
    return voc_root / "VOCdevkit" / "VOC2012"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten photos, nine tagged, two masks; classes cat and dog."""
    root = tmp_path / "photos"
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        image = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(image).save(root / "images" / f"p{number}.{'png' if number % 2 else 'jpg'}")
    lines = ["image,labels", "p0.jpg,cat", "p1.png,dog;cat", "p2,dog", "p3,background"]
    lines += [f"p{number},{'cat' if number % 2 else 'dog'}" for number in range(4, 9)]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    mask = np.zeros((20, 30), dtype=np.uint8)
    mask[5:10, 5:10] = 1
    save_mask(root / "masks" / "p0.png", mask)
    save_mask(root / "masks" / "p1.png", mask * 2)
    return root
