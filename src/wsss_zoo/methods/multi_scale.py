"""Averaging over image scales and mirrors at inference, written once for all methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from wsss_zoo.normalization import Normalization


def image_pyramid(
    image: npt.NDArray[np.uint8],
    scales: Sequence[float],
    normalization: Normalization,
    square: int | None = None,
) -> list[Tensor]:
    """An image at several scales, as networks want it.

    The 8-bit image is resized (bicubic, sizes rounded half to even), then normalised, as in PSA's CAM
    extraction.

    Args:
        image: RGB `(H, W, 3)`.
        scales: factors of the size.
        normalization: of the network.
        square: side to which images are squashed at scale 1, whatever their aspect; for methods that are
            trained on squashed images and tell so by `test_size` (DSRG). None keeps the aspect.

    Returns:
        float32 tensors `(1, 3, round(s H), round(s W))`, or `(1, 3, round(s square), round(s square))`.
    """
    height, width = image.shape[:2] if square is None else (square, square)
    pyramid = []
    for scale in scales:
        scaled = image
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        if size != (image.shape[1], image.shape[0]):
            scaled = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
        pyramid.append(torch.from_numpy(normalization(scaled)).permute(2, 0, 1)[None].contiguous())
    return pyramid


@torch.no_grad()
def multi_scale_localize(
    method: Any, pyramid: Sequence[Tensor], labels: Tensor, size: tuple[int, int], flip: bool = True
) -> Tensor:
    """Localization maps summed over scales and mirrors, then normalised by the method.

    Each map is resized to the image (bilinear, half-pixel) before summing (PSA and every method
    of its family). Only maps of present classes are resized.

    Args:
        method: has `activation_maps(images) -> (B, C, h, w)` and `merge_maps`. Where a class has several
            maps, `(B, C, K, h, w)`, `merge_maps` joins their sums `(C, K, H, W)` to `(C, H, W)`.
        pyramid: see `image_pyramid`.
        labels: `(C,)`; maps of classes with 0 stay zero.
        size: `(H, W)` of the result.
        flip: add the mirrored image at every scale.

    Returns:
        float32 `(C, H, W)` in [0, 1].
    """
    present = torch.nonzero(labels > 0).flatten()
    if len(present) == 0:  # nothing to look for: spare the network
        return torch.zeros(len(labels), *size, device=pyramid[0].device)
    total = torch.zeros((), device=pyramid[0].device)
    for image in pyramid:
        batch = torch.cat([image, image.flip(3)]) if flip else image
        maps = method.activation_maps(batch)[:, present.to(image.device)].float()
        planes = F.interpolate(maps.flatten(1, -3), size, mode="bilinear", align_corners=False)
        maps = planes.unflatten(1, maps.shape[1:-2])
        total = total + (maps[0] + maps[1].flip(-1) if flip else maps[0])
    merged = torch.zeros(len(labels), *size, device=total.device)
    merged[present.to(total.device)] = method.merge_maps(total)
    return merged


@torch.no_grad()
def multi_scale_segment(
    method: Any,
    pyramid: Sequence[Tensor],
    size: tuple[int, int],
    flip: bool = True,
    average: Literal["probabilities", "logits", "logit_sum"] = "probabilities",
) -> Tensor:
    """Class probabilities averaged over scales and mirrors.

    Args:
        method: called with images, gives logits `(B, C + 1, h, w)`; `align_corners` tells how they are
            enlarged to the image (without it: half-pixel).
        pyramid: see `image_pyramid`.
        size: `(H, W)` of the result.
        flip: add the mirrored image at every scale.
        average: over softmax probabilities, or over logits before one softmax; `logit_sum` adds the logits
            of the scales up instead (DSRG's inference): the same labels, but surer of them, which a dense
            CRF notices.

    Returns:
        float32 `(C + 1, H, W)`, sums to 1 over classes.
    """
    align_corners = getattr(method, "align_corners", False)
    total = torch.zeros((), device=pyramid[0].device)
    for image in pyramid:
        batch = torch.cat([image, image.flip(3)]) if flip else image
        logits = F.interpolate(method(batch).float(), size, mode="bilinear", align_corners=align_corners)
        scores = logits.softmax(1) if average == "probabilities" else logits
        total = total + ((scores[0] + scores[1].flip(2)) / 2 if flip else scores[0])
    if average != "logit_sum":
        total = total / len(pyramid)
    return total if average == "probabilities" else total.softmax(0)
