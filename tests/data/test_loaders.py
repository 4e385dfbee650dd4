from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn

from wsss_zoo.artifacts.masks import save_mask
from wsss_zoo.data import ImageFolderDataModule, VOC2012DataModule
from wsss_zoo.data.dataset import PredictionDataset
from wsss_zoo.data.sampler import EpochSampler, sample_seed
from wsss_zoo.errors import ArtifactError, DataError
from wsss_zoo.normalization import CAFFE_BGR

SMALL: dict[str, Any] = {
    "crop_size": 16,
    "resize_long": [12, 40],
    "color_jitter": [0.3, 0.3, 0.3, 0.1],
    "batch_size": 2,
}


def epoch(datamodule: L.LightningDataModule, number: int) -> list[dict[str, Any]]:
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


def same(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]]) -> bool:
    return len(first) == len(second) and all(
        a["image_id"] == b["image_id"]
        and torch.equal(a["image"], b["image"])
        and torch.equal(a["mask"], b["mask"])
        for a, b in zip(first, second, strict=True)
    )


def test_batches_hold_the_sample_contract(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(
        voc_root, inputs={"masks": "ground_truth"}, normalization=CAFFE_BGR, **SMALL
    )
    batch = next(iter(datamodule.train_dataloader()))
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 3, 16, 16), torch.float32)
    assert (batch["mask"].shape, batch["mask"].dtype) == ((2, 16, 16), torch.int64)
    assert (batch["labels"].shape, batch["labels"].dtype) == ((2, 20), torch.float32)
    assert batch["size"].shape == (2, 2)
    records = {record.image_id: record for record in datamodule.records("train_aug")}
    for image_id, size, labels in zip(batch["image_id"], batch["size"], batch["labels"], strict=True):
        assert tuple(size.tolist()) == datamodule.read_image(records[image_id]).shape[:2]
        np.testing.assert_array_equal(labels, records[image_id].labels)


def test_no_masks_unless_asked_for(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root, **SMALL)
    assert "mask" not in next(iter(datamodule.train_dataloader()))
    assert "mask" not in next(iter(datamodule.val_dataloader()))


def test_workers_do_not_change_the_data(voc_root: Path) -> None:
    batches = [
        epoch(VOC2012DataModule(voc_root, inputs={"masks": "ground_truth"}, num_workers=workers, **SMALL), 3)
        for workers in (0, 2)
    ]
    assert len(batches[0]) == 3
    assert same(*batches)


def test_epochs_and_seeds_differ_and_repeat(voc_root: Path) -> None:
    def draw(number: int, seed: int) -> list[dict[str, Any]]:
        return epoch(
            VOC2012DataModule(voc_root, inputs={"masks": "ground_truth"}, seed=seed, **SMALL), number
        )

    assert same(draw(1, 0), draw(1, 0))
    assert not same(draw(1, 0), draw(2, 0))
    assert not same(draw(1, 0), draw(1, 7))


def test_loading_leaves_the_global_generator_alone(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root, **SMALL)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    list(datamodule.train_dataloader())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_replicas_share_the_images_without_overlap(replicas: int) -> None:
    samplers = [EpochSampler(range(20), replicas, rank, seed=4) for rank in range(replicas)]
    for number in range(3):
        drawn = []
        for sampler in samplers:
            sampler.set_epoch(number)
            pairs = list(sampler)
            assert len(pairs) == 20 // replicas
            assert pairs == [(index, sample_seed(4, number, index)) for index, _ in pairs]
            drawn += [index for index, _ in pairs]
        assert len(set(drawn)) == len(drawn) == 20 // replicas * replicas


def test_augmentation_of_an_image_does_not_depend_on_the_number_of_replicas() -> None:
    alone = dict(EpochSampler(range(20), 1, 0, seed=4))
    assert dict(EpochSampler(range(20), 2, 1, seed=4)).items() <= alone.items()
    assert len({seed for _, seed in EpochSampler(range(20))}) == 20


