"""Map-style dataset of images with saliency masks and the maps derived from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Dataset

from wsss_zoo.data.record import Record
from wsss_zoo.data.saliency_targets import SaliencyTargets
from wsss_zoo.data.saliency_transforms import RandomWindow
from wsss_zoo.data.sampler import sample_seed

if TYPE_CHECKING:
    from wsss_zoo.data.image_datamodule import ImageDataModule


class SaliencyDataset(Dataset[dict[str, Any]]):
    """Samples of different sizes, to be put together by `ResizeBatch`.

    Args:
        datamodule: reads images and masks, and knows how pixels become input.
        records: the images.
        targets: reads or derives what is learnt.
        window: augmentation; None leaves the whole image.
        seed: of the run; used where an index comes without the seed of its augmentation.
    """

    def __init__(
        self,
        datamodule: ImageDataModule,
        records: Sequence[Record],
        targets: SaliencyTargets,
        window: RandomWindow | None = None,
        seed: int = 0,
    ) -> None:
        self.datamodule = datamodule
        self.records = tuple(records)
        self.targets = targets
        self.window = window
        self.seed = seed

    def __len__(self) -> int:
        """Number of images."""
        return len(self.records)

    def __getitem__(self, item: int | tuple[int, int]) -> dict[str, Any]:
        """One sample, as arrays.

        Args:
            item: an index (augmented as in epoch 0), or an index and the seed of its augmentation.

        Returns:
            `image` float32 `(h, w, 3)`, normalised; `mask` and the other targets float32 `(h, w)` in [0, 1];
            `image_id`; `size`, original `(H, W)`; `seed`, that of the augmentation.

        Raises:
            DataError: a file is missing or cannot be read.
        """
        index, seed = item if isinstance(item, tuple) else (item, sample_seed(self.seed, 0, item))
        record = self.records[index]
        image = self.datamodule.read_image(record)
        size = (image.shape[0], image.shape[1])
        layers = {"image": image, **self.targets.read(record, self.datamodule.read_mask, size)}
        if self.window is not None:
            layers = self.window(layers, seed)
        image = layers.pop("image")
        maps = {name: layer.astype(np.float32) / np.float32(255) for name, layer in layers.items()}
        return {
            "image": self.datamodule.normalization(image),
            **maps,
            "image_id": record.image_id,
            "size": size,
            "seed": seed,
        }
