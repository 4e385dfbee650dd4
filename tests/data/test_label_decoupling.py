"""Body and detail against maps of the authors' script, what follows from their definition, and edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from wsss_zoo.data.label_decoupling import decouple, edge_map
from wsss_zoo.errors import DataError

PARITY = Path(__file__).parents[1] / "parity" / "ldf_label_decoupling.npz"


def rectangles(seed: int) -> np.ndarray:
    """A binary mask with up to three rectangles; some touch the border, some are a single pixel."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 70, 2)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.integers(0, 4)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask[top : top + rng.integers(1, 40), left : left + rng.integers(1, 40)] = 255
    return mask


@pytest.mark.parametrize("name", ["ellipse", "donut", "two_blobs", "empty", "full", "soft"])
def test_published_maps(name):
    with np.load(PARITY, allow_pickle=False) as arrays:
        body, detail = decouple(arrays[f"{name}_mask"])
        for ours, theirs in ((body, arrays[f"{name}_body"]), (detail, arrays[f"{name}_detail"])):
            assert ours.dtype == np.uint8
            difference = np.abs(ours.astype(int) - theirs)
            # builds of OpenCV differ by 6e-5 in the distance, which the floor can turn into a grey level
            assert difference.max() <= (0 if name in ("empty", "full") else 1)
            assert (difference == 0).mean() >= 0.99


@given(st.integers(0, 2**32 - 1))
def test_body_and_detail_of_a_binary_mask(seed):
    mask = rectangles(seed)
    body, detail = decouple(mask)
    inside = mask > 0
    assert (body[inside].astype(int) + detail[inside] == 255).all()
    assert not detail[~inside].any()
    # blurred, the mask reaches two pixels further
    if not ndimage.binary_dilation(inside, np.ones((5, 5))).all():
        assert np.array_equal(body > 0, ndimage.binary_dilation(inside, np.ones((5, 5))))
    assert body.max() == (255 if inside.any() else 0)


def test_body_is_the_root_of_the_distance():
    mask = np.zeros((60, 90), np.uint8)
    mask[20:41, 20:71] = 255
    body, _ = decouple(mask)
    # in the middle column the next background of the blurred mask is straight above or below
    distance = np.minimum(np.arange(60) - 17, 43 - np.arange(60)).clip(0)
    expected = np.floor(255 * np.sqrt(distance / distance.max()))
    assert np.array_equal(body[:, 45], expected)


def test_knight_moves_of_the_chamfer_distance():
    mask = np.full((9, 9), 255, np.uint8)
    mask[:5, :5] = 0  # blurred, this leaves nothing at the nine pixels [:3, :3]
    body, _ = decouple(mask)
    # from (2, 2): a diagonal step to (3, 3), a knight's move to (4, 3), six diagonal steps to (8, 8)
    far = 6 * 1.4
    assert body[8, 8] == 255
    for place, distance in (((3, 3), 1.4), ((4, 3), 2.1969), ((3, 2), 1.0), ((4, 4), 2.8)):
        assert body[place] == np.floor(255 * np.sqrt(distance / far)), place


@pytest.mark.parametrize(("value", "survives"), [(12, False), (13, True)])
def test_faint_pixels_vanish_in_the_blur(value, survives):
    mask = np.zeros((20, 20), np.uint8)
    mask[10, 10] = value
    assert decouple(mask)[0].any() == survives


def test_the_range_is_that_of_the_image_not_of_the_object():
    mask = np.zeros((60, 100), np.uint8)
    mask[10:50, 10:50] = 255
    mask[20:26, 80:86] = 255
    body, detail = decouple(mask)
    assert body[:, :60].max() == 255
    assert body[:, 70:].max() < 130
    assert detail[:, 70:].max() > detail[11:49, 11:49].max()


def test_masks_are_not_changed_and_need_not_be_contiguous():
    mask = np.zeros((30, 40), np.uint8)
    mask[3:14, 5:31] = 255
    mask = mask[::-1, ::-1]
    before = mask.copy()
    for ours, theirs in zip(decouple(mask), decouple(np.ascontiguousarray(mask)), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(mask, before)


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_edges_are_the_range_of_the_window(seed, soft):
    mask = rectangles(seed)
    if soft:
        mask = (mask * np.random.default_rng(seed).random(mask.shape)).astype(np.uint8)
    highest = ndimage.maximum_filter(mask, 3, mode="nearest").astype(int)
    lowest = ndimage.minimum_filter(mask, 3, mode="nearest")
    assert np.array_equal(edge_map(mask), highest - lowest)
    assert edge_map(mask).dtype == np.uint8


def test_an_edge_is_two_pixels_wide_and_the_border_is_none():
    mask = np.zeros((8, 10), np.uint8)
    mask[:, 4:] = 255
    assert np.array_equal(np.flatnonzero(edge_map(mask)[0]), [3, 4])


@pytest.mark.parametrize("function", [decouple, edge_map])
@pytest.mark.parametrize(
    "mask", [np.zeros((4, 4), bool), np.zeros((4, 4, 3), np.uint8), np.zeros((0, 4), np.uint8)]
)
def test_other_arrays_are_refused(function, mask):
    with pytest.raises(DataError, match=r"uint8 \(H, W\), got"):
        function(mask)