class Recorder(L.LightningModule):
    """Notes what a training run is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.shown: list[tuple[int, tuple[str, ...], float]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        self.shown.append(
            (self.current_epoch, tuple(batch["image_id"]), float(batch["image"].double().sum()))
        )
        return self.layer(torch.ones(1, 1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(voc_root: Path, epochs: int, folder: Path, resume: Path | None = None) -> Recorder:
    module = Recorder()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=VOC2012DataModule(voc_root, **SMALL), ckpt_path=resume, weights_only=True)
    trainer.save_checkpoint(folder / f"{epochs}.ckpt")
    return module


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_resumed_run_sees_what_an_unbroken_one_sees(voc_root: Path, tmp_path: Path) -> None:
    unbroken = run(voc_root, 3, tmp_path).shown
    assert len(unbroken) == 9
    assert unbroken[:3] != [(0, *rest) for _, *rest in unbroken[3:6]]  # set_epoch was called
    run(voc_root, 1, tmp_path)
    resumed = run(voc_root, 3, tmp_path, resume=tmp_path / "1.ckpt").shown
    assert resumed == unbroken[3:]


def test_validation_is_in_order_and_without_randomness(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root, inputs={"masks": "ground_truth"}, **SMALL)
    first, second = next(iter(datamodule.val_dataloader())), next(iter(datamodule.val_dataloader()))
    assert first["image_id"] == [record.image_id for record in datamodule.records("val")]
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["mask"], second["mask"])


def test_prediction_dataset_hands_out_the_image_as_it_is(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root, **SMALL)
    records = datamodule.records("val")
    item = PredictionDataset(datamodule, records)[1]
    np.testing.assert_array_equal(item["image"], datamodule.read_image(records[1]))
    assert item["size"] == item["image"].shape[:2]
    assert (item["image_id"], item["image"].dtype) == (records[1].image_id, np.uint8)
    np.testing.assert_array_equal(item["labels"], records[1].labels)


def test_split_smaller_than_a_batch(voc_root: Path) -> None:
    datamodule = VOC2012DataModule(voc_root, train_split="train", batch_size=4)
    with pytest.raises(
        DataError, match=r"has 3 images, which do not fill one batch of 4 .*Set batch_size to 3"
    ):
        datamodule.train_dataloader()


def pseudo_labels(voc_root: Path, folder: Path) -> VOC2012DataModule:
    datamodule = VOC2012DataModule(voc_root, train_split="train", inputs={"masks": str(folder)}, **SMALL)
    for record in datamodule.records("train"):
        size = datamodule.read_image(record).shape[:2]
        save_mask(folder / f"{record.image_id}.png", np.full(size, 7, np.uint8))
    return datamodule


def test_pseudo_labels_take_the_place_of_ground_truth_in_training_only(
    voc_root: Path, tmp_path: Path
) -> None:
    datamodule = pseudo_labels(voc_root, tmp_path / "pseudo")
    datamodule.setup("fit")
    assert set(next(iter(datamodule.train_dataloader()))["mask"].unique().tolist()) <= {7, 255}
    assert 7 not in next(iter(datamodule.val_dataloader()))["mask"].unique().tolist()


def test_missing_pseudo_labels_are_counted(voc_root: Path, tmp_path: Path) -> None:
    datamodule = pseudo_labels(voc_root, tmp_path / "pseudo")
    (tmp_path / "pseudo" / "2007_000002.png").unlink()
    with pytest.raises(DataError, match=r"pseudo: 1 of 3 images have no masks .*first 2007_000002"):
        datamodule.setup("fit")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        VOC2012DataModule(voc_root, inputs={"masks": str(tmp_path / "nowhere")}).setup("fit")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((5, 6), np.uint8), r"it was made for an image of 6 x 5, but 2007_000001 is 38 x 25"),
        (np.full((25, 38), 21, np.uint8), r"expected labels 0\.\.20 and 255, found also \[21\]"),
    ],
)
def test_pseudo_label_that_does_not_fit(
    voc_root: Path, tmp_path: Path, mask: np.ndarray, message: str
) -> None:
    datamodule = pseudo_labels(voc_root, tmp_path / "pseudo")
    save_mask(tmp_path / "pseudo" / "2007_000001.png", mask)
    with pytest.raises(DataError, match=message):
        list(datamodule.train_dataloader().dataset)  # type: ignore[call-overload]


def test_broken_pseudo_label_is_named(voc_root: Path, tmp_path: Path) -> None:
    datamodule = pseudo_labels(voc_root, tmp_path / "pseudo")
    (tmp_path / "pseudo" / "2007_000001.png").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"2007_000001\.png"):
        list(datamodule.train_dataloader().dataset)  # type: ignore[call-overload]


def test_ground_truth_is_needed_for_every_training_image(photos: Path) -> None:
    datamodule = ImageFolderDataModule(
        photos, train_split="labeled", inputs={"masks": "ground_truth"}, **SMALL
    )
    with pytest.raises(DataError, match="7 of 9 images have no ground-truth mask, first p2"):
        datamodule.setup("fit")


@pytest.mark.parametrize("workers", [0, 1])
def test_broken_image_stops_loading_with_its_name(voc_root: Path, voc: Path, workers: int) -> None:
    path = voc / "JPEGImages" / "2007_000001.jpg"
    path.write_bytes(path.read_bytes()[:300])
    datamodule = VOC2012DataModule(voc_root, num_workers=workers, **SMALL)
    with pytest.raises(DataError, match=r"2007_000001\.jpg: truncated or broken JPEG"):
        list(datamodule.train_dataloader())
