import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.metrics.per_pixel_saliency import all_scores
from tests.parity.saliency_pairs import saliency_pairs
from wsss_zoo.artifacts.saliency import load_saliency, save_saliency
from wsss_zoo.errors import DataError
from wsss_zoo.metrics import MAE, EMeasure, FMeasure, SaliencyMetrics, SMeasure, WeightedFMeasure
from wsss_zoo.metrics.functional import object_masks

PAIRS = saliency_pairs()
CLASSES = (MAE, FMeasure, EMeasure, SMeasure, WeightedFMeasure, SaliencyMetrics)


def scores(preds, target, protocol="pysodmetrics"):
    metrics = SaliencyMetrics(protocol)
    metrics.update(preds, target)
    return metrics.compute()


def assert_same(result, expected, tolerance=0.0):
    for name in result:
        torch.testing.assert_close(result[name], expected[name], rtol=0, atol=tolerance)


@st.composite
def small_pairs(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9))
    # few levels make constant quadrants, ties and gaps likely
    palette = draw(st.lists(st.integers(0, 255), min_size=1, max_size=6))
    levels = draw(arrays(np.uint8, shape, elements=st.sampled_from(palette)))
    return levels, draw(arrays(np.bool_, shape))


@settings(max_examples=150, deadline=None)
@given(small_pairs())
def test_equals_one_pass_per_threshold(pair):
    result, expected = scores(*pair), all_scores(*pair)
    for name, value in expected.items():
        if name.startswith("adp") and twice_the_mean_is_a_value(pair[0]):
            continue  # decided by the last bit of a sum
        np.testing.assert_allclose(result[name], value, rtol=0, atol=1e-12, err_msg=name)


def twice_the_mean_is_a_value(levels):
    low, high = int(levels.min()), int(levels.max())
    if low == high:
        return False
    above_low = levels.astype(int) - low
    return bool((2 * above_low.sum() == above_low * levels.size).any())


