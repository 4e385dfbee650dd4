"""Augmentation for salient object detection, as LDF trains: random window, mirror, one size a batch.

The last step needs the whole batch, so it is the loader's `collate_fn`. Resizing is OpenCV's linear
interpolation, which does not average when it shrinks: the same numbers as torch's bilinear interpolation
with `align_corners=False`, `antialias=False`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from wsss_zoo.errors import DataError

Grey = npt.NDArray[np.uint8]


class RandomWindow:
    """Cut a little off an image and the maps on it, and mirror them; nothing is resized.

    Of a side of length n, r pixels are cut, r uniform in 0..floor(`crop` n) - 1; the window starts at a
    uniform offset in 0..r - 1 (0 where r is 0). So it never reaches the far end of a side that is cut, as
    in the authors' release. Then everything is mirrored with probability `flip`.

    Args:
        crop: largest share of a side that is cut, in [0, 1); 0 cuts nothing.
        flip: probability in [0, 1].

    Raises:
        DataError: a value is out of range.
    """

    def __init__(self, crop: float = 0.125, flip: float = 0.5) -> None:
        if not 0 <= crop < 1:
            raise DataError(f"crop must be a share of the side in [0, 1), got {crop}.")
        if not 0 <= flip <= 1:
            raise DataError(f"flip must be a probability in [0, 1], got {flip}.")
        self.crop = crop
        self.flip = flip

    def __call__(self, layers: Mapping[str, Grey], seed: int) -> dict[str, Grey]:
        """Cut and mirror alike.

        Args:
            layers: image `(H, W, 3)` and maps `(H, W)` by name, all of one size.
            seed: fixes every draw.

        Returns:
            The layers at the size of the window.
        """
        rng = np.random.default_rng(seed)
        height, width = next(iter(layers.values())).shape[:2]
        cut_width, cut_height = self._cut(rng, width), self._cut(rng, height)
        top = int(rng.integers(cut_height)) if cut_height else 0
        left = int(rng.integers(cut_width)) if cut_width else 0
        rows, columns = slice(top, top + height - cut_height), slice(left, left + width - cut_width)
        step = -1 if rng.random() < self.flip else 1
        return {name: layer[rows, columns][:, ::step] for name, layer in layers.items()}

    def _cut(self, rng: np.random.Generator, length: int) -> int:
        choices = int(self.crop * length)
        # sides below 8 pixels have nothing to draw from; the release stops there
        return int(rng.integers(choices)) if choices > 0 else 0


class ResizeBatch:
    """Collate samples of different sizes: resize them to one square and stack them.

    The side is drawn once for a batch, from the seeds of its samples; so a batch is the same in whatever
    process it is put together.

    Args:
        sizes: sides in pixels to draw from; one side for no randomness.

    Raises:
        DataError: no size, or one below 1.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        if not sizes or min(sizes) < 1:
            raise DataError(f"sizes must be one or more sides of 1 pixel or more, got {list(sizes)}.")
        self.sizes = tuple(sizes)

    def side(self, seeds: Sequence[int]) -> int:
        """The side of a batch whose samples have these seeds."""
        return self.sizes[int(np.random.default_rng(list(seeds)).integers(len(self.sizes)))]

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Make a batch.

        Args:
            samples: each with `seed`, `image_id`, `size` `(H, W)`, and float32 arrays: `image` `(h, w, 3)`
                and any maps `(h, w)`.

        Returns:
            `image` float32 `(B, 3, S, S)`, maps float32 `(B, S, S)`, `image_id` list, `size` int64 `(B, 2)`.
        """
        side = self.side([sample["seed"] for sample in samples])
        batch: dict[str, Any] = {
            "image_id": [sample["image_id"] for sample in samples],
            "size": torch.tensor([sample["size"] for sample in samples]),
        }
        for name in samples[0]:
            if name not in (*batch, "seed"):
                resized = [resize(sample[name], (side, side)) for sample in samples]
                stacked = torch.from_numpy(np.stack(resized))
                batch[name] = stacked.permute(0, 3, 1, 2).contiguous() if stacked.ndim == 4 else stacked
        return batch


def resize(layer: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Resize linearly without averaging: `(h, w)` or `(h, w, 3)`, uint8 or float32, to `size` `(H, W)`."""
    if layer.shape[:2] == size:
        return layer
    return np.asarray(cv2.resize(np.ascontiguousarray(layer), size[::-1], interpolation=cv2.INTER_LINEAR))
