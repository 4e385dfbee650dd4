"""Localizers that look at a whole image in a way of their own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class ImageLocalizer(Protocol):
    """A localizer with its own scales, search for classes and normalisation.

    Where a method has these functions, inference calls them in place of `multi_scale_localize`, and the
    scales and mirrors that are set there do not apply.
    """

    def localize_image(self, image: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Localize the classes of an image.

        Args:
            image: `(1, 3, H, W)`, normalised, at its original size.
            labels: `(C,)`, 0 and 1; None: the method finds the classes by its own scores.

        Returns:
            The classes it looked for `(C,)`, 0 and 1, and their maps `(C, H, W)` in [0, 1], zero for others.
        """
        ...

    def background(self, maps: Tensor) -> Tensor:
        """Background score `(H, W)` in [0, 1] beside maps `(C, H, W)`, of which the highest is the label."""
        ...


@runtime_checkable
class SamplingLocalizer(Protocol):
    """A localizer that makes many maps of an image, and has two things to say of them.

    A `predict` step writes both as they are, on the grid of the method: `maps`, the average, and `maps_max`,
    the maximum over the maps.
    """

    def localize_samples(
        self, image: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Localize the classes of an image.

        Args:
            image: `(1, 3, H, W)`, normalised, at its original size.
            labels: `(C,)`, 0 and 1; None: the method finds the classes by its own scores.

        Returns:
            The classes it looked for `(C,)`, 0 and 1, and `maps` and `maps_max`, `(C, h, w)` in [0, 1], zero
            for others.
        """
        ...
