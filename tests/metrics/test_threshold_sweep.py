import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.per_threshold import confusion_per_threshold, official_iou, random_items
from wsss_zoo.errors import DataError
from wsss_zoo.metrics import ThresholdSweep
from wsss_zoo.metrics.functional import confusion_at_thresholds
from wsss_zoo.metrics.threshold_sweep import DEFAULT_THRESHOLDS

PARITY = Path(__file__).parents[1] / "parity" / "evaluation_protocol.npz"


def sweep(items, num_classes, **kwargs):
    metric = ThresholdSweep(num_classes, **kwargs)
    for item in items:
        metric.update(*item)
    return metric


def average_precision(truth, scores):
    """Precision at each distinct score times the recall gained there, one score after the other."""
    total = recall = 0.0
    for score in np.unique(scores)[::-1]:
        chosen = scores >= score
        new_recall = truth[chosen].sum() / truth.sum()
        total += truth[chosen].mean() * (new_recall - recall)
        recall = new_recall
    return total


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([None, 5, 20, 50, 100]), st.integers(3, 8))
def test_equals_one_pass_per_threshold_pixel_for_pixel(seed, steps, num_classes):
    rng = np.random.default_rng(seed)
    items = random_items(rng, 3, num_classes, steps=steps)
    thresholds = DEFAULT_THRESHOLDS if steps in (None, 100) else tuple(i / steps for i in range(steps + 1))
    metric = sweep(items, num_classes, thresholds=thresholds)
    expected = confusion_per_threshold(items, thresholds, num_classes)
    np.testing.assert_array_equal(confusion_at_thresholds(metric.winners).numpy(), expected)


def test_curve_rates_and_best_point_follow_from_the_counts():
    items = random_items(np.random.default_rng(1), 6, 4)
    confusion = confusion_per_threshold(items, DEFAULT_THRESHOLDS, 4)
    result = sweep(items, 4, absent="zero").compute()
    np.testing.assert_allclose(result["miou"], official_iou(confusion).mean(-1), atol=1e-9)
    best = int(official_iou(confusion).mean(-1).argmax())
    assert float(result["best_threshold"]) == DEFAULT_THRESHOLDS[best]
    np.testing.assert_allclose(result["best_iou"], official_iou(confusion)[best], atol=1e-9)
    hit = confusion.diagonal(axis1=-2, axis2=-1)
    np.testing.assert_allclose(result["recall"], hit / confusion.sum(-1))
    np.testing.assert_allclose(result["precision"], hit / confusion.sum(-2))
    over = ((confusion.sum(-2) - hit) / hit)[:, 1:].mean(-1)
    under = ((confusion.sum(-1) - hit) / hit)[:, 1:].mean(-1)
    np.testing.assert_allclose(result["over_activation"], over)
    np.testing.assert_allclose(result["under_activation"], under)
    # a higher background score finds less of the objects
    assert bool((result["under_activation"].diff() >= 0).all())


def test_published_protocol():
    with np.load(PARITY, allow_pickle=False) as archive:
        arrays = dict(archive)
    metric = ThresholdSweep(20, absent="zero", fixed_threshold=0.15)
    for image in range(4):
        keys = sorted(
            (key for key in arrays if key.startswith(f"cam_{image}_")),
            key=lambda key: int(key.split("class")[1].split("_")[0]),
        )
        classes = np.array([int(key.split("class")[1].split("_")[0]) for key in keys])
        maps = np.stack([arrays[key] for key in keys]).astype(np.float32)
        metric.update(maps, classes, arrays[f"gt_{image}"])
    result = metric.compute()
    # the published curve is float32 percent
    np.testing.assert_allclose(100 * result["miou"], arrays["miou_curve"], rtol=2e-7)
    assert float(result["best_threshold"]) == float(arrays["best_threshold"]) == 0.28
    np.testing.assert_allclose(100 * result["best_iou"].nan_to_num(0), arrays["iou_at_best"], atol=1e-8)
    assert 100 * float(result["best_miou"]) == pytest.approx(float(arrays["best_miou"]), abs=1e-8)
    assert float(result["fixed_miou"]) == float(result["miou"][15])


def test_thresholds_are_compared_in_float32():
    # float32(0.28) is larger than 0.28: a map value of float32(0.28) is background at 0.28, as published
    value = np.full((1, 1, 1), 0.28, np.float32)
    metric = sweep([(value, np.array([0]), np.ones((1, 1), np.uint8))], 1)
    assert metric.compute()["iou"][:, 1].tolist() == [1.0] * 28 + [0.0] * 32


def test_fixed_threshold_beside_the_curve():
    items = random_items(np.random.default_rng(2), 4, 4)
    plain = sweep(items, 4).compute()
    with_fixed = sweep(items, 4, fixed_threshold=0.725).compute()
    assert torch.equal(plain["miou"], with_fixed["miou"])
    expected = sweep(items, 4, thresholds=[0.725]).compute()
    assert float(with_fixed["fixed_miou"]) == float(expected["best_miou"])
    assert float(with_fixed["fixed_threshold"]) == 0.725
    assert "fixed_miou" not in plain


