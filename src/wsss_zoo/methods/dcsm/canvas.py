"""The square canvas on which DCSM looks at an image, at several sizes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.normalization import Normalization


@dataclass(frozen=True)
class Canvas:
    """An image in the middle of a black square; an image larger than the square is shrunk to fit.

    Attributes:
        pixels: `(1, 3, side, side)`, normalised; black is what the normalisation makes of 0.
        box: top, left, height and width of the image on the canvas.
        size: original height and width of the image.
    """

    pixels: Tensor
    box: tuple[int, int, int, int]
    size: tuple[int, int]

    @classmethod
    def around(cls, image: Tensor, side: int, normalization: Normalization) -> Canvas:
        """Place an image.

        Args:
            image: `(1, 3, H, W)`, normalised.
            side: of the canvas in pixels.
            normalization: of the image.
        """
        size = (image.shape[2], image.shape[3])
        if max(size) > side:
            height, width = (max(1, round(length * side / max(size))) for length in size)
            image = _resize(image, (height, width))
        else:
            height, width = size
        # an odd remainder leaves the larger margin above and on the left
        top, left = ((side - length + length % 2) // 2 for length in (height, width))
        mean, std = torch.tensor(normalization.mean), torch.tensor(normalization.std)
        black = (-mean / std).to(image).view(1, 3, 1, 1)
        pixels = black.expand(1, 3, side, side).clone()
        pixels[:, :, top : top + height, left : left + width] = image
        return cls(pixels, (top, left, height, width), size)

    def at(self, scale: float) -> Tensor:
        """The canvas at another size, `(1, 3, round(scale * side), round(scale * side))`; bicubic.

        Normalised pixels are resized; that is the same as normalising resized ones, but for the 8 bits.
        """
        length = max(1, round(scale * self.pixels.shape[2]))
        return self.pixels if length == self.pixels.shape[2] else _resize(self.pixels, (length, length))

    def crop(self, planes: Tensor) -> Tensor:
        """What lies on the image: `(K, side, side)` -> `(K, height, width)` of the box."""
        top, left, height, width = self.box
        return planes[:, top : top + height, left : left + width]

    def restore(self, planes: Tensor) -> Tensor:
        """`(K, height, width)` of the box -> `(K, H, W)` of the original image, bilinear."""
        if planes.shape[1:] == self.size:
            return planes
        return F.interpolate(planes[None], self.size, mode="bilinear", align_corners=False)[0]


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)
