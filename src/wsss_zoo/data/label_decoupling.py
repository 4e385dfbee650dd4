"""Label decoupling: body, detail and edge maps from a saliency mask.

Wei et al., "Label Decoupling Framework for Salient Object Detection", CVPR 2020. Needs no torch.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from wsss_zoo.errors import DataError

_BLUR = (5, 5)
_EDGE = np.ones((3, 3), np.uint8)


def decouple(mask: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Split a mask into its body, large in the middle of objects, and its detail, large near their edges.

    The mask is blurred by a 5x5 box, and for each pixel where that leaves something the distance d to the
    next pixel without is taken; then `body = floor(255 sqrt(d) / max sqrt(d))` and `detail = mask - body`,
    cut off at 0. As in the authors' release: the paper states neither the blur nor the square root.

    - Nothing is thresholded. The blur makes the body reach up to 2 pixels out of the object; in that ring
      detail is 0 and `body + detail` exceeds the mask. Elsewhere in a binary mask they add up to 255.
    - The distance is OpenCV's 5x5 chamfer distance (steps of 1, 1.4 and 2.1969), not the Euclidean one. The
      border of the image is not background.
    - The largest body value is 255 an image, not an object: small objects beside a large one have dim bodies.
    - A mask without background has body 255 everywhere, one without object 0; detail is then 0.

    Args:
        mask: uint8 `(H, W)`, grey levels are used as they are.

    Returns:
        body and detail, both uint8 `(H, W)`.

    Raises:
        DataError: the mask is not uint8 `(H, W)` with at least one pixel.
    """
    _require_grey(mask)
    # the default border is reflected without repeating the outermost pixel
    blurred = cv2.blur(np.ascontiguousarray(mask), _BLUR)
    body = np.zeros(mask.shape, np.uint8)
    if blurred.all():
        # without background the distance is a huge constant that differs between builds of OpenCV
        body[:] = 255
    elif blurred.any():
        root = np.sqrt(cv2.distanceTransform(blurred, cv2.DIST_L2, cv2.DIST_MASK_5))
        body = np.floor(root / root.max() * np.float32(255)).astype(np.uint8)
    return body, np.asarray(cv2.subtract(mask, body), np.uint8)  # cv2.subtract stops at 0


def edge_map(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Edges of a mask: the largest minus the smallest value in the 3x3 window around each pixel.

    This morphological gradient is two pixels wide at the edge of a binary object, one on either side, and
    keeps the grey levels of a soft one. The border of the image is not an edge. The authors of LDF compare
    with edges as supervision (their table 5) but released no code for it: this definition is ours.

    Args:
        mask: uint8 `(H, W)`.

    Returns:
        uint8 `(H, W)`.

    Raises:
        DataError: the mask is not uint8 `(H, W)` with at least one pixel.
    """
    _require_grey(mask)
    return np.asarray(cv2.morphologyEx(np.ascontiguousarray(mask), cv2.MORPH_GRADIENT, _EDGE), np.uint8)


def _require_grey(mask: npt.NDArray[np.uint8]) -> None:
    if mask.dtype != np.uint8 or mask.ndim != 2 or mask.size == 0:
        raise DataError(
            f"label decoupling takes a grey mask, uint8 (H, W), got {mask.dtype} {mask.shape}; "
            "convert it to one 8-bit channel first"
        )
