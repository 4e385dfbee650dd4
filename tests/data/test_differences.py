"""Predicted differences in training samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsss_zoo.artifacts import Differences, save_mask
from wsss_zoo.data import VOC2012DataModule
from wsss_zoo.errors import DataError
from wsss_zoo.normalization import Normalization

IDENTITY = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def datamodule(root: Path, folder: Path, **changes: Any) -> VOC2012DataModule:
    """Differences that are 6 on class pixels of the masks and -6 elsewhere, and the other way round."""
    inputs = {role: str(folder / role) for role in ("before", "differences")}
    settings = {"crop_size": 24, "normalization": IDENTITY, "batch_size": 1, **changes}
    module = VOC2012DataModule(root, "train", inputs=inputs, **settings)
    for record in module.records("train"):
        mask = np.where(module.read_mask(record) == 255, 0, module.read_mask(record))
        save_mask(folder / "before" / f"{record.image_id}.png", mask.astype(np.uint8))
        logits = np.where(mask > 0, 6.0, -6.0)
        size = (mask.shape[0], mask.shape[1])
        made = Differences.from_logits(logits, -logits, size)
        made.save(folder / "differences" / f"{record.image_id}.npz")
    return module


@pytest.mark.parametrize("resize", [None, [30, 44]])
def test_differences_lie_where_the_masks_lie(
    voc_root: Path, tmp_path: Path, resize: list[int] | None
) -> None:
    dataset = datamodule(voc_root, tmp_path / "made", resize_square=resize).train_dataloader().dataset
    flips = []
    for index in range(3):
        for seed in range(6):
            sample = dataset[index, seed]
            first, second = sample["differences"]
            assert (sample["differences"].dtype, first.shape) == (torch.float32, (24, 24))
            known = sample["before"] != 255
            agreement = ((first > 0) == (sample["before"] > 0))[known].float().mean()
            assert agreement > (0.999 if resize is None else 0.93)  # nearest and bilinear differ at edges
            assert torch.allclose(first, -second, atol=1e-5)
            assert (first[~known] == 0).all()  # padding
            flips.append(int((first > 3).sum()))
    assert len(set(flips)) > 6


def test_those_of_the_whole_image_as_the_release_has_them(voc_root: Path, tmp_path: Path) -> None:
    module = datamodule(
        voc_root, tmp_path / "made", resize_square=[40, 60], flip=0.5, joint_differences=False
    )
    dataset = module.train_dataloader().dataset
    first, again = dataset[0, 1], dataset[0, 2]
    assert not torch.equal(first["before"], again["before"])
    assert torch.equal(first["differences"], again["differences"])
    image_id = module.records("train")[0].image_id
    whole = Differences.load(tmp_path / "made" / "differences" / f"{image_id}.npz").full_size()
    expected = F.interpolate(torch.from_numpy(whole)[None], (24, 24), mode="bilinear", align_corners=False)
    assert torch.allclose(first["differences"], expected[0], atol=1e-5)


def test_validation_has_ground_truth_beside_them(voc_root: Path, tmp_path: Path) -> None:
    module = datamodule(voc_root, tmp_path / "made", resize_square=[24, 24])
    sample = next(iter(module.val_dataloader()))
    assert sample["mask"].shape == (1, 24, 24)
    assert "differences" not in sample


def test_differences_of_another_image_are_refused(voc_root: Path, tmp_path: Path) -> None:
    module = datamodule(voc_root, tmp_path / "made")
    ids = [record.image_id for record in module.records("train")]
    folder = tmp_path / "made" / "differences"
    (folder / f"{ids[1]}.npz").write_bytes((folder / f"{ids[0]}.npz").read_bytes())
    with pytest.raises(DataError, match=rf"{ids[1]}\.npz: it was made for an image of"):
        module.train_dataloader().dataset[1]
