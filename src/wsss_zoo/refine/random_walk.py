"""Random walk along pairwise affinities: scores spread within regions whose cells look alike."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine.pixel_pairs import PixelPairs


class RandomWalk:
    """Spread scores over a grid with learnt affinities as transition probabilities.

    Ahn & Kwak, PSA, CVPR 2018, section 3.3: `scores T^t` with `t = 2^log_t`, where T is the affinity matrix
    raised to `beta` element by element, each column divided by its sum. The affinity matrix is symmetric,
    has 1 on its diagonal, and 0 for cells that are no pair.

    PSA squares the dense `(h w, h w)` matrix `log_t` times. The same product is computed here by applying T
    to the scores t times: a cell has at most 69 neighbours (radius 5), so that one application costs
    `69 h w` additions a plane, where one squaring costs `(h w)^3`, and memory grows with `h w`, not with
    its square. All intermediate scores stay weighted averages: no cancellation, nothing negative
    (`benchmarks/random_walk.py` compares time, memory and result).

    Args:
        beta: exponent of the affinities; a large one cuts weak links (PSA, SEAM 8).
        log_t: the walk takes `2^log_t` steps (PSA 8, SEAM 6).
        radius: pairs are closer than this many cells; that of the network (5).

    Raises:
        RecipeError: values out of range.

    Example:
        >>> walk = RandomWalk(beta=8, log_t=6)
        >>> affinities = torch.rand(34, 7 * 4)  # 34 offsets, and the sources of an 11 x 12 grid
        >>> walk(affinities, torch.rand(3, 11, 12)).shape
        torch.Size([3, 11, 12])
    """

    def __init__(self, beta: float = 8.0, log_t: int = 8, radius: int = 5) -> None:
        if not beta > 0:
            raise RecipeError(f"RandomWalk: beta, the exponent of the affinities, is above 0, got {beta!r}.")
        for name, value, least in (("log_t", log_t, 0), ("radius", radius, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise RecipeError(f"RandomWalk: {name} is a whole number from {least}, got {value!r}.")
        self.beta = beta
        self.log_t = log_t
        self.radius = radius

    def __call__(self, affinities: Tensor, scores: Tensor) -> Tensor:
        """Let scores walk.

        Args:
            affinities: float `(offsets, sources)` in [0, 1], those of `PixelPairs(h, w, radius)`, as
                AffinityNet gives them for one image.
            scores: float `(P, h, w)`. Planes that are zero everywhere stay so and cost nothing.

        Returns:
            `(P, h, w)` in the type and on the device of `affinities`.

        Raises:
            DataError: the affinities are not those of a grid of this size.
        """
        if scores.ndim != 3:
            raise DataError(f"RandomWalk: scores are (planes, h, w), got {tuple(scores.shape)}.")
        height, width = scores.shape[1:]
        pairs = PixelPairs(height, width, self.radius)
        neighbours, weights = transitions(affinities, pairs, self.beta)
        scores = scores.to(weights)
        present = scores.flatten(1).any(1)
        # A row for each cell: its new scores are a weighted sum of rows. That is what embedding_bag computes
        # on every device; torch.sparse needs MKL on CPUs, and warns that it is in beta.
        rows = scores[present].flatten(1).T.contiguous()
        for _ in range(2**self.log_t):
            rows = F.embedding_bag(neighbours, rows, mode="sum", per_sample_weights=weights)
        walked = torch.zeros_like(scores)
        walked[present] = rows.T.unflatten(1, (height, width))
        return walked


def transitions(affinities: Tensor, pairs: PixelPairs, beta: float) -> tuple[Tensor, Tensor]:
    """The transition matrix as a list of neighbours of each cell.

    Args:
        affinities: `(offsets, sources)` in [0, 1].
        pairs: which pairs they belong to.
        beta: exponent of the affinities.

    Returns:
        neighbours: int32 `(h w, 1 + 2 offsets)`, numbers of cells: the cell itself, the cells at the offsets,
            and those from which it is at the offsets. Where there is no such pair, the cell itself.
        weights: `(h w, 1 + 2 offsets)`, column j of the matrix in row j: not negative, each row sums to 1,
            0 where there is no pair.

    Raises:
        DataError: the shape of the affinities is not that of the pairs.
    """
    offsets = len(pairs.offsets)
    if affinities.shape != (offsets, pairs.sources):
        raise DataError(
            f"RandomWalk: a grid of {pairs.height} x {pairs.width} cells has {offsets} offsets and "
            f"{pairs.sources} sources at radius {pairs.radius}, got affinities {tuple(affinities.shape)}; "
            "they must come from an image of this size and the same radius."
        )
    grid = (pairs.height, pairs.width)
    cells = torch.arange(pairs.height * pairs.width, dtype=torch.int32, device=affinities.device).view(grid)
    neighbours = cells.repeat(1 + 2 * offsets, 1, 1)
    weights = affinities.new_zeros(1 + 2 * offsets, *grid)
    weights[0] = 1
    for index, offset in enumerate(pairs.offsets, 1):
        affinity = affinities[index - 1].view(pairs.block) ** beta
        # the pair is a neighbour of its source and of its destination
        pairs.at_sources(weights[index]).copy_(affinity)
        pairs.at_sources(neighbours[index]).copy_(pairs.at_destinations(cells, offset))
        pairs.at_destinations(weights[offsets + index], offset).copy_(affinity)
        pairs.at_destinations(neighbours[offsets + index], offset).copy_(pairs.at_sources(cells))
    weights /= weights.sum(0)
    return neighbours.flatten(1).T.contiguous(), weights.flatten(1).T.contiguous()
