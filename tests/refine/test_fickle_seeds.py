"""Seeds of FickleNet: any of the maps, ties by the average, background cues."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsss_zoo.artifacts import LocalizationMaps
from wsss_zoo.artifacts.resampling import resample_bilinear
from wsss_zoo.errors import DataError, RecipeError
from wsss_zoo.refine import FickleSeeds

#: Cells of 3 x 3 pixels.
SIZE, GRID = (12, 18), (4, 6)
IMAGE = np.zeros((*SIZE, 3), np.uint8)


def on_grid(values, classes=(2, 7)):
    return LocalizationMaps(np.array(classes, np.int16), np.asarray(values, np.float16), SIZE)


def sampled(seed, count=9, classes=2):
    """N maps `(N, K, h, w)` that half precision holds, their average and their maximum."""
    rng = np.random.default_rng(seed)
    maps = np.float16(rng.random((count, classes, *GRID)) ** 3).astype(np.float32)
    average = on_grid(maps.mean(0), range(classes))
    return maps, average, on_grid(maps.max(0), range(classes))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.35, 0.6]), st.booleans())
def test_a_pixel_at_a_time(seed, threshold, foreground_wins):
    maps, average, highest = sampled(seed)
    saliency = np.random.default_rng(seed).random(SIZE, dtype=np.float32) ** 2
    refiner = FickleSeeds(threshold, background_saliency=0.3, foreground_wins=foreground_wins, grid=GRID)
    seeds = refiner(IMAGE, maps=average, maps_max=highest, saliency=saliency)["seeds"]
    cells = saliency.reshape(4, 3, 6, 3).mean((1, 3))
    for row, column in np.ndindex(*GRID):
        claims = [c for c in range(2) if any(one[c, row, column] > threshold for one in maps)]
        label = max(claims, key=lambda c: average.maps[c, row, column]) + 1 if claims else None
        if cells[row, column] < 0.3 * cells.max() and (label is None or not foreground_wins):
            label = 0
        assert np.flatnonzero(seeds.seeds[:, row, column]).tolist() == ([] if label is None else [label])


def test_a_pixel_that_two_classes_claim_goes_to_the_higher_average_map():
    highest = np.full((2, *GRID), 0.9)
    highest[1] = 1.0  # the maximum does not decide
    average = np.full((2, *GRID), 0.2)
    average[0, :, :3], average[1, :, 3:] = 0.3, 0.3
    made = FickleSeeds(grid=GRID)(IMAGE, maps=on_grid(average), maps_max=on_grid(highest))
    assert made["seeds"].seeds[1].tolist() == [[True] * 3 + [False] * 3] * 4
    np.testing.assert_array_equal(made["masks"], np.repeat([[3, 8]], 9, axis=1).repeat(12, axis=0))


def test_a_class_that_claims_wins_over_a_higher_average_that_does_not():
    highest, average = np.zeros((2, *GRID)), np.zeros((2, *GRID))
    highest[0], average[0] = 0.36, 0.01
    highest[1], average[1] = 0.34, 0.33
    made = FickleSeeds(grid=GRID)(IMAGE, maps=on_grid(average), maps_max=on_grid(highest))
    assert (made["masks"] == 3).all()


@given(st.integers(0, 2**32 - 1))
def test_more_maps_only_add_foreground(seed):
    maps, *_ = sampled(seed)
    claimed = []
    for count in (1, 3, 9):
        average, highest = on_grid(maps[:count].mean(0)), on_grid(maps[:count].max(0))
        seeds = FickleSeeds(background_map=0, grid=GRID)(IMAGE, maps=average, maps_max=highest)["seeds"]
        claimed.append(seeds.seeds[1:].any(0))
    assert (claimed[0] <= claimed[1]).all()
    assert (claimed[1] <= claimed[2]).all()


def test_without_saliency_background_is_where_no_class_is_likely():
    highest = np.zeros((2, *GRID))
    highest[0, 0] = [0.0, 0.09, 0.11, 0.3, 0.36, 1.0]
    highest[1, 1] = 0.2
    made = FickleSeeds(background_map=0.1, grid=GRID)(
        IMAGE, maps=on_grid(highest / 2), maps_max=on_grid(highest)
    )
    assert made["masks"][0, ::3].tolist() == [0, 0, 255, 255, 3, 3]
    assert (made["masks"][3:6] == 255).all()
    assert (made["masks"][6:] == 0).all()


def test_saliency_is_measured_by_its_largest_value():
    average, highest = on_grid(np.zeros((2, *GRID))), on_grid(np.zeros((2, *GRID)))
    saliency = np.zeros(SIZE, np.float32)
    saliency[:, 9:] = 0.2
    saliency[:, 6:9] = 0.02
    for factor in (1.0, 5.0):
        made = FickleSeeds(background_saliency=0.06, grid=GRID)(
            IMAGE, maps=average, maps_max=highest, saliency=factor * saliency
        )
        assert made["masks"][0, ::3].tolist() == [0, 0, 255, 255, 255, 255]
    nothing = FickleSeeds(grid=GRID)(
        IMAGE, maps=average, maps_max=highest, saliency=np.zeros(SIZE, np.float32)
    )
    assert (nothing["masks"] == 0).all()


def test_maps_are_resized_before_the_threshold():
    highest = np.zeros((1, 3, 4))
    highest[0, 1, 1] = 0.6
    maps = on_grid(highest, [4])
    seeds = FickleSeeds(grid=(7, 9))(IMAGE, maps=maps, maps_max=maps)["seeds"]
    expected = resample_bilinear(maps.maps, (7, 9)) > 0.35
    np.testing.assert_array_equal(seeds.seeds[1:], expected)
    assert 1 < expected.sum() < 9
    assert seeds.grid == (7, 9)


def test_masks_show_the_seeds_at_the_size_of_the_image():
    _, average, highest = sampled(0)
    made = FickleSeeds(threshold=0.8, grid=GRID)(IMAGE, maps=average, maps_max=highest)
    labels = np.where(made["seeds"].seeds.any(0), made["seeds"].seeds.argmax(0), 255)
    assert set(labels.ravel().tolist()) == {1, 2, 255}
    np.testing.assert_array_equal(made["masks"], labels.repeat(3, 0).repeat(3, 1))
    assert made["masks"].dtype == np.uint8


def test_an_image_without_classes_is_background():
    empty = on_grid(np.zeros((0, *GRID)), [])
    made = FickleSeeds(grid=GRID)(IMAGE, maps=empty, maps_max=empty)
    assert made["seeds"].seeds.shape == (1, *GRID)
    assert (made["masks"] == 0).all()


def test_it_goes_to_other_processes():
    refiner = pickle.loads(pickle.dumps(FickleSeeds(threshold=0.2, grid=(4, 6))))
    assert (refiner.threshold, refiner.grid, refiner.outputs) == (0.2, (4, 6), ("masks", "seeds"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.1}, r"threshold lies in \[0, 1\], got 1.1"),
        ({"background_saliency": -0.1}, "background_saliency lies"),
        ({"background_map": 2}, "background_map lies"),
        ({"grid": (41,)}, r"grid is \[rows, columns\]"),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(RecipeError, match=message):
        FickleSeeds(**change)


def test_what_does_not_belong_together_is_refused():
    maps = on_grid(np.zeros((2, *GRID)))
    refiner = FickleSeeds(grid=GRID)
    with pytest.raises(DataError, match="made for 12 x 18"):
        refiner(IMAGE[:5], maps=maps, maps_max=maps)
    with pytest.raises(DataError, match="take both from one stage"):
        refiner(IMAGE, maps=maps, maps_max=on_grid(np.zeros((2, *GRID)), [2, 3]))
    with pytest.raises(DataError, match="its saliency map 4 x 4"):
        refiner(IMAGE, maps=maps, maps_max=maps, saliency=np.zeros((4, 4), np.float32))
