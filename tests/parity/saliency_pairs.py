"""Saliency maps and masks by a rule, so that the published scores need no image files. Needs only numpy."""

from __future__ import annotations

import numpy as np


def saliency_pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (map, mask), uint8 `(H, W)` of several sizes."""
    disc, two = _disc(90, 120, 40, 70, 25), _disc(90, 120, 30, 30, 15) | _disc(90, 120, 60, 90, 15)
    noise = np.random.default_rng(0).integers(0, 256, (90, 120)).astype(np.uint8)
    rows, columns = np.mgrid[:90, :120]
    soft = np.clip(255 - 5 * np.hypot(rows - 44, columns - 66), 0, 255).astype(np.uint8)
    corner = np.zeros((40, 50), bool)
    corner[34:, 44:] = True
    last_row = np.zeros((40, 50), bool)
    last_row[39, 10:30] = True
    bars = np.zeros((41, 61), bool)  # columns halfway between two bars are equally near to both
    bars[:, 20], bars[:, 40] = True, True
    dot = np.zeros((41, 61), bool)
    dot[7, 50] = True
    small = noise[:41, :61]
    return {
        "soft": (soft, _full(disc)),
        "noise": (noise, _full(two)),
        "mixed": ((soft.astype(int) * 3 // 5 + noise // 3).astype(np.uint8), _full(disc)),
        "half_range": (soft // 2, _full(disc)),
        "fifth_of_range": (soft // 5, _full(disc)),  # 0..51: cut off at 255 v / 51, one ulp decides
        "offset": (60 + soft // 3, _full(disc)),
        "inverted": (255 - soft, _full(disc)),
        "grey_mask": (soft, np.clip(noise.astype(int) // 2 + 128 * disc, 0, 255).astype(np.uint8)),
        "perfect": (_full(disc), _full(disc)),
        "two_values": (np.where(noise > 127, 200, 30).astype(np.uint8), _full(two)),
        "empty_mask": (soft, np.zeros((90, 120), np.uint8)),
        "full_mask": (soft, np.full((90, 120), 255, np.uint8)),
        "zero_map": (np.zeros((90, 120), np.uint8), _full(disc)),
        "constant_map": (np.full((90, 120), 128, np.uint8), _full(disc)),
        "white_map": (np.full((90, 120), 255, np.uint8), _full(disc)),
        "corner": (noise[:40, :50], _full(corner)),
        "last_row": (noise[:40, :50], _full(last_row)),
        "ties": (small, _full(bars)),
        "dot": (small, _full(dot)),
    }


def _disc(height: int, width: int, row: int, column: int, radius: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def _full(mask: np.ndarray) -> np.ndarray:
    return (255 * mask).astype(np.uint8)
