"""Map-style datasets over records: augmented samples for training, raw images for inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from wsss_zoo.artifacts.masks import load_mask
from wsss_zoo.data.images import values_outside
from wsss_zoo.data.record import Record
from wsss_zoo.data.sampler import sample_seed
from wsss_zoo.data.transforms import EvalTransform, TrainTransform
from wsss_zoo.errors import DataError

if TYPE_CHECKING:
    from wsss_zoo.data.datamodule import SegmentationDataModule


class SegmentationDataset(Dataset[dict[str, Any]]):
    """Samples for a network.

    Args:
        datamodule: reads images and ground truth.
        records: the images.
        transform: augmentation or resizing.
        masks: `"ground_truth"`, a folder of `<image id>.png` (pseudo labels), or None for no masks.
        seed: of the run; used where an index comes without the seed of its augmentation.
    """

    def __init__(
        self,
        datamodule: SegmentationDataModule,
        records: Sequence[Record],
        transform: TrainTransform | EvalTransform,
        masks: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        self.datamodule = datamodule
        self.records = tuple(records)
        self.transform = transform
        self.masks = masks
        self.seed = seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self.records)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """One sample.

        Args:
            item: an index (augmented as in epoch 0), or an index and the seed of its augmentation.

        Returns:
            `image` float32 `(3, H, W)`, normalised; `image_id`; `labels` float32 `(C,)`; `size` int64
            `(2,)`, original height and width; with masks `mask` int64 `(H, W)`, 0 background, 1..C, 255.

        Raises:
            DataError: the image or mask cannot be used, or their sizes differ.
        """
        index, seed = item if isinstance(item, tuple) else (item, sample_seed(self.seed, 0, item))
        record = self.records[index]
        image = self.datamodule.read_image(record)
        mask = None if self.masks is None else self._read_mask(record, image.shape[:2])
        pixels, mask = self.transform(image, mask, seed)
        sample: dict[str, Any] = {
            "image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            "image_id": record.image_id,
            "labels": torch.tensor(record.labels),
            "size": torch.tensor(image.shape[:2]),
        }
        if mask is not None:
            sample["mask"] = torch.from_numpy(mask.astype(np.int64))
        return sample

    def _read_mask(self, record: Record, size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        if self.masks == "ground_truth":
            mask, path = self.datamodule.read_mask(record), record.mask
        else:
            path = Path(str(self.masks)) / f"{record.image_id}.png"
            mask = load_mask(path)
            # unseen, such a value ends in an assertion on the GPU that names nothing
            outside = values_outside(mask, self.datamodule.num_classes)
            if outside:
                raise DataError(
                    f"{path}: expected labels 0..{self.datamodule.num_classes} and 255, found also "
                    f"{outside[:8]}. Was it made for other classes?"
                )
        if mask.shape != tuple(size):
            raise DataError(
                f"{path}: the mask is {_size(mask.shape)}, but its image {record.image} is {_size(size)} "
                "(width x height). Make the mask at the size of the image."
            )
        return mask


class PredictionDataset(Dataset[dict[str, Any]]):
    """Images as they are, for inference: nothing is resized or normalised.

    Args:
        datamodule: reads the images.
        records: the images.
    """

    def __init__(self, datamodule: SegmentationDataModule, records: Sequence[Record]) -> None:
        self.datamodule = datamodule
        self.records = tuple(records)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """`image` uint8 array `(H, W, 3)`, `image_id`, `labels` float32 array `(C,)`, `size` `(H, W)`."""
        record = self.records[index]
        image = self.datamodule.read_image(record)
        return {
            "image": image,
            "image_id": record.image_id,
            "labels": record.labels,
            "size": (image.shape[0], image.shape[1]),
        }


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"
