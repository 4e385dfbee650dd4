"""The pairs of neighbouring cells between which affinities are learnt and labels are spread (PSA)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from wsss_zoo.errors import DataError


@dataclass(frozen=True)
class PixelPairs:
    """Pairs of cells of a grid that lie closer than a radius, each pair once.

    Ahn & Kwak, PSA, CVPR 2018, section 3.2. A pair is a source and an offset `(dy, dx)` to its destination.
    Every source has all offsets, so sources keep `radius - 1` away from the left, right and lower border.
    Pairs whose source would lie outside this block do not exist, neither in training nor at inference.

    Because sources form a block, so do the destinations of one offset: both are slices of the grid
    (`at_sources`, `at_destinations`), and nothing of the size of the pairs has to be gathered.

    Attributes:
        height: rows h of the grid, at least `radius`.
        width: columns w of the grid, at least `2 * radius - 1`.
        radius: pairs are closer than this many cells; 1 has no pairs at all.

    Raises:
        DataError: the radius is not positive, or the grid too small for it.
    """

    height: int
    width: int
    radius: int = 5

    def __post_init__(self) -> None:
        if self.radius < 1:
            raise DataError(f"pixel pairs: radius is at least 1, got {self.radius}.")
        if self.height < self.radius or self.width < 2 * self.radius - 1:
            raise DataError(
                f"pixel pairs: radius {self.radius} needs a grid of at least {self.radius} x "
                f"{2 * self.radius - 1} cells, got {self.height} x {self.width}; use larger images, or a "
                "smaller radius (AffinityNet: shrink_radius=True does so where an image is too small)."
            )

    @cached_property
    def offsets(self) -> tuple[tuple[int, int], ...]:
        """`(dy, dx)` in the published order: to the right, then row by row below; 34 for radius 5."""
        reach = self.radius - 1
        right = [(0, dx) for dx in range(1, self.radius)]
        below = [
            (dy, dx)
            for dy in range(1, self.radius)
            for dx in range(-reach, self.radius)
            if dy**2 + dx**2 < self.radius**2
        ]
        return (*right, *below)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns of the block of sources."""
        return self.height - self.radius + 1, self.width - 2 * self.radius + 2

    @property
    def sources(self) -> int:
        """How many cells are sources."""
        rows, columns = self.block
        return rows * columns

    def at_sources(self, grids: Tensor) -> Tensor:
        """The values of the sources: a view `(..., rows, columns)` of grids `(..., h, w)`."""
        return self.at_destinations(grids, (0, 0))

    def at_destinations(self, grids: Tensor, offset: tuple[int, int]) -> Tensor:
        """The values at one offset from the sources: a view `(..., rows, columns)` of grids `(..., h, w)`."""
        (rows, columns), (dy, dx) = self.block, offset
        left = self.radius - 1 + dx
        return grids[..., dy : dy + rows, left : left + columns]

    def source_indices(self, device: torch.device | str | None = None) -> Tensor:
        """Flat cell numbers of the sources, row by row: int64 `(sources,)`."""
        return self.at_sources(self._numbers(device)).flatten()

    def destination_indices(self, device: torch.device | str | None = None) -> Tensor:
        """Flat cell numbers of the destinations: int64 `(offsets, sources)`."""
        numbers = self._numbers(device)
        indices = [self.at_destinations(numbers, offset).flatten() for offset in self.offsets]
        return torch.stack(indices) if indices else numbers.new_empty(0, self.sources)

    def _numbers(self, device: torch.device | str | None) -> Tensor:
        return torch.arange(self.height * self.width, device=device).view(self.height, self.width)


def fitting_radius(height: int, width: int, radius: int) -> int:
    """The radius that SEAM uses on a grid: the given one, or less where the shorter side is too small for it.

    SEAM's code takes `floor((side - 1) / 2)` where the shorter side is below 11, which for radius 5 is this
    rule: the largest radius whose pairs span no more than the side.

    Args:
        height: rows of the grid.
        width: columns of the grid.
        radius: wanted radius.

    Returns:
        At least 1, with which there are no pairs.
    """
    return max(1, min(radius, (min(height, width) - 1) // 2))


def affinity_matrix(affinities: Tensor, pairs: PixelPairs) -> Tensor:
    """Write affinities of pairs into a dense symmetric matrix, for inspection; its size is quadratic.

    Args:
        affinities: `(offsets, sources)`.
        pairs: which pairs they belong to.

    Returns:
        `(h w, h w)`: 1 on the diagonal, 0 where there is no pair.
    """
    matrix = torch.eye(pairs.height * pairs.width, dtype=affinities.dtype, device=affinities.device)
    sources = pairs.source_indices(affinities.device).expand(len(pairs.offsets), -1)
    destinations = pairs.destination_indices(affinities.device)
    matrix[sources, destinations] = affinities
    matrix[destinations, sources] = affinities
    return matrix
