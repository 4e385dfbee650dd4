"""Segmenters that look at a whole image in a way of their own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ImageSegmenter(Protocol):
    """A segmenter with its own sizes, scales and mirrors, and its own way of joining them.

    Where a method has this function, inference calls it in place of `multi_scale_segment`, and the scales and
    mirrors that are set there do not apply.
    """

    def segment_image(self, image: Tensor) -> Tensor:
        """Segment an image.

        Args:
            image: `(1, 3, H, W)`, normalised, at its original size.

        Returns:
            Probabilities `(C + 1, H, W)`, background first.
        """
        ...
