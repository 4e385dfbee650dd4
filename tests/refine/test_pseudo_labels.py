import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.artifacts import LocalizationMaps
from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine import (
    ConfidentLabels,
    PseudoLabels,
    background_power,
    background_threshold,
    labels_from_scores,
)


def scene(size=(32, 40)):
    """A dark square on a bright ground; the map of class 7 is strong on half of the square only."""
    image = np.full((*size, 3), 220, np.uint8)
    image[8:24, 10:30] = (60, 90, 40)
    full = np.full((1, *size), 0.02, np.float32)
    full[0, 8:24, 10:30] = 0.45
    full[0, 8:24, 10:20] = 0.95
    return image, LocalizationMaps.from_full_size([7], full, stride=1)


def test_background_scores():
    maps = np.array([[[0.2, 0.9, -1e-6]], [[0.5, 0.1, -1e-6]]], np.float32)
    np.testing.assert_allclose(background_power(maps, 4), [[0.5**4, 0.1**4, 1]], rtol=1e-5)
    np.testing.assert_array_equal(background_power(maps[:0], 4), [[1, 1, 1]])
    np.testing.assert_array_equal(background_threshold(maps, 0.25), np.full((1, 3), 0.25, np.float32))
    with pytest.raises(DataError, match="above 0"):
        background_power(maps, 0)
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        background_threshold(maps, 1.2)


def test_labels_take_the_highest_score_and_ties_the_lowest_plane():
    scores = np.array([[[0.5, 0.1, 0.0]], [[0.5, 0.6, 0.7]], [[0.5, 0.6, 0.9]]])
    np.testing.assert_array_equal(labels_from_scores(scores, np.array([3, 19])), [[0, 4, 20]])
    with pytest.raises(DataError, match=r"expected 2 planes .* got 3"):
        labels_from_scores(scores, np.array([3]))
    with pytest.raises(DataError, match=r"0\.\.253"):
        labels_from_scores(scores, np.array([3, 254]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.875, width=32))
def test_a_constant_background_without_crf_is_the_evaluation_protocol(seed, threshold):
    rng = np.random.default_rng(seed)
    maps = LocalizationMaps.from_full_size([1, 4], rng.random((2, 9, 14), dtype=np.float32))
    mask = PseudoLabels(background="threshold", value=threshold, crf=None)(
        np.zeros((9, 14, 3), np.uint8), maps
    )
    stack = np.zeros((6, 9, 14), np.float32)
    stack[[2, 5]] = maps.full_size()
    stack[0] = threshold
    np.testing.assert_array_equal(mask, stack.argmax(0))
    assert mask.dtype == np.uint8


def test_a_higher_power_makes_background_weaker():
    image, maps = scene()
    low, high = (PseudoLabels(value=alpha, crf=None)(image, maps) for alpha in (1.0, 24.0))
    assert (low == 8).sum() == 16 * 10
    assert (high == 8).sum() == 16 * 20


def test_crf_carries_the_label_to_the_edges_of_the_object():
    image, maps = scene()
    without = PseudoLabels(value=1.0, crf=None)(image, maps)
    mask = PseudoLabels(value=1.0, crf="psa")(image, maps)
    expected = np.zeros(image.shape[:2], np.uint8)
    expected[8:24, 10:30] = 8
    assert (without == expected).mean() < 0.9
    assert (mask == expected).mean() > 0.99
    unchanged = PseudoLabels(value=1.0, crf="psa", crf_args={"iterations": 0})(image, maps)
    np.testing.assert_array_equal(unchanged, without)


def test_unsure_pixels_become_ignore():
    image, maps = scene()
    mask = PseudoLabels(value=24.0, crf=None, ignore_below=0.6)(image, maps)
    assert set(np.unique(mask[8:24, 10:20])) == {8}
    assert set(np.unique(mask[8:24, 20:30])) == {255}
    assert set(np.unique(mask[:8])) == {0}


def test_image_without_classes_is_background():
    image = np.zeros((5, 6, 3), np.uint8)
    maps = LocalizationMaps.from_full_size([], np.zeros((0, 5, 6), np.float32))
    assert not PseudoLabels(value=4.0)(image, maps).any()
    assert not ConfidentLabels()(image, maps).any()


def test_confident_labels_follow_irn():
    image, maps = scene()
    mask = ConfidentLabels(foreground=0.6, background=0.1, crf=None)(image, maps)
    assert set(np.unique(mask[8:24, 10:20])) == {8}  # above both thresholds
    assert set(np.unique(mask[8:24, 20:30])) == {255}  # between them
    assert set(np.unique(mask[:8])) == {0}  # below both
    sharpened = ConfidentLabels()(image, maps)
    assert set(np.unique(sharpened[8:24, 10:30])) == {8}
    assert (sharpened[:8] == 0).mean() > 0.95


def test_image_of_another_size_is_refused():
    _, maps = scene()
    for refiner in (PseudoLabels(value=4.0), ConfidentLabels()):
        with pytest.raises(
            DataError, match="40 x 32 pixels, but its localization maps were made for 32 x 40"
        ):
            refiner(np.zeros((40, 32, 3), np.uint8), maps)


@pytest.mark.parametrize(
    ("refiner", "arguments", "complaint"),
    [
        (PseudoLabels, {"value": 0.0}, "above 0"),
        (PseudoLabels, {"value": float("nan")}, "above 0"),
        (PseudoLabels, {"value": 4.0, "background": "threshold"}, r"\[0, 1\]"),
        (PseudoLabels, {"value": 4.0, "background": "max"}, "'threshold' or 'power'"),
        (PseudoLabels, {"value": 4.0, "crf": "paa"}, "did you mean"),
        (PseudoLabels, {"value": 4.0, "crf_args": {"srbg": 3}}, "did you mean 'srgb'"),
        (PseudoLabels, {"value": 4.0, "crf": None, "crf_args": {"srgb": 3}}, "crf is null"),
        (PseudoLabels, {"value": 4.0, "ignore_below": 1.5}, "ignore_below"),
        (ConfidentLabels, {"foreground": 0.1, "background": 0.2}, "background <= foreground"),
        (ConfidentLabels, {"crf": "psa"}, "add gt_prob"),
        (ConfidentLabels, {"crf": None, "crf_args": {"srgb": 3}}, "crf is null"),
    ],
)
def test_settings_are_checked_before_any_image(refiner, arguments, complaint):
    with pytest.raises(RecipeError, match=complaint):
        refiner(**arguments)