@pytest.mark.parametrize(("size", "object_pixels"), [((60, 50), slice(10, 30)), ((50, 60), slice(0, 50))])
def test_noise_on_larger_images(size, object_pixels):
    rng = np.random.default_rng(3)
    mask = np.zeros(size, bool)
    mask[object_pixels, 20:40] = True
    levels = rng.integers(5, 240, size).astype(np.uint8)
    for name, value in all_scores(levels, mask).items():
        np.testing.assert_allclose(scores(levels, mask)[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_batches_lists_and_single_images_count_the_same():
    pairs = [pair for pair in PAIRS.values() if pair[0].shape == (90, 120)]
    maps, masks = (np.stack(part) for part in zip(*pairs, strict=True))
    expected = scores(list(maps), list(masks))
    floats = torch.from_numpy(maps).float() / 255
    truth = torch.from_numpy(masks) > 128
    one_by_one = SaliencyMetrics()
    for one_map, mask in zip(floats, truth, strict=True):
        one_by_one.update(one_map, mask)
    assert_same(one_by_one.compute(), expected, 1e-14)
    assert_same(scores(floats, truth), expected)
    assert_same(scores(floats[:, None], truth[:, None].float()), expected)
    assert_same(scores([floats[:3], *floats[3:, None]], [truth[:3], *truth[3:]]), expected, 1e-14)
    mirrored = [one_map[:, ::-1] for one_map in maps], [mask[:, ::-1] for mask in masks]
    assert_same(
        scores(*mirrored),
        scores([one.copy() for one in mirrored[0]], [one.copy() for one in mirrored[1]]),
    )


def test_images_of_different_sizes_in_one_update():
    metrics = SaliencyMetrics()
    for one_map, mask in PAIRS.values():
        metrics.update([one_map], [mask])
    together = scores(*map(list, zip(*PAIRS.values(), strict=True)))
    assert_same(together, metrics.compute(), 1e-14)
    assert int(metrics.count) == len(PAIRS)


def test_float_maps_are_rounded_as_they_are_saved(tmp_path):
    values = np.random.default_rng(0).random((40, 30))
    mask = PAIRS["soft"][1][20:60, 50:80]
    save_saliency(tmp_path / "map.png", values)
    saved = load_saliency(tmp_path / "map.png")
    expected = scores(saved, mask)
    for given_map in (values, values.astype(np.float32), torch.from_numpy(values)):
        assert_same(scores(given_map, mask), expected)


def test_what_is_object():
    grey = torch.tensor([[[0, 128, 129, 255]]], dtype=torch.uint8)
    assert object_masks(grey).tolist() == [[[False, False, True, True]]]
    assert object_masks(grey.float() / 255).tolist() == [[[False, False, True, True]]]
    assert object_masks(grey, "ldf").tolist() == [[[False, True, True, True]]]
    zero_one = torch.tensor([[[0, 1], [1, 0]], [[0, 1], [2, 0]]])
    for protocol, second in (("pysodmetrics", [[False] * 2] * 2), ("ldf", [[False, True], [True, False]])):
        assert object_masks(zero_one, protocol).tolist() == [[[False, True], [True, False]], second]
        assert object_masks(zero_one[:1].bool(), protocol).tolist() == [[[False, True], [True, False]]]
    faint = torch.tensor([[[10, 29, 30, 50]], [[7, 7, 7, 7]], [[0, 0, 0, 0]]], dtype=torch.uint8)
    assert object_masks(faint, "ldf")[:, 0].tolist() == [[False, False, True, True], [True] * 4, [False] * 4]
    assert not object_masks(faint).any()
    # one level short of half of the range, in floats: 0.49 of 0..1
    assert object_masks(torch.tensor([[[0.0, 0.49, 0.51, 1.0]]]), "ldf").tolist() == [
        [[False, False, True, True]]
    ]


def test_the_rules_of_ldf():
    mask = PAIRS["soft"][1] > 128
    share, total = mask.mean(), mask.size
    constant = scores(PAIRS["constant_map"][0], mask, "ldf")
    # becomes 1 everywhere: everything is selected from 1, nothing above 2
    assert float(constant["mae"]) == pytest.approx(1 - share)
    assert float(constant["adp_f"]) == pytest.approx(1.3 * share / (0.3 * share + 1))
    assert float(constant["adp_e_strict"]) == pytest.approx(total / (4 * (total - 1)))
    # below the clip of the other protocol
    inverted = (mask ^ np.True_).astype(np.uint8) * 255
    assert float(scores(inverted, mask)["s"]) == 0
    assert float(scores(inverted, mask, "ldf")["s"]) < -0.1
    # nothing else differs on an ordinary pair
    assert_same(scores(PAIRS["mixed"][0], mask, "ldf"), scores(PAIRS["mixed"][0], mask))


@pytest.mark.parametrize("protocol", ["pysodmetrics", "ldf"])
def test_strict_e_selects_nothing_from_a_bright_map(protocol):
    levels, mask = 255 - PAIRS["soft"][0] // 4, PAIRS["soft"][1]
    levels[0, 0] = 0
    total = mask.size
    result = scores(levels, mask, protocol)
    assert float(result["adp_e_strict"]) == pytest.approx(total / (4 * (total - 1)))
    assert abs(float(result["adp_e"]) - float(result["adp_e_strict"])) > 0.01


def test_ldf_counts_skipped_pairs_as_images_that_score_nothing():
    names = ["soft", "empty_mask", "zero_map"]
    maps, masks = [PAIRS[name][0] for name in names], [PAIRS[name][1] for name in names]
    alone, all_three = scores(maps[:1], masks[:1], "ldf"), scores(maps, masks, "ldf")
    assert int(all_three["skipped"]) == 2
    for name in alone.keys() - {"skipped"}:
        torch.testing.assert_close(3 * all_three[name], alone[name], rtol=0, atol=1e-14)
    honest = scores(maps, masks)
    assert int(honest["skipped"]) == 2
    assert float(honest["mae"]) > float(alone["mae"]) / 3


def test_centroid_at_exact_halves():
    # object rows 2 and 3: mean 2.5, upper part of 3 rows (to even) or 4 rows (away from zero)
    mask = np.zeros((8, 8), bool)
    mask[2:4, 3:6] = True
    levels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    expected = all_scores(levels, mask)["s"]
    assert float(scores(levels, mask)["s"]) == pytest.approx(expected, abs=1e-12)
    assert abs(float(scores(levels, mask, "ldf")["s"]) - expected) > 1e-3
    # object rows 3 and 4: mean 3.5, both round to 4
    mask = np.roll(mask, 1, axis=0)
    expected = float(scores(levels, mask)["s"])
    assert float(scores(levels, mask, "ldf")["s"]) == pytest.approx(expected, abs=1e-14)


def test_quadrants_that_are_constant_in_map_and_mask_match_perfectly():
    mask = np.zeros((12, 16), bool)
    mask[1:3, 1:3] = mask[8:10, 11:13] = True  # upper right and lower left hold no object
    expected = all_scores(np.full((12, 16), 77, np.uint8), mask)["s"]
    assert float(scores(np.full((12, 16), 77, np.uint8), mask)["s"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("where", [np.s_[-1, :], np.s_[:, -1], np.s_[-1, -1]])
def test_object_in_the_last_row_or_column_is_finite(where):
    mask = np.zeros((20, 30), bool)
    mask[where] = True
    levels = np.random.default_rng(0).integers(0, 256, (20, 30)).astype(np.uint8)
    expected = all_scores(levels, mask)["s"]
    assert float(scores(levels, mask)["s"]) == pytest.approx(expected, abs=1e-12)
    assert float(scores(255 * mask.astype(np.uint8), mask)["s"]) == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("metric_class", CLASSES)
@pytest.mark.parametrize(
    ("preds", "target", "complaint"),
    [
        (np.full((4, 4), 1.2), np.zeros((4, 4)), "saliency map: expected float in"),
        (np.full((4, 4), -0.1), np.zeros((4, 4)), "saliency map: expected float in"),
        (np.full((4, 4), np.nan), np.zeros((4, 4)), "saliency map: expected float in"),
        (np.full((4, 4), 256), np.zeros((4, 4)), "saliency map: expected float in"),
        (np.zeros((4, 4)), np.full((4, 4), 2.0), "mask: expected float in"),
        (np.zeros((4, 4)), np.full((4, 4), -1), "mask: expected float in"),
        (np.zeros((4, 4)), np.zeros((4, 5)), "Resize the map, not the mask"),
        (np.zeros((2, 3, 4, 4)), np.zeros((2, 3, 4, 4)), "of one size, got"),
        (np.zeros((0, 4)), np.zeros((0, 4)), "of one size, got"),
        ([np.zeros((4, 4))] * 2, [np.zeros((4, 4))], "got 2 saliency maps and 1 masks"),
        ([], [], "got 0 saliency maps"),
        # a good pair before the bad one is not counted either
        ([np.eye(4), np.full((4, 4), 2.0)], [np.eye(4), np.eye(4)], "saliency map: expected float in"),
    ],
)
def test_mistakes_are_told_and_count_nothing(metric_class, preds, target, complaint):
    metric, threads = metric_class(), torch.get_num_threads()
    with pytest.raises(DataError, match=complaint):
        metric.update(preds, target)
    assert all(float(getattr(metric, state).sum()) == 0 for state in metric._defaults)
    assert torch.get_num_threads() == threads


def test_unknown_protocol():
    with pytest.raises(DataError, match="protocol is one of 'pysodmetrics', 'ldf', got 'matlab'"):
        SMeasure("matlab")


@pytest.mark.parametrize("metric_class", CLASSES)
def test_clone_pickle_reset_and_precision(metric_class):
    metric = metric_class()
    metric.update(*PAIRS["mixed"])
    expected = metric.compute()
    expected = expected if isinstance(expected, dict) else {"value": expected}
    module = torch.nn.ModuleList([metric.clone()]).half()  # as a network trained in half precision
    for twin in (metric.clone(), copy.deepcopy(metric), pickle.loads(pickle.dumps(metric)), module[0]):
        result = twin.compute()
        assert_same(result if isinstance(result, dict) else {"value": result}, expected)
    metric.reset()
    assert int(metric.count) == 0
    metric.update(*PAIRS["mixed"])
    again = metric.compute()
    assert_same(again if isinstance(again, dict) else {"value": again}, expected)


def test_forward_gives_the_batch_and_keeps_the_sum():
    metric = SMeasure()
    values = [float(metric(*PAIRS[name])) for name in ("soft", "mixed")]
    assert values[0] != values[1]
    assert float(metric.compute()) == pytest.approx(sum(values) / 2, abs=1e-15)


def test_several_threads_give_the_numbers_of_one():
    maps, masks = map(list, zip(*PAIRS.values(), strict=True))
    expected = scores(maps, masks)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert_same(scores(maps, masks), expected)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
