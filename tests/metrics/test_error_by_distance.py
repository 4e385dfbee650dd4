"""The error at every distance from the edge against a brute-force search for the nearest other side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsss_zoo.errors import DataError
from wsss_zoo.metrics import ErrorByDistance
from wsss_zoo.metrics.functional import error_by_distance


def scene(seed):
    """A mask of blobs and a prediction, 14 x 17."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((14, 17), bool)
    for _ in range(rng.integers(1, 3)):
        top, left = rng.integers(0, 14), rng.integers(0, 17)
        mask[top : top + rng.integers(1, 9), left : left + rng.integers(1, 9)] = True
    return rng.random((14, 17)).astype(np.float32), mask


def brute_force(preds, mask, max_distance):
    total, pixels = np.zeros(2 * max_distance), np.zeros(2 * max_distance, int)
    places = np.argwhere(np.ones_like(mask))
    for place in places:
        others = places[mask[tuple(places.T)] != mask[tuple(place)]]
        if len(others) == 0:
            continue
        distance = int(np.ceil(np.sqrt(((others - place) ** 2).sum(1).min())))
        if distance <= max_distance:
            inside = mask[tuple(place)]
            index = max_distance - 1 + distance if inside else max_distance - distance
            total[index] += abs(float(preds[tuple(place)]) - inside)
            pixels[index] += 1
    return total, pixels


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 30]))
def test_functional(seed, max_distance):
    preds, mask = scene(seed)
    total, pixels = error_by_distance(torch.from_numpy(preds), torch.from_numpy(mask), max_distance)
    expected_total, expected_pixels = brute_force(preds, mask, max_distance)
    assert pixels.tolist() == expected_pixels.tolist()
    assert total.tolist() == pytest.approx(expected_total.tolist(), abs=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_masks_without_an_edge_count_nothing(value):
    _, pixels = error_by_distance(torch.rand(5, 6), torch.full((5, 6), value))
    assert pixels.sum() == 0


def test_metric_pools_the_pixels_of_all_images():
    scenes = [scene(seed) for seed in range(4)]
    preds, masks = (torch.from_numpy(np.stack(items)) for items in zip(*scenes, strict=True))
    metric = ErrorByDistance(max_distance=6)
    metric.update(preds[0], masks[0])
    metric.update(preds[1:3], masks[1:3])
    metric.update([preds[3, :, :9]], [masks[3, :, :9].float()])
    scenes[3] = (scenes[3][0][:, :9], scenes[3][1][:, :9])
    counted = [brute_force(*item, 6) for item in scenes]
    total, pixels = (sum(items) for items in zip(*counted, strict=True))
    result = metric.compute()
    assert result["distance"].tolist() == [-6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6]
    assert result["pixels"].tolist() == pixels.tolist()
    with np.errstate(invalid="ignore"):
        expected = total / pixels
    assert result["error"].tolist() == pytest.approx(expected.tolist(), abs=1e-9, nan_ok=True)
    metric.reset()
    assert metric.compute()["error"].isnan().all()


@pytest.mark.parametrize(
    ("preds", "target", "max_distance", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(4, 3), 5, r"\(3, 4\) and \(4, 3\); resize the prediction"),
        (torch.full((3, 4), 255.0), torch.zeros(3, 4), 5, "the prediction lies in"),
        (torch.zeros(3, 4), torch.full((3, 4), 255), 5, "the mask lies in"),
        (torch.full((3, 4), float("nan")), torch.zeros(3, 4), 5, "the prediction lies in"),
        (torch.zeros(3, 4), torch.zeros(3, 4), 0, "at least 1 pixel, got 0"),
    ],
)
def test_what_is_refused(preds, target, max_distance, message):
    with pytest.raises(DataError, match=message):
        error_by_distance(preds, target, max_distance)
