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
from wsss_zoo.data.inputs import ON_OWN_GRID, input_extension
from wsss_zoo.data.record import Record, Split
from wsss_zoo.data.transforms import EvalTransform, TrainTransform
from wsss_zoo.errors import DataError
from wsss_zoo.normalization import Normalization


class SegmentationDataModule(ImageDataModule):
    """Images with image-level labels and, where there are any, masks.

    Training samples are augmented as in `TrainTransform`; validation samples are whole images at
    `crop_size`, see `EvalTransform`, squashed where training images are (`resize_square`). Nothing is read
    before it is needed: `records` reads a split's list and labels when first asked for.

    Args:
        root: folder of the data set.
        train_split: split of `train_dataloader`.
        val_split: split of `val_dataloader`.
        inputs: what training samples hold besides image and labels: role -> folder with one artifact an
            image, see `roles`. `{"masks": "runs/.../masks"}` trains on pseudo labels,
            `{"masks": "ground_truth"}` on the data set's own masks. With masks of any role, seeds or
            strong images, validation samples hold ground truth.
        batch_size: samples on each device.
        num_workers: loader processes on each device.
        seed: of shuffling and augmentation, 0 or more.
        normalization: what the network expects; the pipeline sets it from the method. None: ImageNet.
        crop_size: side of the samples in pixels.
        resize_long: see `TrainTransform`; with `resize_square` and `scale` also None, images keep their size
            before the crop.
        resize_square: see `TrainTransform`; validation images are then squashed as well.
        scale: see `TrainTransform`.
        scale_step: see `TrainTransform`.
        flip: see `TrainTransform`.
        color_jitter: see `TrainTransform`.
        pad_value: see `TrainTransform`; also for validation.
        pad_position: see `TrainTransform`.
        scores_stride: label scores are averaged over cells of this many pixels; divides `crop_size`.
        strong_split: images whose ground truth is used besides those of `train_split`, of which only the
            image-level labels (and `inputs`) are: semi-supervised training. They are shuffled together, an
            image of both splits comes once and is strong, and samples tell by `strong`, see
            `SegmentationDataset`. None: no such images.
        joint_differences: predicted differences are resized, mirrored and cropped with their image; False:
            samples hold those of the whole image instead, as in SSDD's release. The pipeline sets it from
            the method.

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
        "seeds",
        "differences",
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
        resize_square: tuple[int, int] | None = None,
        scale: tuple[float, float] | None = None,
        scale_step: float | None = None,
        flip: float = 0.5,
        color_jitter: tuple[float, float, float, float] | None = None,
        pad_value: Literal["mean", "black"] = "mean",
        pad_position: Literal["random", "bottom_right"] = "random",
        scores_stride: int = 8,
        strong_split: str | None = None,
        joint_differences: bool = True,
    ) -> None:
        super().__init__(root, train_split, val_split, inputs, batch_size, num_workers, seed, normalization)
        require_least("scores_stride", scores_stride, 1)
        for role in self.inputs:
            if ROLES[role] == "label scores" and crop_size % scores_stride:
                raise DataError(
                    f"crop_size must be a multiple of scores_stride ({scores_stride}) where label scores are "
                    f"read, got {crop_size}."
                )
            # a crop or a drawn size would have to act on the grid, too
            whole = resize_square is not None and tuple(resize_square) == (crop_size, crop_size)
            if ROLES[role] in ON_OWN_GRID and not whole:
                raise DataError(
                    f"inputs.{role} lie on a grid over the whole image, so samples must be whole images: "
                    f"set resize_square to [{crop_size}, {crop_size}] (the crop_size), and resize_long and "
                    f"scale to null; resize_square is {resize_square}."
                )
        self.scores_stride = scores_stride
        self.strong_split = strong_split
        self.joint_differences = joint_differences
        self.train_transform = TrainTransform(
            self.normalization,
            crop_size,
            resize_long,
            resize_square,
            scale,
            scale_step,
            flip,
            color_jitter,
            pad_value,
            pad_position,
        )
        self.val_transform = EvalTransform(
            self.normalization, crop_size, pad_value, squash=resize_square is not None
        )

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
            self._training_records()

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled, augmented batches; an incomplete last batch is dropped.

        Raises:
            DataError: the split is smaller than a batch, or images, labels or masks are missing.
        """
        records, strong = self._training_records()
        dataset = SegmentationDataset(
            self, records, self.train_transform, self.inputs, self.scores_stride, self.seed, strong
        )
        return self.train_loader(dataset, drop_last=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Batches of whole images in the order of the list.

        Raises:
            DataError: images, labels or masks are missing.
        """
        split = self._labelled(self.val_split)
        segmenting = any(ROLES[role] in ("masks", "seeds") for role in self.inputs)
        segments = segmenting or self.strong_split is not None
        inputs = {"masks": GROUND_TRUTH} if segments else {}
        self._require_inputs(split.records, inputs)
        dataset = SegmentationDataset(self, split.records, self.val_transform, inputs)
        return self.loader(dataset)

    def _training_records(self) -> tuple[tuple[Record, ...], frozenset[str] | None]:
        """Training images whose files are all there, and the ids of those whose ground truth is used."""
        weak = self._labelled(self.train_split).records
        if self.strong_split is None:
            self._require_inputs(weak, self.inputs)
            return weak, None
        strong = self._labelled(self.strong_split).records
        known = frozenset(record.image_id for record in strong)
        replaced = {role: source for role, source in self.inputs.items() if role not in ("masks", "seeds")}
        self._require_inputs(strong, {**replaced, "masks": GROUND_TRUTH})
        self._require_inputs([record for record in weak if record.image_id not in known], self.inputs)
        both = {record.image_id for record in weak}
        return (*weak, *(record for record in strong if record.image_id not in both)), known

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
