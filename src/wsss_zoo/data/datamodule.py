"""Images with image-level labels: what classes of data sets for segmentation share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader

from wsss_zoo.artifacts.folder import finished_ids
from wsss_zoo.artifacts.kinds import ROLES
from wsss_zoo.data.dataset import GROUND_TRUTH, SegmentationDataset
from wsss_zoo.data.image_datamodule import ImageDataModule, require_least
from wsss_zoo.data.images import read_ground_truth
from wsss_zoo.data.inputs import input_extension
from wsss_zoo.data.record import Record, Split
from wsss_zoo.data.transforms import EvalTransform, TrainTransform
from wsss_zoo.errors import DataError
from wsss_zoo.normalization import Normalization


class SegmentationDataModule(ImageDataModule):
    """Images with image-level labels and, where there are any, masks.

    Training samples are augmented as in `TrainTransform`; validation samples are whole images at
    `crop_size`, see `EvalTransform`. Nothing is read before it is needed: `records` reads a split's list
    and labels when first asked for.

    Args:
        root: folder of the data set.
        train_split: split of `train_dataloader`.
        val_split: split of `val_dataloader`.
        inputs: what training samples hold besides image and labels: role -> folder with one artifact an
            image, see `roles`. `{"masks": "runs/.../masks"}` trains on pseudo labels,
            `{"masks": "ground_truth"}` on the data set's own masks. With masks, validation samples hold
            ground truth.
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
        scores_stride: label scores are averaged over cells of this many pixels; divides `crop_size`.

    Attributes:
        roles: what `inputs` may name.

    Raises:
        DataError: a value is out of range, or a role is unknown.
    """

    roles = (
        "masks",
        "maps",
        "scores",
        "scores_low",
        "scores_high",
        "saliency",
        "before",
        "after",
        "subcategories",
    )

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
        crop_size: int = 448,
        resize_long: tuple[int, int] | None = None,
        scale: tuple[float, float] | None = None,
        scale_step: float | None = None,
        flip: float = 0.5,
        color_jitter: tuple[float, float, float, float] | None = None,
        pad_value: Literal["mean", "black"] = "mean",
        pad_position: Literal["random", "bottom_right"] = "random",
        scores_stride: int = 8,
    ) -> None:
        super().__init__(root, train_split, val_split, inputs, batch_size, num_workers, seed, normalization)
        require_least("scores_stride", scores_stride, 1)
        for role in self.inputs:
            if ROLES[role] == "label scores" and crop_size % scores_stride:
                raise DataError(
                    f"crop_size must be a multiple of scores_stride ({scores_stride}) where label scores are "
                    f"read, got {crop_size}."
                )
        self.scores_stride = scores_stride
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
            self._require_inputs(self.records(self.train_split), self.inputs)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled, augmented batches; an incomplete last batch is dropped.

        Raises:
            DataError: the split is smaller than a batch, or images, labels or masks are missing.
        """
        split = self._labelled(self.train_split)
        self._require_inputs(split.records, self.inputs)
        dataset = SegmentationDataset(
            self, split.records, self.train_transform, self.inputs, self.scores_stride, self.seed
        )
        return self.train_loader(dataset, drop_last=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of whole images in the order of the list.

        Raises:
            DataError: images, labels or masks are missing.
        """
        split = self._labelled(self.val_split)
        inputs = {"masks": GROUND_TRUTH} if "masks" in self.inputs else {}
        self._require_inputs(split.records, inputs)
        dataset = SegmentationDataset(self, split.records, self.val_transform, inputs)
        return self.loader(dataset)

    def _labelled(self, name: str) -> Split:
        split = self.split(name)
        if not split.labelled:
            raise DataError(
                f"{self.root}: the images of the split '{name}' have no labels; they can be predicted, "
                "but not trained or validated on."
            )
        return split

    def _require_inputs(self, records: tuple[Record, ...] | list[Record], inputs: Mapping[str, str]) -> None:
        for role, source in inputs.items():
            if source == GROUND_TRUTH:
                lacking = [record.image_id for record in records if record.mask is None]
                kind, where = "ground-truth mask", str(self.root)
            else:
                if not Path(source).is_dir():
                    raise DataError(
                        f"inputs.{role}: there is no folder {source}. Give a folder of <image "
                        f"id>{input_extension(role)}" + (", or ground_truth." if role == "masks" else ".")
                    )
                have = finished_ids(Path(source), input_extension(role))
                lacking = [record.image_id for record in records if record.image_id not in have]
                kind, where = f"{role} (<image id>{input_extension(role)})", source
            if lacking:
                raise DataError(
                    f"{where}: {len(lacking):,} of {len(records):,} images have no {kind}, first "
                    f"{lacking[0]}. Add the missing files or choose another split."
                )
