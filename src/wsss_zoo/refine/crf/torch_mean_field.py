"""Mean-field inference of the dense CRF in torch operations, on the device of the energies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from wsss_zoo.refine.crf.torch_lattice import (
    build_lattice,
    colour_features,
    largest_features,
    position_features,
)
from wsss_zoo.refine.crf_parameters import CrfParameters

# Pixels times planes that are worked on at once: 128 MB a float32 array, ten of which are in use.
_NUMBERS_A_BATCH = 2**25
# Energy of the planes that fill rows of different images up to the same number.
_NEVER = 1e30


@torch.no_grad()
def torch_marginals(
    images: Sequence[Tensor], energies: Sequence[Sequence[Tensor]], parameters: CrfParameters
) -> list[list[Tensor]]:
    """Marginals of one or several CRFs over each image.

    Images go through the device in batches with one lattice each. Sizes and numbers of planes may differ;
    rows are filled up to the largest number, so images alike in this are best given together.

    Args:
        images: uint8 `(3, H, W)`.
        energies: of each image, float32 `(K, H, W)` of each set, finite, all on the same device.
        parameters: kernels and number of updates.

    Returns:
        of each image, float32 `(K, H, W)` of each set, on the device of the energies.

    Raises:
        DataError: the kernels are too narrow for the lattice.
    """
    marginals: list[list[Tensor]] = []
    for first, last in _batches(energies):
        marginals += _infer(images[first:last], energies[first:last], parameters)
    return marginals


def _batches(energies: Sequence[Sequence[Tensor]]) -> Iterator[tuple[int, int]]:
    """First and last + 1 of runs of images that together stay within `_NUMBERS_A_BATCH`."""
    first = pixels = width = 0
    for index, sets in enumerate(energies):
        pixels += sets[0][0].numel()
        width = max(width, len(sets) * max(len(unary) for unary in sets))
        if index > first and pixels * width > _NUMBERS_A_BATCH:
            yield first, index
            first, pixels = index, sets[0][0].numel()
            width = len(sets) * max(len(unary) for unary in sets)
    if first < len(energies):
        yield first, len(energies)


def _infer(
    images: Sequence[Tensor], energies: Sequence[Sequence[Tensor]], parameters: CrfParameters
) -> list[list[Tensor]]:
    device = energies[0][0].device
    sizes = [(image.shape[1], image.shape[2]) for image in images]
    pixels = [height * width for height, width in sizes]
    sxy_gauss = parameters.sxy_gauss / parameters.scale_factor
    sxy_bilateral = parameters.sxy_bilateral / parameters.scale_factor
    smoothness = build_lattice(
        position_features(sizes, sxy_gauss, device),
        largest_features(sizes, sxy_gauss),
        pixels,
        parameters.compat_gauss,
    )
    appearance = build_lattice(
        torch.cat(
            [
                position_features(sizes, sxy_bilateral, device),
                colour_features(images, parameters.srgb, device),
            ]
        ),
        largest_features(sizes, sxy_bilateral, parameters.srgb),
        pixels,
        parameters.compat_bilateral,
    )
    # (N, sets, planes): pixels of all images one after the other
    count = max(len(sets) for sets in energies)
    planes = max(len(unary) for sets in energies for unary in sets)
    scores = torch.full((sum(pixels), count, planes), -_NEVER, device=device)
    for block, sets in zip(scores.split(pixels), energies, strict=True):
        for index, unary in enumerate(sets):
            block[:, index, : len(unary)] = -unary.flatten(1).T
    marginals = scores.softmax(-1)
    for _ in range(parameters.iterations):
        rows = marginals.flatten(1)
        messages = smoothness.filter(rows) + appearance.filter(rows)
        marginals = (scores + messages.view_as(scores)).softmax(-1)
    return [
        [block[:, i, : len(unary)].T.contiguous().view(unary.shape) for i, unary in enumerate(sets)]
        for block, sets in zip(marginals.split(pixels), energies, strict=True)
    ]