def test_absent_classes_are_excluded_by_default():
    maps, target = np.ones((1, 2, 2), np.float32), np.array([[0, 2], [2, 255]], np.uint8)
    result = sweep([(maps, np.array([1]), target)], 20).compute()
    assert result["iou"][0, :3].isnan().tolist() == [False, True, False]
    assert float(result["miou"][0]) == pytest.approx((0 + 2 / 3) / 2)


def test_pxap_by_hand_and_independent_of_thresholds():
    # ranked: 0.9 (object), 0.5 (not), 0.3 (object), 0.1 (not)
    maps = np.array([[[0.9, 0.5, 0.3, 0.1]]], np.float32)
    target = np.array([[1, 0, 1, 0]], np.uint8)
    metric = sweep([(maps, np.array([0]), target)], 2)
    assert float(metric.compute()["pxap"]) == pytest.approx(1.0 * 0.5 + 2 / 3 * 0.5)
    assert metric.compute()["pxap_per_class"].isnan().tolist() == [False, True]
    assert float(sweep([(maps**3, np.array([0]), target)], 2).compute()["pxap"]) == pytest.approx(5 / 6)


def test_pxap_is_average_precision_over_the_images_where_the_class_is_present():
    rng = np.random.default_rng(3)
    items = random_items(rng, 8, 4, size=(20, 20))
    # on the centres of the bins, so that binning loses nothing
    items = [((np.floor(m * 1000) + 0.5).clip(0, 999.5) / 1000, c, t) for m, c, t in items]
    result = sweep([(m.astype(np.float32), c, t) for m, c, t in items], 4).compute()
    for label in range(1, 5):
        truth, scores = [], []
        for maps, classes, target in items:
            if not (target == label).any():
                continue
            valid = target != 255
            mapped = label - 1 in classes  # without a map the score is 0: the lowest bin
            plane = (
                maps[list(classes).index(label - 1)]
                if mapped
                else np.float32(0.0005) * np.ones(target.shape, np.float32)
            )
            truth.append(target[valid] == label)
            scores.append(plane[valid])
        expected = average_precision(np.concatenate(truth), np.concatenate(scores))
        assert float(result["pxap_per_class"][label - 1]) == pytest.approx(expected, abs=1e-6)


def test_image_without_maps_is_background_everywhere():
    metric = sweep(
        [(np.zeros((0, 1, 3), np.float32), np.array([], int), np.array([[0, 1, 255]], np.uint8))], 2
    )
    confusion = confusion_at_thresholds(metric.winners)
    assert confusion[:, 0, 0].tolist() == [1] * 60
    assert confusion[:, 1, 0].tolist() == [1] * 60
    assert int(confusion.sum()) == 2 * 60
    assert float(metric.compute()["pxap_per_class"][0]) == pytest.approx(0.5)  # all pixels tie


@pytest.mark.parametrize(
    ("maps", "classes", "target", "complaint"),
    [
        (np.full((1, 2, 2), np.nan), [0], np.zeros((2, 2)), "not finite"),
        (np.full((1, 2, 2), np.inf), [0], np.zeros((2, 2)), "not finite"),
        (np.zeros((1, 2, 2)), [0], np.zeros((2, 3)), "differ in size"),
        (np.zeros((1, 2, 2)), [3], np.zeros((2, 2)), r"indices 0\.\.2"),
        (np.zeros((2, 2, 2)), [1, 0], np.zeros((2, 2)), "ascending order"),
        (np.zeros((2, 2, 2)), [1], np.zeros((2, 2)), r"expected maps \(K, H, W\)"),
        (np.zeros((1, 2, 2)), [0], np.full((2, 2), 4), "ground truth holds label 4"),
    ],
)
def test_mistakes_are_told_and_count_nothing(maps, classes, target, complaint):
    metric = ThresholdSweep(3)
    with pytest.raises(DataError, match=complaint):
        metric.update(maps.astype(np.float32), np.array(classes), target.astype(np.uint8))
    assert int(metric.winners.sum()) == int(metric.scores.sum()) == 0


@pytest.mark.parametrize("thresholds", [[], [0.2, 0.1], [0.1, 0.1], [-0.1, 0.2], [0.5, 1.1], [float("nan")]])
def test_thresholds_are_ascending_values_in_range(thresholds):
    with pytest.raises(DataError, match="ascending values"):
        ThresholdSweep(3, thresholds=thresholds)


def test_clone_pickle_reset():
    metric = sweep(random_items(np.random.default_rng(4), 2, 3), 3, fixed_threshold=0.2)
    for twin in (metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        for key, value in metric.compute().items():
            torch.testing.assert_close(twin.compute()[key], value, equal_nan=True, rtol=0, atol=0)
    assert metric.winners.dtype == metric.scores.dtype == torch.int64
    metric.reset()
    assert int(metric.winners.sum()) == int(metric.scores.sum()) == 0
