"""On a partial copy of the real VOC 2012; its root is given by the variable WSSS_ZOO_TEST_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from wsss_zoo.data import VOC2012DataModule

ROOT = os.environ.get("WSSS_ZOO_TEST_DATA")
pytestmark = pytest.mark.skipif(
    ROOT is None, reason="WSSS_ZOO_TEST_DATA is not set to a folder that holds VOCdevkit/ with real images"
)


@pytest.fixture(scope="module")
def datamodule() -> VOC2012DataModule:
    assert ROOT is not None
    return VOC2012DataModule(
        ROOT, train_split="small_train", val_split="small_val", label_source="table",
        inputs={"masks": "ground_truth"}, crop_size=128, resize_long=(100, 200),
        color_jitter=(0.3, 0.3, 0.3, 0.1), batch_size=8,
    )  # fmt: skip


def test_counts(datamodule: VOC2012DataModule) -> None:
    assert len(datamodule.records("small_train")) == 1160
    assert len(datamodule.records("small_val")) == 362
    assert datamodule.ground_truth == "SegmentationClassAug"
    assert datamodule.describe("train_aug").startswith(f"436 of 10,582 images of train_aug are in {ROOT}")


def test_table_agrees_with_the_masks(datamodule: VOC2012DataModule) -> None:
    assert ROOT is not None
    masks = VOC2012DataModule(ROOT, label_source="masks")
    for split in ("small_train", "small_val"):
        by_table = np.stack([record.labels for record in datamodule.records(split)])
        by_mask = np.stack([record.labels for record in masks.records(split)])
        assert (by_table == by_mask).mean() > 0.99
        assert (by_table == by_mask).all(axis=1).mean() > 0.95


def test_restricted_reader_equals_numpys(datamodule: VOC2012DataModule) -> None:
    from wsss_zoo.data.labels import read_label_table

    path = Path(datamodule.folder) / "cls_labels.npy"
    trusted = np.load(path, allow_pickle=True).item()
    table = read_label_table(path, datamodule.class_names)
    assert len(table) == 12031
    assert int(sum(labels.sum() for labels in table.values())) == 18605
    assert table.keys() == trusted.keys()
    assert all(np.array_equal(table[key], trusted[key]) for key in trusted)


def test_masks_and_images_load(datamodule: VOC2012DataModule) -> None:
    for record in datamodule.records("small_val")[::20]:
        assert datamodule.read_mask(record).shape == datamodule.read_image(record).shape[:2]
    batch = next(iter(datamodule.train_dataloader()))
    assert batch["image"].shape == (8, 3, 128, 128)
    assert abs(float(batch["image"].mean())) < 1  # photos, normalised
    assert set(batch["mask"].unique().tolist()) <= {*range(21), 255}
