"""What every data set of the zoo can do: named splits of images, ground truth, repeatable loaders."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.data import DataLoader, Dataset

from wsss_zoo.data.images import read_rgb
from wsss_zoo.data.record import Record, Split
from wsss_zoo.data.sampler import EpochSampler
from wsss_zoo.data.transforms import one_thread_a_worker
from wsss_zoo.errors import DataError, suggest
from wsss_zoo.normalization import IMAGENET, Normalization

_log = logging.getLogger(__name__)


class ImageDataModule(LightningDataModule, ABC):
    """Images in named splits. Subclasses say what is where, and what a sample is.

    Nothing is read before it is needed: `records` reads a split's list when first asked for.

    Args:
        root: folder of the data set.
        train_split: split of `train_dataloader`.
        val_split: split of `val_dataloader`.
        inputs: role -> folder with one artifact an image, see `roles`.
        batch_size: samples on each device.
        num_workers: loader processes on each device.
        seed: of shuffling and augmentation, 0 or more.
        normalization: what the network expects; the pipeline sets it from the method. None: ImageNet.

    Attributes:
        roles: what `inputs` may name.

    Raises:
        DataError: a value is out of range, or a role is unknown.
    """

    roles: tuple[str, ...] = ()

    def __init__(
        self,
        root: str | Path,
        train_split: str = "train",
        val_split: str = "val",
        inputs: dict[str, str] | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__()
        require_least("batch_size", batch_size, 1)
        require_least("num_workers", num_workers, 0)
        require_least("seed", seed, 0)
        for role in inputs or {}:
            if role not in self.roles:
                raise DataError(f"inputs: there is no role {role!r}; {suggest(role, self.roles)}")
        self.root = Path(root).expanduser()
        self.train_split = train_split
        self.val_split = val_split
        self.inputs = dict(inputs or {})
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.normalization = normalization or IMAGENET
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

    @abstractmethod
    def read_mask(self, record: Record) -> npt.NDArray[np.uint8]:
        """Read the ground truth of an image: uint8 `(H, W)`.

        Raises:
            DataError: there is none, or it cannot be used.
        """

    def masks_without_image(self) -> list[Path]:
        """Ground-truth masks that belong to no image of the data set."""
        return []

    def split_remarks(self, name: str) -> list[str]:
        """Things to know of a split that are no mistakes, for `wsss-zoo data check`."""
        return []

    def mask_remarks(self, mask: npt.NDArray[np.uint8]) -> list[str]:
        """Things to know of a mask that are no mistakes, for `wsss-zoo data check`: kinds to be counted."""
        return []

    def mask_problem(self, mask: npt.NDArray[np.uint8]) -> str | None:
        """Why a mask that can be read is of no use, for `wsss-zoo data check`."""
        return None

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

    def train_loader(
        self,
        dataset: Dataset[dict[str, Any]],
        *,
        drop_last: bool,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> DataLoader[dict[str, Any]]:
        """Shuffled batches of a dataset that takes `(index, seed)`, see `EpochSampler`.

        Raises:
            DataError: `drop_last`, and the images do not fill a batch on each device.
        """
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        sampler = EpochSampler(dataset, replicas, rank, self.seed, drop_last)
        if drop_last and len(sampler) < self.batch_size:
            images = len(dataset)  # type: ignore[arg-type]  # a Dataset need not have a length, ours has
            raise DataError(
                f"{self.root}: the split '{self.train_split}' has {images} images, which do not fill "
                f"one batch of {self.batch_size} on each of {replicas} devices (others are dropped). "
                f"Set batch_size to {max(1, len(sampler))} or less, or add images."
            )
        return self.loader(dataset, sampler=sampler, drop_last=drop_last, collate=collate)

    def loader(
        self,
        dataset: Dataset[dict[str, Any]],
        *,
        sampler: EpochSampler | None = None,
        drop_last: bool = False,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> DataLoader[dict[str, Any]]:
        """Batches of a dataset, without `sampler` in its order."""
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,  # yields (index, seed), which the dataset takes
            drop_last=drop_last,
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=one_thread_a_worker if self.num_workers > 0 else None,
            pin_memory=torch.cuda.is_available(),
            # its own generator: a loader must not move the global one, which draws the dropout
            generator=torch.Generator().manual_seed(self.seed),
        )


def require_least(name: str, value: int, least: int) -> None:
    """Refuse a number that is too small.

    Raises:
        DataError: `value` is below `least`.
    """
    if value < least:
        raise DataError(f"{name} must be {least} or more, got {value}.")
