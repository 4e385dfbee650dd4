"""What other stages made of an image, in the samples: it stays on the pixel it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.artifacts import LabelScores, LocalizationMaps, save_saliency
from wsss_zoo.data import VOC2012DataModule
from wsss_zoo.data.inputs import read_input
from wsss_zoo.data.transforms import TrainTransform
from wsss_zoo.errors import DataError
from wsss_zoo.normalization import Normalization

IDENTITY = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SMALL: dict[str, Any] = {"crop_size": 32, "batch_size": 1, "pad_value": "black", "normalization": IDENTITY}


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    seed=st.integers(0, 2**62),
    planes=st.integers(1, 22),
    resize=st.booleans(),
)
def test_maps_move_with_the_image(height: int, width: int, seed: int, planes: int, resize: bool) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[:, : width // 2] = 3
    maps = np.zeros((height, width, planes), np.float32)
    maps[..., 0] = 0.4 * (mask == 3)
    maps[..., -1] += 0.5  # present everywhere but in the padding
    transform = TrainTransform(IDENTITY, 24, scale=(0.5, 2) if resize else None, pad_value="black")
    saliency = (mask == 3).astype(np.float32)
    pixels, layers = transform(image, {"masks": mask, "scores": maps, "saliency": saliency}, seed)
    inside = layers["masks"] != 255
    np.testing.assert_array_equal(pixels[..., 0] > 0, inside)
    assert layers["scores"].shape == (24, 24, planes)
    np.testing.assert_array_equal(layers["scores"][..., -1] > 0, inside)
    # bilinear and nearest may differ on the one column between the halves
    agree = (layers["saliency"] > 0.5) == (layers["masks"] == 3)
    assert (agree | ~inside).mean() > (0.8 if resize else 0.999)


def coordinates(size: tuple[int, int]) -> np.ndarray:
    """Label scores that tell where a pixel is: plane 1 the row, plane 2 the column, plane 0 the rest."""
    rows, columns = np.mgrid[: size[0], : size[1]].astype(np.float32) / 64
    return np.stack([1 - np.maximum(rows, columns), rows, columns])


def test_label_scores_are_averaged_over_cells_and_spread_over_the_classes(
    voc_root: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "scores_low"
    inputs = {"scores_low": str(folder), "masks": "ground_truth"}
    datamodule = VOC2012DataModule(voc_root, train_split="train", inputs=inputs, flip=0.0, **SMALL)
    for record in datamodule.records("train"):
        size = datamodule.read_image(record).shape[:2]
        scores = LabelScores.from_full_size([4, 11], coordinates(size))
        scores.save(folder / f"{record.image_id}.npz")
    dataset = datamodule.train_dataloader().dataset
    for index, record in enumerate(datamodule.records("train")):
        sample = dataset[index]
        pooled = sample["scores_low"]
        assert pooled.shape == (21, 4, 4)
        assert set(torch.nonzero(pooled.flatten(1).amax(1)).flatten().tolist()) == {0, 5, 12}
        # where the sample lies in the image, found by its pixels
        image = datamodule.read_image(record)
        height, width = image.shape[:2]
        canvas = np.zeros((3, 96, 96), np.float32)
        canvas[:, 32 : 32 + height, 32 : 32 + width] = coordinates((height, width))
        pixels = np.zeros((96, 96, 3), np.uint8)
        pixels[32 : 32 + height, 32 : 32 + width] = image
        crop = sample["image"].permute(1, 2, 0).numpy()
        places = [
            (y, x)
            for y in range(64)
            for x in range(64)
            if np.array_equal(pixels[y : y + 32, x : x + 32], crop)
        ]
        assert len(places) == 1
        y, x = places[0]
        window = torch.from_numpy(canvas[:, y : y + 32, x : x + 32])
        expected = window.reshape(3, 4, 8, 4, 8).mean((2, 4))
        torch.testing.assert_close(pooled[[0, 5, 12]], expected, atol=1 / 255, rtol=0)


def test_grey_and_localization_maps_become_sample_entries(voc_root: Path, tmp_path: Path) -> None:
    inputs = {"saliency": str(tmp_path / "saliency"), "maps": str(tmp_path / "maps")}
    datamodule = VOC2012DataModule(voc_root, train_split="train", inputs=inputs, **SMALL)
    for record in datamodule.records("train"):
        size = datamodule.read_image(record).shape[:2]
        save_saliency(tmp_path / "saliency" / f"{record.image_id}.png", np.ones(size, np.float32))
        full = np.ones((1, *size), np.float32)
        LocalizationMaps.from_full_size([19], full, stride=2).save(
            tmp_path / "maps" / f"{record.image_id}.npz"
        )
    sample = datamodule.train_dataloader().dataset[0]
    assert (sample["saliency"].shape, sample["saliency"].dtype) == ((32, 32), torch.float32)
    assert sample["maps"].shape == (20, 32, 32)
    torch.testing.assert_close(sample["maps"][19], sample["saliency"])
    assert sample["maps"][:19].abs().max() == 0
    assert "mask" not in sample


def test_inputs_that_cannot_be_meant(voc_root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no role 'mask'; did you mean 'masks'"):
        VOC2012DataModule(voc_root, inputs={"mask": "ground_truth"})
    with pytest.raises(DataError, match=r"multiple of scores_stride \(8\).*got 33"):
        VOC2012DataModule(voc_root, inputs={"scores_low": str(tmp_path)}, crop_size=33)
    scores = LabelScores.from_full_size([20], coordinates((6, 5))[:2])
    scores.save(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"class indices 0\.\.19, found also \[20\]"):
        read_input("scores", tmp_path, "a", 20, (6, 5))
    with pytest.raises(DataError, match=r"made for an image of 5 x 6, but a is 6 x 5"):
        read_input("scores", tmp_path, "a", 21, (5, 6))
