"""Saliency maps and their masks as 8-bit levels and boolean objects, whatever form they come in.

The published scores of salient object detection go through 8-bit PNG files. So a map in [0, 1] is first
rounded to the level it would be saved as, and every score is a function of levels 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wsss_zoo.errors import DataError

#: Whose rules decide what the scores leave open: "pysodmetrics" (the Python package that the field uses
#: today) or "ldf" (the MATLAB scripts released with LDF, Wei et al., CVPR 2020). They differ in
#:
#: - the mask: level > 128; or stretched to [0, 1] over the image, then >= 0.5;
#: - a constant map: its own value; or 1 everywhere unless it is 0;
#: - a pair whose map or mask is all zero: scored; or it adds 0 to every sum, also to that of the MAE, and
#:   still counts as an image;
#: - the centroid of S at exact halves: rounded to even; or away from zero;
#: - an S below 0: cut off at 0; or kept.
SaliencyProtocol: TypeAlias = Literal["pysodmetrics", "ldf"]

ArrayLike: TypeAlias = Tensor | npt.NDArray[Any]


class SaliencyBatch(NamedTuple):
    """Maps and masks of B images of one size."""

    #: uint8 `(B, H, W)`: the maps as they would be saved, not yet stretched.
    levels: Tensor
    #: bool `(B, H, W)`: the object.
    masks: Tensor


def saliency_batches(
    preds: ArrayLike | Sequence[ArrayLike],
    target: ArrayLike | Sequence[ArrayLike],
    protocol: SaliencyProtocol = "pysodmetrics",
    device: torch.device | str | None = None,
) -> list[SaliencyBatch]:
    """Bring maps and masks to levels and objects, images of one size together.

    Args:
        preds: one map `(H, W)`, a batch `(B, H, W)` or `(B, 1, H, W)`, or a list of `(H, W)` or
            `(1, H, W)` of different sizes; see `grey_levels` for the values.
        target: masks in the same form; see `object_masks`.
        protocol: decides which pixels of a mask are the object.
        device: where to work; default: where each tensor is.

    Raises:
        DataError: the numbers of maps and masks or a pair of sizes differ, or values are out of range.
    """
    maps, masks = _stacks(preds), _stacks(target)
    if len(maps) != len(masks) or not maps:
        raise DataError(f"got {len(maps)} saliency maps and {len(masks)} masks; give one mask a map.")
    batches: dict[torch.Size, list[SaliencyBatch]] = {}
    for index, (one_map, one_mask) in enumerate(zip(maps, masks, strict=True)):
        if one_map.shape != one_mask.shape or one_map.ndim != 3 or one_map.numel() == 0:
            raise DataError(
                f"entry {index}: saliency map and mask are (H, W) of one size, got "
                f"batches {tuple(one_map.shape)} and {tuple(one_mask.shape)}. Resize the map, not the mask."
            )
        levels = grey_levels(one_map.to(device))
        batch = SaliencyBatch(levels, object_masks(one_mask.to(levels.device), protocol))
        batches.setdefault(levels.shape[1:], []).append(batch)
    return [_join(same) for same in batches.values()]


def grey_levels(maps: Tensor) -> Tensor:
    """Give the level 0..255 that each value is saved as.

    Args:
        maps: float in [0, 1], rounded to 255 steps in float32 as `artifacts.save_saliency` does; bool; or
            integers 0..255, taken as they are.

    Returns:
        uint8, same shape.

    Raises:
        DataError: a value is out of range or not finite.
    """
    return _levels(maps, "saliency map")


def object_masks(masks: Tensor, protocol: SaliencyProtocol = "pysodmetrics") -> Tensor:
    """Tell object from background.

    Args:
        masks: `(B, H, W)`; bool, float in [0, 1] or integers 0..255. Integers that do not exceed 1 in an
            image are 0 and 1, not the two darkest of 256 levels.
        protocol: "pysodmetrics": levels 129..255 are the object (floats are rounded to levels before).
            "ldf": the upper half of the range between the image's own smallest and largest level; where
            these are equal, everything unless they are 0.

    Returns:
        bool `(B, H, W)`.

    Raises:
        DataError: a value is out of range or not finite, or the protocol is unknown.
    """
    require_protocol(protocol)
    if masks.dtype == torch.bool:
        return masks
    levels = _levels(masks, "mask")
    high = levels.amax((1, 2)).int()
    # an image holds its object above one level, whatever the rule
    if protocol == "pysodmetrics":
        zero_one = (high <= 1) & (not masks.is_floating_point())
        below = torch.where(zero_one, 0, 128)
    else:
        low = levels.amin((1, 2)).int()
        below = torch.where(low == high, 0, low + (high - low - 1) // 2)
    return levels > below.to(torch.uint8)[:, None, None]


def require_protocol(protocol: str) -> None:
    """Raise DataError for anything but a `SaliencyProtocol`."""
    known = get_args(SaliencyProtocol)
    if protocol not in known:
        raise DataError(f"protocol is one of {', '.join(map(repr, known))}, got {protocol!r}.")


def _join(batches: Sequence[SaliencyBatch]) -> SaliencyBatch:
    if len(batches) == 1:
        return batches[0]
    return SaliencyBatch(*(torch.cat(part) for part in zip(*batches, strict=True)))


def _stacks(images: ArrayLike | Sequence[ArrayLike]) -> list[Tensor]:
    """List what was given as tensors `(B, H, W)`."""
    if isinstance(images, Tensor | np.ndarray):
        return [_stack(images)]
    return [_stack(image) for image in images]


def _stack(entry: ArrayLike) -> Tensor:
    # torch shares the memory of arrays, but neither that of read-only ones nor of mirrored views
    image = (
        entry if isinstance(entry, Tensor) else torch.from_numpy(np.require(entry, requirements=["C", "W"]))
    )
    if image.ndim == 4 and image.shape[1] == 1:
        return image[:, 0]
    return image[None] if image.ndim == 2 else image


def _levels(values: Tensor, name: str) -> Tensor:
    if values.dtype == torch.uint8:
        return values
    if values.dtype == torch.bool:
        return values.to(torch.uint8) * 255
    low, high = (float(end) for end in torch.aminmax(values))
    top = 1 if values.is_floating_point() else 255
    if not (low >= 0 and high <= top):  # written this way round so that NaN is refused, too
        raise DataError(
            f"{name}: expected float in [0, 1], bool or integers 0..255, got {values.dtype} from "
            f"{low:g} to {high:g}. Logits go through a sigmoid first."
        )
    return (values.float() * 255).round().to(torch.uint8) if top == 1 else values.to(torch.uint8)
