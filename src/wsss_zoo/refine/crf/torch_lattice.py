"""The permutohedral lattice of a batch of images in torch operations, on any device.

The same lattice as `numba_lattice`, found by sorting instead of hashing. All images of a batch share one
lattice, in which the index of the image is one more digit of a vertex's name: so a batch costs as many
kernel launches as an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.errors import DataError
from wsss_zoo.refine.crf.geometry import blur_gain, lattice_geometry

# Added to the sum of kernel values before the root, as in pydensecrf.
_TINY = 1e-20


class TorchLattice(NamedTuple):
    """One Gaussian kernel over the N pixels of a batch, normalised and weighted.

    Every step is a weighted sum of rows (`embedding_bag`): it gathers, so results do not depend on the
    order in which a GPU's threads finish.

    Attributes:
        vertices: int64 `(N, d + 1)`, the corners of each pixel's simplex, 0..M-1.
        weights: float32 `(N, d + 1)`, barycentric weight times `n_i sqrt(compat * gain)`.
        pixels: int64 `(N (d + 1),)`, the pixels at each vertex, vertex after vertex.
        pixel_weights: float32 `(N (d + 1),)`, their weights.
        first_pixel: int64 `(M + 1,)`, where each vertex's pixels begin; vertex M has none and is always 0.
        neighbours: int64 `(d + 1, M + 1, 3)`, each vertex and those before and after it in each direction;
            M where there is none.
        blur_weights: float32 `(M + 1, 3)`, (1, 1/2, 1/2) in each row.
    """

    vertices: Tensor
    weights: Tensor
    pixels: Tensor
    pixel_weights: Tensor
    first_pixel: Tensor
    neighbours: Tensor
    blur_weights: Tensor

    def filter(self, values: Tensor) -> Tensor:
        """Apply `compat * n K n` to `(N, C)` float32."""
        corners = F.embedding_bag(
            self.pixels, values, self.first_pixel, mode="sum", per_sample_weights=self.pixel_weights
        )
        for direction in self.neighbours:
            corners = F.embedding_bag(direction, corners, mode="sum", per_sample_weights=self.blur_weights)
        return F.embedding_bag(self.vertices, corners, mode="sum", per_sample_weights=self.weights)


def position_features(sizes: Sequence[tuple[int, int]], sxy: float, device: torch.device) -> Tensor:
    """Features `(2, N)` x and y of the pixels of images `(H, W)`, one after the other, divided by `sxy`."""
    # in float32 throughout: a tensor divided by a Python number may be multiplied by its reciprocal
    divisor = torch.tensor(sxy, dtype=torch.float32, device=device)
    features = []
    for height, width in sizes:
        y, x = torch.meshgrid(
            torch.arange(height, dtype=torch.float32, device=device),
            torch.arange(width, dtype=torch.float32, device=device),
            indexing="ij",
        )
        features.append(torch.stack([x.flatten(), y.flatten()]) / divisor)
    return torch.cat(features, dim=1)


def colour_features(images: Sequence[Tensor], srgb: float, device: torch.device) -> Tensor:
    """Features `(3, N)` of the pixels of uint8 images `(3, H, W)`, one after the other, divided by `srgb`."""
    divisor = torch.tensor(srgb, dtype=torch.float32, device=device)
    return torch.cat([image.to(device).flatten(1).float() for image in images], dim=1) / divisor


def build_lattice(
    features: Tensor, largest: Sequence[float], image_sizes: Sequence[int], compat: float
) -> TorchLattice:
    """Lattice over features of the pixels of a batch.

    Args:
        features: float32 `(d, N)`, in standard deviations.
        largest: bound of each of the d features over the batch; they begin at 0.
        image_sizes: number of pixels of each image, in the order of the features.
        compat: weight of the kernel.

    Raises:
        DataError: the kernel is too narrow for the lattice or the batch too large.
    """
    geometry = lattice_geometry(largest)
    if geometry.volume * len(image_sizes) >= 2**62:
        raise DataError(
            f"dense CRF: kernels this narrow allow no batch of {len(image_sizes)} images; give fewer at once."
        )
    device, d = features.device, len(largest)
    names, weights = _simplices(
        features,
        torch.from_numpy(geometry.scales).to(device),
        torch.from_numpy(geometry.smallest).to(device),
        torch.from_numpy(geometry.places).to(device),
        torch.from_numpy(geometry.steps).to(device),
    )
    counts = torch.tensor(image_sizes, device=device)
    image_index = torch.repeat_interleave(torch.arange(len(image_sizes), device=device), counts)
    known, vertices, sizes = torch.unique(
        names + geometry.volume * image_index, return_inverse=True, return_counts=True
    )
    count = len(known)
    missing = torch.tensor(count, device=device)

    def find(wanted: Tensor) -> Tensor:
        place = torch.searchsorted(known, wanted).clamp(max=count - 1)
        return torch.where(known[place] == wanted, place, missing)

    itself = torch.arange(count, device=device)
    directions = [torch.stack([itself, find(known - s), find(known + s)], 1) for s in geometry.steps.tolist()]
    # One vertex more, always 0: what is missing beside the outermost ones
    neighbours = F.pad(torch.stack(directions), (0, 0, 0, 1), value=count)
    by_vertex = torch.argsort(vertices.T.flatten(), stable=True)
    lattice = TorchLattice(
        vertices=vertices.T.contiguous(),
        weights=weights.T.contiguous(),
        pixels=torch.div(by_vertex, d + 1, rounding_mode="floor"),
        pixel_weights=weights.T.flatten()[by_vertex],
        first_pixel=F.pad(torch.cumsum(sizes, 0), (1, 0)),
        neighbours=neighbours,
        blur_weights=torch.tensor([1, 0.5, 0.5], device=device).repeat(count + 1, 1),
    )
    gain = blur_gain(d)
    kernel_sum = lattice.filter(torch.ones(features.shape[1], 1, device=device))[:, 0]
    factor = torch.sqrt(compat * gain / (kernel_sum * gain + _TINY))
    return lattice._replace(
        weights=lattice.weights * factor[:, None],
        pixel_weights=lattice.pixel_weights * factor[lattice.pixels],
    )


def _simplices(
    features: Tensor, scales: Tensor, smallest: Tensor, places: Tensor, steps: Tensor
) -> tuple[Tensor, Tensor]:
    """Names int64 and barycentric weights float32, both `(d + 1, N)`, of the corners around each point."""
    d = len(features)
    scaled = features * scales[:, None]
    lifted = torch.zeros_like(features[0])
    rest: list[Tensor] = []
    for j in range(d, 0, -1):
        rest.insert(0, lifted - j * scaled[j - 1])
        lifted = lifted + scaled[j - 1]
    position = torch.stack([lifted, *rest])
    down = torch.tensor(1 / (d + 1), dtype=torch.float32, device=features.device)
    whole = torch.round(position * down)
    base = whole * (d + 1)
    remainder = position - base
    rank = torch.zeros_like(position)
    for i in range(d):
        for j in range(i + 1, d + 1):
            smaller = (remainder[i] < remainder[j]).float()
            rank[i] += smaller
            rank[j] += 1 - smaller
    # where rounding left the plane of sum 0, the outermost coordinates go back by one period
    rank += whole.sum(0)
    wrap = ((rank < 0).float() - (rank > d).float()) * (d + 1)
    rank, base, remainder = rank + wrap, base + wrap, (remainder - wrap) * down

    ascending = d - rank.long()
    coordinate = torch.empty_like(ascending).scatter_(
        0, ascending, torch.arange(d + 1, device=features.device)[:, None].expand_as(ascending)
    )
    by_rank = torch.empty_like(remainder).scatter_(0, ascending, remainder)
    first = ((base[:d].long() - smallest[:, None]) * places[:, None]).sum(0)
    names = torch.cat([first[None], first + torch.cumsum(steps[coordinate[:-1]], 0)])
    weights = by_rank - torch.cat([by_rank[-1:] - 1, by_rank[:-1]])
    return names, weights


def largest_features(
    sizes: Sequence[tuple[int, int]], sxy: float, srgb: float | None = None
) -> tuple[float, ...]:
    """Bounds of the features of a batch: position, and colour where `srgb` is given."""
    width, height = max(w for _, w in sizes), max(h for h, _ in sizes)
    position = ((width - 1) / sxy, (height - 1) / sxy)
    return position if srgb is None else (*position, *[255 / srgb] * 3)
