"""What every data set of the zoo can do: records, images, masks, loaders. Subclasses say what is where."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader

from wsss_zoo.artifacts.folder import finished_ids
from wsss_zoo.data.dataset import SegmentationDataset
from wsss_zoo.data.images import read_ground_truth, read_rgb
from wsss_zoo.data.record import Record, Split
from wsss_zoo.data.sampler import EpochSampler
from wsss_zoo.data.transforms import EvalTransform, TrainTransform, one_thread_a_worker
from wsss_zoo.errors import DataError, suggest
from wsss_zoo.normalization import IMAGENET, Normalization

_log = logging.getLogger(__name__)


class SegmentationDataModule(LightningDataModule, ABC):
    """Images with image-level labels and, where there are any, masks.

    Training samples are augmented as in `TrainTransform`; validation samples are whole images at
    `crop_size`, see `EvalTransform`. Nothing is read before it is needed: `records` reads a split's list
    and labels when first asked for.

    Args:
        root: folder of the data set.
        train_split: split of `train_dataloader`.
        val_split: split of `val_dataloader`.
        masks: masks in training samples: None, `"ground_truth"`, or a folder of `<image id>.png` (pseudo
            labels). With masks, validation samples hold ground truth.
        batch_size: samples on each device.
        num_workers: loader processes on each device.
        seed: of shuffling and augmentation, 0 or more.
        normalization: what the network expects; the pipeline sets it from the method. None: ImageNet.
        crop_size: side of the samples in pixels.
        resize_long: see `TrainTransform`; with `scale` also None, images keep their size before the crop.
        scale: see `TrainTransform`.
        scale_step: see `TrainTransform`.
        flip: see `TrainTransform`.
        color_jitter: see `TrainTransform`.
        pad_value: see `TrainTransform`; also for validation.
        pad_position: see `TrainTransform`.

    Raises:
        DataError: a value is out of range.
    """

    def __init__(
        self,
        root: str | Path,
        train_split: str = "train",
        val_split: str = "val",
        masks: str | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        normalization: Normalization | None = None,
        crop_size: int = 448,
        resize_long: tuple[int, int] | None = None,
        scale: tuple[float, float] | None = None,
        scale_step: float | None = None,
        flip: float = 0.5,
        color_jitter: tuple[float, float, float, float] | None = None,
        pad_value: Literal["mean", "black"] = "mean",
        pad_position: Literal["random", "bottom_right"] = "random",
    ) -> None:
        super().__init__()
        _require_least("batch_size", batch_size, 1)
        _require_least("num_workers", num_workers, 0)
        _require_least("seed", seed, 0)
        self.root = Path(root).expanduser()
        self.train_split = train_split
        self.val_split = val_split
        self.masks = masks
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.normalization = normalization or IMAGENET
        self.train_transform = TrainTransform(
            self.normalization,
            crop_size,
            resize_long,
            scale,
            scale_step,
            flip,
            color_jitter,
            pad_value,
            pad_position,
        )
        self.val_transform = EvalTransform(self.normalization, crop_size, pad_value)
        self._splits: dict[str, Split] = {}

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """The C foreground classes; class i has label i in `labels` and value i + 1 in masks."""

    @property
    @abstractmethod
    def split_names(self) -> tuple[str, ...]:
        """Splits that can be asked for."""

    @abstractmethod
    def load_split(self, name: str) -> Split:
        """Read a split's list and labels.

        Raises:
            DataError: there is no such split, or it cannot be read.
        """

    def masks_without_image(self) -> list[Path]:
        """Ground-truth masks that belong to no image of the data set."""
        return []

    @property
    def num_classes(self) -> int:
        """Number C of foreground classes."""
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """A split, read once; tells once when images of it are missing.

        Raises:
            DataError: as `load_split`, or none of its images is there.
        """
        if name not in self._splits:
            split = self.load_split(name)
            if not split.records:
                raise DataError(
                    f"{self.root}: the split '{name}' holds no image; {suggest(name, self.split_names)}"
                )
            self._splits[name] = split
            if split.missing:
                rank_zero_only(_log.warning)("%s; the others are left out", self.describe(name))
        return self._splits[name]

    def records(self, split: str) -> list[Record]:
        """The images of a split that are on disk, in the order of its list."""
        return list(self.split(split).records)

    def describe(self, split: str) -> str:
        """One line on a split: images found of images listed, source of labels and of masks."""
        content = self.split(split)
        found, listed = len(content.records), content.listed
        images = f"{found:,} of {listed:,} images of {split} are in {self.root}"
        labels = content.label_source if content.labelled else "none"
        return f"{images} (image-level labels: {labels}; ground truth: {content.ground_truth})"

    def fingerprint(self, split: str) -> str:
        """SHA-256 of a split's ids and labels: equal data, equal fingerprint. See `Split.fingerprint`."""
        return self.split(split).fingerprint(self.class_names)

    def read_image(self, record: Record) -> npt.NDArray[np.uint8]:
        """Decode an image: uint8 `(H, W, 3)`, RGB.

        Raises:
            DataError: the file is missing, truncated or no image.
        """
        return read_rgb(record.image)

    def read_mask(self, record: Record) -> npt.NDArray[np.uint8]:
        """Read the ground truth of an image: uint8 `(H, W)`, 0 background, 1..C, 255 ignore.

        Raises:
            DataError: there is none, or it cannot be used.
        """
        if record.mask is None:
            raise DataError(f"{record.image}: this image has no ground-truth mask.")
        return read_ground_truth(record.mask, self.num_classes)

    def setup(self, stage: str | None = None) -> None:
        """Check before training that the training split and its masks are there.

        Raises:
            DataError: images, labels or masks are missing.
        """
        if stage == "fit":
            self._labelled(self.train_split)
            self._require_masks(self.records(self.train_split), self.masks)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled, augmented batches; an incomplete last batch is dropped.

        Raises:
            DataError: the split is smaller than a batch, or images, labels or masks are missing.
        """
        split = self._labelled(self.train_split)
        self._require_masks(split.records, self.masks)
        dataset = SegmentationDataset(self, split.records, self.train_transform, self.masks, self.seed)
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = EpochSampler(dataset, replicas, rank, self.seed)
        if len(sampler) < self.batch_size:
            raise DataError(
                f"{self.root}: the split '{self.train_split}' has {len(dataset)} images, which do not fill "
                f"one batch of {self.batch_size} on each of {replicas} devices (others are dropped). "
                f"Set batch_size to {max(1, len(sampler))} or less, or add images."
            )
        return self._loader(dataset, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of whole images in the order of the list.

        Raises:
            DataError: images, labels or masks are missing.
        """
        split = self._labelled(self.val_split)
        masks = None if self.masks is None else "ground_truth"
        self._require_masks(split.records, masks)
        dataset = SegmentationDataset(self, split.records, self.val_transform, masks)
        return self._loader(dataset)

    def _loader(
        self, dataset: SegmentationDataset, sampler: EpochSampler | None = None, drop_last: bool = False
    ) -> DataLoader[dict[str, Any]]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,  # yields (index, seed), which the dataset takes
            drop_last=drop_last,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=one_thread_a_worker if self.num_workers > 0 else None,
            pin_memory=torch.cuda.is_available(),
            # its own generator: a loader must not move the global one, which draws the dropout
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _labelled(self, name: str) -> Split:
        split = self.split(name)
        if not split.labelled:
            raise DataError(
                f"{self.root}: the images of the split '{name}' have no labels; they can be predicted, "
                "but not trained or validated on."
            )
        return split

    def _require_masks(self, records: tuple[Record, ...] | list[Record], masks: str | None) -> None:
        if masks is None:
            return
        if masks == "ground_truth":
            lacking = [record.image_id for record in records if record.mask is None]
            kind, where = "ground-truth mask", str(self.root)
        else:
            if not Path(masks).is_dir():
                raise DataError(
                    f"masks: there is no folder {masks}. Give a folder of <image id>.png, or ground_truth."
                )
            have = finished_ids(Path(masks), ".png")
            lacking = [record.image_id for record in records if record.image_id not in have]
            kind, where = "pseudo label (<image id>.png)", masks
        if lacking:
            raise DataError(
                f"{where}: {len(lacking):,} of {len(records):,} images have no {kind}, first {lacking[0]}. "
                "Add the missing masks or choose another split."
            )


def _require_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise DataError(f"{name} must be {least} or more, got {value}.")
