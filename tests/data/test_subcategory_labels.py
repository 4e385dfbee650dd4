"""Sub-categories in the samples: with their image whatever the augmentation, and for these labels only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wsss_zoo.artifacts import Subcategories
from wsss_zoo.data import VOC2012DataModule
from wsss_zoo.data.inputs import read_input
from wsss_zoo.errors import ArtifactError, DataError


def write(folder: Path, record, k: int, shift: int = 0) -> None:
    classes = np.flatnonzero(record.labels).astype(np.int16) + np.int16(shift)
    clusters = (classes % k).astype(np.int16)
    Subcategories(classes, clusters, k).save(folder / f"{record.image_id}.npz")


@pytest.fixture
def datamodule(voc_root: Path, tmp_path: Path) -> VOC2012DataModule:
    inputs = {"subcategories": str(tmp_path / "subcategories"), "masks": "ground_truth"}
    return VOC2012DataModule(voc_root, train_split="train", inputs=inputs, batch_size=2, crop_size=32)


def test_samples_hold_one_kind_of_each_class(datamodule: VOC2012DataModule, tmp_path: Path) -> None:
    records = {record.image_id: record for record in datamodule.records("train")}
    for record in records.values():
        write(tmp_path / "subcategories", record, k=3)
    for batch in datamodule.train_dataloader():
        assert (batch["sublabels"].shape, batch["sublabels"].dtype) == ((2, 60), torch.float32)
        assert batch["mask"].shape == (2, 32, 32)
        grouped = batch["sublabels"].reshape(2, 20, 3)
        torch.testing.assert_close(grouped.sum(2), batch["labels"])
        for image_id, kinds in zip(batch["image_id"], grouped, strict=True):
            for index in np.flatnonzero(records[image_id].labels):
                assert kinds[index].argmax() == index % 3


def test_missing_and_outdated_files(datamodule: VOC2012DataModule, tmp_path: Path) -> None:
    folder = tmp_path / "subcategories"
    records = datamodule.records("train")
    write(folder, records[0], k=3)
    with pytest.raises(DataError, match=r"images have no subcategories \(<image id>\.npz\), first"):
        datamodule.train_dataloader()
    for record in records:
        write(folder, record, k=3, shift=-1 if record.labels[19] else 1)
    dataset = datamodule.train_dataloader().dataset
    with pytest.raises(DataError, match=r"is labelled \[.*\]\. Cluster these images anew"):
        dataset[0]
    (folder / f"{records[0].image_id}.npz").write_bytes(b"no archive")
    with pytest.raises(ArtifactError, match="expected sub-categories"):
        dataset[0]


def test_whole_images_have_no_value_for_a_pixel(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"inputs\.features: features belong to whole images"):
        read_input("features", tmp_path, "a", 20, (4, 4))
