"""Writes MiniVOC to disk in the layout of PASCAL VOC 2012. Needs no torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from PIL import Image
from tqdm import tqdm

from wsss_zoo.artifacts.files import atomic_write, read_json, write_json
from wsss_zoo.artifacts.masks import save_mask
from wsss_zoo.artifacts.saliency import save_saliency
from wsss_zoo.data.minivoc.scene import CLASS_NAMES, Scene, render_scene
from wsss_zoo.errors import DataError

#: Raised whenever the same seed gives other pictures than before.
GENERATOR_VERSION = 1
#: Written last: the set is complete.
FINISHED = "minivoc.json"
#: Written first: the folder is ours, and what it is going to hold.
STARTED = "minivoc.partial.json"
#: Where VOC's folders begin, below the root.
DEVKIT = Path("VOCdevkit") / "VOC2012"
JPEG_QUALITY = 92


def generate_minivoc(
    root: str | os.PathLike[str],
    n_train: int = 400,
    n_val: int = 100,
    image_size: int = 112,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Draw the MiniVOC set, or go on where an earlier call was stopped.

    Below ``root/VOCdevkit/VOC2012`` it writes, as VOC does, ``JPEGImages/<id>.jpg``,
    ``SegmentationClass/<id>.png`` and ``SegmentationObject/<id>.png`` (palette PNG; 255 is a ring two
    pixels wide along every outline), ``Annotations/<id>.xml`` (1-based boxes) and
    ``ImageSets/Segmentation/{train,val,trainval}.txt``; beside them ``Saliency/<id>.png`` (grey, 255 on any
    object up to its true outline, 0 elsewhere: a saliency map knows no void ring). The same arguments give
    the same bytes as long as the versions of NumPy and Pillow are the same. ``root/minivoc.json`` with the
    arguments is written last; while it is missing, images that are whole are kept and the others drawn.

    Args:
        root: folder of the set; made when missing.
        n_train: images in the training split, at least one for each class.
        n_val: images in the validation split, at least one for each class.
        image_size: longer side in pixels, 64 to 1024.
        seed: seed of the set; not negative.
        progress: show a progress bar.

    Returns:
        The folder ``root/VOCdevkit/VOC2012``.

    Raises:
        DataError: an argument is out of range, or `root` holds another set.
        ArtifactError: a file could not be written.
    """
    root = Path(root)
    wanted = {
        "version": GENERATOR_VERSION,
        "n_train": n_train,
        "n_val": n_val,
        "image_size": image_size,
        "seed": seed,
        "class_names": list(CLASS_NAMES),
    }
    _check_arguments(wanted)
    devkit = root / DEVKIT
    if (root / FINISHED).exists():
        _check_same(root / FINISHED, wanted)
        return devkit
    _claim(root, wanted)

    splits = {"train": n_train, "val": n_val}
    with tqdm(total=n_train + n_val, desc="Drawing MiniVOC", unit="image", disable=not progress) as bar:
        for split, number in splits.items():
            for index in range(number):
                image_id = f"{split}_{index:05d}"
                # The annotation is written last of an image's files: where it is, the others are.
                if not (devkit / "Annotations" / f"{image_id}.xml").exists():
                    _write_scene(devkit, image_id, render_scene(seed, split, index, image_size))
                bar.update()
    ids = {split: [f"{split}_{index:05d}" for index in range(n)] for split, n in splits.items()}
    ids["trainval"] = ids["train"] + ids["val"]
    for split, names in ids.items():
        with atomic_write(devkit / "ImageSets" / "Segmentation" / f"{split}.txt") as file:
            file.write("".join(f"{name}\n" for name in names).encode())
    write_json(root / FINISHED, wanted)
    (root / STARTED).unlink()
    return devkit


def _check_arguments(wanted: dict[str, Any]) -> None:
    least = len(CLASS_NAMES)
    for name, low, high in (
        ("n_train", least, 100_000),
        ("n_val", least, 100_000),
        ("image_size", 64, 1024),
        ("seed", 0, 2**32),
    ):
        if not low <= wanted[name] <= high:
            raise DataError(f"MiniVOC: {name} must be between {low} and {high}, got {wanted[name]}.")


def _check_same(marker: Path, wanted: dict[str, Any]) -> None:
    """Refuse to read a set as something else than it was generated as."""
    found = read_json(marker)
    differing = [name for name in wanted if not isinstance(found, dict) or found.get(name) != wanted[name]]
    if differing:
        told = ", ".join(
            f"{name} is {found.get(name) if isinstance(found, dict) else None}, asked for {wanted[name]}"
            for name in differing
        )
        raise DataError(
            f"{marker}: this folder holds another MiniVOC ({told}). "
            "Give the values it was generated with, choose another root, or delete the folder."
        )


def _claim(root: Path, wanted: dict[str, Any]) -> None:
    """Mark the folder as being filled; what an earlier call with other arguments left is dropped."""
    started, devkit = root / STARTED, root / DEVKIT
    if not started.exists():
        if (root / "VOCdevkit").exists():
            raise DataError(
                f"{root / 'VOCdevkit'}: exists, but not from MiniVOC (no {FINISHED} beside it). "
                "Choose an empty folder as root."
            )
    elif read_json(started) != wanted:
        for annotation in (devkit / "Annotations").glob("*.xml"):
            annotation.unlink()
    write_json(started, wanted)


def _write_scene(devkit: Path, image_id: str, scene: Scene) -> None:
    with atomic_write(devkit / "JPEGImages" / f"{image_id}.jpg") as file:
        Image.fromarray(scene.image).save(file, format="JPEG", quality=JPEG_QUALITY)
    save_mask(devkit / "SegmentationClass" / f"{image_id}.png", scene.mask)
    save_mask(devkit / "SegmentationObject" / f"{image_id}.png", scene.instances)
    save_saliency(devkit / "Saliency" / f"{image_id}.png", scene.silhouette.astype("float32"))
    with atomic_write(devkit / "Annotations" / f"{image_id}.xml") as file:
        file.write(_annotation(image_id, scene))


def _annotation(image_id: str, scene: Scene) -> bytes:
    """The objects of an image as VOC's XML; boxes count pixels from 1 and include both ends."""
    root = ElementTree.Element("annotation")

    def add(parent: ElementTree.Element, **values: object) -> None:
        for tag, value in values.items():
            ElementTree.SubElement(parent, tag).text = str(value)

    add(root, folder="VOC2012", filename=f"{image_id}.jpg")
    add(ElementTree.SubElement(root, "source"), database="MiniVOC", annotation=f"version {GENERATOR_VERSION}")
    height, width = scene.mask.shape
    add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    add(root, segmented=1)
    for item in scene.objects:
        element = ElementTree.SubElement(root, "object")
        truncated, occluded = int(item.truncated), int(item.occluded)
        add(element, name=item.name, pose="Unspecified", truncated=truncated, occluded=occluded)
        x0, y0, x1, y1 = (position + 1 for position in item.box)
        add(ElementTree.SubElement(element, "bndbox"), xmin=x0, ymin=y0, xmax=x1, ymax=y1)
        add(element, difficult=0)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8") + b"\n"
