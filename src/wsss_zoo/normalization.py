"""How 8-bit pixels become network input. Each backbone states its own; data sets apply it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Normalization:
    """Channel order, mean and standard deviation, all in the 0..255 range of 8-bit images.

    Attributes:
        mean: subtracted, in the channel order of the network input.
        std: divided by, in the channel order of the network input.
        bgr: the network expects blue, green, red; otherwise red, green, blue.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool = False

    def __call__(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Normalise an RGB image: uint8 `(H, W, 3)` -> float32 `(H, W, 3)`."""
        pixels = image.astype(np.float32)
        if self.bgr:
            pixels = pixels[..., ::-1]
        normalised = (pixels - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normalised, dtype=np.float32)

    def invert(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Undo the normalisation: float32 `(H, W, 3)` -> RGB uint8 `(H, W, 3)`, rounded and clipped."""
        pixels = image * np.asarray(self.std, np.float32) + np.asarray(self.mean, np.float32)
        if self.bgr:
            pixels = pixels[..., ::-1]
        return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


#: RGB with the ImageNet mean and standard deviation (torchvision).
IMAGENET = Normalization(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
#: BGR, mean subtracted, not divided: Caffe VGG16 and MSRA ResNet-101 (DeepLab releases).
CAFFE_BGR = Normalization(mean=(104.008, 116.669, 122.675), std=(1.0, 1.0, 1.0), bgr=True)
#: RGB with the mean and standard deviation of DUTS-TR, as the saliency networks of LDF's family state them.
DUTS = Normalization(mean=(124.55, 118.90, 102.94), std=(56.77, 55.97, 57.50))
