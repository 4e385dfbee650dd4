"""Seeds on their own grid, and images with ground truth among images without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wsss_zoo.artifacts import Seeds, save_mask
from wsss_zoo.data import VOC2012DataModule
from wsss_zoo.data.inputs import read_seeds
from wsss_zoo.errors import DataError
from wsss_zoo.normalization import Normalization

IDENTITY = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WHOLE: dict[str, Any] = {"crop_size": 40, "resize_square": [40, 40], "normalization": IDENTITY}


def write_seeds(datamodule: VOC2012DataModule, folder: Path, grid: tuple[int, int] = (5, 5)) -> None:
    """The first class of an image in the left column, background in the last."""
    for record in datamodule.records(datamodule.train_split):
        classes = np.flatnonzero(record.labels)[:1].astype(np.int16)
        planes = np.zeros((2, *grid), dtype=bool)
        planes[1, :, 0] = planes[0, :, -1] = True
        size = datamodule.read_image(record).shape[:2]
        Seeds(classes, planes, (size[0], size[1])).save(folder / f"{record.image_id}.npz")


def test_seeds_are_mirrored_with_the_image(voc_root: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"inputs": {"seeds": str(tmp_path / "seeds")}, "batch_size": 1, **WHOLE}
    datamodule = VOC2012DataModule(voc_root, "train", **arguments)
    write_seeds(datamodule, tmp_path / "seeds")
    first = int(np.flatnonzero(datamodule.records("train")[1].labels)[0]) + 1
    upright = VOC2012DataModule(voc_root, "train", flip=0.0, **arguments).train_dataloader().dataset[1]
    dataset = datamodule.train_dataloader().dataset
    mirrored = []
    for seed in range(12):
        sample = dataset[1, seed]
        flipped = torch.equal(sample["image"], upright["image"].flip(2))
        assert flipped or torch.equal(sample["image"], upright["image"])
        assert (sample["seeds"].shape, sample["seeds"].dtype) == ((21, 5, 5), torch.float32)
        assert sample["seeds"].sum() == 10
        assert sample["seeds"][first, :, -1 if flipped else 0].sum() == 5
        assert sample["seeds"][0, :, 0 if flipped else -1].sum() == 5
        mirrored.append(flipped)
    assert set(mirrored) == {True, False}


@pytest.mark.parametrize(
    "changes", [{"resize_square": None}, {"resize_square": [40, 48]}, {"resize_square": [48, 48]}]
)
def test_seeds_need_samples_that_are_whole_images(voc_root: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"resize_square to \[40, 40\]"):
        VOC2012DataModule(voc_root, inputs={"seeds": "anywhere"}, **{**WHOLE, **changes})


def test_seeds_of_another_image_are_refused(tmp_path: Path) -> None:
    Seeds(np.array([3], np.int16), np.ones((2, 5, 5), bool), (6, 5)).save(tmp_path / "a.npz")
    labels = np.zeros(20, np.float32)
    with pytest.raises(DataError, match=r"seeds of the classes \[3\], but a is labelled \[\]"):
        read_seeds(tmp_path, "a", labels, (6, 5))
    labels[[3, 7]] = 1  # a class without a seed is no mistake
    assert read_seeds(tmp_path, "a", labels, (6, 5)).sum() == 50
    with pytest.raises(DataError, match=r"made for an image of 5 x 6, but a is 6 x 5"):
        read_seeds(tmp_path, "a", labels, (5, 6))


def test_strong_images_bring_their_masks_and_no_seeds(voc_root: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"inputs": {"seeds": str(tmp_path / "seeds")}, "batch_size": 1, **WHOLE}
    weak = VOC2012DataModule(voc_root, "train_aug", **arguments)
    write_seeds(weak, tmp_path / "seeds")
    (tmp_path / "strong.txt").write_text("2007_000002\n2008_000008\n")  # one of train_aug, one of val
    # a strong image needs no file of seeds
    (tmp_path / "seeds" / "2007_000002.npz").unlink()
    datamodule = VOC2012DataModule(
        voc_root, "train_aug", strong_split=str(tmp_path / "strong.txt"), flip=0.0, **arguments
    )
    datamodule.setup("fit")
    batches = list(datamodule.train_dataloader())
    ids = [batch["image_id"][0] for batch in batches]
    assert len(ids) == len(set(ids)) == len(weak.records("train_aug")) + 1
    records = {record.image_id: record for record in datamodule.records(str(tmp_path / "strong.txt"))}
    for image_id, batch in zip(ids, batches, strict=True):
        strong = image_id in records
        assert batch["strong"].tolist() == [strong]
        assert batch["seeds"].shape == (1, 21, 5, 5)
        assert (batch["seeds"].sum() == 0) == strong
        if strong:
            known = set(np.unique(datamodule.read_mask(records[image_id])).tolist())
            assert set(batch["mask"].unique().tolist()) <= known
            assert len(batch["mask"].unique()) > 1
        else:
            assert batch["mask"].unique().tolist() == [255]


def test_strong_masks_replace_pseudo_labels(voc_root: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"inputs": {"masks": str(tmp_path)}, "batch_size": 1, "crop_size": 40}
    datamodule = VOC2012DataModule(voc_root, "train", strong_split="val", normalization=IDENTITY, **arguments)
    for record in datamodule.records("train"):
        size = datamodule.read_image(record).shape[:2]
        save_mask(tmp_path / f"{record.image_id}.png", np.full(size, 9, np.uint8))
    for batch in datamodule.train_dataloader():
        assert (9 in batch["mask"]) != bool(batch["strong"])


def test_mistakes_with_strong_images(voc_root: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"inputs": {"seeds": str(tmp_path)}, "batch_size": 1, **WHOLE}
    datamodule = VOC2012DataModule(voc_root, "train", strong_split="train", **arguments)
    with pytest.raises(DataError, match="strong_split names all training images"):
        next(iter(datamodule.train_dataloader()))
    datamodule = VOC2012DataModule(voc_root, "train", strong_split="val", **arguments)
    with pytest.raises(DataError, match=r"3 of 3 images have no seeds"):
        datamodule.setup("fit")
