"""A miniature of the saliency sets: every layout in use, and every pitfall once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

#: Stems of DUTS in LDF's layout; the mask of the first has another size than its image.
DUTS_TRAIN = ["n01532829_13482", "n04442312_17818", "sun_abc", "ILSVRC2012_test_00000004", "n02_5"]
DUTS_TEST = ["ILSVRC2012_test_00000003", "sun_xyz", "ILSVRC2012_test_00000011"]


def draw(number: int, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """An RGB image of noise and a mask with one block, of different sizes for different numbers."""
    rng = np.random.default_rng(number)
    height, width = size or (40 + 3 * (number % 5), 60 - 4 * (number % 4))
    mask = np.zeros((height, width), np.uint8)
    mask[8 : 20 + number % 7, 10 + number % 5 : 34] = 255
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), mask


def write_pair(image_path: Path, mask_path: Path | None, number: int) -> None:
    image, mask = draw(number)
    image_path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(image_path)
    if mask_path is not None:
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(mask_path)


def write_saliency_root(root: Path) -> Path:
    """Fill a folder with seven sets of two to eight images."""
    duts = root / "DUTS"
    for number, stem in enumerate(DUTS_TRAIN + DUTS_TEST):
        write_pair(duts / "image" / f"{stem}.jpg", duts / "mask" / f"{stem}.png", number)
    # as in the release: three training masks have another size than their image
    Image.fromarray(draw(0, (48, 70))[1]).save(duts / "mask" / f"{DUTS_TRAIN[0]}.png")
    (duts / "train.txt").write_text("\n".join(DUTS_TRAIN) + "\n")
    (duts / "test.txt").write_text("\n".join(DUTS_TEST) + "\n")

    ecssd = root / "ECSSD"
    for number in range(1, 5):
        name = f"{number:04d}"
        write_pair(ecssd / "images" / f"{name}.jpg", ecssd / "ground_truth_mask" / f"{name}.png", number)
    Image.fromarray(draw(1)[1] // 255).save(ecssd / "ground_truth_mask" / "0001.png")  # 0 and 1
    Image.fromarray(draw(2)[1] * 0).save(ecssd / "ground_truth_mask" / "0002.png")
    (ecssd / "small.txt").write_text("0003\n0001\n")

    pascal = root / "PASCAL-S" / "Imgs"
    for number in (1, 2):
        write_pair(pascal / f"{number}.jpg", pascal / f"{number}.png", number)
    Image.fromarray(draw(1)[1] // 3).save(pascal / "1.png")  # agreement of annotators

    for name in ("0004", "9057"):
        hku = root / "HKU-IS"
        write_pair(hku / "imgs" / f"{name}.png", hku / "gt" / f"{name}.png", int(name))

    omron = root / "DUT-OMRON"
    images = omron / "DUT-OMRON-image" / "DUT-OMRON-image"
    for number in range(3):
        name = f"im{number:03d}"
        write_pair(images / f"{name}.jpg", omron / "pixelwiseGT-new-PNG" / f"{name}.png", number)
    write_pair(images / "img_561715398.jpg", None, 9)

    thur = root / "THUR15000"
    for number, label in enumerate(("Butterfly", "plane")):
        source = thur / label / "Src"
        for index in (1, 2):
            write_pair(source / f"{index}.jpg", source / f"{index}.png", 10 * number + index)
        write_pair(source / "3.jpg", None, 3)
    return root
