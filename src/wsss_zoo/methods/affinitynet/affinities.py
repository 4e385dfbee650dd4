"""Affinities of pairs of cells from their embeddings."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from wsss_zoo.refine.pixel_pairs import PixelPairs


def pair_affinities(embedding: Tensor, pairs: PixelPairs) -> Tensor:
    """`exp(-mean over channels of |e_destination - e_source|)` (PSA, equation 3).

    Args:
        embedding: `(B, D, h, w)`.
        pairs: pairs of this grid.

    Returns:
        `(B, offsets, sources)` in (0, 1], at least in single precision.
    """
    if embedding.dtype in (torch.float16, torch.bfloat16):
        embedding = embedding.float()  # the loss takes the logarithm of 1 minus an affinity
    return torch.exp(-cast(Tensor, _PairDistances.apply(embedding, pairs)))


class _PairDistances(torch.autograd.Function):
    """Mean absolute difference of each pair, with nothing of the size of pairs times channels kept.

    Automatic differentiation would keep the differences of all offsets: 1.2 GB for a batch of eight crops of
    448 (34 offsets, 448 channels), where the embedding itself has 45 MB. They are cheap to compute again.
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, pairs: PixelPairs) -> Tensor:
        ctx.save_for_backward(embedding)
        ctx.pairs = pairs
        sources = pairs.at_sources(embedding)
        distances = embedding.new_empty(len(embedding), len(pairs.offsets), *pairs.block)
        for index, offset in enumerate(pairs.offsets):
            difference = pairs.at_destinations(embedding, offset) - sources
            distances[:, index] = difference.abs_().mean(1)
        return distances.flatten(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        pairs: PixelPairs = ctx.pairs
        (embedding,) = ctx.saved_tensors
        gradient = gradient.unflatten(2, pairs.block) / embedding.shape[1]
        sources = pairs.at_sources(embedding)
        result = torch.zeros_like(embedding)
        for index, offset in enumerate(pairs.offsets):
            sign = (pairs.at_destinations(embedding, offset) - sources).sign_()
            slope = sign.mul_(gradient[:, index, None])
            pairs.at_destinations(result, offset).add_(slope)
            pairs.at_sources(result).sub_(slope)
        return result, None
