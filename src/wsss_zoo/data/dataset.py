"""Map-style datasets over records: augmented samples for training, raw images for inference."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from wsss_zoo.artifacts.kinds import ROLES
from wsss_zoo.artifacts.resampling import resample_bilinear
from wsss_zoo.artifacts.seeds import Seeds
from wsss_zoo.data.images import IGNORE
from wsss_zoo.data.inputs import (
    OF_WHOLE_IMAGES,
    ON_OWN_GRID,
    Planes,
    input_extension,
    num_planes,
    read_input,
    read_seeds,
    read_subcategories,
)
from wsss_zoo.data.record import Record
from wsss_zoo.data.sampler import sample_seed
from wsss_zoo.data.transforms import EvalTransform, TrainTransform
from wsss_zoo.errors import DataError

if TYPE_CHECKING:
    from wsss_zoo.data.datamodule import SegmentationDataModule
    from wsss_zoo.data.image_datamodule import ImageDataModule

#: The source of masks that come with the data set.
GROUND_TRUTH = "ground_truth"


class SegmentationDataset(Dataset[dict[str, Any]]):
    """Samples for a network.

    Args:
        datamodule: reads images and ground truth.
        records: the images.
        transform: augmentation or resizing.
        inputs: role (`wsss_zoo.artifacts.kinds.ROLES`) -> folder with one artifact an image; for masks also
            `"ground_truth"`.
        scores_stride: label scores are averaged over cells of this many pixels.
        seed: of the run; used where an index comes without the seed of its augmentation.
        strong: ids of images whose ground truth is known among others that have image-level labels alone;
            None: samples do not tell.

    Raises:
        DataError: seeds are read, and all images are strong.
    """

    def __init__(
        self,
        datamodule: SegmentationDataModule,
        records: Sequence[Record],
        transform: TrainTransform | EvalTransform,
        inputs: Mapping[str, str] | None = None,
        scores_stride: int = 8,
        seed: int = 0,
        strong: Collection[str] | None = None,
    ) -> None:
        self.datamodule = datamodule
        self.records = tuple(records)
        self.transform = transform
        self.strong = None if strong is None else frozenset(strong)
        self.inputs = dict(inputs or {})
        self.scores_stride = scores_stride
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
            `(2,)`, original height and width; and for each role of `inputs` what lies on the image,
            augmented with it: `mask` (role `masks`; other masks under their role) int64 `(H, W)`,
            0 background, 1..C, 255; grey maps float32 `(H, W)`; localization maps float32 `(C, H, W)`; label
            scores float32 `(C + 1, H / stride, W / stride)`, averaged over the cells. Padding is 255 in
            masks, 0 in all others. The role `subcategories` gives `sublabels` float32 `(C*K,)`, multi-hot,
            the role `seeds` gives `seeds` float32 `(C + 1, h, w)`, 0 or 1, on their own grid; `differences`
            float32 `(2, H, W)`, logits.

            Where strong images are named, samples also have `strong` (bool) and a `mask`: the ground truth
            of strong images, which have no seed; of the others the input `masks`, without one 255.

        Raises:
            DataError: the image or an input cannot be used, or their sizes differ.
            ArtifactError: the file of an input is missing or broken.
        """
        index, seed = item if isinstance(item, tuple) else (item, sample_seed(self.seed, 0, item))
        record = self.records[index]
        image = self.datamodule.read_image(record)
        planes = self._planes(record, image.shape[:2])
        layers = {
            # the channels of an image come last
            role: item.values if item.rows is None else np.ascontiguousarray(item.values.transpose(1, 2, 0))
            for role, item in planes.items()
        }
        if "seeds" in self.inputs:
            layers["seeds"] = self._seeds(record, image.shape[:2])
        whole = None
        if "differences" in layers and not self.datamodule.joint_differences:
            whole = layers.pop("differences")
        pixels, layers = self.transform(image, layers, seed)
        if whole is not None:
            resized = resample_bilinear(whole.transpose(2, 0, 1), pixels.shape[:2])
            layers["differences"] = resized.transpose(1, 2, 0)
        sample: dict[str, Any] = {
            "image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            "image_id": record.image_id,
            "labels": torch.tensor(record.labels),
            "size": torch.tensor(image.shape[:2]),
        }
        if "seeds" in layers:
            sample["seeds"] = torch.from_numpy(layers.pop("seeds")).float()
        for role, layer in layers.items():
            sample["mask" if role == "masks" else role] = self._tensor(role, layer, planes[role].rows)
        if self.strong is not None:
            sample["strong"] = torch.tensor(record.image_id in self.strong)
        if "subcategories" in self.inputs:
            sublabels = read_subcategories(self.inputs["subcategories"], record.image_id, record.labels)
            sample["sublabels"] = torch.from_numpy(sublabels)
        return sample

    def _planes(self, record: Record, size: tuple[int, ...]) -> dict[str, Planes]:
        """What lies on the pixels of an image, by role."""
        elsewhere = (*OF_WHOLE_IMAGES, *ON_OWN_GRID)
        sources = {role: source for role, source in self.inputs.items() if ROLES[role] not in elsewhere}
        if self.strong is not None and record.image_id in self.strong:
            sources["masks"] = GROUND_TRUTH
        planes = {role: self._read(role, source, record, size) for role, source in sources.items()}
        if self.strong is not None and "masks" not in planes:
            planes["masks"] = Planes(np.full(size, IGNORE, np.uint8), None)
        return planes

    def _seeds(self, record: Record, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """Seeds `(C + 1, h, w)` of an image; a strong one has none."""
        if self.strong is not None and record.image_id in self.strong:
            return np.zeros((self.datamodule.num_classes + 1, *self._grid), dtype=bool)
        return read_seeds(self.inputs["seeds"], record.image_id, record.labels, size)

    @cached_property
    def _grid(self) -> tuple[int, int]:
        """The grid of the seeds, from the first image that has any."""
        for record in self.records:
            if record.image_id not in (self.strong or ()):
                path = Path(self.inputs["seeds"]) / f"{record.image_id}{input_extension('seeds')}"
                return Seeds.load(path).grid
        raise DataError(
            "strong_split names all training images, so that none is left to learn from its seeds; train on "
            "masks: ground_truth instead, or name fewer images."
        )

    def _read(self, role: str, source: str, record: Record, size: tuple[int, ...]) -> Planes:
        if source != GROUND_TRUTH:
            return read_input(role, source, record.image_id, self.datamodule.num_classes, size)
        mask = self.datamodule.read_mask(record)
        if mask.shape != tuple(size):
            raise DataError(
                f"{record.mask}: the mask is {mask.shape[1]} x {mask.shape[0]}, but its image {record.image} "
                f"is {size[1]} x {size[0]} (width x height). Make the mask at the size of the image."
            )
        return Planes(mask, None)

    def _tensor(self, role: str, layer: npt.NDArray[Any], rows: npt.NDArray[np.intp] | None) -> torch.Tensor:
        if rows is None:
            return torch.from_numpy(layer.astype(np.int64) if layer.dtype == np.uint8 else layer)
        planes = torch.from_numpy(np.ascontiguousarray(layer.transpose(2, 0, 1)))
        if ROLES[role] == "label scores":
            planes = F.avg_pool2d(planes, self.scores_stride)
        dense = torch.zeros(num_planes(role, self.datamodule.num_classes), *planes.shape[1:])
        dense[torch.from_numpy(rows)] = planes
        return dense


class PredictionDataset(Dataset[dict[str, Any]]):
    """Images as they are, for inference: nothing is resized or normalised.

    Args:
        datamodule: reads the images.
        records: the images.
    """

    def __init__(self, datamodule: ImageDataModule, records: Sequence[Record]) -> None:
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
